"""Finishing what a killed command left: unlocked journal entries, trash, ended containers nobody recorded.

`sweep` costs two directory listings when there is nothing to do, so commands call it freely. Every
step is idempotent and takes only locks that are free: what is locked is being worked on.
"""
from __future__ import annotations

import fcntl
import os

from mydocker.base import files, log, paths
from mydocker.base.errors import Corrupt, NotFound
from mydocker.base.locks import lock_directory
from mydocker.linux.cgroup import group

from .store import Store, cgroups_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.base.paths import Layout


def sweep(layout: Layout) -> None:
    """Remove the leftovers of killed commands."""
    store = Store(layout)
    for container_id in os.listdir(layout.creating):
        _sweep_claim(store, container_id)
    if os.listdir(layout.trash):
        _sweep_trash(store)
    if any(entry.endswith((".json", ".tmp")) and entry != "bridge.json" for entry in os.listdir(layout.networks)):
        from .resolvers import tidy_networks  # cold: where somebody has made a network, or was killed in making one

        tidy_networks(layout)


def ensure_resolvers(layout: Layout, names: list[str]) -> None:
    """See that the resolvers of users' networks run (naming.py). Raises NotFound, Unavailable."""
    if names:
        from .resolvers import ensure_resolvers as ensure  # cold: the default network has none

        ensure(layout, names)


def _sweep_claim(store: Store, container_id: str) -> None:
    path = f"{store.layout.creating}/{container_id}"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return  # just finished
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _undo_claim(store, container_id, fd)
    except BlockingIOError:
        return  # alive: its maker, or the monitor stage that inherited the lock
    finally:
        os.close(fd)


def _undo_claim(store: Store, container_id: str, journal_fd: int) -> None:
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
        name, path = remains_of(store, container_id)
        from .publishing import withdraw_unrecorded  # cold

        withdraw_unrecorded(store, container_id)
        group.remove(path)
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


def _sweep_trash(store: Store) -> None:
    for entry in os.listdir(store.layout.trash):
        path = f"{store.layout.trash}/{entry}"
        kind, _, rest = entry.partition("@")
        if kind == "container":
            container_id, name, _ = rest.split("@", 2)
            store.release_name(name, container_id)
        remove_tree(path)


def remove_tree(path: str) -> None:
    """Delete a tree in the trash; somebody else may be at it, too."""
    from mydocker.storage import trash  # cold: most commands delete nothing

    trash.remove_tree(path)
