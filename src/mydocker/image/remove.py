"""`rmi` and the sweep: names first, then what nobody needs any more.

Mark and sweep, under the image index lock: the index is stored without the image first; then its
blobs are unlinked unless another image has them, and its layers are renamed to trash/ unless an image
or a container's record names them. What a crash leaves in between, `collect` finds.
"""
from __future__ import annotations

import os

from mydocker.base.errors import Conflict, Corrupt, NotFound
from mydocker.base.record import Record
from mydocker.base.trace import point
from mydocker.oci.reference import parse
from mydocker.storage import blobs, layers, mountpoints, partials, refs, trash

from . import hostimage, index, publications

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mydocker.base.paths import Layout
    from mydocker.oci.image_spec import Descriptor

    from .listing import ImageSummary

class RemovedImage(Record):
    """What is gone: familiar references, and the image id when the image itself went, with the bytes that it held alone."""

    untagged: tuple[str, ...]
    deleted: tuple[str, ...]
    reclaimed_bytes: int = 0


def remove(
    layout: Layout, digests: Sequence[str], *, reference: str, force: bool, most_names: int | None = 1
) -> RemovedImage:
    """Remove one name of an image (`reference`, canonical), or the image with all names (empty `reference`).

    `digests` are of its manifests: the same image, pushed and pulled again, has one of packed layers besides its own.

    The last name takes the image with it. Raises Conflict when a container uses the image, or when none of its names
    was given and it has more than `most_names` (None: any number), unless `force`.
    """
    freed = 0

    def change(manifests: list[Descriptor]) -> tuple[RemovedImage, refs.Marks]:
        mine = [entry for entry in manifests if entry["digest"] in digests]
        going = [entry for entry in mine if not reference or index.name_of(entry) == reference]
        names = [index.name_of(entry) for entry in going if index.name_of(entry)]
        if not reference and most_names is not None and len(names) > most_names and not force:
            shown = ", ".join(parse(name).familiar for name in names)
            raise Conflict(f"remove image {digests[0]}: it has several names: {shown}", hint="remove by name, or use --force")
        is_last = len(going) == len(mine)
        if is_last and not force:
            _refuse_used(layout, digests, names)
        manifests[:] = [entry for entry in manifests if entry not in going]
        untagged = tuple(parse(name).familiar for name in names)
        if not is_last:
            return RemovedImage(untagged=untagged, deleted=()), refs.Marks(blobs=frozenset(), layers=frozenset())
        lost, needed = refs.mark_images(layout, mine), refs.mark_needed(layout, manifests)
        # Besides its own, layers that got their names but never an image: whoever made them was killed in between.
        return RemovedImage(untagged=untagged, deleted=_lost_ids(layout, digests, manifests)), refs.Marks(
            blobs=lost.blobs - needed.blobs, layers=(lost.layers | layers.chains(layout)) - needed.layers
        )

    def sweep(result: tuple[RemovedImage, refs.Marks]) -> None:
        nonlocal freed
        freed = _sweep_locked(layout, result[1])

    removed, _ = index.update(layout, change, then=sweep)
    trash.sweep(layout)
    return removed.replace(reclaimed_bytes=freed)


def manifests_of(layout: Layout, digest: str) -> list[str]:
    """Return the digests of all manifests of the image that one manifest is of; that one first."""
    wanted = _image_id(layout, digest)
    others = dict.fromkeys(entry["digest"] for entry in index.load(layout))
    return [digest, *(other for other in others if other != digest and _image_id(layout, other) == wanted)]


def _lost_ids(layout: Layout, digests: Sequence[str], left: list[Descriptor]) -> tuple[str, ...]:
    """Return the ids of the images that go with these manifests: those that no manifest has that is left."""
    gone = {_image_id(layout, digest) for digest in digests}
    return tuple(sorted(gone - {_image_id(layout, entry["digest"]) for entry in left}))


def _image_id(layout: Layout, digest: str) -> str:
    """Return what people know an image by, the digest of its config; of a broken one what there is."""
    try:
        return str(blobs.load_document(layout, digest)["config"]["digest"])
    except (NotFound, Corrupt, KeyError, TypeError):
        return digest


