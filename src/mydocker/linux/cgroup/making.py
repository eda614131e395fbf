"""A container's cgroup made, as small as does it. Hot: what only limits need is imported where there are any.

Which controllers the engine's containers get where is in docs/decisions/0003-cgroup-entry.md, how devices are denied
in 0014-cgroup-devices.md. A group of the engine's has a path of its own, so whatever is there is a leftover; the path of
a bundle is its caller's choice, and is claiming.py's.
"""
from __future__ import annotations

import os

from .accounting import read_number
from .group import Cgroup
from .hierarchy import hierarchy
from .paths import check_path, ensure_directory, read_text, to_error, write_text
from .standard_devices import attach_standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .devices import DeviceRule
    from .resources import Resources

#: Controllers that every container has on v2 where the machine has them; others are handed down when a limit asks.
V2_CONTROLLERS = ("cpu", "memory", "pids")


def create(cgroups_path: str, resources: Mapping[str, object]) -> Cgroup:
    """Make a cgroup of the engine's and apply the `linux.resources` of a runtime spec; on failure nothing is left.

    Whatever is at the path is removed first, with the processes in it: it can only be what a
    killed start or a killed removal left, as the caller holds the container's lock and knows
    that it does not run. Devices are denied but for the rules and the default ones, with or without rules.
    Raises Unsupported (a limit whose controller or file is missing), InvalidRequest (a value the
    kernel refuses), Denied, Unavailable.
    """
    wanted = parse(resources)
    group = Cgroup(check_path(cgroups_path), hierarchy(), {}, "")
    try:
        try:
            _make(group, wanted)
        except FileExistsError:
            group.remove()
            _make(group, wanted)
    except BaseException:
        group.remove()
        raise
    return group


def parse(resources: Mapping[str, object]) -> Resources | None:
    """Return what is asked for; None for nothing, which includes denying all but the default devices."""
    for section, content in resources.items():
        if content and not (section == "devices" and content == [{"allow": False, "access": "rwm"}]):
            from .resources import parse_resources  # cold: most containers have no limits

            return parse_resources(resources)
    return None


def _make(group: Cgroup, wanted: Resources | None) -> None:
    if group.found.v2:
        ensure_directory(group.found.v2, group.path)
        group.v2 = group.found.v2 + group.path
        hand_down(group, set(V2_CONTROLLERS))
    for controller in _base_controllers(group):
        make_v1(group, controller)
    if wanted is not None:
        from .limits import set_limits  # cold

        set_limits(group, wanted)
    restrict_devices(group, (wanted and wanted.devices) or (), is_new=True)


# ---- devices

def restrict_devices(group: Cgroup, rules: tuple[DeviceRule, ...], *, is_new: bool = False) -> None:
    """Let device rules, and the default ones behind them, hold in place of what holds now, which is nothing if `is_new`.

    By the v1 controller where the group has one (a bundle's, where other tools look for it), else by a
    program on v2, else by v1 after all. Raises Denied, Unsupported, InvalidRequest.
    """
    if is_new and group.v2 and "devices" not in group.v1 and all(rule.type == "a" and not rule.allow for rule in rules):
        try:
            attach_standard(group.found.v2, group.v2)
            return
        except OSError:
            pass  # v1 may do it, and if not, the second try says why
    from .denying import restrict  # cold

    restrict(group, rules, is_new=is_new)


# ---- directories

def _base_controllers(group: Cgroup) -> tuple[str, ...]:
    """Return the v1 controllers that every container has here: what v2 does not give beside them."""
    wanted = ["memory"]
    if not group.v2:
        wanted += ["freezer", "cpuacct"]
    elif not os.access(f"{group.v2}/cgroup.freeze", os.F_OK):
        wanted.append("freezer")  # before Linux 5.2
    return tuple(name for name in wanted if name in group.found.v1)


def make_v1(group: Cgroup, controller: str) -> list[str]:
    """Make the group of one more v1 controller; return its directory, [] when another one's serves both."""
    mount_point = group.found.v1[controller]
    directory = mount_point + group.path
    is_fresh = directory not in group.v1.values()
    parents = ensure_directory(mount_point, group.path) if is_fresh else []
    group.v1[controller] = directory
    prepare_v1(group, controller, parents)
    return [directory] if is_fresh else []


def prepare_v1(group: Cgroup, controller: str, parents: Iterable[str]) -> None:
    if controller == "memory":
        _make_memory_hierarchical(parents)
    elif controller == "cpuset":
        _fill_cpuset(group.found.v1[controller], group.path)


def _make_memory_hierarchical(parents: Iterable[str]) -> None:
    """Have memory accounted for as a tree below new parents: the only way since Linux 5.11, a choice before."""
    for parent in parents:
        path = f"{parent}/memory.use_hierarchy"
        if read_number(path) == 0:
            try:
                write_text(path, "1")
            except OSError:
                pass  # a limit on the parent would not hold for us, ours still does


def _fill_cpuset(mount_point: str, cgroups_path: str) -> None:
    """Copy cpus and memory nodes down from the root where they are empty: v1 lets no process into an empty set."""
    parent = mount_point
    for part in cgroups_path.split("/")[1:]:
        directory = f"{parent}/{part}"
        for file in ("cpuset.cpus", "cpuset.mems"):
            try:
                if not read_text(f"{directory}/{file}").strip():
                    write_text(f"{directory}/{file}", read_text(f"{parent}/{file}").strip())
            except OSError as error:
                raise to_error(f"prepare {directory}/{file}", error) from error
        parent = directory


def hand_down(group: Cgroup, controllers: set[str]) -> None:
    """Enable v2 controllers for this cgroup in all its parents, where they are not.

    What cannot be enabled is left: a limit that needs it fails by name in limits.py.
    """
    wanted = controllers.intersection(group.found.v2_controllers)
    if not wanted:
        return
    parent = group.found.v2
    for part in group.path.split("/")[1:]:
        control = f"{parent}/cgroup.subtree_control"
        missing = wanted.difference(read_text(control).split())
        # One write each: the kernel takes all of a line or nothing.
        for controller in sorted(missing):
            try:
                write_text(control, f"+{controller}")
            except OSError:
                pass  # EBUSY: the parent holds processes itself; EACCES: not ours; the docstring says what follows
        parent = f"{parent}/{part}"
