"""Who has a directory open, who holds its lock by that, and which of these stands still.

It looks at every process of the machine, so it is for the rare moment in which something was waited for in vain. Of most
it reads `status` alone: they may have any number of descriptors open, and under any names.
Source: proc(5) (`fd`, `fdinfo` with a `lock:` line where that descriptor holds one, `status`), pidfd_open(2).
"""
from __future__ import annotations

import os

from mydocker.base.record import Record

from .process import signal_pidfd, wait_pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

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


class _Status(Record):
    """What /proc/PID/status says of a process; `is_in_container` in a pid namespace below ours."""

    name: str
    is_stopped: bool
    is_in_container: bool
    switches: int


def find_stopped(*paths: str) -> list[Holder]:
    """Return the processes that stand still with one of the directories at `paths` open, each with the first that is found."""
    return _find(paths, lambda status: status.is_stopped)


def find_named(names: tuple[str, ...], *paths: str) -> list[Holder]:
    """Return the processes of these names, moving or not, that have one of the directories open; as `find_stopped`."""
    return _find(paths, lambda status: status.name in names)


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
    again = _look(holder.pid, {key: holder.path}, lambda status: status.name == holder.name) if key else None
    if again is not None and again.is_locking == holder.is_locking and not wait_pidfd(fd, 0):
        return fd
    os.close(fd)
    return None


def _key_of(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _find(paths: tuple[str, ...], is_wanted: Callable[[_Status], bool]) -> list[Holder]:
    places = {key: path for path in paths if (key := _key_of(path)) is not None}
    found = (_look(int(entry), places, is_wanted) for entry in os.listdir("/proc") if entry.isdigit())
    return [holder for holder in found if holder is not None]


def _look(pid: int, places: dict[tuple[int, int], str], is_wanted: Callable[[_Status], bool]) -> Holder | None:
    try:
        status = _read_status(pid)
        # Who is in a pid namespace of its own is a container's: nobody of ours, and with as many descriptors as it likes.
        if status.is_in_container or not is_wanted(status):
            return None
        found = _find_descriptor(pid, places)
    except _GONE:
        return None  # it has ended, or is not ours to look at
    if found is None:
        return None
    path, is_locking = found
    return Holder(pid=pid, path=path, name=status.name, is_locking=is_locking, is_stopped=status.is_stopped,
                  switches=status.switches)


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
        except OSError:
            continue  # closed meanwhile, on a server that is gone, of a longer path than any of ours: not our directory
    return found


def _name_of(pid: int, fd: str) -> str:
    return os.readlink(f"/proc/{pid}/fd/{fd}").rpartition("/")[2]


def _read_status(pid: int) -> _Status:
    lines = (line.partition(":\t") for line in _read(f"/proc/{pid}/status").decode("utf-8", "replace").splitlines())
    fields = {key: value for key, _, value in lines}
    return _Status(
        name=fields.get("Name", ""), is_stopped=fields.get("State", "")[:1] in ("T", "t"),
        is_in_container=len(fields.get("NSpid", "").split()) > 1,
        switches=int(fields.get("voluntary_ctxt_switches", 0)) + int(fields.get("nonvoluntary_ctxt_switches", 0)))


def _read(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()
