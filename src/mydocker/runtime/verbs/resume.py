"""`resume`: let the processes of a paused container go on."""
from __future__ import annotations

from mydocker.runtime.cgroups import open_cgroup
from mydocker.runtime.status import find_status, require

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.runtime.cli import Context


def run(context: Context) -> int:
    """Thaw it. Raises Conflict unless it is paused."""
    with context.root.lock(context.id):
        state = context.root.load(context.id)
        require(state, find_status(context.root, state), "paused", action="resume")
        group = open_cgroup(state)
        assert group is not None  # else it could not be paused
        group.thaw()
    return 0
