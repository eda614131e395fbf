"""`mydocker images`."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mydocker.image.listing import ImageSummary

    from ..context import Context

_COLUMNS = {"REPOSITORY": "Repository", "TAG": "Tag", "IMAGE ID": "ID", "CREATED": "CreatedSince", "SIZE": "Size"}
_WITH_DIGESTS = {
    "REPOSITORY": "Repository", "TAG": "Tag", "DIGEST": "Digest", "IMAGE ID": "ID", "CREATED": "CreatedSince", "SIZE": "Size",
}
_HEADERS = {"ID": "IMAGE ID", "CreatedAt": "CREATED AT", "CreatedSince": "CREATED"}
_SHORT_ID = 12
_NONE = "<none>"
_UNKNOWN = "N/A"


def run(context: Context) -> int:
    """List images, the youngest first; a positional narrows to a name or a pattern of one, with or without tag."""
    arguments = context.arguments
    images = context.engine.images.list()
    if arguments["filter"]:
        from ..image_filters import LISTING, parse_filters

        images = list(filter(parse_filters(arguments["filter"], context.engine.images, LISTING), images))
    if arguments.positionals:
        from ..image_filters import matches_reference

        images = [image for image in images if image.reference and matches_reference(image.reference, arguments.positionals[0])]
    items = [describe(image, whole=arguments["no_trunc"]) for image in _without_second_rows(images)]
    if arguments["quiet"]:
        for identity in dict.fromkeys(item["ID"] for item in items):  # an image with two names is still one
            context.output.line(identity)
        return 0
    from ..format import write_items

    write_items(context.output, arguments["format"], _WITH_DIGESTS if arguments["digests"] else _COLUMNS, items, _HEADERS)
    return 0


def _without_second_rows(images: list[ImageSummary]) -> list[ImageSummary]:
    """Leave out what docker gives no row of its own.

    Names with a digest where the image has a tag in the same repository; a second manifest without a name (of packed layers, of
    an index) where the image has one.
    """
    def place(image: ImageSummary) -> tuple[str, str]:
        return image.id, split_reference(image.reference)[0]

    tagged = {place(image) for image in images if "@" not in image.reference}
    named = {image.id for image in images if image.reference}
    return [
        image for image in images
        if (image.id not in named if not image.reference else "@" not in image.reference or place(image) not in tagged)]


def describe(image: ImageSummary, *, whole: bool) -> dict[str, Any]:
    """Return one image's columns, under Docker's field names where it has them."""
    from mydocker.base.units import format_size

    from ..ages import local_time, since

    repository, tag = split_reference(image.reference)
    return {
        "ID": image.id if whole else short_id(image.id),
        "Repository": repository,
        "Tag": tag,
        "Reference": image.reference,
        "Digest": image.digest,
        "CreatedSince": since(image.created),
        "CreatedAt": local_time(image.created, "%Y-%m-%d %H:%M:%S %z %Z"),
        "Size": format_size(image.size_bytes),
        "VirtualSize": format_size(image.size_bytes),
        "Containers": _UNKNOWN, "SharedSize": _UNKNOWN, "UniqueSize": _UNKNOWN,  # docker fills them in for `system df -v` only
        "Base": image.base,
        "Labels": ",".join(f"{key}={value}" for key, value in image.labels),
    }


def short_id(identity: str) -> str:
    """Return the twelve digits that stand for an id."""
    return identity.removeprefix("sha256:")[:_SHORT_ID]


def split_reference(reference: str) -> tuple[str, str]:
    """Return (repository, tag) of a familiar reference; `<none>` for what it lacks."""
    name, _, _ = reference.partition("@")
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:  # the colon of a registry's port
        return name or _NONE, _NONE
    return head, tag
