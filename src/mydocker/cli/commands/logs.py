"""`mydocker logs`."""
from __future__ import annotations

import os

from mydocker.base.errors import Unavailable

from ..output import OutputClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Show a container's log: what it wrote to standard output on ours, to standard error on ours."""
    arguments = context.arguments
    container = context.engine.containers.get(arguments.positionals[0])
    try:
        # Straight from file to descriptor: a log of many megabytes is not looked at line by line.
        container.copy_logs(context.output.fd, context.output.error_fd, **arguments.engine_options())
    except BrokenPipeError:
        raise OutputClosed from None
    except OSError as error:
        if error.filename is not None:
            raise
        raise Unavailable(f"write standard output: {os.strerror(error.errno or 0).lower()}") from error
    return 0
