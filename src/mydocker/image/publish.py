"""Gives new blobs, layers and a name to an image, all at once.

Everything heavy was done before, without a name: blobs lie in nameless files, layers under
temporary names. `publish` brings them to the disk, names the layers, and, with the image index
locked, links the blobs and replaces index.json: a crash at any point leaves the old set of images,
and blobs and layers at worst of which the journal tells (publications.py): the next command that stores
an image, or finds that it is here, collects them.
"""
from __future__ import annotations

from mydocker.base import log
from mydocker.base.errors import MydockerError
from mydocker.base.record import Record
from mydocker.base.trace import point
from mydocker.oci.digest import chain_ids
from mydocker.storage import blobs, layer_locks, layers

from . import index, publications

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.base.paths import Layout
    from mydocker.oci.image_spec import Descriptor
    from mydocker.storage.blobs import NewBlob
    from mydocker.storage.ingest import Ingested


class Vanished(MydockerError):
    """A blob that was there when the work began was removed meanwhile; the caller begins again."""


class NewImage(Record):
    """One image about to get its names."""

    descriptor: Descriptor             # of the manifest; annotations of ours only
    references: tuple[str, ...]        # canonical; () for none
    diff_ids: tuple[str, ...]
    needs: tuple[str, ...]             # digests of all blobs it consists of


class Staging:
    """What one command has taken in so far. `close` lets go of all that was not published."""

    def __init__(self, layout: Layout) -> None:
        layers.sweep(layout)  # what commands left that were killed where we are now
        self._layout = layout
        self._blobs: list[NewBlob] = []
        self._unpacked: list[tuple[str, Ingested]] = []
        self.held = layer_locks.LayerLocks()
        self._publication: publications.Publication | None = None
        self._is_published = False

    def add_document(self, data: bytes) -> None:
        """Store a document as a new blob."""
        self._blobs.append(blobs.new_document(self._layout, data))

    def add_layer(self, chain_id: str, ingested: Ingested) -> None:
        """Take over an ingested layer: its blob, and its directory, to be named `chain_id`."""
        if ingested.blob is not None:
            self._blobs.append(ingested.blob)
        if ingested.layer is not None:
            self._unpacked.append((chain_id, ingested))

    def publish(self, images: list[NewImage]) -> None:
        """Make the images appear. Raises Vanished, OSError."""
        self._is_published = False
        if self._publication is None:
            self._publication = publications.begin(self._layout)
        # One flush for all, before anything has a name that survives a power cut.
        layers.sync(self._layout)
        point("image synced")
        while self._unpacked:
            chain_id, ingested = self._unpacked[-1]
            assert ingested.layer is not None
            facts = {"diff_id": ingested.diff_id, "size_bytes": ingested.unpacked_bytes, "entries": ingested.entries}
            self.held.adopt(ingested.layer.publish(chain_id, dict(facts)))
            self._unpacked.pop()
        point("image layers named")
        index.update(self._layout, lambda manifests: self._name_locked(manifests, images))
        self._is_published = True

    def _name_locked(self, manifests: list[Descriptor], images: list[NewImage]) -> None:
        for blob in self._blobs:
            blob.link(self._layout)
        for image in images:
            for digest in image.needs:
                if not blobs.is_there(self._layout, digest):
                    raise Vanished(f"store image: blob {digest} was removed meanwhile", hint="try again")
            for chain_id in chain_ids(list(image.diff_ids)):
                if not layers.is_there(self._layout, chain_id):
                    raise Vanished(f"store image: layer {chain_id} was removed meanwhile", hint="try again")
            for reference in image.references or ("",):
                index.tag(manifests, image.descriptor, reference)
        point("image blobs linked")

    def close(self) -> None:
        """Let go of blobs, layers and locks; all that got a name must be needed by something now."""
        if self._publication is not None:
            if self._is_published:
                self._publication.finish()
            else:
                self._publication.close()
            self._publication = None
        for blob in self._blobs:
            blob.close()
        for _, ingested in self._unpacked:
            ingested.discard()
        self._blobs.clear()
        self._unpacked.clear()
        self.held.close()
        if self._is_published:
            collect_dead(self._layout)

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def collect_dead(layout: Layout) -> None:
    """Remove what commands left in the store that were killed, or failed, while they gave names."""
    dead = publications.lock_dead(layout)
    for publication in dead:
        publication.close()
    if not dead:
        return
    from .remove import collect  # cold: where a command was killed

    try:
        collect(layout)
    except (MydockerError, OSError) as error:
        # What our caller did is done, and this hinders nobody: `gc` says what is wrong.
        log.debug("collect", error=error)
