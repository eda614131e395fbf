"""What the kernel's memory killer did in a container's cgroup.

Source: Documentation/admin-guide/cgroup-v1/memory.rst "memory.oom_control", cgroup-v2.rst "memory.events".
"""
from __future__ import annotations

from mydocker.base.errors import RuntimeFailed
from mydocker.linux.cgroup.accounting import read_keyed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.linux.cgroup.group import Cgroup


def count_oom_kills(group: Cgroup) -> int:
    """Return how often the kernel has killed a process of the cgroup for want of memory."""
    for path in (f"{group.v1['memory']}/memory.oom_control" if "memory" in group.v1 else "", f"{group.v2}/memory.events"):
        if path and "oom_kill" in (values := read_keyed(path)):
            return values["oom_kill"]
    return 0


def explain_death(group: Cgroup, error: RuntimeFailed) -> RuntimeFailed:
    """Return why an init ended without a word: the limit that was too low for it, in runc's words, or the error as it is."""
    if count_oom_kills(group):
        return RuntimeFailed("linux.resources.memory.limit: container init was OOM-killed (memory limit too low?)")
    return error
