"""The limits of one container as plain numbers, out of the `linux.resources` of a runtime spec.

Pure. The translation to files is v1.py's and v2.py's; whether a number makes sense was judged
before (engine/request.py, oci/validate.py), and the kernel has the last word. What is not known here
is refused by name, because a limit that is silently dropped is worse than none.
Source: opencontainers/runtime-spec, config-linux.md, "Control groups".
"""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest, Unsupported
from mydocker.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .devices import DeviceRule


class BlockLimit(Record):
    """One row of `blockIO.weightDevice` or of one of the `throttle...Device` lists."""

    kind: str
    """The spec's word: `weight`, `leafWeight`, `throttleReadBpsDevice`, ..."""
    device: str
    """`major:minor`."""
    value: int


class RdmaLimit(Record):
    """What a container may use of one RDMA device; None leaves a number as it is."""

    device: str
    handles: int | None
    objects: int | None


class Resources(Record):
    """The limits to set; None, "" or () leaves a setting as it is. Sizes are bytes, -1 is "no limit"."""

    memory_limit: int | None = None
    memory_swap: int | None = None
    """Memory and swap together, as in v1 and in the runtime spec."""
    memory_reservation: int | None = None
    memory_swappiness: int | None = None
    memory_kernel: int | None = None
    memory_kernel_tcp: int | None = None
    disable_oom_killer: bool = False
    check_before_update: bool = False
    cpu_shares: int | None = None
    cpu_quota: int | None = None
    cpu_period: int | None = None
    cpu_burst: int | None = None
    cpu_idle: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str = ""
    mems: str = ""
    pids_limit: int | None = None
    block_weight: int | None = None
    block_leaf_weight: int | None = None
    block_limits: tuple[BlockLimit, ...] = ()
    hugepages: tuple[tuple[str, int], ...] = ()
    """(page size such as `2MB`, limit)."""
    class_id: int | None = None
    priorities: tuple[tuple[str, int], ...] = ()
    """(network interface, priority)."""
    rdma: tuple[RdmaLimit, ...] = ()
    unified: tuple[tuple[str, str], ...] = ()
    devices: tuple[DeviceRule, ...] | None = None
    """The spec's own rules in their order; None when it has none."""


class Write(Record):
    """One value for one file of a cgroup: what both planners decide and limits.py does."""

    controller: str
    file: str
    value: str
    field: str
    """The field of `linux.resources` that asked for it, for errors."""
    instead: tuple[tuple[str, str], ...] = ()
    """(file, value) to write where the kernel has no such file, in the order of preference."""
    may_lack: bool = False
    """The kernel may have no such file: then nothing is to be limited either."""
    may_wait: bool = False
    """EINVAL may mean that a later write has to come first: try once more at the end."""


#: Section of the spec -> its fields -> (field of Resources, type).
_FIELDS: dict[str, dict[str, tuple[str, type]]] = {
    "memory": {
        "limit": ("memory_limit", int), "swap": ("memory_swap", int), "reservation": ("memory_reservation", int),
        "swappiness": ("memory_swappiness", int), "kernel": ("memory_kernel", int), "kernelTCP": ("memory_kernel_tcp", int),
        "disableOOMKiller": ("disable_oom_killer", bool), "checkBeforeUpdate": ("check_before_update", bool),
    },
    "cpu": {
        "shares": ("cpu_shares", int), "quota": ("cpu_quota", int), "period": ("cpu_period", int), "burst": ("cpu_burst", int),
        "idle": ("cpu_idle", int), "realtimeRuntime": ("realtime_runtime", int), "realtimePeriod": ("realtime_period", int),
        "cpus": ("cpus", str), "mems": ("mems", str),
    },
    "pids": {"limit": ("pids_limit", int)},
    "blockIO": {"weight": ("block_weight", int), "leafWeight": ("block_leaf_weight", int)},
    "network": {"classID": ("class_id", int)},
}
#: Memory is always accounted for as a tree: the only way on v2, and on v1 since Linux 5.11.
_WITHOUT_EFFECT = ("memory.useHierarchy",)
_THROTTLES = ("throttleReadBpsDevice", "throttleWriteBpsDevice", "throttleReadIOPSDevice", "throttleWriteIOPSDevice")


def parse_resources(resources: Mapping[str, object]) -> Resources:
    """Return the limits of a `linux.resources` object.

    Raises Unsupported for a field that is not known, InvalidRequest for a value that makes no sense.
    """
    values: dict[str, Any] = {}
    for name, content in resources.items():
        if content is None:
            continue
        # Go's decoder, which runc reads with, does not mind the case, and callers rely on it.
        section = _SECTIONS.get(name.lower(), name)
        if section in _FIELDS:
            _parse_section(section, _object(section, content), values)
        elif section in _PARSERS:
            if content or section == "devices":
                target, parse = _PARSERS[section]
                values[target] = parse(content)
        elif content:
            raise Unsupported(f"apply resources.{section}: no such limit is known")
    return Resources(**values)


