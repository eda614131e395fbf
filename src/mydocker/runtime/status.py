"""What a container is now: its stored state and the kernel's facts, put together (runtime-spec runtime.md "State").

    created   its init waits at exec.fifo       running   it runs, or has not yet executed its command after `start`
    paused    its cgroup is frozen              stopped   its init has ended, or is a zombie that its parent has not reaped

Reads only; takes no lock.
"""
from __future__ import annotations

import os

from mydocker.base.errors import Conflict, MydockerError, NotFound, Unsupported
from mydocker.linux.process import is_alive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    from mydocker.oci.runtime_spec import Spec

    from .state import ContainerState, StateRoot

    Status = Literal["created", "running", "paused", "stopped"]


def find_status(root: StateRoot, state: ContainerState) -> Status:
    """Return a container's status. Raises OSError."""
    if not is_alive(state.init):
        return "stopped"
    if is_frozen(state):
        return "paused"
    return "created" if os.access(root.fifo(state.id), os.F_OK) else "running"


def is_frozen(state: ContainerState) -> bool:
    """Tell whether a container's cgroup is frozen; one without a freezer never is."""
    from .cgroups import open_cgroup

    try:
        group = open_cgroup(state)
        return group is not None and group.is_frozen()
    except (NotFound, Unsupported):
        return False


def require(state: ContainerState, status: Status, *wanted: Status, action: str) -> None:
    """Raise Conflict when the status is none of those in which `action` can be done."""
    if status not in wanted:
        word = "not running" if status == "stopped" else status
        raise Conflict(f"cannot {action} container {state.id}: container {word}")


def run_poststart_hooks(spec: Spec, state: ContainerState) -> None:
    """Run the poststart hooks that the container was made with. Raises what the first failure is."""
    hooks = spec.get("hooks", {}).get("poststart")
    if hooks:
        from .hooks import run_hooks  # cold

        run_hooks(hooks, describe(state, "running"), kind="poststart")


def run_poststop_hooks(root: StateRoot, state: ContainerState) -> None:
    """Run the poststop hooks, each of them: a failure is a warning, and life ends all the same (runtime.md "Lifecycle")."""
    hooks = root.load_spec(state.id).get("hooks", {}).get("poststop")
    if not hooks:
        return
    from .cli import warn  # cold
    from .hooks import run_hook

    for index in range(len(hooks)):
        try:
            run_hook(hooks, index, describe(state, "stopped"), kind="poststop")
        except (MydockerError, OSError) as error:
            warn(error)


def describe(state: ContainerState, status: str) -> dict[str, Any]:
    """Return the state document, with the fields of runc's `state` and `list`."""
    document: dict[str, Any] = {
        "ociVersion": state.oci_version, "id": state.id, "pid": 0 if status == "stopped" else state.pid, "status": status,
        "bundle": state.bundle, "rootfs": state.rootfs, "created": state.created, "owner": state.owner,
    }
    if state.annotations:
        document["annotations"] = state.annotations
    return document
