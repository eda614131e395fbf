"""Waiting for a process that this program started: signals passed on, a terminal relayed, its end turned into an exit code.

The process is our child, so its end is seen through its pidfd and its status is ours to reap. Signal handlers pass on
by themselves, at once; they need no loop.
"""
from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # `signal` itself imports enum
import os
import select

from mydocker.base.files import write_all
from mydocker.linux import pty
from mydocker.linux.process import signal_pidfd, wait_pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .notify import Notifications

#: What is not passed on: news for this process only, what cannot be caught, and faults of its own.
_OWN = frozenset((
    signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGURG, signal.SIGWINCH, signal.SIGTTIN,
    signal.SIGTTOU, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGPROF,
    signal.SIGXCPU, signal.SIGXFSZ, signal.SIGVTALRM,
))
_PIECE_BYTES = 1 << 16


def pass_signals_on(pidfd: int) -> None:
    """From now on, send each signal that asks something of this process to another one instead."""
    for number in range(1, 32):
        if number not in _OWN:
            signal.signal(number, lambda signum, _: signal_pidfd(pidfd, signum))


def attend(
    pid: int, pidfd: int, console: int, start: Callable[[], None], notifications: Notifications | None = None,
) -> int:
    """Start a child at READY, stay until it ends and reap it; return its exit code, 128 + N for signal N.

    `console` is its terminal's master, relayed to and from 0 and 1, or -1; `notifications` are passed on. Everything is in
    place before the command can say a word, because whoever hears it may answer at once. Raises what `start` raises.
    """
    pass_signals_on(pidfd)
    if console < 0:
        start()
        if notifications is not None:
            notifications.wait(pidfd)
        wait_pidfd(pidfd)
    else:
        # As runc: whoever reads our output through a pipe gets lines as the command wrote them.
        pty.pass_newlines(console)
        with pty.raw_terminal(0, keeps_output=True):
            _follow_window(console)
            signal.signal(signal.SIGWINCH, lambda *_: _follow_window(console))
            start()
            _relay(pidfd, console, notifications)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code


def _follow_window(console: int) -> None:
    for fd in (0, 1, 2):
        try:
            rows, columns = pty.window_size(fd)
            pty.set_window_size(console, rows, columns)
            return
        except OSError:
            continue  # no terminal


def _relay(pidfd: int, console: int, notifications: Notifications | None) -> None:
    """Copy both ways until the process ends. Neither waits for the other: a terminal takes no input before we took its output."""
    poll = select.poll()
    if notifications is not None:
        poll.register(notifications, select.POLLIN)
    for fd in (0, console, pidfd):
        poll.register(fd, select.POLLIN)
    os.set_blocking(console, False)
    pending = b""
    while True:
        ready = dict(poll.poll())
        if ready.get(console, 0) & ~select.POLLOUT and not _copy_output(console):
            poll.unregister(console)  # every process has closed the terminal; the end is near
        if pidfd in ready:
            while _copy_output(console):
                pass
            return
        if notifications is not None and notifications.fileno() in ready and notifications.pass_on():
            poll.unregister(notifications)
            notifications = None
        if 0 in ready:
            poll.unregister(0)
            pending = _read_input()
        elif not ready.get(console, 0) & select.POLLOUT:
            continue
        if pending and not (pending := _write_input(console, pending)):
            poll.register(0, select.POLLIN)
            poll.register(console, select.POLLIN)
        elif pending:
            poll.register(console, select.POLLIN | select.POLLOUT)


def _copy_output(console: int) -> bool:
    """Copy a piece of the process's output; False when there is none now, or none will come."""
    try:
        data = os.read(console, _PIECE_BYTES)
    except OSError:
        return False  # EAGAIN: nothing there; EIO: the other end is closed (pty(7))
    if not data:
        return False
    try:
        write_all(1, data)
    except OSError:
        pass  # our reader is gone: the process must not wait for it
    return True


def _read_input() -> bytes:
    """Return a piece of our input; nothing at its end."""
    try:
        return os.read(0, _PIECE_BYTES)
    except OSError:
        return b""


def _write_input(console: int, data: bytes) -> bytes:
    """Write what the terminal takes now; return the rest."""
    try:
        return data[os.write(console, data) :]
    except BlockingIOError:
        return data
    except OSError:
        return b""  # every process has closed it
