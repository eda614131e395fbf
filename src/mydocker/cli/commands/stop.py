"""`mydocker stop`."""
from __future__ import annotations

from mydocker.base.errors import AlreadyInState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Stop each container and print the names of those that are."""
    options = context.arguments.engine_options()

    def stop(name: str) -> str:
        try:
            context.engine.containers.get(name).stop(**options)
        except AlreadyInState:
            pass  # as asked, and docker stop says so with success, too
        return name
    return context.each(context.arguments.positionals, stop)
