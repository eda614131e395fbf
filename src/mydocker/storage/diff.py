"""What a container wrote, as a diff: its upper directory of overlayfs turned into a tar of the OCI kind; or any tree or file.

Owns the reverse of `unpack`: whiteouts become `.wh.` entries, opaque directories get their marker,
extended attributes go into pax records, second names of a file become hard links. Sorted, so that
equal trees give equal bytes. Holes are written as zeros in a diff (layer.md: sparse entries are not understood
everywhere), and as holes in the tar of a whole tree unless told otherwise. The container may still be running and its
tree is hostile: each directory is opened beneath the upper directory without following links, and a file's entry has
the size that its header says, whatever happens to the file.
"""
from __future__ import annotations

import errno
import os
import stat

from mydocker.base.errors import Unsupported
from mydocker.linux import beneath

from .tarheader import BLOCK
from .unpack import OPAQUE_MARKER, OPAQUE_XATTR, WHITEOUT_PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    #: (uid, gid) of a file -> (uid, gid) in the archive.
    Owner = Callable[[int, int], tuple[int, int]]

_CHUNK_BYTES = 256 << 10
#: What opening says of something that is gone, or is something else by now (ELOOP: a link).
_REPLACED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
#: A file in more pieces than readers take is stored whole.
_MAX_PIECES = 4096
_TYPES = {
    stat.S_IFREG: b"0", stat.S_IFLNK: b"2", stat.S_IFCHR: b"3", stat.S_IFBLK: b"4", stat.S_IFDIR: b"5", stat.S_IFIFO: b"6",
}
#: Labels of this machine's security modules say nothing on another.
_LOCAL_XATTRS = ("security.selinux", "security.ima", "security.evm", "security.apparmor", "security.SMACK")


