"""Processes by an identity that cannot be mistaken: a pidfd, or (pid, start time, boot id).

A pid alone may belong to somebody else by the time it is used, so no function here acts on one.
Source: pidfd_open(2), pidfd_send_signal(2), proc_pid_stat(5).
"""
from __future__ import annotations

import os
import select
from _signal import pidfd_send_signal  # type: ignore[import-not-found]  # `signal` itself imports enum

from mydocker.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

_boot_id = ""

_LONGEST_POLL_S = 2_000_000.0


class ProcessIdentity(Record):
    """One process of one boot of the machine."""

    pid: int
    start_time: int
    """Clock ticks after the boot: field 22 of /proc/PID/stat."""
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """Return the identity of the process that has this pid now, None when none has."""
        start_time = read_start_time(pid)
        return None if start_time is None else cls(pid=pid, start_time=start_time, boot_id=boot_id())


def boot_id() -> str:
    """Return the kernel's random id of this boot. Raises OSError."""
    global _boot_id
    if not _boot_id:
        _boot_id = _read("/proc/sys/kernel/random/boot_id").decode().strip()
    return _boot_id


def read_start_time(pid: int) -> int | None:
    """Return when the process with this pid started, in clock ticks; None when there is none, or a zombie.

    One whose first thread has ended looks like a zombie, but runs on in its other threads.
    """
    try:
        stat = _read(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses is the process's own choice, blanks and parentheses included.
    fields = stat[stat.rindex(b")") + 2:].split()
    is_dead = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1  # num_threads counts the first, dead or not
    return None if is_dead else int(fields[19])


def is_alive(identity: ProcessIdentity) -> bool:
    """Tell whether this very process runs. A zombie does not."""
    return identity.boot_id == boot_id() and read_start_time(identity.pid) == identity.start_time


def open_pidfd(identity: ProcessIdentity) -> int | None:
    """Return a pidfd of this very process, which the caller closes; None when it has ended. Raises OSError."""
    if identity.boot_id != boot_id():
        return None
    try:
        fd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    # Looked at after opening: the pidfd holds whoever had the pid, and if that is another process
    # now, or will be, the start time read here is not the one that was recorded.
    if read_start_time(identity.pid) == identity.start_time:
        return fd
    os.close(fd)
    return None


def signal_process(identity: ProcessIdentity, signum: int) -> bool:
    """Send a signal to this very process; False when it has ended. Raises OSError (EPERM)."""
    fd = open_pidfd(identity)
    if fd is None:
        return False
    try:
        return signal_pidfd(fd, signum)
    finally:
        os.close(fd)


def signal_pidfd(fd: int, signum: int) -> bool:
    """Send a signal through a pidfd; False when the process has ended. Raises OSError (EPERM)."""
    try:
        pidfd_send_signal(fd, signum)
    except ProcessLookupError:
        return False
    return True


def pid_of(pidfd: int) -> int:
    """Return the pid of a pidfd's process as this pid namespace has it; -1 when it was reaped."""
    for line in _read(f"/proc/self/fdinfo/{pidfd}").splitlines():
        if line.startswith(b"Pid:"):
            return int(line[4:])
    return -1


def wait_pidfd(fd: int, timeout_s: float | None = None) -> bool:
    """Wait for the end of a pidfd's process; False when it did not come in the time given."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    # poll(2) takes 24 days of milliseconds: more is for ever.
    return bool(poll.poll(None if timeout_s is None or timeout_s > _LONGEST_POLL_S else max(timeout_s, 0) * 1000))


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)
