"""An image at a registry: what its name means there for a platform, its documents fetched and judged, no layer taken in yet.

Everything is bounded, and verified by digest, before it means anything. Which server is asked how often is decided here for
documents, in registry/transfer.py for blobs.
"""
from __future__ import annotations

from mydocker.base import jsontext
from mydocker.base.errors import Corrupt, Denied, MydockerError, NotFound, Unavailable, Unsupported
from mydocker.base.record import Record
from mydocker.oci import image_spec, media_types, platform
from mydocker.oci.digest import chain_ids
from mydocker.registry.client import Busy
from mydocker.registry.transfer import BlobReader
from mydocker.registry.transport import Unreachable
from mydocker.storage import blobs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from mydocker.oci.image_spec import Descriptor, Manifest, Platform
    from mydocker.oci.reference import Reference
    from mydocker.registry.client import Document, Repository

_IMAGE_CONFIGS = (media_types.MEDIA_CONFIG, media_types.DOCKER_CONFIG)


class RemoteImage(Record):
    """An image at a registry, judged, with nothing taken in yet."""

    digest: str
    manifest: Document
    config: bytes
    layers: tuple[RemoteLayer, ...]


class RemoteLayer(Record):
    """One layer: its blob, and what it must inflate to."""

    descriptor: Descriptor
    diff_id: str
    chain_id: str


def plan_at_first(
    reference: Reference, repositories: Sequence[Repository], wanted: Platform | None
) -> tuple[RemoteImage, Sequence[Repository]]:
    """Plan the image at the first server that has it; returns it and the servers from there on.

    A mirror is asked once. Where the registry itself cannot be asked either, as without a way to the internet, the mirrors
    that may have a better moment are asked again, with patience.
    """
    name = reference.digest or reference.tag
    failures: list[MydockerError] = []
    for position in range(len(repositories)):
        try:
            return plan(repositories[position:], name, wanted), repositories[position:]
        except MydockerError as error:
            failures.append(error)
    if isinstance(failures[-1], (Unavailable, Denied)):
        for position, failure in enumerate(failures[:-1]):
            if not isinstance(failure, Busy) and (not isinstance(failure, Unreachable) or failure.is_final):
                continue
            repositories[position].server.is_patient = True
            try:
                return plan(repositories[position:], name, wanted), repositories[position:]
            except MydockerError as error:
                failures[position] = error
    raise _told_together(failures)


def _told_together(failures: Sequence[MydockerError]) -> MydockerError:
    """Return the last error, the registry's own, with what its mirrors failed of but for lacking the image."""
    *others, last = failures
    mirrors = [f"its mirror: {error.message}" for error in others if not isinstance(error, NotFound)]
    last.message = "; ".join((last.message, *mirrors))
    last.args = (last.message,)
    return last


def plan(repositories: Sequence[Repository], name: str, wanted: Platform | None) -> RemoteImage:
    """Return the image of a tag or digest at the first server for a platform, its documents fetched and judged.

    The others are there for its blobs.
    """
    repository = repositories[0]
    top = repository.fetch_manifest(name)
    kind = judged_kind(top)
    manifest = top
    if kind in media_types.INDEX_TYPES:
        chosen = _choose(top, kind, wanted, repository.shown)
        manifest = repository.fetch_manifest(chosen["digest"])
        kind = judged_kind(manifest)
        if kind != chosen["mediaType"]:
            raise Corrupt(f"manifest {manifest.digest}: its index says it is {chosen['mediaType'][:80]!r}, it is {kind!r}")
    what = f"manifest {manifest.digest}"
    document = image_spec.check_manifest(jsontext.loads(manifest.data, source=what), media_type=kind, what=what)
    config = _fetch_config(repositories, document, wanted, what)
    diff_ids = image_spec.diff_ids_of(jsontext.loads(config), what=what)
    if len(diff_ids) != len(document["layers"]):
        raise Corrupt(f"{what}: {len(diff_ids)} diff ids for {len(document['layers'])} layers")
    found = tuple(
        RemoteLayer(descriptor=descriptor, diff_id=diff_id, chain_id=chain_id)
        for descriptor, diff_id, chain_id in zip(document["layers"], diff_ids, chain_ids(diff_ids), strict=True)
    )
    return RemoteImage(digest=top.digest, manifest=manifest.replace(media_type=kind), config=config, layers=found)


def judged_kind(document: Document) -> str:
    """Return the media type of a manifest or index; server and document must not disagree (CVE-2021-41190).

    Raises Corrupt, Unsupported.
    """
    what = f"manifest {document.digest}"
    content = jsontext.loads(document.data, source=what)
    if not isinstance(content, dict):
        raise Corrupt(f"{what}: not an object")
    if content.get("schemaVersion") == 1:
        raise Unsupported(f"{what}: image manifest schema 1", hint=media_types.SCHEMA_1_HINT)
    known = (*media_types.MANIFEST_TYPES, *media_types.INDEX_TYPES)
    inner = content.get("mediaType", "")
    if inner and document.media_type in known and inner != document.media_type:
        raise Corrupt(f"{what}: it says it is {str(inner)[:80]!r}, the registry that it is {document.media_type!r}")
    kind = document.media_type if document.media_type in known else inner
    if kind not in known:
        raise Unsupported(f"{what}: neither an image nor an index, but {str(kind or document.media_type)[:80]!r}")
    if kind in media_types.INDEX_TYPES:
        image_spec.check_index(content, what=what)
    return str(kind)


def _choose(top: Document, kind: str, wanted: Platform | None, name: str) -> Descriptor:
    what = f"{'index' if kind == media_types.MEDIA_INDEX else 'manifest list'} {top.digest}"
    entries = image_spec.check_index(jsontext.loads(top.data, source=what), what=what)["manifests"]
    chosen = platform.choose([entry for entry in entries if entry["mediaType"] in media_types.MANIFEST_TYPES], wanted)
    if chosen is None:
        there = sorted({platform.shown(entry["platform"]) for entry in entries if "platform" in entry} - {"unknown/unknown"})
        raise NotFound(
            f"{name} has no image for {platform.shown(wanted or platform.host())}",
            hint=f"it has {', '.join(there[:20])}" if there else "")
    return chosen


def _fetch_config(repositories: Sequence[Repository], document: Manifest, wanted: Platform | None, what: str) -> bytes:
    descriptor = document["config"]
    if descriptor["mediaType"] not in _IMAGE_CONFIGS:
        raise Unsupported(f"{what}: no container image, but {descriptor['mediaType'][:80]!r}")
    data = fetch_small(repositories, descriptor)
    config = image_spec.check_config(jsontext.loads(data, source=what), what=f"config {descriptor['digest']}")
    is_other = wanted is not None and "architecture" in config and not platform.fit(
        {"os": config.get("os", "linux"), "architecture": config["architecture"]}, wanted)
    if is_other and wanted is not None:
        raise NotFound(
            f"{repositories[0].shown} has no image for {platform.shown(wanted)}", hint=f"it is for {config['architecture']}")
    return data


def fetch_small(repositories: Sequence[Repository], descriptor: Descriptor) -> bytes:
    """Return a short blob, verified. Raises NotFound, Corrupt, ..."""
    if descriptor["size"] > image_spec.MAX_DOCUMENT_BYTES:
        raise Corrupt(f"blob {descriptor['digest']}: {descriptor['size']} bytes are no document")
    reader = BlobReader(repositories, descriptor["digest"], descriptor["size"])
    data = b"".join(iter(reader.read, b""))
    blobs.check(data, descriptor["digest"])
    return data
