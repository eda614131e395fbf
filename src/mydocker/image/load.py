"""`load`: images that other tools saved, as OCI layout (tar or directory) or docker-archive.

    archive -> `plan_images` (documents read, judged, digests checked) -> layers taken in, in
    parallel -> `publish` (all names at once)

Digests are checked of manifests, configs and layers; diff ids of what the layers inflate to. Labels
and annotations of an archive are data: the only ones with a meaning here are the image's names.
"""
from __future__ import annotations

import os

from mydocker.base import jsontext
from mydocker.base.errors import Corrupt, InvalidRequest, NotFound, Unsupported
from mydocker.base.record import Record
from mydocker.oci import image_spec, media_types, platform, reference
from mydocker.oci.digest import chain_ids, digest_of, is_hex, parse_digest
from mydocker.storage import blobs, inflate
from mydocker.storage.ingest import Ingested, ingest

from . import config
from .archive import Member, open_archive
from .publish import NewImage, Staging, Vanished

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from mydocker.base.paths import Layout
    from mydocker.oci.image_spec import Descriptor, ImageConfig, Platform

    from .archive import Archive

_MAX_IMAGES = 1000
_MAX_DOCUMENTS_BYTES = 64 << 20
_ATTEMPTS = 3


class LayerPlan(Record):
    """One layer of an archive: where it is and what it must be. `digest` is empty when the archive has none."""

    member: Member
    digest: str
    diff_id: str
    chain_id: str

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from other layers of the archive, and from the same layer in another blob."""
        return self.chain_id, self.digest


class ImagePlan(Record):
    """One image of an archive; `manifest` is empty when the engine has to write it (docker-archive)."""

    references: tuple[str, ...]
    manifest: bytes
    media_type: str
    config: bytes
    layers: tuple[LayerPlan, ...]


class LoadedImage(Record):
    """What came in: familiar references (none for a nameless image), image id, manifest digest."""

    references: tuple[str, ...]
    id: str
    manifest_digest: str


def load(layout: Layout, source: str | os.PathLike[str] | BinaryIO, wanted: str = "") -> list[LoadedImage]:
    """Load every image of an archive: a path, `-`, or a binary file. `wanted` is a platform, or empty for this machine's.

    Raises NotFound, Corrupt, Unsupported, Unavailable.
    """
    chosen = platform.parse(wanted) if wanted else None
    layout.ensure()
    blobs.ensure_layout(layout)
    archive = open_archive(layout, source)
    try:
        plans = plan_images(archive, chosen)
        for attempt in range(_ATTEMPTS):
            try:
                return _take_in(layout, plans)
            except Vanished:
                # An rmi removed a blob that we had counted on: take everything from the archive again.
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")
    finally:
        archive.close()


# --- what is in the archive -----------------------------------------------------------------------------


def plan_images(archive: Archive, wanted: Platform | None = None) -> list[ImagePlan]:
    """Return the images of an archive, judged, with nothing taken in yet. Raises Corrupt, Unsupported."""
    index = archive.find("index.json")
    if index is not None and archive.find("oci-layout") is not None:
        return _plan_oci(archive, index, wanted)
    manifest = archive.find("manifest.json")
    if manifest is None:
        if archive.find("repositories") is not None:
            raise Unsupported("load: an archive of Docker before 1.10")
        raise Corrupt(
            "load: no image archive: neither index.json nor manifest.json is in it",
            hint="a tar of a root file system is imported: mydocker import FILE NAME",
        )
    return _plan_docker(archive, manifest, wanted)


def _plan_oci(archive: Archive, member: Member, wanted: Platform | None) -> list[ImagePlan]:
    index = image_spec.check_index(jsontext.loads(member.read_document(), source="index.json"), what="index.json")
    if len(index["manifests"]) > _MAX_IMAGES:
        raise Corrupt(f"index.json: more than {_MAX_IMAGES} images")
    names: dict[str, tuple[Descriptor, list[str]]] = {}
    for descriptor in _one_platform_each(index["manifests"], wanted):
        chosen = _choose_manifest(archive, descriptor, wanted)
        _, found = names.setdefault(chosen["digest"], (chosen, []))
        name = _name_in_layout(descriptor)
        if name and name not in found:
            found.append(name)
    return _bounded(_plan_manifest(archive, descriptor, tuple(found), wanted) for descriptor, found in names.values())


def _one_platform_each(manifests: list[Descriptor], wanted: Platform | None) -> list[Descriptor]:
    """Return the images of an index.json without attestations; manifests of one name for several platforms are one image."""
    groups: dict[str, list[Descriptor]] = {}
    for number, descriptor in enumerate(manifests):
        if descriptor.get("annotations", {}).get(platform.ATTESTATION):
            continue
        name = _name_in_layout(descriptor) if "platform" in descriptor else ""
        groups.setdefault(name or str(number), []).append(descriptor)
    found = []
    for name, group in groups.items():
        chosen = platform.choose(group, wanted) if len(group) > 1 else group[0]
        if chosen is None:
            raise NotFound(f"load: {name} has no image for {platform.shown(wanted or platform.host())}", hint=_offer(group))
        found.append(chosen)
    return found


def _choose_manifest(archive: Archive, descriptor: Descriptor, wanted: Platform | None) -> Descriptor:
    """Follow one level of index (images for several platforms) to the manifest for this machine, or the wanted one."""
    if descriptor["mediaType"] in media_types.MANIFEST_TYPES:
        return descriptor
    if descriptor["mediaType"] in media_types.SCHEMA_1_TYPES:
        raise Unsupported("load: image manifest schema 1", hint=media_types.SCHEMA_1_HINT)
    if descriptor["mediaType"] not in media_types.INDEX_TYPES:
        raise Unsupported(f"load: index.json names a {descriptor['mediaType'][:80]!r}")
    what = f"index {descriptor['digest']}"
    document = jsontext.loads(_read_blob(archive, descriptor), source=what)
    candidates = [
        entry for entry in image_spec.check_index(document, what=what)["manifests"]
        if entry["mediaType"] in media_types.MANIFEST_TYPES
    ]
    chosen = platform.choose(candidates, wanted)
    if chosen is None:
        raise NotFound(f"load: {what} has no image for {platform.shown(wanted or platform.host())}", hint=_offer(candidates))
    return chosen


def _offer(descriptors: list[Descriptor]) -> str:
    """Return a hint that names the platforms there are."""
    found = [platform.shown(entry["platform"]) for entry in descriptors if "platform" in entry]
    known = sorted({name for name in found if not name.startswith("unknown")})
    return f"choose one with --platform: {', '.join(known)[:300]}" if known else ""


def refuse_other_platform(config: ImageConfig, wanted: Platform | None, *, what: str) -> None:
    """Raise NotFound when an image config is not for the platform that was asked for."""
    mine: Platform = {"os": config.get("os", "linux"), "architecture": config.get("architecture", "")}
    if config.get("variant"):
        mine["variant"] = config["variant"]
    if wanted is not None and not platform.fit(mine, wanted):
        raise NotFound(f"{what}: it is for {platform.shown(mine)}, not for {platform.shown(wanted)}")


def _name_in_layout(descriptor: Descriptor) -> str:
    """Return the canonical reference that an archive gives an image, or nothing.

    containerd and Docker write the full name into an annotation of their own and only the tag into
    the standard one; podman and skopeo write what the user typed into the standard one.
    """
    annotations = descriptor.get("annotations", {})
    full = annotations.get(media_types.CONTAINERD_NAME)
    name = full or annotations.get(media_types.REF_NAME) or ""
    if not isinstance(name, str) or name == reference.DEFAULT_TAG:
        return ""  # `latest` alone is a tag, not a name
    return judged_name(name) if name else ""


def judged_name(name: str) -> str:
    """Return the canonical form of an archive's name for an image. Raises InvalidRequest."""
    parsed = reference.parse(name)
    refuse_builtin(parsed)
    return parsed.canonical


