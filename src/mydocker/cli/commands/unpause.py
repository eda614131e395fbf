"""`mydocker unpause`."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Let each frozen container go on."""
    def unpause(name: str) -> str:
        context.engine.containers.get(name).unpause()
        return name
    return context.each(context.arguments.positionals, unpause)
