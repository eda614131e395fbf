"""The rows of the benchmark: what is measured, how often, and what the design allows.

A row's function is a context manager: it prepares one engine, yields the function that takes one
sample (seconds, or bytes), and tidies up.
"""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import registry
from payload import IMAGE, LINES_FILE_BYTES, write_docker_archive, write_tree_tar
from processes import all_pids, descendants_of, kept_alive_by, pss_bytes, wait_until_caught
from sampling import CommandFailed
from traffic import address_of, time_transfer

if TYPE_CHECKING:
    from engines import BundleRunner, Engine

Sampler = Callable[[], float]

_SLEEP = ("sleep", "100000")
#: The shell is init: without a handler the kernel would keep SIGTERM from it.
_ENDS_ON_TERM = ("sh", "-c", 'trap "exit 0" TERM; sleep 100000 & wait')
_RUN_TRUE = ("run", "--rm", "--network", "none", IMAGE, "true")
_RUN_ON_BRIDGE = ("run", "--rm", "--network", "bridge", IMAGE, "true")
_CLIENTS = 8
#: Many short transfers by turns tell engines apart on a busy machine; few long ones tell its load apart.
_PIECE_MB = 100


@dataclass
class Bench:
    """What the rows share: the scratch directory, OCI runtimes by the engine that they are, and how big to make things."""

    scratch: str
    is_quick: bool = False
    runners: dict[str, BundleRunner] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def runner(self, engine: str) -> BundleRunner:
        """Return the OCI runtime of an engine. Raises CommandFailed where there is none (what was wrong has been said)."""
        if engine not in self.runners:
            raise CommandFailed(f"the OCI runtime of {engine} is not there")
        return self.runners[engine]

    def scale(self, full: int, quick: int) -> int:
        """Return the number for this run."""
        return quick if self.is_quick else full

    def make_once(self, name: str, make: Callable[[str], object]) -> str:
        """Return a file of the scratch directory, made when it is not there yet."""
        path = f"{self.scratch}/{name}"
        if not os.path.exists(path):
            make(path)
        return path


@dataclass(frozen=True)
class Row:
    """One row. `budgets`: the largest ratio to a peer; `ceiling`: the largest number itself (seconds or bytes)."""

    key: str
    title: str
    open: Callable[[Engine, Bench], AbstractContextManager[Sampler]]
    rounds: int
    quick_rounds: int
    budgets: dict[str, float] = field(default_factory=dict)
    ceiling: float | None = None
    peers: tuple[str, ...] = ("docker", "podman")
    is_bytes: bool = False


@contextmanager
def _run(engine: Engine, bench: Bench) -> Iterator[Sampler]:
    engine.call(*_RUN_TRUE)
    yield lambda: engine.time(*_RUN_TRUE)


@contextmanager
def _seccomp(engine: Engine, bench: Bench) -> Iterator[Sampler]:
    # The difference of two minima: what either takes swings by more than the difference. Both have an option of the
    # rare kind, which costs its own.
    options = ("run", "--rm", "--network", "none", "--cap-drop", "MKNOD")
    unconfined = (*options, "--security-opt", "seccomp=unconfined", IMAGE, "true")
    default = (*options, IMAGE, "true")
    engine.call(*default)

    def sample() -> float:
        pairs = [(engine.time(*default), engine.time(*unconfined)) for _ in range(bench.scale(8, 3))]
        return min(with_filter for with_filter, _ in pairs) - min(without for _, without in pairs)

    yield sample


@contextmanager
def _run_on_bridge(engine: Engine, bench: Bench) -> Iterator[Sampler]:
    engine.call(*_RUN_ON_BRIDGE)
    yield lambda: engine.time(*_RUN_ON_BRIDGE)


@contextmanager
def _bridge_alone(engine: Engine, bench: Bench) -> Iterator[Sampler]:
    engine.call(*_RUN_ON_BRIDGE)

    def sample() -> float:  # as with seccomp
        pairs = [(engine.time(*_RUN_ON_BRIDGE), engine.time(*_RUN_TRUE)) for _ in range(bench.scale(10, 4))]
        return min(with_network for with_network, _ in pairs) - min(without for _, without in pairs)

    yield sample


@contextmanager
def _between_containers(engine: Engine, bench: Bench) -> Iterator[Sampler]:
    size = _PIECE_MB << 20
    with engine.running(*_SLEEP, network="bridge") as server, engine.running(*_SLEEP, network="bridge") as client:
        pids = engine.init_pid(server), engine.init_pid(client)
        address = address_of(pids[0])
        yield lambda: time_transfer(*pids, address, 0, size)


