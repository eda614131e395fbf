"""This process's own memory, as a fork leaves it."""
from __future__ import annotations

import errno

from . import syscalls as sc

#: madvise(2), since Linux 5.14.
_MADV_POPULATE_WRITE = 23


def populate_private_memory() -> None:
    """Give this process its own copy of every writable page that it shares with its parent since the fork.

    Otherwise each first write to a page faults and copies it then: several hundred times until an interpreter has
    done what it is there for. Whoever has nothing to do before that does it here, in a few calls.
    """
    with open("/proc/self/maps", encoding="ascii", errors="surrogateescape") as stream:
        ranges = [line.split(" ", 2)[0] for line in stream if line.split(" ", 2)[1] == "rw-p"]
    for span in ranges:
        low, _, high = span.partition("-")
        start = int(low, 16)
        try:
            sc.madvise(start, int(high, 16) - start, _MADV_POPULATE_WRITE)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return  # an older kernel
            # ENOMEM, EFAULT: the range has gone meanwhile or cannot be written; it will fault, or not be needed
