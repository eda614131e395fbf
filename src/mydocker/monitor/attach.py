"""Sessions: a client's connection to a monitor.

Owns the client's half of the control socket; knows nothing of containers' records or directories
beyond the path of the socket. One thread may write (`write`, `close_stdin`, `resize`) while another
reads (`events`, `wait`). The order of messages is in docs/protocols.md.

A monitor stops reading the container's output while a subscriber does not take it, so whoever
attaches to output must read it, or close.
"""
from __future__ import annotations

import _socket
import errno
import os
import select
import time

from mydocker.base.errors import AlreadyInState, Conflict, Timeout, Unavailable

from . import protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Literal, Self

    from .protocol import ExitRecord, StartedRecord
    from .relay import Detached

    Event = tuple[Literal["stdout", "stderr"], bytes] | tuple[Literal["exited"], ExitRecord]

#: sockaddr_un.sun_path holds this many bytes and a NUL (unix(7)).
MAX_SUN_PATH_BYTES = 107

#: poll(2) takes 24 days of milliseconds; more is for ever.
_LONGEST_POLL_S = 2_000_000.0

#: A monitor takes a client in no time, unless it stands still.
CONNECT_TIMEOUT_S = 3.0
_CONNECT_POLL_S = 0.005
#: After so long without a word `watch` is asked.
_SILENCE_S = 0.5

_MESSAGE_BYTES = protocol.MAX_PAYLOAD_BYTES + 1


class NotAnswering(Timeout):
    """The monitor is there, but does not take a client."""


