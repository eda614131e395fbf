"""`export`: a container's file system as one tar, as its processes see it, without what is mounted in it.

The layers are joined by the kernel: a read-only overlay of the container's write layer on its image, mounted in a mount
namespace that only one thread of ours has. The thread ends with the mount detached and open, so nothing is ever mounted on the
host, and a killed export leaves nothing. What the container writes meanwhile is seen or not, as with docker.
"""
from __future__ import annotations

import os

from mydocker.base import paths
from mydocker.base.errors import Conflict
from mydocker.linux.private_mounts import in_private_mounts
from mydocker.runtime.rootfs import mount_overlay
from mydocker.storage import snapshots
from mydocker.storage.diff import read_tree
from mydocker.storage.layer_locks import lock_layers

from .lifecycle import CREATING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from .store import ContainerRecord, Store


def export(store: Store, record: ContainerRecord, target: int | BinaryIO) -> None:
    """Write the tar to a descriptor or a binary file. Raises Conflict, NotFound (a layer is gone), OSError."""
    if record.status == CREATING:
        raise Conflict(f"export container {record.name}: it is still being made")
    directory = store.layout.container(record.id)
    with lock_layers(store.layout, record.layers):
        root_fd = open_merged(directory, tuple(record.config["lower_dirs"]))
    read = read_tree(root_fd)  # takes the descriptor over
    while data := read():
        if isinstance(target, int):
            view = memoryview(data)
            while view:
                view = view[os.write(target, view):]
        else:
            target.write(data)


def open_merged(directory: str, lower_dirs: tuple[str, ...]) -> int:
    """Return the root directory of the joined layers on a detached mount; the caller closes it. Raises RuntimeFailed, OSError."""
    def mount() -> int:
        place = f"{directory}/{paths.BUNDLE}/rootfs"
        mount_overlay(place, snapshots.reading_options(directory, lower_dirs))
        return os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    return in_private_mounts(mount)
