"""`mydocker wait`."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Wait for each container in turn and print its exit code."""
    def wait(name: str) -> str:
        return str(context.engine.containers.get(name).wait())
    return context.each(context.arguments.positionals, wait)
