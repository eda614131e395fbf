"""`push`: an image to a registry.

    manifest -> blobs, several at a time: is it there? can the registry take it over from another repository? else upload
             -> the manifest, last, by its tag

What others wrote goes bit for bit: its digest there is the one it has here. A manifest of our own (import, commit, build,
load of a docker-archive) goes with its plain layers packed (image/packing.py), under the same image id; what its name means
at the registry is noted in the index. Several images become one manifest list (an OCI index): each manifest by its digest,
then the list by the tag.
"""
from __future__ import annotations

import os
import time

from mydocker.base import jsontext
from mydocker.base.errors import Conflict, MydockerError, NotFound
from mydocker.base.record import Record
from mydocker.oci import image_spec, media_types, platform
from mydocker.oci import reference as references
from mydocker.oci.digest import digest_of
from mydocker.registry.transfer import BlobWriter
from mydocker.registry.transport import Unreachable
from mydocker.storage import blobs

from . import config, index, packing, parallel
from .progress import DONE, KEPT, MOVING, Transfer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mydocker.base.paths import Layout
    from mydocker.oci.image_spec import Descriptor, Manifest, Platform
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
    """One image of ours: its manifest as it is here, and whether its plain layers are packed on the way."""

    descriptor: Descriptor
    data: bytes
    manifest: Manifest
    packs: bool

    @property
    def keys(self) -> list[tuple[str, bool]]:
        """The blobs that have to be there before the manifest: digest, and whether it is packed."""
        return [*((layer["digest"], self.is_packed(layer)) for layer in self.manifest["layers"]),
                (self.manifest["config"]["digest"], False)]

    def is_packed(self, layer: Descriptor) -> bool:
        """Tell whether a layer is packed on the way."""
        return self.packs and packing.is_plain(layer)


class _Sent(Record):
    """One image as it is at the registry."""

    data: bytes
    media_type: str
    platform: Platform


def push(
    layout: Layout, reference: Reference, repository: Repository, descriptors: Sequence[Descriptor], progress: Progress
) -> PushedImage:
    """Push the images of `descriptors` (of index.json) as `reference`: one as it is, several as a manifest list.

    Raises Conflict (an image on `host`), NotFound, Corrupt, Denied, Unavailable.
    """
    images = [_stored(layout, descriptor) for descriptor in descriptors]
    _refuse_equal_platforms(layout, images)
    jobs = {key: _Job(key) for image in images for key in image.keys}
    for image in images:
        for blob in (*image.manifest["layers"], image.manifest["config"]):
            jobs[blob["digest"], image.is_packed(blob)].describe(blob)
    _Outflow(layout, reference, repository, progress).send(list(jobs.values()))
    sent = [_as_sent(layout, image, jobs) for image in images]
    if len(sent) == 1:
        data, media_type = sent[0].data, sent[0].media_type
    else:
        listed = _manifest_list(sent)
        for one in sent:
            repository.put_manifest(digest_of(one.data), one.data, one.media_type)
        data, media_type = config.encode(listed), media_types.MEDIA_INDEX
    repository.put_manifest(reference.tag, data, media_type)
    _note_digest(layout, reference, descriptors[0]["digest"], digest_of(data))
    return PushedImage(
        reference=reference.familiar, canonical=reference.canonical, digest=digest_of(data), size_bytes=len(data))


def _stored(layout: Layout, descriptor: Descriptor) -> _Stored:
    digest = descriptor["digest"]
    if index.base_of(descriptor):
        raise Conflict(f"push image {digest}: its lowest layer is this machine", hint="commit a container of another image")
    what = f"manifest {digest}"
    data = blobs.read_verified(layout, digest)
    manifest = image_spec.check_manifest(jsontext.loads(data, source=what), media_type=descriptor["mediaType"], what=what)
    return _Stored(descriptor=descriptor, data=data, manifest=manifest, packs=packing.is_our_own(manifest, data))


def _as_sent(layout: Layout, image: _Stored, jobs: Mapping[tuple[str, bool], _Job]) -> _Sent:
    """Return an image with the layers that went up; unchanged, when none was packed."""
    data = image.data
    layers = [jobs[layer["digest"], image.is_packed(layer)].sent for layer in image.manifest["layers"]]
    if layers != image.manifest["layers"]:
        data = config.encode({**image.manifest, "layers": layers})
    return _Sent(data=data, media_type=image.descriptor["mediaType"], platform=_platform_of(layout, image))


def _platform_of(layout: Layout, image: _Stored) -> Platform:
    document = blobs.load_document(layout, image.manifest["config"]["digest"])
    found: Platform = {"os": document.get("os", "linux"), "architecture": document.get("architecture", "")}
    if document.get("variant"):
        found["variant"] = document["variant"]
    return found


def _refuse_equal_platforms(layout: Layout, images: Sequence[_Stored]) -> None:
    """Raise Conflict for different images of one platform: a manifest list has one for each."""
    known: dict[str, str] = {}
    for image in images:
        key, digest = platform.shown(_platform_of(layout, image)), image.manifest["config"]["digest"]
        if known.setdefault(key, digest) != digest:
            raise Conflict(f"push: two images for {key}", hint="a manifest list has one for each platform")


