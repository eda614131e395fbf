"""`--no-pivot`: entering a container's root where pivot_root(2) cannot: the host's is the initial ramdisk.

The new root is moved over the old one and becomes this process's by chroot(2). The old one stays below it, so a process that
may call chroot could come back to it: what is unmasked there, above all a procfs and a sysfs with nothing hidden, is
taken away first, as in runc. Whoever can should use pivot_root.

Source: pivot_root(2) "rootfs", mount(2) MS_MOVE.
"""
from __future__ import annotations

import errno
import os

from mydocker.base import files
from mydocker.linux import syscalls as sc

from .rootfs import attach, open_filesystem

_SHOWING = (b"proc", b"sysfs")


def move_root() -> None:
    """Make the working directory, which is mounted, the root of this process, in a mount namespace of its own. Raises OSError."""
    inside = os.getcwd()
    for path in _mounts_of(_SHOWING):
        if path != inside and not path.startswith(f"{inside}/"):
            _take_away(path)
    sc.mount(".", "/", None, sc.MS_MOVE, None)
    os.chroot(".")
    os.chdir("/")


def _mounts_of(kinds: tuple[bytes, ...]) -> list[str]:
    """Return the mount points of file systems of some kinds, the last one first."""
    found = []
    for line in files.read_bytes("/proc/self/mountinfo").splitlines():
        before, _, behind = line.partition(b" - ")
        if behind.split(b" ", 1)[0] in kinds:
            found.append(os.fsdecode(before.split(b" ")[4]))
    return found[::-1]


def _take_away(path: str) -> None:
    try:
        sc.umount2(path, sc.MNT_DETACH | sc.UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
        # Locked to what lies around it, in a user namespace (mount_namespaces(7)): then it is covered.
        place = os.open(path, sc.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        attach(open_filesystem("tmpfs", "tmpfs", ("size=0k", "nr_inodes=2"), sc.MOUNT_ATTR_RDONLY), place)
