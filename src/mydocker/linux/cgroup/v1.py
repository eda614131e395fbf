"""Limits as files of cgroup v1. Pure: plans `Write`s; group.py executes them.

Source: Documentation/admin-guide/cgroup-v1/{memory,cpusets,pids}.rst, Documentation/scheduler/sched-bwc.rst.
"""
from __future__ import annotations

from .resources import Write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .resources import Resources

MEMORY = "memory.limit_in_bytes"
MEMORY_AND_SWAP = "memory.memsw.limit_in_bytes"


def plan_writes(resources: Resources, current_memsw_bytes: int | None = None) -> list[Write]:
    """Return the writes in the order in which the kernel accepts them.

    `current_memsw_bytes` is what memory.memsw.limit_in_bytes says now, None when the kernel keeps no
    account of swap.
    """
    writes = _plan_memory(resources, current_memsw_bytes)
    for controller, file, value, field in (
        ("memory", "memory.soft_limit_in_bytes", resources.memory_reservation, "memory.reservation"),
        ("memory", "memory.swappiness", resources.memory_swappiness, "memory.swappiness"),
        ("cpu", "cpu.shares", resources.cpu_shares or None, "cpu.shares"),
        # The quota is judged against the period, so the period comes first, and the burst against both.
        ("cpu", "cpu.cfs_period_us", resources.cpu_period or None, "cpu.period"),
        ("cpu", "cpu.cfs_quota_us", resources.cpu_quota or None, "cpu.quota"),
        ("cpu", "cpu.cfs_burst_us", resources.cpu_burst, "cpu.burst"),
        ("cpu", "cpu.idle", resources.cpu_idle, "cpu.idle"),
        ("cpuset", "cpuset.cpus", resources.cpus or None, "cpu.cpus"),
        ("cpuset", "cpuset.mems", resources.mems or None, "cpu.mems"),
    ):
        if value is not None:
            writes.append(Write(controller=controller, file=file, value=str(value), field=field))
    if resources.pids_limit is not None:
        limit = str(resources.pids_limit) if resources.pids_limit > 0 else "max"
        writes.append(Write(controller="pids", file="pids.max", value=limit, field="pids.limit"))
    return writes


def _plan_memory(resources: Resources, current_memsw_bytes: int | None) -> list[Write]:
    limit, swap = resources.memory_limit or None, resources.memory_swap or None
    if limit == -1 and swap is None and current_memsw_bytes is not None:
        swap = -1  # memory without a limit below a limit of memory and swap would be refused
    writes = []
    if limit is not None:
        writes.append(Write(controller="memory", file=MEMORY, value=str(limit), field="memory.limit"))
    if swap is not None:
        writes.append(Write(controller="memory", file=MEMORY_AND_SWAP, value=str(swap), field="memory.swap"))
    # At every moment memory <= memory and swap must hold: when the sum is raised it goes first,
    # when it is lowered the memory does.
    is_raised = swap is not None and current_memsw_bytes is not None and (swap == -1 or swap > current_memsw_bytes)
    return writes[::-1] if is_raised else writes
