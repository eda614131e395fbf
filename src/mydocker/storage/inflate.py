"""Decompression of layers: gzip through isal, zstd through zstandard, with bounded memory and growth.

Owns the choice by magic bytes and the defence against bombs. Libraries are imported when the first
compressed layer arrives. Nothing outside the process is run: a container's own `unpigz` or `xz`
must never be (CVE-2019-14271 and its kin).
"""
from __future__ import annotations

from mydocker.base.errors import Corrupt, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

PLAIN, GZIP, ZSTD = "", "gzip", "zstd"

#: One step of output; input steps are bounded by who feeds.
STEP_BYTES = 256 << 10
#: zstd's own default limit for decoders; a frame may ask for gigabytes.
MAX_WINDOW_BYTES = 128 << 20
#: From this output size on, more than MAX_RATIO times the input is a bomb.
BOMB_BYTES = 4 << 30
MAX_RATIO = 200


def detect(head: bytes) -> str:
    """Return the compression of a stream from its first bytes. Raises Unsupported for known others."""
    if head[:2] == b"\x1f\x8b":
        return GZIP
    # zstd's magic number, or one of its skippable frames (zstd:chunked, seekable zstd).
    if head[:4] == b"\x28\xb5\x2f\xfd" or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        return ZSTD
    for magic, name in ((b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz")):
        if head.startswith(magic):
            raise Unsupported(f"read archive: it is compressed with {name}", hint=f"unpack it first: {name} -dc FILE | ...")
    return PLAIN


def inflate(kind: str, read: Callable[[], bytes]) -> Iterator[bytes]:
    """Yield what a compressed stream inflates to, in pieces of at most STEP_BYTES.

    `read` returns the next compressed bytes, b"" at their end. Raises Corrupt for damage, for gzip
    that is cut short (zstandard cannot tell), and for bombs. What follows the last gzip member is
    ignored, as gzip(1) does.
    """
    taken = given = 0

    def counted() -> bytes:
        nonlocal taken
        data = read()
        taken += len(data)
        return data

    for piece in _gunzip(counted) if kind == GZIP else _unzstd(counted):
        given += len(piece)
        if given > BOMB_BYTES and given > MAX_RATIO * taken:
            raise Corrupt(f"inflate: more than {MAX_RATIO} times its size, this looks like a bomb")
        yield piece


def _gunzip(read: Callable[[], bytes]) -> Iterator[bytes]:
    """Concatenated gzip members (pigz, estargz)."""
    from isal import igzip_lib  # cold

    failures: Any = (igzip_lib.IsalError, EOFError)  # isal's stub calls the class an instance
    data = read()
    while data[:1] == b"\x1f":
        member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        while True:
            try:
                piece = member.decompress(data, STEP_BYTES)
            except failures as error:
                raise Corrupt(f"inflate gzip: {error}") from error
            if piece:
                yield piece
            if member.eof:
                break
            data = read() if member.needs_input else b""  # else it keeps the rest of its input
            if member.needs_input and not data:
                raise Corrupt("inflate gzip: the data is cut short")
        data = member.unused_data
        while not data.strip(b"\0"):  # tapes are padded with zeros
            data = read()
            if not data:
                return
        data = data.lstrip(b"\0")
    while read():
        pass  # the caller hashes every byte that was stored


class _ReadAdapter:
    """What zstandard reads from."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read

    def read(self, _size: int) -> bytes:
        return self._read()


def _unzstd(read: Callable[[], bytes]) -> Iterator[bytes]:
    """Concatenated and skippable zstd frames. A pull reader, because one fed byte may ask for 128 KiB of output."""
    import zstandard  # cold

    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    source: Any = _ReadAdapter(read)  # all that it needs of a file is `read`
    reader = decompressor.stream_reader(source, read_size=STEP_BYTES, read_across_frames=True)
    try:
        while piece := reader.read(STEP_BYTES):
            yield piece
    except zstandard.ZstdError as error:
        raise Corrupt(f"inflate zstd: {error}") from error
