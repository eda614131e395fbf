"""Documents of the OCI image specification, and the one check of each. Pure.

Source: opencontainers/image-spec v1.1 (descriptor, index, manifest, config), and Docker's image
manifest version 2, schema 2, which has the same shape. Documents stay plain dicts, so that unknown
fields survive; `check_*` is called once, where a document comes in.
"""
from __future__ import annotations

from mydocker.base.errors import Corrupt, Unsupported

from .digest import parse_digest
from .media_types import INDEX_TYPES, SCHEMA_1_HINT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NotRequired, TypedDict

    class Platform(TypedDict, total=False):
        """os and architecture in Go's words."""

        os: str
        architecture: str
        variant: str

    class Descriptor(TypedDict):
        """A typed, sized, hashed pointer to a blob."""

        mediaType: str
        digest: str
        size: int
        annotations: NotRequired[dict[str, str]]
        platform: NotRequired[Platform]
        urls: NotRequired[list[str]]

    class Manifest(TypedDict):
        """One image: its config and its layers, bottom first."""

        schemaVersion: int
        mediaType: NotRequired[str]
        config: Descriptor
        layers: list[Descriptor]
        annotations: NotRequired[dict[str, str]]

    class Index(TypedDict):
        """A list of manifests."""

        schemaVersion: int
        mediaType: NotRequired[str]
        manifests: list[Descriptor]
        annotations: NotRequired[dict[str, str]]

    class RootFS(TypedDict):
        """The diff ids of the layers, bottom first."""

        type: str
        diff_ids: list[str]

    class ImageConfig(TypedDict, total=False):
        """The image config; `config` holds Env, Cmd, Entrypoint, User, WorkingDir, Labels and so on."""

        created: str
        author: str
        architecture: str
        os: str
        variant: str
        config: dict[str, Any]
        rootfs: RootFS
        history: list[dict[str, Any]]

MAX_LAYERS = 500  # overlayfs takes no more lower directories (fs/overlayfs/params.c, OVL_MAX_STACK)
MAX_DOCUMENT_BYTES = 8 << 20


def check_descriptor(value: object, *, what: str) -> Descriptor:
    """Return `value` as a descriptor. Raises Corrupt."""
    if not isinstance(value, dict):
        raise Corrupt(f"{what}: not a descriptor")
    parse_digest(value.get("digest"), what=what)
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 62:
        raise Corrupt(f"{what}: {str(size)[:40]!r} is not a size")
    if not isinstance(value.get("mediaType"), str):
        raise Corrupt(f"{what}: it has no media type")
    for key in ("annotations", "platform"):
        _check_words(value.get(key), what=f"{what}: {key}")
    return value  # type: ignore[return-value]  # checked above; the rest is optional and opaque


def check_index(value: object, *, what: str) -> Index:
    """Return `value` as an index. Raises Corrupt, Unsupported."""
    document = _check_document(value, INDEX_TYPES, what=what)
    # A document that is an index and a manifest at once means different things to different
    # readers (CVE-2021-41190): it is neither.
    if "layers" in document or "config" in document:
        raise Corrupt(f"{what}: an index cannot hold layers")
    manifests = document.get("manifests")
    if not isinstance(manifests, list):
        raise Corrupt(f"{what}: it has no list of manifests")
    for number, entry in enumerate(manifests):
        check_descriptor(entry, what=f"{what}: manifest {number}")
    return document  # type: ignore[return-value]


def check_manifest(value: object, *, media_type: str, what: str) -> Manifest:
    """Return `value` as a manifest; `media_type` is what its descriptor says. Raises Corrupt, Unsupported."""
    document = _check_document(value, (media_type,), what=what)
    if "manifests" in document:
        raise Corrupt(f"{what}: a manifest cannot hold manifests")
    check_descriptor(document.get("config"), what=f"{what}: config")
    layers = document.get("layers")
    if not isinstance(layers, list):
        raise Corrupt(f"{what}: it has no list of layers")
    if len(layers) > MAX_LAYERS:
        raise Unsupported(f"{what}: more than {MAX_LAYERS} layers")
    for number, entry in enumerate(layers):
        layer = check_descriptor(entry, what=f"{what}: layer {number}")
        if "foreign" in layer["mediaType"] or "nondistributable" in layer["mediaType"] or layer.get("urls"):
            raise Unsupported(f"{what}: layer {number} is a foreign layer, kept elsewhere")
        if "tar" not in layer["mediaType"]:
            raise Unsupported(f"{what}: layer {number} is no file system layer ({layer['mediaType'][:80]})")
    return document  # type: ignore[return-value]


