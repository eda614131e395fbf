"""The states of a container and what leads from one to the other: one table, one function.

    creating -> created -> running <-> paused
                   |          |          |
                   v          v          v
                (removed)  exited, stopped -> running (start again), (removed)

`exited` ended by itself or by a kill, `stopped` was ended by `stop`. docs/lifecycle.md is made from
these tables.
"""
from __future__ import annotations

from mydocker.base.errors import AlreadyInState, Conflict

CREATING, CREATED, RUNNING, PAUSED, EXITED, STOPPED = "creating", "created", "running", "paused", "exited", "stopped"
STATES = (CREATING, CREATED, RUNNING, PAUSED, EXITED, STOPPED)
ALIVE = (CREATED, RUNNING, PAUSED)
#: How the names (/proc/PID/comm) of a container's stage, of the monitor that it becomes and of the clean-up after that begin.
FAMILY = "mydocker"
EXEC_STAGE = "mydocker exec"

TRANSITIONS: dict[tuple[str, str], str] = {
    (CREATING, "create"): CREATED,
    (CREATED, "start"): RUNNING,
    (EXITED, "start"): CREATED,
    (STOPPED, "start"): CREATED,
    (RUNNING, "pause"): PAUSED,
    (PAUSED, "unpause"): RUNNING,
    (CREATED, "exit"): EXITED, (CREATED, "stop"): STOPPED,
    (RUNNING, "exit"): EXITED, (RUNNING, "stop"): STOPPED,
    (PAUSED, "exit"): EXITED, (PAUSED, "stop"): STOPPED,
}

#: What an event asks for, to tell "already so" from "not possible".
_GOALS = {"start": (RUNNING,), "pause": (PAUSED,), "unpause": (RUNNING,), "stop": (STOPPED, EXITED)}


def advance(state: str, event: str, *, name: str) -> str:
    """Return the state after an event. Raises AlreadyInState or Conflict, naming the container and its state."""
    following = TRANSITIONS.get((state, event))
    if following is not None:
        return following
    if state in _GOALS.get(event, ()):
        raise AlreadyInState(f"{event} container {name}: it is {state} already")
    raise refusal(state, f"{event} container", name=name)


def require_running(state: str, action: str, *, name: str) -> None:
    """Raise Conflict unless the container runs and is not paused."""
    if state != RUNNING:
        raise refusal(state, f"{action} container", name=name)


def refusal(state: str, action: str, *, name: str) -> Conflict:
    """Return the error of an action (`attach to container`) that a container's state forbids, with the way out."""
    hints = {PAUSED: "`mydocker unpause` lets it go on", RUNNING: ""}
    return Conflict(f"{action} {name}: it is {state}", hint=hints.get(state, f"start it with `mydocker start {name}`"))
