"""What tests of whole containers need: a state root, the installed `mydocker`, an image, and a check for leftovers.

    mydocker("run", "-d", "--name", name, busybox, "sleep", "100")    -> Result(code, out, err)
    mydocker.ok(...)     the same, must exit 0, gives standard output without the last newline
    name                 a container name that no other test uses
    busybox              the name of an image of busybox, imported once
    engine_root          the directory of all state, of this run of the tests alone

After each test its containers and images are removed, and the machine is compared with what it was before: mounts,
cgroups, processes of the engine, network links, files of the state root. A test that fails shows every command that
it gave, and the record and log of every container that it left.
"""
from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import pytest

from mydocker.linux.cgroup.hierarchy import hierarchy

SCRATCH = os.environ.get("MYDOCKER_TEST_DIR", "/var/tmp")
TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUSYBOX = "busybox:latest"
PROGRAM = os.path.join(os.path.dirname(sys.executable), "mydocker")
#: The end of a container is tidied up by its monitor, a moment after the command that ended it has returned.
SETTLE_S = 5.0
TIME_FACTOR = 4 if os.environ.get("MYDOCKER_TEST_GUEST") else 1


class Result:
    """What one command did; `out` and `err` are text, `out_bytes` and `err_bytes` as they came."""

    def __init__(self, argv: tuple[str, ...], code: int, out: bytes, err: bytes, seconds: float) -> None:
        self.argv = argv
        self.code = code
        self.out_bytes = out
        self.err_bytes = err
        self.seconds = seconds

    @property
    def out(self) -> str:
        return self.out_bytes.decode("utf-8", "replace")

    @property
    def err(self) -> str:
        return self.err_bytes.decode("utf-8", "replace")

    def __repr__(self) -> str:
        return f"$ mydocker {' '.join(self.argv)}\n{self.out}{self.err}[exit {self.code}, {self.seconds:.3f} s]"


class Cli:
    """Calls the installed command line with a state root of the tests' own."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.env = {**os.environ, "MYDOCKER_ROOT": root}
        self.env.pop("MYDOCKER_RUN", None)
        self.results: list[Result] = []

    def __call__(
        self, *argv: str, input: bytes | str = b"", timeout: float = 60, env: dict[str, str] | None = None, cwd: str | None = None,
    ) -> Result:
        """Run one command to its end. `env` adds variables. Raises subprocess.TimeoutExpired."""
        data = input.encode() if isinstance(input, str) else input
        started = time.monotonic()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            # Files, not pipes: a process that the command leaves behind must not keep the test waiting.
            done = subprocess.run(
                [PROGRAM, *argv], input=data, stdout=out, stderr=err, timeout=timeout * TIME_FACTOR, cwd=cwd,
                env={**self.env, **(env or {})}, check=False,
            )
            out.seek(0)
            err.seek(0)
            result = Result(argv, done.returncode, out.read(), err.read(), time.monotonic() - started)
        self.results.append(result)
        return result

    def ok(self, *argv: str, input: bytes | str = b"", timeout: float = 60, env: dict[str, str] | None = None) -> str:
        """Run one command that must exit 0; return its standard output without the last newline."""
        result = self(*argv, input=input, timeout=timeout, env=env)
        assert result.code == 0, f"it failed:\n{result!r}"
        return result.out.removesuffix("\n")

    def start(self, *argv: str, **options: object) -> subprocess.Popen[bytes]:
        """Start one command and leave it running; the caller waits. `options` go to Popen."""
        return subprocess.Popen([PROGRAM, *argv], **{"env": self.env, **options})  # type: ignore[call-overload, no-any-return]

    def wait_until(self, condition: Callable[[], object], what: str, timeout: float = 10) -> None:
        """Wait until something is true; the test fails with `what` when it does not come."""
        deadline = time.monotonic() + timeout * TIME_FACTOR
        while not condition():
            assert time.monotonic() < deadline, f"after {timeout * TIME_FACTOR:.0f} s: not {what}"
            time.sleep(0.01)

    def describe_containers(self) -> str:
        """Return record and end of the log of every container there is, for the report of a failure."""
        texts = []
        containers = f"{self.root}/container"
        for container_id in sorted(os.listdir(containers)) if os.path.isdir(containers) else []:
            for file in ("config.json", "started", "exit", "container.log"):
                try:
                    with open(f"{containers}/{container_id}/{file}", errors="replace") as stream:
                        texts.append(f"-- {container_id}/{file}\n{stream.read()[-4000:]}")
                except OSError:
                    pass
        return "\n".join(texts)


@pytest.fixture(scope="session")
def engine_root() -> Iterator[str]:
    """A state root on a real file system, for all tests of this run."""
    path = tempfile.mkdtemp(prefix="mydocker-root-", dir=SCRATCH)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def _image(engine_root: str) -> str:
    """Import busybox once: nothing about it belongs to one test."""
    tar = subprocess.run([sys.executable, f"{TOP}/tools/busybox-rootfs"], stdout=subprocess.PIPE, check=True).stdout
    Cli(engine_root).ok("import", "-", BUSYBOX, input=tar)
    return BUSYBOX


@pytest.fixture
def busybox(_image: str, mydocker: Cli) -> str:
    return _image


_numbers = itertools.count(1)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A container name that holds the test's name."""
    word = "".join(letter if letter.isalnum() else "-" for letter in request.node.name.removeprefix("test_"))
    return f"{word[:40].strip('-')}-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def mydocker(request: pytest.FixtureRequest, engine_root: str, _leak_check: None) -> Iterator[Cli]:
    """The installed command line; everything that the test made with it is removed afterwards."""
    if os.geteuid() != 0:
        pytest.skip("needs root: this is not root")
    cli = Cli(engine_root)
    request.node.stash[_cli_key] = cli
    yield cli
    remove_everything(cli)


