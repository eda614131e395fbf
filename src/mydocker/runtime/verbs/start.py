"""`start`: let a created container execute its command."""
from __future__ import annotations

import os

from mydocker.base.errors import Conflict, InvalidRequest
from mydocker.runtime.state import StateRoot
from mydocker.runtime.status import find_status, run_poststart_hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.runtime.cli import Context


def run(context: Context) -> int:
    """Write the byte that the init waits for. The FIFO goes with it: what is not there cannot be started twice."""
    if os.environ.get("NOTIFY_SOCKET"):
        return start_and_notify(context.root, context.id)
    with context.root.lock(context.id):
        start(context.root, context.id)
    return 0


def start_and_notify(root: StateRoot, container_id: str) -> int:
    """Start, and wait until the command is ready or has ended: for a service manager (notify.py)."""
    from mydocker.linux.process import open_pidfd  # cold
    from mydocker.runtime.notify import Notifications

    with root.lock(container_id):
        init = root.load(container_id).init
        notifications, pidfd = Notifications.listen(root.directory(container_id), init.pid), open_pidfd(init)
        start(root, container_id)
    # Not while the lock is held: whoever has lost patience may kill it.
    if notifications is not None and pidfd is not None:
        with notifications:
            notifications.wait(pidfd)
    return 0


def start(root: StateRoot, container_id: str) -> None:
    """Start a created container; the caller holds its lock. Raises NotFound, Conflict."""
    state = root.load(container_id)
    status = find_status(root, state)
    if status != "created":
        reason = "that has stopped" if status == "stopped" else "that is already running"
        raise Conflict(f"cannot start container {container_id}: a container {reason}")
    spec = root.load_spec(container_id)
    if "process" not in spec:
        raise InvalidRequest(f"cannot start container {container_id}: its config.json has no process")
    fifo = root.fifo(container_id)
    # Not blocking: without a reader, which is to say without an init, it is ENXIO.
    fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.write(fd, b"S")
    finally:
        os.close(fd)
    os.unlink(fifo)
    try:
        run_poststart_hooks(spec, state)
    except Exception:
        from .delete import delete  # cold

        delete(root, container_id, force=True)  # runtime.md "Lifecycle": its end, and the poststop hooks
        raise
