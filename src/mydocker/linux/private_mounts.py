"""Work in a mount namespace that only one thread of this process has: what it mounts, nobody else ever sees.

The thread ends with the work. A descriptor that it opened keeps the one mount it lies on, detached; what is mounted below
that goes with the namespace, unless a descriptor of the namespace itself (`open_own_namespace`) is kept, too. Whatever kills
the process, the kernel takes the mounts apart.

Source: mount_namespaces(7), unshare(2): CLONE_NEWNS of a thread also gives it a root and working directory of its own.
"""
from __future__ import annotations

import errno
import os

from mydocker.base import files

from . import syscalls as sc
from .one_thread import in_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")


def in_private_mounts(work: Callable[[], T]) -> T:
    """Return what `work` does in a mount namespace of its own, a copy of ours; raises what it raises, and OSError."""
    def own() -> T:
        sc.unshare(sc.CLONE_NEWNS)
        sc.mount(None, "/", None, sc.MS_REC | sc.MS_PRIVATE, None)
        return work()

    return in_thread("mounts", own)


def open_own_namespace() -> int:
    """Return a descriptor of the calling thread's mount namespace, which lives as long as that. The caller closes it."""
    return os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


def mount_id_of(fd: int) -> int:
    """Return the id of the mount that a descriptor lies on (proc_pid_fdinfo(5)). Raises OSError."""
    for line in files.read_bytes(f"/proc/self/fdinfo/{fd}").splitlines():
        if line.startswith(b"mnt_id:"):
            return int(line[7:])
    raise OSError(errno.EBADF, f"descriptor {fd} lies on no mount")
