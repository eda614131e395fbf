"""Unpacked layers: one directory a chain id, shared read-only by every container on it.

    layer/
      <chain id hex>/          flock: shared by users until a record names it, exclusive to remove
        diff/                  a lower directory of overlayfs
        layer.json             {"version", "diff_id", "size_bytes", "entries"}
      host-<key>/diff/         the hide layer of the image `host` (image/hostimage.py)
      .tmp-<unique>/           being unpacked; its maker holds a shared flock, the dead hold none

Owns their making, locking and removal. A layer appears whole: it is unpacked under a temporary
name and renamed. It is a cache of blobs, but a silent one, so its files reach the disk (syncfs)
before the rename: half of a layer after a power cut would be a wrong image.
"""
from __future__ import annotations

import errno
import os

from mydocker.base import files, locks
from mydocker.base.errors import NotFound
from mydocker.base.ids import new_unique

TYPE_CHECKING = False
if TYPE_CHECKING:

    from mydocker.base.locks import DirectoryLock
    from mydocker.base.paths import Layout

TEMPORARY = ".tmp-"
DIFF = "diff"
RECORD = "layer.json"

_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_FS_TOPDIR_FL = 0x20000


def diff_dir(layout: Layout, chain_id: str) -> str:
    """The lower directory of one layer."""
    return f"{layout.layer(chain_id)}/{DIFF}"


def is_there(layout: Layout, chain_id: str) -> bool:
    """Tell whether a layer is unpacked now."""
    return os.path.isdir(layout.layer(chain_id))


def chains(layout: Layout) -> set[str]:
    """Return the chain ids of all unpacked layers; what else is there (hide layers, mount points) has no such name."""
    return {f"sha256:{name}" for name in os.listdir(layout.layers) if len(name) == 64}


def size_bytes(layout: Layout, chain_id: str) -> int:
    """Return the size of a layer's files as counted when it was unpacked; 0 when it is not there."""
    try:
        return int(files.load_json(f"{layout.layer(chain_id)}/{RECORD}").get("size_bytes", 0))
    except FileNotFoundError:
        return 0


class NewLayer:
    """A layer being made: fill `diff_fd`, then `publish`; `discard` otherwise."""

    __slots__ = ("_layout", "_lock", "diff_fd", "path")

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        _spread(layout)
        while True:
            self.path = f"{layout.layers}/{TEMPORARY}{new_unique()}"
            os.mkdir(self.path, 0o700)
            try:
                lock = locks.lock_directory(self.path, shared=True)
            except NotFound:
                continue  # a sweep took it for dead before it was locked
            assert lock is not None
            break
        self._lock: DirectoryLock | None = lock
        os.mkdir(DIFF, 0o755, dir_fd=lock.fd)
        self.diff_fd = os.open(DIFF, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=lock.fd)
        os.fchmod(self.diff_fd, 0o755)  # whatever the umask; an archive may say otherwise later

    def publish(self, name: str, facts: dict[str, object]) -> DirectoryLock:
        """Make it the layer `name` (a chain id); returns the shared lock on the one that is there now.

        Somebody else may have made the same meanwhile: then ours is discarded.
        """
        assert self._lock is not None
        files.save_json(RECORD, {"version": 1, **facts}, dir_fd=self._lock.fd)
        place = self._layout.layer(name)
        while True:
            try:
                os.rename(self.path, place)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
            else:
                lock, self._lock = self._lock, None
                lock.path = place
                self.close()
                return lock
            try:
                theirs = locks.lock_directory(place, shared=True)
            except NotFound:
                continue  # and somebody removed theirs: try again
            assert theirs is not None
            self.discard()
            return theirs

    def discard(self) -> None:
        """Remove what was made."""
        if self._lock is not None:
            from . import trash  # cold

            trash.discard(self._layout, self.path)
        self.close()

    def close(self) -> None:
        """Let go of the descriptors; an unpublished layer is then the sweep's."""
        if self.diff_fd >= 0:
            os.close(self.diff_fd)
            self.diff_fd = -1
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def sync(layout: Layout) -> None:
    """Bring all that was written to the layers' file system to the disk (syncfs(2)).

    One call for thousands of files; fsync of each would take seconds.
    """
    import ctypes  # cold: CPython has sync, which flushes every disk, and no syncfs

    fd = os.open(layout.layers, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if library.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), layout.layers)
    finally:
        os.close(fd)


def _spread(layout: Layout) -> None:
    """Mark layer/ as a top of hierarchies for ext4 (chattr +T), where that is known; else do nothing.

    ext4 then starts each layer in a block group of its own instead of its parent's. Without a
    journal, ext4 skips inodes deleted in the last minutes one by one: after a removal of 15,000
    files, making as many in the same groups was measured 30 times slower.
    """
    import array  # cold
    import fcntl

    fd = os.open(layout.layers, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = array.array("l", [0])
        fcntl.ioctl(fd, _FS_IOC_GETFLAGS, flags, True)
        if not flags[0] & _FS_TOPDIR_FL:
            flags[0] |= _FS_TOPDIR_FL
            fcntl.ioctl(fd, _FS_IOC_SETFLAGS, flags, True)
    except OSError:
        pass  # another file system, which needs no such hint
    finally:
        os.close(fd)


def remove_layer(layout: Layout, name: str, *, is_used: object = None) -> bool:
    """Remove a layer unless somebody is about to use it; tells whether it is gone.

    `is_used` (a callable) is asked once more when the layer is locked: a record that names it may
    have been written since the caller looked. Caller holds the image index lock, so that no image
    comes to name it.
    """
    try:
        lock = locks.lock_directory(layout.layer(name), wait=False)
    except NotFound:
        return True
    if lock is None:
        return False
    with lock:
        if callable(is_used) and is_used(name):
            return False
        # Renamed while locked: whoever waits for the lock sees that it moved (DirectoryLock).
        os.rename(layout.layer(name), f"{layout.trash}/{new_unique()}")
        return True


def sweep(layout: Layout) -> None:
    """Remove layers that died while they were made."""
    from . import trash  # cold

    for name in os.listdir(layout.layers):
        if name.startswith(TEMPORARY):
            trash.discard_unheld(layout, f"{layout.layers}/{name}")
