"""The processes in a tree of cgroups: listed, frozen, killed, and the tree removed with them.

Works on one directory of any version. Whatever runs in there is the container's and may fork, end
or make cgroups of its own at any moment.
"""
from __future__ import annotations

import errno
import os
import time

from mydocker.base.errors import Timeout
from mydocker.linux.process import signal_pidfd

from .paths import remove_tree, to_error, walk, write_text

_SIGKILL = 9
_REMOVE_TIMEOUT_S = 10.0
#: Whoever is still there when the pause between two looks has grown to this is not just slow to leave.
_STUBBORN_S = 0.01
#: Open descriptors at a time while processes are killed one by one.
_KILL_BATCH = 256


def read_pids(directory: str) -> list[int]:
    """Return the pids of all processes in a tree, in no order; [] when it is not there."""
    pids: list[int] = []
    try:
        for directory_fd in walk(directory):
            try:
                fd = os.open("cgroup.procs", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory_fd)
                with open(fd, "rb") as file:
                    pids += [int(word) for word in file.read().split()]
            except OSError:
                pass  # removed meanwhile; or a threaded v2 cgroup (EOPNOTSUPP), whose processes its root lists
    except FileNotFoundError:
        pass
    # A process can be seen as 0: it is in a pid namespace that is not below ours, and not ours to signal.
    return [pid for pid in pids if pid > 0]


def kill_tree(directory: str) -> None:
    """Send SIGKILL to every process in a tree, frozen ones included, without waiting for their end."""
    try:
        write_text(f"{directory}/cgroup.kill", "1")  # Linux 5.14: the whole tree at once, new forks included
        return
    except OSError:
        kill_one_by_one(directory)  # v1, or an older kernel


def kill_one_by_one(directory: str) -> None:
    """Do the same by pids."""
    has_freezer = os.access(f"{directory}/freezer.state", os.F_OK)
    if has_freezer:
        write_freezer(directory, frozen=True)  # so that they do not fork faster than they are killed
    pids = read_pids(directory)
    for start in range(0, len(pids), _KILL_BATCH):
        _kill_each(directory, pids[start:start + _KILL_BATCH])
    if has_freezer:
        write_freezer(directory, frozen=False)  # nothing dies in a frozen v1 group


def _kill_each(directory: str, pids: list[int]) -> None:
    pidfds: dict[int, int] = {}
    try:
        for pid in pids:
            try:
                pidfds[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                pass
        # A pid may have become another process's between the list and its pidfd. Whoever is still
        # listed now that the pidfds are open is the process that the pidfd holds.
        for pid in set(read_pids(directory)).intersection(pidfds):
            signal_pidfd(pidfds[pid], _SIGKILL)
    finally:
        for fd in pidfds.values():
            os.close(fd)


def write_freezer(directory: str, *, frozen: bool) -> None:
    """Ask a tree to freeze or to thaw; that a freeze is complete shows later. Raises Denied, Unavailable."""
    if os.access(f"{directory}/freezer.state", os.F_OK):
        path, value = f"{directory}/freezer.state", "FROZEN" if frozen else "THAWED"
    else:
        path, value = f"{directory}/cgroup.freeze", "1" if frozen else "0"
    try:
        write_text(path, value)
    except OSError as error:
        raise to_error(f"write {value} to {path}", error) from error


def remove_with_processes(directory: str) -> None:
    """Remove a tree and kill what runs in it. Missing is fine. Raises Timeout, Denied."""
    deadline = time.monotonic() + _REMOVE_TIMEOUT_S
    delay_s = 0.0002
    while True:
        try:
            remove_tree(directory)
            return
        except FileNotFoundError:
            continue  # changed under the walk: look again
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                raise to_error(f"remove cgroup {directory}", error) from error
            if time.monotonic() > deadline:
                raise Timeout(
                    f"remove cgroup {directory}: in use by processes {read_pids(directory)}",
                    hint="a process that ignores SIGKILL is stuck in the kernel, mostly on a dead disk or network",
                ) from error
        # EBUSY also comes for some moments after the last process has ended (the kernel finishes a
        # dead process's leave later), so kill what is there and look again, at growing intervals.
        kill_tree(directory)
        if delay_s > _STUBBORN_S:
            # cgroup.kill passes over a process whose first thread has ended (seen with Linux 6.18).
            kill_one_by_one(directory)
        time.sleep(delay_s)
        delay_s = min(delay_s * 2, 0.05)
