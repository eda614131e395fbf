"""The files that tell what a cgroup has used: open ones for the monitor, which writes the bill, and how each is read.

Which of them exist depends on the kernel and on the controllers that are there.
"""
from __future__ import annotations

import os

from mydocker.base.record import Record

from .paths import read_text


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
