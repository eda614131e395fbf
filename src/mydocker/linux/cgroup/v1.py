"""Limits as files of cgroup v1. Pure: plans `Write`s; limits.py executes them.

Source: Documentation/admin-guide/cgroup-v1/{memory,cpusets,pids,blkio-controller,hugetlb,net_cls,net_prio,rdma}.rst,
Documentation/scheduler/{sched-bwc,sched-rt-group}.rst.
"""
from __future__ import annotations

from .resources import Write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .resources import RdmaLimit, Resources

MEMORY = "memory.limit_in_bytes"
MEMORY_AND_SWAP = "memory.memsw.limit_in_bytes"

#: Kind of a BlockLimit -> (file, files to take instead). A weight has the name of the scheduler that knows
#: weights: CFQ's before Linux 5.0, BFQ's since.
_BLOCK_FILES: dict[str, tuple[str, ...]] = {
    "weight": ("blkio.weight_device", "blkio.bfq.weight_device"), "leafWeight": ("blkio.leaf_weight_device",),
    "throttleReadBpsDevice": ("blkio.throttle.read_bps_device",),
    "throttleWriteBpsDevice": ("blkio.throttle.write_bps_device",),
    "throttleReadIOPSDevice": ("blkio.throttle.read_iops_device",),
    "throttleWriteIOPSDevice": ("blkio.throttle.write_iops_device",),
}


def plan_writes(resources: Resources, current_memsw_bytes: int | None = None) -> list[Write]:
    """Return the writes in the order in which the kernel accepts them.

    `current_memsw_bytes` is what memory.memsw.limit_in_bytes says now, None when the kernel keeps no
    account of swap.
    """
    writes = _plan_memory(resources, current_memsw_bytes)
    is_idle = bool(resources.cpu_idle)
    for controller, file, value, field in (
        ("memory", "memory.soft_limit_in_bytes", resources.memory_reservation or None, "memory.reservation"),
        ("memory", "memory.swappiness", plan_swappiness(resources), "memory.swappiness"),
        ("memory", "memory.kmem.tcp.limit_in_bytes", resources.memory_kernel_tcp or None, "memory.kernelTCP"),
        ("memory", "memory.oom_control", 1 if resources.disable_oom_killer else None, "memory.disableOOMKiller"),
        # A group that is idle has no shares: the kernel refuses them, so idle = 0 goes before them.
        ("cpu", "cpu.idle", resources.cpu_idle, "cpu.idle"),
        ("cpu", "cpu.shares", None if is_idle else resources.cpu_shares or None, "cpu.shares"),
        ("cpu", "cpu.cfs_period_us", resources.cpu_period or None, "cpu.period"),
        ("cpu", "cpu.cfs_burst_us", resources.cpu_burst, "cpu.burst"),
        ("cpu", "cpu.cfs_quota_us", resources.cpu_quota or None, "cpu.quota"),
        ("cpu", "cpu.rt_period_us", resources.realtime_period or None, "cpu.realtimePeriod"),
        ("cpu", "cpu.rt_runtime_us", resources.realtime_runtime or None, "cpu.realtimeRuntime"),
        ("cpuset", "cpuset.cpus", resources.cpus or None, "cpu.cpus"),
        ("cpuset", "cpuset.mems", resources.mems or None, "cpu.mems"),
        ("pids", "pids.max", plan_pids_max(resources), "pids.limit"),
        ("net_cls", "net_cls.classid", resources.class_id or None, "network.classID"),
    ):
        if value is not None:
            # The period and the burst are judged against the quota that is there before, and the other way round.
            may_wait = file in ("cpu.cfs_period_us", "cpu.cfs_burst_us", "cpu.rt_period_us")
            writes.append(Write(controller=controller, file=file, value=str(value), field=field, may_wait=may_wait))
    if resources.memory_kernel:
        # Takes any value and limits nothing since Linux 5.16; some releases before refused it altogether.
        writes.append(Write(
            controller="memory", file="memory.kmem.limit_in_bytes", value=str(resources.memory_kernel), field="memory.kernel",
            may_lack=True,
        ))
    return writes + _plan_block(resources) + _plan_hugepages(resources) + _plan_priorities(resources) + plan_rdma(resources.rdma)


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


def _plan_block(resources: Resources) -> list[Write]:
    writes = []
    if resources.block_weight:
        weight = str(resources.block_weight)
        writes.append(Write(
            controller="blkio", file="blkio.weight", value=weight, field="blockIO.weight",
            instead=(("blkio.bfq.weight", weight),),
        ))
    if resources.block_leaf_weight:
        writes.append(Write(
            controller="blkio", file="blkio.leaf_weight", value=str(resources.block_leaf_weight), field="blockIO.leafWeight",
        ))
    for limit in resources.block_limits:
        file, *others = _BLOCK_FILES[limit.kind]
        value = f"{limit.device} {limit.value}"
        field = "blockIO.weightDevice" if "eight" in limit.kind else f"blockIO.{limit.kind}"
        writes.append(Write(
            controller="blkio", file=file, value=value, field=field, instead=tuple((other, value) for other in others),
        ))
    return writes


def _plan_hugepages(resources: Resources) -> list[Write]:
    return [
        # Reservations are accounted for since Linux 5.7.
        Write(
            controller="hugetlb", file=f"hugetlb.{size}{kind}.limit_in_bytes", value=str(limit), field="hugepageLimits",
            may_lack=bool(kind),
        )
        for size, limit in resources.hugepages for kind in ("", ".rsvd")
    ]


def _plan_priorities(resources: Resources) -> list[Write]:
    return [
        Write(controller="net_prio", file="net_prio.ifpriomap", value=f"{name} {priority}", field="network.priorities")
        for name, priority in resources.priorities
    ]


def plan_rdma(limits: tuple[RdmaLimit, ...]) -> list[Write]:
    """Return the writes for RDMA devices, the same in both versions."""
    writes = []
    for limit in limits:
        words = [limit.device]
        words += [f"hca_handle={limit.handles}"] if limit.handles is not None else []
        words += [f"hca_object={limit.objects}"] if limit.objects is not None else []
        writes.append(Write(controller="rdma", file="rdma.max", value=" ".join(words), field=f"rdma.{limit.device}"))
    return writes


def plan_pids_max(resources: Resources) -> str | None:
    """Return pids.max. 0 is 1, as systemd and runc have it: a group without a process cannot be asked for."""
    limit = resources.pids_limit
    return None if limit is None else "max" if limit < 0 else str(limit or 1)


def plan_swappiness(resources: Resources) -> int | None:
    """Return memory.swappiness; -1 is Docker's word for "leave it"."""
    return None if resources.memory_swappiness in (None, -1) else resources.memory_swappiness
