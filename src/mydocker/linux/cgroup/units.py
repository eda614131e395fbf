"""A cgroup as a unit of systemd: names, and limits as the unit's properties. Pure.

systemd writes a unit's settings again whenever it likes, so what is limited must be known to it, or it is undone. What it
has no property for is written into the files all the same (limits.py). Source: systemd.resource-control(5),
systemd.scope(5), org.freedesktop.systemd1(5); opencontainers/cgroups systemd/ for the conversions.
"""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest
from mydocker.base.record import Record

from .devices import ANY, build_allow_list, format_access
from .v2 import convert_shares_to_weight, swap_max

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .devices import AllowList
    from .resources import Resources

#: A property: its name, the signature and the value of its variant.
Property = tuple[str, tuple[str, "Any"]]

INFINITY = (1 << 64) - 1
_DEFAULT_PERIOD_US = 100_000
#: Annotations with this prefix are properties of the unit, as podman's `--annotation` and Kubernetes use them with runc.
_ANNOTATION = "org.systemd.property."


class UnitName(Record):
    """Where a container is: the unit, its slice, and both as a path in each hierarchy."""

    unit: str
    slice: str

    @property
    def path(self) -> str:
        """The cgroup of the unit, below the root of what the service manager has."""
        return f"{expand_slice(self.slice)}/{self.unit}"


def parse_unit(cgroups_path: str, container_id: str, *, is_user: bool) -> UnitName:
    """Return the unit of a `linux.cgroupsPath` of the form `slice:prefix:name`; without one, a scope in the usual slice.

    Raises InvalidRequest.
    """
    usual = "user.slice" if is_user else "system.slice"
    if not cgroups_path:
        return UnitName(unit=f"mydocker-{container_id}.scope", slice=usual)
    parts = cgroups_path.split(":")
    if len(parts) != 3 or not parts[2]:
        raise InvalidRequest(
            f"use cgroupsPath {cgroups_path!r} with --systemd-cgroup: expected cgroupsPath to be of format \"slice:prefix:name\"",
            hint="such as system.slice:mydocker:web; leave --systemd-cgroup out to use a path",
        )
    slice_name, prefix, name = parts
    if any("/" in part or not part.isprintable() for part in parts):
        raise InvalidRequest(f"use cgroupsPath {cgroups_path!r}: a unit's name has no /")
    expand_slice(slice_name or usual)
    unit = name if name.endswith(".slice") else f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    return UnitName(unit=unit, slice=slice_name or usual)


def expand_slice(name: str) -> str:
    """Return the path of a slice: `a-b.slice` is `/a.slice/a-b.slice`. Raises InvalidRequest."""
    stem = name.removesuffix(".slice")
    if stem == name or not stem or "/" in name:
        raise InvalidRequest(f"use slice {name!r}: not the name of a slice")
    if stem == "-":
        return ""
    words = stem.split("-")
    if "" in words:
        raise InvalidRequest(f"use slice {name!r}: not the name of a slice")
    return "".join(f"/{'-'.join(words[: depth + 1])}.slice" for depth in range(len(words)))


def plan_unit(name: UnitName, container_id: str, pid: int) -> list[Property]:
    """Return the properties that make the unit what it is; `pid` is in it from the start."""
    is_slice = name.unit.endswith(".slice")
    accounting = ("MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting")
    return [
        ("Description", ("s", f"mydocker container {container_id}")),
        # A slice has its parent in its name, and its Wants= has it made; a scope is put there. What is below is ours.
        *([("Wants", ("as", [name.slice]))] if is_slice else [("Slice", ("s", name.slice)), ("Delegate", ("b", True))]),
        *([] if is_slice else [("PIDs", ("au", [pid]))]),
        *((word, ("b", True)) for word in accounting),
        ("DefaultDependencies", ("b", False)),
    ]


def plan_properties(limits: Resources, *, is_v1: bool, version: int) -> list[Property]:
    """Return the limits as properties; those that systemd has no property for are left out."""
    properties: list[Property] = []

    def add(name: str, value: int | None) -> None:
        if value is not None:
            properties.append((name, ("t", INFINITY if value < 0 else value)))

    add("MemoryLimit" if is_v1 else "MemoryMax", limits.memory_limit or None)
    if not is_v1:
        add("MemoryLow", limits.memory_reservation or None)
        swap = swap_max(limits.memory_limit, limits.memory_swap)
        add("MemorySwapMax", None if swap is None else -1 if swap == "max" else int(swap))
    if is_v1:
        add("CPUShares", limits.cpu_shares or None)
        add("BlockIOWeight", limits.block_weight or None)
    elif limits.cpu_idle and version >= 252:
        add("CPUWeight", 0)  # systemd's word for cpu.idle
    elif limits.cpu_shares:
        add("CPUWeight", convert_shares_to_weight(limits.cpu_shares))
    properties += plan_quota(limits.cpu_quota or 0, limits.cpu_period or 0)
    add("TasksMax", None if limits.pids_limit is None else limits.pids_limit or 1)
    for name, text in (("AllowedCPUs", limits.cpus), ("AllowedMemoryNodes", limits.mems)):
        if text:
            properties.append((name, ("ay", parse_mask(text))))
    return properties + _plan_unified(dict(limits.unified))


