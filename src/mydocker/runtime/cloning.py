"""Cloning a process into a cgroup, and what the creator holds of it: for containers and for exec alike.

Source: clone(2), pidfd_open(2); linux/cgroup/group.py for how a cgroup is entered without a move.
"""
from __future__ import annotations

import _socket
import os

from mydocker.base.record import Record
from mydocker.linux import syscalls as sc
from mydocker.linux.cgroup.group import Cgroup
from mydocker.linux.cgroup.group import enter as enter_cgroup
from mydocker.linux.process import signal_pidfd

from . import sync


class Created(Record):
    """An init in the making: `channel` is the sync socket. The holder closes `pidfd` and `channel`.

    `network_fd` is the network namespace that was made ahead and is now the container's, or -1; its owner closes it.
    """

    pid: int
    pidfd: int
    channel: _socket.socket
    cgroup: Cgroup
    network_fd: int = -1


def clone_into(cgroup: Cgroup, namespaces: int) -> tuple[int, int]:
    """Clone a child that is in the cgroup before it does anything else; return (pid, pidfd), (0, -1) in the child.

    On v2 it is born there (CLONE_INTO_CGROUP), on v1 it moves itself: see linux/cgroup/group.py.
    """
    entries = cgroup.open_entries()
    entry_fd = cgroup.entry_fd()
    try:
        pid, pidfd = sc.clone3(namespaces, entry_fd)
        if pid == 0:
            enter_cgroup(entries)
            entries = []
        return pid, pidfd
    finally:
        for fd in [*entries, *([entry_fd] if entry_fd >= 0 else [])]:
            os.close(fd)


def kill_and_reap(pid: int, pidfd: int) -> None:
    """End and reap an init that never got to run its command."""
    signal_pidfd(pidfd, 9)
    os.close(pidfd)
    os.waitpid(pid, 0)


def receive_entered(entered: _socket.socket) -> tuple[int, int] | None:
    """Return pid and pidfd of the process in the pid namespace, a child of ours, too.

    None when the one that was to clone it has failed: what it has to say, and its end, are its reader's.
    """
    try:
        text, pidfd = sync.receive_message(entered, sync.CLONED)
    except sync.PeerDied:
        return None
    return int(text), pidfd
