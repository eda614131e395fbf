"""The engine under test, as its users have it: the command line in a process of its own, a terminal, the machine around it.

`Mydocker` runs commands on one state root that is the test's own and knows what must not be left of it.
"""
from __future__ import annotations

import fcntl
import glob
import json
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import mydocker
from mydocker.base.paths import Layout
from mydocker.linux.cgroup.hierarchy import hierarchy
from mydocker.network import bridge, claiming, firewall
from mydocker.network.store import NetworkStore

#: A guest without virtualization support is several times slower.
PATIENCE = 4 if os.environ.get("MYDOCKER_TEST_GUEST") else 1
#: Where state roots are made: overlayfs takes no upper directory on some file systems, tmpfs of old kernels among them.
SCRATCH = os.environ.get("MYDOCKER_TEST_DIR", "/var/tmp")
ERROR_PREFIX = "mydocker: "
#: A template of `images` that says nothing of ages: two lists of the same images are equal.
IMAGES = "{{.ID}} {{.Reference}} {{.Size}}"


def until(condition: Callable[[], object], timeout_s: float = 15, *, what: str = "") -> None:
    """Wait until a condition holds; fails after the time, with `what` or nothing to add."""
    deadline = time.monotonic() + timeout_s * PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"did not come true in {timeout_s} s {what}"
        time.sleep(0.01)


def until_as_before(look: Callable[[], set[str]], before: set[str], timeout_s: float = 15) -> None:
    """Wait until nothing is there that was not before and has been there ever since: what others make meanwhile is theirs."""
    left = look() - before

    def have_gone() -> bool:
        left.intersection_update(look() if left else ())
        return not left

    until(have_gone, timeout_s, what=f"for {sorted(left)} to go")


def process_environ(pid: int) -> str:
    """Return the environment block of a process."""
    with open(f"/proc/{pid}/environ", "rb") as stream:
        return stream.read().decode("utf-8", "replace")


