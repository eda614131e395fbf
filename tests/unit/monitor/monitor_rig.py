"""A real monitor with a real child, without root and without a container.

The monitor is built twice: as it is shipped, and with the sanitizers against the C library. Tests that
drive it run on both. A child of the monitor plays the last stage: it waits for START on the sync
socket and executes a command.
"""
from __future__ import annotations

import _socket
import fcntl
import os
import select
import shutil
import signal
import subprocess
import tempfile
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mydocker.monitor import protocol
from mydocker.monitor.attach import Session
from mydocker.monitor.protocol import ExitRecord

SOURCES = Path(__file__).parents[3] / "csrc" / "monitor"
HOSTED = ("main", "loop", "stream", "log", "attach", "exit")
COMMON = ["-std=gnu11", "-Wall", "-Wextra", "-Werror"]
SHIPPED = [
    "-Os", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-pie", "-no-pie",
    "-ffunction-sections", "-fdata-sections", "-fno-asynchronous-unwind-tables", "-Wl,--gc-sections", "-Wl,-z,noseparate-code",
]
SANITIZED = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def build(target: Path, flags: list[str], names: tuple[str, ...]) -> Path:
    sources = [str(SOURCES / f"{name}.c") for name in names]
    subprocess.run(["gcc", *COMMON, *flags, "-o", str(target), *sources], check=True)
    return target


