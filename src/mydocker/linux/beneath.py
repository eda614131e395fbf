"""Files below a directory that an enemy may have filled: openat2(2) for every step.

Owns opening and making directories below a directory descriptor, so that neither `..`, nor an
absolute name, nor a symbolic link, nor a magic link of procfs leads out of it, not even when the
tree is changed at the same time. Knows nothing of layers or containers. Takes no lock.

Two kinds of walk, and they must not be mixed up:

    *_in_root    symbolic links are followed as if the directory were `/` (what chroot would see):
                 container root file systems and layers, where `lib -> usr/lib` is normal
    *_beneath    no symbolic link anywhere: our own trees, and archives' directories

Source: openat2(2), Linux 5.6. Names may be bytes or str; descriptors returned are close-on-exec.
"""
from __future__ import annotations

import os

from .syscalls import RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2

_IN_ROOT = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS

#: A handle on a directory: good as `dir_fd`, reads nothing, and opens no device or FIFO.
O_DIRECTORY_HANDLE = os.O_PATH | os.O_DIRECTORY


def open_in_root(root_fd: int, path: str | bytes, flags: int, mode: int = 0) -> int:
    """Open `path` as a process chrooted to `root_fd` would; the caller closes. Raises OSError."""
    return openat2(root_fd, path or ".", flags, mode, _IN_ROOT)


def open_beneath(root_fd: int, path: str | bytes, flags: int, mode: int = 0) -> int:
    """Open `path` below `root_fd`, refusing every symbolic link (ELOOP) and escape (EXDEV)."""
    return openat2(root_fd, path or ".", flags, mode, _BENEATH)


def ensure_directory_in_root(root_fd: int, path: bytes, mode: int = 0o755) -> int:
    """Return a handle on the directory `path`, making what is missing; the caller closes.

    `path` is relative and without `..`. Existing links are followed inside the root. Raises OSError:
    ELOOP for a dangling link, ENOTDIR where a file is in the way.
    """
    return _ensure_directory(root_fd, path, mode, _IN_ROOT)


def ensure_directory_beneath(root_fd: int, path: bytes, mode: int = 0o755) -> int:
    """As `ensure_directory_in_root`, and every symbolic link on the way is an error (ELOOP)."""
    return _ensure_directory(root_fd, path, mode, _BENEATH)


def _ensure_directory(root_fd: int, path: bytes, mode: int, resolve: int) -> int:
    missing: list[bytes] = []
    while True:
        try:
            fd = openat2(root_fd, path or b".", O_DIRECTORY_HANDLE, 0, resolve)
            break
        except FileNotFoundError:
            path, _, name = path.rpartition(b"/")
            missing.append(name)
    while missing:
        name = missing.pop()
        parent_fd = fd
        try:
            # mkdirat on one name below a resolved handle follows nothing.
            os.mkdir(name, mode, dir_fd=parent_fd)
        except FileExistsError:
            pass  # made by somebody meanwhile; or a dangling link, which the next line refuses
        try:
            fd = openat2(parent_fd, name, O_DIRECTORY_HANDLE, 0, _BENEATH)
        finally:
            os.close(parent_fd)
    return fd
