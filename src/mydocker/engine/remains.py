"""Undoing what killed commands left of containers: loaded where there is some. recover.py looks for it."""
from __future__ import annotations

import os

from mydocker.base import files, log, paths
from mydocker.base.errors import Corrupt, MydockerError, NotFound
from mydocker.base.locks import lock_directory
from mydocker.linux.cgroup import group

from .publishing import withdraw_unrecorded
from .recover import remove_tree
from .store import Store, cgroups_path
from .volume_removal import discard_with_volumes, finish_removal


def undo_claim(store: Store, container_id: str, journal_fd: int) -> None:
    """Remove a container that was not made to its end. The caller holds the lock of its journal entry."""
    try:
        lock = lock_directory(store.layout.container(container_id), wait=False)
    except NotFound:
        if os.fstat(journal_fd).st_nlink:
            store.end_journal(container_id)
        return
    if lock is None:
        return
    with lock:
        # Looked at with both locks: a monitor ends the journal first and then releases the container.
        if not os.fstat(journal_fd).st_nlink:
            return
        log.debug("sweep unfinished container", container=container_id)
        remove_remains(store, container_id, volumes=True)


def remove_remains(store: Store, container_id: str, *, volumes: bool = False) -> None:
    """Remove a container of which only the directory, the name and the cgroup can be told. The caller holds its lock.

    With `volumes` go those that it alone could have: it never came to be, and nobody has written to them.
    """
    # Its processes are known by the cgroup that they are in, not by a pid that was stored.
    name, path = remains_of(store, container_id)
    withdraw_unrecorded(store, container_id)
    group.remove(path)
    if volumes:
        discard_with_volumes(store, container_id, name, remove_tree)
    else:
        remove_tree(store.discard(container_id, name))


def remains_of(store: Store, container_id: str) -> tuple[str, str]:
    """Return the name that a container of any condition has claimed, and its cgroup: of its record, else of the index.

    Without a record that can be read the cgroup is the one of its spec, or the default one: a container that was never
    recorded has none at all.
    """
    try:
        record = store.load(container_id)
        return record.name, record.cgroups_path
    except (NotFound, Corrupt):
        path = _cgroup_of_spec(store, container_id) or cgroups_path("", container_id)
        for name in os.listdir(store.layout.names):
            if store.id_of_name(name) == container_id:
                return name, path
        return container_id, path


def _cgroup_of_spec(store: Store, container_id: str) -> str:
    try:
        spec = files.load_json(f"{store.layout.container(container_id)}/{paths.BUNDLE}/{paths.RECORD}")
        path = spec["linux"]["cgroupsPath"]
    except (OSError, Corrupt, KeyError, TypeError):
        return ""  # broken, too
    # Only what was made for this container: a path of anything else's is not to be removed.
    return path if isinstance(path, str) and path.endswith(f"/{container_id}") else ""


def sweep_trash(store: Store) -> None:
    """Finish the removals that were begun; what cannot be removed (immutable files, a mount) stays, and keeps nothing else."""
    for entry in os.listdir(store.layout.trash):
        try:
            _finish_entry(store, entry)
        except (MydockerError, OSError) as error:
            log.debug("sweep trash", entry=entry, error=error)


def _finish_entry(store: Store, entry: str) -> None:
    path = f"{store.layout.trash}/{entry}"
    if entry.startswith("container@") and entry.count("@") == 3:
        _, container_id, name, _ = entry.split("@")
        store.release_name(name, container_id)
        finish_removal(store, path)
    remove_tree(path)
