"""`mydocker help`."""
from __future__ import annotations

from ..help import format_help, format_verb_help
from ..parse import parse_global

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Show the list of commands, or one command's options."""
    _, verb, _ = parse_global(context.arguments.positionals)
    context.output.line(format_verb_help(verb) if verb else format_help())
    return 0
