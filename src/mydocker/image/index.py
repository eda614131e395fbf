"""index.json of the image layout: which images there are, under which references.

One descriptor a reference. `org.opencontainers.image.ref.name` holds the canonical reference
(`docker.io/library/busybox:latest`), so that other OCI tools find it; a descriptor without it is an
image that lost its name. `io.mydocker.base` is ours alone: set by commit, never taken from an
archive (an image that says it is based on `host` would otherwise reach the machine's files).

Lock: image/ itself, exclusive, for a change (base/locks.py, rank 2). Readers need none: the file is
replaced whole. Source: image-layout.md and annotations.md of the OCI image-spec.
"""
from __future__ import annotations

import errno
import os

from mydocker.base import files, jsontext, locks
from mydocker.oci.media_types import MEDIA_INDEX, REF_NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from mydocker.base.paths import Layout
    from mydocker.oci.image_spec import Descriptor

    T = TypeVar("T")

BASE = "io.mydocker.base"
HOST_BASE = "host"
#: Room on the disk for one index.json more, so that images can be removed when there is no other.
RESERVE = "index.reserve"
RESERVE_BYTES = 8192
#: What the name meant at its registry, where that is another digest than here (of an index; of a manifest whose layers
#: were packed to be pushed): the one under which others know the image.
PULLED = "io.mydocker.pulled"


def load(layout: Layout) -> list[Descriptor]:
    """Return the descriptors; none when nothing was ever stored. Raises Corrupt."""
    try:
        manifests = files.load_json(f"{layout.image}/index.json")["manifests"]
    except FileNotFoundError:
        return []
    except (KeyError, TypeError):
        from mydocker.base.errors import Corrupt  # cold

        raise Corrupt(f"read {layout.image}/index.json: it is no image index") from None
    return manifests  # type: ignore[no-any-return]


def update(layout: Layout, change: Callable[[list[Descriptor]], T], then: Callable[[T], None] | None = None) -> T:
    """Lock the index, let `change` edit the list of descriptors, store it durably; returns what it returns.

    Nothing is stored when `change` raises, or changes nothing. `then` runs after storing, still locked: removal of what
    the index no longer names, which must neither come earlier nor meet a newcomer.
    """
    lock = locks.lock_directory(layout.image)
    assert lock is not None  # it waits
    with lock:
        manifests = load(layout)
        before = list(manifests)
        result = change(manifests)
        if manifests != before or not os.path.exists(f"{layout.image}/index.json"):
            _store_locked(layout, manifests, shrinks=len(manifests) <= len(before))
        if then is not None:
            then(result)
        return result


def _store_locked(layout: Layout, manifests: list[Descriptor], *, shrinks: bool) -> None:
    """Replace index.json. On a full disk a removal goes on in the reserve: it is what makes room."""
    data = jsontext.dumps({"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": manifests}).encode() + b"\n"
    place = f"{layout.image}/index.json"
    try:
        files.replace_bytes(place, data, durable=True)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not shrinks or not _store_in_reserve(layout, place, data):
            raise
        return
    _keep_reserve(layout, len(data))


def _store_in_reserve(layout: Layout, place: str, data: bytes) -> bool:
    """Make the reserve, whose blocks are allocated, the new index.json; False when there is none that is large enough."""
    reserve = f"{layout.image}/{RESERVE}"
    try:
        fd = os.open(reserve, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        if os.fstat(fd).st_size < len(data):
            return False
        files.write_all(fd, data)
        os.ftruncate(fd, len(data))
        os.fsync(fd)
        os.rename(reserve, place)
    finally:
        os.close(fd)
    files.sync_directory(layout.image)
    return True


def _keep_reserve(layout: Layout, size_bytes: int) -> None:
    """See that the reserve has room for an index of that size, where the disk has."""
    try:
        fd = os.open(f"{layout.image}/{RESERVE}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.fstat(fd).st_size < size_bytes:
                # Written, not fallocate(2)d: an unwritten extent may want a block to be split.
                files.write_all(fd, bytes(2 * size_bytes + RESERVE_BYTES))
        finally:
            os.close(fd)
    except OSError:
        pass  # there is no room for it now; the next change tries again


def name_of(descriptor: Descriptor) -> str:
    """Return a descriptor's canonical reference, or nothing."""
    return descriptor.get("annotations", {}).get(REF_NAME, "")


def base_of(descriptor: Descriptor) -> str:
    """Return `host` for an image made by commit on the built-in image, else nothing."""
    return HOST_BASE if descriptor.get("annotations", {}).get(BASE) == HOST_BASE else ""


def known_digest(descriptor: Descriptor) -> str:
    """Return the digest under which the registry of its name knows an image."""
    return descriptor.get("annotations", {}).get(PULLED) or descriptor["digest"]


def pulled_as(descriptor: Descriptor, digest: str) -> Descriptor:
    """Return the same descriptor with the digest that its name means at its registry."""
    annotations = {key: value for key, value in descriptor.get("annotations", {}).items() if key != PULLED}
    if digest != descriptor["digest"]:
        annotations[PULLED] = digest
    result: Descriptor = {**descriptor, "annotations": annotations}
    if not annotations:
        del result["annotations"]
    return result


def tag(manifests: list[Descriptor], target: Descriptor, reference: str) -> None:
    """Let `reference` (canonical; empty for none) mean `target`, in a list that `update` gave.

    What had that name before keeps its entry without one, unless it has other names.
    """
    for position, descriptor in enumerate(manifests):
        if not reference or name_of(descriptor) != reference:
            continue
        if descriptor["digest"] == target["digest"]:
            manifests[position] = named(target, reference)
            return
        del manifests[position]
        if not any(other["digest"] == descriptor["digest"] for other in manifests):
            manifests.insert(position, named(descriptor, ""))
        break
    if not reference:
        if any(other["digest"] == target["digest"] for other in manifests):
            return
    else:
        # A name for an image that had none replaces its nameless entry.
        manifests[:] = [d for d in manifests if d["digest"] != target["digest"] or name_of(d)]
    manifests.append(named(target, reference))


def named(descriptor: Descriptor, reference: str) -> Descriptor:
    """Return the same descriptor under another name, or under none."""
    annotations = {key: value for key, value in descriptor.get("annotations", {}).items() if key != REF_NAME}
    if reference:
        annotations[REF_NAME] = reference
    result: Descriptor = {
        "mediaType": descriptor["mediaType"], "digest": descriptor["digest"], "size": descriptor["size"],
    }
    if "platform" in descriptor:
        result["platform"] = descriptor["platform"]
    if annotations:
        result["annotations"] = annotations
    return result