@contextmanager
def _through_port(engine: Engine, bench: Bench) -> Iterator[Sampler]:
    size = _PIECE_MB << 20
    with engine.running(*_SLEEP, network="bridge", options=("-p", "127.0.0.1::5201")) as server:
        pid = engine.init_pid(server)
        port = int(engine.call("port", server, "5201/tcp").split()[0].rpartition(":")[2])
        yield lambda: time_transfer(pid, 0, "127.0.0.1", port, size)


@contextmanager
def _exec(engine: Engine, bench: Bench) -> Iterator[Sampler]:
    with engine.running(*_SLEEP) as name:
        engine.call("exec", name, "true")
        yield lambda: engine.time("exec", name, "true")


def _ps(count: int) -> Callable[[Engine, Bench], AbstractContextManager[Sampler]]:
    @contextmanager
    def opened(engine: Engine, bench: Bench) -> Iterator[Sampler]:
        with _many_running(engine, count):
            engine.call("ps", "-a")
            yield lambda: engine.time("ps", "-a")
    return opened


@contextmanager
def _many_running(engine: Engine, count: int) -> Iterator[list[str]]:
    """That many running containers, started a few at a time."""
    before = set(engine.containers)
    try:
        with ThreadPoolExecutor(min(4, count)) as pool:
            yield list(pool.map(lambda _: engine.start(*_SLEEP), range(count)))
    finally:
        names = sorted(engine.containers - before)
        for start in range(0, len(names), 50):  # one command, but within its time limit
            engine.remove(*names[start : start + 50])


@contextmanager
def _stop(engine: Engine, bench: Bench) -> Iterator[Sampler]:
    def sample() -> float:
        with engine.running(*_ENDS_ON_TERM) as name:
            wait_until_caught(engine.init_pid(name), signal.SIGTERM)
            return engine.time("stop", name)
    yield sample


@contextmanager
def _rm(engine: Engine, bench: Bench) -> Iterator[Sampler]:
    def sample() -> float:
        name = engine.start("true")
        engine.call("wait", name)
        taken = engine.time("rm", name)
        engine.containers.discard(name)
        return taken
    yield sample


@contextmanager
def _memory(engine: Engine, bench: Bench) -> Iterator[Sampler]:
    before, count = all_pids(), bench.scale(20, 5)
    with _many_running(engine, count) as names:
        inits = [engine.init_pid(name) for name in names]
        ids = [engine.id_of(name) for name in names]
        yield lambda: pss_bytes(kept_alive_by(inits, ids, before)) / count
        if engine.daemon_pid:
            resident = pss_bytes(descendants_of(engine.daemon_pid)) / 2**20
            bench.notes.append(f"memory: besides, the daemon of {engine.name} holds {resident:.0f} MiB")


@contextmanager
def _log_write(engine: Engine, bench: Bench) -> Iterator[Sampler]:
    size = bench.scale(100, 20) * 1_000_000

    def sample() -> float:
        begin = time.perf_counter()
        name = engine.start(*_cat_lines(size), options=engine.roomy_log)
        engine.call("wait", name)
        taken = time.perf_counter() - begin
        try:
            _check_log(engine, name, size)
        finally:
            engine.remove(name)
        return taken
    yield sample