def refuse_builtin(parsed: reference.Reference) -> None:
    """Nothing may take the name of the built-in image. Raises InvalidRequest."""
    if parsed.familiar_name == "host":
        raise InvalidRequest("image name 'host': it is the built-in view of this machine", hint="choose another name")


def _plan_manifest(archive: Archive, descriptor: Descriptor, references: tuple[str, ...], wanted: Platform | None) -> ImagePlan:
    what = f"manifest {descriptor['digest']}"
    data = _read_blob(archive, descriptor)
    manifest = image_spec.check_manifest(
        jsontext.loads(data, source=what), media_type=descriptor["mediaType"], what=what
    )
    config_bytes = _read_blob(archive, manifest["config"])
    diff_ids = _judged_diff_ids(config_bytes, len(manifest["layers"]), wanted, what=f"config {manifest['config']['digest']}")
    layers = []
    for layer, diff_id, chain_id in zip(manifest["layers"], diff_ids, chain_ids(diff_ids), strict=True):
        member = _find_blob(archive, layer)
        layers.append(LayerPlan(member=member, digest=layer["digest"], diff_id=diff_id, chain_id=chain_id))
    return ImagePlan(
        references=references, manifest=data, media_type=descriptor["mediaType"], config=config_bytes, layers=tuple(layers)
    )