_cli_key = pytest.StashKey[Cli]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield  # type: ignore[misc]
    cli = item.stash.get(_cli_key, None)
    if cli is not None and report.failed:
        report.sections.append(("commands", "\n".join(map(repr, cli.results))))
        if call.when == "call":
            report.sections.append(("containers", cli.describe_containers()))
    return report


def remove_everything(cli: Cli) -> None:
    """Remove all containers and all images but busybox, by the engine's own means."""
    ids = cli.ok("ps", "-aq", "--no-trunc").split() if os.path.isdir(f"{cli.root}/container") else []
    if ids:
        cli.ok("rm", "-f", *ids)
    names = cli("images", "--format", "{{.Repository}}:{{.Tag}}").out.split()
    for image in names:
        if image != BUSYBOX and not image.startswith("host:") and image != "host":
            cli("rmi", "-f", image)


class Machine:
    """What a container may leave behind on the machine, at one moment."""

    def __init__(self, root: str) -> None:
        self.facts = {
            "mounts": list_mounts(),
            "cgroups": list_cgroups(),
            "processes": list_processes(root),
            "links": set(os.listdir("/sys/class/net")),
            "files": list_files(root),
        }

    def added_since(self, before: Machine) -> dict[str, set[str]]:
        added = {kind: facts - before.facts[kind] for kind, facts in self.facts.items()}
        return {kind: facts for kind, facts in added.items() if facts}


def list_mounts() -> set[str]:
    with open("/proc/self/mountinfo") as file:
        # Without the ids: a mount that was replaced by its like is no leak.
        return {" ".join(line.split()[2:6]) for line in file}


def list_cgroups() -> set[str]:
    found = hierarchy()
    paths = set()
    for point in {*found.v1.values(), found.v2} - {""}:
        if os.path.isdir(f"{point}/mydocker"):
            paths |= {entry.path for entry in os.scandir(f"{point}/mydocker") if entry.is_dir()}
    return paths


def list_processes(root: str) -> set[str]:
    """Return the engine's processes: those that hold a file below the state root, whatever they are called."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}").startswith(root + "/"):
                    with open(f"/proc/{pid}/cmdline", "rb") as file:
                        found.add(f"{pid} {file.read().replace(bytes(1), b' ').decode('utf-8', 'replace')}")
                    break
        except OSError:
            pass  # it has ended
    return found


def list_files(root: str) -> set[str]:
    found = set()
    for directory in ("container", "creating", "name", "trash", "run", "volume", "network"):
        if os.path.isdir(f"{root}/{directory}"):
            found |= {f"{root}/{directory}/{entry}" for entry in os.listdir(f"{root}/{directory}")}
    return found


@pytest.fixture
def _leak_check(_image_when_root: None, engine_root: str) -> Iterator[None]:
    """Compare the machine before and after. MYDOCKER_TEST_SHARED=1 leaves out what other users of it may have made."""
    before = Machine(engine_root)
    yield
    shared = {"mounts", "cgroups", "links"} if os.environ.get("MYDOCKER_TEST_SHARED") else set()
    deadline = time.monotonic() + SETTLE_S * TIME_FACTOR
    while True:
        added = {kind: facts for kind, facts in Machine(engine_root).added_since(before).items() if kind not in shared}
        if not added:
            return
        if time.monotonic() > deadline:
            pytest.fail("the test left behind:\n" + "\n".join(f"  {kind}: {fact}" for kind in added for fact in sorted(added[kind])))
        time.sleep(0.05)


@pytest.fixture
def _image_when_root(request: pytest.FixtureRequest) -> None:
    """Import the image before the machine is looked at, for tests that use it."""
    if os.geteuid() == 0 and "busybox" in request.fixturenames:
        request.getfixturevalue("_image")
