"""What to undo when a later step fails: contextlib's ExitStack, as far as the start path needs it.

A start imports nothing else that wants `contextlib`, which brings `collections`, `functools` and `operator` with it: a
tenth of a cold command.
"""
from __future__ import annotations

from . import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import ParamSpec, Self

    P = ParamSpec("P")


class Undo:
    """Callbacks that run last first at the end of the `with`, unless `pop_all` was called: then everything stays.

    All of them run, whatever one raises. The error that made them run goes on; without one, the first of theirs does.
    """

    __slots__ = ("_callbacks",)

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], object]] = []

    def callback(self, function: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Have `function` called with these arguments."""
        self._callbacks.append(lambda: function(*args, **kwargs))

    def pop_all(self) -> None:
        """Forget them: all steps succeeded."""
        self._callbacks.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        first: BaseException | None = None
        while self._callbacks:
            try:
                self._callbacks.pop()()
            except BaseException as failure:
                log.debug("undo", error=repr(failure))
                first = first or failure
        if first is not None and error is None:
            raise first
