"""`mydocker logout`."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Forget the password for a registry."""
    server = context.arguments.positionals[0] if context.arguments.positionals else ""
    was_there = context.engine.logout(server)
    shown = server or "docker.io"
    context.output.line(f"Removing login credentials for {shown}" if was_there else f"Not logged in to {shown}")
    return 0
