"""`mydocker restart`."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Stop each container where it runs, and start it."""
    options = context.arguments.engine_options()

    def restart(name: str) -> str:
        context.engine.containers.get(name).restart(**options)
        return name
    return context.each(context.arguments.positionals, restart)
