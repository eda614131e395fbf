"""`mydocker load`."""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Load the images of an archive and print their names (ids of those without)."""
    arguments = context.arguments
    source, quiet = arguments["input"], arguments["quiet"]
    if source == "-" and os.isatty(0):
        raise InvalidRequest("load: no archive given", hint="name it with -i FILE, or redirect standard input")
    for image in context.engine.images.load(source, platform=arguments["platform"]):
        for reference in image.references:
            context.output.line(reference if quiet else f"Loaded image: {reference}")
        if not image.references:
            context.output.line(image.id if quiet else f"Loaded image ID: {image.id}")
    return 0
