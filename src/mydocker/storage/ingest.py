"""Takes one layer in: stored bytes to a blob, inflated bytes to a digest and an unpacked directory.

One pass, two threads: the caller's reads, hashes, stores and inflates; a second writes files. The
digest of the stored bytes and the diff id are computed of exactly the bytes that were written, and
judged before anything gets a name.
"""
from __future__ import annotations

import os

from mydocker.base.errors import Corrupt, MydockerError
from mydocker.base.record import Record

from . import inflate
from .blobs import NewBlob
from .layers import NewLayer
from .tarstream import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mydocker.base.paths import Layout

    from .pipeline import ChunkQueue

CHUNK_BYTES = 256 << 10


class Ingested(Record):
    """One layer taken in; whoever asked for it publishes or discards `blob` and `layer`."""

    digest: str
    diff_id: str
    size_bytes: int
    compression: str
    unpacked_bytes: int = 0
    entries: int = 0
    blob: NewBlob | None = None
    layer: NewLayer | None = None

    def discard(self) -> None:
        """Forget both."""
        if self.blob is not None:
            self.blob.close()
        if self.layer is not None:
            self.layer.discard()


def ingest(
    layout: Layout,
    read: Callable[[], bytes],
    *,
    keep_blob: bool = True,
    unpack: bool = True,
    digest: str = "",
    diff_id: str = "",
    limits: Limits | None = None,
    into: NewBlob | None = None,
) -> Ingested:
    """Take in a layer from `read`, which returns the next stored bytes, b"" at their end.

    `digest` and `diff_id` are what it must have, if known; `into` is a blob of the caller's to be written, in place of a new
    one. Raises Corrupt and what unpacking raises; nothing is left then but `into`.
    """
    blob = into or (NewBlob(layout) if keep_blob else None)
    layer = None
    try:
        layer = NewLayer(layout) if unpack else None
        taken = _Intake(read, blob)
        chunks = taken.chunks()
        if layer is None:
            for _ in chunks:
                pass
            size = entries = 0
        else:
            size, entries = unpack_chunks(chunks, layer.diff_fd, limits or Limits())
        found_digest, found_diff_id = taken.digests()
        if digest and found_digest != digest:
            raise Corrupt(f"read layer {digest}: its bytes have digest {found_digest}")
        if diff_id and found_diff_id != diff_id:
            raise Corrupt(f"read layer {digest or diff_id}: its diff id is {found_diff_id}, the image says {diff_id}")
        if not diff_id and taken.looks_cut:
            raise Corrupt("read archive: it is cut short")
        if blob is not None:
            blob.digest = found_digest
    except BaseException:
        if blob is not None and into is None:
            blob.close()
        if layer is not None:
            layer.discard()
        raise
    return Ingested(
        digest=found_digest, diff_id=found_diff_id, size_bytes=taken.size_bytes, compression=taken.compression,
        unpacked_bytes=size, entries=entries, blob=blob, layer=layer,
    )


class _Intake:
    """Hashes and stores what is read, and gives the inflated chunks."""

    def __init__(self, read: Callable[[], bytes], blob: NewBlob | None) -> None:
        import hashlib  # cold

        self._read = read
        self._blob = blob
        self._stored = hashlib.sha256()
        self._inflated = hashlib.sha256()
        self.size_bytes = 0
        self.compression = ""
        self.looks_cut = False

    def chunks(self) -> Iterator[bytes]:
        """Yield the diff's bytes. Raises Corrupt, Unsupported, Unavailable."""
        head = self._next()
        while head and len(head) < 6:  # a pipe may give a byte at a time
            more = self._next()
            if not more:
                break
            head += more
        self.compression = inflate.detect(head)
        if not self.compression:
            while head:
                yield head
                head = self._next()
            return
        pending = [head]
        for piece in inflate.inflate(self.compression, lambda: pending.pop() if pending else self._next()):
            self._inflated.update(piece)
            yield piece
            # zstandard ends without a word where its input is cut off; a whole tar ends in zeros.
            self.looks_cut = self.compression == inflate.ZSTD and piece[-512:].count(0) != len(piece[-512:])

    def _next(self) -> bytes:
        data = self._read()
        if data:
            self._stored.update(data)
            self.size_bytes += len(data)
            if self._blob is not None:
                self._blob.write(data)
        return data

    def digests(self) -> tuple[str, str]:
        """Return digest and diff id."""
        stored = f"sha256:{self._stored.hexdigest()}"
        return stored, f"sha256:{self._inflated.hexdigest()}" if self.compression else stored


def unpack_chunks(chunks: Iterator[bytes], root_fd: int, limits: Limits) -> tuple[int, int]:
    """Feed chunks to an unpacking thread; returns bytes and members. Raises what either side raises."""
    import threading  # cold

    from .pipeline import ChunkQueue  # cold

    queue = ChunkQueue()
    writer = _Writer(queue, root_fd, limits)
    thread = threading.Thread(target=writer.run, name="mydocker-unpack", daemon=True)
    thread.start()
    failure: BaseException | None = None
    try:
        for chunk in chunks:
            if not queue.put(chunk):
                break
    except BaseException as error:
        failure = error
    queue.finish(failure)
    thread.join()
    if failure is not None:
        raise failure
    if writer.failure is not None:
        raise writer.failure
    return writer.size_bytes, writer.entries


class _Writer:
    """The unpacking thread."""

    def __init__(self, queue: ChunkQueue, root_fd: int, limits: Limits) -> None:
        self._queue = queue
        self._root_fd = root_fd
        self._limits = limits
        self.failure: BaseException | None = None
        self.size_bytes = 0
        self.entries = 0

    def run(self) -> None:
        """Unpack until the queue ends; an error is kept for the other thread to raise."""
        from .pipeline import QueueSource  # cold
        from .unpack import Unpacker, own_umask

        try:
            own_umask()
            source = QueueSource(self._queue)
            unpacker = Unpacker(self._root_fd, self._limits)
            unpacker.run(source)
            source.drain()  # what follows the end of the archive is part of the digest
            self.size_bytes, self.entries = unpacker.size_bytes, unpacker.entries
        except BaseException as error:
            self.failure = error
        finally:
            self._queue.abandon()


def read_file(fd: int, offset: int = 0, size: int | None = None) -> Callable[[], bytes]:
    """Return a `read` for `ingest` over a part of a file (pread; the file offset is left alone)."""
    position = offset
    end = os.fstat(fd).st_size if size is None else offset + size

    def read() -> bytes:
        nonlocal position
        data = os.pread(fd, min(CHUNK_BYTES, end - position), position)
        if not data and position < end:
            raise Corrupt("read archive: it is cut short")
        position += len(data)
        return data

    return read


def read_stream(stream: object) -> Callable[[], bytes]:
    """Return a `read` for `ingest` over a descriptor or a binary file object."""
    if isinstance(stream, int):
        fd = stream
        return lambda: os.read(fd, CHUNK_BYTES)
    read = getattr(stream, "read", None)
    if read is None:
        raise MydockerError(f"read archive: {type(stream).__name__} is no file")
    return lambda: read(CHUNK_BYTES) or b""
