"""What people ask of one image: docker's inspect document, and its history, from what `Images.inspect` found.

Source: moby api/types/image (InspectResponse,
HistoryResponseItem); history of the OCI image-spec's config.md.
"""
from __future__ import annotations

from mydocker.base.record import Record
from mydocker.storage import layers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mydocker.base.paths import Layout
    from mydocker.oci.image_spec import ImageConfig

#: Words that templates ask for whether an image has them or not.
_CONFIG_DEFAULTS: dict[str, Any] = {
    "User": "", "ExposedPorts": None, "Env": None, "Cmd": None, "Volumes": None, "WorkingDir": "", "Entrypoint": None,
    "OnBuild": None, "Labels": None,
}


class HistoryLine(Record):
    """One step of an image's making. `id` is empty below the top: no step has an image of its own here."""

    id: str
    created: str          # RFC 3339, or empty
    created_by: str
    size_bytes: int
    comment: str


def inspect_document(found: dict[str, Any], layout: Layout) -> dict[str, Any]:
    """Return docker's document of what `Images.inspect` found; our own words follow it in lower case."""
    config: ImageConfig = found["config"]
    history = config.get("history") or []
    rootfs = config.get("rootfs") or {"type": "layers", "diff_ids": []}
    digest = found.get("manifest_digest", "")
    lower_dirs = [f"{layout.layer(chain_id)}/diff" for chain_id in reversed(found["layers"])]
    return {
        "Id": found["id"],
        "RepoTags": [name for name in found["references"] if "@" not in name],
        "RepoDigests": found.get("repo_digests", []),
        "Parent": "",
        "Comment": str(history[-1].get("comment") or "") if history else "",
        "Created": config.get("created") or "",
        "DockerVersion": "",
        "Author": config.get("author") or "",
        "Config": {**_CONFIG_DEFAULTS, **(config.get("config") or {})},
        "Architecture": config.get("architecture") or "",
        "Variant": config.get("variant") or "",
        "Os": config.get("os") or "linux",
        "Size": found.get("size_bytes", 0),
        "GraphDriver": {"Name": "overlay", "Data": {"LowerDir": ":".join(lower_dirs)}},
        "RootFS": {"Type": rootfs["type"], "Layers": list(rootfs.get("diff_ids") or ())},
        "manifest_digest": digest,
        "media_type": found.get("media_type", ""),
        "manifest": found.get("manifest"),
        "layers": found["layers"],
        "base": found["base"],
    }


def history_of(found: dict[str, Any], layout: Layout) -> list[HistoryLine]:
    """Return an image's history, youngest first.

    Steps that changed no file have size 0; layers that the history does not tell of get a line each.
    """
    config: ImageConfig = found["config"]
    sizes = [layers.size_bytes(layout, chain_id) for chain_id in found["layers"]]
    lines: list[HistoryLine] = []
    for entry in config.get("history") or []:
        is_empty = bool(entry.get("empty_layer"))
        lines.append(HistoryLine(
            id="", created=str(entry.get("created") or ""), created_by=str(entry.get("created_by") or ""),
            size_bytes=0 if is_empty or not sizes else sizes.pop(0), comment=str(entry.get("comment") or ""),
        ))
    lines += [HistoryLine(id="", created="", created_by="", size_bytes=size, comment="") for size in sizes]
    lines.reverse()
    if lines:
        lines[0] = lines[0].replace(id=found["id"])
    return lines
