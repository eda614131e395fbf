"""`list`: the containers below --root."""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest, NotFound
from mydocker.runtime.cli import write_out
from mydocker.runtime.status import describe, find_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mydocker.runtime.cli import Context

_COLUMNS = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")


def run(context: Context) -> int:
    """Print a table, ids only, or JSON (`null` for none, as runc)."""
    arguments = context.arguments
    if arguments["format"] not in ("table", "json"):
        raise InvalidRequest(f"list: option --format is table or json, not {arguments['format']!r}")
    if arguments["quiet"]:
        names = context.root.ids()
        return write_out("\n".join(names)) if names else 0
    documents = look_at_all(context)
    if arguments["format"] == "json":
        from mydocker.base.jsontext import dumps

        return write_out(dumps(documents or None))
    rows = [_COLUMNS, *(
        (item["id"], str(item["pid"]), item["status"], item["bundle"], item["created"], item["owner"] or "root")
        for item in documents
    )]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return write_out("\n".join(line.rstrip() for line in lines))


def look_at_all(context: Context) -> list[dict[str, Any]]:
    """Return the state document of every container; one that is deleted meanwhile is left out."""
    documents = []
    for container_id in context.root.ids():
        try:
            state = context.root.load(container_id)
        except NotFound:
            continue
        documents.append(describe(state, find_status(context.root, state)))
    return documents
