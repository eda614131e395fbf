"""`kill`: a signal for a container's first process."""
from __future__ import annotations

from mydocker.base.errors import Conflict, NotFound
from mydocker.linux.process import signal_process

from .ending import SIGKILL, await_end, current, finish, finish_locked, kill_whole, release, thaw
from .lifecycle import ALIVE, CREATED, CREATING, PAUSED, refusal
from .observe import identity_of
from .signals import parse_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .store import ContainerRecord, Store


def kill(store: Store, container_id: str, signal: str = "KILL") -> None:
    """Send a signal to a container's init. Raises Conflict when it does not run.

    SIGKILL gets past a monitor that stands still, and ends with that a container that is only being made: then it is gone.
    """
    signum = parse_signal(signal)
    is_making = store.is_journalled(container_id)
    try:
        lock = store.lock(container_id, force=signum == SIGKILL)
    except NotFound:
        if is_making and signum == SIGKILL:
            return  # its maker, without its monitor, has undone it
        raise
    with lock:
        record = current(store, container_id)
        if lock.was_forced and record.status not in ALIVE:
            _settle_forced(store, record)
            return
        if record.status not in ALIVE or record.status == CREATED:
            raise refusal(record.status, "kill container", name=record.name)
        has_ended = not _signal(record, signum)
        if signum == SIGKILL and record.status == PAUSED:
            thaw(record)
    if signum == SIGKILL:
        kill_whole(store, record)
        if not await_end(store, record):
            finish(store, container_id)  # nobody else will: its monitor was killed
    if has_ended:
        raise Conflict(f"kill container {record.name}: it has just ended")


def _signal(record: ContainerRecord, signum: int) -> bool:
    """Send a signal to a container's init; False when it has ended."""
    identity = identity_of(record)
    return signal_process(identity, signum) if identity else False


def _settle_forced(store: Store, record: ContainerRecord) -> None:
    """Finish what a monitor that was killed to get the lock has left of a start. The caller holds the lock."""
    if record.status == CREATING:
        from .remains import remove_remains  # cold

        remove_remains(store, record.id, volumes=True)
    else:
        release(store, record)  # of the end before it may be recorded that nothing is held
        finish_locked(store, record.id)
