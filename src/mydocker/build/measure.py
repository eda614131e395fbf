"""What is in a new layer's directory: counted for its record, and its times bounded for builds that are to repeat."""
from __future__ import annotations

import os
import stat


def measure(directory: str) -> tuple[int, int]:
    """Return (bytes of files, number of entries)."""
    size = count = 0
    for _, below, names, fd in os.fwalk(directory, follow_symlinks=False):
        count += len(below) + len(names)
        for name in names:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                size += status.st_size
    return size, count


def clamp_times(directory: str, latest_ns: int) -> None:
    """Set every time later than `latest_ns` to it (SOURCE_DATE_EPOCH, reproducible-builds.org)."""
    for _, below, names, fd in os.fwalk(directory, topdown=False, follow_symlinks=False):
        for name in (*names, *below):
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            is_whiteout = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
            if status.st_mtime_ns > latest_ns and not is_whiteout:
                os.utime(name, ns=(latest_ns, latest_ns), dir_fd=fd, follow_symlinks=False)
