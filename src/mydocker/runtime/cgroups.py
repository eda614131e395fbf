"""The cgroup of a container of `mydocker-runtime`: how its state names it, and what to do where none may be made.

The one place that knows between `--systemd-cgroup`, `--rootless` and linux/cgroup.
"""
from __future__ import annotations

from mydocker.linux.cgroup.group import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .state import ContainerState


def open_cgroup(state: ContainerState) -> Cgroup | None:
    """Return a container's cgroup; None for a rootless container that was made without one. Raises NotFound."""
    path = state.cgroup.get("path", "")
    return Cgroup.open(path) if path else None
