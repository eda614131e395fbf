"""Files from one tree into another, by descriptor: what COPY and ADD do with the sources that sources.py found.

The destination is as hostile as the source: below it no symbolic link is followed that leads out of its root.
"""
from __future__ import annotations

import errno
import os
import stat

from mydocker.base.errors import InvalidRequest
from mydocker.linux import beneath, inroot
from mydocker.linux.inroot import clean
from mydocker.storage import trash
from mydocker.storage.unpack import set_xattrs

from .sources import read_xattrs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .modes import Ownership
    from .sources import Entry, Source

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20


def make_directories(root_fd: int, path: str, owner: tuple[int, int] = (0, 0), mode: int = 0o755, *, followed: int = 0) -> int:
    """Return a handle on a directory in a root, made where missing with this owner; the caller closes it.

    A link to nowhere is followed, as by docker: what it names is made. Raises InvalidRequest where a file is in the way.
    """
    cleaned = os.fsencode("/".join(clean(path)))
    missing: list[bytes] = []
    while True:
        try:
            fd = beneath.open_in_root(root_fd, cleaned, os.O_RDONLY | os.O_DIRECTORY)
            break
        except FileNotFoundError:
            cleaned, _, name = cleaned.rpartition(b"/")
            missing.append(name)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise InvalidRequest(f"{path}: a part of it is not a directory") from error
            raise
    while missing:
        name, parent_fd = missing.pop(), fd
        try:
            try:
                os.mkdir(name, 0o700, dir_fd=parent_fd)
            except FileExistsError:  # a link to nowhere
                if followed > inroot.MAX_LINKS:
                    raise InvalidRequest(f"{path}: too many symbolic links") from None
                target = "/".join((inroot.target_of(root_fd, parent_fd, name), *map(os.fsdecode, reversed(missing))))
                return make_directories(root_fd, target, owner, mode, followed=followed + 1)
            fd = os.open(name, _DIRECTORY, dir_fd=parent_fd)
        finally:
            os.close(parent_fd)
        os.fchown(fd, *owner)
        os.fchmod(fd, mode)
    return fd


def copy_sources(sources: list[Source], root_fd: int, destination: str, ownership: Ownership) -> None:
    """Copy sources to a destination below a root. Raises InvalidRequest, OSError.

    It is a directory when it ends in `/`, or is one already.
    """
    says_directory = destination.endswith(("/", "/.")) or not clean(destination)
    for source in sources:
        if source.is_directory:
            place_fd = make_directories(root_fd, destination, ownership.owner or (0, 0))
            try:
                copy_content(source, place_fd, ownership)
            finally:
                os.close(place_fd)
        else:
            _copy_single(source, root_fd, destination, says_directory or is_directory(root_fd, destination), ownership)


def _copy_single(source: Source, root_fd: int, destination: str, into_directory: bool, ownership: Ownership) -> None:
    if into_directory:
        directory, name = destination, source.name
    else:
        directory, name = inroot.follow_file(root_fd, destination)
    parent_fd = make_directories(root_fd, directory, ownership.owner or (0, 0))
    try:
        _copy_entry(source, source.entries[0], parent_fd, name, ownership)
    finally:
        os.close(parent_fd)


def is_directory(root_fd: int, path: str) -> bool:
    """Tell whether a path in a root is a directory, or a link to one."""
    try:
        os.close(beneath.open_in_root(root_fd, "/".join(clean(path)), os.O_PATH | os.O_DIRECTORY))
    except OSError:
        return False
    return True


def create_file(root_fd: int, destination: str, name: bytes, owner: tuple[int, int]) -> int:
    """Return a new file at a destination below a root, called `name` when that is a directory; the caller closes it."""
    if destination.endswith("/") or is_directory(root_fd, destination):
        directory = destination
    else:
        directory, name = inroot.follow_file(root_fd, destination)
    parent_fd = make_directories(root_fd, directory, owner)
    try:
        _clear(parent_fd, name)
        return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent_fd)
    finally:
        os.close(parent_fd)


