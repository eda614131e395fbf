"""`rm`: removing a container, by force a running one, one in the making and one whose record cannot be read."""
from __future__ import annotations

from mydocker.base import log, trace
from mydocker.base.errors import Conflict, Corrupt, NotFound, Timeout
from mydocker.linux.cgroup import group

from . import recover
from .ending import await_end, current, kill_whole, release, remove_locked
from .lifecycle import ALIVE, CREATED, CREATING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .store import ContainerRecord, Store

#: How long a removal waits for the end to be recorded, which nobody will ask for.
_REMOVAL_PATIENCE_S = 5.0


def remove(
    store: Store, container_id: str, *, force: bool = False, volumes: bool = False,
    delete: Callable[[str], object] = recover.remove_tree,
) -> None:
    """Remove a container, with `volumes` its anonymous volumes, too.

    Raises Conflict when it runs and `force` is not set, NotFound, Corrupt (not with `force`).
    """
    try:
        record = current(store, container_id)
    except (Corrupt, NotFound) as error:
        if not force:
            raise
        from .remains import remove_remains  # cold

        log.debug("remove unreadable", container=container_id, error=error)
        with store.lock(container_id, force=True):
            remove_remains(store, container_id)
        return
    if record.status in ALIVE and record.status != CREATED and not force:
        raise Conflict(
            f"remove container {record.name}: it is {record.status}", hint="stop it first, or remove it with -f")
    if record.status in ALIVE:
        if not kill_whole(store, record):
            _kill_cgroup(record)
        trace.point("killed to remove")
        try:
            await_end(store, record, _REMOVAL_PATIENCE_S)
        except Timeout as error:
            log.debug("remove without the end", container=container_id, error=error)  # which nobody will ask for
    with store.lock(container_id, force=force):
        _remove_ended(store, container_id, force=force, volumes=volumes, delete=delete)


def _kill_cgroup(record: ContainerRecord) -> None:
    """Kill what is left of a container whose recorded process is gone: whatever its record says, that is in its cgroup."""
    try:
        group.Cgroup.open(record.cgroups_path).kill()
    except NotFound:
        pass  # nothing is left


def _remove_ended(store: Store, container_id: str, *, force: bool, volumes: bool, delete: Callable[[str], object]) -> None:
    record = current(store, container_id)
    if record.status in ALIVE and not force:
        # Started again between our look and the lock.
        raise Conflict(f"remove container {record.name}: it is {record.status}", hint="stop it first, or remove it with -f")
    if record.status in ALIVE:
        kill_whole(store, record)
        trace.point("killed to remove")
    if record.status == CREATING:
        from .remains import remove_remains  # cold: whoever made it was killed

        remove_remains(store, container_id, volumes=True)
        return
    release(store, record)
    remove_locked(store, record, delete, volumes=volumes)
