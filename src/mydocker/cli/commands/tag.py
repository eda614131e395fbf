"""`mydocker tag`."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Give an image one more name."""
    name, target = context.arguments.positionals
    context.engine.images.tag(name, target)
    return 0
