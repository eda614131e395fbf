"""Image configs and manifests that the engine writes itself (import, commit, load of old archives).

Pure: documents in, documents and bytes out. Source: config.md and manifest.md of the OCI image-spec.
"""
from __future__ import annotations

from mydocker.base import jsontext
from mydocker.oci import platform
from mydocker.oci.digest import digest_of
from mydocker.oci.media_types import DOCKER_LAYER, MEDIA_CONFIG, MEDIA_LAYER, MEDIA_MANIFEST

from .changes import apply_changes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from mydocker.oci.image_spec import Descriptor, ImageConfig, Manifest

#: Words of an image config's inner `config` that a caller may set (import --change, commit).
OVERRIDES = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "Healthcheck",
    "Shell", "OnBuild", "ArgsEscaped",
)


def new_config(
    diff_id: str, created: str, *, comment: str, overrides: dict[str, Any] | None = None, change: Sequence[str] = (),
    wanted: str = "",
) -> ImageConfig:
    """Return the config of an image of one layer, for this machine or the `wanted` platform."""
    chosen = platform.parse(wanted) if wanted else platform.host()
    config: ImageConfig = {
        "created": created,
        "architecture": chosen["architecture"],
        "os": "linux",
        "config": apply_changes(apply_overrides({}, overrides), change),
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": created, "comment": comment}],
    }
    if "variant" in chosen:
        config["variant"] = chosen["variant"]
    return config


def extended_config(
    base: ImageConfig, diff_id: str, created: str, *, author: str, message: str, command: str,
    overrides: dict[str, Any] | None, change: Sequence[str] = (),
) -> ImageConfig:
    """Return `base` with one more layer and its line of history. `base` is not changed."""
    entry: dict[str, Any] = {"created": created, "created_by": command}
    if author:
        entry["author"] = author
    if message:
        entry["comment"] = message
    config: ImageConfig = {**base}
    config["created"] = created
    config.setdefault("architecture", platform.host_architecture())
    config.setdefault("os", "linux")
    if author:
        config["author"] = author
    below = base.get("rootfs", {"type": "layers", "diff_ids": []})
    config["rootfs"] = {"type": "layers", "diff_ids": [*(below.get("diff_ids") or ()), diff_id]}
    config["history"] = [*(base.get("history") or ()), entry]
    config["config"] = apply_changes(apply_overrides(dict(base.get("config") or {}), overrides), change)
    return config


def apply_overrides(inner: dict[str, Any], overrides: dict[str, Any] | None) -> dict[str, Any]:
    """Return the inner config with the given words replaced; None takes a word away."""
    for key, value in (overrides or {}).items():
        if key not in OVERRIDES:
            raise KeyError(key)  # the engine's mistake: user input was judged before
        if value is None:
            inner.pop(key, None)
        else:
            inner[key] = value
    return inner


def encode(document: object) -> bytes:
    """Return a document's bytes; equal documents give equal bytes (and so digests)."""
    return jsontext.dumps(document, sort_keys=True).encode()


def describe(data: bytes, media_type: str) -> Descriptor:
    """Return the descriptor of a document's bytes."""
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def layer_descriptor(digest: str, size_bytes: int, compression: str) -> Descriptor:
    """Return the descriptor of a layer; `compression` is that of storage/inflate."""
    return {"mediaType": f"{MEDIA_LAYER}{'+' if compression else ''}{compression}", "digest": digest, "size": size_bytes}


def new_manifest(config_bytes: bytes, layers: list[Descriptor]) -> Manifest:
    """Return the manifest of a config and its layers, bottom first."""
    return {
        "schemaVersion": 2, "mediaType": MEDIA_MANIFEST, "config": describe(config_bytes, MEDIA_CONFIG),
        "layers": [_in_oci_words(layer) for layer in layers],
    }


def _in_oci_words(layer: Descriptor) -> Descriptor:
    """Return a layer of a Docker image as one of ours has it: a manifest of one kind with layers of the other is neither's."""
    rest = layer["mediaType"].removeprefix(DOCKER_LAYER)
    if rest == layer["mediaType"] or rest not in ("", ".gzip", ".zstd"):
        return layer
    return {**layer, "mediaType": f"{MEDIA_LAYER}{rest.replace('.', '+')}"}
