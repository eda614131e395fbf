"""Device rules put in force on a cgroup of either version, one that is in use included.

The rules and what they come to are devices.py's, the program for v2 is bpf.py's.
"""
from __future__ import annotations

import errno
import os

from mydocker.base.errors import Unavailable, Unsupported

from . import bpf
from .devices import build_allow_list, parse_list, plan_transition
from .limits import join
from .making import make_v1
from .paths import read_text, to_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .devices import AllowList, DeviceRule
    from .group import Cgroup


def restrict(group: Cgroup, rules: tuple[DeviceRule, ...], *, is_new: bool) -> None:
    """Let the rules hold: making.restrict_devices."""
    target = build_allow_list(rules)
    if "devices" in group.v1:
        _restrict_in_use(group, target, is_new=is_new)
        return
    if is_new and target.allows_all:
        return
    failure: OSError | None = None
    if group.v2:
        try:
            if target.allows_all:
                bpf.detach(group.v2)
            else:
                bpf.attach(group.v2, target)
            return
        except OSError as error:
            failure = error  # EINVAL, ENOSYS: a kernel without CONFIG_CGROUP_BPF; EPERM: a container's root
    if target.allows_all:
        return
    if "devices" in group.found.v1:
        fresh = make_v1(group, "devices")
        _restrict_on_v1(group, target)
        if not is_new:
            join(group, fresh)
    elif isinstance(failure, PermissionError):
        raise to_error(f"restrict devices of cgroup {group.path} by bpf(2)", failure) from failure
    else:
        raise Unsupported(
            f"restrict devices of cgroup {group.path}: the kernel has neither the devices controller of cgroup v1 nor device"
            f" programs of v2{f' (bpf: {errno.errorcode.get(failure.errno or 0)})' if failure else ''}",
            hint="CONFIG_CGROUP_BPF and CONFIG_BPF_SYSCALL; allow all devices to do without",
        ) from failure


def _restrict_in_use(group: Cgroup, target: AllowList, *, is_new: bool) -> None:
    if is_new or not target.allows_by_default or target.allows_all or not group.can_freeze() or group.is_frozen():
        _restrict_on_v1(group, target)
        return
    # From "nothing but" to "all but" there is a moment in which everything is allowed: nobody may use it.
    group.freeze()
    try:
        _restrict_on_v1(group, target)
    finally:
        group.thaw()


def _write_rules(directory: str, rules: list[DeviceRule]) -> None:
    """Write the rules in their order, one write(2) each; a run of the same kind shares a descriptor."""
    fd, is_allowing = -1, None
    try:
        for rule in rules:
            if rule.allow != is_allowing:
                if fd >= 0:
                    os.close(fd)
                    fd = -1
                fd = os.open(f"{directory}/devices.{'allow' if rule.allow else 'deny'}", os.O_WRONLY | os.O_CLOEXEC)
                is_allowing = rule.allow
            os.write(fd, str(rule).encode())
    finally:
        if fd >= 0:
            os.close(fd)


def _restrict_on_v1(group: Cgroup, target: AllowList) -> None:
    directory = group.v1["devices"]
    try:
        _write_rules(directory, plan_transition(parse_list(read_text(f"{directory}/devices.list")), target))
        result = parse_list(read_text(f"{directory}/devices.list"))
    except OSError as error:
        raise to_error(f"restrict devices of cgroup {directory}", error) from error
    # The kernel drops some writes without a word (a parent's rules, a hole in a wildcard): trust what it has in the end.
    if result != target if not target.allows_by_default else not result.allows_by_default:
        raise Unavailable(
            f"restrict devices of cgroup {directory}: the kernel has other rules than were written",
            hint="a cgroup above it may allow less",
        )
