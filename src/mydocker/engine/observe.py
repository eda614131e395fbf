"""Stored record + facts of the kernel and the monitor -> what is true now.

`observe` is pure; `gather` reads the facts. No command trusts the stored status of a container that
may have moved on by itself: the process may have ended, be another's by now, or of an earlier boot.
"""
from __future__ import annotations

from mydocker.base import paths
from mydocker.base.errors import NotFound
from mydocker.base.record import Record
from mydocker.linux.cgroup.group import Cgroup
from mydocker.linux.process import ProcessIdentity, is_alive
from mydocker.monitor.attach import Session
from mydocker.monitor.protocol import ExitRecord, StartedRecord, load_exit, load_started

from .lifecycle import ALIVE, CREATED, EXITED, PAUSED, RUNNING, STOPPED
from .store import ContainerRecord

#: What `exit_code` says when the monitor was killed and nobody saw the end.
UNKNOWN_EXIT_CODE = 255


class Facts(Record):
    """What can be seen of a container apart from its record."""

    is_alive: bool
    has_started: bool = False
    is_frozen: bool = True
    started: StartedRecord | None = None
    exit: ExitRecord | None = None


def identity_of(record: ContainerRecord) -> ProcessIdentity | None:
    """Return the identity of a container's process, None when it has none."""
    if record.pid is None or record.start_time is None:
        return None
    return ProcessIdentity(pid=record.pid, start_time=record.start_time, boot_id=record.boot_id)


def gather(record: ContainerRecord, directory: str) -> Facts:
    """Read the facts of a container that its record calls alive. Raises OSError, Corrupt."""
    identity = identity_of(record)
    alive = identity is not None and is_alive(identity)
    exit_record = load_exit(f"{directory}/{paths.EXIT}")
    if alive and record.status == CREATED:
        return _gather_created(directory, exit_record)
    if alive and record.status == PAUSED:
        return Facts(is_alive=exit_record is None, exit=exit_record, is_frozen=_is_frozen(record))
    if not alive and exit_record is None:
        # Its monitor may be about to write how it ended: then it counts as alive a moment longer. When
        # there is no monitor (any more), what it wrote is there now.
        alive = has_monitor(directory)
        exit_record = load_exit(f"{directory}/{paths.EXIT}")
    return Facts(
        is_alive=alive and exit_record is None, exit=exit_record,
        started=None if record.started_ns else load_started(f"{directory}/{paths.STARTED}"))


def _gather_created(directory: str, exit_record: ExitRecord | None) -> Facts:
    """Read whether the command runs by now. It does, too, when the monitor was killed right after it had said START."""
    started = load_started(f"{directory}/{paths.STARTED}")
    return Facts(
        is_alive=exit_record is None, exit=exit_record, started=started,
        has_started=started is not None or not has_monitor(directory))


def _is_frozen(record: ContainerRecord) -> bool:
    """Tell whether a container that is recorded as paused stands still: the record is written before and after."""
    try:
        return Cgroup.open(record.cgroups_path).is_frozen()
    except NotFound:
        return True  # it has just ended


def has_monitor(directory: str) -> bool:
    """Tell whether a monitor serves this container: somebody listens on its control socket, though he may stand still."""
    return Session.is_served(f"{directory}/{paths.CONTROL_SOCKET}")


def observe(record: ContainerRecord, facts: Facts) -> ContainerRecord:
    """Return the record as it is now."""
    if record.status not in ALIVE:
        return record
    if facts.is_alive:
        if record.status == CREATED and facts.has_started:
            record = record.replace(status=RUNNING)
        if record.status == PAUSED and not facts.is_frozen:
            record = record.replace(status=RUNNING)
        # What the stage records comes before the start, whose time the monitor knows.
        return record if facts.started is None else record.replace(started_ns=facts.started.started_ns)
    ended = record.replace(
        status=STOPPED if record.stop_requested else EXITED, pid=None, start_time=None)
    end = facts.exit
    if end is None:
        return ended.replace(
            exit_code=137 if record.stop_requested else UNKNOWN_EXIT_CODE,
            error="" if record.stop_requested else "its end was not seen: the monitor was killed or the machine restarted")
    return ended.replace(
        exit_code=end.exit_code, signal=end.signal or None, oom_killed=bool(end.oom_killed),
        started_ns=end.started_ns or record.started_ns, finished_ns=end.finished_ns, cpu_ns=end.cpu_ns,
        memory_peak_bytes=end.memory_peak_bytes, error=end.error_message or "")
