"""Limits brought to the kernel: which hierarchy has the controller, in which order, and what a refusal means.

The planners (v1.py, v2.py) decide what is written; this does it, and makes the v1 groups that a limit needs.
"""
from __future__ import annotations

import errno
import os

from mydocker.base.errors import Conflict, Denied, MydockerError, Unavailable, Unsupported
from mydocker.base.record import Record

from . import v1, v2
from .accounting import read_number
from .making import V2_CONTROLLERS, hand_down, make_v1, restrict_devices
from .members import read_pids
from .paths import read_text, to_error, write_text
from .resources import parse_resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from .group import Cgroup
    from .hierarchy import Hierarchy
    from .resources import Resources, Write

#: v1's name of a controller -> v2's, where they differ.
_V2_NAMES = {"blkio": "io"}
#: Pseudo-controllers of `unified`: files of the core, which every v2 group has.
_CORE = "cgroup"
_JOIN_ROUNDS = 100


def apply(group: Cgroup, resources: Mapping[str, object]) -> None:
    """Change the limits of a cgroup in use, all of them or none; device rules, where there are any, replace those that hold.

    Raises as `create` does; Conflict when more is in use than allowed.
    """
    wanted = parse_resources(resources)
    tell: Callable[[], None] | None = None
    if group.unit:
        from .systemd import update_unit  # cold

        def tell() -> None:
            update_unit(group.unit, wanted, is_user=os.geteuid() != 0)

    fresh = set_limits(group, wanted, takes_back=True, tell=tell)
    if resources.get("devices"):
        restrict_devices(group, wanted.devices or ())
    join(group, fresh)


def set_limits(
    group: Cgroup, wanted: Resources, *, takes_back: bool = False, tell: Callable[[], None] | None = None,
) -> list[str]:
    """Write the limits; return the v1 directories that were made for them. With `takes_back` an error changes nothing.

    `tell` has the cgroup's manager know them once the kernel has taken them. That writes them, too, and rounds them, so they
    are written once more.
    """
    placed = plan(wanted, group.found, group.v1, group.v2)
    needed = {item.write.controller for item in placed if not item.is_v1}
    if not needed.issubset(V2_CONTROLLERS):
        hand_down(group, needed)
    fresh: list[str] = []
    writes = []
    for item in placed:
        controller = item.write.controller
        if item.is_v1 and controller not in group.v1:
            fresh += make_v1(group, controller)
        directory = group.v1[controller] if item.is_v1 else group.v2
        if not directory:
            raise Denied(
                f"apply resources.{item.write.field}: no cgroup could be made",
                hint="without rights over cgroups there can be no limits; run as root, or in a delegated cgroup",
            )
        writes.append((directory, item.write))
    paths = [f"{directory}/{write.file}" for directory, write in writes] if takes_back else []
    before = [(path, read_setting(path)) for path in paths]
    try:
        execute(writes)
        if tell is not None:
            tell()
            execute(writes)
    except MydockerError:
        take_back(before)
        raise
    return fresh


def read_setting(path: str) -> str:
    """Return what a file says that could be written to it again: one word or one line; "" for lists and what is not there."""
    try:
        text = read_text(path).strip()
    except OSError:
        return ""
    return "" if "\n" in text else text


def take_back(before: list[tuple[str, str]]) -> None:
    """Write what was there before, backwards, as memory with swap and without depend on each other. As in runc."""
    for path, text in reversed(before):
        try:
            if text and read_setting(path) != text:
                write_text(path, text)
        except OSError:
            pass  # the limit that could not be set is what is told


def join(group: Cgroup, fresh: list[str]) -> None:
    """Move the processes of a running container into groups that were just made for a new limit.

    Processes may be born outside while this goes on, so until nobody new turns up.
    """
    for directory in fresh:
        for _ in range(_JOIN_ROUNDS):
            missing = set(group.pids()).difference(read_pids(directory))
            if not missing:
                break
            for pid in missing:
                try:
                    write_text(f"{directory}/cgroup.procs", str(pid))
                except ProcessLookupError:
                    pass  # it has ended
                except OSError as error:
                    raise to_error(f"move process {pid} into cgroup {directory}", error) from error
        else:
            raise Unavailable(f"move the processes of cgroup {group.path} into {directory}: they fork faster")


class Placed(Record):
    """A write and the hierarchy for it."""

    is_v1: bool
    write: Write


