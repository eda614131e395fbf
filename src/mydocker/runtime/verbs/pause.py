"""`pause`: stop every process of a container (cgroup freezer)."""
from __future__ import annotations

from mydocker.base.errors import Unsupported
from mydocker.runtime.cgroups import open_cgroup
from mydocker.runtime.status import find_status, require

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.runtime.cli import Context


def run(context: Context) -> int:
    """Freeze it. Raises Conflict unless it is running or created."""
    with context.root.lock(context.id):
        state = context.root.load(context.id)
        require(state, find_status(context.root, state), "running", "created", action="pause")
        group = open_cgroup(state)
        if group is None:
            raise Unsupported(f"pause container {state.id}: it has no cgroup")
        group.freeze()
    return 0
