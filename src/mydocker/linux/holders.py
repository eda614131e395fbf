"""Who has a directory open, who holds its lock by that, and which of these stands still.

It looks at every process of the machine, so it is for the rare moment in which something was waited for in vain.
Source: proc(5) (`fd`, `fdinfo` with a `lock:` line where that descriptor holds one, `status`), pidfd_open(2).
"""
from __future__ import annotations

import os

from mydocker.base.record import Record

from .process import signal_pidfd, wait_pidfd

_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


class Holder(Record):
    """A process with a directory open, as it was at one look; `is_locking` when it holds the directory's flock(2) by that.

    `name` is that of /proc/PID/comm. One that is stopped makes no context switch, so `switches` tells whether it stood still
    between two looks.
    """

    pid: int
    name: str
    is_locking: bool
    is_stopped: bool
    switches: int


def find_holders(path: str) -> list[Holder]:
    """Return the processes that have the directory at `path` open."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return []
    found = (_look(int(entry), path, (status.st_dev, status.st_ino)) for entry in os.listdir("/proc") if entry.isdigit())
    return [holder for holder in found if holder is not None]


def open_holder(holder: Holder, path: str) -> int | None:
    """Return a pidfd of this very process, which the caller closes; None when it has ended, or has let go of `path`."""
    try:
        status = os.stat(path, follow_symlinks=False)
        fd = os.pidfd_open(holder.pid)
    except _GONE:
        return None
    # Looked at after opening, and alive after that: then it is what the pidfd is of that was looked at.
    again = _look(holder.pid, path, (status.st_dev, status.st_ino))
    if again is not None and (again.name, again.is_locking) == (holder.name, holder.is_locking) and not wait_pidfd(fd, 0):
        return fd
    os.close(fd)
    return None


def signal_holder(holder: Holder, path: str, signum: int, timeout_s: float = 0) -> bool:
    """Send a signal to a process that has `path` open still; return whether it has ended after `timeout_s` at most."""
    fd = open_holder(holder, path)
    if fd is None:
        return True
    try:
        signal_pidfd(fd, signum)
        return wait_pidfd(fd, timeout_s)
    finally:
        os.close(fd)


def _look(pid: int, path: str, key: tuple[int, int]) -> Holder | None:
    try:
        is_locking = _find_descriptor(pid, path, key)
        return None if is_locking is None else _read_holder(pid, is_locking=is_locking)
    except _GONE:
        return None  # it has ended, or is not ours to look at


def _find_descriptor(pid: int, path: str, key: tuple[int, int]) -> bool | None:
    """Tell whether a process holds the lock; None when it does not even have the directory open."""
    name, found = path.rpartition("/")[2], None
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            # By the name first: stat(2) of a file on a server that does not answer would never return.
            if os.readlink(f"/proc/{pid}/fd/{fd}").rpartition("/")[2] != name:
                continue
            status = os.stat(f"/proc/{pid}/fd/{fd}")
            if (status.st_dev, status.st_ino) == key:
                found = bool(found) or b"FLOCK" in _read(f"/proc/{pid}/fdinfo/{fd}")
        except FileNotFoundError:
            continue  # closed while we looked
    return found


def _read_holder(pid: int, *, is_locking: bool) -> Holder:
    lines = (line.partition(":\t") for line in _read(f"/proc/{pid}/status").decode("utf-8", "replace").splitlines())
    fields = {key: value for key, _, value in lines}
    return Holder(
        pid=pid, name=fields.get("Name", ""), is_locking=is_locking, is_stopped=fields.get("State", "")[:1] in ("T", "t"),
        switches=int(fields.get("voluntary_ctxt_switches", 0)) + int(fields.get("nonvoluntary_ctxt_switches", 0)))


def _read(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()
