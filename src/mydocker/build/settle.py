"""A write layer becomes a layer: what its tar cannot say is taken off it, so that what runs here is what others unpack.

Afterwards the directory is what unpacking the layer's blob gives (`image verify` compares the two): times in whole
seconds, no sockets, none of overlayfs's own attributes but `opaque`, a root of mode 0755.
"""
from __future__ import annotations

import os
import stat

from mydocker.storage.unpack import OPAQUE_XATTR

_SECOND_NS = 1_000_000_000


def settle(directory: str, latest_ns: int | None = None) -> tuple[int, int]:
    """Make a directory that nobody writes to any more a layer; returns (bytes of files, number of entries).

    `latest_ns` bounds every time (SOURCE_DATE_EPOCH, reproducible-builds.org).
    """
    size = count = 0
    for path, below, names, fd in os.fwalk(directory, topdown=False, follow_symlinks=False):
        for name in (*names, *below):
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISSOCK(status.st_mode):
                os.unlink(name, dir_fd=fd)
                continue
            count += 1
            if stat.S_ISREG(status.st_mode):
                size += status.st_size
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                continue  # a whiteout has neither
            _clean_attributes(f"/proc/self/fd/{fd}/{name}")
            _set_time(name, fd, status, latest_ns)
        if path == directory:
            _clean_attributes(f"/proc/self/fd/{fd}")
            os.fchown(fd, 0, 0)
            os.fchmod(fd, 0o755)
    return size, count


def _clean_attributes(path: str) -> None:
    # The name is looked up in a directory by descriptor, and not followed. The root itself is a magic link of procfs.
    follows = path.rpartition("/")[0] == "/proc/self/fd"
    for attribute in os.listxattr(path, follow_symlinks=follows):
        if attribute.startswith(("trusted.overlay.", "user.overlay.")) and attribute != OPAQUE_XATTR:
            os.removexattr(path, attribute, follow_symlinks=follows)


def _set_time(name: str, directory_fd: int, status: os.stat_result, latest_ns: int | None) -> None:
    wanted_ns = max(status.st_mtime_ns // _SECOND_NS, 0) * _SECOND_NS
    if latest_ns is not None:
        wanted_ns = min(wanted_ns, latest_ns)
    if wanted_ns != status.st_mtime_ns:
        os.utime(name, ns=(wanted_ns, wanted_ns), dir_fd=directory_fd, follow_symlinks=False)
