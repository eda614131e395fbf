"""`mydocker rmi`."""
from __future__ import annotations

from mydocker.base.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Remove each image name, and with its last name the image; with `-f` what is gone already is fine."""
    force = context.arguments["force"]

    def remove(name: str) -> str | None:
        try:
            removed = context.engine.images.remove(name, force=force)
        except NotFound:
            if not force:
                raise
            return None
        lines = [f"Untagged: {reference}" for reference in removed.untagged]
        lines += [f"Deleted: {digest}" for digest in removed.deleted]
        return "\n".join(lines)
    return context.each(context.arguments.positionals, remove)
