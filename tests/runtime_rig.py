"""`mydocker-runtime` under test, as its callers have it: bundles, a state root of the test's own, and the part of a subreaper."""
from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import pytest
from harness import PATIENCE, SCRATCH, until

from mydocker.linux import syscalls

PROGRAM = os.path.join(os.path.dirname(sys.executable), "mydocker-runtime")
#: What a caller gives: not the test's environment, no HOME, a PATH in which no Python is.
_ENVIRON = {"PATH": "/nonexistent"}


class Runtime:
    """The program on one `--root`; each call is a process, its result a CompletedProcess with text."""

    def __init__(self, directory: str, rootfs: str) -> None:
        self.root = f"{directory}/state"
        self.directory = directory
        self._rootfs = rootfs
        self._count = 0

    def bundle(self, *args: str, **changes: Any) -> str:
        """Make a bundle that executes `args`; `changes` replace keys of config.json (process is merged). Returns its path."""
        self._count += 1
        path = f"{self.directory}/bundle{self._count}"
        os.mkdir(path)
        subprocess.run([PROGRAM, "spec", "--bundle", path], check=True)
        with open(f"{path}/config.json") as stream:
            spec = json.load(stream)
        process = {**spec["process"], "args": list(args), "terminal": False, **changes.pop("process", {})}
        # Not the id: other tests, at the same time, have the same ids.
        cgroups_path = f"/mydocker/{os.path.basename(self.directory)}-{self._count}"
        linux = {**spec["linux"], "cgroupsPath": cgroups_path, **changes.pop("linux", {})}
        if not any(namespace["type"] == "cgroup" for namespace in spec["linux"]["namespaces"]):
            spec["linux"]["namespaces"].append({"type": "cgroup"})  # `spec` has it on cgroup v2 alone
        spec = {**spec, "root": {"path": self._rootfs, "readonly": False}, "process": process, "linux": linux, **changes}
        with open(f"{path}/config.json", "w") as stream:
            json.dump(spec, stream)
        return path

    def __call__(self, *words: str, code: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run one command line and check its exit code (None: any)."""
        options.setdefault("stdin", subprocess.DEVNULL)
        if "input" in options:
            options.pop("stdin")
        env = {**_ENVIRON, **options.pop("env", {})}
        # Files, not pipes: a container that stays has the same descriptors, and a pipe would not end.
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            done = subprocess.run(
                [PROGRAM, "--root", self.root, *words], stdout=out, stderr=err, text=True, env=env, check=False,
                timeout=30 * PATIENCE, **options)
            out.seek(0), err.seek(0)
            result = subprocess.CompletedProcess(done.args, done.returncode, out.read(), err.read())
        assert code is None or result.returncode == code, f"{words}: {result}"
        return result

    def state(self, container_id: str) -> dict[str, Any]:
        """Return the state document."""
        document: dict[str, Any] = json.loads(self("state", container_id).stdout)
        return document

    def status(self, container_id: str) -> str:
        """Return the status; a container whose init is our zombie has stopped."""
        return str(self.state(container_id)["status"])

    def ids(self) -> list[str]:
        """Return the ids that `list` shows."""
        return self("list", "-q").stdout.split() if os.path.isdir(self.root) else []

    def wait_for(self, container_id: str, status: str) -> None:
        """Wait until the container has a status."""
        until(lambda: self.status(container_id) == status, what=f"{container_id} to be {status}")

    def destroy(self) -> None:
        """Remove every container."""
        for container_id in self.ids():
            pid = self.state(container_id)["pid"]
            self("delete", "--force", container_id, code=None)
            if pid:
                reap(pid)


def reap(pid: int, timeout_s: float = 15) -> int:
    """Reap a container's init, which is our child as we are a subreaper; return its exit code, negative for a signal."""
    deadline = time.monotonic() + timeout_s * PATIENCE
    while time.monotonic() < deadline:
        try:
            found, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return 0  # reaped already
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    raise AssertionError(f"process {pid} did not end")


def receive_terminal(listener: socket.socket) -> int:
    """Accept a connection to a console socket and return the descriptor that comes."""
    listener.settimeout(15 * PATIENCE)
    connection, _ = listener.accept()
    with connection:
        _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
    return fds[0]


@pytest.fixture
def runtime(busybox_tar: str) -> Iterator[Runtime]:
    """The program with a root file system of busybox; nothing may be left of its containers."""
    if os.geteuid() != 0:
        pytest.skip("needs root: this is not root")
    directory = tempfile.mkdtemp(prefix="mydocker-runtime-", dir=SCRATCH)
    os.mkdir(f"{directory}/rootfs")
    subprocess.run(["tar", "-C", f"{directory}/rootfs", "-xf", busybox_tar], check=True)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    opened = Runtime(directory, f"{directory}/rootfs")
    yield opened
    opened.destroy()
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 0)
    left = os.listdir(opened.root) if os.path.isdir(opened.root) else []
    shutil.rmtree(directory)
    assert [name for name in left if not name.startswith("~")] == []
