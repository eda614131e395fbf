"""Archives of images as members by name: a tar (of `docker save` and its kin) or a layout directory.

Nothing is extracted: a tar is indexed once and its members are read in place; one that cannot be
sought (a pipe), or is compressed as a whole, is first copied to a nameless file. Names in an archive
are only keys of a dict, and in a directory they are opened beneath it without following links.
"""
from __future__ import annotations

import errno
import os
import stat

from mydocker.base.errors import Corrupt, InvalidRequest, NotFound
from mydocker.base.record import Record
from mydocker.oci.image_spec import MAX_DOCUMENT_BYTES
from mydocker.storage import tarheader, tarstream, whole
from mydocker.storage.blobs import NewBlob
from mydocker.storage.ingest import read_file, read_stream
from mydocker.storage.pipeline import FileSource
from mydocker.storage.unpack import clean_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO, Protocol

    from mydocker.base.paths import Layout

    class Archive(Protocol):
        """Members by name; `find` gives None for a name that is not there."""

        def find(self, name: str) -> Member | None: ...
        def close(self) -> None: ...

#: An archive of images has a handful of members a layer.
MEMBERS = tarstream.Limits(entries=50_000)
_MAX_LINKS = 8


class Member(Record):
    """A part of a file; the archive that gave it closes the descriptor."""

    name: str
    fd: int
    offset: int
    size: int

    def read_document(self, limit_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
        """Return the whole member. Raises Corrupt when it is too large to be a document, or cut short."""
        if self.size > limit_bytes:
            raise Corrupt(f"read {self.name}: {self.size} bytes are no document")
        return FileSource(self.fd, self.offset, self.size).read(self.size)

    def read(self) -> Callable[[], bytes]:
        """Return a `read` for ingest."""
        return read_file(self.fd, self.offset, self.size)


class TarArchive:
    """A tar file, indexed; takes the descriptor over."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._members: dict[bytes, tuple[int, int]] = {}
        self._links: dict[bytes, bytes] = {}
        source = FileSource(fd)
        for entry in tarstream.entries(source, MEMBERS):
            name = clean_name(entry.name)
            if entry.type == tarheader.LINK:
                self._links[name] = clean_name(entry.linkname)
            elif entry.type == tarheader.SYMLINK:
                # Old `docker save` links equal layers to each other: ../<id>/layer.tar
                head = b"" if entry.linkname.startswith(b"/") else name.rpartition(b"/")[0]
                self._links[name] = clean_name(head + b"/" + entry.linkname)
            elif entry.sparse is None and entry.type != tarheader.DIRECTORY:
                self._members[name] = (source.position, entry.size)
                self._links.pop(name, None)
            source.skip(entry.size)

    def find(self, name: str) -> Member | None:
        """Return a member, through links inside the archive."""
        key = clean_name(os.fsencode(name))
        for _ in range(_MAX_LINKS):
            place = self._members.get(key)
            if place is not None:
                return Member(name=name, fd=self._fd, offset=place[0], size=place[1])
            if key not in self._links:
                return None
            key = self._links[key]
        raise Corrupt(f"read {name}: too many links in the archive")

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class DirectoryArchive:
    """An OCI layout directory of somebody else."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._files: dict[str, int] = {}

    def find(self, name: str) -> Member | None:
        """Return a regular file beneath the directory; links are refused."""
        from mydocker.linux import beneath  # cold

        fd = self._files.get(name)
        if fd is None:
            try:
                # O_NONBLOCK: a FIFO in the place of a file must not hold us.
                fd = beneath.open_beneath(self._fd, name, os.O_RDONLY | os.O_NONBLOCK)
            except (FileNotFoundError, NotADirectoryError):
                return None
            except OSError as error:
                raise Corrupt(f"read {name}: {errno.errorcode.get(error.errno or 0)}") from error
            self._files[name] = fd
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise Corrupt(f"read {name}: it is no regular file")
        return Member(name=name, fd=fd, offset=0, size=status.st_size)

    def close(self) -> None:
        """Close the directory and what was found in it."""
        for fd in (self._fd, *self._files.values()):
            os.close(fd)


def open_archive(layout: Layout, source: str | os.PathLike[str] | BinaryIO) -> Archive:
    """Open a path, `-` (standard input) or a binary file as an archive; the caller closes.

    Raises NotFound, Corrupt, Unsupported, Unavailable.
    """
    if not isinstance(source, (str, os.PathLike)):
        return _adopt(_spool(layout, read_stream(source)))
    path = os.fspath(source)
    if path == "-":
        if os.isatty(0):
            raise InvalidRequest("load: standard input is a terminal", hint="give a file: mydocker load -i FILE")
        return _open_tar(layout, os.dup(0))
    if os.path.isdir(path):
        return DirectoryArchive(path)
    try:
        return _open_tar(layout, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except FileNotFoundError:
        raise NotFound(f"load {path}: there is no such file") from None


def _open_tar(layout: Layout, fd: int) -> Archive:
    """Take a descriptor over: index a plain file where it is, copy anything else first."""
    try:
        status = os.fstat(fd)
        is_plain = stat.S_ISREG(status.st_mode) and os.lseek(fd, 0, os.SEEK_CUR) == 0
        if is_plain and not whole.is_compressed(os.pread(fd, 8, 0)):
            archive_fd = os.dup(fd)
        else:
            archive_fd = _spool(layout, read_stream(fd))
    finally:
        os.close(fd)
    return _adopt(archive_fd)


def _adopt(fd: int) -> TarArchive:
    try:
        return TarArchive(fd)
    except BaseException:
        os.close(fd)
        raise


def _spool(layout: Layout, read: Callable[[], bytes]) -> int:
    """Copy (and inflate) a stream to a nameless file of the image layout's file system."""
    blob = NewBlob(layout)
    try:
        head = b""
        while len(head) < 8 and (data := read()):
            head += data
        pending = [head]

        def pull() -> bytes:
            return pending.pop() if pending else read()

        for piece in whole.inflated(pull, head):
            blob.write(piece)
        return os.dup(blob.fd)
    finally:
        blob.close()
