"""`cp`: files between a container and the host, whole trees or single files, by way of a tar, as docker has it.

The container's side is a RootView: everything in it is opened below its root's descriptor (openat2 RESOLVE_IN_ROOT), so a
link exchanged at any time leads nowhere but inside (CVE-2018-15664, CVE-2019-10152). The tar is made and taken apart in this
process, nothing of the container's is loaded or run (CVE-2019-14271, CVE-2026-41567), and below the directory that is copied
into, nothing else is changed (CVE-2021-41089).

An ended container is locked while it is written to: it cannot start meanwhile.
"""
from __future__ import annotations

import errno
import os
import stat

from mydocker.base.errors import Denied, InvalidRequest, NotFound
from mydocker.base.record import Record
from mydocker.base.undo import Undo
from mydocker.linux import beneath, inroot
from mydocker.linux.fileowner import as_file_owner
from mydocker.storage import whole
from mydocker.storage.diff import tar_entry, tar_tree
from mydocker.storage.ingest import read_stream
from mydocker.storage.pipeline import ChunkIterator, QueueSource
from mydocker.storage.placing import Placer
from mydocker.storage.tarstream import Limits

from . import copy_host, rootview
from .copy_rules import Target, land, name_of, says_directory
from .ending import current
from .lifecycle import ALIVE
from .rootview import owner_inside, owner_stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import BinaryIO

    from .rootview import RootView
    from .store import ContainerRecord, Store

#: There are as many files as the disk holds: who copies knows, and nothing is kept of one but of directories.
_LIMITS = Limits(entries=1 << 40)


class PathStat(Record):
    """What is at a path of a container. `mode` is st_mode, kind of file included; `link_target` is a path in the container."""

    name: str
    size_bytes: int
    mode: int
    mtime_ns: int
    uid: int
    gid: int
    link_target: str = ""


class Copied(Record):
    """What a copy did: the place it went to, its files and their bytes, and the bytes of the tar that carried them."""

    path: str
    entries: int
    size_bytes: int
    tar_bytes: int


class Archive:
    """The tar of a path in a container: iterate it once, in chunks of bytes, and close it (or use it in a `with`)."""

    __slots__ = ("_chunks", "_found_fd", "_view", "stat")

    def __init__(self, status: PathStat, chunks: Generator[bytes], view: RootView, found_fd: int) -> None:
        self.stat = status
        self._chunks = chunks
        self._view = view
        self._found_fd = found_fd

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        """Let go of the container's files."""
        if self._found_fd >= 0:
            self._chunks.close()
            os.close(self._found_fd)
            self._view.close()
            self._found_fd = -1

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Found(Record):
    """Something in a view, not followed: an O_PATH descriptor, which the finder closes."""

    fd: int
    path: str
    status: os.stat_result

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)


# --- looking --------------------------------------------------------------------------------------------


def stat_path(store: Store, container_id: str, path: str) -> PathStat:
    """Return what is at a path, a link itself. Raises NotFound, InvalidRequest."""
    record = current(store, container_id)
    with rootview.open_view(store, record, writable=False) as view:
        found = _find(view, path, record.name)
        try:
            return _describe(view, found)
        finally:
            os.close(found.fd)


def _find(view: RootView, path: str, container: str) -> _Found:
    """Open what a path names. Links on the way are followed, in the root; one at its end is not, unless a `/` follows it."""
    if not path:
        raise InvalidRequest("cp: a container's path cannot be empty")
    try:
        fd = _open_named(view.fd, path)
    except OSError as error:
        if error.errno == errno.ENOTDIR and says_directory(path):
            raise InvalidRequest(f"cp: {container}:{path}: not a directory") from error
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            raise NotFound(f"cp: could not find the file {path} in container {container}") from error
        raise
    return _Found(fd=fd, path=path, status=os.fstat(fd))