def read_diff(upper_dir: str) -> Callable[[], bytes]:
    """Return a `read` (as storage/ingest takes it) that gives the tar of an upper directory."""
    root_fd = os.open(upper_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    pieces = _chunked(_Walk(root_fd, is_diff=True).tar())
    return lambda: next(pieces, b"")


def read_tree(root_fd: int) -> Callable[[], bytes]:
    """Return a `read` that gives the tar of a whole root file system.

    Takes the descriptor over; it is closed when all was read.
    """
    pieces = tar_tree(root_fd)
    return lambda: next(pieces, b"")


def tar_tree(root_fd: int, name: bytes = b"", *, keeps_holes: bool = True, owner: Owner | None = None) -> Generator[bytes]:
    """Yield the tar of a directory, which is called `name` in it (`.`, `/` and none are its root).

    Takes the descriptor over; it is closed with the iterator.
    """
    return _chunked(_Walk(root_fd, is_diff=False, name=name, keeps_holes=keeps_holes, owner=owner).tar())


def tar_entry(fd: int, name: bytes, *, keeps_holes: bool = True, owner: Owner | None = None) -> Generator[bytes]:
    """Yield the tar of the one file, link or device that an O_PATH descriptor is; the caller closes that.

    Raises Unsupported for a socket, OSError.
    """
    status = os.fstat(fd)
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFSOCK:
        raise Unsupported(f"archive {_shown(name)}: sockets not supported")
    if kind == stat.S_IFREG:
        # By the descriptor, not once more by name: what was looked at is what is read.
        data_fd = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            yield from _chunked(_content(name, data_fd, keeps_holes=keeps_holes, owner=owner))
        finally:
            os.close(data_fd)
    else:
        target = os.readlink(b"", dir_fd=fd) if kind == stat.S_IFLNK else b""
        yield from _header(name, status, target=target, owner=owner)
    yield bytes(2 * BLOCK)


def _chunked(pieces: Iterator[bytes]) -> Generator[bytes]:
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _CHUNK_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


class _Walk:
    def __init__(
        self, root_fd: int, *, is_diff: bool, name: bytes = b"", keeps_holes: bool = True, owner: Owner | None = None,
    ) -> None:
        self._root_fd = root_fd
        self._is_diff = is_diff
        self._keeps_holes = keeps_holes and not is_diff
        self._owner = owner
        self._top = name.rstrip(b"/") + b"/" if name else b"./"
        self._prefix = self._top if name else b""
        self._links: dict[tuple[int, int], bytes] = {}

    def tar(self) -> Iterator[bytes]:
        """Yield the archive. Raises Unsupported, OSError."""
        try:
            # An explicit stack of paths, one directory open at a time: depth costs nothing.
            stack = [b""]
            while stack:
                yield from self._directory(stack.pop(), stack)
        finally:
            os.close(self._root_fd)
        yield bytes(2 * BLOCK)

    def _directory(self, path: bytes, stack: list[bytes]) -> Iterator[bytes]:
        try:
            fd = beneath.open_beneath(self._root_fd, path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            if error.errno not in _REPLACED:
                raise
            return  # removed or replaced while we walked
        try:
            if path or not self._is_diff:
                named = self._prefix + path + b"/" if path else self._top
                yield from _header(named, os.fstat(fd), xattrs=_xattrs(fd), owner=self._owner)
                if self._is_diff and _is_opaque(fd, path):
                    yield from _header(path + b"/" + OPAQUE_MARKER, None)
            below = []
            for name in sorted(os.fsencode(name) for name in os.listdir(fd)):
                child = path + b"/" + name if path else name
                status = _stat(name, fd)
                if status is None:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    below.append(child)
                else:
                    yield from self._entry(child, name, status, fd)
            stack.extend(reversed(below))
        finally:
            os.close(fd)

    def _entry(self, path: bytes, name: bytes, status: os.stat_result, directory_fd: int) -> Iterator[bytes]:
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFSOCK:
            return  # a socket without its process is nothing; Docker leaves it out too
        if kind == stat.S_IFCHR and status.st_rdev == 0 and self._is_diff:
            head, slash, base = path.rpartition(b"/")
            yield from _header(head + slash + WHITEOUT_PREFIX + base, None)
            return
        if name.startswith(WHITEOUT_PREFIX) and self._is_diff:
            raise Unsupported(f"commit {_shown(path)}: names that begin with .wh. cannot be in an image")
        if status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                yield from _header(self._prefix + path, status, link=self._prefix + first, owner=self._owner)
                return
        if kind == stat.S_IFREG:
            yield from _file(self._prefix + path, name, directory_fd, keeps_holes=self._keeps_holes, owner=self._owner)
        elif kind == stat.S_IFLNK:
            try:
                target = os.readlink(name, dir_fd=directory_fd)
            except OSError as error:
                if error.errno not in (*_REPLACED, errno.EINVAL):
                    raise
                return
            yield from _header(self._prefix + path, status, target=target, owner=self._owner)
        else:
            yield from _header(self._prefix + path, status, owner=self._owner)


def _stat(name: bytes, directory_fd: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _file(
    path: bytes, name: bytes, directory_fd: int, *, keeps_holes: bool, owner: Owner | None
) -> Iterator[bytes]:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory_fd)
    except OSError as error:
        if error.errno in (*_REPLACED, errno.ENXIO):  # a socket, or a device without a driver
            return
        if error.errno == errno.EACCES and not _is_regular(name, directory_fd):  # by now a device, on a mount without them
            return
        raise
    try:
        yield from _content(path, fd, keeps_holes=keeps_holes, owner=owner)
    finally:
        os.close(fd)


def _is_regular(name: bytes, directory_fd: int) -> bool:
    status = _stat(name, directory_fd)
    return status is not None and stat.S_ISREG(status.st_mode)


def _content(path: bytes, fd: int, *, keeps_holes: bool, owner: Owner | None) -> Iterator[bytes]:
    """Yield an open file's entry, header and data; nothing if it is no plain file."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return
    pieces = _data_pieces(fd, status) if keeps_holes else None
    if pieces is None:
        yield from _header(path, status, xattrs=_xattrs(fd), owner=owner)
        yield from _data(fd, 0, status.st_size)
        yield bytes(-status.st_size % BLOCK)
        return
    lines = [len(pieces), *(number for piece in pieces for number in piece)]
    table = b"".join(b"%d\n" % number for number in lines)
    table += bytes(-len(table) % BLOCK)
    stored = len(table) + sum(length for _, length in pieces)
    yield from _header(path, status, xattrs=_xattrs(fd), sparse_bytes=stored, owner=owner)
    yield table
    for offset, length in pieces:
        yield from _data(fd, offset, length)
    yield bytes(-stored % BLOCK)


def _data(fd: int, offset: int, size: int) -> Iterator[bytes]:
    end = offset + size
    while offset < end:
        # Past the end of a file that shrank: the header's promise is kept with zeros.
        data = os.pread(fd, min(end - offset, _CHUNK_BYTES), offset) or bytes(min(end - offset, _CHUNK_BYTES))
        offset += len(data)
        yield data


def _data_pieces(fd: int, status: os.stat_result) -> list[tuple[int, int]] | None:
    """Return where a file has data, as GNU's sparse format 1.0 wants it; None for one that is better stored whole."""
    if status.st_blocks * 512 >= status.st_size:
        return None
    pieces: list[tuple[int, int]] = []
    position = 0
    while position < status.st_size and len(pieces) < _MAX_PIECES:
        try:
            begin = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # no data behind here
                raise
            break
        position = min(os.lseek(fd, begin, os.SEEK_HOLE), status.st_size)
        pieces.append((begin, position - begin))
    if len(pieces) == _MAX_PIECES or pieces == [(0, status.st_size)]:
        return None
    return [*pieces, (status.st_size, 0)]  # the last piece says where the file ends


def _is_opaque(fd: int, path: bytes) -> bool:
    names = [name for name in os.listxattr(fd) if name.startswith("trusted.overlay.")]
    if "trusted.overlay.redirect" in names:
        raise Unsupported(f"commit {_shown(path)}: a renamed directory (overlayfs redirect)")
    return OPAQUE_XATTR in names and os.getxattr(fd, OPAQUE_XATTR) == b"y"


def _xattrs(fd: int) -> dict[bytes, bytes]:
    found = {}
    for name in sorted(os.listxattr(fd)):
        if name == "trusted.overlay.metacopy":
            raise Unsupported("commit: a file without its data (overlayfs metacopy)")
        if name.startswith(("trusted.overlay.", "user.overlay.", *_LOCAL_XATTRS)):
            continue
        found[os.fsencode(name)] = os.getxattr(fd, name)
    return found


def _header(
    path: bytes,
    status: os.stat_result | None,
    *,
    link: bytes = b"",
    target: bytes = b"",
    xattrs: dict[bytes, bytes] | None = None,
    sparse_bytes: int = -1,
    owner: Owner | None = None,
) -> Iterator[bytes]:
    """Yield the header blocks of one entry; without `status` it is an empty marker file of root.

    With `sparse_bytes` it is a sparse file (GNU's format 1.0), of whose map and data that many bytes follow.
    """
    mode, uid, gid, size, mtime, device, kind = 0o600, 0, 0, 0, 0, 0, b"0"
    if status is not None:
        mode, uid, gid = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
        if owner is not None:
            uid, gid = owner(uid, gid)
        mtime, device = max(int(status.st_mtime), 0), status.st_rdev
        kind = b"1" if link else _TYPES[stat.S_IFMT(status.st_mode)]
        size = status.st_size if kind == b"0" else 0
    linkname = link or target
    records = {b"SCHILY.xattr." + name: value for name, value in (xattrs or {}).items()}
    if sparse_bytes >= 0:
        records |= {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.name": path,
                    b"GNU.sparse.realsize": b"%d" % size}
        size, path = sparse_bytes, b"GNUSparseFile.0/" + path[-80:]
    elif len(path) > 100:
        records[b"path"] = path
    if len(linkname) > 100:
        records[b"linkpath"] = linkname
    for key, value, limit in ((b"uid", uid, 8), (b"gid", gid, 8), (b"size", size, 12)):
        if value >= 8 ** (limit - 1):
            records[key] = b"%d" % value
    if records:
        data = b"".join(_pax_record(key, records[key]) for key in sorted(records))
        name = b"PaxHeaders.0/" + path[-80:]
        yield _block(name, 0o600, 0, 0, len(data), mtime, b"x", b"", 0) + data + bytes(-len(data) % BLOCK)
    yield _block(path[:100], mode, uid, gid, size, mtime, kind, linkname[:100], device)


def _block(
    name: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, kind: bytes, linkname: bytes, device: int
) -> bytes:
    head = name.ljust(100, b"\0") + b"".join((
        _octal(mode, 8), _octal(uid, 8), _octal(gid, 8), _octal(size, 12), _octal(mtime, 12),
    ))
    nodes = _octal(os.major(device), 8) + _octal(os.minor(device), 8) if kind in (b"3", b"4") else bytes(16)
    tail = kind + linkname.ljust(100, b"\0") + b"ustar\x0000" + bytes(64) + nodes + bytes(167)
    checksum = sum(head) + 8 * 32 + sum(tail)
    return head + b"%06o\0 " % checksum + tail


def file_header(name: bytes, size: int) -> bytes:
    """Return the header blocks of a plain file of root, dated 1970, whose data the caller writes."""
    records = _pax_record(b"size", b"%d" % size) if size >= 8 ** 11 else b""
    head = _block(b"PaxHeaders.0/" + name[-80:], 0o600, 0, 0, len(records), 0, b"x", b"", 0) if records else b""
    return head + records + bytes(-len(records) % BLOCK) + _block(name, 0o644, 0, 0, size, 0, b"0", b"", 0)


def _octal(value: int, width: int) -> bytes:
    """A number field; one that does not fit is 0 here and in the pax header."""
    return b"%0*o\0" % (width - 1, value if value < 8 ** (width - 1) else 0)


def _pax_record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + len(str(len(body)))
    length = len(body) + len(str(length))  # the length counts its own digits
    return b"%d%s" % (length, body)


def _shown(path: bytes) -> str:
    return path[:200].decode("utf-8", "backslashreplace")