def plan(limits: Resources, found: Hierarchy, v1_directories: dict[str, str], v2_directory: str) -> list[Placed]:
    """Return the writes, each with the version of the hierarchy that has its controller.

    The directories are those that the group has already; their present values are read where an
    order or a number depends on them. Raises Unsupported when no hierarchy has a controller,
    Conflict (`checkBeforeUpdate`), InvalidRequest.
    """
    limits = _complete(limits, v2_directory)
    memsw_bytes = None
    if "memory" in v1_directories and (limits.memory_limit or limits.memory_swap):
        memsw_bytes = read_number(f"{v1_directories['memory']}/{v1.MEMORY_AND_SWAP}")
    taken = {_V2_NAMES.get(controller, controller) for controller in found.v1}
    placed = [Placed(is_v1=True, write=write) for write in v1.plan_writes(limits, memsw_bytes) if write.controller in found.v1]
    # Swap by itself makes no sense to v2, which does not see the limit of v1's.
    rest = limits.replace(memory_limit=None, memory_swap=None) if "memory" in taken else limits
    on_v2 = [write for write in v2.plan_writes(rest, _current_quota(limits, v2_directory)) if write.controller not in taken]
    on_v2 += v2.plan_unified(limits)
    for write in on_v2:
        if write.controller not in found.v2_controllers and not (write.controller == _CORE and v2_directory):
            is_unified = write.field.startswith("unified") and found.v1
            raise Unsupported(
                f"{'invalid configuration: ' if is_unified else ''}apply resources.{write.field}: "
                f"this machine has no cgroup controller {write.controller}{' on v2' if is_unified else ''}",
                hint="leave this limit out; /proc/cgroups lists what the kernel has",
            )
    return placed + [Placed(is_v1=False, write=write) for write in on_v2]


def _complete(limits: Resources, v2_directory: str) -> Resources:
    """Return the limits with what v2 needs besides to understand them: swap alone is the sum less the memory.

    Raises Conflict where `checkBeforeUpdate` asks not to kill.
    """
    if not v2_directory:
        return limits
    if limits.check_before_update:
        used = read_number(f"{v2_directory}/memory.current") or 0
        for field, word, limit in (
                ("memory.swap", "memory+swap", limits.memory_swap), ("memory.limit", "memory", limits.memory_limit)):
            if limit and 0 < limit <= used:
                raise Conflict(f"apply resources.{field}: rejecting {word} limit of {limit} bytes: {used} are in use")
    if limits.memory_swap and limits.memory_swap > 0 and not limits.memory_limit:
        current = read_number(f"{v2_directory}/memory.max")
        if current is not None:
            return limits.replace(memory_limit=current)
    return limits


def _current_quota(limits: Resources, v2_directory: str) -> str:
    if not v2_directory or not limits.cpu_period or limits.cpu_quota:
        return "max"
    try:
        return read_text(f"{v2_directory}/cpu.max").split()[0]
    except FileNotFoundError:
        return "max"


def execute(writes: list[tuple[str, Write]]) -> None:
    """Write each value into its directory. Raises InvalidRequest, Unsupported, Conflict, Denied, Unavailable by field."""
    later = []
    for directory, write in writes:
        try:
            _write(directory, write)
        except OSError as error:
            if error.errno != errno.EINVAL or not write.may_wait:
                _raise_refused(directory, write, error)
            later.append((directory, write))
    for directory, write in later:
        try:
            _write(directory, write)
        except OSError as error:
            _raise_refused(directory, write, error)


def _write(directory: str, write: Write) -> None:
    """Write one value, into the first of its files that the kernel has. Raises OSError."""
    choices = ((write.file, write.value), *write.instead)
    for number, (file, value) in enumerate(choices, 1):
        try:
            write_text(f"{directory}/{file}", value)
            return
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP):
                raise
            if number == len(choices):
                if write.may_lack:
                    return
                raise


def _raise_refused(directory: str, write: Write, error: OSError) -> NoReturn:
    action = f"apply resources.{write.field}: write {write.value!r} to {directory}/{write.file}"
    if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
        if write.field == "memory.swap":
            hint = "the kernel keeps no account of swap; leave the swap limit out, or boot with swapaccount=1"
        else:
            hint = f"the kernel lacks this setting, or controller {write.controller} could not be handed down to here"
        raise Unsupported(f"{action}: no such file or directory", hint=hint) from error
    if error.errno == errno.EBUSY:
        raise Conflict(f"{action}: EBUSY", hint="more than that is in use now") from error
    if error.errno in (errno.EACCES, errno.ENOSPC, errno.ENODEV) and write.controller == "cpuset":
        # "Not a subset of what the parent has" is EACCES or ENOSPC in the kernel's words.
        error = OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    refused = to_error(action, error)
    if write.field == "cpu.realtimeRuntime":
        refused.hint = "the cgroups above need at least that much in their cpu.rt_runtime_us, and give none by themselves"
    raise refused from error
