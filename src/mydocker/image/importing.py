"""`import`: a tar of a root file system becomes an image of one layer.

The layer's blob is the tar as it came, compressed (but for bzip2 and xz, which no layer can have) or
not: compressing it would cost more than all the rest. A tar cannot say what an image is based on, and
a label in it means nothing here.
"""
from __future__ import annotations

import os

from mydocker.base import clock
from mydocker.base.errors import Corrupt, NotFound, Unavailable
from mydocker.base.undo import Undo
from mydocker.oci.media_types import MEDIA_MANIFEST
from mydocker.storage import blobs, whole
from mydocker.storage.ingest import CHUNK_BYTES, ingest, read_stream

from . import config
from .publish import NewImage, Staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, BinaryIO

    from mydocker.base.paths import Layout
    from mydocker.oci.image_spec import ImageConfig


def import_tar(
    layout: Layout,
    source: str | os.PathLike[str] | BinaryIO,
    reference: str,
    *,
    message: str = "",
    overrides: dict[str, Any] | None = None,
    change: Sequence[str] = (),
    platform: str = "",
) -> str:
    """Import a tar (plain, gzip, zstd, bzip2, xz) from a path, an http URL, `-` (standard input) or a binary file.

    `reference` is canonical, or empty for none; `overrides` are words of the image config
    (`config.OVERRIDES`), `change` lines of a Dockerfile (image/changes.py). Returns
    the manifest's digest. Raises NotFound, Corrupt, Unavailable,
    Unsupported.
    """
    def make_config(diff_id: str, created: str, comment: str) -> ImageConfig:
        return config.new_config(diff_id, created, comment=comment, overrides=overrides, change=change, wanted=platform)

    make_config("", "", "")  # a mistake is told before anything is read
    layout.ensure()
    blobs.ensure_layout(layout)
    shown = os.fspath(source) if isinstance(source, (str, os.PathLike)) else "-"
    with Undo() as undo:
        if shown.startswith(("http://", "https://")):
            read = _open_url(shown, undo)
        elif shown == "-":
            read = read_stream(0 if source == "-" else source)
        else:
            fd = _open(shown)
            undo.callback(os.close, fd)
            read = read_stream(fd)
        return _import(layout, read, reference, message or f"Imported from {os.path.basename(shown)}", make_config)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"import {path}: there is no such file") from None


def _open_url(url: str, undo: Undo) -> Callable[[], bytes]:
    """Return a `read` over what a URL gives; `undo` closes it. Raises Unavailable."""
    from mydocker.registry import settings  # cold: HTTP and TLS
    from mydocker.registry.transport import Transport

    transport = Transport(settings.load())
    undo.callback(transport.close)
    response = transport.send("GET", url)
    undo.callback(response.close)
    if response.status != 200:
        raise Unavailable(f"import {url}: the server answers {response.status}")
    return lambda: response.read(CHUNK_BYTES)


def _import(
    layout: Layout, read: Callable[[], bytes], reference: str, message: str, make_config: Callable[[str, str, str], ImageConfig]
) -> str:
    created = clock.format_rfc3339(clock.now_ns())
    with Staging(layout) as staging:
        layer = ingest(layout, whole.opened(read))
        staging.add_layer(layer.diff_id, layer)  # the chain id of the lowest layer is its diff id
        if not layer.size_bytes:
            raise Corrupt("import: the archive is empty")
        config_bytes = config.encode(make_config(layer.diff_id, created, message))
        manifest = config.new_manifest(
            config_bytes, [config.layer_descriptor(layer.digest, layer.size_bytes, layer.compression)]
        )
        manifest_bytes = config.encode(manifest)
        staging.add_document(config_bytes)
        staging.add_document(manifest_bytes)
        descriptor = config.describe(manifest_bytes, MEDIA_MANIFEST)
        staging.publish([NewImage(
            descriptor=descriptor, references=(reference,) if reference else (), diff_ids=(layer.diff_id,), needs=(),
        )])
        return descriptor["digest"]
