"""Other engines that start containers through a runtime of our choice, each on state of the test's own and a busybox image.

`MYDOCKER_TEST_RUNTIME=runc` plays the same tests with another runtime: what it cannot do either is no fault of ours.
"""
from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from harness import PATIENCE, SCRATCH, until
from runtime_rig import PROGRAM

_TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
IMAGE = "busybox:peer"
#: What podman needs on a machine without systemd; limits that any process may set.
_CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


def runtime_path() -> str:
    """Return the path of the runtime that is played with: ours, or the one of MYDOCKER_TEST_RUNTIME."""
    name = os.environ.get("MYDOCKER_TEST_RUNTIME", PROGRAM)
    return shutil.which(name) or name


class Peer:
    """An engine's command line; `before_verb` is what comes before each verb.

    Its commands run in a directory of its own: conmon leaves a file `oom` where it was called.
    """

    def __init__(
        self, before_verb: list[str], env: dict[str, str], directory: str, *, run_options: tuple[str, ...] = (),
    ) -> None:
        self.before_verb = before_verb
        self.directory = directory
        self.env = {**os.environ, **env}
        self.run_options = ("--network", "none", *run_options)

    def __call__(self, *words: str, code: int | None = 0, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run one command line and check its exit code (None: any)."""
        done = subprocess.run(
            [*self.before_verb, *words], cwd=self.directory, env=self.env, input=stdin, capture_output=True, text=True, check=False,
            timeout=60 * PATIENCE)
        assert code is None or done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def run(self, *words: str, code: int | None = 0, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """`run --rm` of the image."""
        return self("run", "--rm", *self.run_options, *words, code=code, stdin=stdin)

    def start(self, name: str, *words: str) -> None:
        """`run -d` of the image under a name."""
        self("run", "-d", "--name", name, *self.run_options, *words)

    def on_terminal(self, *words: str) -> str:
        """Run one command line on a terminal of 24 rows and 80 columns; return what came to it."""
        line = "stty rows 24 cols 80; exec " + shlex.join([*self.before_verb, *words])
        done = subprocess.run(
            ["script", "-qec", line, "/dev/null"], cwd=self.directory, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=True, timeout=60 * PATIENCE)
        return done.stdout

    def terminal_options(self) -> tuple[str, ...]:
        """Return `run`'s words for a container on a terminal."""
        return ("run", "--rm", "-t", *self.run_options)


@contextmanager
def scratch(prefix: str) -> Iterator[str]:
    """A directory on a real file system, gone afterwards with what an engine left mounted below it."""
    path = tempfile.mkdtemp(prefix=prefix, dir=SCRATCH)
    try:
        yield path
    finally:
        with open("/proc/self/mountinfo", encoding="utf-8") as stream:
            points = [line.split()[4] for line in stream]
        for point in reversed(points):
            if point.startswith(f"{path}/"):
                subprocess.run(["umount", "-l", point], check=True)
        shutil.rmtree(path)


def write_image_tar(path: str) -> None:
    """Write the root file system of the image."""
    with open(path, "wb") as stream:
        subprocess.run([sys.executable, f"{_TOP}/tools/busybox-rootfs"], stdout=stream, check=True)


@contextmanager
def open_podman() -> Iterator[Peer]:
    """podman with the runtime."""
    with scratch("mydocker-podman-") as directory:
        with open(f"{directory}/containers.conf", "w", encoding="ascii") as stream:
            stream.write(_CONTAINERS_CONF)
        peer = Peer([
            "podman", "--root", f"{directory}/root", "--runroot", f"{directory}/run", "--tmpdir", f"{directory}/tmp",
            "--storage-driver", "overlay", "--runtime", runtime_path(),
        ], {"CONTAINERS_CONF": f"{directory}/containers.conf"}, directory)
        write_image_tar(f"{directory}/image.tar")
        peer("import", f"{directory}/image.tar", IMAGE)
        try:
            yield peer
        finally:
            peer("rm", "-fa", "-t", "0")


@contextmanager
def open_buildah() -> Iterator[Peer]:
    """buildah with the runtime, and the image in its store."""
    with scratch("mydocker-buildah-") as directory:
        with open(f"{directory}/containers.conf", "w", encoding="ascii") as stream:
            stream.write(_CONTAINERS_CONF)
        os.mkdir(f"{directory}/context")
        write_image_tar(f"{directory}/context/image.tar")
        peer = Peer(
            ["buildah", "--root", f"{directory}/root", "--runroot", f"{directory}/run", "--storage-driver", "overlay"],
            {"CONTAINERS_CONF": f"{directory}/containers.conf", "BUILDAH_ISOLATION": "oci"}, directory)
        with open(f"{directory}/context/Base", "w", encoding="ascii") as stream:
            stream.write("FROM scratch\nADD image.tar /\n")
        peer("bud", "-t", IMAGE, "-f", f"{directory}/context/Base", f"{directory}/context")
        try:
            yield peer
        finally:
            peer("rm", "--all", code=None)


@contextmanager
def open_docker() -> Iterator[Peer]:
    """A second dockerd, with a containerd of its own and in a network namespace of its own, that knows the runtime."""
    with scratch("mydocker-dockerd-") as directory:
        host = f"unix://{directory}/sock"
        name = os.path.basename(runtime_path())
        known = [] if name == "runc" else ["--add-runtime", f"peer={runtime_path()}"]
        daemon = _start_dockerd(directory, host, known)
        options = () if name == "runc" else ("--runtime", "peer")
        peer = Peer(["docker"], {"DOCKER_HOST": host}, directory, run_options=options)
        try:
            until(lambda: _answers(peer, daemon), 60, what=f"for dockerd: {_end_of(directory)}")
            write_image_tar(f"{directory}/image.tar")
            peer("import", f"{directory}/image.tar", IMAGE)
            yield peer
            left = peer("ps", "-aq").stdout.split()
            if left:
                peer("rm", "-f", *left)
        finally:
            daemon.terminate()
            daemon.wait(60)


def _start_dockerd(directory: str, host: str, options: list[str]) -> subprocess.Popen[bytes]:
    # --bridge=none deletes a docker0 that is there: in a network namespace of its own it finds none. Not by `ip netns exec`,
    # which would hide the cgroups: it mounts a /sys of its own.
    argv = [
        "unshare", "--net", "--", "dockerd", *options, "--data-root", f"{directory}/data", "--exec-root", f"{directory}/exec",
        "--pidfile", f"{directory}/pid", "-H", host, "--bridge=none", "--iptables=false", "--ip6tables=false",
        "--storage-driver", "overlay2", "--exec-opt", "native.cgroupdriver=cgroupfs",
    ]
    with open(f"{directory}/log", "wb") as log:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def _answers(peer: Peer, daemon: subprocess.Popen[bytes]) -> bool:
    assert daemon.poll() is None, "dockerd has ended"
    time.sleep(0.1)
    return peer("version", code=None).returncode == 0


def _end_of(directory: str) -> str:
    with open(f"{directory}/log", encoding="utf-8", errors="replace") as stream:
        return stream.read()[-500:]
