"""Words of the monitor: control messages, and the records `started` and `exit`.

Owns the encoding, both ways; docs/protocols.md has the order of messages. Opens no socket and starts
no process. The other side is csrc/monitor (attach.c, exit.c). A message is one datagram of a
SOCK_SEQPACKET socket: the first byte is its type, the rest its payload.
"""
from __future__ import annotations

import os

from mydocker.base.errors import KINDS, SCARCITY_HINTS, Corrupt, MydockerError, RuntimeFailed
from mydocker.base.files import read_bytes
from mydocker.base.record import Record

#: The longest payload of STDIN and of the two OUTPUT messages.
MAX_PAYLOAD_BYTES = 1 << 16

# Client to monitor.
MSG_ATTACH = b"A"
MSG_START = b"S"
MSG_STDIN = b"I"
MSG_STDIN_EOF = b"E"
MSG_RESIZE = b"W"
MSG_CLEANED = b"C"
MSG_PING = b"P"

# Monitor to client, as the integer that indexing bytes gives.
REPLY_STARTED = ord("B")
REPLY_STDOUT = ord("O")
REPLY_STDERR = ord("R")
REPLY_EXITED = ord("X")
REPLY_FAILED = ord("F")
REPLY_PONG = ord("P")
REPLY_REFUSED = ord("N")

# Flags of ATTACH.
WANTS_STDOUT = 1
WANTS_STDERR = 2
WANTS_STDIN = 4
IS_OWNER = 8
TAKES_IT_ALONG = 16


class StartedRecord(Record):
    """The user's command runs: `pid` is the host's, `start_time` in clock ticks as in /proc/PID/stat."""

    pid: int
    start_time: int
    started_ns: int


class ExitRecord(Record):
    """How a container (or exec session) ended, and what it used; None where nobody could tell.

    `exit_code` is 128 + `signal` when a signal (not 0) ended it. `error_*` are set when the start
    failed; there is no `started_ns` then.
    """

    exit_code: int
    signal: int = 0
    oom_killed: bool = False
    core_dumped: bool = False
    started_ns: int | None = None
    finished_ns: int | None = None
    cpu_ns: int | None = None
    memory_peak_bytes: int | None = None
    log_dropped_bytes: int = 0
    error_kind: str | None = None
    error_errno: int | None = None
    error_message: str | None = None

    def error(self) -> MydockerError | None:
        """Return the error of a start that failed, None for a container that ran."""
        if self.error_kind is None:
            return None
        return error_of_kind(self.error_kind, self.error_message or "", self.error_errno or 0)


def error_of_kind(kind: str, message: str, number: int) -> MydockerError:
    """Return the error that another process reported; an unknown kind becomes RuntimeFailed.

    `number` is the errno behind it, 0 when the message says it all.
    """
    text = message or "start the container: no reason given"
    return KINDS.get(kind, RuntimeFailed)(
        f"{text}: {os.strerror(number).lower()}" if number else text, hint=SCARCITY_HINTS.get(number) or _HINTS.get(kind, ""))


#: The way out of what the last stage reports.
_HINTS = {
    "CommandNotFound": "the container's file system has no such program: write its path, or take an image that has it",
    "CommandNotExecutable": "it must be a program for this machine that the user may execute (chmod +x)",
}


def _number(fields: dict[str, str], key: str) -> int | None:
    return int(fields[key]) if key in fields else None


def _fields(text: bytes) -> dict[str, str]:
    pairs = (line.partition(" ") for line in text.decode("utf-8", "replace").split("\n"))
    return {key: value for key, _, value in pairs if key}


def parse_exit(text: bytes, *, source: str = "exit record") -> ExitRecord:
    """Return the record of an EXITED payload or an `exit` file. Raises Corrupt."""
    fields = _fields(text)
    try:
        return ExitRecord(
            exit_code=int(fields["exit_code"]),
            signal=_number(fields, "signal") or 0,
            oom_killed=fields.get("oom_killed") == "1",
            core_dumped=fields.get("core") == "1",
            started_ns=_number(fields, "started_ns"),
            finished_ns=_number(fields, "finished_ns"),
            cpu_ns=_number(fields, "cpu_ns"),
            memory_peak_bytes=_number(fields, "memory_peak_bytes"),
            log_dropped_bytes=_number(fields, "log_dropped_bytes") or 0,
            error_kind=fields.get("error_kind"),
            # Empty when the last stage was cut off in the middle of its report.
            error_errno=int(fields.get("error_errno") or 0) if "error_errno" in fields else None,
            error_message=fields.get("error_message"),
        )
    except (KeyError, ValueError) as error:
        raise Corrupt(f"read {source}: it is not an exit record, or cut: {error}") from error


def parse_started(text: bytes, *, source: str = "started record") -> StartedRecord:
    """Return the record of a `started` file. Raises Corrupt."""
    fields = _fields(text)
    try:
        return StartedRecord(
            pid=int(fields["pid"]), start_time=int(fields["start_time"]), started_ns=int(fields["started_ns"]),
        )
    except (KeyError, ValueError) as error:
        raise Corrupt(f"read {source}: it is not a start record, or cut: {error}") from error


def parse_started_message(payload: bytes) -> StartedRecord:
    """Return the record of a STARTED payload: three numbers. Raises Corrupt."""
    try:
        pid, start_time, started_ns = map(int, payload.split())
    except ValueError as error:
        raise Corrupt(f"read STARTED message: {error}") from error
    return StartedRecord(pid=pid, start_time=start_time, started_ns=started_ns)


def load_exit(path: str, *, dir_fd: int | None = None) -> ExitRecord | None:
    """Return what the monitor recorded at the end, None when there is no such file. Raises OSError, Corrupt."""
    try:
        return parse_exit(read_bytes(path, dir_fd=dir_fd), source=path)
    except FileNotFoundError:
        return None


def load_started(path: str, *, dir_fd: int | None = None) -> StartedRecord | None:
    """Return what the monitor recorded at the start, None when there is no such file. Raises OSError, Corrupt."""
    try:
        return parse_started(read_bytes(path, dir_fd=dir_fd), source=path)
    except FileNotFoundError:
        return None


def parse_failure(payload: bytes) -> MydockerError:
    """Return the error of a FAILED payload, `kind NUL errno NUL message`."""
    kind, _, rest = payload.partition(b"\0")
    number, _, message = rest.partition(b"\0")
    return error_of_kind(
        kind.decode("utf-8", "replace"), message.rstrip(b"\0").decode("utf-8", "replace"),
        int(number) if number.isdigit() else 0)


def format_attach(flags: int) -> bytes:
    """Return the ATTACH message: what this client wants from now on."""
    return MSG_ATTACH + bytes((flags,))


def format_resize(rows: int, cols: int) -> bytes:
    """Return the RESIZE message; sizes beyond 16 bits are cut to the largest."""
    return MSG_RESIZE + min(rows, 0xFFFF).to_bytes(2, "little") + min(cols, 0xFFFF).to_bytes(2, "little")
