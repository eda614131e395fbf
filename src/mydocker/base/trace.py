"""Named points in the code where tests make races and crashes happen.

`point("created record")` does nothing unless the environment variable MYDOCKER_TRACE names that
point: `MYDOCKER_TRACE='created record=kill'` ends the process there with SIGKILL, `=stop` stops it
until SIGCONT, `=sleep:0.2` waits, `=raise` is a bug there. It is read once, at import; only root can run the engine, and
the variable never enters a container. In a container's init only `sleep` has an effect: the kernel keeps
the first process of a pid namespace from killing or stopping itself.
"""
from __future__ import annotations

import os

_ACTIONS = dict(
    item.split("=", 1) for item in os.environ.get("MYDOCKER_TRACE", "").split(",") if "=" in item
)
if _ACTIONS:
    import time  # cold; not at a point, which may be inside of a container


def environment() -> dict[str, str]:
    """Return what a process that takes no environment over from us needs to meet the same points."""
    return {"MYDOCKER_TRACE": os.environ["MYDOCKER_TRACE"]} if _ACTIONS else {}


def point(name: str) -> None:
    """Do what MYDOCKER_TRACE says for this point, usually nothing."""
    if not _ACTIONS:
        return
    action = _ACTIONS.get(name, "")
    if action == "kill":
        os.kill(os.getpid(), 9)
    elif action == "stop":
        os.kill(os.getpid(), 19)
    elif action.startswith("sleep:"):
        time.sleep(float(action[6:]))
    elif action == "raise":
        raise AssertionError(name)
