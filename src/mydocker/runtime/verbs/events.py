"""`events`: what a container uses, in the JSON of runc's events (types/events), and a line when it runs out of memory."""
from __future__ import annotations

import os
import select
import time

from mydocker.base.errors import Conflict, InvalidRequest, Unsupported
from mydocker.base.jsontext import dumps
from mydocker.base.units import parse_duration
from mydocker.linux import syscalls as sc
from mydocker.linux.cgroup.outofmemory import count_oom_kills
from mydocker.linux.process import open_pidfd
from mydocker.runtime.cgroups import open_cgroup
from mydocker.runtime.cli import write_out
from mydocker.runtime.status import find_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mydocker.linux.cgroup.group import Cgroup
    from mydocker.linux.cgroup.usage import BlockCount, Counter, Pressure
    from mydocker.runtime.cli import Context


def run(context: Context) -> int:
    """Print one look (--stats), or one each interval until the container ends."""
    interval_s = parse_duration(context.arguments["interval"], what="events: option --interval")
    if interval_s <= 0:
        raise InvalidRequest("events: option --interval: it must be longer than 0")
    state = context.root.load(context.id)
    if find_status(context.root, state) == "stopped":
        raise Conflict(f"events of container {state.id}: container not running")
    group = open_cgroup(state)
    if group is None:
        raise Unsupported(f"events of container {state.id}: it has no cgroup")
    if context.arguments["stats"]:
        return write_event(state.id, "stats", read(group))
    pidfd = open_pidfd(state.init)
    if pidfd is not None:
        follow(state.id, group, pidfd, interval_s)
    return 0


def follow(container_id: str, group: Cgroup, pidfd: int, interval_s: float) -> None:
    """Print events until the process of the pidfd ends."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    kills = count_oom_kills(group)  # before the watch, so that none falls between
    watch = watch_oom(group)
    if watch >= 0:
        poll.register(watch, select.POLLIN)
    due = time.monotonic() + interval_s
    while True:
        ready = dict(poll.poll(max(due - time.monotonic(), 0) * 1000))
        if watch in ready:
            os.read(watch, 4096)
            known, kills = kills, count_oom_kills(group)
            if is_oom(group, known, kills):
                write_event(container_id, "oom", None)
        if pidfd in ready:
            return
        if time.monotonic() >= due:
            due += interval_s
            write_event(container_id, "stats", read(group))


def watch_oom(group: Cgroup) -> int:
    """Return a descriptor that becomes readable when the cgroup may have run out of memory, or -1.

    v1: an eventfd in cgroup.event_control (memory.rst); v2: the file memory.events is modified.
    """
    directory = group.v1.get("memory")
    if directory:
        control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            watch = os.eventfd(0, os.EFD_CLOEXEC)
            with open(f"{directory}/cgroup.event_control", "w") as stream:
                stream.write(f"{watch} {control}")
        finally:
            os.close(control)
        return watch
    if group.v2 and os.access(f"{group.v2}/memory.events", os.F_OK):
        watch = sc.inotify_init1(sc.IN_CLOEXEC)
        sc.inotify_add_watch(watch, f"{group.v2}/memory.events", sc.IN_MODIFY)
        return watch
    return -1


def is_oom(group: Cgroup, known: int, kills: int) -> bool:
    """Tell whether what the watch saw is a lack of memory: on v1 always, but when the cgroup is removed.

    v1 tells before it kills; v2 also when a limit is merely met, so there the number of kills decides.
    """
    return os.path.isdir(group.v1["memory"]) if "memory" in group.v1 else kills > known


def write_event(container_id: str, kind: str, data: dict[str, Any] | None) -> int:
    """Print one event as one line."""
    event: dict[str, Any] = {"type": kind, "id": container_id}
    if data is not None:
        event["data"] = data
    return write_out(dumps(event))


def read(group: Cgroup) -> dict[str, Any]:
    """Return the `data` of a stats event. What this machine does not know is left out, or 0 where runc always has it."""
    usage = group.usage()
    return {
        "cpu": without_none({
            "usage": without_none({
                "total": usage.cpu_ns, "percpu": list(usage.percpu_ns) or None,
                "percpu_kernel": list(usage.percpu_system_ns) or None, "percpu_user": list(usage.percpu_user_ns) or None,
                "kernel": usage.cpu_system_ns or 0, "user": usage.cpu_user_ns or 0,
            }),
            "throttling": without_none({
                "periods": usage.periods or None, "throttledPeriods": usage.throttled_periods or None,
                "throttledTime": usage.throttled_ns or None,
            }),
            "psi": pressure(usage.cpu_pressure),
        }),
        "cpuset": cpuset(usage.cpuset),
        "memory": without_none({
            "cache": usage.cache_bytes, "usage": memory_entry(usage.memory), "swap": memory_entry(usage.memory_and_swap),
            "kernel": memory_entry(usage.kernel_memory), "kernelTCP": memory_entry(usage.kernel_tcp_memory),
            "raw": usage.memory_stat or None, "psi": pressure(usage.memory_pressure),
        }),
        "pids": without_none({"current": usage.pids.usage, "limit": usage.pids.limit}),
        "blkio": without_none({
            **{key: [block_entry(row) for row in getattr(usage.block, field)] or None for key, field in _BLKIO.items()},
            "psi": pressure(usage.io_pressure),
        }),
        "hugetlb": {
            size: without_none({"usage": counter.usage or None, "max": counter.peak or None, "failcnt": counter.failures or 0})
            for size, counter in usage.hugepages.items()
        },
        "intel_rdt": {},
        "network_interfaces": None,
    }


_BLKIO = {
    "ioServiceBytesRecursive": "service_bytes", "ioServicedRecursive": "serviced", "ioQueueRecursive": "queued",
    "ioServiceTimeRecursive": "service_time", "ioWaitTimeRecursive": "wait_time", "ioMergedRecursive": "merged",
    "ioTimeRecursive": "time", "sectorsRecursive": "sectors",
}
#: "No limit" as runc says it.
_NO_LIMIT = (1 << 64) - 1


def memory_entry(counter: Counter) -> dict[str, int]:
    """Return one counter of memory."""
    numbers = without_none({"usage": counter.usage or None, "max": counter.peak or None})
    return {"limit": _NO_LIMIT if counter.limit is None else counter.limit, **numbers, "failcnt": counter.failures or 0}


def block_entry(row: BlockCount) -> dict[str, Any]:
    """Return one row of block I/O; Go leaves zeros out."""
    entry = {"major": row.major, "minor": row.minor, "op": row.operation, "value": row.value}
    return {key: value for key, value in entry.items() if value}


def pressure(values: Pressure | None) -> dict[str, Any] | None:
    """Return pressure stall information."""
    if values is None:
        return None
    return {
        kind: {"avg10": found.avg10, "avg60": found.avg60, "avg300": found.avg300, "total": found.total_us}
        for kind, found in (("some", values.some), ("full", values.full))
    }


def cpuset(settings: dict[str, str]) -> dict[str, Any]:
    """Return v1's settings of a cpuset: lists of numbers, and switches."""
    lists = {key: parse_ranges(settings.get(key, "")) or None for key in ("cpus", "mems")}
    switches = {key: int(value) for key, value in settings.items() if key not in lists}
    return without_none({**lists, **switches})


def parse_ranges(text: str) -> list[int]:
    """Return the numbers of `0-2,7`."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1) if first else ()
    return numbers


def without_none(values: dict[str, Any]) -> dict[str, Any]:
    """Return a dict without the keys that are not known."""
    return {key: value for key, value in values.items() if value is not None}
