"""`pull`: an image from a registry.

    name -> servers (mirrors first) -> manifest or index -> manifest for the platform -> config -> layers in parallel
         -> `publish` (the name appears last, all at once)

Every document and blob is verified by digest, and bounded, before it means anything. A layer is downloaded,
inflated, hashed and unpacked at the same time, by three threads. Killed anywhere, a pull leaves nothing with a
name but whole layers and the beginnings of blobs (storage/partials.py): the next pull takes both, or they are swept.
"""
from __future__ import annotations

import os
import threading
import time

from mydocker.base import log
from mydocker.base.errors import Corrupt, MydockerError, NotFound
from mydocker.base.record import Record
from mydocker.base.trace import point
from mydocker.oci import image_spec, platform
from mydocker.oci.digest import chain_ids, digest_of
from mydocker.registry.client import Busy
from mydocker.registry.transfer import BlobReader
from mydocker.registry.transport import Unreachable
from mydocker.storage import blobs, layers, partials
from mydocker.storage.ingest import Ingested, ingest, read_file
from mydocker.storage.pipeline import ChunkQueue

from . import index, parallel
from .progress import DONE, KEPT, MOVING, Transfer
from .publish import NewImage, Staging, Vanished, collect_dead
from .remote import plan_at_first

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mydocker.base.paths import Layout
    from mydocker.oci.image_spec import Descriptor, Platform
    from mydocker.oci.reference import Reference
    from mydocker.registry.client import Repository
    from mydocker.storage.blobs import NewBlob

    from .progress import Progress
    from .remote import RemoteImage, RemoteLayer

#: Docker's and podman's number of layers at a time is 3 and 6.
PARALLEL = 4
_ATTEMPTS = 3


class PulledImage(Record):
    """What a pull brought: `digest` is what the name means at the registry (of an index, if it is one)."""

    reference: str
    canonical: str
    digest: str
    id: str
    manifest_digest: str
    is_new: bool


def pull(
    layout: Layout, reference: Reference, repositories: Sequence[Repository], progress: Progress, wanted: Platform | None = None,
    *, sweeps: bool = True,
) -> PulledImage:
    """Pull what `reference` (with tag or digest) means, for a platform, this machine's by default.

    `repositories` are the servers to ask, in order. Unless it `sweeps`, what killed pulls began and this one has no use for
    is left to a later one. Raises NotFound, Denied, Corrupt, Unsupported, Unavailable.
    """
    layout.ensure()
    blobs.ensure_layout(layout)
    current = _find_current(layout, reference, repositories, wanted)
    if current is not None:
        layers.sweep(layout)
        if sweeps:
            partials.sweep(layout)
        collect_dead(layout)
        return current
    image, used = plan_at_first(reference, repositories, wanted)
    for attempt in range(_ATTEMPTS):
        try:
            is_new = _Intake(layout, used, progress).take(reference, image, sweeps=sweeps)
            break
        except Vanished:
            # An rmi removed what we had counted on: take it from the registry again.
            if attempt == _ATTEMPTS - 1:
                raise
        except (Busy, Unreachable):
            raise  # what has come is good for another try
        except Exception:
            partials.sweep(layout)  # the disk is full, or something is wrong with the image: nobody goes on with it
            raise
    return PulledImage(
        reference=reference.familiar, canonical=reference.canonical, digest=image.digest, id=digest_of(image.config),
        manifest_digest=image.manifest.digest, is_new=is_new,
    )


def _find_current(
    layout: Layout, reference: Reference, repositories: Sequence[Repository], wanted: Platform | None
) -> PulledImage | None:
    """Return the image that is here whole and is what the registry has now; None when it has to be pulled.

    Only a tag is asked for, by HEAD, which Docker Hub does not count: a digest cannot come to mean anything else.
    """
    entry = next((entry for entry in index.load(layout) if index.name_of(entry) == reference.canonical), None)
    if entry is None:
        return None
    digest = index.known_digest(entry)
    try:
        manifest = blobs.load_document(layout, entry["digest"])
        config = blobs.load_document(layout, manifest["config"]["digest"])
        chain = chain_ids(image_spec.diff_ids_of(config, what="image config"))
        is_whole = all(blobs.is_there(layout, layer["digest"]) for layer in manifest["layers"]) and all(
            layers.is_there(layout, chain_id) for chain_id in chain)
    except (NotFound, Corrupt, KeyError, TypeError):
        return None  # it is broken, or going: the pull mends it
    own: Platform = {
        "os": config.get("os", ""), "architecture": config.get("architecture", ""), "variant": config.get("variant", ""),
    }
    if not is_whole or platform.fit(own, wanted or platform.host()) < (3 if wanted else 2):
        return None
    if not reference.digest and _ask_digest(repositories, reference.tag) != digest:
        return None
    return PulledImage(
        reference=reference.familiar, canonical=reference.canonical, digest=digest, id=manifest["config"]["digest"],
        manifest_digest=entry["digest"], is_new=False,
    )


