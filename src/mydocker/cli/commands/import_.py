"""`mydocker import`."""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Make an image of a tar (`-`: standard input) and print its id."""
    arguments = context.arguments
    source, name = (*arguments.positionals, "")[:2]
    if source == "-" and os.isatty(0):
        raise InvalidRequest("import: standard input is a terminal", hint="redirect it, or name the tar")
    images = context.engine.images
    digest = images.import_tar(source, name, **arguments.engine_options())
    context.output.line(images.inspect(digest)["id"])  # what `images` lists, as docker prints it
    return 0
