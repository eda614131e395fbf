"""`mydocker images`."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mydocker.image.store import ImageSummary

    from ..context import Context

_COLUMNS = {"REPOSITORY": "Repository", "TAG": "Tag", "IMAGE ID": "ID", "CREATED": "CreatedAt", "SIZE": "Size"}
_HEADERS = {"ID": "IMAGE ID", "CreatedAt": "CREATED"}
_SHORT_ID = 12
_NONE = "<none>"


def run(context: Context) -> int:
    """List images, the youngest first; a positional narrows to a name, with or without tag."""
    arguments = context.arguments
    items = [describe(image, whole=arguments["no_trunc"]) for image in context.engine.images.list()]
    if arguments.positionals:
        wanted = arguments.positionals[0]
        items = [item for item in items if wanted in (item["Repository"], item["Reference"])]
    if arguments["quiet"]:
        for identity in dict.fromkeys(item["ID"] for item in items):  # an image with two names is still one
            context.output.line(identity)
        return 0
    from ..format import write_items

    write_items(context.output, arguments["format"], _COLUMNS, items, _HEADERS)
    return 0


def describe(image: ImageSummary, *, whole: bool) -> dict[str, Any]:
    """Return one image's columns, under Docker's field names where it has them."""
    from mydocker.base.units import format_size

    repository, tag = split_reference(image.reference)
    identity = image.id if whole else image.id.removeprefix("sha256:")[:_SHORT_ID]
    return {
        "ID": identity,
        "Repository": repository,
        "Tag": tag,
        "Reference": image.reference,
        "Digest": image.manifest_digest,
        "CreatedAt": image.created[:19].replace("T", " "),
        "Size": format_size(image.size_bytes),
        "Base": image.base,
    }


def split_reference(reference: str) -> tuple[str, str]:
    """Return (repository, tag) of a familiar reference; `<none>` for what it lacks."""
    name, _, _ = reference.partition("@")
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:  # the colon of a registry's port
        return name or _NONE, _NONE
    return head, tag
