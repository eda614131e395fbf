"""`run`: create and start in one, and stay until the end unless detached."""
from __future__ import annotations

import os

from mydocker.base.errors import NotFound
from mydocker.linux import syscalls as sc
from mydocker.runtime.bundle import Made, discard, make
from mydocker.runtime.status import run_poststart_hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.runtime.cli import Context
    from mydocker.runtime.notify import Notifications


def run(context: Context) -> int:
    """Run a container. In the foreground its exit code is ours, and it is deleted afterwards unless it is to be kept."""
    arguments = context.arguments
    if not (arguments["detach"] or arguments["no-subreaper"]):
        sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)
    made = make(context, wait_at_fifo=False)
    notifications = _listen(context, made)
    if arguments["detach"]:
        _start(context, made)
        if notifications:
            with notifications:
                notifications.wait(made.created.pidfd)
        return 0
    from mydocker.runtime.foreground import attend  # cold: not with --detach

    code = attend(made.created.pid, made.created.pidfd, made.console, lambda: _start(context, made), notifications)
    if not arguments["keep"]:
        _delete(context)
    return code


def _listen(context: Context, made: Made) -> Notifications | None:
    if not os.environ.get("NOTIFY_SOCKET"):
        return None
    from mydocker.runtime.notify import Notifications  # cold: few callers are service managers

    # In the foreground this process is the unit's main one, and ends with the container.
    return Notifications.listen(context.root.directory(context.id), made.created.pid if context.arguments["detach"] else 0)


def _start(context: Context, made: Made) -> None:
    """Say START, and let go of the container: its lock is not held while it runs. Undoes everything when that fails."""
    try:
        made.handshake.start()
    except BaseException:
        discard(context.root, made)
        raise
    try:
        run_poststart_hooks(context.root.load_spec(made.state.id), made.state)
    except Exception:
        from .delete import delete  # cold

        delete(context.root, made.state.id, force=True)  # runtime.md "Lifecycle": its end, and the poststop hooks
        raise
    made.lock.close()


def _delete(context: Context) -> None:
    from .delete import delete  # cold: not with --detach

    try:
        with context.root.lock(context.id):
            delete(context.root, context.id, force=True)
    except NotFound:
        pass  # somebody else deleted it meanwhile
