"""A pull or push on the way of a build: one more step, with a line for each layer."""
from __future__ import annotations

from .build_progress import TAIL_LINES, line_width
from .progress import PlainProgress, TerminalProgress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from mydocker.image.progress import Transfer

    from .build_progress import BuildProgress, StepProgress
    from .build_progress import TerminalProgress as BuildTerminal


class BuildTransfers(PlainProgress):
    """Lines of a step; there is no step where nothing is to be said, as of a base that is here."""

    def __init__(self, parent: BuildProgress, verb: str, name: str) -> None:
        super().__init__(-1, verb)
        self._parent = parent
        self._title = verb, name
        self._step: StepProgress | None = None

    def step(self) -> StepProgress:
        """Return the step, begun."""
        if self._step is None:
            self._step = self._parent.begin(*self._title)
        return self._step

    def begin(self, name: str, transfers: Sequence[Transfer]) -> None:
        """Begin the step, and tell what is there already."""
        self.step()
        super().begin(name, transfers)

    def say(self, text: str) -> None:
        """Tell something."""
        self.step().write("stdout", text.encode("utf-8", "backslashreplace") + b"\n")

    def close(self, error: str = "") -> None:
        """End the step."""
        if self._step is not None:
            self._step.end(error=error)
            self._step = None


class DrawnTransfers(BuildTransfers):
    """On a terminal: the layers that move are redrawn below the step."""

    def __init__(self, parent: BuildTerminal, verb: str, name: str) -> None:
        super().__init__(parent, verb, name)
        self._drawer = _Drawer(self, parent, verb)

    def begin(self, name: str, transfers: Sequence[Transfer]) -> None:
        """Start drawing."""
        self.step()
        self._drawer.begin(name, transfers)

    def note(self, transfer: Transfer) -> None:
        """Nothing: the next picture shows it."""

    def end(self) -> None:
        """Stop drawing."""
        self._drawer.end()


class _Drawer(TerminalProgress):
    def __init__(self, transfers: DrawnTransfers, screen: BuildTerminal, verb: str) -> None:
        super().__init__(-1, verb)
        self._owner = transfers
        self._screen = screen

    def _draw(self) -> None:
        self._screen.show(self._owner.step(), self._lines(line_width() - len(" => => "), TAIL_LINES))
