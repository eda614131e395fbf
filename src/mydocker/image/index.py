"""index.json of the image layout: which images there are, under which references.

One descriptor a reference. `org.opencontainers.image.ref.name` holds the canonical reference
(`docker.io/library/busybox:latest`), so that other OCI tools find it; a descriptor without it is an
image that lost its name. `io.mydocker.base` is ours alone: set by commit, never taken from an
archive (an image that says it is based on `host` would otherwise reach the machine's files).

Lock: image/ itself, exclusive, for a change (base/locks.py, rank 2). Readers need none: the file is
replaced whole. Source: image-layout.md and annotations.md of the OCI image-spec.
"""
from __future__ import annotations

from mydocker.base import files, locks
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
#: What the name meant at its registry, where that is an index: the digest under which others know the image.
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

    Nothing is stored when `change` raises. `then` runs after storing, still locked: removal of what
    the index no longer names, which must neither come earlier nor meet a newcomer.
    """
    lock = locks.lock_directory(layout.image)
    assert lock is not None  # it waits
    with lock:
        manifests = load(layout)
        result = change(manifests)
        document = {"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": manifests}
        files.save_json(f"{layout.image}/index.json", document, durable=True)
        if then is not None:
            then(result)
        return result


def name_of(descriptor: Descriptor) -> str:
    """Return a descriptor's canonical reference, or nothing."""
    return descriptor.get("annotations", {}).get(REF_NAME, "")


def base_of(descriptor: Descriptor) -> str:
    """Return `host` for an image made by commit on the built-in image, else nothing."""
    return HOST_BASE if descriptor.get("annotations", {}).get(BASE) == HOST_BASE else ""


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
