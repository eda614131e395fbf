"""Paths of a container that are hidden, or made read-only, once everything else is mounted.

Source: runtime-spec config-linux.md "Masked Paths", "Readonly Paths".
"""
from __future__ import annotations

import os
import stat

from mydocker.base.record import Record
from mydocker.linux import syscalls as sc

from .devices import check_null
from .rootfs import Rootfs, attach, clone_fd, open_filesystem, set_attributes


class MaskPath(Record):
    """Hide a path: an empty read-only directory over a directory, /dev/null over anything else."""

    field: str
    path: str

    def apply(self, root: Rootfs) -> None:
        """Hide it; what does not exist needs no hiding."""
        target = _open_if_there(root, self.path)
        if target is None:
            return
        if stat.S_ISDIR(os.fstat(target).st_mode):
            mount = _open_nothing(root)
        else:
            mount = clone_fd(_open_null(root))
            # Read-only: otherwise chmod of the masked path would change the container's /dev/null.
            set_attributes(mount, sc.MOUNT_ATTR_RDONLY, 0)
        attach(mount, target)


def _open_if_there(root: Rootfs, path: str) -> int | None:
    try:
        return root.open(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _open_nothing(root: Rootfs) -> int:
    """Return a mount of the one empty directory that hides all directories: a file system for each would be a waste."""
    if root.empty_fd < 0:
        root.empty_fd = open_filesystem("tmpfs", "tmpfs", ("size=0k", "nr_inodes=2", "mode=755"), sc.MOUNT_ATTR_RDONLY)
        return os.dup(root.empty_fd)  # the first is attached, the others are copies of it
    return clone_fd(root.empty_fd)


def _open_null(root: Rootfs) -> int:
    if root.null_fd < 0:
        root.null_fd = os.open("/dev/null", sc.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)  # the host's, still in view
        check_null(root.null_fd)
    return root.null_fd


class ReadonlyPath(Record):
    """Make a path read-only by a bind of itself."""

    field: str
    path: str

    def apply(self, root: Rootfs) -> None:
        """Bind it read-only; what does not exist is left alone."""
        target = _open_if_there(root, self.path)
        if target is None:
            return
        mount = clone_fd(target, recursive=True)
        set_attributes(mount, sc.MOUNT_ATTR_RDONLY, 0, recursive=True)
        attach(mount, target)
