"""`mydocker-runtime` for an ordinary user: a user namespace that maps one id, no cgroup, state below XDG_RUNTIME_DIR."""
from __future__ import annotations

import json
import os
import pwd
import resource
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
        self.argv = find_interpreter()
        self.env = {"XDG_RUNTIME_DIR": directory}

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run one command line and check its exit code; return what it printed."""
        with tempfile.TemporaryFile("w+") as out:  # no pipe: a container that stays would hold it open
            done = subprocess.run(
                [*self.argv, *words], user=_NOBODY, group=_NOBODY, extra_groups=[], cwd=self.bundle, env=self.env,
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


#: Runs a program as nobody on a machine whose /etc/subuid and /etc/subgid give it 1000 ids: in a mount namespace of its own.
_WITH_SUBORDINATE_IDS = """
mount --bind "$1" /etc/subuid && mount --bind "$1" /etc/subgid && shift &&
exec setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"
"""


@pytest.mark.needs("newuidmap")
def test_an_ordinary_user_has_subordinate_ids_by_newuidmap(rootless: Rootless) -> None:
    rootless.configure("sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map; touch /made; id -u; id -G")
    os.chmod(f"{rootless.bundle}/rootfs", 0o777)
    with open(f"{rootless.bundle}/config.json") as stream:
        spec = json.load(stream)
    for kind in ("uid", "gid"):
        spec["linux"][f"{kind}Mappings"] = [
            {"containerID": 0, "hostID": _NOBODY, "size": 1}, {"containerID": 1, "hostID": 300000, "size": 1000}]
    spec["process"]["user"] = {"uid": 5, "gid": 6, "additionalGids": [7]}
    with open(f"{rootless.bundle}/config.json", "w") as stream:
        json.dump(spec, stream)
    ids = f"{os.path.dirname(rootless.bundle)}/ids"
    with open(ids, "w") as stream:
        stream.write(f"{pwd.getpwuid(_NOBODY).pw_name}:300000:1000\n")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", _WITH_SUBORDINATE_IDS, "sh", ids, *rootless.argv, "run", "c"], cwd=rootless.bundle,
        env={**rootless.env, "PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[:4] == 2 * [["0", str(_NOBODY), "1"], ["1", "300000", "1000"]] and lines[4:] == [["5"], ["6", "7"]], done
    made = os.stat(f"{rootless.bundle}/rootfs/made")
    assert (made.st_uid, made.st_gid) == (300004, 300005)


@pytest.mark.needs("newuidmap")
def test_ids_that_are_nobodys_to_give_are_refused_by_field(rootless: Rootless) -> None:
    rootless.configure("true")
    with open(f"{rootless.bundle}/config.json") as stream:
        spec = json.load(stream)
    spec["linux"]["uidMappings"].append({"containerID": 1, "hostID": 1, "size": 10})
    with open(f"{rootless.bundle}/config.json", "w") as stream:
        json.dump(spec, stream)
    assert "linux.uidMappings: newuidmap: exit status 1" in rootless("run", "c", code=1)
    assert rootless("list", "-q") == ""


def test_root_of_a_user_namespace_is_rootless(rootless: Rootless) -> None:
    """What podman calls for an ordinary user: cgroups that it owns by number, and no rights over devices."""
    rootless.configure("sh", "-c", "id -u")
    subprocess.run(["chown", "-R", "0:0", os.path.dirname(rootless.bundle)], check=True)
    words = ["unshare", "--user", "--map-root-user", "--mount", *rootless.argv, "--root", f"{rootless.env['XDG_RUNTIME_DIR']}/state"]
    for path in ("", f"/mydocker-test-{os.getpid()}"):
        with open(f"{rootless.bundle}/config.json") as stream:
            spec = json.load(stream)
        spec["linux"] |= {f"{kind}Mappings": [{"containerID": 0, "hostID": 0, "size": 1}] for kind in ("uid", "gid")}
        if path:
            spec["linux"]["cgroupsPath"] = path
        with open(f"{rootless.bundle}/config.json", "w") as stream:
            json.dump(spec, stream)
        done = subprocess.run([*words, "run", "c"], cwd=rootless.bundle, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stdout) == (0, "0\n"), done


def test_a_hard_limit_that_may_not_be_raised_is_an_error_by_field(rootless: Rootless) -> None:
    rootless.configure("true")
    with open(f"{rootless.bundle}/config.json") as stream:
        spec = json.load(stream)
    spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": resource.getrlimit(resource.RLIMIT_NOFILE)[1] + 1}]
    with open(f"{rootless.bundle}/config.json", "w") as stream:
        json.dump(spec, stream)
    assert "process.rlimits: RLIMIT_NOFILE: raise the hard limit" in rootless("run", "c", code=1)
