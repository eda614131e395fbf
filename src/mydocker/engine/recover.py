"""Finishing what a killed command left: unlocked journal entries, trash, ended containers nobody recorded.

`sweep` costs two directory listings when there is nothing to do, so commands call it freely. Every
step is idempotent and takes only locks that are free: what is locked is being worked on.
"""
from __future__ import annotations

import fcntl
import os

from mydocker.base import log
from mydocker.base.errors import MydockerError

from .store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.base.paths import Layout


def sweep(layout: Layout) -> None:
    """Remove the leftovers of killed commands."""
    store = Store(layout)
    for container_id in os.listdir(layout.creating):
        try:
            _sweep_claim(store, container_id)
        except (MydockerError, OSError) as error:
            # A process of it is stuck in the kernel, perhaps: that must keep nobody else's leftovers.
            log.debug("sweep", container=container_id, error=error)
    if os.listdir(layout.trash):
        from .remains import sweep_trash  # cold: where a command was killed, as with the next

        sweep_trash(store)
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
        from .remains import undo_claim  # cold

        undo_claim(store, container_id, fd)
    except BlockingIOError:
        return  # alive: its maker, or the monitor stage that inherited the lock
    finally:
        os.close(fd)


def remove_tree(path: str) -> None:
    """Delete a tree in the trash; somebody else may be at it, too."""
    from mydocker.storage import trash  # cold: most commands delete nothing

    trash.remove_tree(path)
