"""`mydocker save`."""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest

from ..output import OutputClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Write images as one archive."""
    arguments = context.arguments
    target = arguments["output"] or context.output.fd
    if target == context.output.fd and os.isatty(target):
        raise InvalidRequest("save: standard output is a terminal", hint="redirect it, or name a file with -o FILE")
    try:
        context.engine.images.save(
            arguments.positionals, target, format=arguments["format"], platform=arguments["platform"])
    except BrokenPipeError:
        raise OutputClosed from None
    return 0
