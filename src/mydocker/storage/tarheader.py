"""The headers of tar archives: ustar, old tar, GNU and pax, read from hostile bytes.

Pure. Owns the meaning of the 512-byte header and of pax records. `tarstream` drives it.

Source: tar(5) of libarchive, POSIX pax, "Basic Tar Format" and "Sparse Formats" of the GNU tar
manual. Python's tarfile takes 60 microseconds and eight objects for one header; a layer has
thousands, and its own format rules are laxer than a container engine may be.
"""
from __future__ import annotations

import zlib

from mydocker.base.errors import Corrupt

BLOCK = 512

# Type flags; LONG_* and PAX* describe the entry that follows.
REGULAR, OLD_REGULAR, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE = b"0", b"\0", b"1", b"2", b"3", b"4"
DIRECTORY, FIFO, CONTIGUOUS = b"5", b"6", b"7"
PAX, PAX_GLOBAL, LONG_NAME, LONG_LINK, SPARSE = b"x", b"g", b"L", b"K", b"S"
GNU_DUMP_DIRECTORY, GNU_VOLUME = b"D", b"V"

XATTR_PREFIX = b"SCHILY.xattr."


class Entry:
    """One member of an archive, as its headers say. Names are bytes, not yet judged.

    `size` is the count of bytes that follow in the archive; `real_size` the file's size, which
    differs for sparse files, whose data goes to the `sparse` pieces (offset, length).
    """

    __slots__ = (
        "gid", "linkname", "major", "minor", "mode", "mtime_ns", "name", "real_size", "size", "sparse", "type",
        "uid", "xattrs",
    )

    name: bytes
    type: bytes
    mode: int
    uid: int
    gid: int
    size: int
    real_size: int
    mtime_ns: int
    linkname: bytes
    major: int
    minor: int
    sparse: list[tuple[int, int]] | None
    xattrs: dict[bytes, bytes] | None


def parse_header(block: bytes) -> Entry:
    """Return the entry of one 512-byte header. Raises Corrupt."""
    if not _is_checksum_right(block):
        raise Corrupt("read tar header: the checksum is wrong, this is no tar archive or it is damaged")
    entry = Entry()
    entry.type = block[156:157]
    entry.name = _text(block, 0, 100)
    entry.linkname = _text(block, 157, 257)
    entry.mode = _number(block[100:108], "mode") & 0o7777
    entry.uid = _number(block[108:116], "uid")
    entry.gid = _number(block[116:124], "gid")
    entry.size = entry.real_size = _number(block[124:136], "size")
    entry.mtime_ns = _number(block[136:148], "mtime", signed=True) * 1_000_000_000
    entry.sparse = entry.xattrs = None
    if entry.type in (CHARACTER, BLOCK_DEVICE):
        entry.major = _number(block[329:337], "device")
        entry.minor = _number(block[337:345], "device")
    else:
        entry.major = entry.minor = 0
    # GNU's magic is "ustar  "; it keeps other things where POSIX has the prefix.
    if block[345] and block[257:263] == b"ustar\0":
        entry.name = _text(block, 345, 500) + b"/" + entry.name
    return entry


def _text(block: bytes, start: int, end: int) -> bytes:
    stop = block.find(b"\0", start, end)
    return block[start : end if stop < 0 else stop]


def _number(field: bytes, what: str, *, signed: bool = False) -> int:
    """Return an octal field, or GNU's base-256 when its first bit is set. Raises Corrupt."""
    digits = field.strip(b" \0")
    if digits.isdigit():
        try:
            return int(digits, 8)
        except ValueError:
            pass
    elif not digits:
        return 0
    if field[0] & 0x80:
        if field[0] == 0xFF:
            value = int.from_bytes(field, "big", signed=True)
        else:
            value = int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
        if (value >= 0 or signed) and -(1 << 62) < value < 1 << 62:
            return value
    # Some old archivers end a number with a NUL and leave bytes behind it.
    head = field.partition(b"\0")[0].strip(b" ")
    if head.isdigit() and head != digits:
        return _number(head, what)
    raise Corrupt(f"read tar header: {what} is {digits[:12]!r}")