def _ask_digest(repositories: Sequence[Repository], tag: str) -> str:
    """Return what a tag means at the first server that knows it, or nothing. What is wrong shows when it is pulled."""
    for repository in repositories:
        try:
            return repository.find_digest(tag)
        except MydockerError as error:
            log.debug("pull", server=repository.shown, why=error.message)
    return ""


# --- taking it in ---------------------------------------------------------------------------------------


class _Job(Record):
    """One layer to take in: what of it is missing, and how far it is."""

    layer: RemoteLayer
    needs_blob: bool
    needs_layer: bool
    transfer: Transfer


class _Intake:
    """The way of one image from the registry into the store."""

    def __init__(self, layout: Layout, repositories: Sequence[Repository], progress: Progress) -> None:
        self._layout = layout
        self._repositories = repositories
        self._progress = progress
        self._lock = threading.Lock()
        self._is_stopped = False
        self._feeds: list[_Feed] = []
        self._begun: dict[str, partials.PartialBlob] = {}  # by digest: what a pull before had, until its turn comes

    def take(self, reference: Reference, image: RemoteImage, *, sweeps: bool) -> bool:
        """Take in what is missing and publish; tells whether anything changed. Raises Vanished and what pull raises."""
        descriptor: Descriptor = {
            "mediaType": image.manifest.media_type, "digest": image.manifest.digest, "size": len(image.manifest.data),
        }
        descriptor = index.pulled_as(descriptor, image.digest)
        is_named = any(
            index.name_of(entry) == reference.canonical and entry["digest"] == descriptor["digest"]
            for entry in index.load(self._layout)
        )
        with Staging(self._layout) as staging:
            jobs = self._plan_jobs(image, staging)
            if sweeps:
                partials.sweep(self._layout)  # those that we go on with are locked now
            todo = [job for job in jobs if job.needs_blob or job.needs_layer]
            self._progress.begin(reference.familiar, [job.transfer for job in jobs])
            try:
                for job, ingested in self._run(todo):
                    staging.add_layer(job.layer.chain_id, ingested)
            finally:
                self._progress.end()
            staging.add_document(image.config)
            staging.add_document(image.manifest.data)
            point("image pulled")
            staging.publish([NewImage(
                descriptor=descriptor, references=(reference.canonical,), diff_ids=tuple(layer.diff_id for layer in image.layers),
                needs=tuple(layer.descriptor["digest"] for layer in image.layers),
            )])
        return bool(todo) or not is_named

    def _plan_jobs(self, image: RemoteImage, staging: Staging) -> list[_Job]:
        jobs: list[_Job] = []
        coming: set[str] = set()
        for layer in image.layers:
            digest = layer.descriptor["digest"]
            has_layer = self._hold(layer.chain_id, staging)
            has_blob = digest in coming or blobs.is_there(self._layout, digest)
            coming.add(digest)
            transfer = Transfer(digest, layer.descriptor["size"])
            if has_layer and has_blob:
                transfer.state = KEPT
            # Locked now, so that no sweep takes it while it waits for its turn.
            begun = None if has_blob else partials.find(self._layout, digest, layer.descriptor["size"])
            if begun is not None:
                self._begun[digest] = begun
            jobs.append(_Job(layer=layer, needs_blob=not has_blob, needs_layer=not has_layer, transfer=transfer))
        return jobs

    def _hold(self, chain_id: str, staging: Staging) -> bool:
        """Lock an unpacked layer that is there already; tells whether it is."""
        try:
            staging.held.add(self._layout, chain_id)
        except NotFound:
            return False
        return True

    def _run(self, todo: list[_Job]) -> list[tuple[_Job, Ingested]]:
        """Take in each layer, several at a time. After a failure the others stop and what was taken in is let go."""
        done: list[tuple[_Job, Ingested]] = []

        def work(job: _Job) -> None:
            ingested = self._take_layer(job)
            with self._lock:
                if not self._is_stopped:
                    done.append((job, ingested))
                    return
            ingested.discard()

        try:
            parallel.run(todo, work, self._stop, at_a_time=PARALLEL)
        except BaseException:
            self._stop()
            for _, ingested in done:
                ingested.discard()
            raise
        return done

    def _stop(self) -> None:
        with self._lock:
            self._is_stopped = True
            feeds = list(self._feeds)
            for blob in self._begun.values():
                blob.close()  # its turn will not come
            self._begun.clear()
        for feed in feeds:
            feed.stop()

    def _take_layer(self, job: _Job) -> Ingested:
        digest = job.layer.descriptor["digest"]
        job.transfer.state = MOVING
        self._progress.note(job.transfer)
        if not job.needs_blob and blobs.is_there(self._layout, digest):
            ingested = self._unpack_stored(job)
        else:
            ingested = self._download(job)
        job.transfer.state = DONE
        self._progress.note(job.transfer)
        point("layer pulled")
        return ingested

    def _download(self, job: _Job) -> Ingested:
        """Download a layer, going on with what a pull before had of it; again as a whole when that was damaged."""
        digest, size = job.layer.descriptor["digest"], job.layer.descriptor["size"]
        with self._lock:
            begun = self._begun.pop(digest, None)
        if begun is not None:
            try:
                return self._download_into(job, begun)
            except Corrupt as error:
                log.debug("pull", layer=digest, why=error.message)
        return self._download_into(job, partials.make(self._layout, digest, size) if job.needs_blob else None)

    def _download_into(self, job: _Job, blob: NewBlob | None) -> Ingested:
        descriptor = job.layer.descriptor
        position = blob.kept_bytes if isinstance(blob, partials.PartialBlob) else 0
        reader = BlobReader(self._repositories, descriptor["digest"], descriptor["size"], position=position)
        feed = _Feed(reader, job.transfer)
        with self._lock:
            self._feeds.append(feed)
            if self._is_stopped:
                feed.stop()  # it came too late to be stopped with the others
        try:
            read = blob.read_on(feed.read) if isinstance(blob, partials.PartialBlob) else feed.read
            return self._ingest(job, read, blob)
        except (Busy, Unreachable):
            if blob is not None:
                blob.close()  # what has come is good
            raise
        except BaseException:
            if blob is not None:
                blob.discard()
            raise
        finally:
            feed.close()

    def _unpack_stored(self, job: _Job) -> Ingested:
        """Unpack a layer whose blob is there already: nothing is downloaded."""
        fd = os.open(blobs.path(self._layout, job.layer.descriptor["digest"]), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self._ingest(job, read_file(fd), None)
        finally:
            os.close(fd)

    def _ingest(self, job: _Job, read: Callable[[], bytes], blob: NewBlob | None) -> Ingested:
        digest = job.layer.descriptor["digest"]
        try:
            return ingest(
                self._layout, read, keep_blob=False, into=blob, unpack=job.needs_layer, digest=digest,
                diff_id=job.layer.diff_id)
        except Corrupt as error:
            if digest in error.message:
                raise
            raise Corrupt(f"read layer {digest}: {error.message}", hint=error.hint) from error


class _Feed:
    """A thread that downloads ahead of whoever inflates; its queue is bounded."""

    def __init__(self, reader: BlobReader, transfer: Transfer) -> None:
        self._reader = reader
        self._transfer = transfer
        self._queue = ChunkQueue()
        self._wall_s = time.monotonic()
        self._cpu_s = time.thread_time()
        self._thread = threading.Thread(target=self._download, name="mydocker-download", daemon=True)
        self._thread.start()

    def _download(self) -> None:
        failure: BaseException | None = None
        try:
            while data := self._reader.read():
                self._transfer.done = self._reader.position
                self._transfer.network_s = self._reader.network_s
                if not self._queue.put(data):
                    break
        except BaseException as error:
            failure = error
        finally:
            self._reader.close()
            self._queue.finish(failure)

    def read(self) -> bytes:
        """Return the next bytes, b"" at the end; raises what the download raised.

        What the caller did since the last call was computing, as far as it used the processor, and else waiting
        for the disk.
        """
        wall_s, cpu_s = time.monotonic(), time.thread_time()
        self._transfer.cpu_s += cpu_s - self._cpu_s
        self._transfer.disk_s += max(0.0, (wall_s - self._wall_s) - (cpu_s - self._cpu_s))
        data = self._queue.get()
        self._wall_s, self._cpu_s = time.monotonic(), time.thread_time()
        return data

    def stop(self) -> None:
        """Break the download off, from any thread: its next read fails."""
        self._reader.stop()

    def close(self) -> None:
        """End the download, if it still goes on, and its thread."""
        self.stop()
        self._queue.abandon()
        self._thread.join()
