"""Removal of trees that an enemy may have filled, and of what crashes left behind.

Owns trash/: a thing is renamed there first (one step, atomic), then deleted, which any later
command may finish. Works by directory descriptors, follows no symbolic link, leaves other file
systems alone (nothing is ever mounted there, but a bind mount must not be emptied), takes no lock
except to tell dead from living.
"""
from __future__ import annotations

import errno
import os
import stat
import time

from mydocker.base import locks, log
from mydocker.base.errors import NotFound, Timeout
from mydocker.base.ids import new_unique
from mydocker.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.base.paths import Layout

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Deeper directories are moved up before they are emptied, so depth costs no descriptors.
_MAX_DEPTH = 48
#: A deadline that never comes.
NEVER_S = float("inf")
#: How often somebody may have put something into a directory that was just emptied.
_MAX_LATE = 100


def discard(layout: Layout, path: str) -> None:
    """Remove a tree of ours: out of sight at once, off the disk before this returns.

    Killed in between, `sweep` finishes. A path that is not there is fine. Raises OSError.
    """
    place = f"{layout.trash}/{new_unique()}"
    try:
        os.rename(path, place)
    except FileNotFoundError:
        return
    remove_tree(place)


def discard_unheld(layout: Layout, path: str) -> bool:
    """Remove a directory unless somebody holds its lock, or it is not there; tells whether it did. Raises OSError."""
    try:
        lock = locks.lock_directory(path, wait=False)
    except NotFound:
        return False
    if lock is None:
        return False
    with lock:
        discard(layout, path)
    return True


def sweep(layout: Layout) -> None:
    """Finish every removal that was cut short. What cannot be removed (immutable files, a mount) keeps nothing else there."""
    for name in os.listdir(layout.trash):
        path = f"{layout.trash}/{name}"
        try:
            remove_tree(path)
        except OSError as error:
            log.warn(f"remove {path}: {errno.errorcode.get(error.errno or 0)}", hint="it is tried again by the next `gc`")


def remove_tree(path: str, deadline_s: float = NEVER_S) -> None:
    """Remove a file or a tree, whoever else removes it at the same time.

    Raises OSError, and Timeout at `deadline_s` (as time.monotonic tells it) with a part removed.
    """
    head, _, name = path.rpartition("/")
    try:
        parent_fd = os.open(head or "/", _DIRECTORY & ~os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        remove_at(parent_fd, os.fsencode(name), deadline_s)
    finally:
        os.close(parent_fd)


def remove_at(parent_fd: int, name: bytes, deadline_s: float = NEVER_S) -> None:
    """Remove one entry of a directory, with all below it. Raises as `remove_tree` does."""
    try:
        os.unlink(name, dir_fd=parent_fd)
        return
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
    _remove_directory(parent_fd, name, deadline_s)


class _Tree(Record):
    """A tree that is being removed: its top, the file system it may not leave, and until when."""

    top_fd: int
    device: int
    deadline_s: float


def _remove_directory(parent_fd: int, name: bytes, deadline_s: float) -> None:
    moved = 0
    try:
        top_fd = os.open(name, _DIRECTORY, dir_fd=parent_fd)
    except FileNotFoundError:
        return
    try:
        tree = _Tree(top_fd=top_fd, device=os.fstat(top_fd).st_dev, deadline_s=deadline_s)
        late = 0
        # Emptying moves what is too deep up into the top directory: repeat until nothing was.
        while True:
            before = moved
            moved = _empty(tree, top_fd, 1, moved)
            if moved == before and _is_removed(parent_fd, name, is_last=late == _MAX_LATE):
                return
            # A monitor that is about to end writes a file or two into its directory, wherever that is now.
            late += moved == before
    finally:
        os.close(top_fd)


def _is_removed(parent_fd: int, name: bytes, *, is_last: bool) -> bool:
    try:
        os.rmdir(name, dir_fd=parent_fd)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno != errno.ENOTEMPTY or is_last:
            raise
        return False
    return True


def _empty(tree: _Tree, directory_fd: int, depth: int, moved: int) -> int:
    """Empty a directory; returns the count of directories moved up so far."""
    # One entry at a time, and never a list of them: a container may have made ten million. What a file system leaves out
    # because entries go meanwhile, the caller's next round finds.
    with os.scandir(directory_fd) as listing:
        for item in listing:
            if time.monotonic() > tree.deadline_s:
                raise Timeout("remove a tree: it takes longer")
            if item.is_dir(follow_symlinks=False):
                moved = _empty_below(tree, item.name, directory_fd, depth, moved)
                continue
            try:
                os.unlink(item.name, dir_fd=directory_fd)
            except (FileNotFoundError, IsADirectoryError):
                pass  # gone, or another thing by now: who shares a volume may exchange entries
    return moved


def _empty_below(tree: _Tree, name: str, directory_fd: int, depth: int, moved: int) -> int:
    """Remove a directory of one that is being emptied, or move it up to the top; returns the count as `_empty` does."""
    if depth >= _MAX_DEPTH:
        try:
            os.rename(name, f".moved-{new_unique()}", src_dir_fd=directory_fd, dst_dir_fd=tree.top_fd)
        except FileNotFoundError:
            pass
        return moved + 1
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=directory_fd)
    except (FileNotFoundError, NotADirectoryError):
        return moved
    try:
        status = os.fstat(fd)
        if status.st_dev != tree.device or not stat.S_ISDIR(status.st_mode):
            raise OSError(errno.EXDEV, "another file system is mounted there", name)
        moved = _empty(tree, fd, depth + 1, moved)
    finally:
        os.close(fd)
    try:
        os.rmdir(name, dir_fd=directory_fd)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        # Another process sweeps the same tree and moved something up into it just now, or an entry was left out: the
        # caller's next round takes it.
        if error.errno != errno.ENOTEMPTY:
            raise
        moved += 1
    return moved