def _is_checksum_right(block: bytes) -> bool:
    field = block[148:156].strip(b" \0")
    try:
        stated = int(field, 8)
    except ValueError:
        return False
    # The checksum is the sum of all bytes, its own field counted as eight spaces. Adler-32's low half
    # is one more than the sum modulo 65521: 30 times faster than sum().
    cleared = block[:148] + b"        " + block[156:]
    if (zlib.adler32(cleared) & 0xFFFF) == (stated + 1) % 65521:
        return True
    signed = sum(byte - 256 if byte > 127 else byte for byte in cleared)  # some old tars sum signed chars
    return signed == stated


def parse_pax(data: bytes) -> dict[bytes, bytes]:
    """Return the records of a pax header (`length key=value\\n`), last one wins. Raises Corrupt.

    GNU's sparse format 0.0 repeats its offset and numbytes keys; they are joined with commas, as
    format 0.1 has them.
    """
    records: dict[bytes, bytes] = {}
    pieces: list[bytes] = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 12)
        length = data[position:space] if space > 0 else b""
        end = position + int(length) if length.isdigit() else 0
        record = data[space + 1 : end]
        key, equals, value = record[:-1].partition(b"=")
        if end <= space or end > len(data) or not equals or record[-1:] != b"\n":
            raise Corrupt("read pax header: a record is malformed")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            pieces.append(value)
        else:
            records[key] = value
        position = end
    if pieces:
        records[b"GNU.sparse.map"] = b",".join(pieces)
    return records


def apply_pax(entry: Entry, records: dict[bytes, bytes]) -> None:
    """Overrule an entry's header by its pax records. Raises Corrupt."""
    for key, value in records.items():
        if key == b"path":
            entry.name = value
        elif key == b"linkpath":
            entry.linkname = value
        elif key == b"size":
            entry.size = entry.real_size = _decimal(value, key)
        elif key == b"uid":
            entry.uid = _decimal(value, key)
        elif key == b"gid":
            entry.gid = _decimal(value, key)
        elif key == b"mtime":
            entry.mtime_ns = parse_time(value)
        elif key.startswith(XATTR_PREFIX):
            if entry.xattrs is None:
                entry.xattrs = {}
            entry.xattrs[key[len(XATTR_PREFIX):]] = value


def _decimal(value: bytes, key: bytes) -> int:
    if value.isdigit() and len(value) < 20:
        return int(value)
    raise Corrupt(f"read pax header: {key.decode('ascii', 'replace')} is {value[:24]!r}")


def parse_time(value: bytes) -> int:
    """Return nanoseconds of a pax time such as `1700000000.25` or `-1.5`. Raises Corrupt."""
    whole, _, fraction = value.partition(b".")
    digits = whole.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > 12 or (fraction and not fraction.isdigit()):
        raise Corrupt(f"read pax header: time is {value[:24]!r}")
    nanoseconds = int(digits) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0") or b"0")
    return -nanoseconds if whole[:1] == b"-" else nanoseconds


def parse_sparse_text(text: bytes, entry: Entry, limit: int) -> list[tuple[int, int]]:
    """Return the pieces of a comma-separated sparse map (GNU formats 0.0 and 0.1). Raises Corrupt."""
    if text.count(b",") >= 2 * limit:
        raise Corrupt(f"read sparse map: more than {limit} pieces")
    numbers = [_decimal(word, b"sparse map") for word in text.split(b",")] if text else []
    return check_sparse(list(zip(numbers[::2], numbers[1::2], strict=False)), entry)


def parse_sparse_fields(block: bytes, start: int, count: int) -> list[tuple[int, int]]:
    """Return the used slots of an old GNU sparse map: pairs of 12-byte numbers. Raises Corrupt."""
    pieces = []
    for position in range(start, start + 24 * count, 24):
        if not block[position]:
            break
        pieces.append((
            _number(block[position : position + 12], "sparse offset"),
            _number(block[position + 12 : position + 24], "sparse length"),
        ))
    return pieces


def sparse_real_size(block: bytes) -> int:
    """Return the file's size from an old GNU sparse header."""
    return _number(block[483:495], "sparse size")


def check_sparse(pieces: list[tuple[int, int]], entry: Entry) -> list[tuple[int, int]]:
    """Return the pieces if they ascend, do not overlap, end in the file and fill the data. Raises Corrupt."""
    end = 0
    for offset, length in pieces:
        if offset < end or offset + length > entry.real_size:
            raise Corrupt("read sparse map: pieces overlap or leave the file")
        end = offset + length
    if sum(length for _, length in pieces) != entry.size:
        raise Corrupt("read sparse map: it does not fit the data")
    return pieces
