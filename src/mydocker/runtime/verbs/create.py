"""`create`: make a container, up to its waiting for `start`."""
from __future__ import annotations

from mydocker.runtime.bundle import make

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.runtime.cli import Context


def run(context: Context) -> int:
    """Create; the init lives on as a child of our parent, or of its next subreaper, who waits for it."""
    make(context, wait_at_fifo=True)
    return 0