def _cat_lines(size: int) -> tuple[str, ...]:
    return ("cat", *["/lines"] * (size // LINES_FILE_BYTES))


def _check_log(engine: Engine, name: str, expected: int) -> None:
    """Raise CommandFailed when the log does not hold all that was written."""
    with subprocess.Popen([*engine.prefix, "logs", name], env=engine.env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        held = 0
        while piece := process.stdout.read(1 << 20):
            held += len(piece)
    if held != expected:
        raise CommandFailed(f"{engine.name}: the log holds {held} of {expected} bytes")


@contextmanager
def _log_read(engine: Engine, bench: Bench) -> Iterator[Sampler]:
    size = 20_000_000
    name = engine.start(*_cat_lines(size), options=engine.roomy_log)
    try:
        engine.call("wait", name)
        _check_log(engine, name, size)
        yield lambda: engine.time("logs", name)
    finally:
        engine.remove(name)


@contextmanager
def _clients(engine: Engine, bench: Bench) -> Iterator[Sampler]:
    starts = bench.scale(40, 16)

    def sample() -> float:
        begin = time.perf_counter()
        with ThreadPoolExecutor(_CLIENTS) as pool:
            list(pool.map(lambda _: engine.time(*_RUN_TRUE), range(starts)))
        return time.perf_counter() - begin
    engine.call(*_RUN_TRUE)
    yield sample


@contextmanager
def _bundle(engine: Engine, bench: Bench) -> Iterator[Sampler]:
    runner = bench.runner(engine.name)
    runner.run_once()
    yield runner.run_once


@contextmanager
def _start_up(engine: Engine, bench: Bench) -> Iterator[Sampler]:
    yield bench.runner(engine.name).start_up


@contextmanager
def _warm(engine: Engine, bench: Bench) -> Iterator[Sampler]:
    count = bench.scale(20, 10)
    if engine.name != "mydocker":
        crun = bench.runner(engine.name)
        crun.warm_starts(2)
        yield lambda: crun.warm_starts(count)
        return
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "warm.py")
    with ExitStack() as undo:
        worker = undo.enter_context(subprocess.Popen(
            [sys.executable, program, IMAGE], env=engine.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        undo.callback(worker.stdin.close)  # type: ignore[union-attr]
        _ask(worker, 5)
        yield lambda: _ask(worker, count) / count


def _ask(worker: subprocess.Popen[str], count: int) -> float:
    assert worker.stdin is not None and worker.stdout is not None
    print(count, file=worker.stdin, flush=True)
    answer = worker.stdout.readline()
    if not answer:
        raise CommandFailed("the warm starts from Python ended early; the error is above")
    return float(answer)


def _tree_tar(bench: Bench) -> str:
    files, size = bench.scale(15_000, 1_500), bench.scale(200, 20) * 1_000_000
    return bench.make_once("tree.tar", lambda path: write_tree_tar(path, files, size))


@contextmanager
def _import(engine: Engine, bench: Bench) -> Iterator[Sampler]:
    yield _take_in(engine, "import", _tree_tar(bench), _BIG_IMAGE)


@contextmanager
def _load(engine: Engine, bench: Bench) -> Iterator[Sampler]:
    tree = _tree_tar(bench)
    archive = bench.make_once("tree-image.tar", lambda path: write_docker_archive(path, tree, _BIG_IMAGE))
    yield _take_in(engine, "load", "-i", archive)


@contextmanager
def _pull(engine: Engine, bench: Bench) -> Iterator[Sampler]:
    tree = _tree_tar(bench)
    stored = bench.make_once("registry", lambda path: registry.fill(path, tree))
    # A dockerd of the benchmark's own has a network namespace of its own, in which the loopback device is down.
    prefix = ["nsenter", f"--net=/proc/{engine.daemon_pid}/ns/net"] if engine.name == "docker" and engine.daemon_pid else []
    if prefix:
        subprocess.run([*prefix, "ip", "link", "set", "lo", "up"], check=True)
    with registry.serving(stored, prefix) as host:
        name = f"{host}/{registry.NAME}:latest"
        yield _take_in(engine, "pull", *(("--tls-verify=false",) if engine.name == "podman" else ()), name, image=name)


_BIG_IMAGE = "mydocker-bench-tree:latest"


def _take_in(engine: Engine, *words: str, image: str = _BIG_IMAGE) -> Sampler:
    def sample() -> float:
        os.sync()  # what an earlier sample left to be written is not this one's
        try:
            return engine.time(*words)
        finally:
            engine.call("rmi", "-f", image)
    return sample


def _build(*, is_cached: bool) -> Callable[[Engine, Bench], AbstractContextManager[Sampler]]:
    """Four commands, two copies, a directory and an environment variable."""
    @contextmanager
    def open_row(engine: Engine, bench: Bench) -> Iterator[Sampler]:
        context = bench.make_once("build-context", os.mkdir)
        with open(f"{context}/file", "w") as stream:
            stream.write("content\n")
        with open(f"{context}/Dockerfile", "w") as stream:
            stream.write(f"FROM {IMAGE}\nENV a=1\nRUN echo 1 > /one\nCOPY file /two\nRUN mkdir /three\nWORKDIR /four\n"
                         "RUN rm /one\nCOPY file /five/\nRUN chmod 700 /three\n")
        # docker's classic builder (engines.py): BuildKit is a package, and a daemon, of its own.
        words = ("build", *([] if is_cached else ["--no-cache"]), "-q", "--network", "none", "-t", "bench-build", context)
        engine.call(*words)

        def sample() -> float:
            if not is_cached:
                engine.call("rmi", "-f", "bench-build")  # else it would stay without a name, and the next beside it
            return engine.time(*words)

        yield sample
        engine.call("rmi", "-f", "bench-build")

    return open_row


@contextmanager
def _commit(engine: Engine, bench: Bench) -> Iterator[Sampler]:
    """A container with 100 MB of changes in 1,000 files becomes an image, again and again."""
    megabytes = bench.scale(100, 10)
    script = (
        "busybox mkdir /changes; i=0; while [ $i -lt 1000 ]; do "
        f"head -c {megabytes * 1000} /dev/urandom >/changes/$i; i=$((i+1)); done")
    name = engine.start("sh", "-c", script)
    try:
        engine.call("wait", name)

        def sample() -> float:
            os.sync()
            try:
                return engine.time("commit", name, _BIG_IMAGE)
            finally:
                engine.call("rmi", "-f", _BIG_IMAGE)
        yield sample
    finally:
        engine.remove(name)


@contextmanager
def _save(engine: Engine, bench: Bench) -> Iterator[Sampler]:
    engine.call("import", _tree_tar(bench), _BIG_IMAGE)
    path = f"{bench.scratch}/saved.tar"

    def sample() -> float:
        if os.path.exists(path):
            os.unlink(path)  # podman wants none there
        os.sync()
        return engine.time("save", "-o", path, _BIG_IMAGE)
    try:
        yield sample
    finally:
        if os.path.exists(path):
            os.unlink(path)
        engine.call("rmi", "-f", _BIG_IMAGE)


_TREE = "15,000 files, 200 MB"
ROWS = (
    Row("run", "run --rm --network none IMAGE true", _run, 20, 5, {"docker": 1 / 5, "podman": 1 / 3}),
    Row("seccomp", "of that, the default seccomp filter", _seccomp, 7, 3, ceiling=0.002, peers=()),
    Row("bridge", "run --rm --network bridge IMAGE true", _run_on_bridge, 20, 5, {"docker": 1 / 5, "podman": 1 / 5}),
    Row("network", "of that, the network", _bridge_alone, 7, 3, ceiling=0.006, peers=()),
    Row("tcp", "100 MB by TCP between containers", _between_containers, 60, 20, {"docker": 1.1, "podman": 1.1}),
    Row("port", "100 MB by TCP to a published port", _through_port, 60, 20, {"docker": 1.1, "podman": 1.1}),
    Row("exec", "exec NAME true", _exec, 20, 5, {"docker": 2 / 3, "podman": 1 / 2}),
    Row("ps1", "ps, 1 container", _ps(1), 20, 5, {"podman": 1.2}),
    Row("ps200", "ps, 200 containers", _ps(200), 20, 5, {"podman": 1.2}),
    Row("stop", "stop, ends on SIGTERM", _stop, 10, 3),
    Row("rm", "rm of an ended container", _rm, 10, 3),
    Row("memory", "memory per idle container", _memory, 3, 1, ceiling=512 * 1024, is_bytes=True),
    Row("log", "100 MB of lines into the log", _log_write, 3, 1, {"docker": 1 / 3}),
    Row("logs", "logs of 20 MB", _log_read, 7, 3),
    Row("clients", "40 starts by 8 clients", _clients, 5, 2),
    Row("warm", "warm start from Python", _warm, 10, 3, {"crun": 1.0}, peers=("crun",)),
    Row("bundle", "mydocker-runtime run of a bundle", _bundle, 20, 5, peers=("crun", "runc")),
    Row("startup", "of that, the program's start", _start_up, 20, 5, peers=("crun", "runc")),
    Row("import", f"import, {_TREE}", _import, 5, 2, {"docker": 2 / 3, "podman": 2 / 3}),
    Row("load", f"load, {_TREE}", _load, 5, 2, {"docker": 2 / 3, "podman": 2 / 3}),
    Row("pull", f"pull from a registry on this machine, {_TREE}", _pull, 5, 2, {"docker": 2 / 3, "podman": 2 / 3}),
    Row("build", "build, 8 trivial steps", _build(is_cached=False), 5, 2, {"docker": 1 / 4}, peers=("docker",)),
    Row("rebuild", "the same, all cached", _build(is_cached=True), 7, 3, {"docker": 1 / 2}, peers=("docker",)),
    Row("commit", "commit of 100 MB of changes", _commit, 5, 2),
    Row("save", f"save, {_TREE}", _save, 5, 2),
)
