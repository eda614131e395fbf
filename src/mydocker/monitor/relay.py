"""The command line's loop: standard streams to a session and back.

Owns no state beyond one run; the terminal's raw mode is the caller's (linux/pty.py), signals are the
caller's to choose. Nothing here blocks for long while input is relayed: output goes to pipes in
pieces that fit, so a program that feeds us and reads us at once cannot lock us up.
"""
from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # `signal` itself imports enum
import os
import select
import stat

from mydocker.base.record import Record
from mydocker.linux import pty

from . import protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from .attach import Session
    from .protocol import ExitRecord

_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR | select.POLLNVAL

#: A pipe that poll(2) calls writable takes this much without blocking (PIPE_BUF, pipe(7)).
_PIPE_BUF_BYTES = 4096


class Detached(Record):
    """The user pressed the detach keys: the container goes on without us."""


class DetachKeys:
    """Finds a sequence of keys in terminal input, as Docker does: a prefix of it that does not go on is passed on."""

    __slots__ = ("_held", "_keys")

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Take what was typed; return what to pass on now, and whether the sequence is complete."""
        if not self._keys or (not self._held and self._keys[:1] not in data):
            return data, False
        passed = bytearray()
        for value in data:
            self._held += bytes((value,))
            while self._held and not self._keys.startswith(self._held):
                passed.append(self._held[0])
                self._held = self._held[1:]
            if self._held == self._keys:
                return bytes(passed), True
        return bytes(passed), False


class Relay:
    """One run of the loop.

    Standard output or error that cannot be written any more (its reader is gone, the disk is full) is
    dropped from then on, the first error kept in the session's `output_error`; the container goes on.
    """

    def __init__(
        self, session: Session, stdin_fd: int, stdout_fd: int, stderr_fd: int, *, tty: bool, detach_keys: bytes,
    ) -> None:
        self._session = session
        self._stdin_fd = stdin_fd
        self._output_fds = {"stdout": stdout_fd, "stderr": stderr_fd}
        self._keys = DetachKeys(detach_keys if tty else b"")
        self._terminal_fd = _find_terminal(stdin_fd, stdout_fd) if tty else -1
        self._must_not_block = stdin_fd >= 0
        self._messages: list[bytes] = []  # for the monitor, until the socket has room
        self._output = memoryview(b"")    # for `_output_to`, until it has room
        self._output_to = -1

    def run(self, signals: tuple[int, ...], on_signal: Callable[[int], None] | None) -> ExitRecord | Detached:
        """Relay until the container ends or the user detaches; `on_signal` is called for each of `signals`."""
        replaced = self._install_handlers(signals, on_signal)
        try:
            if self._terminal_fd >= 0:
                self._follow_window()
            for stream, payload in self._session.take_queued():
                self._write_blocking(self._output_fds[stream], payload)  # type: ignore[arg-type]
            while True:
                if self._session.exit is not None and not self._output:
                    return self._session.exit
                if self._step():
                    return Detached()
        finally:
            for number, handler in replaced.items():
                signal.signal(number, handler)

    def _install_handlers(
        self, signals: tuple[int, ...], on_signal: Callable[[int], None] | None,
    ) -> dict[int, Callable[[int, FrameType | None], object] | int | None]:
        # Handlers do the work themselves: they also run, and the call goes on (PEP 475), while a
        # write to a slow reader blocks.
        handlers: dict[int, Callable[[int, FrameType | None], object]] = {}
        if on_signal is not None:
            handlers.update({number: lambda number, _: on_signal(number) for number in signals})
        if self._terminal_fd >= 0:
            handlers[signal.SIGWINCH] = lambda *_: self._follow_window()
        try:
            return {number: signal.signal(number, handler) for number, handler in handlers.items()}
        except ValueError:
            return {}  # not in the main thread, which has the signals then

    def _follow_window(self) -> None:
        try:
            rows, cols = pty.window_size(self._terminal_fd)
        except OSError:
            return
        self._post(protocol.format_resize(rows, cols))

    def _post(self, message: bytes) -> None:
        """Send now, or in turn as soon as there is room."""
        if self._messages or not self._send_now(message):
            self._messages.append(message)

    def _send_now(self, message: bytes) -> bool:
        try:
            return self._session.send_now(message)
        except (BrokenPipeError, ConnectionResetError):
            self._stop_input()  # reading the socket tells what happened
            return True

    def _stop_input(self) -> None:
        self._stdin_fd = -1
        self._messages.clear()

    def _step(self) -> bool:
        """Wait for something and do it; return whether the user detached."""
        poll = select.poll()
        session_fd = self._session.fd
        wants = 0 if self._output or self._session.exit is not None else select.POLLIN
        wants |= select.POLLOUT if self._messages else 0
        if wants:
            poll.register(session_fd, wants)
        if self._output:
            poll.register(self._output_to, select.POLLOUT)
        if self._stdin_fd >= 0 and not self._messages:
            poll.register(self._stdin_fd, select.POLLIN)
        ready = dict(poll.poll())
        if self._output and ready.get(self._output_to):
            self._write_output()
        if self._messages and ready.get(session_fd, 0) & ~select.POLLIN and self._send_now(self._messages[0]):
            del self._messages[:1]
        if wants & select.POLLIN and ready.get(session_fd, 0) & _READABLE:
            self._take_event()
        if self._stdin_fd >= 0 and ready.get(self._stdin_fd, 0) & _READABLE and not self._messages:
            return self._take_input()
        return False

    def _take_event(self) -> None:
        event = self._session.receive_now()
        if event is None or event[0] == "exited":
            return
        fd = self._output_fds[event[0]]
        if not self._must_not_block:
            self._write_blocking(fd, event[1])
        elif fd >= 0:
            self._output, self._output_to = memoryview(event[1]), fd
            self._write_output(all_at_once=_is_file(fd))

    def _write_output(self, *, all_at_once: bool = False) -> None:
        # Only the first call is without a look at poll(2): a pipe may be full, a file never is.
        if not all_at_once and not _is_writable(self._output_to):
            return
        piece = self._output if all_at_once else self._output[:_PIPE_BUF_BYTES]
        try:
            self._output = self._output[os.write(self._output_to, piece):]
        except BlockingIOError:
            return  # somebody made it non-blocking
        except OSError as error:
            self._drop_output(self._output_to, error)

    def _write_blocking(self, fd: int, data: bytes) -> None:
        view = memoryview(data)
        while view and fd >= 0:
            try:
                view = view[os.write(fd, view):]
            except BlockingIOError:
                select.select((), (fd,), ())
            except OSError as error:
                self._drop_output(fd, error)
                return

    def _drop_output(self, fd: int, error: OSError) -> None:
        self._output = memoryview(b"")
        self._session.output_error = self._session.output_error or error
        for stream, candidate in self._output_fds.items():
            if candidate == fd:
                self._output_fds[stream] = -1

    def _take_input(self) -> bool:
        try:
            data = os.read(self._stdin_fd, protocol.MAX_PAYLOAD_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # EIO: the terminal hung up; EBADF: there never was one
        if not data:
            self._stop_input()
            self._post(protocol.MSG_STDIN_EOF)
            return False
        data, is_detached = self._keys.feed(data)
        if data:
            self._post(protocol.MSG_STDIN + data)
        return is_detached


def _find_terminal(*fds: int) -> int:
    return next((fd for fd in fds if fd >= 0 and os.isatty(fd)), -1)


def _is_file(fd: int) -> bool:
    return stat.S_ISREG(os.fstat(fd).st_mode)


def _is_writable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(0))
