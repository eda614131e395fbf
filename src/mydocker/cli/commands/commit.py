"""`mydocker commit`."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Make an image of a container and print its id."""
    arguments = context.arguments
    name, image = (*arguments.positionals, "")[:2]
    digest = context.engine.containers.get(name).commit(image, **arguments.engine_options())
    context.output.line(context.engine.images.inspect(digest)["id"])  # what `images` lists, as docker prints it
    return 0
