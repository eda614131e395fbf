"""`mydocker export`."""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest

from ..output import OutputClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Write a container's file system as a tar."""
    (name,) = context.arguments.positionals
    container = context.engine.containers.get(name)
    path = context.arguments["output"]
    if not path:
        if os.isatty(context.output.fd):
            raise InvalidRequest("export: standard output is a terminal", hint="redirect it, or name a file with -o FILE")
        try:
            container.export(context.output.fd)
        except BrokenPipeError:
            raise OutputClosed from None
        return 0
    from mydocker.base.newfile import NewFile  # cold

    with NewFile(path, "export") as fd:
        container.export(fd)
    return 0
