"""`mydocker info`."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..context import Context


def run(context: Context) -> int:
    """Show what the engine found on this machine."""
    facts = context.engine.info()
    form = context.arguments["format"]
    if form:
        from ..format import write_document

        write_document(context.output, form, facts)
        return 0
    for line in format_facts(facts):
        context.output.line(line)
    return 0


def format_facts(facts: dict[str, Any], indent: str = "") -> list[str]:
    """Return `key: value` lines, nested facts indented."""
    lines = []
    for key, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", *format_facts(value, indent + "  ")]
        elif isinstance(value, (list, tuple)):
            lines.append(f"{indent}{key}: {' '.join(map(str, value)) or '-'}")
        else:
            lines.append(f"{indent}{key}: {_word(value)}")
    return lines


def _word(value: object) -> str:
    if value is None:
        return "-"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
