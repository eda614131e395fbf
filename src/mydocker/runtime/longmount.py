"""A mount with options that are too long for fsconfig(2), which takes 255 bytes of each: by mount(2), which takes a page.

Source: mount(2), fsconfig(2), proc_pid_mountinfo(5).
"""
from __future__ import annotations

import os

from mydocker.base import files
from mydocker.base.errors import Denied
from mydocker.linux import syscalls as sc
from mydocker.linux.private_mounts import mount_id_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .rootfs import Rootfs


def mount_long(
    root: Rootfs, target: int, destination: str, fstype: str, source: str, flags: int, data: tuple[str, ...]
) -> int:
    """Mount a new file system on a target, which `destination` leads to; returns a descriptor of it, to be closed.

    mount(2) gives none, and a descriptor of the target is below the mount. So the way is gone a second time; whoever shares
    a directory on it may have made it lead to another mount meanwhile. Raises Denied then, and OSError.
    """
    known = mount_ids()
    sc.mount(source or None, f"/proc/self/fd/{target}", fstype, flags, ",".join(data) or None)
    mount = root.open(destination, sc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if mount_id_of(mount) in known:
        os.close(mount)
        raise Denied(f"mount on {destination}: the way there has changed meanwhile")
    return mount


def mount_ids() -> set[int]:
    """Return the ids of all mounts of this process's mount namespace."""
    return {int(line.split(b" ", 1)[0]) for line in files.read_bytes("/proc/self/mountinfo").splitlines()}
