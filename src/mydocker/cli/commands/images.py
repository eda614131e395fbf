"""`mydocker images`."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..context import Context

_COLUMNS = {"REPOSITORY": "Repository", "TAG": "Tag", "IMAGE ID": "ID", "CREATED": "CreatedAt", "SIZE": "Size"}
_HEADERS = {"ID": "IMAGE ID", "CreatedAt": "CREATED"}
_SHORT_ID = 12


def run(context: Context) -> int:
    """List images."""
    return 0