def copy_content(source: Source, place_fd: int, ownership: Ownership) -> None:
    """Copy what a directory holds into another."""
    times: list[tuple[bytes, os.stat_result]] = []
    for entry in source.entries[1:]:
        head, _, name = entry.path.rpartition(b"/")
        parent_fd = beneath.ensure_directory_beneath(place_fd, head) if head else os.dup(place_fd)
        try:
            status = _copy_entry(source, entry, parent_fd, name, ownership)
        finally:
            os.close(parent_fd)
        if stat.S_ISDIR(status.st_mode):
            times.append((entry.path, status))
    # What is copied into a directory changes its time: set last, the deepest first.
    for path, status in reversed(times):
        fd = beneath.open_beneath(place_fd, path, _DIRECTORY)
        os.utime(fd, ns=(status.st_mtime_ns, status.st_mtime_ns))
        os.close(fd)


def _copy_entry(source: Source, entry: Entry, parent_fd: int, name: bytes, ownership: Ownership) -> os.stat_result:
    fd = source.open(entry, os.O_PATH | os.O_NOFOLLOW)
    try:
        status = os.fstat(fd)
        kind = stat.S_IFMT(status.st_mode)
        owner = ownership.owner or (status.st_uid, status.st_gid)
        mode = ownership.mode.apply(status.st_mode) if ownership.mode else stat.S_IMODE(status.st_mode)
        if kind == stat.S_IFDIR:
            _make_directory(source, entry, parent_fd, name, owner, mode)
            return status
        _clear(parent_fd, name)
        if kind == stat.S_IFREG:
            _copy_file(source, entry, parent_fd, name, owner, mode, status)
            return status
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink(b"", dir_fd=fd), name, dir_fd=parent_fd)
        else:
            os.mknod(name, kind | mode, status.st_rdev, dir_fd=parent_fd)
        os.chown(name, *owner, dir_fd=parent_fd, follow_symlinks=False)
        if kind != stat.S_IFLNK:
            os.chmod(name, mode, dir_fd=parent_fd)  # whatever the umask; just made, so no link
        os.utime(name, ns=(status.st_mtime_ns, status.st_mtime_ns), dir_fd=parent_fd, follow_symlinks=False)
        return status
    finally:
        os.close(fd)


def _clear(parent_fd: int, name: bytes) -> None:
    """Make room for a file: whatever is there goes, except a directory, which a file cannot replace."""
    try:
        there = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(there.st_mode):
        raise InvalidRequest(f"cannot copy a file over the directory {os.fsdecode(name)!r}")
    os.unlink(name, dir_fd=parent_fd)


def _make_directory(
    source: Source, entry: Entry, parent_fd: int, name: bytes, owner: tuple[int, int], mode: int
) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent_fd)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode):
            trash.remove_at(parent_fd, name)
            os.mkdir(name, 0o700, dir_fd=parent_fd)
    fd = os.open(name, _DIRECTORY, dir_fd=parent_fd)
    try:
        os.fchown(fd, *owner)
        os.fchmod(fd, mode)
        source_fd = source.open(entry, os.O_RDONLY | os.O_DIRECTORY)
        try:
            set_xattrs(fd, read_xattrs(source_fd))
        finally:
            os.close(source_fd)
    finally:
        os.close(fd)


def _copy_file(
    source: Source, entry: Entry, parent_fd: int, name: bytes, owner: tuple[int, int], mode: int, status: os.stat_result
) -> None:
    from_fd = source.open(entry, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent_fd)
        try:
            copy_bytes(from_fd, fd)
            os.fchown(fd, *owner)
            os.fchmod(fd, mode)
            set_xattrs(fd, read_xattrs(from_fd))
            os.utime(fd, ns=(status.st_mtime_ns, status.st_mtime_ns))
        finally:
            os.close(fd)
    finally:
        os.close(from_fd)


def copy_bytes(from_fd: int, to_fd: int) -> None:
    """Copy all of a file, in the kernel where it can."""
    try:
        while os.copy_file_range(from_fd, to_fd, 1 << 30):
            pass
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF):
            raise
    # What the kernel left, all of it where it could not: nothing of procfs and its kin has a size.
    while data := os.read(from_fd, _CHUNK):
        view = memoryview(data)
        while view:
            view = view[os.write(to_fd, view):]
