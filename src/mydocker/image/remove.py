"""`rmi` and the sweep: names first, then what nobody needs any more.

Mark and sweep, under the image index lock: the index is stored without the image first; then its
blobs are unlinked unless another image has them, and its layers are renamed to trash/ unless an image
or a container's record names them. What a crash leaves in between, `collect` finds.
"""
from __future__ import annotations

import os
import time

from mydocker.base.errors import Conflict
from mydocker.base.record import Record
from mydocker.base.trace import point
from mydocker.oci.reference import parse
from mydocker.storage import blobs, layers, mountpoints, refs, trash

from . import hostimage, index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.base.paths import Layout
    from mydocker.oci.image_spec import Descriptor

#: A blob without an image may be another tool's image in the making.
_BLOB_GRACE_S = 3600


class RemovedImage(Record):
    """What is gone: familiar references, and the image id when the image itself went."""

    untagged: tuple[str, ...]
    deleted: tuple[str, ...]


def remove(layout: Layout, descriptor: Descriptor, *, reference: str, force: bool) -> RemovedImage:
    """Remove one name of an image (`reference`, canonical), or the image with all names (empty `reference`).

    The last name takes the image with it. Raises Conflict when a container uses the image, or when it
    has several names and none was given, unless `force`.
    """
    digest = descriptor["digest"]

    def change(manifests: list[Descriptor]) -> tuple[RemovedImage, refs.Marks]:
        mine = [entry for entry in manifests if entry["digest"] == digest]
        going = [entry for entry in mine if not reference or index.name_of(entry) == reference]
        names = [index.name_of(entry) for entry in going if index.name_of(entry)]
        if not reference and len(names) > 1 and not force:
            shown = ", ".join(parse(name).familiar for name in names)
            raise Conflict(f"remove image {digest}: it has several names: {shown}", hint="remove by name, or use --force")
        is_last = len(going) == len(mine)
        if is_last and not force:
            _refuse_used(layout, digest, names)
        manifests[:] = [entry for entry in manifests if entry not in going]
        untagged = tuple(parse(name).familiar for name in names)
        if not is_last:
            return RemovedImage(untagged=untagged, deleted=()), refs.Marks(blobs=frozenset(), layers=frozenset())
        lost, needed = refs.mark_images(layout, mine), refs.mark_images(layout, manifests)
        # Besides its own, layers that got their names but never an image: whoever made them was killed in between.
        return RemovedImage(untagged=untagged, deleted=(digest,)), refs.Marks(
            blobs=lost.blobs - needed.blobs, layers=(lost.layers | layers.chains(layout)) - needed.layers
        )

    removed, _ = index.update(layout, change, then=lambda result: _sweep_locked(layout, result[1]))
    trash.sweep(layout)
    return removed


def _refuse_used(layout: Layout, digest: str, names: list[str]) -> None:
    for record in refs.container_records(layout):
        if record.get("image_id") == digest:
            name = parse(names[0]).familiar if names else digest
            raise Conflict(
                f"remove image {name}: container {record.get('name') or record.get('id')} uses it",
                hint="remove the container first, or use --force",
            )


def _sweep_locked(layout: Layout, lost: refs.Marks) -> None:
    point("image unnamed")
    for digest in lost.blobs:
        try:
            os.unlink(blobs.path(layout, digest))
        except FileNotFoundError:
            pass
    used = refs.container_layers(layout)
    for chain_id in lost.layers - used:
        layers.remove_layer(layout, chain_id, is_used=lambda name: name in refs.container_layers(layout))
    point("image layers unlinked")


def collect(layout: Layout) -> None:
    """Remove all that no image and no container needs: layers, old blobs, dead temporary ones, trash.

    Safe at any time beside anything.
    """
    if os.path.isdir(blobs.directory(layout)):
        index.update(layout, lambda manifests: refs.mark_images(layout, manifests), then=lambda m: _collect_locked(layout, m))
    layers.sweep(layout)
    trash.sweep(layout)


def _collect_locked(layout: Layout, needed: refs.Marks) -> None:
    keep = {chain_id.rpartition(":")[2] for chain_id in needed.layers | refs.container_layers(layout)}
    keep |= {hostimage.ensure_hide_layer(layout), mountpoints.NAME}
    for name in os.listdir(layout.layers):
        if name.startswith(".") or name in keep:
            continue
        layers.remove_layer(
            layout, name, is_used=lambda name: name in {used.rpartition(":")[2] for used in refs.container_layers(layout)}
        )
    oldest = time.time() - _BLOB_GRACE_S
    for name in os.listdir(blobs.directory(layout)):
        place = f"{blobs.directory(layout)}/{name}"
        if f"sha256:{name}" not in needed.blobs and os.stat(place).st_mtime < oldest:
            os.unlink(place)


