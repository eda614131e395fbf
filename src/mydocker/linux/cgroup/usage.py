"""All that a cgroup's files say about what it uses: `events --stats`, `stats`, metrics; stats.py has the few for all days.

Reads only. None, () or {} is "not known here": what exists depends on kernel and controllers. A limit of None is no limit.
Source: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/{memory,cpuacct,blkio-controller,hugetlb,rdma}.rst, accounting/psi.rst.
"""
from __future__ import annotations

import os

from mydocker.base.record import Record

from .accounting import read_keyed, read_number
from .paths import read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .group import Cgroup


class Counter(Record):
    """One counted thing: what is used now, the most so far, the limit, and how often the limit was met."""

    usage: int | None = None
    peak: int | None = None
    limit: int | None = None
    failures: int | None = None


class PressureAverages(Record):
    """Percent of the last 10, 60 and 300 seconds in which tasks were stalled, and microseconds in all."""

    avg10: float = 0.0
    avg60: float = 0.0
    avg300: float = 0.0
    total_us: int = 0


class Pressure(Record):
    """Pressure stall information: `some` of the tasks stalled, or `full`, all of them."""

    some: PressureAverages
    full: PressureAverages


class BlockCount(Record):
    """One row of a block I/O file: `operation` is Read, Write, Sync, Async, Discard, Total or "" where the file has none."""

    major: int
    minor: int
    operation: str
    value: int


class BlockUsage(Record):
    """Rows by the names that v1 gave them; v2 has the first two."""

    service_bytes: tuple[BlockCount, ...] = ()
    serviced: tuple[BlockCount, ...] = ()
    queued: tuple[BlockCount, ...] = ()
    service_time: tuple[BlockCount, ...] = ()
    wait_time: tuple[BlockCount, ...] = ()
    merged: tuple[BlockCount, ...] = ()
    time: tuple[BlockCount, ...] = ()
    sectors: tuple[BlockCount, ...] = ()


class RdmaCount(Record):
    """Handles and objects of one RDMA device; None is no limit."""

    device: str
    handles: int | None
    objects: int | None


class Usage(Record):
    """One look at everything."""

    cpu_ns: int | None = None
    cpu_user_ns: int | None = None
    cpu_system_ns: int | None = None
    percpu_ns: tuple[int, ...] = ()
    percpu_user_ns: tuple[int, ...] = ()
    percpu_system_ns: tuple[int, ...] = ()
    periods: int | None = None
    throttled_periods: int | None = None
    throttled_ns: int | None = None
    bursts: int | None = None
    burst_ns: int | None = None
    cpuset: dict[str, str]
    """Setting without `cpuset.` -> text, as v1 has them; empty on v2."""
    memory: Counter
    memory_and_swap: Counter
    """Both together, as in v1."""
    kernel_memory: Counter
    kernel_tcp_memory: Counter
    cache_bytes: int | None = None
    memory_stat: dict[str, int]
    pids: Counter
    block: BlockUsage
    hugepages: dict[str, Counter]
    """Page size such as `2MB` -> counter."""
    rdma: tuple[RdmaCount, ...] = ()
    rdma_limits: tuple[RdmaCount, ...] = ()
    cpu_pressure: Pressure | None = None
    memory_pressure: Pressure | None = None
    io_pressure: Pressure | None = None


def read_usage(group: Cgroup) -> Usage:
    """Return what a cgroup uses now."""
    memory_v1, pids_v1 = group.v1.get("memory"), group.v1.get("pids")
    return Usage(
        **_read_cpu(group), **(_read_memory_v1(memory_v1) if memory_v1 else _read_memory_v2(group.v2)),
        cpuset=_read_cpuset(group.v1.get("cpuset")),
        pids=_read_pids(group, pids_v1 or group.v2),
        block=_read_block_v1(group.v1["blkio"]) if "blkio" in group.v1 else _read_block_v2(group.v2),
        hugepages=_read_hugepages(group.v1.get("hugetlb"), group.v2),
        rdma=_read_rdma(group.v1.get("rdma") or group.v2, "rdma.current"),
        rdma_limits=_read_rdma(group.v1.get("rdma") or group.v2, "rdma.max"),
        cpu_pressure=read_pressure(f"{group.v2}/cpu.pressure"), memory_pressure=read_pressure(f"{group.v2}/memory.pressure"),
        io_pressure=read_pressure(f"{group.v2}/io.pressure"),
    )


# ---- cpu

