"""Starting containers that exist, and waiting for their ends."""
from __future__ import annotations

import os
import time

from mydocker.base import files, paths
from mydocker.base.errors import Timeout, Unavailable
from mydocker.linux.cgroup import group
from mydocker.linux.process import open_pidfd, wait_pidfd

from . import recover
from .ending import current, finish
from .lifecycle import ALIVE, CREATED, RUNNING, advance
from .observe import identity_of
from .sessions import LiveSession

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .creating import Creator
    from .store import ContainerRecord, Store


def start(store: Store, creator: Creator, container_id: str) -> ContainerRecord:
    """Start a created container, or an ended one again. Raises AlreadyInState, Conflict, CommandNotFound, ..."""
    with store.lock(container_id) as lock:
        record = current(store, container_id)
        advance(record.status, "start", name=record.name)
        if record.status == CREATED:
            with LiveSession.connect(control_socket(store, container_id)) as session:
                started = session.start()
        else:
            group.remove(recover.cgroups_path(container_id))
            record = _forget_end(record)
            with _restart(store, creator, record, lock.fd) as session:
                started = session.wait_started()
        running = store.load(container_id).replace(status=RUNNING, started_ns=started.started_ns)
        store.save(running)
    return running


def _restart(store: Store, creator: Creator, record: ContainerRecord, lock_fd: int) -> LiveSession:
    spec = files.load_json(f"{store.layout.container(record.id)}/{paths.BUNDLE}/{paths.RECORD}")
    return creator.start_stage(record, spec, lock_fd, start=True)


def _forget_end(record: ContainerRecord) -> ContainerRecord:
    return record.replace(
        stop_requested=False, is_recorded_end=False, started_ns=None, finished_ns=None, exit_code=None, signal=None,
        oom_killed=False, cpu_ns=None, memory_peak_bytes=None, error="")


def wait(store: Store, container_id: str, timeout_s: float | None) -> int:
    """Wait for a container's end and return its exit code. Raises Timeout, NotFound."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        record = current(store, container_id)
        if record.status not in ALIVE:
            break
        left_s = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        try:
            with LiveSession.connect(control_socket(store, container_id)) as session:
                code = session.wait(left_s).exit_code
        except Unavailable:
            _wait_without_monitor(store, record, left_s)
            continue
        finish(store, container_id)
        return code
    finished = finish(store, container_id) or record
    return finished.exit_code if finished.exit_code is not None else 0


def _wait_without_monitor(store: Store, record: ContainerRecord, left_s: float | None) -> None:
    """Wait for the end of a container whose monitor was killed, or has just ended."""
    identity = identity_of(record)
    fd = open_pidfd(identity) if identity else None
    if fd is None:
        return
    try:
        if not wait_pidfd(fd, left_s):
            raise Timeout(f"wait for container {record.name}: it did not end in the time given")
    finally:
        os.close(fd)


def control_socket(store: Store, container_id: str) -> str:
    """Return the path of a container's control socket."""
    return f"{store.layout.container(container_id)}/{paths.CONTROL_SOCKET}"
