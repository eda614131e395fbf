"""`mydocker rmi`."""
from __future__ import annotations

from mydocker.base.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Remove each image name, and what only it used."""
    force = context.arguments["force"]

    def remove(name: str) -> str | None:
        try:
            context.engine.images.remove(name)
        except NotFound:
            if not force:
                raise
            return None
        return name
    return context.each(context.arguments.positionals, remove)