def plan_quota(quota: int, period: int) -> list[Property]:
    """Return a quota of cpu time as systemd has it: per second of a cpu, in whole percents, rounded up. 0 is "not set"."""
    if not quota and not period:
        return []
    per_second = INFINITY
    if quota > 0:
        per_second = quota * 1_000_000 // (period or _DEFAULT_PERIOD_US)
        per_second += -per_second % 10_000
    return [*([("CPUQuotaPeriodUSec", ("t", period))] if period else []), ("CPUQuotaPerSecUSec", ("t", per_second))]


def parse_mask(text: str) -> bytes:
    """Return the bits of `0-2,7`, the first byte first. Raises InvalidRequest."""
    mask = 0
    try:
        for part in text.replace(" ", "").split(","):
            if part:
                first, _, last = part.partition("-")
                low, high = int(first), int(last or first)
                if not 0 <= low <= high < 1 << 16:
                    raise ValueError
                mask |= (1 << (high + 1)) - (1 << low)
    except ValueError:
        raise InvalidRequest(f"apply resources.cpu: {text!r} is not a list such as 0-2,7") from None
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


def _plan_unified(settings: Mapping[str, str]) -> list[Property]:
    """Return those settings of `unified` that systemd has a property for."""
    names = {
        "memory.min": "MemoryMin", "memory.low": "MemoryLow", "memory.high": "MemoryHigh", "memory.max": "MemoryMax",
        "memory.swap.max": "MemorySwapMax", "pids.max": "TasksMax", "cpu.weight": "CPUWeight",
    }
    properties: list[Property] = []
    for file, value in settings.items():
        words = value.split()
        if file in names and words:
            number = INFINITY if words[0] == "max" else _whole(file, words[0])
            properties.append((names[file], ("t", number or 1 if file == "pids.max" else number)))
        elif file in ("cpuset.cpus", "cpuset.mems"):
            properties.append(("AllowedCPUs" if file == "cpuset.cpus" else "AllowedMemoryNodes", ("ay", parse_mask(value))))
        elif file == "cpu.max" and words:
            quota = -1 if words[0] == "max" else _whole(file, words[0])
            properties += plan_quota(quota, _whole(file, words[1]) if len(words) > 1 else _DEFAULT_PERIOD_US)
    return properties


def _whole(file: str, word: str) -> int:
    if not word.isdigit():
        raise InvalidRequest(f"apply resources.unified.{file}: {word!r} is not a number")
    return int(word)


def plan_devices(limits: Resources) -> list[Property]:
    """Return the device rules as properties: without them systemd would allow everything again on cgroup v1.

    It knows lists of the allowed only. Of a list of the denied it hears "nothing", and ours is put in force behind it.
    """
    target = build_allow_list(limits.devices or ())
    # An empty list clears what an earlier one has left.
    clear: list[Property] = [("DeviceAllow", ("a(ss)", []))]
    if target.allows_all:
        return [*clear, ("DevicePolicy", ("s", "auto"))]
    return [*clear, ("DevicePolicy", ("s", "strict")), *_plan_allowed(target)]


def _plan_allowed(target: AllowList) -> list[Property]:
    if target.allows_by_default:
        return []
    allowed = []
    for (kind, major, minor), access in target.sorted_rules():
        word = "char" if kind == "c" else "block"
        if major == ANY and minor != ANY:
            continue  # there is no way to say this
        place = f"{word}-*" if major == ANY else f"{word}-{major}" if minor == ANY else f"/dev/{word}/{major}:{minor}"
        allowed.append((place, format_access(access)))
    return [("DeviceAllow", ("a(ss)", allowed))]


def plan_annotations(annotations: Mapping[str, str]) -> list[Property]:
    """Return the properties that annotations ask for: `org.systemd.property.TimeoutStopUSec: "uint64 5000000"`.

    Texts in GVariant's notation, as runc takes them: numbers with a type before them or plain, quoted strings, true and
    false, and lists of strings. A name ending in Sec is given in seconds and becomes microseconds. Raises InvalidRequest.
    """
    properties: list[Property] = []
    for key, text in annotations.items():
        if not key.startswith(_ANNOTATION):
            continue
        name = key.removeprefix(_ANNOTATION)
        if len(name) < 3 or not name.isascii() or not name.isalpha():
            raise InvalidRequest(f"annotation {key}: {name!r} is not the name of a property")
        kind, value = _parse_variant(key, text.strip())
        if name.endswith("Sec") and name[:-3][-1:].islower():
            if kind not in _INTEGERS.values():
                raise InvalidRequest(f"annotation {key}: {text!r} is not a number of seconds")
            name, kind, value = f"{name[:-3]}USec", "t", int(value * 1_000_000)
        properties.append((name, (kind, value)))
    return properties


_INTEGERS = {"byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "int64": "x", "uint64": "t"}


def _parse_variant(key: str, text: str) -> tuple[str, Any]:
    word, _, rest = text.partition(" ")
    kind, digits = (_INTEGERS[word], rest.strip()) if word in _INTEGERS else ("i", text)
    if digits.lstrip("-").isdigit():
        return kind, int(digits)
    if text in ("true", "false"):
        return "b", text == "true"
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" and "\\" not in text and text[0] not in text[1:-1]:
        return "s", text[1:-1]
    if text.startswith("[") and text.endswith("]"):
        items = [_parse_variant(key, item.strip()) for item in text[1:-1].split(",")]
        if all(item[0] == "s" for item in items):
            return "as", [item[1] for item in items]
    raise InvalidRequest(
        f"annotation {key}: {text!r} is not a value that can be read", hint="such as 'text', true, uint64 5, ['a', 'b']")
