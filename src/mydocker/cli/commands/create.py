"""`mydocker create`."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Create a container and print its id."""
    arguments = context.arguments
    image, *argv = arguments.positionals
    options = arguments.engine_options()
    if arguments["tty"]:
        from ..terminal import console_size

        options["console_size"] = console_size()
    if not arguments["quiet"]:
        context.engine.images.open_progress = context.open_progress
    if "cidfile" in arguments.given:
        from ..cidfile import open_cidfile  # cold

        with open_cidfile(arguments["cidfile"]) as write_id:
            container = context.engine.containers.create(image, argv, **options)
            write_id(container.id)
    else:
        container = context.engine.containers.create(image, argv, **options)
    context.output.line(container.id)
    return 0
