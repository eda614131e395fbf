"""What a cgroup has used: numbers for people, and open files for the monitor that writes the bill.

Reads only. Missing files give None (or -1 for a descriptor), never a made-up number: which of them
exist depends on the kernel and on the controllers that are there.
"""
from __future__ import annotations

import os

from mydocker.base.record import Record

from .paths import read_text


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


class Accounting(Record):
    """Open descriptors, owned by the receiver; -1 where the kernel has no such file.

    `cpu_fd`: cpuacct.usage (nanoseconds) or cpu.stat (its usage_usec line).
    `memory_peak_fd`: memory.max_usage_in_bytes or memory.peak, and `peak_reset` is what to write
    to it so that it starts anew ("" when it cannot).
    `oom_fd`: memory.oom_control or memory.events, both with an `oom_kill N` line.
    """

    cpu_fd: int
    memory_peak_fd: int
    oom_fd: int
    peak_reset: str

    def close(self) -> None:
        """Close what is open."""
        for fd in (self.cpu_fd, self.memory_peak_fd, self.oom_fd):
            if fd >= 0:
                os.close(fd)


def open_accounting(v1: dict[str, str], v2: str) -> Accounting:
    """Open the accounting files of one cgroup; `v1` maps controllers to directories, `v2` is one or "".

    v2's cpu.stat is preferred because it needs no controller, which spares the start a v1 group.
    """
    cpu_fd = open_optional(f"{v2}/cpu.stat") if v2 else -1
    if cpu_fd < 0 and "cpuacct" in v1:
        cpu_fd = open_optional(f"{v1['cpuacct']}/cpuacct.usage")
    if "memory" in v1:
        memory = v1["memory"]
        peak_fd = open_optional(f"{memory}/memory.max_usage_in_bytes", os.O_RDWR)
        return Accounting(
            cpu_fd=cpu_fd, memory_peak_fd=peak_fd, oom_fd=open_optional(f"{memory}/memory.oom_control"), peak_reset="0",
        )
    # memory.peak: Linux 5.19; writable, each descriptor with its own peak, since 6.12.
    peak_fd, reset = open_optional(f"{v2}/memory.peak", os.O_RDWR), "reset"
    if peak_fd < 0:
        peak_fd, reset = open_optional(f"{v2}/memory.peak"), ""
    oom_fd = open_optional(f"{v2}/memory.events")
    return Accounting(cpu_fd=cpu_fd, memory_peak_fd=peak_fd, oom_fd=oom_fd, peak_reset=reset)


def open_optional(path: str, flags: int = os.O_RDONLY) -> int:
    """Return a descriptor, or -1 when there is no such file or it cannot be opened like this."""
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError:
        return -1


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


def read_number(path: str) -> int | None:
    """Return the number in a file; None for `max`, for no such file, and for anything else."""
    try:
        text = read_text(path).strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def read_keyed(path: str) -> dict[str, int]:
    """Return the `key number` lines of a file; {} when it is not there."""
    try:
        text = read_text(path)
    except OSError:
        return {}
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
