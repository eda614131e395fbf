"""The blobs of the OCI image layout: immutable files named by the digest of their bytes.

    image/
      oci-layout               {"imageLayoutVersion": "1.0.0"}
      index.json               which images there are (image/index.py)
      index.reserve            room for one index.json more, for removals on a full disk
      blobs/sha256/<hex>       manifests, configs, layers as they came

Owns making, linking and removing them. A new blob has no name (O_TMPFILE) until it is whole, so a
crash leaves nothing (a pull's has one in partial/: storage/partials.py); it gets its name while the
image index is locked (see `link`), so that removal,
which holds the same lock, never takes one that is about to be used. Readers need no lock.
"""
from __future__ import annotations

import errno
import os

from mydocker.base import files, locks
from mydocker.base.errors import Corrupt, NotFound, Unavailable
from mydocker.oci.digest import digest_of, parse_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mydocker.base.paths import Layout


def directory(layout: Layout) -> str:
    """The directory of sha256 blobs."""
    return f"{layout.image}/blobs/sha256"


def path(layout: Layout, digest: str) -> str:
    """The file of one blob. Raises Corrupt for what is not a digest."""
    return f"{layout.image}/blobs/sha256/{parse_digest(digest)}"


def ensure_layout(layout: Layout) -> None:
    """Make the image layout's own files where they are missing."""
    os.makedirs(directory(layout), mode=0o700, exist_ok=True)
    marker = f"{layout.image}/oci-layout"
    if not os.path.exists(marker):
        lock = locks.lock_directory(layout.image)
        assert lock is not None  # it waits
        with lock:  # `collect` takes a temporary file for a dead one's while it has this
            files.replace_bytes(marker, b'{"imageLayoutVersion":"1.0.0"}', durable=True)


def is_there(layout: Layout, digest: str) -> bool:
    """Tell whether a blob has a name now."""
    return os.path.exists(path(layout, digest))


def load_document(layout: Layout, digest: str) -> Any:
    """Return a JSON blob. It was verified when it came in. Raises NotFound, Corrupt."""
    try:
        return files.load_json(path(layout, digest))
    except FileNotFoundError:
        raise NotFound(f"read blob {digest}: it is not there") from None


def read_verified(layout: Layout, digest: str, limit_bytes: int = 8 << 20) -> bytes:
    """Return a small blob whose digest was checked again. Raises NotFound, Corrupt."""
    try:
        data = files.read_bytes(path(layout, digest), limit_bytes=limit_bytes)
    except FileNotFoundError:
        raise NotFound(f"read blob {digest}: it is not there") from None
    check(data, digest)
    return data


def check(data: bytes, digest: str) -> None:
    """Raise Corrupt unless the bytes have the digest."""
    found = digest_of(data)
    if found != digest:
        raise Corrupt(f"read blob {digest}: its bytes have digest {found}")


class NewBlob:
    """A blob without a name yet: write to `fd`, set `digest`, then `link`. `close` without it forgets it."""

    __slots__ = ("digest", "fd", "size_bytes")

    def __init__(self, layout: Layout) -> None:
        self.digest = ""
        self.size_bytes = 0
        try:
            self.fd = os.open(directory(layout), os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(f"write below {directory(layout)}: {errno.errorcode.get(error.errno or 0)}") from error

    def write(self, data: bytes) -> None:
        """Append bytes. Raises Unavailable when the disk is full."""
        try:
            files.write_all(self.fd, data)
        except OSError as error:
            raise Unavailable(
                f"write a blob: {errno.errorcode.get(error.errno or 0)}", hint="make room on the disk of the state root"
            ) from error
        self.size_bytes += len(data)

    def link(self, layout: Layout) -> None:
        """Give the blob its name; somebody else's equal bytes are as good. Caller holds the image index lock."""
        place = os.open(directory(layout), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # With a dst_dir_fd Python calls linkat(AT_SYMLINK_FOLLOW), the way to name an O_TMPFILE
            # (open(2)); /proc/self/fd is ours, in the host's own procfs.
            os.link(f"/proc/self/fd/{self.fd}", parse_digest(self.digest), dst_dir_fd=place, follow_symlinks=True)
        except FileExistsError:
            pass
        finally:
            os.close(place)

    def close(self) -> None:
        """Close the file; without a name it is gone."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def discard(self) -> None:
        """Forget what was written."""
        self.close()


def new_document(layout: Layout, data: bytes) -> NewBlob:
    """Return a new blob of a short document; the caller links and closes it."""
    blob = NewBlob(layout)
    try:
        blob.write(data)
    except BaseException:
        blob.close()
        raise
    blob.digest = digest_of(data)
    return blob
