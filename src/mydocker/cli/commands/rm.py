"""`mydocker rm`."""
from __future__ import annotations

from mydocker.base.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Remove each container; with `-f` also running ones, and what is gone already is fine."""
    force = context.arguments["force"]

    def remove(name: str) -> str | None:
        try:
            context.engine.containers.remove(name, force=force, volumes=context.arguments["volumes"])
        except NotFound:
            if not force:
                raise
            return None
        return name
    return context.each(context.arguments.positionals, remove)
