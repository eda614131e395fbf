"""The cgroup of a container of `mydocker-runtime`: how its state names it, and what to do where none may be made.

The one place that knows between `--systemd-cgroup`, `--rootless` and linux/cgroup.
"""
from __future__ import annotations

import os

from mydocker.base.errors import NotFound
from mydocker.linux.cgroup.group import Cgroup
from mydocker.linux.cgroup.hierarchy import hierarchy
from mydocker.linux.cgroup.paths import default_path

from .state import is_machine_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mydocker.oci.runtime_spec import Spec

    from .cli import Context
    from .state import ContainerState


def claim_cgroup(context: Context, spec: Spec) -> Cgroup:
    """Make or join the cgroup of a bundle; without rights, a path or limits it may be an empty one. Raises MydockerError."""
    if context.no_cgroup:
        return Cgroup("", hierarchy(), {}, "")
    linux = spec.get("linux", {})
    path = linux.get("cgroupsPath", "")
    resources = linux.get("resources") or {}
    if context.systemd_cgroup:
        from mydocker.linux.cgroup.systemd import claim_unit  # cold

        cgroup = claim_unit(
            path, resources, container_id=context.id, annotations=spec.get("annotations") or {}, is_user=os.geteuid() != 0)
    else:
        is_rootless = context.rootless == "true" or (context.rootless == "auto" and not is_machine_root())
        cgroup = Cgroup.claim(
            path or default_path(context.id), resources, may_lack=is_rootless and not path, is_rootless=is_rootless)
    owner = plan_owner(spec)
    if owner is not None:
        cgroup.delegate(owner)
    return cgroup


def plan_owner(spec: Spec) -> int | None:
    """Return the host's uid that is to own the cgroup on v2, None for root (config-linux.md, "Cgroup ownership").

    That is the process's, if the container sees its cgroup as the root of a namespace of its own and may write there.
    """
    linux = spec.get("linux", {})
    is_private = any(item.get("type") == "cgroup" and not item.get("path") for item in linux.get("namespaces") or ())
    is_writable = any(
        mount.get("destination") == "/sys/fs/cgroup" and mount.get("type") in ("cgroup", "cgroup2")
        and "ro" not in (mount.get("options") or ()) for mount in spec.get("mounts") or ())
    uid = spec.get("process", {}).get("user", {}).get("uid", 0)
    for mapping in linux.get("uidMappings") or ():
        start = mapping["containerID"]
        if is_private and is_writable and start <= uid < start + mapping["size"]:
            return mapping["hostID"] + uid - start
    return None


def describe(cgroup: Cgroup) -> dict[str, Any]:
    """Return what `open_cgroup` needs to know, for the state."""
    if not cgroup.v1 and not cgroup.v2:
        return {"path": ""}
    return {"path": cgroup.path, "joined": list(cgroup.joined), "unit": cgroup.unit}


def open_cgroup(state: ContainerState) -> Cgroup | None:
    """Return a container's cgroup; None for a rootless container that was made without one. Raises NotFound."""
    path = state.cgroup.get("path", "")
    return Cgroup.open(path, state.cgroup.get("joined", ()), state.cgroup.get("unit", "")) if path else None


def find_cgroup(state: ContainerState) -> Cgroup | None:
    """As `open_cgroup`, but None, too, where somebody removed it: the init can have moved itself elsewhere before."""
    try:
        return open_cgroup(state)
    except NotFound:
        return None


def open_for_exec(state: ContainerState) -> Cgroup:
    """As `open_cgroup`; but where that is gone those that the init is in, as with runc, and in place of None one without
    any directory, in which a process stays where it is. Raises OSError when the init has ended."""
    try:
        return open_cgroup(state) or Cgroup("", hierarchy(), {}, "")
    except NotFound:
        return Cgroup.of_process(state.pid)
