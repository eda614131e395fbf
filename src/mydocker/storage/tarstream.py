"""The members of a tar archive, one after the other, from any source of bytes.

Owns the order of headers (pax, GNU long names, sparse maps, then data) and the limits that keep a
hostile archive from taking memory. Knows nothing of files: `unpack` writes them, image/load indexes
them. A `Source` gives bytes; what the caller does not take of a member's data is skipped.
"""
from __future__ import annotations

from mydocker.base.errors import Corrupt, Unsupported
from mydocker.base.record import Record

from . import tarheader
from .tarheader import BLOCK, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class Source(Protocol):
        """Bytes in order. `read` raises Corrupt at the end of the bytes, `read_block` gives b"" there."""

        def read_block(self) -> bytes: ...
        def read(self, size: int) -> bytes: ...
        def skip(self, size: int) -> None: ...
        def copy_to(self, fd: int, size: int) -> None: ...


class Limits(Record):
    """What an archive may hold. Beyond it is Corrupt: far above real images, far below the machine."""

    entries: int = 1_000_000
    name_bytes: int = 4095       # PATH_MAX: nothing longer can be opened by anybody
    pax_bytes: int = 1 << 20
    sparse_pieces: int = 65_536
    xattrs: int = 256
    remembered_bytes: int = 256 << 20   # names and attributes that are kept until the end of the archive


_NO_DATA = frozenset((
    tarheader.LINK, tarheader.SYMLINK, tarheader.CHARACTER, tarheader.BLOCK_DEVICE, tarheader.DIRECTORY, tarheader.FIFO,
))
_FILES = frozenset((
    tarheader.REGULAR, tarheader.OLD_REGULAR, tarheader.CONTIGUOUS, tarheader.SPARSE, tarheader.GNU_DUMP_DIRECTORY,
))
_ZERO_BLOCK = bytes(BLOCK)


def entries(source: Source, limits: Limits) -> Iterator[Entry]:
    """Yield each member; before asking for the next, the caller takes all `size` bytes or `skip`s them.

    Padding after the data is skipped here. Ends at the zero block, or at the end of the bytes on a
    block's border (as every tar does). Raises Corrupt, Unsupported.
    """
    count = 0
    pax: dict[bytes, bytes] = {}
    long_name = long_link = b""
    while True:
        block = source.read_block()
        if not block or block == _ZERO_BLOCK:
            if pax or long_name or long_link:
                raise Corrupt("read tar archive: it ends after an extended header")
            return
        entry = tarheader.parse_header(block)
        count += 1
        # Extended headers count too: an endless row of them is a bomb as well.
        if count > 2 * limits.entries:
            raise Corrupt(f"read tar archive: more than {limits.entries} members")
        kind = entry.type
        if kind == tarheader.PAX:
            pax = tarheader.parse_pax(_read_extension(source, entry, limits.pax_bytes))
            continue
        if kind == tarheader.LONG_NAME:
            long_name = _read_extension(source, entry, limits.name_bytes + 1).partition(b"\0")[0]
            continue
        if kind == tarheader.LONG_LINK:
            long_link = _read_extension(source, entry, limits.name_bytes + 1).partition(b"\0")[0]
            continue
        if kind in (tarheader.PAX_GLOBAL, tarheader.GNU_VOLUME):
            source.skip(entry.size + -entry.size % BLOCK)  # comments; Docker ignores them too
            continue
        if long_name:
            entry.name = long_name
        if long_link:
            entry.linkname = long_link
        if pax:
            tarheader.apply_pax(entry, pax)
        _judge_kind(entry)
        padding = -entry.size % BLOCK
        if kind == tarheader.SPARSE:
            _read_old_sparse(source, block, entry, limits)
        elif pax and (b"GNU.sparse.major" in pax or b"GNU.sparse.map" in pax or b"GNU.sparse.size" in pax):
            _read_pax_sparse(source, entry, pax, limits)
        _judge_names(entry, limits)
        yield entry
        if padding:
            source.skip(padding)
        pax = {}
        long_name = long_link = b""


def _read_extension(source: Source, entry: Entry, limit_bytes: int) -> bytes:
    if entry.size > limit_bytes:
        raise Corrupt(f"read tar archive: an extended header of {entry.size} bytes")
    data = source.read(entry.size)
    source.skip(-entry.size % BLOCK)
    return data


