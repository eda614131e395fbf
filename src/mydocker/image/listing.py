"""All images, and all that is known of one: what `images` and `inspect` show."""
from __future__ import annotations

from mydocker.base.errors import NotFound
from mydocker.base.record import Record
from mydocker.oci import reference as references
from mydocker.oci.digest import chain_ids
from mydocker.storage import layers

from . import hostimage, index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mydocker.base.paths import Layout
    from mydocker.oci.image_spec import Descriptor, ImageConfig

    from .store import Images


class ImageSummary(Record):
    """One line of `images`: one name of one image."""

    reference: str           # familiar, empty when it has no name
    id: str                  # digest of the config
    manifest_digest: str
    digest: str              # of what its registry has under the name: the manifest, or what it was pulled by or pushed as
    created: str             # RFC 3339, as the config says; may be empty
    size_bytes: int          # of the unpacked layers
    base: str = ""
    labels: tuple[tuple[str, str], ...] = ()


def list_images(images: Images) -> list[ImageSummary]:
    """Return every name of every image, newest first. Raises Corrupt."""
    found = []
    for descriptor in index.load(images.layout):
        try:
            manifest, config = images.documents(descriptor)
        except NotFound:
            continue  # removed at this moment
        canonical, inner = index.name_of(descriptor), config.get("config") or {}
        found.append(ImageSummary(
            reference=references.parse(canonical).familiar if canonical else "", id=manifest["config"]["digest"],
            manifest_digest=descriptor["digest"], digest=index.known_digest(descriptor),
            created=config.get("created") or "", base=index.base_of(descriptor),
            size_bytes=_size_bytes(images.layout, config), labels=tuple((inner.get("Labels") or {}).items()),
        ))
    found.sort(key=lambda image: (image.created, image.reference), reverse=True)
    return found


def inspect_image(images: Images, name: str) -> dict[str, Any]:
    """Return an image's documents: see `Images.inspect`. Raises NotFound, Conflict, Corrupt."""
    if name in (hostimage.NAME, f"{hostimage.NAME}:latest"):
        return {
            "reference": hostimage.NAME, "references": [hostimage.NAME], "id": hostimage.NAME, "base": hostimage.NAME,
            "config": dict(hostimage.config()), "layers": [], "size_bytes": 0,
        }
    descriptor = images.find(name)
    manifest, config = images.documents(descriptor)
    entries = [entry for entry in index.load(images.layout) if entry["digest"] == descriptor["digest"] and index.name_of(entry)]
    names = [references.parse(index.name_of(entry)).familiar for entry in entries]
    return {
        "reference": names[0] if names else "", "references": names, "id": manifest["config"]["digest"],
        "repo_digests": sorted({_repo_digest(entry) for entry in entries}),
        "manifest_digest": descriptor["digest"], "media_type": descriptor["mediaType"], "base": index.base_of(descriptor),
        "config": config, "manifest": manifest, "layers": list(chain_ids(config["rootfs"].get("diff_ids") or [])),
        "size_bytes": _size_bytes(images.layout, config),
    }


def _repo_digest(entry: Descriptor) -> str:
    """Return `name@digest` under which a registry knows the image."""
    return f"{references.parse(index.name_of(entry)).familiar_name}@{index.known_digest(entry)}"


def _size_bytes(layout: Layout, config: ImageConfig) -> int:
    chain = chain_ids(config["rootfs"].get("diff_ids") or [])
    return sum(layers.size_bytes(layout, chain_id) for chain_id in chain)
