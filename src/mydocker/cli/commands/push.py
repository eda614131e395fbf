"""`mydocker push`."""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest, NotFound
from mydocker.oci import reference as references

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.image.progress import Progress

    from ..context import Context


def run(context: Context) -> int:
    """Push an image, or every tag of a repository, and print what came of it as docker does."""
    arguments = context.arguments
    name = arguments.positionals[0]
    progress: Progress | None = None
    if not arguments["quiet"]:
        from ..progress import open_progress

        progress = open_progress(context.output.fd, "push")
    for found in _names(context, name) if arguments["all_tags"] else [name]:
        _push(context, found, progress)
    return 0


def _names(context: Context, name: str) -> list[str]:
    """Return the names that images here have in a repository."""
    if "@" in name or ":" in name.rpartition("/")[2]:
        raise InvalidRequest(f"push {name}: a tag cannot be given with --all-tags")
    wanted = references.parse(name)
    images = [references.parse(image.reference) for image in context.engine.images.list() if image.reference]
    found = sorted(
        image.familiar for image in images if (image.domain, image.path) == (wanted.domain, wanted.path) and not image.digest)
    if not found:
        raise NotFound(f"no image {name}", hint="list what there is: mydocker images")
    return found


def _push(context: Context, name: str, progress: Progress | None) -> None:
    output, arguments = context.output, context.arguments
    wanted = references.parse(name)
    if progress is not None:
        if name == wanted.familiar_name:
            output.line(f"Using default tag: {references.DEFAULT_TAG}")
        output.line(f"The push refers to repository [{wanted.domain}/{wanted.path}]")
        output.flush()
    image = context.engine.images.push(
        name, arguments["with"] or (), insecure=arguments["insecure_registry"] or (), progress=progress)
    if progress is not None:
        output.line(f"{wanted.tag}: digest: {image.digest} size: {image.size_bytes}")
    else:
        output.line(image.canonical)
    output.flush()
