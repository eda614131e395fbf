"""`state`: the state document of runtime.md, with runc's additions."""
from __future__ import annotations

from mydocker.runtime.cli import write_out
from mydocker.runtime.status import describe, find_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mydocker.runtime.cli import Context


def run(context: Context) -> int:
    """Print it."""
    state = context.root.load(context.id)
    return write_out(format_json(describe(state, find_status(context.root, state))))


def format_json(value: Any) -> str:
    """Return a JSON document indented by two, as runc prints it."""
    import json  # cold: indented text is what the quick encoder lacks

    return json.dumps(value, indent=2, ensure_ascii=False)