def _judged_diff_ids(config_bytes: bytes, layers: int, wanted: Platform | None, *, what: str) -> list[str]:
    document = image_spec.check_config(jsontext.loads(config_bytes, source=what), what=what)
    refuse_other_platform(document, wanted, what=f"load {what}")
    diff_ids = image_spec.diff_ids_of(document, what=what)
    if len(diff_ids) != layers:
        raise Corrupt(f"{what}: {len(diff_ids)} diff ids for {layers} layers")
    if layers > image_spec.MAX_LAYERS:
        raise Unsupported(f"{what}: more than {image_spec.MAX_LAYERS} layers")
    return diff_ids


def _find_blob(archive: Archive, descriptor: Descriptor) -> Member:
    member = archive.find(f"blobs/sha256/{parse_digest(descriptor['digest'])}")
    if member is None:
        raise Corrupt(f"load: blob {descriptor['digest']} is not in the archive")
    if member.size != descriptor["size"]:
        raise Corrupt(f"load: blob {descriptor['digest']} has {member.size} bytes, not {descriptor['size']}")
    return member


def _read_blob(archive: Archive, descriptor: Descriptor) -> bytes:
    data = _find_blob(archive, descriptor).read_document()
    blobs.check(data, descriptor["digest"])
    return data


def _plan_docker(archive: Archive, member: Member, wanted: Platform | None) -> list[ImagePlan]:
    """Docker's own format: manifest.json = [{"Config", "RepoTags", "Layers"}]."""
    document = jsontext.loads(member.read_document(), source="manifest.json")
    if not isinstance(document, list) or not all(isinstance(entry, dict) for entry in document):
        raise Corrupt("manifest.json: not a list of images")
    if len(document) > _MAX_IMAGES:
        raise Corrupt(f"manifest.json: more than {_MAX_IMAGES} images")
    return _bounded(_plan_docker_image(archive, entry, wanted) for entry in document)


def _bounded(plans: Iterator[ImagePlan]) -> list[ImagePlan]:
    """Return the plans. One large document may be that of a thousand images, each of which would keep a copy in memory."""
    found: list[ImagePlan] = []
    size_bytes = 0
    for plan in plans:
        size_bytes += len(plan.manifest) + len(plan.config)
        if size_bytes > _MAX_DOCUMENTS_BYTES:
            raise Corrupt(f"load: the documents of its images have more than {_MAX_DOCUMENTS_BYTES} bytes")
        found.append(plan)
    return found


def _plan_docker_image(archive: Archive, entry: dict[str, object], wanted: Platform | None) -> ImagePlan:
    config_name, names, tags = entry.get("Config"), entry.get("Layers"), entry.get("RepoTags") or []
    if not isinstance(config_name, str) or not isinstance(names, list) or not isinstance(tags, list):
        raise Corrupt("manifest.json: an image without Config or Layers")
    config_bytes = _find_member(archive, config_name).read_document()
    stem = config_name.rpartition("/")[2].removesuffix(".json")
    if len(stem) == 64 and is_hex(stem):  # every writer names it by its digest
        blobs.check(config_bytes, f"sha256:{stem}")
    diff_ids = _judged_diff_ids(config_bytes, len(names), wanted, what=config_name)
    layers = []
    for name, diff_id, chain_id in zip(names, diff_ids, chain_ids(diff_ids), strict=True):
        member = _find_member(archive, name)
        # A plain tar's digest is its diff id, so one that is stored already need not be read.
        is_plain = not inflate.detect(os.pread(member.fd, min(8, member.size), member.offset))
        layers.append(LayerPlan(member=member, digest=diff_id if is_plain else "", diff_id=diff_id, chain_id=chain_id))
    references = tuple(dict.fromkeys(judged_name(tag) for tag in tags if isinstance(tag, str)))
    return ImagePlan(
        references=references, manifest=b"", media_type=media_types.MEDIA_MANIFEST, config=config_bytes, layers=tuple(layers)
    )