class Session:
    """One client of a monitor, over a connected SOCK_SEQPACKET socket that the session then owns.

    `started` and `exit` are the records that have come so far, `failure` the error of a start that
    failed, `output_error` why `relay` could not pass on all output. Close it, or use it as a context
    manager; closing detaches and does not stop anything.
    """

    __slots__ = ("_pongs", "_queued", "_socket", "exit", "failure", "output_error", "started")

    def __init__(self, connection: _socket.socket | int) -> None:
        self._socket = _socket.socket(fileno=connection) if isinstance(connection, int) else connection
        self._queued: list[Event] = []  # output that came while we waited for something else
        self._pongs = 0
        self.started: StartedRecord | None = None
        self.exit: ExitRecord | None = None
        self.failure: Exception | None = None
        self.output_error: OSError | None = None

    @classmethod
    def connect(cls, path: str, *, timeout_s: float = CONNECT_TIMEOUT_S) -> Session:
        """Connect to a monitor's control socket. Raises Unavailable when no monitor is there, NotAnswering."""
        connection = _socket.socket(
            _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK, 0)
        deadline = 0.0
        try:
            while not _connect(connection, path):
                deadline = deadline or time.monotonic() + timeout_s
                if time.monotonic() > deadline:
                    raise NotAnswering(
                        f"connect to monitor {path}: it takes no clients, so it stands still or has too many",
                        hint="`mydocker rm -f` removes the container, whatever its monitor does")
                time.sleep(_CONNECT_POLL_S)
            connection.setblocking(True)
        except OSError as error:
            connection.close()
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
                raise Unavailable(f"connect to monitor {path}: {errno.errorcode[error.errno]}") from error
            raise
        except BaseException:
            connection.close()
            raise
        return cls(connection)

    @staticmethod
    def is_served(path: str) -> bool:
        """Tell whether a monitor listens on a control socket, without waiting for it."""
        connection = _socket.socket(
            _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK, 0)
        try:
            _connect(connection, path)
            return True
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        finally:
            connection.close()

    @property
    def fd(self) -> int:
        """The socket's descriptor, -1 when closed."""
        return self._socket.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Detach; an owner that leaves without `cleaned` makes the monitor run the clean-up command."""
        self._socket.close()

    detach = close

    # --- to the monitor ---------------------------------------------------------------------------

    def attach(self, flags: int) -> None:
        """Say what this client wants from now on: protocol.WANTS_STDOUT | ... | IS_OWNER."""
        self._tell(protocol.format_attach(flags))

    def start(self, watch: Callable[[], None] | None = None) -> StartedRecord:
        """Start the container's command and wait until it runs.

        Raises the error that the last stage reported, AlreadyInState, or Unavailable when the
        container died before its command ran. `exit` is set then, or `wait` gets it. `watch` is called while
        nothing comes, twice a second, and ends the wait by what it raises.
        """
        if self.started is None:
            self._tell(protocol.MSG_START)
        return self.wait_started(watch)

    def wait_started(self, watch: Callable[[], None] | None = None) -> StartedRecord:
        """Wait until the command runs; raises as `start` does."""
        while self.started is None:
            self._raise_end()
            self._queue_next(watch)
        return self.started

    def _queue_next(self, watch: Callable[[], None] | None) -> None:
        """Wait for one message, and keep it when it is output."""
        while watch is not None and not self._is_readable_in(_SILENCE_S):
            watch()
        event = self._take(self._receive())
        if event is not None:
            self._queued.append(event)

    def _raise_end(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self.exit is not None:
            raise self.exit.error() or (Unavailable(
                "start the container: container init was OOM-killed (memory limit too low?)", hint="raise its --memory")
                if self.exit.oom_killed else Unavailable(
                    f"start the container: it ended with exit code {self.exit.exit_code} before its command ran"))

    def ping(self, watch: Callable[[], None] | None = None) -> None:
        """Wait until the monitor is there and answers, or has told the end of what ran. Raises what was reported in place of
        a start, or Unavailable; `watch`: see `start`."""
        answered = self._pongs
        self._tell(protocol.MSG_PING)
        while self._pongs == answered and (self.started is None or self.exit is None):
            if self.started is None:
                self._raise_end()
            self._queue_next(watch)

    def write(self, data: bytes) -> None:
        """Send input; waits while the container does not read. Raises BrokenPipeError when the monitor is gone."""
        view = memoryview(data)
        for at in range(0, len(view), protocol.MAX_PAYLOAD_BYTES):
            self._socket.send(protocol.MSG_STDIN + view[at:at + protocol.MAX_PAYLOAD_BYTES])

    def close_stdin(self) -> None:
        """End the container's standard input, after what was written."""
        self._tell(protocol.MSG_STDIN_EOF)

    def resize(self, rows: int, cols: int) -> None:
        """Set the size of the container's terminal."""
        self._tell(protocol.format_resize(rows, cols))

    def cleaned(self) -> None:
        """As owner, after `exited`: say that everything is cleaned up and the monitor may just end."""
        self._tell(protocol.MSG_CLEANED)

    def _tell(self, message: bytes) -> None:
        try:
            self._socket.send(message)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the monitor is gone; what it said last can still be read, and tells more

    def send_now(self, message: bytes) -> bool:
        """Send one encoded message if there is room for it now; for loops that poll `fd`."""
        try:
            self._socket.send(message, _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return True

    # --- from the monitor -------------------------------------------------------------------------

    def events(self) -> Iterator[Event]:
        """Yield ("stdout", bytes), ("stderr", bytes), and at last ("exited", ExitRecord).

        Raises Unavailable when the monitor ends without a word, and Conflict for a request that it
        refused (AlreadyInState for a second start).
        """
        while True:
            while self._queued:
                yield self._queued.pop(0)
            if self.exit is not None:
                yield "exited", self.exit
                return
            event = self._take(self._receive())
            if event is not None:
                yield event

    def wait(self, timeout: float | None = None) -> ExitRecord:
        """Wait for the end, throwing output away. Raises Timeout; `timeout` is in seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self._queued.clear()
        while self.exit is None:
            if deadline is not None:
                self.poll(wants_write=False, deadline=deadline)
            self._take(self._receive())
        return self.exit

    def communicate(self, stdin: bytes | None = None, timeout: float | None = None) -> tuple[bytes, bytes, ExitRecord]:
        """Send all of `stdin` and its end (nothing when None); return all output and how it ended.

        Raises Timeout; what had come by then is lost.
        """
        from .communicating import communicate  # cold: a command line relays

        return communicate(self, stdin, timeout)

    def relay(
        self, stdin_fd: int, stdout_fd: int, stderr_fd: int, *, tty: bool = False, detach_keys: bytes = b"\x10\x11",
        signals: tuple[int, ...] = (), on_signal: Callable[[int], None] | None = None,
    ) -> ExitRecord | Detached:
        """Copy between the session and this process's streams until the end or the detach keys.

        See `relay.Relay`. A `stdin_fd` of -1 sends no input.
        """
        from .relay import Relay

        return Relay(self, stdin_fd, stdout_fd, stderr_fd, tty=tty, detach_keys=detach_keys).run(signals, on_signal)

    def receive_now(self) -> Event | None:
        """Take one message that is there; None when it was none to show. For loops that poll `fd`."""
        try:
            return self._take(self._receive(_socket.MSG_DONTWAIT))
        except BlockingIOError:
            return None

    def take_queued(self) -> list[Event]:
        """Return the output that came before somebody asked for it, and forget it."""
        queued, self._queued = self._queued, []
        return queued

    def _receive(self, flags: int = 0) -> bytes:
        try:
            message = self._socket.recv(_MESSAGE_BYTES, flags)
        except ConnectionResetError:
            # The monitor ended without reading our last message. The kernel says so once, before
            # it hands out what the monitor had sent.
            message = self._socket.recv(_MESSAGE_BYTES, flags)
        if not message:
            raise self.failure or Unavailable("read from monitor: it ended without saying how the container did")
        return message

    def _take(self, message: bytes) -> Event | None:
        kind = message[0]
        if kind == protocol.REPLY_STDOUT:
            return "stdout", message[1:]
        if kind == protocol.REPLY_STDERR:
            return "stderr", message[1:]
        if kind == protocol.REPLY_STARTED:
            self.started = protocol.parse_started_message(message[1:])
        elif kind == protocol.REPLY_EXITED:
            self.exit = protocol.parse_exit(message[1:], source="EXITED message")
        elif kind == protocol.REPLY_PONG:
            self._pongs += 1
        elif kind == protocol.REPLY_FAILED:
            self.failure = protocol.parse_failure(message[1:])
        elif kind == protocol.REPLY_REFUSED:
            text = message[1:].decode("utf-8", "replace")
            raise (AlreadyInState if text.startswith("START:") else Conflict)(f"monitor refused {text}")
        return None

    def _is_readable_in(self, timeout_s: float) -> bool:
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def poll(self, *, wants_write: bool, deadline: float | None) -> tuple[bool, bool]:
        """Wait for the socket; return (writable, readable). Raises Timeout at the deadline."""
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN | (select.POLLOUT if wants_write else 0))
        left_s = 0.0 if deadline is None else max(0.0, deadline - time.monotonic())
        left_ms = None if deadline is None or left_s > _LONGEST_POLL_S else int(left_s * 1000) + 1
        ready = poll.poll(left_ms)
        if not ready or (deadline is not None and time.monotonic() > deadline):
            raise Timeout("wait for the end: it did not come in the time given")
        events = ready[0][1]
        return bool(events & select.POLLOUT), bool(events & (select.POLLIN | select.POLLHUP | select.POLLERR))


def _connect(connection: _socket.socket, path: str) -> bool:
    """Connect a socket that does not block; False when as many wait already as the monitor lets wait (listen(2))."""
    directory_fd = -1
    try:
        if len(os.fsencode(path)) > MAX_SUN_PATH_BYTES:
            head, _, tail = path.rpartition("/")
            directory_fd = os.open(head, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            path = f"/proc/self/fd/{directory_fd}/{tail}"
        connection.connect(path)
        return True
    except BlockingIOError:
        return False  # EAGAIN (connect(2), of AF_UNIX)
    finally:
        if directory_fd >= 0:
            os.close(directory_fd)
