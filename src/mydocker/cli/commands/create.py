"""`mydocker create`."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Create a container and print its id."""
    image, *argv = context.arguments.positionals
    container = context.engine.containers.create(image, argv, **context.arguments.engine_options())
    context.output.line(container.id)
    return 0
