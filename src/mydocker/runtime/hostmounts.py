"""The machine's own mounts, where a container's root depends on them: what it lies on, and the machine's root as a layer.

Source: proc_pid_mountinfo(5), kernel Documentation/filesystems/overlayfs.rst.
"""
from __future__ import annotations

import os

from mydocker.base import files
from mydocker.linux import syscalls as sc

from .rootfs import attach, open_filesystem

_PATH_DIR = sc.O_PATH | os.O_DIRECTORY


def find_mount_point(path: str) -> str:
    """Return the mount point that an absolute path without symbolic links lies on. Raises OSError."""
    points = [line.split(b" ", 5)[4] for line in files.read_bytes("/proc/self/mountinfo").splitlines()]
    # Only these four are escaped (proc_pid_mountinfo(5)); unescaped, the longest one that the path begins with is it.
    names = {os.fsdecode(point.replace(b"\\040", b" ").replace(b"\\011", b"\t").replace(b"\\012", b"\n").replace(b"\\134", b"\\"))
             for point in points}
    while path not in names and path != "/":
        path = os.path.dirname(path)
    return path


def mount_host_view(target: str) -> str:
    """Mount a read-only view of the machine's own root below `target`, and return its path.

    overlayfs refuses a lower directory that lies below another (ELOOP), and every directory of the engine's
    lies below `/`. Seen through an overlay of its own, `/` is another file system to it. That overlay wants
    two lower directories, the second one not below `/` either: both places are made in a tmpfs, which the
    container's root then covers. Raises OSError.
    """
    place = os.open(target, _PATH_DIR | os.O_CLOEXEC)
    attach(open_filesystem("tmpfs", "tmpfs", ("mode=700",), 0), place)
    for name in ("nothing", "view"):
        os.mkdir(f"{target}/{name}", 0o755)
    sc.mount("overlay", f"{target}/view", "overlay", sc.MS_RDONLY, f"lowerdir=/:{target}/nothing")
    return f"{target}/view"
