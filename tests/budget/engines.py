"""The engines that are compared, each with state of its own below one scratch directory, and all made gone at the end.

    <scratch>/docker/    data and socket of a dockerd that is started when none answers
    <scratch>/podman/    root, runroot, containers.conf
    <scratch>/mydocker/  MYDOCKER_ROOT
    <scratch>/crun/      the state of crun, and a bundle; likewise runc and mydocker-runtime

Their command lines are alike enough that one class drives all three.
"""
from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from payload import IMAGE
from sampling import CommandFailed, run_command, time_command

_START_TIMEOUT_S = 30


@dataclass
class Engine:
    """One engine's command line. `containers` are those it has now: removed at the latest in `close`."""

    name: str
    prefix: list[str]
    env: dict[str, str]
    version: str = ""
    #: Options of `run` that give the log room for all that the rows write.
    roomy_log: tuple[str, ...] = ()
    #: How to remove a running container at once.
    force_remove: tuple[str, ...] = ("rm", "-f")
    #: The process that serves all containers, if there is one; 0 also when it is not ours to measure.
    daemon_pid: int = 0
    state_dir: str = ""
    containers: set[str] = field(default_factory=set)
    _count: int = 0

    def call(self, *words: str) -> str:
        """Run a command of the engine and return what it prints. Raises CommandFailed."""
        return run_command([*self.prefix, *words], self.env)

    def time(self, *words: str) -> float:
        """Return the seconds a command of the engine takes."""
        return time_command([*self.prefix, *words], self.env)

    def new_name(self) -> str:
        """Return a container's name that nobody has."""
        self._count += 1
        return f"bench-{os.getpid()}-{self._count}"

    def start(
        self, *argv: str, options: Sequence[str] = (), verb: tuple[str, ...] = ("run", "-d"), network: str = "none",
    ) -> str:
        """Start (or with another verb: create) a container in the background and return its name."""
        name = self.new_name()
        self.containers.add(name)
        self.call(*verb, "--name", name, "--network", network, *options, IMAGE, *argv)
        return name

    def remove(self, *names: str) -> None:
        """Remove containers, running or not."""
        if names:
            self.call(*self.force_remove, *names)
            self.containers.difference_update(names)

    @contextmanager
    def running(self, *argv: str, options: Sequence[str] = (), network: str = "none") -> Iterator[str]:
        """A running container, for as long as the block lasts; yields its name."""
        name = self.start(*argv, options=options, network=network)
        try:
            yield name
        finally:
            self.remove(name)

    def inspect(self, name: str) -> dict[str, Any]:
        """Return the engine's document of a container."""
        document: dict[str, Any] = json.loads(self.call("inspect", name))[0]
        return document

    def init_pid(self, name: str) -> int:
        """Return the pid, here, of a running container's first process."""
        document = self.inspect(name)
        return int(document["State"]["Pid"] if "State" in document else document["state"]["pid"])

    def id_of(self, name: str) -> str:
        """Return a container's whole id."""
        document = self.inspect(name)
        return str(document.get("Id") or document["id"])

    def close(self) -> None:
        """Remove the containers that are left, and the image. Errors are told, and hinder nothing."""
        for words in ([*self.force_remove, *sorted(self.containers)], ["rmi", "-f", IMAGE]):
            if words != [*self.force_remove]:
                try:
                    self.call(*words)
                except (CommandFailed, subprocess.TimeoutExpired) as error:
                    print(f"bench: {self.name}: {error}", file=sys.stderr)
        self.containers.clear()


@contextmanager
def open_engine(name: str, scratch: str, image_tar: str) -> Iterator[Engine]:
    """Open an engine by name with the image in it, and leave nothing of it. Raises CommandFailed, FileNotFoundError."""
    state_dir = f"{scratch}/{name}"
    os.mkdir(state_dir)
    with _OPENERS[name](state_dir) as engine:
        try:
            engine.call("import", image_tar, IMAGE)
            yield engine
        finally:
            engine.close()


# --- mydocker ---------------------------------------------------------------------------------------


