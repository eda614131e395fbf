"""`update`: change the limits of a container in use."""
from __future__ import annotations

import sys

from mydocker.base import files, jsontext
from mydocker.base.errors import Corrupt, InvalidRequest, Unsupported
from mydocker.base.units import parse_size
from mydocker.oci.validate import RESOURCES, check_shape
from mydocker.runtime.cgroups import open_cgroup
from mydocker.runtime.status import find_status, require

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mydocker.runtime.arguments import Arguments
    from mydocker.runtime.cli import Context

#: Option -> where it lands in `linux.resources`.
_FIELDS = {
    "blkio-weight": ("blockIO", "weight"), "cpu-period": ("cpu", "period"), "cpu-quota": ("cpu", "quota"),
    "cpu-burst": ("cpu", "burst"), "cpu-share": ("cpu", "shares"), "cpu-rt-period": ("cpu", "realtimePeriod"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime"), "cpu-idle": ("cpu", "idle"), "cpuset-cpus": ("cpu", "cpus"),
    "cpuset-mems": ("cpu", "mems"), "memory": ("memory", "limit"), "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"), "pids-limit": ("pids", "limit"),
    "kernel-memory": ("memory", "kernel"), "kernel-memory-tcp": ("memory", "kernelTCP"),
}
#: What can change while the container runs; `devices` cannot, though callers pass them on.
_SECTIONS = ("memory", "cpu", "pids", "blockIO", "hugepageLimits", "network", "rdma", "unified")
#: Zero is no limit to set for these, as dockerd sends them: it means that nothing was said.
_ZERO_IS_UNSET = ("weight", "period", "quota", "shares", "realtimePeriod", "realtimeRuntime", "limit", "reservation", "swap",
                  "kernel", "kernelTCP")


def run(context: Context) -> int:
    """Apply the limits that are given; others stay. Raises Conflict when the container has stopped."""
    arguments = context.arguments
    for option in ("l3-cache-schema", "mem-bw-schema"):
        if arguments[option]:
            raise Unsupported(f"update: option --{option}: Intel RDT is not supported")
    resources = read_resources(arguments["resources"]) if arguments["resources"] else collect(arguments)
    with context.root.lock(context.id):
        state = context.root.load(context.id)
        require(state, find_status(context.root, state), "running", "created", "paused", action="update")
        group = open_cgroup(state)
        if group is None:
            raise Unsupported(f"update container {state.id}: it has no cgroup")
        group.apply(select(resources))
    return 0


def read_resources(path: str) -> dict[str, Any]:
    """Return the `linux.resources` in a file, or on standard input for "-". Raises Corrupt, InvalidRequest, OSError."""
    text = sys.stdin.buffer.read() if path == "-" else files.read_bytes(path)
    resources = jsontext.loads(text, source="standard input" if path == "-" else path)
    if not isinstance(resources, dict):
        raise Corrupt(f"read {path}: not an object")
    return check_shape(resources, RESOURCES, "resources")  # type: ignore[return-value]  # an object it was


def collect(arguments: Arguments) -> dict[str, Any]:
    """Return the `linux.resources` that the options make. Raises InvalidRequest."""
    resources: dict[str, dict[str, Any]] = {}
    for option, (section, field) in _FIELDS.items():
        if option not in arguments.given:
            continue
        text = str(arguments[option])
        value = text if option.startswith("cpuset") else parse_number(option, text)
        # A container without any process cannot be asked for: as in runc, 0 is as few as can be. In a document it is no word.
        resources.setdefault(section, {})[field] = 1 if option == "pids-limit" and value == 0 else value
    return resources


def parse_number(option: str, text: str) -> int:
    """Return the number of an option; memory has units. Raises InvalidRequest."""
    if "memory" in option and text != "-1":
        return parse_size(text, what=f"update: option --{option}")
    if not text.lstrip("-").isdigit():
        raise InvalidRequest(f"update: option --{option} wants a number, not {text!r}")
    return int(text)


def select(resources: dict[str, Any]) -> dict[str, Any]:
    """Return the part of `linux.resources` that can be changed, without what was left unsaid. Raises InvalidRequest."""
    chosen: dict[str, Any] = {}
    by_name = {name.lower(): content for name, content in resources.items()}  # as Go's decoder finds them
    for section in _SECTIONS:
        content = by_name.get(section.lower())
        shape = list if section == "hugepageLimits" else dict
        if content is not None and not isinstance(content, shape):
            raise InvalidRequest(f"update: resources.{section}: is not {'a list' if shape is list else 'an object'}")
        if isinstance(content, dict) and section != "unified":
            content = {
                key: value for key, value in content.items() if value not in (None, "") and not _is_unset(section, key, value)}
        if content:
            chosen[section] = content
    return chosen


def _is_unset(section: str, key: str, value: Any) -> bool:
    return key in _ZERO_IS_UNSET and value == 0 and section != "pids"  # no process more is a limit, too
