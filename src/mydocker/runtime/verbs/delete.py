"""`delete`: remove what is left of a container: processes, cgroup, state."""
from __future__ import annotations

import os

from mydocker.base.errors import Conflict, NotFound, Timeout
from mydocker.linux.process import open_pidfd, signal_pidfd, wait_pidfd
from mydocker.runtime.cgroups import find_cgroup
from mydocker.runtime.rootfs import unmount_root
from mydocker.runtime.state import STATE, StateRoot, remove_directory
from mydocker.runtime.status import find_status, run_poststop_hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.runtime.cli import Context
    from mydocker.runtime.state import ContainerState

_SIGKILL = 9
_KILL_TIMEOUT_S = 10.0
#: After that much an init that was killed may be frozen where its container's cgroup is not.
_KILL_USUALLY_S = 1.0


def run(context: Context) -> int:
    """Delete. With --force a container that runs is killed first, and one that is gone is fine (the shim asks for that)."""
    force = context.arguments["force"]
    try:
        with context.root.lock(context.id):
            delete(context.root, context.id, force=force)
    except NotFound:
        if not force:
            raise
    return 0


def delete(root: StateRoot, container_id: str, *, force: bool) -> None:
    """Delete a container; the caller holds its lock. Raises NotFound, Conflict when it runs and `force` is false."""
    directory = root.directory(container_id)
    if force and not os.access(f"{directory}/{STATE}", os.F_OK):
        remove_directory(directory)  # what a killed create left
        return
    state = root.load(container_id)
    status = find_status(root, state)
    if status not in ("stopped", "created") and not force:
        raise Conflict(f"cannot delete container {container_id} that is not stopped: {status}")
    if status != "stopped":
        end_init(state)
    remove_cgroup(state)
    if not any(item.get("type") == "mount" for item in root.load_spec(container_id).get("linux", {}).get("namespaces") or ()):
        unmount_root(state.rootfs)
    run_poststop_hooks(root, state)
    remove_directory(directory)


def end_init(state: ContainerState) -> None:
    """Kill the init, and see that it is dead; it is its parent's to reap. Raises Timeout."""
    pidfd = open_pidfd(state.init)
    if pidfd is None:
        return
    try:
        signal_pidfd(pidfd, _SIGKILL)
        group = find_cgroup(state)
        if group is not None:
            group.kill()  # it thaws, too
        if not wait_pidfd(pidfd, _KILL_USUALLY_S):
            if group is not None:
                group.take_back(state.pid)
            if not wait_pidfd(pidfd, _KILL_TIMEOUT_S):
                raise Timeout(f"delete container {state.id}: its init, process {state.pid}, does not die of SIGKILL",
                              hint="it is stuck in the kernel, mostly on a dead disk or network")
    finally:
        os.close(pidfd)


def remove_cgroup(state: ContainerState) -> None:
    """Remove the cgroup with whatever still runs in it; a missing one is fine."""
    group = find_cgroup(state)
    if group is not None:
        group.remove()