@contextmanager
def _open_mydocker(state_dir: str) -> Iterator[Engine]:
    command = mydocker_command()
    env = dict(os.environ, MYDOCKER_ROOT=f"{state_dir}/root")
    env.pop("MYDOCKER_RUN", None)
    if len(command) > 1:
        env["PYTHONPATH"] = source_dir()
    engine = Engine("mydocker", command, env, roomy_log=("--log-opt", "max-size=1g"), state_dir=state_dir)
    engine.version = engine.call("--version").split()[-1]
    try:
        yield engine
    finally:
        engine.call("network", "prune", "-f")


def mydocker_command() -> list[str]:
    """Return the installed command beside this interpreter, else the source tree's module (slower by runpy)."""
    installed = os.path.join(os.path.dirname(sys.executable), "mydocker")
    return [installed] if os.access(installed, os.X_OK) else [sys.executable, "-m", "mydocker"]


def source_dir() -> str:
    """Return the directory of the package in the source tree."""
    return os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "src")


# --- docker -----------------------------------------------------------------------------------------


@contextmanager
def _open_docker(state_dir: str) -> Iterator[Engine]:
    _require("docker")
    # No configuration of the user's: plugins and credential helpers would be part of the measurement.
    env = dict(os.environ, DOCKER_CONFIG=state_dir, DOCKER_BUILDKIT="0")
    engine = Engine("docker", ["docker"], env, state_dir=state_dir)
    if _docker_answers(engine):
        engine.version = _docker_version(engine)
        yield engine
        return
    env["DOCKER_HOST"] = f"unix://{state_dir}/docker.sock"
    env.pop("DOCKER_CONTEXT", None)
    with _dockerd(state_dir, env["DOCKER_HOST"]) as daemon:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not _docker_answers(engine):
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise CommandFailed(f"dockerd does not start: {_last_line(f'{state_dir}/log')}")
            time.sleep(0.1)
        engine.daemon_pid = daemon.pid
        engine.version = _docker_version(engine)
        yield engine


def _docker_answers(engine: Engine) -> bool:
    try:
        engine.call("version", "--format", "{{.Server.Version}}")
        return True
    except CommandFailed:
        return False


def _docker_version(engine: Engine) -> str:
    return engine.call("version", "--format", "{{.Client.Version}} (daemon {{.Server.Version}})").strip()


