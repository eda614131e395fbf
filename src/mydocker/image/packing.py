"""Layers that are stored as plain tars (import, commit, build), on their way to a registry: gzip, as everybody pushes them.

The same tar always gives the same bytes, so a layer that is pushed twice, by whom ever, is one blob at the registry. What a
layer was packed to is noted at its blob (`user.mydocker.gzip`: digest and size), so that the next push can ask for it
without packing it again; the note goes with the blob, and nothing is wrong without it.
"""
from __future__ import annotations

import os

from mydocker.base.errors import Corrupt
from mydocker.oci.digest import parse_digest
from mydocker.oci.media_types import DOCKER_LAYER, MEDIA_LAYER
from mydocker.storage import blobs
from mydocker.storage.blobs import NewBlob
from mydocker.storage.ingest import CHUNK_BYTES

from . import config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from mydocker.base.paths import Layout
    from mydocker.oci.image_spec import Descriptor, Manifest

_NOTE = "user.mydocker.gzip"
#: ISA-L's best: 5 % more bytes than zlib's 6, in a tenth of its time (docs/decisions/0025-pushed-layers.md).
_LEVEL = 3
_GZIP_WINDOW = 31  # zlib's word for gzip's header and trailer around a window of 32 KiB


def is_plain(descriptor: Descriptor) -> bool:
    """Tell whether a layer is stored uncompressed."""
    return descriptor["mediaType"] in (DOCKER_LAYER, MEDIA_LAYER)


def is_our_own(manifest: Manifest, data: bytes) -> bool:
    """Tell whether a manifest is one that we write, byte for byte: others' stay as they are, for their digest is known."""
    return "annotations" not in manifest and config.encode(manifest) == data


def noted(layout: Layout, digest: str) -> Descriptor | None:
    """Return what a layer was packed to before, if that is known."""
    try:
        found, _, size = os.getxattr(blobs.path(layout, digest), _NOTE).decode("ascii").partition(" ")
        parse_digest(found)
        return config.layer_descriptor(found, int(size), "gzip")
    except (OSError, ValueError, Corrupt):
        return None  # never packed, or a file system without attributes


def pack(layout: Layout, digest: str, fd: int, moved: Callable[[int], None]) -> NewBlob:
    """Return a layer's blob as a nameless gzip file, to be closed; `moved` hears how far it is, and may raise.

    Raises Corrupt when the bytes are not those of the digest, Unavailable (full disk).
    """
    import hashlib  # cold

    from isal import isal_zlib

    machine = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP_WINDOW)
    plain, packed = hashlib.sha256(), hashlib.sha256()
    blob = NewBlob(layout)

    def write(piece: bytes) -> None:
        packed.update(piece)
        blob.write(piece)

    try:
        position = 0
        while data := os.pread(fd, CHUNK_BYTES, position):
            plain.update(data)
            write(machine.compress(data))
            position += len(data)
            moved(position)
        write(machine.flush())
        if f"sha256:{plain.hexdigest()}" != digest:
            raise Corrupt(f"read blob {digest}: its bytes have digest sha256:{plain.hexdigest()}", hint="mydocker image verify")
    except BaseException:
        blob.close()
        raise
    blob.digest = f"sha256:{packed.hexdigest()}"
    _note(fd, blob)
    return blob


def _note(fd: int, blob: NewBlob) -> None:
    try:
        os.setxattr(fd, _NOTE, f"{blob.digest} {blob.size_bytes}".encode())
    except OSError:
        pass  # then it is packed again the next time
