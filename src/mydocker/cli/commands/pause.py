"""`mydocker pause`."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Freeze each container."""
    def pause(name: str) -> str:
        context.engine.containers.get(name).pause()
        return name
    return context.each(context.arguments.positionals, pause)
