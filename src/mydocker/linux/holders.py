"""Who has a directory open, who holds its lock by that, and which of these stands still.

It looks at every process of the machine, so it is for the rare moment in which something was waited for in vain.
Source: proc(5) (`fd`, `fdinfo` with a `lock:` line where that descriptor holds one, `status`), pidfd_open(2).
"""
from __future__ import annotations

import errno
import os

from mydocker.base.record import Record

from .process import signal_pidfd, wait_pidfd

_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


class Holder(Record):
    """A process with the directory `path` open, as it was at one look; `is_locking` when it holds its flock(2) by that.

    `name` is that of /proc/PID/comm. One that is stopped makes no context switch, so `switches` tells whether it
    stood still between two looks.
    """

    pid: int
    path: str
    name: str
    is_locking: bool
    is_stopped: bool
    switches: int


def find_holders(*paths: str) -> list[Holder]:
    """Return the processes that have one of the directories at `paths` open, each with the first of them that is found."""
    places = {key: path for path in paths if (key := _key_of(path)) is not None}
    found = (_look(int(entry), places) for entry in os.listdir("/proc") if entry.isdigit())
    return [holder for holder in found if holder is not None]


def signal_holder(holder: Holder, signum: int, timeout_s: float = 0) -> bool:
    """Send a signal to a process that still has its directory open; return whether it has ended after `timeout_s` at most."""
    fd = _open_holder(holder)
    if fd is None:
        return True
    try:
        signal_pidfd(fd, signum)
        return wait_pidfd(fd, timeout_s)
    finally:
        os.close(fd)


def _open_holder(holder: Holder) -> int | None:
    """Return a pidfd of this very process, which the caller closes; None when it has ended, or has let go of its directory."""
    key = _key_of(holder.path)
    try:
        fd = os.pidfd_open(holder.pid)
    except ProcessLookupError:
        return None
    # Looked at after opening, and alive after that: then it is what the pidfd is of that was looked at.
    again = _look(holder.pid, {key: holder.path}) if key else None
    if again is not None and (again.name, again.is_locking) == (holder.name, holder.is_locking) and not wait_pidfd(fd, 0):
        return fd
    os.close(fd)
    return None


def _key_of(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _look(pid: int, places: dict[tuple[int, int], str]) -> Holder | None:
    try:
        found = _find_descriptor(pid, places)
        return None if found is None else _read_holder(pid, *found)
    except _GONE:
        return None  # it has ended, or is not ours to look at


def _find_descriptor(pid: int, places: dict[tuple[int, int], str]) -> tuple[str, bool] | None:
    """Return which of the directories a process has open, and whether it holds its lock; one that it does goes before others."""
    names, found = {path.rpartition("/")[2] for path in places.values()}, None
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            # By the name first: stat(2) of a file on a server that does not answer would never return.
            if _name_of(pid, fd) not in names:
                continue
            status = os.stat(f"/proc/{pid}/fd/{fd}")
            path = places.get((status.st_dev, status.st_ino))
            if path is not None and b"FLOCK" in _read(f"/proc/{pid}/fdinfo/{fd}"):
                return path, True
            if path is not None and found is None:
                found = path, False
        except FileNotFoundError:
            continue  # closed while we looked
    return found


def _name_of(pid: int, fd: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{fd}").rpartition("/")[2]
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return ""  # longer than any path of ours: anybody may be that deep
        raise


def _read_holder(pid: int, path: str, is_locking: bool) -> Holder:
    lines = (line.partition(":\t") for line in _read(f"/proc/{pid}/status").decode("utf-8", "replace").splitlines())
    fields = {key: value for key, _, value in lines}
    return Holder(
        pid=pid, path=path, name=fields.get("Name", ""), is_locking=is_locking,
        is_stopped=fields.get("State", "")[:1] in ("T", "t"),
        switches=int(fields.get("voluntary_ctxt_switches", 0)) + int(fields.get("nonvoluntary_ctxt_switches", 0)))


def _read(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()