class Run:
    """One monitor and its child; see `Rig.run` for the words."""

    def __init__(self, directory: str, session: Session, monitor_pid: int, is_sanitized: bool) -> None:
        self.directory = directory
        self.session = session
        self.monitor_pid = monitor_pid
        self.is_sanitized = is_sanitized
        self._status: int | None = None

    def connect(self) -> Session:
        return Session.connect(f"{self.directory}/control")

    def path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def read(self, name: str) -> bytes:
        return Path(self.directory, name).read_bytes()

    def log_bytes(self) -> bytes:
        """All log files, oldest first."""
        files = sorted((name for name in os.listdir(self.directory) if name.startswith("container.log")), reverse=True)
        return b"".join(self.read(name) for name in files)

    def exit_record(self) -> ExitRecord:
        record = protocol.load_exit(self.path("exit"))
        assert record is not None
        return record

    def end(self, timeout_s: float = 10.0) -> int:
        """Wait for the monitor's own end and return its exit code."""
        self.session.close()
        wait_until(self.is_over, timeout_s)
        assert self._status is not None
        return os.waitstatus_to_exitcode(self._status)

    def is_over(self) -> bool:
        if self._status is None:
            pid, status = os.waitpid(self.monitor_pid, os.WNOHANG)
            if pid:
                self._status = status
        return self._status is not None

    def memory_kib(self, key: str = "Pss") -> int:
        """A number of the monitor's smaps_rollup, 0 while it is being executed."""
        try:
            with open(f"/proc/{self.monitor_pid}/smaps_rollup") as stream:
                return next(int(line.split()[1]) for line in stream if line.startswith(f"{key}:"))
        except ProcessLookupError:
            return 0

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.monitor_pid}/task/{self.monitor_pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def clean_up(self) -> None:
        self.session.close()
        started = protocol.load_started(self.path("started"))
        if not self.is_over():
            for pid in self.children():  # first: while their parent does not reap them the pids are theirs
                with suppress(ProcessLookupError):  # it ended, and was reaped, at this moment
                    os.kill(pid, signal.SIGKILL)
            os.kill(self.monitor_pid, signal.SIGKILL)
            wait_until(self.is_over, 5)
        assert started is None or started.pid > 0
        reports = [name for name in os.listdir(self.directory) if name.startswith("asan.")]
        assert not reports, self.read(reports[0]).decode()
        shutil.rmtree(self.directory)


class Rig:
    """Starts monitors and ends them with the test."""

    def __init__(self, program: Path, is_sanitized: bool) -> None:
        self.program = program
        self.is_sanitized = is_sanitized
        self.runs: list[Run] = []
        self._hint = ""

    def directory_hint(self) -> str:
        """A directory that a clean-up command may write to; `take_hint` looks there."""
        self._hint = self._hint or tempfile.mkdtemp(prefix="mydocker-monitor-")
        return self._hint

    def take_hint(self, name: str) -> str:
        """What was written to a file of the directory, "" when it is not there."""
        path = Path(self._hint, name)
        return path.read_text() if path.exists() else ""

    def clean_up(self) -> None:
        for run in self.runs:
            run.clean_up()
        if self._hint:
            shutil.rmtree(self._hint)

    def run(
        self, *argv: str, tty: bool = False, stdin: bool = False, log: bool = True, start: bool = True,
        flags: int = protocol.WANTS_STDOUT | protocol.WANTS_STDERR | protocol.WANTS_STDIN | protocol.IS_OWNER,
        options: tuple[str, ...] = (), clean_up: tuple[str, ...] = (), failure: bytes = b"",
        limit: Callable[[str], object] = lambda directory: None,
        before: Callable[[_socket.socket], object] = lambda sync: None, streams: bool = True,
    ) -> Run:
        """Run a command under a monitor. `failure` is reported instead; `limit` is called in the monitor before exec, `before` in the child
        that plays the last stage, before it waits for START."""
        directory = tempfile.mkdtemp(prefix="mydocker-monitor-")
        listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        listener.bind(f"{directory}/control")
        listener.listen(64)
        mine, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            try:
                mine.close()
                limit(directory)
                monitor_argv = self._stage(argv, directory, theirs, tty=tty, stdin=stdin, failure=failure, before=before)
                os.set_inheritable(listener.fileno(), True)
                if not streams:
                    del monitor_argv[-4:]
                monitor_argv += ["--listen", str(listener.fileno()), "--client-flags", str(flags), *options]
                monitor_argv += ["--start"] if start else []
                monitor_argv += ["--log", "container.log"] if log else []
                monitor_argv += ["--", *clean_up] if clean_up else []
                os.environ["ASAN_OPTIONS"] = f"log_path={directory}/asan:detect_leaks=0"
                os.environ["UBSAN_OPTIONS"] = f"log_path={directory}/asan"
                os.execv(self.program, monitor_argv)
            finally:
                os._exit(99)
        theirs.close()
        listener.close()
        run = Run(directory, Session(mine), pid, self.is_sanitized)
        self.runs.append(run)
        return run

    def _stage(
        self, argv: tuple[str, ...], directory: str, client: _socket.socket, *, tty: bool, stdin: bool, failure: bytes,
        before: Callable[[_socket.socket], object],
    ) -> list[str]:
        monitor_end, stage_end = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        outside, inside = _open_stdio(tty, stdin)
        init = os.fork()
        if init == 0:
            _last_stage(argv, inside, stage_end, tty, failure, before)
        fds: list[Any] = [
            "--dir", os.open(directory, os.O_RDONLY), "--pid-fd", os.pidfd_open(init), "--sync", monitor_end.detach(),
            "--client", client.detach(), *outside,
        ]
        for fd in fds[1::2]:
            os.set_inheritable(fd, True)
        for fd in set(inside):
            os.close(fd)
        stage_end.close()
        return ["mydocker-monitor", "--id", "0123456789", "--pid", str(init), *map(str, fds)]


def _open_stdio(tty: bool, stdin: bool) -> tuple[list[Any], tuple[int, int, int]]:
    if tty:
        master, slave = os.openpty()
        return ["--tty", master], (slave, slave, slave)
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    if not stdin:
        os.close(in_write)
    return (
        [*(["--stdin", in_write] if stdin else []), "--stdout", out_read, "--stderr", err_read],
        (in_read, out_write, err_write),
    )


def _last_stage(
    argv: tuple[str, ...], inside: tuple[int, int, int], sync: _socket.socket, tty: bool, failure: bytes,
    before: Callable[[_socket.socket], object],
) -> None:
    try:
        if tty:
            os.setsid()
            fcntl.ioctl(inside[0], termios.TIOCSCTTY, 0)
        for number, fd in enumerate(inside):
            os.dup2(fd, number)
        os.closerange(3, sync.fileno())  # the monitor's end, above all: its death must be seen here
        os.closerange(sync.fileno() + 1, 256)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        before(sync)
        if sync.recv(8) != b"S":
            os._exit(98)
        if failure:
            sync.send(failure)
            os._exit(127)
        os.execvp(argv[0], argv)
    finally:
        os._exit(97)


def wait_until(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        select.select([], [], [], 0.002)
