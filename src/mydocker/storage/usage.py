"""What trees take on the disk: the blocks that du(1) counts, each hard link once.

Owns nothing. Trees may be a container's: directories are opened by descriptor and never through a link, and other file
systems below are left out (nothing is ever mounted there).
"""
from __future__ import annotations

import errno
import os
import stat

from mydocker.linux import beneath

#: Names this long are opened below a directory nearer to them: openat2(2) takes 4095 bytes.
_ANCHOR_BYTES = 2000
_BLOCK_BYTES = 512


class DiskUsage:
    """Counts trees one after the other; an inode with several names counts where it is met first."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()

    def measure(self, path: str) -> int:
        """Return the bytes on disk of a file or tree; 0 when it is not there. What vanishes meanwhile is left out."""
        try:
            status = os.stat(path, follow_symlinks=False)
        except FileNotFoundError:
            return 0
        total = self._count(status)
        if not stat.S_ISDIR(status.st_mode):
            return total
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return total
        return total + self._measure_below(fd, status.st_dev)

    def measure_alone(self, path: str) -> int:
        """Return the bytes of a file or directory without what is below it."""
        try:
            return self._count(os.stat(path, follow_symlinks=False))
        except FileNotFoundError:
            return 0

    def measure_entries(self, directory: str) -> tuple[int, dict[str, int]]:
        """Return the bytes of a directory of ours with all below it, and of each entry."""
        try:
            names = sorted(os.listdir(directory))
        except FileNotFoundError:
            return 0, {}
        sizes = {name: self.measure(f"{directory}/{name}") for name in names}
        return self.measure_alone(directory) + sum(sizes.values()), sizes

    def _measure_below(self, root_fd: int, device: int) -> int:
        total = 0
        # (directory to open below, path): an empty path closes it, when all below it is done.
        waiting: list[tuple[int, bytes]] = [(root_fd, b""), (root_fd, b".")]
        while waiting:
            anchor_fd, path = waiting.pop()
            if not path:
                os.close(anchor_fd)
                continue
            try:
                fd = beneath.open_beneath(anchor_fd, path, os.O_RDONLY | os.O_DIRECTORY)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    raise
                continue  # gone, or replaced by a link or a file, meanwhile
            if os.fstat(fd).st_dev != device:
                os.close(fd)
                continue
            if len(path) > _ANCHOR_BYTES:
                waiting.append((fd, b""))
                total += self._measure_directory(fd, fd, b".", waiting)
            else:
                total += self._measure_directory(fd, anchor_fd, path, waiting)
                os.close(fd)
        return total

    def _measure_directory(self, fd: int, anchor_fd: int, path: bytes, waiting: list[tuple[int, bytes]]) -> int:
        total = 0
        with os.scandir(fd) as listing:
            for item in listing:
                try:
                    status = item.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                total += self._count(status)
                if stat.S_ISDIR(status.st_mode):
                    waiting.append((anchor_fd, path + b"/" + os.fsencode(item.name)))
        return total

    def _count(self, status: os.stat_result) -> int:
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            key = status.st_dev, status.st_ino
            if key in self._seen:
                return 0
            self._seen.add(key)
        return status.st_blocks * _BLOCK_BYTES
