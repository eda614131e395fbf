"""Files that a crash leaves either old or new.

Owns the write-temporary-then-rename idiom and small whole-file reads. Knows nothing of what the
files mean. Paths are `str`; a directory may be given by descriptor (`dir_fd`), which is both faster
and safe against a moved parent.
"""
from __future__ import annotations

import os

from . import jsontext
from .errors import Corrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Nothing that the engine writes for itself is larger; a bigger file is not ours.
MAX_DOCUMENT_BYTES = 32 << 20


def read_bytes(path: str, *, dir_fd: int | None = None, limit_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """Return the content of a small file. Raises OSError; Corrupt when it is larger than the limit."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        chunks = []
        total = 0
        while chunk := os.read(fd, 1 << 16):
            chunks.append(chunk)
            total += len(chunk)
            if total > limit_bytes:
                raise Corrupt(f"read {path}: larger than {limit_bytes} bytes")
        return b"".join(chunks)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data` to a blocking descriptor. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


def replace_bytes(path: str, data: bytes, *, dir_fd: int | None = None, mode: int = 0o600, durable: bool = False) -> None:
    """Replace a file atomically: readers see the old content or the new, never a part.

    `durable` also survives power loss (fsync of file and directory): for images and volumes, never
    on the start path. The temporary name is random: two writers do not meet, be they threads of one process. It starts
    with a dot and ends in `.tmp`, which the sweep of its directory's owner removes after a crash.
    """
    head, _, tail = path.rpartition("/")
    temporary = f"{head}/.{tail}.{os.urandom(8).hex()}.tmp" if head else f".{tail}.{os.urandom(8).hex()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=dir_fd)
    try:
        try:
            write_all(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = path  # write(2) knows no names
        os.unlink(temporary, dir_fd=dir_fd)
        raise
    if durable:
        sync_directory(head or ".", dir_fd=dir_fd)


def sync_directory(path: str, *, dir_fd: int | None = None) -> None:
    """Make the entries of a directory survive power loss (fsync(2))."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def load_json(path: str, *, dir_fd: int | None = None) -> Any:
    """Return the JSON document in a file. Raises OSError, Corrupt."""
    return jsontext.loads(read_bytes(path, dir_fd=dir_fd), source=path)


def save_json(path: str, value: Any, *, dir_fd: int | None = None, durable: bool = False) -> None:
    """Replace a file by a JSON document, atomically (see `replace_bytes`)."""
    replace_bytes(path, jsontext.dumps(value).encode() + b"\n", dir_fd=dir_fd, durable=durable)
