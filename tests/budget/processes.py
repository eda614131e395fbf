"""What /proc tells of an engine's processes: which stay alive for a container, their memory, their signal handlers."""
from __future__ import annotations

import os
import time
from collections.abc import Iterable

from sampling import CommandFailed


def all_pids() -> set[int]:
    """Return the pids of this machine."""
    return {int(name) for name in os.listdir("/proc") if name.isdecimal()}


def kept_alive_by(init_pids: Iterable[int], ids: Iterable[str], before: set[int]) -> set[int]:
    """Return the processes that stay alive for containers, their own left out.

    `init_pids` and `ids` are of the containers, `before` are the pids of the machine before they were
    started. What counts is each ancestor of an init that is younger than that, and each process whose
    command line names a container, such as a shim that is no ancestor.
    """
    inside = set(init_pids)
    found: set[int] = set()
    for pid in inside:
        parent = _parent(pid)
        while parent > 1 and parent not in before:
            found.add(parent)
            parent = _parent(parent)
    words = [identifier.encode() for identifier in ids]
    for pid in all_pids() - before - inside - {os.getpid()}:
        line = _read(f"/proc/{pid}/cmdline")
        # Descendants of a container's init carry no engine's words; a process in another pid namespace is inside.
        if any(word in line for word in words) and not _is_inside(pid):
            found.add(pid)
    return found


def pss_bytes(pids: Iterable[int]) -> int:
    """Return the proportional set size of processes together: shared pages count in parts."""
    total = 0
    for pid in pids:
        for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith(b"Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def descendants_of(pid: int) -> set[int]:
    """Return a process and its children, and theirs."""
    children: dict[int, list[int]] = {}
    for other in all_pids():
        children.setdefault(_parent(other), []).append(other)
    found, todo = {pid}, [pid]
    while todo:
        new = children.get(todo.pop(), [])
        found.update(new)
        todo += new
    return found


def wait_until_caught(pid: int, signum: int, timeout_s: float = 10) -> None:
    """Wait until a process has a handler for a signal: before, the init of a pid namespace ignores it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for line in _read(f"/proc/{pid}/status").splitlines():
            if line.startswith(b"SigCgt:") and int(line.split()[1], 16) >> (signum - 1) & 1:
                return
        time.sleep(0.005)
    raise CommandFailed(f"process {pid} has no handler for signal {signum} after {timeout_s} s")


def _parent(pid: int) -> int:
    # The command name is in parentheses and may hold anything: count from the last one.
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0


def _is_inside(pid: int) -> bool:
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"NSpid:"):
            return len(line.split()) > 2
    return True  # it has ended


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return b""  # it has ended meanwhile
