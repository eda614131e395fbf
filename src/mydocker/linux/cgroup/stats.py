"""What a cgroup has used: numbers for people. accounting.py has the files for the monitor's bill.

Missing files give None, never a made-up number: which of them exist depends on the kernel and on the controllers
that are there.
"""
from __future__ import annotations

from mydocker.base.record import Record

from .accounting import read_keyed, read_number


class Stats(Record):
    """One look at a cgroup; None is "not known here", a limit of None is "no limit"."""

    cpu_ns: int | None = None
    cpu_user_ns: int | None = None
    cpu_system_ns: int | None = None
    memory_bytes: int | None = None
    """With the page cache; `memory_bytes - inactive_file_bytes` is what Docker calls usage."""
    inactive_file_bytes: int | None = None
    memory_peak_bytes: int | None = None
    memory_limit_bytes: int | None = None
    oom_kills: int | None = None
    pids: int | None = None
    pids_limit: int | None = None


def read_stats(v1: dict[str, str], v2: str, pids: int | None) -> Stats:
    """Return the numbers of one cgroup; `pids` is its number of processes, for kernels that keep no count."""
    values: dict[str, int | None] = {"pids": pids}
    if v2:
        _read_v2_cpu(v2, values)
        _read_v2_memory_and_pids(v2, values)
    _read_v1(v1, values)
    return Stats(**values)


def _read_v2_cpu(v2: str, values: dict[str, int | None]) -> None:
    cpu = read_keyed(f"{v2}/cpu.stat")
    for field, key in (("cpu_ns", "usage_usec"), ("cpu_user_ns", "user_usec"), ("cpu_system_ns", "system_usec")):
        if key in cpu:
            values[field] = cpu[key] * 1000


def _read_v2_memory_and_pids(v2: str, values: dict[str, int | None]) -> None:
    memory = read_number(f"{v2}/memory.current")
    if memory is not None:
        values["memory_bytes"] = memory
        values["memory_peak_bytes"] = read_number(f"{v2}/memory.peak")
        values["memory_limit_bytes"] = read_number(f"{v2}/memory.max")
        values["inactive_file_bytes"] = read_keyed(f"{v2}/memory.stat").get("inactive_file")
        values["oom_kills"] = read_keyed(f"{v2}/memory.events").get("oom_kill")
    count = read_number(f"{v2}/pids.current")
    if count is not None:
        values["pids"] = count
        values["pids_limit"] = read_number(f"{v2}/pids.max")


#: v1 states "no limit" as the largest multiple of the page size; nothing near it is a real limit.
_V1_NO_LIMIT_BYTES = 1 << 62


def _read_v1(v1: dict[str, str], values: dict[str, int | None]) -> None:
    if "cpuacct" in v1:
        values["cpu_ns"] = read_number(f"{v1['cpuacct']}/cpuacct.usage")
        values["cpu_user_ns"] = read_number(f"{v1['cpuacct']}/cpuacct.usage_user")
        values["cpu_system_ns"] = read_number(f"{v1['cpuacct']}/cpuacct.usage_sys")
    if "memory" in v1:
        memory = v1["memory"]
        limit = read_number(f"{memory}/memory.limit_in_bytes")
        values["memory_bytes"] = read_number(f"{memory}/memory.usage_in_bytes")
        values["memory_peak_bytes"] = read_number(f"{memory}/memory.max_usage_in_bytes")
        values["memory_limit_bytes"] = None if limit is None or limit >= _V1_NO_LIMIT_BYTES else limit
        values["inactive_file_bytes"] = read_keyed(f"{memory}/memory.stat").get("total_inactive_file")
        values["oom_kills"] = read_keyed(f"{memory}/memory.oom_control").get("oom_kill")
    if "pids" in v1:
        values["pids"] = read_number(f"{v1['pids']}/pids.current")
        values["pids_limit"] = read_number(f"{v1['pids']}/pids.max")
