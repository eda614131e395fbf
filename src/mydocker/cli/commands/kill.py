"""`mydocker kill`."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Send a signal to each container."""
    signal = context.arguments["signal"]

    def kill(name: str) -> str:
        context.engine.containers.get(name).kill(signal)
        return name
    return context.each(context.arguments.positionals, kill)
