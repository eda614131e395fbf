"""A bounded queue of byte chunks between the thread that inflates and hashes and the one that writes.

Both sides spend their time in calls that release the interpreter's lock, so two cores are used.
Knows nothing of tar. Each side can fail: the reader's error reaches the writer as Corrupt-or-what-
it-was at its next read, the writer's end stops the reader at its next `put`.
"""
from __future__ import annotations

import os
import queue

from mydocker.base.errors import Corrupt

from .tarheader import BLOCK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    class Chunks(Protocol):
        """Chunks in order."""

        def get(self) -> bytes: ...

#: 32 chunks of 256 KiB: enough to ride over a slow directory, 8 MiB at most.
DEPTH = 32
CHUNK_BYTES = 256 << 10


class ChunkQueue:
    """One producer, one consumer."""

    def __init__(self) -> None:
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(DEPTH)
        self._is_abandoned = False

    def put(self, chunk: bytes) -> bool:
        """Hand one chunk on, waiting for room; False when nobody reads any more."""
        if self._is_abandoned:
            return False
        self._queue.put(chunk)
        return True

    def finish(self, error: BaseException | None = None) -> None:
        """End the stream: normally, or with an error that the consumer's next read raises."""
        self._queue.put(error)

    def get(self) -> bytes:
        """Return the next chunk, b"" at the end."""
        chunk = self._queue.get()
        if chunk is None or isinstance(chunk, BaseException):
            self._queue.put(chunk)  # the end stays the end, for `abandon`
            if chunk is not None:
                raise chunk
            return b""
        return chunk

    def abandon(self) -> None:
        """Consumer's last word: take and forget chunks until the producer has noticed."""
        self._is_abandoned = True
        while isinstance(self._queue.get(), bytes):
            pass


class ChunkIterator:
    """Chunks of an iterator, counted as they pass; b"" at the end. `on_bytes` is told the count."""

    def __init__(self, chunks: Iterator[bytes], on_bytes: Callable[[int], None] | None = None) -> None:
        self._chunks = chunks
        self._on_bytes = on_bytes
        self.size_bytes = 0

    def get(self) -> bytes:
        """Return the next chunk."""
        chunk = next(self._chunks, b"")
        self.size_bytes += len(chunk)
        if self._on_bytes is not None:
            self._on_bytes(self.size_bytes)
        return chunk


class QueueSource:
    """A `tarstream.Source` over a ChunkQueue (or anything with its `get`)."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._view = memoryview(b"")
        self._position = 0
        self._end = 0

    def _next(self) -> bool:
        chunk = self._chunks.get()
        self._view = memoryview(chunk)
        self._position = 0
        self._end = len(chunk)
        return self._end > 0

    def read_block(self) -> bytes:
        """Return 512 bytes, or b"" at the very end. Raises Corrupt between."""
        start = self._position
        if start + BLOCK <= self._end:
            self._position = start + BLOCK
            return self._view[start : start + BLOCK].tobytes()
        if start == self._end and not self._next():
            return b""
        return self.read(BLOCK)

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes. Raises Corrupt when there are fewer."""
        pieces = []
        while size:
            taken = self._take(size)
            pieces.append(taken)
            size -= len(taken)
        return b"".join(pieces)

    def skip(self, size: int) -> None:
        """Pass over `size` bytes."""
        if self._position + size <= self._end:
            self._position += size
            return
        while size:
            size -= len(self._take(size))

    def copy_to(self, fd: int, size: int) -> None:
        """Write the next `size` bytes to a file."""
        while size:
            taken = self._take(size)
            size -= len(taken)
            while taken:
                taken = taken[os.write(fd, taken):]

    def _take(self, size: int) -> memoryview:
        if self._position == self._end and not self._next():
            raise Corrupt("read tar archive: it is cut short")
        start = self._position
        self._position = stop = min(start + size, self._end)
        return self._view[start:stop]

    def drain(self) -> None:
        """Read to the end, so that the producer sees, and hashes, every byte."""
        while self._next():
            pass


class FileSource:
    """A `tarstream.Source` over a part of a file that can be read at any place (pread)."""

    def __init__(self, fd: int, offset: int = 0, size: int | None = None) -> None:
        self._fd = fd
        self.position = offset
        self._end = os.fstat(fd).st_size if size is None else offset + size

    def read_block(self) -> bytes:
        """Return 512 bytes, or b"" at the very end."""
        return self.read(BLOCK) if self.position < self._end else b""

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes. Raises Corrupt when there are fewer."""
        if size > self._end - self.position:
            raise Corrupt("read tar archive: it is cut short")
        data = os.pread(self._fd, size, self.position)
        while len(data) < size:
            more = os.pread(self._fd, size - len(data), self.position + len(data))
            if not more:
                raise Corrupt("read tar archive: it is cut short")
            data += more
        self.position += size
        return data

    def skip(self, size: int) -> None:
        """Pass over `size` bytes."""
        self.position += size
        if self.position >= self._end + BLOCK:  # the last member's padding may be missing
            raise Corrupt("read tar archive: it is cut short")

    def copy_to(self, fd: int, size: int) -> None:
        """Write the next `size` bytes to a file."""
        while size:
            data = self.read(min(size, CHUNK_BYTES))
            size -= len(data)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view):]
