"""`mydocker import`."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Make an image of a tar (`-`: standard input) and print its digest."""
    arguments = context.arguments
    source, name = arguments.positionals
    context.output.line(context.engine.images.import_tar(source, name, **arguments.engine_options()))
    return 0
