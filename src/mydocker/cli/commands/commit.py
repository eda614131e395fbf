"""`mydocker commit`."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Make an image of a container and print its digest."""
    arguments = context.arguments
    name, image = arguments.positionals
    context.output.line(context.engine.containers.get(name).commit(image, **arguments.engine_options()))
    return 0
