"""Locks between processes: flock(2) on directories, and the order they are taken in.

A lock belongs to the open file description: a forked monitor that inherits the descriptor holds the
lock on with it, and the kernel drops it when the last holder dies, whatever killed it.

Order, outermost first; a process that holds a later one never waits for an earlier one:

    1. container   container/<id> itself, exclusive: every change of one container
    2. image index image/, exclusive: the read-change-rename of index.json
    3. layer       layer/<chain id>, shared by users while they write the record that names it,
                   exclusive (never waiting) by whoever removes it
    4. networks    network/, exclusive: choosing and claiming a subnet (network/claiming.py), writing firewall
                   rules and published ports (network/firewall.py)
    5. volume      volume/<name>, exclusive: making, filling and removing one volume (storage/volumes.py)

Who waits for a container's lock in vain, because its holder stands still, is told so (engine/standstill.py).
Nobody waits for a container's end, which its monitor tells, while holding a lock; who starts one holds its lock until the
command runs. Two containers share no lock but those of networks and volumes that both use.
"""
from __future__ import annotations

import errno
import fcntl
import os

from .errors import NotFound


class DirectoryLock:
    """An flock on a directory, held until `close` (or the end of the last process that has `fd`).

    After the lock is got the directory must still be where it was: whoever removed it meanwhile
    renamed it away first. `fd` is the directory, good for openat-style calls; `was_forced` that whoever had the
    lock was killed for it.
    """

    __slots__ = ("fd", "path", "was_forced")

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd
        self.was_forced = False

    def close(self) -> None:
        """Drop this process's hold."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> DirectoryLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def lock_directory(path: str, *, shared: bool = False, wait: bool = True) -> DirectoryLock | None:
    """Lock a directory; None when it is taken and `wait` is false. Raises NotFound, OSError."""
    while True:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise NotFound(f"lock {path}: it is not there") from None
        try:
            operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(fd, operation if wait else operation | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if error.errno == errno.EWOULDBLOCK:
                return None
            raise
        if is_still_at(path, fd):
            return DirectoryLock(path, fd)
        os.close(fd)  # removed, or replaced by a namesake, while we waited: look again


def is_still_at(path: str, fd: int) -> bool:
    """Tell whether a path still leads to what was opened by it; once it is locked nobody else moves or removes it."""
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