def is_running(pid: int) -> bool:
    """Tell whether a process is there and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            return stream.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def pids() -> frozenset[int]:
    """Return the pids of all processes."""
    return frozenset(int(name) for name in os.listdir("/proc") if name.isdigit())


def processes() -> Iterator[tuple[int, list[str]]]:
    """Yield (pid, argv) of every process that has a command line."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as stream:
                words = stream.read().decode("utf-8", "replace").split("\0")[:-1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if words:
            yield int(name), words


class Done:
    """How one command ended."""

    def __init__(self, argv: list[str], code: int, out: bytes, err: bytes) -> None:
        self.argv = argv
        self.code = code
        self.raw_out = out
        self.raw_err = err

    @property
    def out(self) -> str:
        """Its standard output as text."""
        return self.raw_out.decode("utf-8", "surrogateescape")

    @property
    def err(self) -> str:
        """Its standard error as text."""
        return self.raw_err.decode("utf-8", "surrogateescape")

    def one_error_line(self) -> str:
        """Check that it told its error as users are told, in one line without a traceback, and return that."""
        assert self.code != 0, self
        assert self.err.startswith(ERROR_PREFIX), self
        assert self.err.count("\n") == 1 and self.err.endswith("\n"), self
        assert "Traceback" not in self.err and "internal error" not in self.err, self
        return self.err.removeprefix(ERROR_PREFIX).rstrip("\n")

    def __repr__(self) -> str:
        return f"$ {' '.join(map(repr, self.argv))}\nexit code {self.code}\nstdout: {self.out[-4000:]}\nstderr: {self.err[-4000:]}"


class Mydocker:
    """The command `mydocker` on one state root: the installed one, or the checkout's where none is installed.

    `earlier` are the processes from before the root was made, which cannot hold files of it.
    """

    def __init__(self, root: str, earlier: frozenset[int] = frozenset()) -> None:
        self.root = root
        self._earlier = earlier
        self.run_dir = f"{root}/run"
        installed = os.path.join(os.path.dirname(sys.executable), "mydocker")
        self.argv = [installed] if os.path.exists(installed) else [sys.executable, "-m", "mydocker"]
        self.history: list[Done] = []

    def environ(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a command: ours, the root, and what the test adds."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("MYDOCKER_")}
        if len(self.argv) > 1:
            kept["PYTHONPATH"] = os.path.dirname(os.path.dirname(mydocker.__file__))
        return {**kept, "MYDOCKER_ROOT": self.root, **(more or {})}

    def __call__(
        self, *words: str, code: int | None = 0, stdin: bytes = b"", env: Mapping[str, str] | None = None,
        timeout_s: float = 30, **options: Any,
    ) -> Done:
        """Run a command to its end and check its exit code (None: any)."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            # Files, not pipes: a process that the command leaves behind must not keep the test waiting.
            ended = subprocess.run(
                [*self.argv, *words], input=stdin, stdout=out, stderr=err, env=self.environ(env), timeout=timeout_s * PATIENCE,
                check=False, **options)
            out.seek(0)
            err.seek(0)
            done = Done(["mydocker", *words], ended.returncode, out.read(), err.read())
        self.history.append(done)
        assert code is None or done.code == code, f"expected exit code {code}:\n{done}"
        return done

    def popen(self, *words: str, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command with pipes; the test waits for it."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen([*self.argv, *words], env=self.environ(env), **pipes)

    def terminal(self, *words: str, rows: int = 24, columns: int = 80) -> Terminal:
        """Start a command at a terminal of its own."""
        return Terminal([*self.argv, *words], self.environ(), rows, columns)

    def rows(self, *words: str) -> dict[str, dict[str, str]]:
        """Return the rows of `ps` by the container's name, each by its columns' titles."""
        head, *lines = self("ps", *words, "--no-trunc").out.splitlines()
        titles = head.split()
        starts = [head.index(title) for title in titles]
        ends = [*starts[1:], None]
        rows = [
            {title: line[start:end].strip() for title, start, end in zip(titles, starts, ends, strict=True)} for line in lines]
        return {row["NAME"]: row for row in rows}

    def inspect(self, name: str) -> dict[str, Any]:
        """Return the document of one container or image."""
        documents: list[dict[str, Any]] = json.loads(self("inspect", name).out)
        return documents[0]

    def directory_of(self, name: str) -> str:
        """Return a container's directory."""
        return os.readlink(f"{self.run_dir}/{name}")

    def pid_of(self, name: str) -> int:
        """Return the pid of a running container."""
        return int(self.rows()[name]["PID"])

    def monitor_of(self, name: str) -> int:
        """Return the pid of a container's monitor."""
        container_id = self.directory_of(name).rpartition("/")[2]
        (pid,) = [
            pid for pid, argv in processes()
            if argv[0] == "mydocker-monitor" and container_id in argv and "--listen" in argv]
        return pid

    def container_ids(self) -> list[str]:
        """Return the ids of all container directories."""
        try:
            return os.listdir(f"{self.root}/container")
        except FileNotFoundError:
            return []

    def leftovers(self, timeout_s: float = 10) -> list[str]:
        """Return what is there though no container is: files, processes and mounts.

        A monitor's clean-up may outlive the command that removed its container for a moment, so this waits for it.
        """
        deadline = time.monotonic() + timeout_s * PATIENCE
        while (found := self._leftovers()) and time.monotonic() < deadline:
            time.sleep(0.01)
        return found

    def _leftovers(self) -> list[str]:
        places = [f"{self.root}/{name}" for name in ("container", "creating", "name", "trash", "volume", "network")] + [self.run_dir]
        found = [f"{place}/{name}" for place in places if os.path.isdir(place) for name in os.listdir(place)]
        # The default network comes with its first container, and stays until `destroy` takes the whole root down.
        remembered = (f"{self.root}/network/bridge.json", f"{self.root}/network/{firewall.MARK_OF_MISSING}")
        found = [path for path in found if path not in remembered]
        with open("/proc/self/mountinfo", encoding="utf-8") as stream:
            found += [f"mount {line}" for line in stream if self.root in line]
        return found + self.processes()

    def processes(self) -> list[str]:
        """Return the engine's processes: those that hold a file below the root or name it, whatever they are called."""
        found = []
        for pid, argv in processes():
            if pid != os.getpid() and (self.root in argv or (pid not in self._earlier and self._holds_file(pid))):
                found.append(f"process {pid} {' '.join(argv)}")
        return found

    def _holds_file(self, pid: int) -> bool:
        try:
            return any(os.readlink(f"/proc/{pid}/fd/{fd}").startswith(f"{self.root}/") for fd in os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            return False  # it has ended, or one of its files was closed while we looked

    def describe(self) -> str:
        """Return what a failing test shows: the last commands, each container's record and the end of its log."""
        parts = [repr(done) for done in self.history[-5:]]
        for container_id in self.container_ids():
            for name in ("config.json", "exit", "container.log"):
                try:
                    with open(f"{self.root}/container/{container_id}/{name}", "rb") as stream:
                        text = stream.read()[-2000:].decode("utf-8", "replace")
                except OSError as error:
                    text = str(error)
                parts.append(f"--- {container_id}/{name}\n{text}")
        return "\n".join(parts)

    def destroy(self) -> None:
        """Remove every container, whatever state a test left it in, and every network with its bridges and rules."""
        ids = self.container_ids()
        if ids:
            self("rm", "-f", *ids, code=None)
        remove_networks(self.root)


def remove_networks(root: str) -> None:
    """Remove the networks of a state root, the default one too: entries, devices, rules."""
    layout = Layout(root)
    if not os.path.isdir(layout.networks):
        return
    store = NetworkStore(layout)
    claiming.sweep(store)
    for network in store.all():
        remove_links(link for number in range(bridge.last_bridge(network) + 1) for link in (
            bridge.bridge_name(network, number), bridge.cable_name(network, number + 1)))
        store.remove(network.name)
    firewall.forget(layout, list)
    for entry in os.listdir(layout.networks):
        if entry.startswith("."):  # what is remembered of the machine, such as that it has no nft
            os.unlink(f"{layout.networks}/{entry}")


def remove_links(names: Iterable[str]) -> None:
    """Have network links removed, those that are there, by a program that nobody waits for."""
    there = sorted(network_links().intersection(names))
    if there:
        leaving.update(there)
        do_meanwhile("sh", "-c", 'for link; do ip link delete "$link" || test ! -e "/sys/class/net/$link"; done', "sh", *there)


#: Links that are being removed.
leaving: set[str] = set()
_at_work: list[subprocess.Popen[str]] = []


def do_meanwhile(*argv: str) -> None:
    """Start a program whose end `await_work` awaits. The kernel takes its time for links (RCU) and files (discards)."""
    _at_work[:] = [program for program in _at_work if program.poll() != 0]
    _at_work.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))


def await_work() -> None:
    """See that all that was begun meanwhile went well."""
    failed = []
    while _at_work:
        program = _at_work.pop()
        _, said = program.communicate(timeout=60 * PATIENCE)
        if program.returncode != 0:
            failed.append((program.args, said))
    assert failed == []


class Terminal:
    """A command with a terminal of its own, of which the test holds the other end.

    Between its own processes and ours stands a shell-like parent that leads the session, as a login shell does.
    """

    def __init__(self, argv: list[str], environ: dict[str, str], rows: int, columns: int) -> None:
        self.argv = argv
        self.output = b""
        self.master, slave = os.openpty()
        self.slave_name = os.ttyname(slave)
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self._slave = slave
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
                for fd in (0, 1, 2):
                    os.dup2(slave, fd)
                os.closerange(3, 256)
                os.execve(argv[0], argv, environ)
            finally:
                os._exit(99)
        self.code: int | None = None
        self.kind = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._slave)
        os.close(self.master)

    @property
    def text(self) -> str:
        """What came to the terminal so far."""
        self._drain()
        return self.output.decode("utf-8", "replace")

    def _drain(self) -> None:
        while select.select([self.master], [], [], 0)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                return
            if not data:
                return
            self.output += data

    def type(self, text: str | bytes) -> None:
        """Press keys."""
        os.write(self.master, text.encode() if isinstance(text, str) else text)

    def expect(self, text: str, timeout_s: float = 15) -> None:
        """Wait until a text has come to the terminal, and forget what came up to its end."""
        until(lambda: text in self.text, timeout_s, what=f"waiting for {text!r} in {self.text!r}")
        wanted = text.encode()
        self.output = self.output[self.output.index(wanted) + len(wanted):]

    def resize(self, rows: int, columns: int) -> None:
        """Make the window another size."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def attributes(self) -> list[Any]:
        """Return the terminal's modes (termios)."""
        return termios.tcgetattr(self._slave)

    def is_raw(self) -> bool:
        """Tell whether keys go through unprocessed."""
        return not self.attributes()[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def wait(self, timeout_s: float = 20) -> int:
        """Wait for the command's end and return its exit code, negative for a signal."""
        deadline = time.monotonic() + timeout_s * PATIENCE
        while self.code is None:
            self._drain()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
                self._drain()
                break
            assert time.monotonic() < deadline, f"{self.argv} goes on; it wrote {self.output!r}"
            time.sleep(0.01)
        return self.code


def cgroup_directories() -> set[str]:
    """Return the engine's cgroups of containers, in every hierarchy.

    With MYDOCKER_TEST_SHARED=1 (others use this machine, too) only those without a process of which no state root of
    the tests knows: a test elsewhere whose monitor was killed has its cgroup until somebody looks.
    """
    found = hierarchy()
    places = {f"{point}/mydocker" for point in (*found.v1.values(), found.v2) if point}
    directories = {entry.path for place in places if os.path.isdir(place) for entry in os.scandir(place) if entry.is_dir()}
    if os.environ.get("MYDOCKER_TEST_SHARED"):
        return {path for path in directories if os.path.basename(path).isdigit() and not _has_process(path) and not _is_known(path)}
    return directories


def _has_process(path: str) -> bool:
    try:
        with open(f"{path}/cgroup.procs", encoding="ascii") as stream:
            return bool(stream.read())
    except OSError:
        return True  # it is being removed


def _is_known(cgroup: str) -> bool:
    container_id = os.path.basename(cgroup)
    return any(glob.glob(f"{SCRATCH}/mydocker-root-*/{place}/{container_id}") for place in ("container", "creating", "trash"))


def network_links() -> set[str]:
    """Return the names of the machine's network links."""
    return set(os.listdir("/sys/class/net"))