def _find_member(archive: Archive, name: object) -> Member:
    member = archive.find(name) if isinstance(name, str) and "\0" not in name and image_spec.is_text(name) else None
    if member is None:
        raise Corrupt(f"load: {str(name)[:100]!r} is not in the archive")
    return member


# --- taking it in -----------------------------------------------------------------------------------------


def _take_in(layout: Layout, plans: list[ImagePlan]) -> list[LoadedImage]:
    with Staging(layout) as staging:
        stored = _take_layers(layout, plans, staging)
        images, loaded = [], []
        for plan in plans:
            manifest = plan.manifest or config.encode(config.new_manifest(
                plan.config, [stored[layer.key] for layer in plan.layers]
            ))
            staging.add_document(plan.config)
            staging.add_document(manifest)
            descriptor = config.describe(manifest, plan.media_type)
            images.append(NewImage(
                descriptor=descriptor, references=plan.references, diff_ids=tuple(layer.diff_id for layer in plan.layers),
                needs=tuple(stored[layer.key]["digest"] for layer in plan.layers),
            ))
            loaded.append(LoadedImage(
                references=tuple(reference.parse(name).familiar for name in plan.references),
                id=digest_of(plan.config), manifest_digest=descriptor["digest"],
            ))
        staging.publish(images)
        return loaded


def _take_layers(layout: Layout, plans: list[ImagePlan], staging: Staging) -> dict[tuple[str, str], Descriptor]:
    """Take in what is missing, layers in parallel; returns the descriptor of each layer's blob by `LayerPlan.key`.

    One layer may come in several blobs, compressed differently by who made the images: each is stored, one is unpacked.
    """
    jobs: dict[tuple[str, str], LayerPlan] = {}
    for plan in plans:
        for layer in plan.layers:
            jobs.setdefault(layer.key, layer)
    stored: dict[tuple[str, str], Descriptor] = {}
    todo: list[tuple[LayerPlan, bool, bool]] = []
    kept: set[str] = set()
    unpacked: set[str] = set()
    for layer in jobs.values():
        has_layer = layer.chain_id in unpacked or _hold(layout, layer.chain_id, staging)
        has_blob = bool(layer.digest) and (layer.digest in kept or blobs.is_there(layout, layer.digest))
        unpacked.add(layer.chain_id)
        kept.add(layer.digest)
        if has_layer and has_blob:
            stored[layer.key] = config.layer_descriptor(layer.digest, layer.member.size, _compression(layer.member))
        else:
            todo.append((layer, not has_blob, not has_layer))
    for layer, ingested in _run_parallel(layout, todo, staging):
        stored[layer.key] = config.layer_descriptor(ingested.digest, ingested.size_bytes, ingested.compression)
    return stored


def _compression(member: Member) -> str:
    return inflate.detect(os.pread(member.fd, min(8, member.size), member.offset))


def _hold(layout: Layout, chain_id: str, staging: Staging) -> bool:
    """Lock an unpacked layer that is there already; tells whether it is."""
    try:
        staging.held.add(layout, chain_id)
    except NotFound:
        return False
    return True


def _run_parallel(
    layout: Layout, todo: list[tuple[LayerPlan, bool, bool]], staging: Staging
) -> list[tuple[LayerPlan, Ingested]]:
    """Ingest each layer; as many at a time as there are processors, since each already uses two threads."""
    import threading  # cold

    waiting = list(reversed(todo))
    done: list[tuple[LayerPlan, Ingested]] = []
    failures: list[BaseException] = []

    def work() -> None:
        # list.pop and list.append are atomic; a failure empties the list and so ends the others.
        while waiting and not failures:
            try:
                layer, keep_blob, unpack = waiting.pop()
            except IndexError:
                return
            try:
                done.append((layer, ingest(
                    layout, layer.member.read(), keep_blob=keep_blob, unpack=unpack, digest=layer.digest, diff_id=layer.diff_id
                )))
            except BaseException as error:
                failures.append(error)

    threads = [
        threading.Thread(target=work, name="mydocker-load", daemon=True)
        for _ in range(min(len(todo), len(os.sched_getaffinity(0))) - 1)
    ]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    for layer, ingested in done:
        staging.add_layer(layer.chain_id, ingested)
    if failures:
        raise failures[0]
    return done
