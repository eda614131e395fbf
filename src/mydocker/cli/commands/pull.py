"""`mydocker pull`."""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest
from mydocker.oci import reference as references

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.image.progress import Progress

    from ..context import Context


def run(context: Context) -> int:
    """Pull an image, or all of a repository, and print what came of it as docker does."""
    arguments = context.arguments
    name = arguments.positionals[0]
    progress: Progress | None = None
    if not arguments["quiet"]:
        from ..progress import open_progress

        progress = open_progress(context.output.fd)
    if not arguments["all_tags"]:
        _pull(context, name, progress)
        return 0
    if "@" in name or ":" in name.rpartition("/")[2]:
        raise InvalidRequest(f"pull {name}: a tag cannot be given with --all-tags")
    names = list(context.engine.images.list_tags(name, insecure=arguments["insecure_registry"] or ()))
    for found in names:
        _pull(context, found, progress, is_last=found == names[-1])
    return 0


def _pull(context: Context, name: str, progress: Progress | None, *, is_last: bool = True) -> None:
    output, arguments = context.output, context.arguments
    wanted = references.parse(name)
    if progress is not None:
        if name == wanted.familiar_name:
            output.line(f"Using default tag: {references.DEFAULT_TAG}")
        output.line(f"{wanted.tag or wanted.digest}: Pulling from {wanted.path}")
        output.flush()
    image = context.engine.images.pull(
        name, platform=arguments["platform"], insecure=arguments["insecure_registry"] or (), progress=progress, sweeps=is_last)
    if progress is not None:
        output.line(f"Digest: {image.digest}")
        what = "Downloaded newer image for" if image.is_new else "Image is up to date for"
        output.line(f"Status: {what} {image.reference}")
    output.line(image.canonical)
    output.flush()
