"""Limits as files of cgroup v2. Pure: plans `Write`s; limits.py executes them.

What v2 cannot limit is planned as well, with v1's file: limits.py finds no such file or controller, and names the field.
Source: Documentation/admin-guide/cgroup-v2.rst; opencontainers/cgroups (what runc uses) for the
conversions of numbers that the runtime spec states in v1's terms.
"""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest

from .resources import Write
from .v1 import plan_pids_max, plan_rdma, plan_swappiness

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .resources import BlockLimit, Resources

_IO_MAX_KEYS = {
    "throttleReadBpsDevice": "rbps", "throttleWriteBpsDevice": "wbps", "throttleReadIOPSDevice": "riops",
    "throttleWriteIOPSDevice": "wiops",
}


def plan_writes(resources: Resources, current_quota: str = "max") -> list[Write]:
    """Return the writes in the order in which the kernel accepts them. Raises InvalidRequest.

    `current_quota` is the first word of cpu.max now, which a new period alone must not lift.
    """
    writes = []
    swap = swap_max(resources.memory_limit, resources.memory_swap)
    for controller, file, value, field in (
        ("memory", "memory.swap.max", swap, "memory.swap"),
        ("memory", "memory.max", _limit(resources.memory_limit or None), "memory.limit"),
        ("memory", "memory.low", _limit(resources.memory_reservation or None), "memory.reservation"),
        ("memory", "memory.swappiness", plan_swappiness(resources), "memory.swappiness"),
        ("memory", "memory.oom_control", 1 if resources.disable_oom_killer else None, "memory.disableOOMKiller"),
        ("memory", "memory.kmem.limit_in_bytes", _positive(resources.memory_kernel), "memory.kernel"),
        ("memory", "memory.kmem.tcp.limit_in_bytes", _positive(resources.memory_kernel_tcp), "memory.kernelTCP"),
        # A group that is idle has no weight: the kernel refuses one, so idle = 0 goes before it.
        ("cpu", "cpu.idle", resources.cpu_idle, "cpu.idle"),
        ("cpu", "cpu.weight", None if resources.cpu_idle else _weight(resources.cpu_shares), "cpu.shares"),
        ("cpu", "cpu.max.burst", resources.cpu_burst, "cpu.burst"),
        ("cpu", "cpu.max", _cpu_max(resources.cpu_quota, resources.cpu_period, current_quota), "cpu.quota"),
        ("cpu", "cpu.rt_period_us", resources.realtime_period or None, "cpu.realtimePeriod"),
        ("cpu", "cpu.rt_runtime_us", resources.realtime_runtime or None, "cpu.realtimeRuntime"),
        ("cpuset", "cpuset.cpus", resources.cpus or None, "cpu.cpus"),
        ("cpuset", "cpuset.mems", resources.mems or None, "cpu.mems"),
        ("pids", "pids.max", plan_pids_max(resources), "pids.limit"),
        ("net_cls", "net_cls.classid", resources.class_id or None, "network.classID"),
    ):
        if value is not None:
            writes.append(Write(
                controller=controller, file=file, value=str(value), field=field,
                may_lack=file == "memory.swap.max" and value in ("max", "0"),  # no swap at all, so none to limit
                may_wait=file == "cpu.max.burst",  # judged against the quota that is there before
            ))
    for name, priority in resources.priorities:
        value = f"{name} {priority}"
        writes.append(Write(controller="net_prio", file="net_prio.ifpriomap", value=value, field="network.priorities"))
    return writes + _plan_io(resources) + _plan_hugepages(resources) + plan_rdma(resources.rdma)


def plan_unified(resources: Resources) -> list[Write]:
    """Return the writes of `linux.resources.unified`, which names v2's files itself; a value may have several lines."""
    return [
        Write(controller=name.partition(".")[0], file=name, value=line, field=f"unified.{name}")
        for name, value in resources.unified for line in value.strip().split("\n")
    ]


def _plan_io(resources: Resources) -> list[Write]:
    """Return the writes for block devices. BFQ has v1's range of weights, io.weight one of its own.

    Of a limit that the kernel states per device, one write names one key and leaves the others.
    """
    writes = []
    if resources.block_weight:
        writes.append(_weight_write("", resources.block_weight, "blockIO.weight"))
    if resources.block_leaf_weight:
        leaf_weight = str(resources.block_leaf_weight)
        writes.append(Write(controller="io", file="blkio.leaf_weight", value=leaf_weight, field="blockIO.leafWeight"))
    writes += [_plan_block_limit(limit) for limit in resources.block_limits]
    return writes


def _plan_block_limit(limit: BlockLimit) -> Write:
    if limit.kind == "weight":
        return _weight_write(f"{limit.device} ", limit.value, "blockIO.weightDevice")
    if limit.kind == "leafWeight":
        value = f"{limit.device} {limit.value}"
        return Write(controller="io", file="blkio.leaf_weight_device", value=value, field="blockIO.weightDevice")
    # A rate of 0 lifts the limit on v1; io.max says so by a word.
    rate = str(limit.value) if limit.value else "max"
    value = f"{limit.device} {_IO_MAX_KEYS[limit.kind]}={rate}"
    return Write(controller="io", file="io.max", value=value, field=f"blockIO.{limit.kind}")


def _weight_write(prefix: str, weight: int, field: str) -> Write:
    converted = f"{prefix}{convert_block_weight(weight)}"
    return Write(
        controller="io", file="io.bfq.weight", value=f"{prefix}{weight}", field=field, instead=(("io.weight", converted),)
    )


def _plan_hugepages(resources: Resources) -> list[Write]:
    return [
        Write(
            controller="hugetlb", file=f"hugetlb.{size}{kind}.max", value=str(limit), field="hugepageLimits", may_lack=bool(kind),
        )
        for size, limit in resources.hugepages for kind in ("", ".rsvd")
    ]


def convert_block_weight(weight: int) -> int:
    """Return the io.weight (1 to 10000) for a weight of v1 (10 to 1000), as runc does: linear."""
    return 1 + (weight - 10) * 9999 // 990


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


def swap_max(limit: int | None, memory_and_swap: int | None) -> str | None:
    """Return memory.swap.max, which counts swap alone.

    0 is "not set", as for runc; but a sum of 0 and not a word on the memory can only mean no swap, as for crun.
    """
    if memory_and_swap == 0 and limit is None:
        return "0"
    limit, memory_and_swap = limit or 0, memory_and_swap or 0
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


def _positive(value: int | None) -> int | None:
    return value if value and value > 0 else None


def _weight(shares: int | None) -> int | None:
    return convert_shares_to_weight(shares) if shares else None


def _cpu_max(quota: int | None, period: int | None, current_quota: str) -> str | None:
    if not quota and not period:
        return None
    amount = current_quota if not quota else str(quota) if quota > 0 else "max"
    return f"{amount} {period}" if period else amount  # without a period the kernel keeps the one it has
