"""`tmpcopyup`: a tmpfs begins with a copy of what it covers.

Runs in the container's init before its root is entered. The tree is the container's and hostile: every step goes
from descriptor to descriptor, follows no symbolic link, crosses no mount, and reads no special file. What it may
take is what the tmpfs may hold: ENOSPC ends it.
"""
from __future__ import annotations

import os
import stat

from mydocker.base.errors import RuntimeFailed

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_DEPTH = 256
_CHUNK_BYTES = 1 << 20


def copy_covered(covered_fd: int, mount_fd: int) -> None:
    """Copy into a new mount what it covers: both are directories by descriptor, the mount attached or not. Raises OSError."""
    source = os.open(".", _DIRECTORY, dir_fd=covered_fd)
    try:
        target = os.open(".", _DIRECTORY, dir_fd=mount_fd)
        try:
            copy_tree(source, target)
        finally:
            os.close(target)
    finally:
        os.close(source)


def copy_tree(source_fd: int, target_fd: int, *, depth: int = 0) -> None:
    """Copy the content of a directory, with owners, modes, times and extended attributes. Raises OSError, RuntimeFailed.

    Both descriptors are of directories open for reading; hard links become copies.
    """
    if depth > _MAX_DEPTH:
        raise RuntimeFailed(f"tmpcopyup: a directory is more than {_MAX_DEPTH} deep")
    device = os.fstat(source_fd).st_dev
    for name in os.listdir(source_fd):
        status = os.stat(name, dir_fd=source_fd, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            _copy_directory(source_fd, target_fd, name, device, depth)
        elif stat.S_ISREG(status.st_mode):
            _copy_file(source_fd, target_fd, name)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source_fd), name, dir_fd=target_fd)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=target_fd, follow_symlinks=False)
        elif not stat.S_ISSOCK(status.st_mode):
            _copy_node(target_fd, name, status)


def _copy_directory(source_fd: int, target_fd: int, name: str, device: int, depth: int) -> None:
    inner = os.open(name, _DIRECTORY, dir_fd=source_fd)
    try:
        os.mkdir(name, 0o700, dir_fd=target_fd)
        outer = os.open(name, _DIRECTORY, dir_fd=target_fd)
        try:
            if os.fstat(inner).st_dev == device:
                copy_tree(inner, outer, depth=depth + 1)
            copy_metadata(inner, outer)
        finally:
            os.close(outer)
    finally:
        os.close(inner)


def _copy_file(source_fd: int, target_fd: int, name: str) -> None:
    # O_NONBLOCK: should it have become a FIFO meanwhile, nobody hangs.
    inner = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source_fd)
    try:
        if not stat.S_ISREG(os.fstat(inner).st_mode):
            return
        outer = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=target_fd)
        try:
            while os.sendfile(outer, inner, None, _CHUNK_BYTES):
                pass
            copy_metadata(inner, outer)
        finally:
            os.close(outer)
    finally:
        os.close(inner)


def _copy_node(target_fd: int, name: str, status: os.stat_result) -> None:
    try:
        os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target_fd)
    except PermissionError:
        return  # a device in a user namespace: nobody there could use it either
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target_fd, follow_symlinks=False)
    os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target_fd)


def copy_metadata(source_fd: int, target_fd: int) -> None:
    """Copy owner, mode, times and, where the tmpfs takes them, extended attributes."""
    status = os.fstat(source_fd)
    os.fchown(target_fd, status.st_uid, status.st_gid)
    os.fchmod(target_fd, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source_fd):
        try:
            os.setxattr(target_fd, name, os.getxattr(source_fd, name))
        except OSError:
            continue  # labels are the policy's own; user.* needs Linux 6.6 on tmpfs
    os.utime(target_fd, ns=(status.st_atime_ns, status.st_mtime_ns))
