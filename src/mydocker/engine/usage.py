"""`system df`: what the state root takes on the disk, and by what. The parts add up to what du(1) says of it."""
from __future__ import annotations

import os

from mydocker.base.record import Record
from mydocker.storage import blobs, refs
from mydocker.storage import volumes as stored_volumes
from mydocker.storage.usage import DiskUsage

from .lifecycle import ALIVE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.base.paths import Layout
    from mydocker.image.listing import ImageSummary

    from .engine import Engine


class Part(Record):
    """One line: how many things there are, how many are in use, their bytes on the disk, and the bytes nobody uses."""

    kind: str
    total: int
    active: int
    size_bytes: int
    reclaimable_bytes: int


class ImageUse(Record):
    """One image: the bytes it shares with others, those it has alone, and how many containers stand on it."""

    id: str
    manifest_digest: str
    references: tuple[str, ...]
    created: str
    shared_bytes: int
    unique_bytes: int
    containers: int


class ContainerUse(Record):
    """One container and the bytes of its own."""

    id: str
    name: str
    image: str
    status: str
    size_bytes: int


class VolumeUse(Record):
    """One volume: the bytes it takes, and how many containers have it."""

    name: str
    links: int
    size_bytes: int


class Usage(Record):
    """All of it; `size_bytes` is the sum of the parts and what du(1) says."""

    parts: tuple[Part, ...]
    images: tuple[ImageUse, ...]
    containers: tuple[ContainerUse, ...]
    volumes: tuple[VolumeUse, ...]
    size_bytes: int


def measure(engine: Engine) -> Usage:
    """Measure the state root. What is written or removed meanwhile is counted or not."""
    disk, layout = DiskUsage(), engine.layout
    unpacked, layer_sizes = disk.measure_entries(layout.layers)
    own, container_sizes = disk.measure_entries(layout.containers)
    volumes_bytes, volume_sizes = disk.measure_entries(layout.volumes)
    steps, step_sizes = disk.measure_entries(layout.build)
    stored = disk.measure(layout.image)
    known = {layout.image, layout.layers, layout.containers, layout.volumes, layout.build, layout.root}
    rest = disk.measure_alone(layout.root) + sum(
        disk.measure(f"{layout.root}/{name}") for name in os.listdir(layout.root) if f"{layout.root}/{name}" not in known)
    images, used_bytes = _measure_images(engine, layer_sizes)
    containers = tuple(
        ContainerUse(id=container.id, name=container.name, image=container.image, status=container.status,
                     size_bytes=container_sizes.get(container.id, 0))
        for container in engine.containers.list(on_error=lambda error: None))
    users = stored_volumes.users(layout)
    volumes = tuple(
        VolumeUse(name=name, links=len(users.get(name, ())), size_bytes=size) for name, size in volume_sizes.items())
    alive = [container for container in containers if container.status in ALIVE]
    parts = (
        Part(kind="Images", total=len(images), active=sum(1 for image in images if image.containers),
             size_bytes=stored + unpacked, reclaimable_bytes=max(0, stored + unpacked - used_bytes)),
        Part(kind="Containers", total=len(containers), active=len(alive), size_bytes=own,
             reclaimable_bytes=sum(each.size_bytes for each in containers) - sum(each.size_bytes for each in alive)),
        Part(kind="Local Volumes", total=len(volumes), active=sum(1 for each in volumes if each.links), size_bytes=volumes_bytes,
             reclaimable_bytes=sum(each.size_bytes for each in volumes if not each.links)),
        # Records of steps and the directories of cache mounts; what a step made is a layer, counted with those of images.
        Part(kind="Build Cache", total=len(step_sizes), active=0, size_bytes=steps, reclaimable_bytes=steps),
        Part(kind="Engine", total=0, active=0, size_bytes=rest, reclaimable_bytes=disk.measure(layout.trash)),
    )
    return Usage(
        parts=parts, images=images, containers=containers, volumes=volumes, size_bytes=sum(part.size_bytes for part in parts))


def _measure_images(engine: Engine, layer_sizes: dict[str, int]) -> tuple[tuple[ImageUse, ...], int]:
    """Return the images, and the bytes of what containers stand on (with the engine's own layers)."""
    layout = engine.layout
    users: dict[str, int] = {}
    for record in refs.container_records(layout):
        digest = str(record.get("image_id") or "")
        users[digest] = users.get(digest, 0) + 1
    summaries: dict[str, list[ImageSummary]] = {}
    for summary in engine.images.list():
        summaries.setdefault(summary.manifest_digest, []).append(summary)
    needs = {digest: refs.mark_digests(layout, (digest,)) for digest in summaries}
    counts: dict[str, int] = {}
    for marks in needs.values():
        for name in (*marks.blobs, *marks.layers):
            counts[name] = counts.get(name, 0) + 1

    def size_of(marks: refs.Marks, *, is_shared: bool) -> int:
        sizes = [_blob_bytes(layout, name) for name in marks.blobs if (counts[name] > 1) == is_shared]
        sizes += [layer_sizes.get(name.rpartition(":")[2], 0) for name in marks.layers if (counts[name] > 1) == is_shared]
        return sum(sizes)

    images = tuple(
        ImageUse(
            id=found[0].id, manifest_digest=digest, references=tuple(each.reference for each in found if each.reference),
            created=found[0].created, shared_bytes=size_of(needs[digest], is_shared=True),
            unique_bytes=size_of(needs[digest], is_shared=False), containers=users.get(digest, 0))
        for digest, found in summaries.items())
    used = [marks for digest, marks in needs.items() if users.get(digest)]
    used_blobs = frozenset().union(*(marks.blobs for marks in used))
    used_layers = {name.rpartition(":")[2] for name in refs.container_layers(layout).union(*(marks.layers for marks in used))}
    kept = sum(size for name, size in layer_sizes.items() if name in used_layers or len(name) != 64)
    return images, kept + sum(_blob_bytes(layout, name) for name in used_blobs)


def _blob_bytes(layout: Layout, digest: str) -> int:
    try:
        return os.stat(blobs.path(layout, digest)).st_blocks * 512
    except FileNotFoundError:
        return 0
