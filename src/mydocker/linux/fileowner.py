"""Work on files as another user, with all rights that this process has: what is made is that user's from the beginning.

For file systems with mapped ids, on which our own root has no id and can make nothing (EOVERFLOW). The kernel keeps these ids,
and capabilities, for each thread, so only the thread that works has them. Source: setfsuid(2), capabilities(7).
"""
from __future__ import annotations

from . import syscalls as sc
from .one_thread import in_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")


def as_file_owner(uid: int, gid: int, work: Callable[[], T]) -> T:
    """Return what `work` does in a thread whose files belong to `uid` and `gid`; raises what it raises, and OSError."""
    def own() -> T:
        effective, permitted, inheritable = sc.capget()
        sc.setfsids(uid, gid)
        sc.capset(effective, permitted, inheritable)  # the change from 0 took those over files away
        return work()

    return in_thread("owner", own)
