"""`mydocker attach`."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Connect to a running container until it ends (its exit code is passed on) or the detach keys are typed."""
    from ..terminal import attach

    arguments = context.arguments
    container = context.engine.containers.get(arguments.positionals[0])
    return attach(context, container, stdin=not arguments["no_stdin"], proxy=arguments["sig_proxy"])
