"""Starting containers that exist, and waiting for their ends."""
from __future__ import annotations

import os
import time

from mydocker.base import files, paths, trace
from mydocker.base.errors import Conflict, NotFound, Timeout, Unavailable
from mydocker.linux.process import is_alive, open_pidfd, wait_pidfd
from mydocker.monitor.attach import CONNECT_TIMEOUT_S, NotAnswering
from mydocker.storage.snapshots import allow_second_mount

from .ending import current, finish, finish_locked, release, save_if_room
from .lifecycle import ALIVE, CREATED, CREATING, RUNNING, advance, refusal
from .observe import identity_of
from .process_spec import set_console_size
from .recover import ensure_resolvers
from .sessions import LiveSession

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from mydocker.oci.runtime_spec import Spec

    from .creating import Creator
    from .standstill import Watch
    from .store import ContainerRecord, Store


_POLL_S = 0.005
#: How often somebody who waits for an end looks whether the process that it is of is still there.
_LOOK_S = 2.0


def start(
    store: Store, creator: Creator, container_id: str, client_flags: int = 0, console_size: tuple[int, int] | None = None,
) -> tuple[ContainerRecord, LiveSession]:
    """Start a created container, or an ended one again; return its record and a session with that subscription.

    The session is attached before the command runs: nothing it writes is missed, however short it is.
    `console_size` (rows, columns) is that of its terminal from now on.
    Raises AlreadyInState, Conflict, CommandNotFound, ...
    """
    with store.lock(container_id) as lock:
        record, waiting = _look_to_start(store, container_id)
        if waiting is not None:
            session = waiting
            session.attach(client_flags)
            if console_size is not None:
                session.resize(*console_size)  # before START, so before the command can look
            trace.point("connected to start")
        else:
            release(store, record)
            # Volatile is the mount of one that goes with its end, and that of `cp` into an ended one.
            allow_second_mount(store.layout.container(container_id))
            session = _restart(store, creator, _forget_end(record), lock.fd, client_flags, console_size)
        try:
            ensure_resolvers(store.layout, record.named_networks)
            if waiting is not None:
                started = session.start(_standstill_watch(store, container_id))  # what we give up waiting for is not started
            else:
                started = session.wait_started()  # as a first start is waited for: the stage goes on with or without us
            trace.point("started again")
            running = store.load(container_id).replace(status=RUNNING, started_ns=started.started_ns)
            save_if_room(store, running)  # it runs, and the monitor's file says so, too
        except BaseException:
            session.close()
            raise
    if running.endpoints != record.endpoints:
        from .links import follow_move  # cold: seldom does a container get another address

        follow_move(store, record, running)
    return running, session


def _look_to_start(store: Store, container_id: str) -> tuple[ContainerRecord, LiveSession | None]:
    """Return the record of a container that can be started, with a session if its monitor waits for that."""
    while True:
        # An end that nobody has recorded yet would be lost with the files that the new start replaces.
        record = finish_locked(store, container_id)
        if record is None:
            raise NotFound(f"no container {container_id}: it was to go with its end")
        advance(record.status, "start", name=record.name)
        if record.status != CREATED:
            return record, None
        trace.point("found created")
        try:
            return record, LiveSession.connect(control_socket(store, container_id))
        except Unavailable:
            continue  # somebody has ended it since: the next look finds that recorded


def _standstill_watch(store: Store, container_id: str) -> Callable[[], None]:
    """Return what raises Timeout at its second call in which the container's stage or monitor stands still."""
    watches: list[Watch] = []

    def check() -> None:
        if not watches:
            from .standstill import Watch  # cold: a start says a word soon

            watches.append(Watch(store.layout.container(container_id)))
        watches[0].check()
    return check


def attach(store: Store, record: ContainerRecord, client_flags: int) -> LiveSession:
    """Return a session of a container. Raises Conflict when it does not run, Timeout when its monitor stands still."""
    if record.status not in ALIVE:
        raise refusal(record.status, "attach to container", name=record.name)
    session = LiveSession.connect(control_socket(store, record.id))
    try:
        session.ping(_standstill_watch(store, record.id))
        session.attach(client_flags)
    except BaseException:
        session.close()
        raise
    return session


def _restart(
    store: Store, creator: Creator, record: ContainerRecord, lock_fd: int, client_flags: int,
    console_size: tuple[int, int] | None,
) -> LiveSession:
    spec: Spec = files.load_json(f"{store.layout.container(record.id)}/{paths.BUNDLE}/{paths.RECORD}")
    if console_size is not None:
        set_console_size(spec["process"], console_size)
    return creator.start_stage(record, spec, lock_fd, start=True, client_flags=client_flags)


def _forget_end(record: ContainerRecord) -> ContainerRecord:
    return record.replace(
        stop_requested=False, is_restarting=False, is_recorded_end=False, started_ns=None, finished_ns=None, exit_code=None,
        signal=None, oom_killed=False, cpu_ns=None, memory_peak_bytes=None, error="")


def wait(store: Store, container_id: str, timeout_s: float | None) -> int:
    """Wait for a container's end and return its exit code. Raises Timeout, NotFound."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    check = _standstill_watch(store, container_id)
    while True:
        record = current(store, container_id)
        if record.status == CREATING:
            raise Conflict(f"wait for container {record.name}: it is being made")
        if record.status not in ALIVE:
            break
        if deadline is not None and time.monotonic() >= deadline:
            raise _too_long(record)
        try:
            patience_s = _left_s(deadline, CONNECT_TIMEOUT_S)
            with LiveSession.connect(control_socket(store, container_id), timeout_s=patience_s) as session:
                code = _wait_for_word(record, session, deadline, check)
        except (Unavailable, Conflict, NotAnswering) as error:  # there is none, or it has all the clients that it can have
            _wait_without_monitor(record, deadline)
            if isinstance(error, NotAnswering):
                check()
            continue
        finish(store, container_id)
        return code
    finished = finish(store, container_id) or record
    return finished.exit_code if finished.exit_code is not None else 0


def _left_s(deadline: float | None, longest_s: float) -> float:
    """Return how long to wait for one thing of several."""
    return longest_s if deadline is None else min(max(deadline - time.monotonic(), 0.0), longest_s)


def _wait_for_word(
    record: ContainerRecord, session: LiveSession, deadline: float | None, check: Callable[[], None],
) -> int:
    """Wait for what the monitor says of the end; when the process has ended, it must not stand still."""
    while True:
        try:
            return session.wait(_left_s(deadline, _LOOK_S)).exit_code
        except Timeout:
            if deadline is not None and time.monotonic() >= deadline:
                raise _too_long(record) from None
        if not _is_running(record):
            check()


def _is_running(record: ContainerRecord) -> bool:
    identity = identity_of(record)
    return identity is not None and is_alive(identity)


def _wait_without_monitor(record: ContainerRecord, deadline: float | None) -> None:
    """Wait for the end of a container whose monitor was killed, has just ended, or does not listen."""
    identity = identity_of(record)
    fd = open_pidfd(identity) if identity else None
    if fd is None:
        time.sleep(_POLL_S)  # until its monitor has recorded the end
        return
    try:
        if not wait_pidfd(fd, None if deadline is None else max(deadline - time.monotonic(), 0.0)):
            raise _too_long(record)
    finally:
        os.close(fd)


def _too_long(record: ContainerRecord) -> Timeout:
    return Timeout(f"wait for container {record.name}: it did not end in the time given")


def control_socket(store: Store, container_id: str) -> str:
    """Return the path of a container's control socket."""
    return f"{store.layout.container(container_id)}/{paths.CONTROL_SOCKET}"