def prune(
    layout: Layout, images: Sequence[ImageSummary], *, all: bool, matches: Callable[[ImageSummary], bool]
) -> list[RemovedImage]:
    """Remove the nameless ones of `images`, or with `all` every one, unless a container uses it or `matches` says no."""
    removed = []
    named = {image.manifest_digest for image in images if image.reference}
    for image in {image.manifest_digest: image for image in images}.values():
        if (image.manifest_digest in named and not all) or not matches(image):
            continue
        if not any(entry["digest"] == image.manifest_digest for entry in index.load(layout)):
            continue  # somebody else was faster
        try:
            removed.append(remove(layout, (image.manifest_digest,), reference="", force=False, most_names=None if all else 0))
        except Conflict:
            continue  # a container uses it, or it has just got a name
    return removed


def _refuse_used(layout: Layout, digests: Sequence[str], names: list[str]) -> None:
    for record in refs.container_records(layout):
        if record.get("image_id") in digests:
            name = parse(names[0]).familiar if names else digests[0]
            raise Conflict(
                f"remove image {name}: container {record.get('name') or record.get('id')} uses it",
                hint="remove the container first, or use --force",
            )


def _sweep_locked(layout: Layout, lost: refs.Marks) -> int:
    """Unlink what an image alone needed; returns the bytes that it held."""
    point("image unnamed")
    freed = sum(_unlink_blob(layout, digest) for digest in lost.blobs)
    used = refs.container_layers(layout)
    for chain_id in lost.layers - used:
        size = layers.size_bytes(layout, chain_id)
        if layers.remove_layer(layout, chain_id, is_used=lambda name: name in refs.container_layers(layout)):
            freed += size
    point("image layers unlinked")
    return freed


def _unlink_blob(layout: Layout, digest: str) -> int:
    try:
        size = os.stat(blobs.path(layout, digest)).st_size
        os.unlink(blobs.path(layout, digest))
    except FileNotFoundError:
        return 0
    return size


def collect(layout: Layout) -> int:
    """Remove all that no image and no container needs: layers, blobs, dead temporary files, trash.

    Safe at any time beside anything of ours: a blob gets its name with the index locked, in the step that makes the index
    name it, so one that has a name and is not needed belongs to a command that was killed. Returns the bytes that
    blobs and layers held.
    """
    freed = 0

    def sweep(needed: refs.Marks) -> None:
        nonlocal freed
        freed = _collect_locked(layout, needed)

    dead = publications.lock_dead(layout)
    try:
        if os.path.isdir(blobs.directory(layout)):
            index.update(layout, lambda manifests: refs.mark_needed(layout, manifests), then=sweep)
        while dead:
            dead.pop().finish()
    finally:
        for publication in dead:
            publication.close()
    freed += partials.sweep(layout)
    layers.sweep(layout)
    trash.sweep(layout)
    return freed


def _collect_locked(layout: Layout, needed: refs.Marks) -> int:
    freed = 0
    keep = {chain_id.rpartition(":")[2] for chain_id in needed.layers | refs.container_layers(layout)}
    keep |= {hostimage.plain_hide_layer(layout), mountpoints.NAME}
    for name in os.listdir(layout.layers):
        if name.startswith(".") or name in keep:
            continue
        size = layers.size_bytes(layout, name)
        if layers.remove_layer(
            layout, name, is_used=lambda name: name in {used.rpartition(":")[2] for used in refs.container_layers(layout)}
        ):
            freed += size
    for name in os.listdir(blobs.directory(layout)):
        if f"sha256:{name}" not in needed.blobs:
            place = f"{blobs.directory(layout)}/{name}"
            freed += os.stat(place).st_size
            os.unlink(place)
    for name in os.listdir(layout.image):
        # Written with the index locked, as it is now: the writer is dead (base/files.py names them so).
        if name.startswith(".") and name.endswith(".tmp"):
            os.unlink(f"{layout.image}/{name}")
    return freed
