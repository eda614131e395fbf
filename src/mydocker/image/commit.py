"""`commit`: a container's write layer becomes the top layer of a new image.

The new layer's directory is unpacked from the very tar that becomes the blob, in the same pass, so
that what runs here is what others will get. The caller has paused the container or knows that it
does not write.
"""
from __future__ import annotations

from mydocker.base import clock, jsontext
from mydocker.base.errors import Conflict, NotFound
from mydocker.oci import image_spec, media_types
from mydocker.oci.digest import chain_ids
from mydocker.storage import blobs, diff
from mydocker.storage.ingest import ingest

from . import config, hostimage, index
from .changes import apply_changes
from .publish import NewImage, Staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from mydocker.base.paths import Layout
    from mydocker.oci.image_spec import Descriptor, ImageConfig


def commit(
    layout: Layout,
    upper_dir: str,
    *,
    manifest_digest: str,
    base: str,
    reference: str = "",
    author: str = "",
    message: str = "",
    command: str = "",
    overrides: dict[str, Any] | None = None,
    change: Sequence[str] = (),
) -> str:
    """Make an image of a container's changes; returns the manifest's digest.

    `manifest_digest` and `base` are those of the image that the container runs (`manifest_digest`
    is empty for the built-in `host`); `reference` is canonical or empty; `command` is what history
    shows; `overrides` replace words of the image config, then `change` (lines of a Dockerfile) is
    applied. Raises Conflict when the container's image
    was removed, Unsupported, OSError.
    """
    blobs.ensure_layout(layout)
    below, layers = _load_base(layout, manifest_digest)
    # A mistake in a change is told before anything is read.
    apply_changes(config.apply_overrides(dict(below.get("config") or {}), overrides), change)
    created = clock.format_rfc3339(clock.now_ns())
    with Staging(layout) as staging:
        layer = ingest(layout, diff.read_diff(upper_dir))
        document = config.extended_config(
            below, layer.diff_id, created, author=author, message=message, command=command, overrides=overrides,
            change=change,
        )
        diff_ids = image_spec.diff_ids_of(document, what="image config")
        chain = chain_ids(diff_ids)
        staging.add_layer(chain[-1], layer)
        for chain_id in chain[:-1]:
            staging.held.add(layout, chain_id)
        config_bytes = config.encode(document)
        manifest_bytes = config.encode(config.new_manifest(
            config_bytes, [*layers, config.layer_descriptor(layer.digest, layer.size_bytes, layer.compression)]
        ))
        staging.add_document(config_bytes)
        staging.add_document(manifest_bytes)
        descriptor = config.describe(manifest_bytes, media_types.MEDIA_MANIFEST)
        if base == hostimage.NAME:
            descriptor["annotations"] = {index.BASE: index.HOST_BASE}
        staging.publish([NewImage(
            descriptor=descriptor, references=(reference,) if reference else (), diff_ids=tuple(diff_ids),
            needs=tuple(entry["digest"] for entry in layers),
        )])
        return descriptor["digest"]


def _load_base(layout: Layout, manifest_digest: str) -> tuple[ImageConfig, list[Descriptor]]:
    if not manifest_digest:
        return hostimage.config(), []
    try:
        manifest = jsontext.loads(blobs.read_verified(layout, manifest_digest), source=f"manifest {manifest_digest}")
        below = jsontext.loads(
            blobs.read_verified(layout, manifest["config"]["digest"]), source=f"config of {manifest_digest}"
        )
    except NotFound as error:
        raise Conflict(
            f"commit: the image of the container was removed ({manifest_digest})", hint="load or import it again first"
        ) from error
    return below, list(manifest["layers"])
