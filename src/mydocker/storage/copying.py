"""A tree copied as it is: owners, modes, times, extended attributes, hard links, holes.

The source is an image's, and hostile; the target may be in a container's sight while it is written. So every step goes from
descriptor to descriptor, follows no symbolic link, crosses no mount, and reads no special file. What is there in the target
already is an error (FileExistsError), never overwritten.
"""
from __future__ import annotations

import errno
import os
import stat

from mydocker.base.errors import InvalidRequest
from mydocker.linux import beneath

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Each level holds two descriptors, of which a process has 1024.
_MAX_DEPTH = 200
_CHUNK_BYTES = 1 << 24
#: Overlayfs's own, in any spelling: a redirect or a metacopy would make one file another.
_PRIVATE_XATTRS = ("trusted.overlay.", "user.overlay.")


class TreeCopy:
    """Copies one tree into an empty directory; knows which inodes it has met."""

    def __init__(self, source_fd: int, target_fd: int) -> None:
        self._source_fd = source_fd
        self._target_fd = target_fd
        self._device = os.fstat(source_fd).st_dev
        self._links: dict[int, tuple[bytes, bytes]] = {}

    def copy(self) -> None:
        """Copy the content of the directory, and what there is to say of the directory itself. Raises OSError, InvalidRequest."""
        self._copy_below(self._source_fd, self._target_fd, b"", 0)
        copy_metadata(self._source_fd, self._target_fd)

    def _copy_below(self, source_fd: int, target_fd: int, path: bytes, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise InvalidRequest(f"copy {os.fsdecode(path)[:200]}...: it is more than {_MAX_DEPTH} directories deep")
        for name in map(os.fsencode, os.listdir(source_fd)):
            status = os.stat(name, dir_fd=source_fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                self._copy_directory(source_fd, target_fd, name, path, depth)
            elif status.st_nlink == 1 or not self._link(target_fd, name, path, status):
                _copy_other(source_fd, target_fd, name, status)

    def _copy_directory(self, source_fd: int, target_fd: int, name: bytes, path: bytes, depth: int) -> None:
        inner = os.open(name, _DIRECTORY, dir_fd=source_fd)
        try:
            os.mkdir(name, 0o700, dir_fd=target_fd)
            outer = os.open(name, _DIRECTORY, dir_fd=target_fd)
            try:
                if os.fstat(inner).st_dev == self._device:
                    self._copy_below(inner, outer, path + name + b"/", depth + 1)
                copy_metadata(inner, outer)
            finally:
                os.close(outer)
        finally:
            os.close(inner)

    def _link(self, target_fd: int, name: bytes, path: bytes, status: os.stat_result) -> bool:
        """Make a further name of a file that was copied already; tells whether it was."""
        if status.st_ino not in self._links:
            self._links[status.st_ino] = path, name
            return False
        first_path, first_name = self._links[status.st_ino]
        try:
            parent_fd = beneath.open_beneath(self._target_fd, first_path, beneath.O_DIRECTORY_HANDLE)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            return False  # then it becomes a copy
        try:
            os.link(first_name, name, src_dir_fd=parent_fd, dst_dir_fd=target_fd, follow_symlinks=False)
        finally:
            os.close(parent_fd)
        return True


def _copy_other(source_fd: int, target_fd: int, name: bytes, status: os.stat_result) -> None:
    """Copy what is no directory."""
    if stat.S_ISREG(status.st_mode):
        _copy_file(source_fd, target_fd, name)
        return
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=source_fd), name, dir_fd=target_fd)
    else:
        os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target_fd)
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target_fd, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target_fd)  # whatever the umask
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target_fd, follow_symlinks=False)


def _copy_file(source_fd: int, target_fd: int, name: bytes) -> None:
    inner = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source_fd)
    try:
        outer = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=target_fd)
        try:
            _copy_bytes(inner, outer)
            copy_metadata(inner, outer)
        finally:
            os.close(outer)
    finally:
        os.close(inner)


def _copy_bytes(source_fd: int, target_fd: int) -> None:
    """Copy a file's content, holes as holes."""
    size = os.fstat(source_fd).st_size
    os.ftruncate(target_fd, size)
    offset = 0
    while offset < size:
        try:
            offset = os.lseek(source_fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return  # a hole to the end
        end = os.lseek(source_fd, offset, os.SEEK_HOLE)
        os.lseek(target_fd, offset, os.SEEK_SET)
        while offset < end:
            sent = os.sendfile(target_fd, source_fd, offset, min(end - offset, _CHUNK_BYTES))
            if not sent:
                return  # it was cut meanwhile
            offset += sent


def copy_metadata(source_fd: int, target_fd: int, status: os.stat_result | None = None) -> None:
    """Copy owner, mode, extended attributes and times of a file or directory; what the file system does not know is left out.

    `status` is the source's of an earlier moment.
    """
    status = status or os.fstat(source_fd)
    os.fchown(target_fd, status.st_uid, status.st_gid)
    os.fchmod(target_fd, stat.S_IMODE(status.st_mode))  # after the owner, whose change clears set-user-id
    for name in os.listxattr(source_fd):
        if name.startswith(_PRIVATE_XATTRS):
            continue
        try:
            os.setxattr(target_fd, name, os.getxattr(source_fd, name))
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENODATA):
                raise
    os.utime(target_fd, ns=(status.st_atime_ns, status.st_mtime_ns))