def check_config(value: object, *, what: str) -> ImageConfig:
    """Return `value` as an image config of Linux. Raises Corrupt, Unsupported."""
    if not isinstance(value, dict):
        raise Corrupt(f"{what}: not an image config")
    if value.get("os", "linux") != "linux":
        raise Unsupported(f"{what}: an image for {str(value.get('os'))[:40]}, not for linux")
    diff_ids_of(value, what=what)
    inner = value.get("config")
    if inner is not None:
        _check_container_config(inner, what=what)
        _check_texts(inner, what=what)
    history = value.get("history")
    if history is not None and not (isinstance(history, list) and all(isinstance(entry, dict) for entry in history)):
        raise Corrupt(f"{what}: history is not a list")
    return value  # type: ignore[return-value]


def diff_ids_of(config: object, *, what: str) -> list[str]:
    """Return the checked diff ids of an image config, bottom first. Raises Corrupt."""
    rootfs = config.get("rootfs") if isinstance(config, dict) else None
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if diff_ids is None and isinstance(rootfs, dict):
        return []  # an image from scratch without layers: Go writes null
    if not isinstance(diff_ids, list):
        raise Corrupt(f"{what}: it has no diff ids", hint="images of Docker before 1.10 are not supported")
    for number, diff_id in enumerate(diff_ids):
        parse_digest(diff_id, what=f"{what}: diff id {number}")
    return diff_ids


def _check_container_config(inner: object, *, what: str) -> None:
    if not isinstance(inner, dict):
        raise Corrupt(f"{what}: config is not an object")
    for key in ("Env", "Cmd", "Entrypoint", "Shell", "OnBuild"):
        value = inner.get(key)
        if value is not None and not (isinstance(value, list) and all(isinstance(word, str) for word in value)):
            raise Corrupt(f"{what}: {key} is not a list of strings")
    for key in ("User", "WorkingDir", "StopSignal"):
        if not isinstance(inner.get(key) or "", str):
            raise Corrupt(f"{what}: {key} is not a string")
    _check_words(inner.get("Labels"), what=f"{what}: Labels")
    for key in ("Volumes", "ExposedPorts", "Healthcheck"):
        if not isinstance(inner.get(key) or {}, dict):
            raise Corrupt(f"{what}: {key} is not an object")


def is_text(text: str) -> bool:
    """Tell whether the system can be given a text of JSON: half of a surrogate pair, which JSON can hold, it cannot."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _check_texts(value: object, *, what: str) -> None:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += item.keys()
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
        elif isinstance(item, str) and not is_text(item):
            raise Corrupt(f"{what}: {item[:80]!r} holds half of a surrogate pair")


def _check_words(value: object, *, what: str) -> None:
    if value is not None and not (isinstance(value, dict) and all(
        isinstance(word, (str, list)) or word is None for word in value.values()
    )):
        raise Corrupt(f"{what} is not an object of strings")


def _check_document(value: object, media_types: tuple[str, ...], *, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Corrupt(f"{what}: not an object")
    if value.get("schemaVersion") == 1:
        raise Unsupported(f"{what}: image manifest schema 1", hint=SCHEMA_1_HINT)
    if value.get("schemaVersion") != 2:
        raise Corrupt(f"{what}: schema version {str(value.get('schemaVersion'))[:20]!r}")
    if value.get("mediaType", media_types[0]) not in media_types:
        raise Corrupt(f"{what}: it says it is {str(value['mediaType'])[:80]!r}")
    return value
