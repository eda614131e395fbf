"""`features`: what this program supports (runtime-spec features.md)."""
from __future__ import annotations

from mydocker.runtime.cli import write_out
from mydocker.runtime.features import document

from .state import format_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.runtime.cli import Context


def run(context: Context) -> int:
    """Print the document."""
    return write_out(format_json(document()))
