"""The user's terminal: raw mode and window size (termios(3), ioctl_tty(2)).

`termios` is imported when a terminal is there, not before.
"""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def window_size(fd: int) -> tuple[int, int]:
    """Return (rows, columns) of a terminal; raises OSError when `fd` is none."""
    import os  # os.get_terminal_size is TIOCGWINSZ, and needs no constant of termios

    columns, rows = os.get_terminal_size(fd)
    return rows, columns


def set_window_size(fd: int, rows: int, cols: int) -> None:
    """Set the size of a terminal, which sends SIGWINCH to its foreground processes. Raises OSError."""
    import fcntl
    import termios  # cold

    size = rows.to_bytes(2, "little") + cols.to_bytes(2, "little") + bytes(4)
    fcntl.ioctl(fd, termios.TIOCSWINSZ, size)


def pass_newlines(fd: int) -> None:
    """Have a terminal pass on a newline as it is, not as carriage return and newline. Raises OSError."""
    import termios  # cold

    attributes = termios.tcgetattr(fd)
    attributes[1] &= ~termios.ONLCR
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


class raw_terminal:
    """Context manager: the terminal in raw mode, as cfmakeraw(3) makes it, and always put back.

    With `keeps_output` it goes on turning a newline into a new line's start: for what comes from a terminal with `pass_newlines`.

    Does nothing when `fd` is no terminal. Every key, Ctrl-C too, is then a byte of input. Leaving
    restores what was there on entry, also when an exception (such as a caller's signal handler
    raising SystemExit) leaves the block.
    """

    __slots__ = ("_fd", "_keeps_output", "_saved")

    def __init__(self, fd: int, *, keeps_output: bool = False) -> None:
        self._fd = fd
        self._keeps_output = keeps_output
        self._saved: list[Any] | None = None

    def __enter__(self) -> raw_terminal:
        import termios  # cold

        try:
            saved = termios.tcgetattr(self._fd)
        except termios.error:
            return self
        raw = [*saved[:6], list(saved[6])]
        raw[0] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
            | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
        )
        if not self._keeps_output:
            raw[1] &= ~termios.OPOST
        raw[2] = raw[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        raw[6][termios.VMIN] = 1
        raw[6][termios.VTIME] = 0
        # Saved first: an exception between the two lines then restores what is there anyway. TCSANOW
        # keeps what was typed already, and does not wait for output that nobody reads.
        self._saved = saved
        try:
            termios.tcsetattr(self._fd, termios.TCSANOW, raw)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        import termios  # cold

        if self._saved is None:
            return
        saved, self._saved = self._saved, None
        try:
            # TCSADRAIN could wait for ever; but what the container wrote last was written raw.
            termios.tcsetattr(self._fd, termios.TCSANOW, saved)
        except termios.error:
            pass  # the terminal is gone (hang-up): there is nothing left to restore
