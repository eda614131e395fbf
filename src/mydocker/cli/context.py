"""What a command is given: its arguments, its output, and the engine, opened when first asked for."""
from __future__ import annotations

from mydocker.base import log
from mydocker.base.errors import MydockerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mydocker.engine.engine import Engine
    from mydocker.image.progress import Progress

    from .output import Output
    from .parse import Arguments


def _open_engine(root: str | None) -> Engine:
    from mydocker.engine.engine import Engine  # cold: help and version live without it

    engine = Engine(root, single_threaded=True)
    try:
        engine.recover()
    except (MydockerError, OSError) as error:
        # What a killed command left behind hinders nobody, so that failing to tidy it up must not either.
        log.debug("recover", error=error)
    return engine


class Context:
    """One command's surroundings; `close` closes the engine if it was opened."""

    __slots__ = ("_engine", "_open", "arguments", "debug", "output", "root")

    def __init__(
        self, arguments: Arguments, output: Output, *, root: str | None = None, debug: bool = False,
        open_engine: Callable[[str | None], Engine] | None = None,
    ) -> None:
        self.arguments = arguments
        self.output = output
        self.root = root
        self.debug = debug
        self._open = open_engine or _open_engine
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The engine of `--root`."""
        if self._engine is None:
            self._engine = self._open(self.root)
        return self._engine

    def open_progress(self, heading: str) -> Progress:
        """Return who shows how far a pull is, on standard error."""
        from .progress import open_progress  # cold

        return open_progress(self.output.error_fd, heading=heading)

    def close(self) -> None:
        """Close the engine."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def each(self, names: Iterable[str], act: Callable[[str], str | None]) -> int:
        """Do one thing to each name, going on after an error; return the exit code.

        What `act` returns is printed at once, a line each, as docker prints the names it is done with.
        """
        code = 0
        for name in names:
            try:
                done = act(name)
            except (MydockerError, OSError) as error:
                code = self.report(error)
                continue
            if done is not None:
                self.output.line(done)
                self.output.flush()
        return code

    def report(self, error: BaseException) -> int:
        """Write an error's one line (with --debug its traceback first) and return its exit code."""
        from .exitcodes import code_of, describe_error  # cold

        if self.debug:
            from traceback import format_exception  # cold

            self.output.write_error_bytes("".join(format_exception(error)).encode("utf-8", "backslashreplace"))
        self.output.error(*describe_error(error))
        return code_of(error)
