"""The ends of containers: recording them, stopping (killing.py has `kill`, removing.py `rm`).

`finish` is the one place where an end is recorded and its cgroup removed; the clean-up command that the
monitor runs, the owner of a foreground run, `stop`, `rm` and `ps` all come here, in any order, as often
as they like. Nobody waits for a monitor while holding the container's lock.
"""
from __future__ import annotations

import errno
import os
import time

from mydocker.base import log, paths, trace
from mydocker.base.errors import Conflict, Corrupt, NotFound, Timeout, Unavailable
from mydocker.base.locks import lock_directory
from mydocker.linux.cgroup import group
from mydocker.linux.process import open_pidfd, signal_pidfd, wait_pidfd
from mydocker.monitor.attach import Session
from mydocker.monitor.protocol import load_exit

from . import recover
from .lifecycle import ALIVE, CREATED, CREATING, PAUSED, advance
from .observe import gather, identity_of, observe
from .signals import parse_signal
from .store import BROKEN_HINT, ContainerRecord, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .standstill import Watch

SIGKILL = 9
SIGTERM = "TERM"
#: How long a monitor may take from the end of its container to the exit record: draining the log.
_RECORD_TIMEOUT_S = 30.0
_POLL_S = 0.005
#: After so long it is asked why a process is not dead yet, and whether a monitor that does not answer is that of the same run.
_LOOK_AGAIN_S = 0.5


def current(store: Store, container_id: str) -> ContainerRecord:
    """Return a container's record as it is now, without a lock and without a change. Raises NotFound, Corrupt."""
    record = store.load(container_id)
    if record.status not in ALIVE:
        return record
    if record.started_ns is None and store.is_journalled(container_id):
        # The record is written before it is true (engine/stage.py); if the maker was killed it never will be.
        return record.replace(status=CREATING)
    trace.point("read record")
    directory = store.layout.container(container_id)
    try:
        facts = gather(record, directory)
    except Corrupt as error:
        raise Corrupt(error.message, hint=BROKEN_HINT) from error
    if not facts.is_alive and facts.exit is None and not os.path.exists(directory):
        # Removed since its record was read. What is known of its end went with it, which is not an end that nobody saw.
        raise NotFound(f"no container {container_id}", hint="`mydocker ps` lists those there are")
    return observe(record, facts)


def finish(
    store: Store, container_id: str, delete: Callable[[str], object] = recover.remove_tree,
) -> ContainerRecord | None:
    """Record a container's end, remove its cgroup, and remove it altogether if it was to go; idempotent.

    Returns the record, or None when the container is gone. Does nothing to one that runs. `delete` empties
    the trash, at once or later.
    """
    try:
        lock = store.lock(container_id)
    except NotFound:
        return None
    with lock:
        return finish_locked(store, container_id, delete)


def finish_if_free(store: Store, record: ContainerRecord) -> ContainerRecord | None:
    """`finish` for who does not wait: the record as it is when somebody else is at the container."""
    lock = lock_directory(store.layout.container(record.id), wait=False)
    if lock is None:
        return record
    with lock:
        return finish_locked(store, record.id)


def finish_locked(
    store: Store, container_id: str, delete: Callable[[str], object] = recover.remove_tree,
) -> ContainerRecord | None:
    """`finish` for a caller that holds the lock."""
    record = current(store, container_id)
    if record.status in ALIVE or record.status == CREATING:
        return record
    if not record.is_recorded_end:
        release(store, record)
        trace.point("removed cgroup")
        if not _goes(record):
            record = record.replace(is_recorded_end=True)
            save_if_room(store, record)
    if _goes(record):
        remove_locked(store, record, delete)
        return None
    return record


def _goes(record: ContainerRecord) -> bool:
    """Tell whether an ended container is removed by its end (`--rm`): not by the end that a restart makes."""
    return bool(record.config["rm"]) and not record.is_restarting


def release(store: Store, record: ContainerRecord) -> None:
    """Give back what the kernel, or another runtime, holds for an ended container; idempotent. The caller holds the lock."""
    forget_foreign(store, record.id, record.config.get("runtime", ""))
    if record.ports:
        from .publishing import withdraw  # cold: most containers publish nothing

        withdraw(store, record)
    group.remove(record.cgroups_path)


def forget_foreign(store: Store, container_id: str, program: str) -> None:
    """Have another runtime, if it was one that made the container, forget it."""
    if program:
        from mydocker.runtime.foreign import ForeignRuntime  # cold

        directory = f"{store.layout.container(container_id)}/{paths.RUNTIME}"
        ForeignRuntime(program=program, directory=directory, container_id=container_id).delete()


def save_if_room(store: Store, record: ContainerRecord) -> None:
    """Save what another look could tell again; on a full disk leave it, because ends of containers are how room is made."""
    try:
        store.save(record)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        log.debug("no room to record", container=record.id, error=error)


