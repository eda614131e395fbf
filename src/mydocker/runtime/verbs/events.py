"""`events`: what a container uses, in the JSON of runc's events (types/events), and a line when it runs out of memory."""
from __future__ import annotations

import os
import select
import time

from mydocker.base.errors import Conflict, InvalidRequest, Unsupported
from mydocker.base.jsontext import dumps
from mydocker.base.units import parse_duration
from mydocker.linux import syscalls as sc
from mydocker.linux.cgroup.stats import read_keyed, read_number
from mydocker.linux.process import open_pidfd
from mydocker.runtime.cgroups import open_cgroup
from mydocker.runtime.cli import write_out
from mydocker.runtime.status import find_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mydocker.linux.cgroup.group import Cgroup
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


def count_oom_kills(group: Cgroup) -> int:
    """Return how often the kernel has killed a process of the cgroup for want of memory."""
    for path in (f"{group.v1['memory']}/memory.oom_control" if "memory" in group.v1 else "", f"{group.v2}/memory.events"):
        if path and "oom_kill" in (values := read_keyed(path)):
            return values["oom_kill"]
    return 0


def write_event(container_id: str, kind: str, data: dict[str, Any] | None) -> int:
    """Print one event as one line."""
    event: dict[str, Any] = {"type": kind, "id": container_id}
    if data is not None:
        event["data"] = data
    return write_out(dumps(event))


def read(group: Cgroup) -> dict[str, Any]:
    """Return the `data` of a stats event. What this machine does not know is left out, or 0 where runc always has it."""
    stats = group.stats()
    cpu = group.v2 if not group.v1.get("cpu") else group.v1["cpu"]
    throttled = read_keyed(f"{cpu}/cpu.stat")
    return {
        "cpu": {
            "usage": without_none({
                "total": stats.cpu_ns, "percpu": read_numbers(group, "cpuacct", "cpuacct.usage_percpu"),
                "kernel": stats.cpu_system_ns or 0, "user": stats.cpu_user_ns or 0,
            }),
            "throttling": without_none({
                "periods": throttled.get("nr_periods"), "throttledPeriods": throttled.get("nr_throttled"),
                "throttledTime": throttled.get("throttled_time", throttled.get("throttled_usec", 0) * 1000 or None),
            }),
        },
        "cpuset": {},
        "memory": read_memory(group),
        "pids": without_none({"current": stats.pids, "limit": stats.pids_limit}),
        "blkio": {},
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": None,
    }


def read_memory(group: Cgroup) -> dict[str, Any]:
    """Return memory's part of it."""
    v1 = group.v1.get("memory")
    if v1:
        raw = read_keyed(f"{v1}/memory.stat")
        return without_none({
            "cache": raw.get("cache"), "usage": read_entry(v1, "memory"), "swap": read_entry(v1, "memory.memsw"),
            "kernel": read_entry(v1, "memory.kmem"), "kernelTCP": read_entry(v1, "memory.kmem.tcp"), "raw": raw or None,
        })
    raw = read_keyed(f"{group.v2}/memory.stat")
    usage = without_none({"usage": read_number(f"{group.v2}/memory.current"), "max": read_number(f"{group.v2}/memory.peak")})
    return without_none({
        "cache": raw.get("file"),
        "usage": {**usage, "limit": limit_of(f"{group.v2}/memory.max"), "failcnt": 0},
        "swap": {"limit": limit_of(f"{group.v2}/memory.swap.max"), "usage": read_number(f"{group.v2}/memory.swap.current") or 0,
                 "failcnt": 0},
        "raw": raw or None,
    })


def read_entry(directory: str, prefix: str) -> dict[str, Any] | None:
    """Return one of v1's counters with its limit; None where the kernel has none."""
    usage = read_number(f"{directory}/{prefix}.usage_in_bytes")
    if usage is None:
        return None
    return {
        "limit": read_number(f"{directory}/{prefix}.limit_in_bytes") or 0, "usage": usage,
        "max": read_number(f"{directory}/{prefix}.max_usage_in_bytes") or 0,
        "failcnt": read_number(f"{directory}/{prefix}.failcnt") or 0,
    }


def limit_of(path: str) -> int:
    """Return a v2 limit; no limit is the largest number, as runc has it."""
    number = read_number(path)
    return (1 << 64) - 1 if number is None else number


def read_numbers(group: Cgroup, controller: str, file: str) -> list[int] | None:
    """Return the numbers of a v1 file with one a processor; None where there is none."""
    directory = group.v1.get(controller)
    if not directory:
        return None
    try:
        with open(f"{directory}/{file}") as stream:
            return [int(word) for word in stream.read().split()]
    except OSError:
        return None


def without_none(values: dict[str, Any]) -> dict[str, Any]:
    """Return a dict without the keys that are not known."""
    return {key: value for key, value in values.items() if value is not None}