def _open_named(root_fd: int, path: str) -> int:
    names = inroot.clean(path)
    if says_directory(path) or not names:
        return beneath.open_in_root(root_fd, "/".join(names), beneath.O_DIRECTORY_HANDLE)
    parent_fd = beneath.open_in_root(root_fd, "/".join(names[:-1]), beneath.O_DIRECTORY_HANDLE)
    try:
        return os.open(names[-1], os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
    finally:
        os.close(parent_fd)


def _describe(view: RootView, found: _Found) -> PathStat:
    status = found.status
    owner = owner_inside(view.mappings_at(found.fd))
    uid, gid = owner(status.st_uid, status.st_gid) if owner else (status.st_uid, status.st_gid)
    return PathStat(
        name=(inroot.clean(found.path) or ["/"])[-1], size_bytes=status.st_size, mode=status.st_mode,
        mtime_ns=status.st_mtime_ns, uid=uid, gid=gid,
        link_target=_target_in(view, found.path) if stat.S_ISLNK(status.st_mode) else "")


# --- out of a container ---------------------------------------------------------------------------------


def read_archive(store: Store, container_id: str, path: str, *, follow: bool = False) -> Archive:
    """Return the tar of a path in a container; the caller closes it. `follow` takes what a link at its end leads to.

    Holes of files are written as zeros: not every tar understands them. Raises NotFound, InvalidRequest.
    """
    view, found = _open_source(store, container_id, path, follow=follow)
    try:
        chunks = _tar(view, found, name_of(found.path), keeps_holes=False)
        return Archive(_describe(view, found), chunks, view, found.fd)
    except BaseException:
        os.close(found.fd)
        view.close()
        raise


def copy_out(
    store: Store, container_id: str, path: str, target: str | os.PathLike[str], *, archive: bool = False, follow: bool = False,
    on_bytes: Callable[[int], None] | None = None,
) -> Copied:
    """Copy a path of a container to one of the host. Files become the caller's; with `archive` they keep their owners.

    `on_bytes` is told how much has been read. Raises NotFound, InvalidRequest, Denied, Unavailable (disk full).
    """
    target = os.fspath(target)
    copy_host.check_output(target)
    view, found = _open_source(store, container_id, path, follow=follow)
    with Undo() as undo:
        undo.callback(view.close)
        undo.callback(os.close, found.fd)
        landing = land(name_of(path), is_directory=found.is_directory, target=copy_host.find_target(target))
        directory_fd = copy_host.open_directory(landing.directory)
        undo.callback(os.close, directory_fd)
        chunks = _tar(view, found, landing.name)
        undo.callback(chunks.close)
        placer = Placer(
            directory_fd, _LIMITS, place=landing.directory, owner=None if archive else (os.geteuid(), os.getegid()))
        return _place(placer, chunks, copy_host.absolute(target), on_bytes)


def _open_source(store: Store, container_id: str, path: str, *, follow: bool) -> tuple[RootView, _Found]:
    record = current(store, container_id)
    view = rootview.open_view(store, record, writable=False)
    try:
        found = _find(view, path, record.name)
        if not (follow and stat.S_ISLNK(found.status.st_mode)):
            return view, found
        os.close(found.fd)
        found = _find(view, _target_in(view, path), record.name)
        if stat.S_ISLNK(found.status.st_mode):
            os.close(found.fd)
            raise InvalidRequest(f"cp: {record.name}:{path}: too many links")
        return view, found
    except BaseException:
        view.close()
        raise


def _target_in(view: RootView, path: str) -> str:
    """Return the path in the container that a link leads to, whether anything is there or not."""
    directory, name = inroot.follow_file(view.fd, path)
    return "/" + "/".join((*inroot.clean(directory), os.fsdecode(name)))


def _tar(view: RootView, found: _Found, name: str, *, keeps_holes: bool = True) -> Generator[bytes]:
    owner = owner_inside(view.mappings_at(found.fd))
    if not found.is_directory:
        return tar_entry(found.fd, os.fsencode(name), keeps_holes=keeps_holes, owner=owner)
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=found.fd)
    return tar_tree(fd, os.fsencode(name), keeps_holes=keeps_holes, owner=owner)


def _place(placer: Placer, chunks: Iterator[bytes], path: str, on_bytes: Callable[[int], None] | None) -> Copied:
    """Take a tar apart."""
    counted = ChunkIterator(chunks, on_bytes)
    source = QueueSource(counted)
    placer.run(source)
    source.drain()  # what follows the end of the archive: else its writer would see nobody read it
    return Copied(path=path, entries=placer.entries, size_bytes=placer.size_bytes, tar_bytes=counted.size_bytes)


# --- into a container -----------------------------------------------------------------------------------