def _read_cpu(group: Cgroup) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if group.v2:
        stat = read_keyed(f"{group.v2}/cpu.stat")
        values = {
            field: stat[key] * factor if key in stat else None
            for field, key, factor in (
                ("cpu_ns", "usage_usec", 1000), ("cpu_user_ns", "user_usec", 1000), ("cpu_system_ns", "system_usec", 1000),
                ("periods", "nr_periods", 1), ("throttled_periods", "nr_throttled", 1), ("throttled_ns", "throttled_usec", 1000),
                ("bursts", "nr_bursts", 1), ("burst_ns", "burst_usec", 1000),
            )
        }
    if "cpu" in group.v1:
        stat = read_keyed(f"{group.v1['cpu']}/cpu.stat")
        values |= {
            field: stat.get(key) for field, key in (
                ("periods", "nr_periods"), ("throttled_periods", "nr_throttled"), ("throttled_ns", "throttled_time"),
                ("bursts", "nr_bursts"), ("burst_ns", "burst_time"),
            )
        }
    if "cpuacct" in group.v1:
        directory = group.v1["cpuacct"]
        values |= {
            "cpu_ns": read_number(f"{directory}/cpuacct.usage"), "cpu_user_ns": read_number(f"{directory}/cpuacct.usage_user"),
            "cpu_system_ns": read_number(f"{directory}/cpuacct.usage_sys"),
            "percpu_ns": _numbers(f"{directory}/cpuacct.usage_percpu"),
            "percpu_user_ns": _numbers(f"{directory}/cpuacct.usage_percpu_user"),
            "percpu_system_ns": _numbers(f"{directory}/cpuacct.usage_percpu_sys"),
        }
    return values


def _read_cpuset(directory: str | None) -> dict[str, str]:
    if not directory:
        return {}
    names = (
        "cpus", "mems", "cpu_exclusive", "mem_exclusive", "mem_hardwall", "memory_migrate", "memory_pressure",
        "memory_spread_page", "memory_spread_slab", "sched_load_balance", "sched_relax_domain_level",
    )
    found = {name: _lines(f"{directory}/cpuset.{name}") for name in names}
    return {name: lines[0] for name, lines in found.items() if lines}


# ---- memory, processes

def _read_memory_v1(directory: str) -> dict[str, Any]:
    stat = read_keyed(f"{directory}/memory.stat")
    return {
        "memory": _counter_v1(f"{directory}/memory"), "memory_and_swap": _counter_v1(f"{directory}/memory.memsw"),
        "kernel_memory": _counter_v1(f"{directory}/memory.kmem"),
        "kernel_tcp_memory": _counter_v1(f"{directory}/memory.kmem.tcp"),
        "cache_bytes": stat.get("cache"), "memory_stat": stat,
    }


#: v1 states "no limit" as the largest multiple of the page size; nothing near it is a real limit.
_NO_LIMIT = 1 << 62


def _counter_v1(prefix: str) -> Counter:
    limit = read_number(f"{prefix}.limit_in_bytes")
    return Counter(
        usage=read_number(f"{prefix}.usage_in_bytes"), peak=read_number(f"{prefix}.max_usage_in_bytes"),
        limit=None if limit is None or limit >= _NO_LIMIT else limit, failures=read_number(f"{prefix}.failcnt"),
    )


def _read_memory_v2(directory: str) -> dict[str, Any]:
    stat = read_keyed(f"{directory}/memory.stat") if directory else {}
    memory = Counter(
        usage=read_number(f"{directory}/memory.current"), peak=read_number(f"{directory}/memory.peak"),
        limit=read_number(f"{directory}/memory.max"), failures=read_keyed(f"{directory}/memory.events").get("max"),
    )
    swap = read_number(f"{directory}/memory.swap.current")
    swap_limit = read_number(f"{directory}/memory.swap.max")
    both = Counter()
    if memory.usage is not None and swap is not None:
        # The peaks of the two need not have been at the same time.
        both = Counter(
            usage=memory.usage + swap,
            limit=None if swap_limit is None or memory.limit is None else swap_limit + memory.limit,
            failures=read_keyed(f"{directory}/memory.swap.events").get("fail"),
        )
    return {
        "memory": memory, "memory_and_swap": both, "kernel_memory": Counter(usage=stat.get("kernel")),
        "kernel_tcp_memory": Counter(usage=stat.get("sock")), "cache_bytes": stat.get("file"), "memory_stat": stat,
    }


def _read_pids(group: Cgroup, directory: str) -> Counter:
    count = read_number(f"{directory}/pids.current")
    if count is None:
        return Counter(usage=len(group.pids()) if group.v1 or group.v2 else None)
    return Counter(
        usage=count, peak=read_number(f"{directory}/pids.peak"), limit=read_number(f"{directory}/pids.max"),
        failures=read_keyed(f"{directory}/pids.events").get("max"),
    )


# ---- block I/O, huge pages, RDMA

#: Sets of v1's files, the first that has anything counts: BFQ's with its debugging ones, CFQ's (before Linux 5.0), and
#: those of throttling, which see what goes past a scheduler.
_BFQ = {
    "sectors": "bfq.sectors_recursive", "service_time": "bfq.io_service_time_recursive",
    "wait_time": "bfq.io_wait_time_recursive",
    "merged": "bfq.io_merged_recursive", "queued": "bfq.io_queued_recursive", "time": "bfq.time_recursive",
    "serviced": "bfq.io_serviced_recursive", "service_bytes": "bfq.io_service_bytes_recursive",
}
_BLOCK_FILES: tuple[dict[str, str], ...] = (
    _BFQ, {field: name.removeprefix("bfq.") for field, name in _BFQ.items()},
    {"serviced": "throttle.io_serviced_recursive", "service_bytes": "throttle.io_service_bytes_recursive"},
    {"serviced": "throttle.io_serviced", "service_bytes": "throttle.io_service_bytes"},
)


