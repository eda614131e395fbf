"""The limits of one container as plain numbers, out of the `linux.resources` of a runtime spec.

Pure. The translation to files is v1.py's and v2.py's; whether a number makes sense was judged
before (engine/request.py, oci/validate.py), and the kernel has the last word. A field that cannot
be applied is refused here by name, because a limit that is silently dropped is worse than none.
Source: opencontainers/runtime-spec, config-linux.md, "Control groups".
"""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest, Unsupported
from mydocker.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Resources(Record):
    """The limits to set; None or "" leaves a setting as it is. Sizes are bytes, -1 is "no limit"."""

    memory_limit: int | None = None
    memory_swap: int | None = None
    """Memory and swap together, as in v1 and in the runtime spec."""
    memory_reservation: int | None = None
    memory_swappiness: int | None = None
    cpu_shares: int | None = None
    cpu_quota: int | None = None
    cpu_period: int | None = None
    cpu_burst: int | None = None
    cpu_idle: int | None = None
    cpus: str = ""
    mems: str = ""
    pids_limit: int | None = None
    unified: tuple[tuple[str, str], ...] = ()


class Write(Record):
    """One value for one file of a cgroup: what both planners decide and the applying loop does."""

    controller: str
    file: str
    value: str
    field: str
    """The field of `linux.resources` that asked for it, for errors."""


#: Section of the spec -> its fields -> the field of Resources.
_FIELDS: dict[str, dict[str, str]] = {
    "memory": {
        "limit": "memory_limit", "swap": "memory_swap", "reservation": "memory_reservation",
        "swappiness": "memory_swappiness",
    },
    "cpu": {
        "shares": "cpu_shares", "quota": "cpu_quota", "period": "cpu_period", "burst": "cpu_burst", "idle": "cpu_idle",
        "cpus": "cpus", "mems": "mems",
    },
    "pids": {"limit": "pids_limit"},
}
_TEXT_FIELDS = ("cpus", "mems")

#: Fields without an effect of their own: memory is always accounted for as a tree, kernel memory has no
#: limit since Linux 5.16, and `checkBeforeUpdate` asks for what v1 does anyway.
_WITHOUT_EFFECT = ("memory.kernel", "memory.useHierarchy", "memory.checkBeforeUpdate")


def parse_resources(resources: Mapping[str, object]) -> Resources:
    """Return the limits of a `linux.resources` object.

    A new section (`blockIO`, `devices`, `hugepageLimits`, `rdma`) becomes a row of the table above,
    fields of Resources, and writes of the two planners; until then it is refused.
    Raises Unsupported for a field that cannot be applied, InvalidRequest for a value of a wrong type.
    """
    values: dict[str, Any] = {}
    for section, content in resources.items():
        if not content:
            continue
        if section == "unified":
            values["unified"] = _parse_unified(content)
            continue
        fields = _FIELDS.get(section)
        if fields is None or not isinstance(content, dict):
            raise Unsupported(f"apply resources.{section}: this limit is not implemented")
        for name, value in content.items():
            if name in fields:
                values[fields[name]] = _parse_value(f"{section}.{name}", value)
            elif value and f"{section}.{name}" not in _WITHOUT_EFFECT:
                raise Unsupported(f"apply resources.{section}.{name}: this limit is not implemented")
    return Resources(**values)


def _parse_value(field: str, value: object) -> int | str | None:
    expected = str if field.rpartition(".")[2] in _TEXT_FIELDS else int
    if value is None or type(value) is expected:
        return value
    kind = "a text" if expected is str else "a whole number"
    raise InvalidRequest(f"apply resources.{field}: {value!r} is not {kind}")


def _parse_unified(content: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(content, dict):
        raise InvalidRequest("apply resources.unified: not an object")
    for name in content:
        # It becomes a path: only a plain file of a controller, nothing that leads elsewhere or moves processes.
        if "/" in name or "." not in name.strip(".") or name.startswith("cgroup."):
            raise InvalidRequest(f"apply resources.unified: {name!r} is not a setting of a controller")
    return tuple((name, str(value)) for name, value in content.items())
