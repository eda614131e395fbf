"""Who uses which layers and blobs: the mark of mark-and-sweep. There are no counters to go wrong.

Pure reading: images are given by their documents, containers by the `layers` key of their records
(container/<id>/config.json). Takes no lock; whoever removes holds the image index lock and asks
again with the layer locked.
"""
from __future__ import annotations

import os

from mydocker.base import files
from mydocker.base.errors import Corrupt, NotFound
from mydocker.base.record import Record
from mydocker.oci.digest import chain_ids
from mydocker.oci.image_spec import diff_ids_of

from . import blobs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from mydocker.base.paths import Layout
    from mydocker.oci.image_spec import Descriptor


class Marks(Record):
    """What a set of images needs: digests of blobs, chain ids of layers."""

    blobs: frozenset[str]
    layers: frozenset[str]


def mark_images(layout: Layout, descriptors: Iterable[Descriptor]) -> Marks:
    """Return what the given images need. An image whose documents are gone needs only itself."""
    return mark_digests(layout, {descriptor["digest"] for descriptor in descriptors})


def mark_digests(layout: Layout, digests: Iterable[str]) -> Marks:
    """The same by the digests of the manifests."""
    used_blobs: set[str] = set()
    used_layers: set[str] = set()
    for digest in digests:
        used_blobs.add(digest)
        try:
            manifest = blobs.load_document(layout, digest)
            used_blobs.add(manifest["config"]["digest"])
            used_blobs.update(layer["digest"] for layer in manifest["layers"])
            config = blobs.load_document(layout, manifest["config"]["digest"])
            used_layers.update(chain_ids(diff_ids_of(config, what="image config")))
        except (NotFound, Corrupt, KeyError, TypeError):
            continue  # a foreign index entry, or one broken already: nothing more can be known of it
    return Marks(blobs=frozenset(used_blobs), layers=frozenset(used_layers))


def mark_needed(layout: Layout, descriptors: Iterable[Descriptor]) -> Marks:
    """Return what the given images and the build cache need."""
    marks, cached = mark_images(layout, descriptors), mark_cache(layout)
    return Marks(blobs=marks.blobs | cached.blobs, layers=marks.layers | cached.layers)


def mark_cache(layout: Layout) -> Marks:
    """Return what the records of the build cache need (build/cache.py)."""
    used_blobs: set[str] = set()
    used_layers: set[str] = set()
    try:
        names = [name for name in os.listdir(layout.build) if name.endswith(".json")]
    except FileNotFoundError:
        names = []
    for name in names:
        try:
            record = files.load_json(f"{layout.build}/{name}")
            if record["layer"] is not None:
                used_blobs.add(record["layer"]["blob"]["digest"])
                used_layers.update(record["chain"])
        except (FileNotFoundError, Corrupt, KeyError, TypeError):
            continue  # pruned at this moment, or half written before a power cut: it promises nothing
    return Marks(blobs=frozenset(used_blobs), layers=frozenset(used_layers))


def container_records(layout: Layout) -> Iterator[dict[str, Any]]:
    """Yield the record of each container that has one. Raises Corrupt: what such a container stands on cannot be told."""
    for name in os.listdir(layout.containers):
        path = f"{layout.container(name)}/config.json"
        try:
            record = files.load_json(path)
            if not isinstance(record, dict) or not isinstance(record.get("layers") or [], list):
                raise Corrupt(f"read {path}: it is not a container's record")
        except (FileNotFoundError, NotADirectoryError):
            continue  # in the making, or going: it holds its layers' locks, or needs none any more
        except Corrupt as error:
            raise Corrupt(error.message, hint="`mydocker rm -f` removes the container") from error
        yield record


def container_layers(layout: Layout) -> frozenset[str]:
    """Return the chain ids (and hide layers) that containers stand on."""
    used: set[str] = set()
    for record in container_records(layout):
        used.update(record.get("layers") or ())
    return frozenset(used)
