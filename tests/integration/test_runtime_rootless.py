"""`mydocker-runtime` for an ordinary user: a user namespace that maps one id, no cgroup, state below XDG_RUNTIME_DIR."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest
from harness import until
from peers import scratch

import mydocker
from mydocker.linux import syscalls

pytestmark = [pytest.mark.needs("root", "busybox")]
_NOBODY = 65534
_START = "import sys; sys.path.append(sys.argv.pop(1)); from mydocker.runtime.cli import entry; entry()"


def find_interpreter() -> list[str]:
    """Return the start of a command line that an ordinary user can run: the tests' own interpreter may be in root's home."""
    packages = os.path.dirname(os.path.dirname(os.path.abspath(mydocker.__file__)))
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        argv = [python, "-IS", "-c", _START, packages]
        try:
            done = subprocess.run([*argv, "--version"], user=_NOBODY, group=_NOBODY, extra_groups=[], capture_output=True, check=False)
        except PermissionError:
            continue
        if done.returncode == 0:
            return argv
    pytest.skip("no interpreter here that an ordinary user may run")


class Rootless:
    """The program as nobody, with a bundle of `spec --rootless`."""

    def __init__(self, directory: str) -> None:
        self.bundle = f"{directory}/bundle"
        self._argv = find_interpreter()
        self._env = {"XDG_RUNTIME_DIR": directory}

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run one command line and check its exit code; return what it printed."""
        with tempfile.TemporaryFile("w+") as out:  # no pipe: a container that stays would hold it open
            done = subprocess.run(
                [*self._argv, *words], user=_NOBODY, group=_NOBODY, extra_groups=[], cwd=self.bundle, env=self._env,
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False, timeout=60)
            out.seek(0)
            text = out.read()
        assert done.returncode == code, f"{words}: {done}\n{text}"
        return text

    def configure(self, *args: str) -> None:
        """Write the bundle's config.json for a command."""
        path = f"{self.bundle}/config.json"
        if os.path.exists(path):
            os.unlink(path)
        self("spec", "--rootless")
        with open(path) as stream:
            spec = json.load(stream)
        spec["process"] |= {"args": list(args), "terminal": False}
        spec["root"]["readonly"] = False
        with open(path, "w") as stream:
            json.dump(spec, stream)


@pytest.fixture
def rootless(busybox_tar: str) -> Iterator[Rootless]:
    with scratch("mydocker-rootless-") as directory:
        os.makedirs(f"{directory}/bundle/rootfs")
        subprocess.run(["tar", "-C", f"{directory}/bundle/rootfs", "-xf", busybox_tar], check=True)
        subprocess.run(["chown", "-R", f"{_NOBODY}:{_NOBODY}", directory], check=True)
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        try:
            yield Rootless(directory)
        finally:
            syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 0)


def test_an_ordinary_user_runs_a_container_as_its_root(rootless: Rootless) -> None:
    rootless.configure("sh", "-c", "id; cat /proc/self/uid_map; touch /made; hostname")
    assert rootless("run", "c").split() == ["uid=0(root)", "gid=0(root)", "0", str(_NOBODY), "1", "mydocker"]
    assert os.stat(f"{rootless.bundle}/rootfs/made").st_uid == _NOBODY


def test_an_ordinary_user_enters_and_ends_a_container(rootless: Rootless) -> None:
    rootless.configure("sleep", "100")
    rootless("create", "--pid-file", "pid", "c")
    with open(f"{rootless.bundle}/pid") as stream:
        pid = int(stream.read())
    rootless("start", "c")
    assert json.loads(rootless("state", "c"))["status"] == "running"
    assert rootless("exec", "c", "id", "-u") == "0\n"
    assert "sleep 100" in rootless("exec", "c", "ps")
    rootless("exec", "c", "sh", "-c", "exit 7", code=7)
    rootless("kill", "c", "KILL")
    until(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid)
    rootless("delete", "c")
    assert rootless("list", "-q") == ""
