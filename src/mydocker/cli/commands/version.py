"""`mydocker version`."""
from __future__ import annotations

from mydocker.base.version import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Show the version of mydocker and of what it stands on; asks no engine: it works when nothing else does."""
    facts = describe()
    form = context.arguments["format"]
    if form:
        from ..format import write_document

        write_document(context.output, form, facts)
        return 0
    for key, value in facts.items():
        context.output.line(f"{'mydocker' if key == 'version' else key} {value}")
    return 0