def _read_block_v1(directory: str) -> BlockUsage:
    for files in _BLOCK_FILES:
        rows = {field: _block_rows(f"{directory}/blkio.{name}") for field, name in files.items()}
        if any(rows.values()):
            return BlockUsage(**rows)
    return BlockUsage()


def _block_rows(path: str) -> tuple[BlockCount, ...]:
    """Return the rows `major:minor [operation] value`; the line that sums up all devices is left out."""
    rows = []
    for line in _lines(path):
        words = line.replace(":", " ", 1).split()
        if len(words) in (3, 4) and words[0].isdigit() and words[-1].isdigit():
            operation = words[2] if len(words) == 4 else ""
            rows.append(BlockCount(major=int(words[0]), minor=int(words[1]), operation=operation, value=int(words[-1])))
    return tuple(rows)


def _read_block_v2(directory: str) -> BlockUsage:
    fields = {
        "rbytes": ("service_bytes", "Read"), "wbytes": ("service_bytes", "Write"), "dbytes": ("service_bytes", "Discard"),
        "rios": ("serviced", "Read"), "wios": ("serviced", "Write"), "dios": ("serviced", "Discard"),
    }
    rows: dict[str, list[BlockCount]] = {"service_bytes": [], "serviced": []}
    for line in _lines(f"{directory}/io.stat") if directory else ():
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        for pair in pairs:
            key, _, value = pair.partition("=")
            if key in fields and major.isdigit() and value.isdigit():
                field, operation = fields[key]
                rows[field].append(BlockCount(major=int(major), minor=int(minor), operation=operation, value=int(value)))
    return BlockUsage(service_bytes=tuple(rows["service_bytes"]), serviced=tuple(rows["serviced"]))


def page_sizes() -> list[str]:
    """Return the machine's sizes of huge pages as cgroups name them: `2MB`, `1GB`."""
    try:
        names = os.listdir("/sys/kernel/mm/hugepages")
    except FileNotFoundError:
        return []
    sizes = []
    for name in sorted(names):
        number, unit = int(name.removeprefix("hugepages-").removesuffix("kB")), 0
        while number >= 1024 and unit < 2:
            number, unit = number // 1024, unit + 1
        sizes.append(f"{number}{('KB', 'MB', 'GB')[unit]}")
    return sizes


def _read_hugepages(v1: str | None, v2: str) -> dict[str, Counter]:
    found = {}
    for size in page_sizes() if v1 or v2 else ():
        prefix = f"{v1 or v2}/hugetlb.{size}"
        # With reservations accounted for, since Linux 5.7; without a limit they count nothing else.
        if v1:
            counter = _counter_v1(f"{prefix}.rsvd")
            counter = _counter_v1(prefix) if counter.usage is None else counter
        else:
            usage = read_number(f"{prefix}.rsvd.current")
            counter = Counter(
                usage=read_number(f"{prefix}.current") if usage is None else usage, limit=read_number(f"{prefix}.max"),
                failures=read_keyed(f"{prefix}.events").get("max"),
            )
        if counter.usage is not None:
            found[size] = counter
    return found


def _read_rdma(directory: str, file: str) -> tuple[RdmaCount, ...]:
    rows = []
    for line in _lines(f"{directory}/{file}") if directory else ():
        device, *pairs = line.split()
        values = dict(pair.partition("=")[::2] for pair in pairs)
        handles, objects = (
            int(word) if (word := values.get(key, "max")).isdigit() else None for key in ("hca_handle", "hca_object")
        )
        rows.append(RdmaCount(device=device, handles=handles, objects=objects))
    return tuple(rows)


# ---- files

def read_pressure(path: str) -> Pressure | None:
    """Return the content of a `*.pressure` file; None where the kernel has none, or counts none."""
    kinds = {"some": PressureAverages(), "full": PressureAverages()}
    lines = _lines(path)
    for line in lines:
        kind, *pairs = line.split()
        values = dict(pair.partition("=")[::2] for pair in pairs)
        kinds[kind] = PressureAverages(
            avg10=float(values["avg10"]), avg60=float(values["avg60"]), avg300=float(values["avg300"]),
            total_us=int(values["total"]),
        )
    return Pressure(some=kinds["some"], full=kinds["full"]) if lines else None


def _lines(path: str) -> list[str]:
    """Return the lines of a file; [] when it is not there or not to be read (EOPNOTSUPP: psi=0)."""
    try:
        return read_text(path).splitlines()
    except OSError:
        return []


def _numbers(path: str) -> tuple[int, ...]:
    lines = _lines(path)
    return tuple(int(word) for word in lines[0].split()) if lines else ()
