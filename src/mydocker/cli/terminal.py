"""Foreground sessions: this terminal or these pipes, connected to a container until it ends or is left.

Owns what the engine's sessions leave to their caller: raw mode, which signals are passed on, detach keys,
and that the terminal is put back whatever happens. The loop itself is Session.relay.
"""
from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # `signal` itself imports enum
import errno
import os
import select

from mydocker.base.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from mydocker.engine.containers import Container
    from mydocker.engine.sessions import LiveSession

    from .context import Context

#: Passed on where the terminal does not make bytes of them; the rest is ours (SIGTSTP stops us, not the container).
_PROXIED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)
#: End a terminal session; Ctrl-C and Ctrl-\\ are bytes there, so that these signals come from elsewhere.
_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
#: As pid 1 of its namespace a program without a handler does not feel SIGINT (pid_namespaces(7)): insisting kills.
_INSISTENT = 3
_CONTROL_KEYS = {**{chr(ord("a") + number): number + 1 for number in range(26)},
                 "@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


class _Ended(BaseException):
    """A signal ends this command: carried up past everything that has a terminal to restore."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def check_terminal(context: Context, *, tty: bool, interactive: bool) -> None:
    """Refuse what cannot be relayed, before anything is made: input that is no terminal, keys that are none.

    Raises InvalidRequest.
    """
    parse_detach_keys(context.arguments["detach_keys"])
    if tty and interactive and not os.isatty(0):
        raise InvalidRequest("the input device is not a TTY", hint="use -i without -t for input from a pipe or file")


def parse_detach_keys(text: str) -> bytes:
    """Return the bytes that keys such as `ctrl-p,ctrl-q` or `a` send; none for an empty text. Raises InvalidRequest."""
    found = bytearray()
    for key in text.split(",") if text else ():
        control = key[5:].lower() if key.lower().startswith("ctrl-") else ""
        if control in _CONTROL_KEYS:
            found.append(_CONTROL_KEYS[control])
        elif len(key) == 1 and key.isascii():
            found += key.encode()
        else:
            raise InvalidRequest(f"detach-keys: {key!r} is not a key", hint="write such as ctrl-p,ctrl-q or ctrl-x,x")
    return bytes(found)


def console_size() -> tuple[int, int] | None:
    """Return (rows, columns) of this terminal, for the one inside to have from its first instant on; None where none is."""
    from mydocker.linux.pty import window_size

    for fd in (0, 1):
        try:
            return window_size(fd)
        except OSError:
            continue  # no terminal
    return None


def relay(context: Context, session: LiveSession, *, tty: bool, interactive: bool, proxy: bool = True) -> int:
    """Relay a session until its end and return the container's exit code; 0 when the user left it running."""
    keys = parse_detach_keys(context.arguments["detach_keys"])
    context.output.flush()
    with session:
        try:
            if tty and interactive:
                _relay_raw(session, keys)
            else:
                signals = (*_PROXIED, signal.SIGPIPE) if proxy else (signal.SIGPIPE,)
                session.relay(0 if interactive else -1, 1, 2, tty=tty, detach_keys=keys, signals=signals,
                              on_signal=_make_proxy(session, proxy))
        except _Ended as ended:
            return 128 + ended.signum
        if session.exit is None:  # left by the detach keys; the monitor does what `finish` would have done
            context.output.line("")
            return 0
        code = session.finish()
    lost = _tell_of_lost_output(context, session)
    return code or lost


def _tell_of_lost_output(context: Context, session: LiveSession) -> int:
    """Say that some output could not be written, and return an exit code for that; 0 when nobody was to read it any more."""
    error = session.output_error
    if error is None or error.errno == errno.EPIPE:
        return 0
    context.output.error(f"write the container's output: {os.strerror(error.errno or 0).lower()}")
    return 125


def _relay_raw(session: LiveSession, keys: bytes) -> None:
    """Relay with the terminal in raw mode; signals end us only after it was put back."""
    from mydocker.linux.pty import raw_terminal

    gate = _EndGate()
    replaced = {signum: signal.signal(signum, gate.take) for signum in _ENDING}
    try:
        with raw_terminal(0):
            gate.relay(lambda: session.relay(0, 1, 2, tty=True, detach_keys=keys))
    finally:
        for signum, handler in replaced.items():
            signal.signal(signum, handler)
    if gate.signum:
        raise _Ended(gate.signum)


class _EndGate:
    """Lets a signal end the relay, and nothing else: an exception in the middle of changing the terminal's mode, one way or
    the other, would leave it raw. Python runs handlers between any two instructions.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._is_open = False

    def take(self, signum: int, _: FrameType | None) -> None:
        """Handle a signal: remember it, and end the relay if it runs. Only the first counts."""
        self.signum = self.signum or signum
        if self._is_open:
            self._is_open = False
            raise _Ended(self.signum)

    def relay(self, run: Callable[[], object]) -> None:
        """Run the relay until its end or a signal, not at all when one came before."""
        try:
            self._is_open = True
            if not self.signum:
                run()
            self._is_open = False
        except _Ended:
            pass  # `signum` tells, after the terminal was put back
        finally:
            self._is_open = False


def _make_proxy(session: LiveSession, proxy: bool) -> Callable[[int], None]:
    insisted = 0

    def pass_on(signum: int) -> None:
        nonlocal insisted
        if signum == signal.SIGPIPE and not is_reader_gone(1):
            return  # it was the monitor that went, which the session will tell
        insisted += signum in (signal.SIGINT, signal.SIGTERM)
        try:
            if proxy:
                session.kill(signal.SIGKILL if insisted >= _INSISTENT else signum)
        except OSError:
            pass  # it has just ended, which the session will tell
        if signum == signal.SIGPIPE:
            # `run IMAGE yes | head -1`: who writes for nobody gets SIGPIPE. A program that does not mind (as pid 1
            # does not) goes on without us, like a docker container, instead of being killed in its clean shutdown.
            raise _Ended(signum)
    return pass_on


def is_reader_gone(fd: int) -> bool:
    """Tell whether `fd` is a pipe or socket that nobody reads any more."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def attach(context: Context, container: Container, *, stdin: bool, proxy: bool) -> int:
    """Connect to a container that runs, in the way it was made (terminal or not)."""
    tty, interactive = _shape(context, container, stdin)
    session = container.attach(stdin=interactive)
    if tty and (size := console_size()):
        # The relay sets the true size at once. A change makes the program inside draw its prompt or screen again for who
        # comes back at the same size; docker does so, too.
        session.resize(size[0] + 1, size[1] + 1)
    return relay(context, session, tty=tty, interactive=interactive, proxy=proxy)


def start_attached(context: Context, container: Container, *, stdin: bool, proxy: bool) -> int:
    """Start a container and stay connected to it."""
    tty, interactive = _shape(context, container, stdin)
    session = container.open_start(stdin=interactive, console_size=console_size() if tty else None)
    return relay(context, session, tty=tty, interactive=interactive, proxy=proxy)


def _shape(context: Context, container: Container, stdin: bool) -> tuple[bool, bool]:
    config = container.record["config"]
    tty, interactive = bool(config["tty"]), bool(config["interactive"]) and stdin
    check_terminal(context, tty=tty, interactive=interactive)
    return tty, interactive
