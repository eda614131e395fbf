"""Who is giving names to blobs and layers: the crash journal of the image store.

    image/publishing/<unique>    an empty file; flock: exclusive, from before its owner gives the first name until
                                 everything that has one is needed by something (an image, a record of the build cache)

Names are given one by one, and what has one before the index says so belongs to no image. A free entry's owner was killed
there, or failed: somewhere in the store is what nobody needs. What it is need not be written down, because `collect` finds it.
"""
from __future__ import annotations

import fcntl
import os

from mydocker.base import locks
from mydocker.base.ids import new_unique

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.base.paths import Layout


def directory(layout: Layout) -> str:
    """Where the entries are."""
    return f"{layout.image}/publishing"


class Publication:
    """One entry. `finish` removes it; `close` without that leaves it for whoever collects."""

    __slots__ = ("_fd", "_path")

    def __init__(self, path: str, fd: int) -> None:
        self._path = path
        self._fd = fd

    def finish(self) -> None:
        """Remove the entry: nothing is left over."""
        os.unlink(self._path)
        self.close()

    def close(self) -> None:
        """Let go of the entry."""
        os.close(self._fd)


def begin(layout: Layout) -> Publication:
    """Make an entry. It is locked before it has a name, so that nobody ever takes its owner for dead. Raises OSError."""
    os.makedirs(directory(layout), mode=0o700, exist_ok=True)
    place = os.open(directory(layout), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=place)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            name = new_unique()
            os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=place, follow_symlinks=True)  # see blobs.NewBlob.link
        except BaseException:
            os.close(fd)
            raise
    finally:
        os.close(place)
    return Publication(f"{directory(layout)}/{name}", fd)


def lock_dead(layout: Layout) -> list[Publication]:
    """Return the entries that nobody holds, locked; the caller collects, and finishes or closes each."""
    dead: list[Publication] = []
    try:
        names = os.listdir(directory(layout))
    except FileNotFoundError:
        return dead
    for name in names:
        path = f"{directory(layout)}/{name}"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            continue
        if locks.is_still_at(path, fd):
            dead.append(Publication(path, fd))
        else:
            os.close(fd)
    return dead
