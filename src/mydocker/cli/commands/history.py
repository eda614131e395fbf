"""`mydocker history`."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mydocker.image.describing import HistoryLine

    from ..context import Context

_COLUMNS = {"IMAGE": "ID", "CREATED": "CreatedSince", "CREATED BY": "CreatedBy", "SIZE": "Size", "COMMENT": "Comment"}
_COLUMNS_OF_MACHINES = {
    "IMAGE": "ID", "CREATED AT": "CreatedAt", "CREATED BY": "CreatedBy", "SIZE": "Size", "COMMENT": "Comment",
}
_HEADERS = {"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY"}
_CREATED_BY_WIDTH = 45


def run(context: Context) -> int:
    """Show the steps of an image's making, the youngest first."""
    arguments = context.arguments
    lines = context.engine.images.history(arguments.positionals[0])
    items = [describe(line, whole=arguments["no_trunc"], human=arguments["human"]) for line in lines]
    if arguments["quiet"]:
        for item in items:
            context.output.line(item["ID"])
        return 0
    from ..format import write_items

    columns = _COLUMNS if arguments["human"] else _COLUMNS_OF_MACHINES
    write_items(context.output, arguments["format"], columns, items, _HEADERS)
    return 0


def describe(line: HistoryLine, *, whole: bool, human: bool) -> dict[str, Any]:
    """Return one step's columns, under docker's field names."""
    from mydocker.base.units import format_size

    from ..ages import local_rfc3339, since
    from ..output import shorten
    from .images import short_id

    created_by = line.created_by.replace("\t", " ")
    return {
        "ID": (line.id if whole else short_id(line.id)) if line.id else "<missing>",
        "CreatedSince": since(line.created),
        "CreatedAt": local_rfc3339(line.created),
        "CreatedBy": created_by if whole else shorten(created_by, _CREATED_BY_WIDTH),
        "Size": format_size(line.size_bytes) if human else str(line.size_bytes),
        "Comment": line.comment,
    }
