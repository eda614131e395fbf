"""Shared locks that keep layers from removal while what names them is being written; removal takes an exclusive one."""
from __future__ import annotations

from mydocker.base import locks
from mydocker.base.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from mydocker.base.locks import DirectoryLock
    from mydocker.base.paths import Layout


class LayerLocks:
    """Shared locks on layers, held until a record or index that names them is written."""

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        self._locks: list[DirectoryLock] = []

    def add(self, layout: Layout, chain_id: str) -> None:
        """Lock one more layer. Raises NotFound when it is not there."""
        lock = locks.lock_directory(layout.layer(chain_id), shared=True)
        assert lock is not None  # it waits
        self._locks.append(lock)

    def adopt(self, lock: DirectoryLock) -> None:
        """Take over a lock that is held already."""
        self._locks.append(lock)

    def close(self) -> None:
        """Drop all."""
        for lock in self._locks:
            lock.close()
        self._locks.clear()

    def __enter__(self) -> LayerLocks:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def lock_layers(layout: Layout, chain_ids: Iterable[str]) -> LayerLocks:
    """Return shared locks on layers: none of them is removed until `close`. Raises NotFound."""
    held = LayerLocks()
    try:
        for chain_id in chain_ids:
            held.add(layout, chain_id)
    except NotFound:
        held.close()
        raise NotFound(
            "lock layers: the image was removed at this moment", hint="list what there is: mydocker images"
        ) from None
    except BaseException:
        held.close()
        raise
    return held
