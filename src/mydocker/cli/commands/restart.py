"""`mydocker restart`."""
from __future__ import annotations

from mydocker.base.errors import AlreadyInState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Stop each container where it runs, and start it."""
    options = context.arguments.engine_options()

    def restart(name: str) -> str:
        container = context.engine.containers.get(name)
        try:
            container.stop(**options)
        except AlreadyInState:
            pass  # ended already: start is what is left to do
        container.start()
        return name
    return context.each(context.arguments.positionals, restart)