def _parse_section(section: str, content: dict[str, object], values: dict[str, Any]) -> None:
    fields = _FIELDS[section]
    for given, value in content.items():
        if value is None:
            continue
        name = _NAMES.get((section, given.lower()), given)
        field = f"resources.{section}.{name}"
        if name in fields:
            target, kind = fields[name]
            values[target] = _typed(field, value, kind)
        elif section == "blockIO" and (name == "weightDevice" or name in _THROTTLES):
            values["block_limits"] = (*values.get("block_limits", ()), *_parse_block(name, _list(field, value)))
        elif section == "network" and name == "priorities":
            values["priorities"] = tuple(_parse_priority(_object(field, item)) for item in _list(field, value))
        elif value and f"{section}.{name}" not in _WITHOUT_EFFECT:
            raise Unsupported(f"apply {field}: no such limit is known")


def _parse_block(name: str, items: list[object]) -> list[BlockLimit]:
    field = f"resources.blockIO.{name}"
    limits = []
    for item in items:
        entry = _object(field, item)
        device = f"{_number(field, entry.get('major'))}:{_number(field, entry.get('minor'))}"
        kinds = {"weight": "weight", "leafWeight": "leafWeight"} if name == "weightDevice" else {name: "rate"}
        rows = [(kind, entry[key]) for kind, key in kinds.items() if entry.get(key) is not None]
        if not rows:
            raise InvalidRequest(f"apply {field}: device {device} has no {' or '.join(kinds.values())}")
        limits += [BlockLimit(kind=kind, device=device, value=_number(field, value)) for kind, value in rows]
    return limits


def _parse_priority(entry: dict[str, object]) -> tuple[str, int]:
    field = "resources.network.priorities"
    return _word(field, entry.get("name")), _number(field, entry.get("priority", 0))


def _parse_hugepages(content: object) -> tuple[tuple[str, int], ...]:
    field = "resources.hugepageLimits"
    limits = []
    for item in _list(field, content):
        entry = _object(field, item)
        size = entry.get("pageSize", entry.get("pagesize"))
        # It becomes part of a file's name.
        if not isinstance(size, str) or not size[:-2].isascii() or not size[:-2].isdigit() or size[-2:] not in ("KB", "MB", "GB"):
            raise InvalidRequest(f"apply {field}: {size!r} is not a page size such as 2MB")
        limits.append((size, _number(field, entry.get("limit"))))
    return tuple(limits)


def _parse_rdma(content: object) -> tuple[RdmaLimit, ...]:
    limits = []
    for device, item in _object("rdma", content).items():
        field = f"resources.rdma.{device}"
        entry = _object(field, item)
        handles, objects = (
            None if entry.get(key) is None else _number(field, entry[key]) for key in ("hcaHandles", "hcaObjects")
        )
        if handles is None and objects is None:
            raise InvalidRequest(f"apply {field}: neither hcaHandles nor hcaObjects")
        limits.append(RdmaLimit(device=_word(field, device), handles=handles, objects=objects))
    return tuple(limits)


def _parse_unified(content: object) -> tuple[tuple[str, str], ...]:
    settings = _object("unified", content)
    for name, value in settings.items():
        # It becomes a path: only a plain file of a controller, nothing that leads elsewhere, moves processes or
        # ends them. Of the core's own files those that limit are allowed.
        is_core = name.startswith("cgroup.") and not name.startswith(("cgroup.max.", "cgroup.pressure"))
        if "/" in name or "." not in name.strip(".") or is_core:
            raise InvalidRequest(f"apply resources.unified: {name!r} is not a setting of a controller")
        if not isinstance(value, str | int):
            raise InvalidRequest(f"apply resources.unified.{name}: {value!r} is not a text")
    return tuple((name, str(value)) for name, value in settings.items())


def _parse_devices(content: object) -> tuple[DeviceRule, ...]:
    if not content:
        return ()
    from .devices import parse_rules  # cold: only who has rules needs it

    return parse_rules(content)


_PARSERS: dict[str, tuple[str, Any]] = {
    "hugepageLimits": ("hugepages", _parse_hugepages), "rdma": ("rdma", _parse_rdma), "unified": ("unified", _parse_unified),
    "devices": ("devices", _parse_devices),
}


_SECTIONS = {name.lower(): name for name in (*_FIELDS, *_PARSERS)}
_NAMES = {(section, name.lower()): name for section, fields in _FIELDS.items() for name in fields}


def _typed(field: str, value: object, kind: type) -> object:
    if type(value) is kind:
        return value
    raise InvalidRequest(f"apply {field}: {value!r} is not {_KINDS[kind]}")


_KINDS = {int: "a whole number", str: "a text", bool: "true or false"}


def _number(field: str, value: object) -> int:
    if type(value) is not int or value < 0:
        raise InvalidRequest(f"apply {field}: {value!r} is not a whole number of 0 or more")
    return value


def _word(field: str, value: object) -> str:
    """Return a name that goes into a line of words: without blanks or control characters."""
    if not isinstance(value, str) or not value or not value.isprintable() or " " in value:
        raise InvalidRequest(f"apply {field}: {value!r} is not a name")
    return value


def _object(field: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise InvalidRequest(f"apply resources.{field.removeprefix('resources.')}: not an object")
    return value


def _list(field: str, value: object) -> list[object]:
    if not isinstance(value, list | tuple):
        raise InvalidRequest(f"apply {field}: not a list")
    return list(value)
