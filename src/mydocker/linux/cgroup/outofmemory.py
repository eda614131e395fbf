"""What the kernel has killed in a cgroup for want of memory; and whether that is why a container did not start.

Cold: `events` looks, and a start that has failed. Source: cgroup-v2.rst (memory.events),
cgroup-v1/memory.rst (memory.oom_control).
"""
from __future__ import annotations

import os

from mydocker.base.errors import RuntimeFailed

from .accounting import read_keyed
from .resources import parse_resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .group import Cgroup


def count_oom_kills(group: Cgroup) -> int:
    """Return how often the kernel has killed a process of the cgroup for want of memory."""
    for path in (f"{group.v1['memory']}/memory.oom_control" if "memory" in group.v1 else "", f"{group.v2}/memory.events"):
        if path and "oom_kill" in (values := read_keyed(path)):
            return values["oom_kill"]
    return 0


def blame(error: Exception, resources: Mapping[str, object], group: Cgroup) -> None:
    """Raise what is behind a start's error, if the memory limit left the init no room.

    A unit whose processes are dead is gone, with its count: then all that is known is that they are. The count of a group
    that was there before may be of others.
    """
    directory = group.v1.get("memory") or group.v2
    is_ours = bool(group.unit) or directory not in group.joined  # systemd has made a unit's for us
    kills = count_oom_kills(group) if is_ours else 0
    # Looked at after the count, which systemd may take away at any moment; the kernel removes a controller's files first.
    is_gone = bool(group.unit and directory) and not os.path.exists(f"{directory}/memory.stat")
    if not kills and not is_gone:
        return
    reason = refuse(resources)
    if reason is not None:
        raise reason from error


def refuse(resources: Mapping[str, object]) -> RuntimeFailed | None:
    """Return the error of a memory limit in which nothing can start; None where memory has no limit."""
    limits = parse_resources(resources)
    unified = dict(limits.unified)
    field = "memory.limit" if limits.memory_limit else "unified.memory.max" if "memory.max" in unified else ""
    value = str(limits.memory_limit) if limits.memory_limit else unified.get("memory.max", "").strip()
    if not field or value in ("-1", "max"):
        return None
    # runc's words, which callers know.
    return RuntimeFailed(
        f"linux.resources.{field}: container init was OOM-killed (memory limit too low?): it is {value} bytes",
        hint="nothing can start in so little: raise the limit")
