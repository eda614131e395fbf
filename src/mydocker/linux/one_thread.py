"""Work in a thread of its own, for what the kernel keeps for each thread: namespaces, ids for files, capabilities.

The thread ends with the work, and what it changed of itself with it.
"""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")


def in_thread(name: str, work: Callable[[], T]) -> T:
    """Return what `work` does in a new thread, when it has ended; raises what it raises."""
    import threading  # cold

    found: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name=f"mydocker-{name}", daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return found[0]