def _judge_kind(entry: Entry) -> None:
    if entry.type in _NO_DATA:
        entry.size = entry.real_size = 0  # some archivers state a hard link's size without data (Go does the same)
    elif entry.type not in _FILES:
        raise Unsupported(f"read tar archive: {_shown(entry.name)} is of type {entry.type!r}")
    elif entry.type == tarheader.OLD_REGULAR and entry.name.endswith(b"/"):
        entry.type = tarheader.DIRECTORY  # tar before 1988 had no directories


def _judge_names(entry: Entry, limits: Limits) -> None:
    for name in (entry.name, entry.linkname):
        if len(name) > limits.name_bytes:
            raise Corrupt(f"read tar archive: a name of {len(name)} bytes")
        if b"\0" in name:  # possible in pax records only
            raise Corrupt("read tar archive: a name holds a NUL byte")
    # The kernel takes 2^32-1 for "leave it": nobody may be made that.
    if entry.uid >= 0xFFFF_FFFF or entry.gid >= 0xFFFF_FFFF:
        raise Corrupt(f"read tar archive: owner {entry.uid}:{entry.gid} of {_shown(entry.name)}")
    if entry.xattrs and len(entry.xattrs) > limits.xattrs:
        raise Corrupt(f"read tar archive: {len(entry.xattrs)} extended attributes on {_shown(entry.name)}")


def _shown(name: bytes) -> str:
    return repr(name[:100].decode("utf-8", "backslashreplace"))


def _read_old_sparse(source: Source, block: bytes, entry: Entry, limits: Limits) -> None:
    """GNU's old sparse format: four pieces in the header, 21 in each block that follows it."""
    entry.real_size = tarheader.sparse_real_size(block)
    pieces = tarheader.parse_sparse_fields(block, 386, 4)
    more = block[482]
    while more:
        if len(pieces) > limits.sparse_pieces:
            raise Corrupt(f"read sparse map: more than {limits.sparse_pieces} pieces")
        extension = source.read(BLOCK)
        pieces += tarheader.parse_sparse_fields(extension, 0, 21)
        more = extension[504]
    entry.sparse = tarheader.check_sparse(pieces, entry)


def _read_pax_sparse(source: Source, entry: Entry, pax: dict[bytes, bytes], limits: Limits) -> None:
    """GNU's sparse formats 0.0, 0.1 (map in the pax header) and 1.0 (map before the data)."""
    size = pax.get(b"GNU.sparse.realsize", pax.get(b"GNU.sparse.size", b""))
    if not size.isdigit() or len(size) > 19:
        raise Corrupt("read sparse map: the file has no size")
    entry.real_size = int(size)
    entry.name = pax.get(b"GNU.sparse.name", entry.name)
    if b"GNU.sparse.map" in pax:
        entry.sparse = tarheader.parse_sparse_text(pax[b"GNU.sparse.map"], entry, limits.sparse_pieces)
    elif pax.get(b"GNU.sparse.major") == b"1":
        entry.sparse = _read_sparse_1_0(source, entry, limits)
    else:
        raise Corrupt("read sparse map: it is missing")


def _read_sparse_1_0(source: Source, entry: Entry, limits: Limits) -> list[tuple[int, int]]:
    """Decimal lines (count, then offset and length of each piece), padded to whole blocks.

    The count is believed only as far as lines arrive, and never beyond the limit (CVE-2025-58183).
    """
    numbers: list[int] = []
    wanted, pending = 1, b""
    while len(numbers) < wanted:
        line, newline, rest = pending.partition(b"\n")
        if newline:
            if not line.isdigit() or len(line) > 19:
                raise Corrupt("read sparse map: not a number")
            numbers.append(int(line))
            pending = rest
            if len(numbers) == 1:
                if numbers[0] > limits.sparse_pieces:
                    raise Corrupt(f"read sparse map: more than {limits.sparse_pieces} pieces")
                wanted = 1 + 2 * numbers[0]
        elif len(pending) > 20:
            raise Corrupt("read sparse map: not a number")
        elif entry.size < BLOCK:
            raise Corrupt("read sparse map: it is longer than the member")
        else:
            entry.size -= BLOCK
            pending += source.read(BLOCK)
    return tarheader.check_sparse(list(zip(numbers[1::2], numbers[2::2], strict=True)), entry)