def remove_locked(
    store: Store, record: ContainerRecord, delete: Callable[[str], object] = recover.remove_tree, *, volumes: bool = False,
) -> None:
    """Remove an ended container, with its anonymous volumes if it goes with its end or `volumes`. The caller holds the lock."""
    log.debug("remove", container=record.id)
    if (volumes or record.config["rm"]) and any(item.get("anonymous") for item in record.config.get("volumes", ())):
        from .volume_removal import discard_with_volumes  # cold: most containers have none

        discard_with_volumes(store, record.id, record.name, delete)
        return
    trash = store.discard(record.id, record.name)
    trace.point("discarded")
    delete(trash)


def stop(
    store: Store, container_id: str, *, timeout_s: float | None = None, signal: str = "", restarts: bool = False,
) -> ContainerRecord | None:
    """End a container: its stop signal, then after the grace time SIGKILL. Raises Conflict, AlreadyInState.

    `timeout_s` below zero waits for ever; `restarts` keeps a container that its end would remove. Returns its record, None
    when it was removed.
    """
    with store.lock(container_id):
        record = current(store, container_id)
        advance(record.status, "stop", name=record.name)
        if record.status == PAUSED:
            thaw(record)
        stopping = record.replace(stop_requested=True, is_restarting=restarts)
        if restarts:
            store.save(stopping)  # without it the end might remove what is to start again
        else:
            save_if_room(store, stopping)
    trace.point("recorded stop request")
    config = record.config
    word = signal or config["stop_signal"] or SIGTERM
    grace_s = config["stop_timeout_s"] if timeout_s is None else timeout_s
    if record.status == CREATED or not _signal_and_wait(record, parse_signal(word), grace_s):
        kill_whole(store, record)
    trace.point("stopped process")
    await_end(store, record)
    return finish(store, container_id)


def _signal_and_wait(record: ContainerRecord, signum: int, grace_s: float) -> bool:
    """Send a signal; tell whether the process ended within the grace time."""
    identity = identity_of(record)
    fd = open_pidfd(identity) if identity else None
    if fd is None:
        return True
    try:
        signal_pidfd(fd, signum)
        return wait_pidfd(fd, None if grace_s < 0 else grace_s)
    finally:
        os.close(fd)


def kill_whole(store: Store, record: ContainerRecord) -> bool:
    """SIGKILL the container's init, with which the kernel ends its whole pid namespace; False when it had ended before."""
    identity = identity_of(record)
    fd = open_pidfd(identity) if identity else None
    if fd is None:
        return False
    try:
        signal_pidfd(fd, SIGKILL)
        if record.status == PAUSED:
            thaw(record)
        deadline = time.monotonic() + _RECORD_TIMEOUT_S
        watch: Watch | None = None
        while not wait_pidfd(fd, _LOOK_AGAIN_S):
            # On cgroup v1 a frozen process does not even die, and a `pause` may have come since the record was read.
            thaw(record)
            watch = _urge(store, record, watch)
            if time.monotonic() > deadline:
                raise Timeout(f"kill container {record.name}: process {record.pid} does not end", hint="it hangs in the kernel")
    finally:
        os.close(fd)
    return True


def thaw(record: ContainerRecord) -> None:
    """Let a paused container go on; nothing when it has ended."""
    try:
        group.Cgroup.open(record.cgroups_path).thaw()
    except NotFound:
        pass  # it ended meanwhile, and somebody tidied up


def await_end(store: Store, record: ContainerRecord, timeout_s: float = _RECORD_TIMEOUT_S) -> bool:
    """Wait until the monitor of a dead container has recorded the end, or is dead itself; False when nobody records it.

    The monitor's control socket tells: it is closed after the record. Once another command has started the container again,
    record and socket are those of another run, whose end is not waited for. A monitor that stands still is let go on, or
    killed if that is in vain. Raises Timeout.
    """
    directory = store.layout.container(record.id)
    deadline = time.monotonic() + timeout_s
    watch: Watch | None = None
    while load_exit(f"{directory}/{paths.EXIT}") is None:
        try:
            with Session.connect(f"{directory}/{paths.CONTROL_SOCKET}", timeout_s=_LOOK_AGAIN_S) as session:
                session.wait(min(timeout_s, _LOOK_AGAIN_S))
                return True
        except Unavailable:
            # No monitor, or it ended while we asked: what can be known of the end is on disk now.
            return load_exit(f"{directory}/{paths.EXIT}") is not None
        except Conflict:
            time.sleep(_POLL_S)  # it has all the clients that it can have, and the record is a matter of milliseconds
        except Timeout:
            if not _is_same_run(store, record):
                return True
            watch = _urge(store, record, watch)
        if time.monotonic() > deadline:
            raise Timeout(f"wait for the end of container {record.name}: its monitor does not record it")
    return True


def _urge(store: Store, record: ContainerRecord, watch: Watch | None) -> Watch:
    """Have monitors that stand still go on; return what to pass the next time."""
    if watch is None:
        from .standstill import Watch  # cold: a container ends in milliseconds

        watch = Watch(store.layout.container(record.id))
    watch.urge()
    return watch


def _is_same_run(store: Store, record: ContainerRecord) -> bool:
    """Tell whether what is recorded now is still the run that `record` is of: an end, or another start, changes the process."""
    try:
        return identity_of(store.load(record.id)) == identity_of(record)
    except NotFound:
        return False
