"""The cgroup of a bundle, at a path of its caller's choice: made or joined in every hierarchy, as runc does.

Other tools look for the container there (podman, containerd's shim, systemd), so it is in each hierarchy, systemd's own
included, and in no fewer controllers than runc has. Source: runtime-spec config-linux.md, "Cgroups Path".
"""
from __future__ import annotations

from mydocker.base import log
from mydocker.base.errors import Conflict, Denied, Unsupported

from .group import Cgroup
from .hierarchy import hierarchy
from .limits import plan, set_limits
from .making import hand_down, prepare_v1, restrict_devices
from .members import read_pids, remove_with_processes
from .paths import clean_path, ensure_directory, read_text, write_text
from .resources import parse_resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .resources import Resources

#: v2 controllers that a threaded group cannot have (cgroup-v2.rst, "Threads").
_DOMAIN_CONTROLLERS = frozenset(("memory", "io", "hugetlb"))


def claim(
    cgroups_path: str, resources: Mapping[str, object], *, may_lack: bool = False, is_rootless: bool = False,
    occupants: tuple[int, ...] = (),
) -> Cgroup:
    """Make or join the cgroup of a bundle in every hierarchy and apply its resources, as runc does.

    A relative path is taken from the root of each hierarchy. What is there already is joined, and kept by `remove`, if
    nothing runs in it and it is not frozen. `may_lack`: for a caller without rights who asked for no path, a hierarchy
    where nothing can be made is left out, if no limit needs it; the cgroup may then be nowhere. `is_rootless`: rules on
    devices that may not be made are left out: such a caller has no rights over devices that it could hand on.
    `occupants` are processes that may be in it. On failure nothing is left. Raises as `create`, and Conflict for a group in use.
    """
    wanted = parse_resources(resources)
    group = Cgroup(clean_path(cgroups_path), hierarchy(), {}, "")
    made: list[str] = []
    try:
        for mount_point in (group.found.v2, *dict.fromkeys(group.found.v1.values())):
            if mount_point:
                try:
                    _claim_directory(group, mount_point, wanted, made, occupants)
                except Denied:
                    if not may_lack:
                        raise
                    log.debug("no cgroup", hierarchy=mount_point, path=group.path)
        set_limits(group, wanted)
        try:
            restrict_devices(group, wanted.devices or (), is_new=group.v2 not in group.joined)
        except (Denied, Unsupported):
            if not (is_rootless or may_lack):  # runc and crun go on, too
                raise
    except BaseException:
        # These and no others: what was not looked at yet may be somebody's.
        for directory in made:
            remove_with_processes(directory)
        raise
    return group


def _claim_directory(
    group: Cgroup, mount_point: str, wanted: Resources, made: list[str], occupants: tuple[int, ...],
) -> None:
    directory = mount_point + group.path
    try:
        parents = ensure_directory(mount_point, group.path)
        made.append(directory)
    except FileExistsError:
        _check_unused(directory, occupants)
        group.joined = (*group.joined, directory)
        parents = []
    if mount_point == group.found.v2:
        group.v2 = directory
        hand_down(group, set(group.found.v2_controllers))
        _check_domain(group, wanted)
        return
    for controller, point in group.found.v1.items():
        if point == mount_point:
            group.v1[controller] = directory
            prepare_v1(group, controller, parents)


def _check_unused(directory: str, occupants: tuple[int, ...]) -> None:
    """Refuse what would be shared with others: killing, freezing and limiting would be theirs as well (config-linux.md)."""
    pids = set(read_pids(directory)).difference(occupants)
    if pids:
        raise Conflict(
            f"container's cgroup is not empty: {len(pids)} processes are in {directory}", hint="choose another linux.cgroupsPath"
        )
    for file, frozen in (("cgroup.freeze", "1"), ("freezer.state", "FROZEN")):
        try:
            if read_text(f"{directory}/{file}").strip() == frozen:
                raise Conflict(
                    f"container's cgroup unexpectedly frozen: {directory}", hint="thaw it, or choose another linux.cgroupsPath")
        except FileNotFoundError:
            pass


def _check_domain(group: Cgroup, wanted: Resources) -> None:
    """Make the best of a v2 group below one that has processes of its own: it takes only controllers that know threads."""
    try:
        kind = read_text(f"{group.v2}/cgroup.type").strip()
    except FileNotFoundError:
        return  # before Linux 4.14
    if kind == "domain":
        return
    needed = {item.write.controller for item in plan(wanted, group.found, {}, group.v2) if not item.is_v1}
    if needed & _DOMAIN_CONTROLLERS:
        raise Conflict(
            f"use cgroup {group.v2}: it is {kind}, and cannot limit {', '.join(sorted(needed & _DOMAIN_CONTROLLERS))}",
            hint="a cgroup above it has processes of its own; choose another linux.cgroupsPath",
        )
    if kind == "domain invalid":
        write_text(f"{group.v2}/cgroup.type", "threaded")