def copy_in(
    store: Store, container_id: str, source: str | os.PathLike[str], path: str, *, archive: bool = False, follow: bool = False,
    on_bytes: Callable[[int], None] | None = None,
) -> Copied:
    """Copy a path of the host to one of a container. Files become root's there; with `archive` they keep their owners.

    `follow` takes what a link at the end of `source` leads to. Raises NotFound, InvalidRequest, Denied (read-only), ...
    """
    with Undo() as undo:
        found = copy_host.find_source(os.fspath(source), follow=follow)
        undo.callback(os.close, found.fd)
        record, view = _open_writable(store, container_id, undo)
        target = _find_target(view, path, record.name)
        landing = land(found.name, is_directory=found.is_directory, target=target)
        chunks = copy_host.tar(found, landing.name)
        undo.callback(chunks.close)
        placer = _placer(record, view, landing.directory, undo, owner=None if archive else (0, 0))
        return _as_root_of(view, lambda: _place(placer, chunks, path, on_bytes))


def write_archive(
    store: Store, container_id: str, path: str, source: bytes | int | BinaryIO, *, archive: bool = True,
    on_bytes: Callable[[int], None] | None = None,
) -> Copied:
    """Take a tar (plain, gzip, zstd, bzip2, xz) apart in a directory of a container.

    Files have the owners that the tar says, unless `archive` is false: then they are root's. Raises as `copy_in` does, Corrupt.
    """
    with Undo() as undo:
        record, view = _open_writable(store, container_id, undo)
        if not _find_target(view, path, record.name).is_directory:
            raise InvalidRequest(f'cp: destination "{record.name}:{path}" must be a directory')
        placer = _placer(record, view, path, undo, owner=None if archive else (0, 0))
        pieces = [source] if isinstance(source, bytes) else []
        read = read_stream(source) if not isinstance(source, bytes) else lambda: pieces.pop() if pieces else b""
        return _as_root_of(view, lambda: _place(placer, whole.chunks(read), path, on_bytes))


def _as_root_of(view: RootView, work: Callable[[], Copied]) -> Copied:
    """Write as the container's own root, where that has another id on the files."""
    stored = owner_stored(view.mappings[0])
    return work() if stored is None else as_file_owner(*stored(0, 0), work)


def _open_writable(store: Store, container_id: str, undo: Undo) -> tuple[ContainerRecord, RootView]:
    """Open a view to write to; `undo` closes it, and the lock of a container that is not alive after it."""
    record = current(store, container_id)
    if record.status not in ALIVE:
        lock = store.lock(container_id)
        undo.callback(lock.close)
        record = current(store, container_id)  # it may have been started while we waited
    view = rootview.open_view(store, record, writable=True)
    undo.callback(view.close)
    return record, view


def _find_target(view: RootView, path: str, container: str) -> Target:
    """Return what is at a destination in a container; links are followed. Raises InvalidRequest for a device."""
    if not path:
        raise InvalidRequest("cp: a container's path cannot be empty")
    try:
        fd = beneath.open_in_root(view.fd, "/".join(inroot.clean(path)), os.O_PATH)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            raise
        return Target(path=path if says_directory(path) or not inroot.clean(path) else _target_in(view, path))
    try:
        mode = os.fstat(fd).st_mode
    finally:
        os.close(fd)
    if stat.S_ISDIR(mode):
        return Target(path=path, exists=True, is_directory=True)
    if says_directory(path):
        return Target(path=path)  # a file is there, which this is not the name of
    copy_host.refuse_device(mode, f'destination "{container}:{path}"')
    return Target(path=_target_in(view, path), exists=True)


def _placer(
    record: ContainerRecord, view: RootView, directory: str, undo: Undo, *, owner: tuple[int, int] | None
) -> Placer:
    """Return who writes to a directory of a view. Raises NotFound, InvalidRequest, Denied (it is read-only)."""
    try:
        fd = beneath.open_in_root(view.fd, "/".join(inroot.clean(directory)), os.O_PATH)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            raise NotFound(f"cp: could not find the file {directory} in container {record.name}") from error
        raise
    undo.callback(os.close, fd)
    if not stat.S_ISDIR(os.fstat(fd).st_mode):
        raise InvalidRequest(f"cp: {record.name}:{directory}: extraction point is not a directory")
    is_volume = view.is_mounted_in(fd)
    if not is_volume and record.config["read_only"]:
        raise Denied(f"cp: container rootfs of {record.name} is marked read-only", hint="copy to a volume of it")
    if os.statvfs(fd).f_flag & os.ST_RDONLY:
        raise Denied(f"cp: {record.name}:{directory}: mounted volume is marked read-only")
    return Placer(
        fd, _LIMITS, place=directory if directory.startswith("/") else f"/{directory}", owner=owner,
        stored=owner_stored(view.mappings_at(fd)))
