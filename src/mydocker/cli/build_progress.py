"""How a build shows itself on standard error: plain lines, or on a terminal the running steps with their last output.

Steps of stages that run side by side are told apart by number; output of a step comes behind `#N`.
"""
from __future__ import annotations

import os
import time
from _thread import allocate_lock

from mydocker.base.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from .build_transfers import BuildTransfers
    from .output import Output

_KINDS = ("auto", "plain", "tty", "quiet")
#: How many lines of a step are seen.
TAIL_LINES = 6
_REDRAW_S = 0.1


def choose_progress(output: Output, kind: str) -> BuildProgress:
    """Return the progress for `auto`, `plain`, `tty` or `quiet`. Raises InvalidRequest."""
    if kind not in _KINDS:
        raise InvalidRequest(f"progress {kind!r} is unknown", hint=f"there are {', '.join(_KINDS)}")
    if kind == "quiet":
        return QuietProgress(output)
    if kind == "tty" or (kind == "auto" and os.isatty(2)):
        return TerminalProgress(output)
    return BuildProgress(output)


class BuildProgress:
    """Plain lines."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._count = 0
        self.lock = allocate_lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, name: str, text: str) -> StepProgress:
        """Announce a step."""
        with self.lock:
            self._count += 1
            step = StepProgress(self, self._count, f"[{name}] {' '.join(text.split())}")
            self.opened(step)
        return step

    def transfer(self, verb: str, name: str) -> BuildTransfers:
        """Return who shows a `pull` or `push`, as a step."""
        from .build_transfers import BuildTransfers  # cold: only where a registry is asked

        return BuildTransfers(self, verb, name)

    def warn(self, text: str) -> None:
        """Show a warning."""
        with self.lock:
            self.emit(f"[Warning] {text}\n")

    def close(self) -> None:
        """Leave the screen as it is to stay."""

    # --- called by steps, with the lock held ---------------------------------------------------------------

    def emit(self, text: str) -> None:
        """Write a piece of text."""
        self._output.write_error_bytes(text.encode("utf-8", "backslashreplace"))

    def opened(self, step: StepProgress) -> None:
        """Show that a step begins."""
        self.emit(f"#{step.number} {step.title}\n")

    def wrote(self, step: StepProgress, line: str) -> None:
        """Show a line of a step's output."""
        self.emit(f"#{step.number} {time.monotonic() - step.since:.3f} {line}\n")

    def closed(self, step: StepProgress, word: str) -> None:
        """Show how a step ended."""
        self.emit(f"#{step.number} {word}\n")


class QuietProgress(BuildProgress):
    """Nothing, but the output of a step that failed."""

    def opened(self, step: StepProgress) -> None:
        """Nothing is shown."""

    def wrote(self, step: StepProgress, line: str) -> None:
        """Nothing is shown yet."""

    def closed(self, step: StepProgress, word: str) -> None:
        """Show what a failed step wrote last."""
        if word.startswith("ERROR"):
            self.emit("".join(f"{line}\n" for line in step.tail))

    def warn(self, text: str) -> None:
        """Nothing is shown."""


class TerminalProgress(BuildProgress):
    """Finished steps as lines; below them the running ones, redrawn in place."""

    def __init__(self, output: Output) -> None:
        super().__init__(output)
        self._running: list[StepProgress] = []
        self._drawn = 0
        self._last = 0.0

    def opened(self, step: StepProgress) -> None:
        """Add it to what is redrawn."""
        self._running.append(step)
        self._redraw()

    def wrote(self, step: StepProgress, line: str) -> None:
        """Redraw, not too often."""
        if time.monotonic() - self._last > _REDRAW_S:
            self._redraw()

    def closed(self, step: StepProgress, word: str) -> None:
        """Turn it into a line that stays."""
        self._running.remove(step)
        mark = " => ERROR" if word.startswith("ERROR") else " => CACHED" if word == "CACHED" else " =>"
        tail = "".join(f"    {_shown(line)}\n" for line in step.tail) if word.startswith("ERROR") else ""
        self._redraw(f"{_cut(f'{mark} {step.title}')}  {time.monotonic() - step.since:.1f}s\n{tail}")

    def transfer(self, verb: str, name: str) -> BuildTransfers:
        """Return who shows a pull or push by lines that are redrawn."""
        from .build_transfers import DrawnTransfers  # cold: only where a registry is asked

        return DrawnTransfers(self, verb, name)

    def show(self, step: StepProgress, lines: list[str]) -> None:
        """Have these lines below a step, in place of those that were there."""
        with self.lock:
            step.tail = lines
            self._redraw()

    def warn(self, text: str) -> None:
        """Show a warning above what is redrawn."""
        with self.lock:
            self._redraw(f"[Warning] {text}\n")

    def close(self) -> None:
        """Remove what was drawn of steps that never ended."""
        with self.lock:
            self._running.clear()
            self._redraw()

    def _redraw(self, above: str = "") -> None:
        lines = []
        for step in self._running:
            lines.append(_cut(f" => {step.title}"))
            lines += [_shown(f" => => {line}")[:line_width()] for line in step.tail[-TAIL_LINES:]]
        back = f"\x1b[{self._drawn}A\x1b[J" if self._drawn else ""
        self.emit(back + above + "".join(f"{line}\n" for line in lines))
        self._drawn, self._last = len(lines), time.monotonic()


def line_width() -> int:
    """Return how long a line may be that stays on one row."""
    try:
        width = os.get_terminal_size(2).columns or 80  # a terminal that was given no size
    except OSError:
        width = 100
    return max(width - 1, 20)


def _cut(text: str) -> str:
    return _shown(text)[:line_width() - 8]  # the time comes behind it


def _shown(text: str) -> str:
    """Return a text that moves no cursor and sets no title, whatever a step wrote."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


class StepProgress:
    """One step: its output is cut into lines."""

    def __init__(self, parent: BuildProgress, number: int, title: str) -> None:
        self._parent = parent
        self.number = number
        self.title = title
        self.since = time.monotonic()
        self.tail: list[str] = []
        self._rest: dict[str, bytes] = {}

    def write(self, stream: str, data: bytes) -> None:
        """Take output of the step."""
        *lines, rest = (self._rest.get(stream, b"") + data).split(b"\n")
        self._rest[stream] = rest[-65536:]
        for line in lines:
            self._line(line)

    def _line(self, data: bytes) -> None:
        text = data.decode("utf-8", "backslashreplace").rstrip("\r")
        with self._parent.lock:
            self.tail = [*self.tail[-49:], text]
            self._parent.wrote(self, text)

    def end(self, *, cached: bool = False, error: str = "") -> None:
        """Say how the step ended."""
        for rest in self._rest.values():
            if rest:
                self._line(rest)
        self._rest.clear()
        word = f"ERROR: {error}" if error else "CACHED" if cached else f"DONE {time.monotonic() - self.since:.1f}s"
        with self._parent.lock:
            self._parent.closed(self, word)
