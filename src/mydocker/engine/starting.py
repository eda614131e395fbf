"""How a monitor stage comes to be: by a fork of this process, or of the launcher.

A command line is single-threaded and forks itself: nothing is imported twice. A program that embeds
the engine may have threads, whose locks a fork would copy in any state, so there a *launcher* forks: a
helper process that has imported everything, has one thread, and is fed over a socketpair
(launching.py, monitor/launcher.py). Both give the stage the same order.
"""
from __future__ import annotations

import os

from mydocker.base.errors import Unavailable

from .recover import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from .exec_stage import ExecStage
    from .stage import ContainerStage

    class Starter(Protocol):
        """Starts a monitor stage in a process of its own."""

        def start_container(self, order: ContainerStage) -> None: ...
        def start_exec(self, order: ExecStage) -> None: ...
        def delete(self, path: str) -> None: ...
        def close(self) -> None: ...


class ForkStarter:
    """Forks the calling process, which must have one thread and end soon (the kernel's init then reaps)."""

    def start_container(self, order: ContainerStage) -> None:
        """Fork a container's monitor stage."""
        from .stage import run_container_stage  # cold: exec does without

        if _fork() == 0:
            run_container_stage(order)

    def start_exec(self, order: ExecStage) -> None:
        """Fork an exec session's monitor stage."""
        from .exec_stage import run_exec_stage  # cold: run does without

        if _fork() == 0:
            run_exec_stage(order)

    def delete(self, path: str) -> None:
        """Delete a tree in the trash."""
        remove_tree(path)

    def close(self) -> None:
        """Nothing is held."""


def _fork() -> int:
    try:
        return os.fork()
    except OSError as error:
        raise Unavailable(f"fork: {os.strerror(error.errno or 0)}", hint="the limit of processes or memory is reached") from error
