"""`mydocker load`."""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Load the images of an archive and print their names."""
    arguments = context.arguments
    source = arguments["input"]
    if source == "-" and os.isatty(0):
        raise InvalidRequest("load: no archive given", hint="name it with -i FILE, or redirect standard input")
    for name in context.engine.images.load(source):
        context.output.line(name if arguments["quiet"] else f"Loaded image: {name}")
    return 0
