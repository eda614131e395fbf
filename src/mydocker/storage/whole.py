"""Inflating what comes as a whole: archives of people, which docker takes with bzip2 and xz, too. Layers never have those.

Same defence as in inflate.py: bounded memory, a ratio, nothing run outside the process.
"""
from __future__ import annotations

from mydocker.base.errors import Corrupt

from . import inflate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_RARE = (b"BZh", b"\xfd7zXZ\0")
_XZ_MEMORY_BYTES = 1 << 30


def is_compressed(head: bytes) -> bool:
    """Tell whether a stream that begins so is compressed in a known way."""
    return head.startswith(_RARE) or bool(inflate.detect(head))


def inflated(read: Callable[[], bytes], head: bytes) -> Iterator[bytes]:
    """Yield the inflated bytes of a stream that begins with `head` (and `read` gives that, too), whatever its compression."""
    if head.startswith(_RARE):
        yield from _inflate_rare(read, head)
        return
    kind = inflate.detect(head)
    yield from inflate.inflate(kind, read) if kind else iter(read, b"")


def opened(read: Callable[[], bytes]) -> Callable[[], bytes]:
    """Return what reads the same stream, inflated if it is compressed as no layer can be."""
    head, read_all = _begin(read)
    if not head.startswith(_RARE):
        return read_all
    pieces = _inflate_rare(read_all, head)
    return lambda: next(pieces, b"")


def chunks(read: Callable[[], bytes]) -> Iterator[bytes]:
    """Yield the bytes of a stream, inflated if it is compressed at all. Raises Corrupt."""
    head, read_all = _begin(read)
    yield from inflated(read_all, head)


def _begin(read: Callable[[], bytes]) -> tuple[bytes, Callable[[], bytes]]:
    """Return how a stream begins, and what reads it from there on."""
    head = b""
    while len(head) < 8 and (data := read()):  # a pipe may give a byte at a time
        head += data
    pending = [head]
    return head, lambda: pending.pop() if pending else read()


def _inflate_rare(read: Callable[[], bytes], head: bytes) -> Iterator[bytes]:
    """Concatenated streams of bzip2 or xz, with padding of zeros."""
    import bz2  # cold
    import lzma

    given = taken = 0
    new: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor] = (
        bz2.BZ2Decompressor if head.startswith(b"BZh") else lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES))
    machine = new()
    is_inside = False  # of a stream
    try:
        while data := read():
            taken += len(data)
            while data:
                is_inside = True
                piece = machine.decompress(data, max_length=inflate.STEP_BYTES)
                while piece or not (machine.eof or machine.needs_input):
                    given += len(piece)
                    if given > inflate.BOMB_BYTES and given > inflate.MAX_RATIO * taken:
                        raise Corrupt("inflate: this looks like a bomb")
                    if piece:
                        yield piece
                    piece = b"" if machine.eof or machine.needs_input else machine.decompress(b"", max_length=inflate.STEP_BYTES)
                data = b""
                if machine.eof:
                    data = machine.unused_data.lstrip(b"\0")
                    machine, is_inside = new(), False
    except (OSError, lzma.LZMAError, EOFError) as error:
        raise Corrupt(f"inflate: {error}") from error
    if is_inside:
        raise Corrupt("inflate: the data is cut short")
