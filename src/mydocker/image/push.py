"""`push`: an image to a registry, bit for bit as it is stored: its digest there is the one it has here.

    manifest -> blobs, several at a time: is it there? can the registry take it over from another repository? else upload
             -> the manifest, last, by its tag

Several images become one manifest list (an OCI index): each manifest by its digest, then the list by the tag.
"""
from __future__ import annotations

import os

from mydocker.base import jsontext
from mydocker.base.errors import Conflict, MydockerError, NotFound
from mydocker.base.record import Record
from mydocker.oci import image_spec, media_types, platform
from mydocker.oci import reference as references
from mydocker.oci.digest import digest_of
from mydocker.registry.transfer import BlobWriter
from mydocker.storage import blobs

from . import config, index, parallel
from .progress import DONE, KEPT, MOVING, Transfer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from mydocker.base.paths import Layout
    from mydocker.oci.image_spec import Descriptor
    from mydocker.oci.reference import Reference
    from mydocker.registry.client import Repository

    from .progress import Progress

#: Docker's number of uploads at a time is 5.
PARALLEL = 4


class PushedImage(Record):
    """What is at the registry now."""

    reference: str
    canonical: str
    digest: str
    size_bytes: int


class _Stored(Record):
    """One image of ours: its manifest, and the blobs that have to be there before it."""

    descriptor: Descriptor
    manifest: bytes
    blobs: tuple[Descriptor, ...]


def push(
    layout: Layout, reference: Reference, repository: Repository, descriptors: Sequence[Descriptor], progress: Progress
) -> PushedImage:
    """Push the images of `descriptors` (of index.json) as `reference`: one as it is, several as a manifest list.

    Raises Conflict (an image on `host`), NotFound, Corrupt, Denied, Unavailable.
    """
    images = [_stored(layout, descriptor) for descriptor in descriptors]
    needed = {blob["digest"]: blob for image in images for blob in image.blobs}
    _Outflow(layout, reference, repository, progress).send(list(needed.values()))
    if len(images) == 1:
        data, media_type = images[0].manifest, images[0].descriptor["mediaType"]
    else:
        for image in images:
            repository.put_manifest(image.descriptor["digest"], image.manifest, image.descriptor["mediaType"])
        data, media_type = config.encode(_manifest_list(layout, images)), media_types.MEDIA_INDEX
    repository.put_manifest(reference.tag, data, media_type)
    return PushedImage(
        reference=reference.familiar, canonical=reference.canonical, digest=digest_of(data), size_bytes=len(data))


def _stored(layout: Layout, descriptor: Descriptor) -> _Stored:
    digest = descriptor["digest"]
    if index.base_of(descriptor):
        raise Conflict(f"push image {digest}: its lowest layer is this machine", hint="commit a container of another image")
    what = f"manifest {digest}"
    data = blobs.read_verified(layout, digest)
    manifest = image_spec.check_manifest(jsontext.loads(data, source=what), media_type=descriptor["mediaType"], what=what)
    return _Stored(descriptor=descriptor, manifest=data, blobs=(*manifest["layers"], manifest["config"]))


def _manifest_list(layout: Layout, images: Sequence[_Stored]) -> image_spec.Index:
    entries: dict[str, Descriptor] = {}
    for image in images:
        document = blobs.load_document(layout, image.blobs[-1]["digest"])
        found: image_spec.Platform = {"os": document.get("os", "linux"), "architecture": document.get("architecture", "")}
        if document.get("variant"):
            found["variant"] = document["variant"]
        key = platform.shown(found)
        if key in entries and entries[key]["digest"] != image.descriptor["digest"]:
            raise Conflict(f"push: two images for {key}", hint="a manifest list has one for each platform")
        entries[key] = {**index.named(image.descriptor, ""), "platform": found}
        entries[key].pop("annotations", None)  # ours mean nothing to others
    return {"schemaVersion": 2, "mediaType": media_types.MEDIA_INDEX, "manifests": list(entries.values())}


def repositories_with(layout: Layout, reference: Reference) -> dict[str, str]:
    """Return for each blob another repository of the same registry that may have it, by the names of images here."""
    found: dict[str, str] = {}
    for descriptor in index.load(layout):
        name = index.name_of(descriptor)
        other = references.parse(name) if name else None
        if other is None or other.domain != reference.domain or other.path == reference.path:
            continue
        try:
            manifest = blobs.load_document(layout, descriptor["digest"])
            digests = [layer["digest"] for layer in manifest["layers"]]
        except (MydockerError, KeyError, TypeError):
            continue  # removed at this moment, or broken: it is only a hint
        for digest in digests:
            found.setdefault(digest, other.path)
    return found


class _Outflow:
    """The way of blobs to one repository."""

    def __init__(self, layout: Layout, reference: Reference, repository: Repository, progress: Progress) -> None:
        self._layout = layout
        self._reference = reference
        self._repository = repository
        self._progress = progress
        self._sources = repositories_with(layout, reference)
        self._writers: list[BlobWriter] = []

    def send(self, needed: list[Descriptor]) -> None:
        """Bring every blob there. Raises what the first failure raised, with the others stopped."""
        transfers = [Transfer(blob["digest"], blob["size"]) for blob in needed]
        self._progress.begin(self._reference.familiar, transfers)
        try:
            parallel.run(transfers, self._send_one, self._stop, at_a_time=PARALLEL)
        finally:
            self._progress.end()

    def _stop(self) -> None:
        for writer in list(self._writers):
            writer.stop()

    def _send_one(self, transfer: Transfer) -> None:
        try:
            fd = os.open(blobs.path(self._layout, transfer.digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"push: blob {transfer.digest} is gone", hint="pull or load the image again") from None
        try:
            def moved(position: int, network_s: float) -> None:
                transfer.done = position
                transfer.network_s += network_s

            writer = BlobWriter(self._repository, transfer.digest, fd, os.fstat(fd).st_size, moved)
            self._writers.append(writer)
            transfer.state = self._bring(writer, transfer)
            self._progress.note(transfer)
        finally:
            os.close(fd)

    def _bring(self, writer: BlobWriter, transfer: Transfer) -> str:
        if writer.is_there():
            return KEPT
        source = self._sources.get(transfer.digest)
        if source is not None and writer.mount(source):
            return KEPT
        transfer.state = MOVING
        self._progress.note(transfer)
        writer.upload()
        return DONE
