"""Blobs on their way in, under a name: what a pull that was killed had of a layer, the next one goes on with.

    image/partial/<hex>      the first bytes of the blob with that digest; flock: exclusive while somebody writes

The lock says who writes: a free one's writer is dead, or has failed. The next pull locks those that it can go on with and
sweeps the other free ones. A name is taken away only by who holds the lock of the file that it leads to; so whoever has got a
lock asks first whether the name still leads there. Nothing is believed of such bytes (a power cut may have left zeros): they
go through the same inflating, hashing and unpacking as if they had just come from the network. A finished blob is linked
from here to its name, and the partial's own is removed.
"""
from __future__ import annotations

import fcntl
import os
import stat

from mydocker.base import locks
from mydocker.base.errors import Corrupt
from mydocker.base.trace import point
from mydocker.oci.digest import parse_digest

from .blobs import NewBlob
from .ingest import CHUNK_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from mydocker.base.paths import Layout


def directory(layout: Layout) -> str:
    """Where they are."""
    return f"{layout.image}/partial"


class PartialBlob(NewBlob):
    """A blob that keeps its name, and what was written, when it is closed unfinished; `discard` forgets both.

    `kept_bytes` are there from before: `read_on` gives them first, and writing them again does nothing.
    """

    __slots__ = ("_path", "_replayed", "kept_bytes")

    def __init__(self, path: str, fd: int) -> None:
        self.digest = ""
        self.size_bytes = 0
        self.fd = fd
        self.kept_bytes = os.fstat(fd).st_size
        self._path = path
        self._replayed = 0
        os.lseek(fd, 0, os.SEEK_END)

    def read_on(self, read: Callable[[], bytes]) -> Callable[[], bytes]:
        """Return what gives the bytes that are there, then those of `read`."""
        position = 0

        def read_both() -> bytes:
            nonlocal position
            if position >= self.kept_bytes:
                return read()
            data = os.pread(self.fd, min(CHUNK_BYTES, self.kept_bytes - position), position)
            if not data:
                raise Corrupt(f"read {self._path}: it is cut short")
            position += len(data)
            return data

        return read_both

    def write(self, data: bytes) -> None:
        """Append bytes, those that are there already left out. Raises Unavailable when the disk is full."""
        known = min(len(data), self.kept_bytes - self._replayed)
        self._replayed += known
        self.size_bytes += known
        super().write(data[known:] if known else data)

    def link(self, layout: Layout) -> None:
        """Give the blob its name, and take the partial's away. Caller holds the image index lock."""
        super().link(layout)
        self._unlink()

    def close(self) -> None:
        """Close the file, and leave it to be gone on with if there is anything in it."""
        if self.fd >= 0 and os.fstat(self.fd).st_size == 0:
            self._unlink()
        super().close()

    def discard(self) -> None:
        """Forget what was written."""
        if self.fd >= 0:
            self._unlink()
            self.close()

    def _unlink(self) -> None:
        """Take the name away, once: while the lock is held it is nobody else's."""
        if self._path:
            os.unlink(self._path)
            self._path = ""


def find(layout: Layout, digest: str, size: int) -> PartialBlob | None:
    """Return what there is of a blob of so many bytes, locked; None when there is nothing, or somebody else is writing it."""
    return _open(layout, digest, size, 0)


def make(layout: Layout, digest: str, size: int) -> NewBlob:
    """Return a new blob to be written, locked; a nameless one when somebody else is writing it."""
    os.makedirs(directory(layout), mode=0o700, exist_ok=True)
    return _open(layout, digest, size, os.O_CREAT) or NewBlob(layout)


def _open(layout: Layout, digest: str, size: int, flags: int) -> PartialBlob | None:
    path = f"{directory(layout)}/{parse_digest(digest)}"
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | flags, 0o600)
        except FileNotFoundError:
            return None
        point("partial opened")
        if not _lock(fd):
            os.close(fd)
            return None
        if locks.is_still_at(path, fd):
            status = os.fstat(fd)
            if status.st_nlink == 1 and stat.S_ISREG(status.st_mode) and status.st_size <= size:
                return PartialBlob(path, fd)
            # Killed between its two names: the blob is whole and has one, so nothing must ever be written here.
            os.unlink(path)
        os.close(fd)  # else it was finished (and is a blob now), or swept, before it was locked


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sweep(layout: Layout) -> int:
    """Remove those that nobody writes; returns the bytes that they held."""
    freed = 0
    try:
        names = os.listdir(directory(layout))
    except FileNotFoundError:
        return 0
    for name in names:
        path = f"{directory(layout)}/{name}"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            continue
        point("partial opened")
        try:
            if _lock(fd) and locks.is_still_at(path, fd):
                status = os.fstat(fd)
                os.unlink(path)
                freed += status.st_size if status.st_nlink == 1 else 0
        finally:
            os.close(fd)
    return freed
