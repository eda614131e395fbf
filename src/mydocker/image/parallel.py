"""Several transfers at a time, in threads: the first failure, or the user's ctrl-C, ends them all.

Not Thread.join: interrupted, it takes a running thread for ended (CPython before 3.13), and who waits for an end must not
be left waiting for a server that does not answer.
"""
from __future__ import annotations

import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    J = TypeVar("J")

#: How long threads may take to notice that all is over. One that does not is left alone; it lets go of what it has by itself.
_PATIENCE_S = 2.0


def run(jobs: Sequence[J], work: Callable[[J], None], stop: Callable[[], None], *, at_a_time: int) -> None:
    """Do `work` on each job; raises what the first failure raised, after `stop` made the others fail."""
    waiting = list(reversed(jobs))
    failures: list[BaseException] = []
    ended = threading.Semaphore(0)

    def go_on() -> None:
        # list.pop and list.append are atomic; a failure keeps the others from beginning anything.
        try:
            while waiting and not failures:
                try:
                    job = waiting.pop()
                except IndexError:
                    return
                try:
                    work(job)
                except BaseException as error:
                    failures.append(error)
                    stop()
        finally:
            ended.release()

    running = min(len(jobs), at_a_time)
    for _ in range(running):
        threading.Thread(target=go_on, name="mydocker-transfer", daemon=True).start()
    try:
        while running and not failures:
            running -= ended.acquire(timeout=0.5)
    except BaseException as error:  # ctrl-C
        failures.append(error)
        stop()
    deadline = time.monotonic() + _PATIENCE_S
    while running and (left_s := deadline - time.monotonic()) > 0:
        running -= ended.acquire(timeout=left_s)
    if failures:
        raise failures[0]