def _note_digest(layout: Layout, reference: Reference, manifest_digest: str, digest: str) -> None:
    """Note what a name means at its registry now, where that is another digest than here (`pull`, RepoDigests)."""
    def change(manifests: list[Descriptor]) -> None:
        for position, entry in enumerate(manifests):
            if index.name_of(entry) == reference.canonical and entry["digest"] == manifest_digest:
                manifests[position] = index.pulled_as(entry, digest)

    index.update(layout, change)


def _manifest_list(images: Sequence[_Sent]) -> image_spec.Index:
    entries: dict[str, Descriptor] = {}
    for image in images:
        key, digest = platform.shown(image.platform), digest_of(image.data)
        entries[key] = {"mediaType": image.media_type, "digest": digest, "size": len(image.data), "platform": image.platform}
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
            packed = [packing.noted(layout, layer["digest"]) for layer in manifest["layers"] if packing.is_plain(layer)]
            digests = [layer["digest"] for layer in (*manifest["layers"], *filter(None, packed))]
        except (MydockerError, KeyError, TypeError):
            continue  # removed at this moment, or broken: it is only a hint
        for digest in digests:
            found.setdefault(digest, other.path)
    return found


class _Job:
    """One blob to bring to the registry: `sent` is its descriptor there."""

    def __init__(self, key: tuple[str, bool]) -> None:
        self.digest, self.packs = key
        self.sent: Descriptor
        self.transfer: Transfer

    def describe(self, blob: Descriptor) -> None:
        """Say what the blob is here."""
        self.sent = blob
        self.transfer = Transfer(blob["digest"], blob["size"])


class _Outflow:
    """The way of blobs to one repository."""

    def __init__(self, layout: Layout, reference: Reference, repository: Repository, progress: Progress) -> None:
        self._layout = layout
        self._reference = reference
        self._repository = repository
        self._progress = progress
        self._sources = repositories_with(layout, reference)
        self._writers: list[BlobWriter] = []
        self._is_stopped = False

    def send(self, jobs: list[_Job]) -> None:
        """Bring every blob there. Raises what the first failure raised, with the others stopped."""
        self._progress.begin(self._reference.familiar, [job.transfer for job in jobs])
        try:
            parallel.run(jobs, self._send_one, self._stop, at_a_time=PARALLEL)
        finally:
            self._progress.end()

    def _stop(self) -> None:
        self._is_stopped = True
        for writer in list(self._writers):
            writer.stop()

    def _send_one(self, job: _Job) -> None:
        try:
            fd = os.open(blobs.path(self._layout, job.digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"push: blob {job.digest} is gone", hint="pull or load the image again") from None
        try:
            job.transfer.state = self._send_packed(job, fd) if job.packs else self._bring(job, fd, job.digest)
            self._progress.note(job.transfer)
        finally:
            os.close(fd)

    def _send_packed(self, job: _Job, fd: int) -> str:
        """Bring a plain layer there as gzip; not packed again, if what it was packed to last time is there."""
        noted = packing.noted(self._layout, job.digest)
        if noted is not None and self._is_there(self._writer(noted["digest"], -1, noted["size"], job.transfer)):
            job.sent = noted
            return KEPT
        transfer = job.transfer
        transfer.state = MOVING
        self._progress.note(transfer)
        since = time.thread_time()

        def packed(_: int) -> None:
            transfer.cpu_s = time.thread_time() - since
            if self._is_stopped:
                raise Unreachable(f"push blob {job.digest}: stopped", is_final=True)

        blob = packing.pack(self._layout, job.digest, fd, packed)
        try:
            job.sent = config.layer_descriptor(blob.digest, blob.size_bytes, "gzip")
            transfer.size = blob.size_bytes
            return self._bring(job, blob.fd, blob.digest)
        finally:
            blob.close()

    def _bring(self, job: _Job, fd: int, digest: str) -> str:
        transfer = job.transfer
        writer = self._writer(digest, fd, os.fstat(fd).st_size, transfer)
        if self._is_there(writer):
            return KEPT
        transfer.state = MOVING
        self._progress.note(transfer)
        writer.upload()
        return DONE

    def _writer(self, digest: str, fd: int, size: int, transfer: Transfer) -> BlobWriter:
        def moved(position: int, network_s: float) -> None:
            transfer.done = position
            transfer.network_s += network_s

        writer = BlobWriter(self._repository, digest, fd, size, moved)
        self._writers.append(writer)
        if self._is_stopped:
            writer.stop()  # it came too late to be stopped with the others
        return writer

    def _is_there(self, writer: BlobWriter) -> bool:
        """Tell whether a blob is in the repository, or was taken over from another one."""
        if writer.is_there():
            return True
        source = self._sources.get(writer.digest)
        return source is not None and writer.mount(source)
