"""Limits as files of cgroup v2. Pure: plans `Write`s; group.py executes them.

Source: Documentation/admin-guide/cgroup-v2.rst; opencontainers/cgroups (what runc uses) for the
conversions of numbers that the runtime spec states in v1's terms.
"""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest

from .resources import Write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .resources import Resources


def plan_writes(resources: Resources) -> list[Write]:
    """Return the writes in the order in which the kernel accepts them. Raises InvalidRequest."""
    writes = []
    swap_max = _swap_max(resources.memory_limit or 0, resources.memory_swap or 0)
    for controller, file, value, field in (
        ("memory", "memory.swap.max", swap_max, "memory.swap"),
        ("memory", "memory.max", _limit(resources.memory_limit or None), "memory.limit"),
        ("memory", "memory.low", _limit(resources.memory_reservation), "memory.reservation"),
        # v2 has no swappiness of a group: group.py finds no such file and says so.
        ("memory", "memory.swappiness", resources.memory_swappiness, "memory.swappiness"),
        # A group that is idle has no weight: the kernel refuses one.
        ("cpu", "cpu.weight", None if resources.cpu_idle else _weight(resources.cpu_shares), "cpu.shares"),
        ("cpu", "cpu.max", _cpu_max(resources.cpu_quota, resources.cpu_period), "cpu.quota"),
        ("cpu", "cpu.max.burst", resources.cpu_burst, "cpu.burst"),
        ("cpu", "cpu.idle", resources.cpu_idle, "cpu.idle"),
        ("cpuset", "cpuset.cpus", resources.cpus or None, "cpu.cpus"),
        ("cpuset", "cpuset.mems", resources.mems or None, "cpu.mems"),
        ("pids", "pids.max", _pids_max(resources.pids_limit), "pids.limit"),
    ):
        if value is not None:
            writes.append(Write(controller=controller, file=file, value=str(value), field=field))
    return writes


def plan_unified(resources: Resources) -> list[Write]:
    """Return the writes of `linux.resources.unified`, which names v2's files itself."""
    return [
        Write(controller=name.partition(".")[0], file=name, value=value, field=f"unified.{name}")
        for name, value in resources.unified
    ]


def convert_shares_to_weight(shares: int) -> int:
    """Return the cpu.weight (1 to 10000) for cpu shares (2 to 262144), as runc does.

    runc (opencontainers/cgroups since 0.0.3, runc since 1.3.2) fits a quadratic function of the
    logarithm through the three points that mean the same in both versions: the least (2 -> 1), the
    default (1024 -> 100) and the most (262144 -> 10000). The linear function of older releases,
    `1 + (shares - 2) * 9999 / 262142`, made 39 of the default 1024.
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    import math  # cold

    logarithm = math.log2(shares)
    return math.ceil(10 ** ((logarithm * logarithm + 125 * logarithm) / 612 - 7 / 34))


def _swap_max(limit: int, memory_and_swap: int) -> str | None:
    """Return memory.swap.max, which counts swap alone; 0 is "not set" in both arguments."""
    if memory_and_swap == -1 or (limit == -1 and memory_and_swap == 0):
        return "max"
    if memory_and_swap == 0:
        return None
    if limit == -1:
        return str(memory_and_swap)
    if limit == 0:
        raise InvalidRequest("apply resources.memory.swap: needs memory.limit as well")
    if memory_and_swap < limit:
        raise InvalidRequest(
            "apply resources.memory.swap: less than memory.limit", hint="it counts memory and swap together"
        )
    return str(memory_and_swap - limit)


def _limit(value: int | None) -> str | None:
    return None if value is None else "max" if value < 0 else str(value)


def _pids_max(limit: int | None) -> str | None:
    return None if limit is None else str(limit) if limit > 0 else "max"


def _weight(shares: int | None) -> int | None:
    return convert_shares_to_weight(shares) if shares else None


def _cpu_max(quota: int | None, period: int | None) -> str | None:
    if not quota and not period:
        return None
    amount = str(quota) if quota and quota > 0 else "max"
    return f"{amount} {period}" if period else amount  # without a period the kernel keeps the one it has