@contextmanager
def _dockerd(state_dir: str, host: str) -> Iterator[subprocess.Popen[bytes]]:
    # --bridge=none deletes a docker0 that is there: in a network namespace of its own it finds none.
    argv = [
        "unshare", "--net", "--", _require("dockerd"),
        "--data-root", f"{state_dir}/data", "--exec-root", f"{state_dir}/exec",
        "--pidfile", f"{state_dir}/pid", "-H", host, "--iptables=false", "--ip6tables=false", "--bridge=none",
        "--storage-driver", "overlay2", "--exec-opt", "native.cgroupdriver=cgroupfs",
    ]
    with open(f"{state_dir}/log", "wb") as log:
        # A session of its own: Ctrl-C must reach it last.
        daemon = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        yield daemon
    finally:
        daemon.terminate()
        try:
            daemon.wait(_START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(daemon.pid, signal.SIGKILL)  # with its containerd
            daemon.wait()


def _last_line(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as stream:
        return (stream.read().strip().splitlines() or ["no word"])[-1]


# --- podman -----------------------------------------------------------------------------------------


@contextmanager
def _open_podman(state_dir: str) -> Iterator[Engine]:
    _require("podman")
    with open(f"{state_dir}/containers.conf", "w", encoding="ascii") as stream:
        stream.write(_PODMAN_CONFIGURATION)
    prefix = [
        "podman", "--root", f"{state_dir}/root", "--runroot", f"{state_dir}/run", "--tmpdir", f"{state_dir}/tmp",
        "--storage-driver", "overlay", "--runtime", "crun" if shutil.which("crun") else "runc",
    ]
    ensure_crun_runs()
    env = dict(os.environ, CONTAINERS_CONF=f"{state_dir}/containers.conf")
    # Its -f alone would stop a container first, and give it ten seconds.
    engine = Engine("podman", prefix, env, state_dir=state_dir, force_remove=("rm", "-f", "-t", "0"))
    engine.version = engine.call("--version").split()[-1]
    yield engine


#: What works on a machine without systemd, too; the limits are such that any process may set them.
_PODMAN_CONFIGURATION = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


# --- OCI runtimes -----------------------------------------------------------------------------------


class BundleRunner:
    """An OCI runtime on a bundle that has the configuration of a mydocker container and a plain directory as its root."""

    def __init__(self, program: str, state_dir: str, spec: dict[str, Any], rootfs_tar: str) -> None:
        self._path = _require(program)
        self.version = run_command([self._path, "--version"], os.environ).split()[2]
        ensure_crun_runs()
        self._state_dir = state_dir
        self._count = 0
        os.makedirs(f"{state_dir}/bundle/rootfs")
        run_command(["tar", "-xf", rootfs_tar, "-C", f"{state_dir}/bundle/rootfs"], os.environ)
        with open(f"{state_dir}/bundle/config.json", "w", encoding="utf-8") as stream:
            json.dump(_of_its_own(spec, state_dir), stream)

    def warm_starts(self, count: int) -> float:
        """Return the seconds of one of `count` runs in a row, from a shell loop."""
        loop = (
            'i=0; while [ $i -lt "$3" ]; do i=$((i+1)); '
            '"$2" --root "$1/state" run --bundle "$1/bundle" "bench-$4-$i" || exit 1; done')
        argv = ["sh", "-c", loop, "sh", self._state_dir, self._path, str(count), str(os.getpid())]
        return time_command(argv, os.environ) / count

    def run_once(self) -> float:
        """Return the seconds of one `run` of the bundle, to its end."""
        self._count += 1
        argv = [self._path, "--root", f"{self._state_dir}/state", "run", "--bundle", f"{self._state_dir}/bundle"]
        return time_command([*argv, f"bench-{os.getpid()}-{self._count}"], os.environ)

    def start_up(self) -> float:
        """Return the seconds of the program's start alone: `--version`."""
        return time_command([self._path, "--version"], os.environ)


def _of_its_own(spec: dict[str, Any], state_dir: str) -> dict[str, Any]:
    """Return the specification with a root, a cgroup and bound files that outlive the container it is of."""
    mounts = []
    for mount in spec["mounts"]:
        if mount["type"] == "bind":
            copy = shutil.copy(mount["source"], state_dir)
            mount = {**mount, "source": copy}
        mounts.append(mount)
    root = {**spec["root"], "path": f"{state_dir}/bundle/rootfs"}
    linux = {**spec["linux"], "cgroupsPath": f"/mydocker-bench-{os.getpid()}"}
    # Older releases of crun refuse a version that they have not heard of.
    return {**spec, "ociVersion": "1.0.2", "root": root, "mounts": mounts, "linux": linux}


def ensure_crun_runs() -> None:
    """Mount the hugetlb controller where cgroup v1 has one that nobody mounted: crun insists on it.

    It stays: other programs may be in it by the time this one ends, and a hierarchy is never unmounted here.
    """
    where = "/sys/fs/cgroup/hugetlb"
    with open("/proc/cgroups", encoding="ascii") as stream:
        # subsys_name hierarchy num_cgroups enabled
        rows = [line.split() for line in stream if line.startswith("hugetlb")]
    is_v1 = os.path.isdir("/sys/fs/cgroup/memory") or os.path.isdir("/sys/fs/cgroup/pids")
    if is_v1 and rows and rows[0][1] == "0" and not os.path.ismount(where):
        os.makedirs(where, exist_ok=True)
        run_command(["mount", "-t", "cgroup", "-o", "hugetlb", "cgroup", where], os.environ)


def _require(program: str) -> str:
    """Return the path of a program: our own is beside this interpreter, whatever is in PATH."""
    beside = os.path.join(os.path.dirname(sys.executable), program)
    path = beside if program == "mydocker-runtime" and os.access(beside, os.X_OK) else shutil.which(program)
    if path is None:
        raise FileNotFoundError(f"{program} is not installed")
    return path


_OPENERS = {"mydocker": _open_mydocker, "docker": _open_docker, "podman": _open_podman}
