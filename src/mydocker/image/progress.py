"""How far the layers of a pull or push are: what the transfer writes down, and whoever shows it reads.

Knows nothing of terminals. One thread writes a Transfer, others may read it at any time.
"""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    class Progress(Protocol):
        """Whoever shows a pull or push; `note` comes from any thread."""

        def begin(self, name: str, transfers: Sequence[Transfer]) -> None: ...
        def note(self, transfer: Transfer) -> None: ...
        def say(self, text: str) -> None: ...
        def end(self) -> None: ...

WAITING, MOVING, DONE, KEPT = "waiting", "moving", "done", "kept"


class Transfer:
    """One blob on its way.

    `state` is one of WAITING, MOVING, DONE, KEPT (it was there); `done` and `size` are bytes. The three times
    are what was spent waiting for the network, computing (inflating, hashing), and waiting for the disk.
    """

    __slots__ = ("cpu_s", "digest", "disk_s", "done", "network_s", "size", "state")

    def __init__(self, digest: str, size: int) -> None:
        self.digest = digest
        self.size = size
        self.done = 0
        self.state = WAITING
        self.network_s = 0.0
        self.cpu_s = 0.0
        self.disk_s = 0.0

    @property
    def short(self) -> str:
        """The digest as people see it."""
        return self.digest.rpartition(":")[2][:12]


class Silent:
    """Shows nothing."""

    def begin(self, name: str, transfers: Sequence[Transfer]) -> None:
        """Nothing."""

    def note(self, transfer: Transfer) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""
