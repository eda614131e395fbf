"""The judge's part on networks: options as typed or as Python values -> a network mode and EndpointRequests.

Same promise as engine/request.py, which calls this. That a network of the name exists is seen later (connecting.py): it
is no property of the input.
"""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest
from mydocker.linux.netlink import format_address, parse_address
from mydocker.network.model import EndpointRequest

from .request import is_name, judge_name, text_line, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_ALONE = ("none", "host")
_CONTAINER = "container:"


def judge_endpoints(options: Mapping[str, Any], values: dict[str, Any]) -> None:
    """Add `network` (the mode) and `endpoints` to the judge's values; fixed addresses and aliases are the first network's.

    Raises InvalidRequest.
    """
    names = judge_networks(options.get("network"), "network") or ["none"]
    values["network"] = ",".join(names)
    fixed: dict[str, Any] = {field: check(options[name], name) for name, (field, check) in _FIXED.items() if name in options}
    if names[0] in _ALONE or names[0].startswith(_CONTAINER):
        if fixed:
            raise InvalidRequest(f"{', '.join(fixed)}: only on a network, and this container has {names[0]}")
        return
    values["endpoints"] = tuple(
        EndpointRequest(network=name, **(fixed if number == 0 else {})) for number, name in enumerate(names))


def judge_networks(value: Any, what: str) -> list[str]:
    """Return names of networks, or one of none, host and container:NAME alone. Raises InvalidRequest."""
    names = words(value, what)
    for name in names:
        if not is_name(name.removeprefix(_CONTAINER)):
            raise InvalidRequest(
                f"{what} {name!r} is not a network",
                hint="use none, host, bridge, container:NAME, or a name of `mydocker network ls`")
    if len(names) > 1 and any(name in _ALONE or name.startswith(_CONTAINER) for name in names):
        raise InvalidRequest(f"{what}: none, host and container:NAME go with no other network")
    if len(set(names)) < len(names):
        raise InvalidRequest(f"{what}: the same network twice")
    return names


def judge_ipv4(value: Any, what: str) -> str:
    """Return an IPv4 address as text. Raises InvalidRequest."""
    return _address(value, what, 4)


def judge_ipv6(value: Any, what: str) -> str:
    """Return an IPv6 address as text, in its shortest form. Raises InvalidRequest."""
    return _address(value, what, 16)


def _address(value: Any, what: str, length: int) -> str:
    try:
        packed = parse_address(text_line(value, what))
    except OSError:
        packed = b""
    if len(packed) != length:
        raise InvalidRequest(f"{what} {value!r} is no IPv{4 if length == 4 else 6} address")
    return format_address(packed)


def judge_mac(value: Any, what: str) -> str:
    """Return a hardware address as `02:42:...`. Raises InvalidRequest."""
    parts = text_line(value, what).lower().replace("-", ":").split(":")
    if len(parts) != 6 or not all(len(part) == 2 and set(part) <= set("0123456789abcdef") for part in parts):
        raise InvalidRequest(f"{what} {value!r} is not a hardware address", hint="write such as 02:42:ac:11:00:02")
    if int(parts[0], 16) & 1:
        raise InvalidRequest(f"{what} {value!r} is the address of a group, not of a device")
    return ":".join(parts)


def judge_aliases(value: Any, what: str) -> tuple[str, ...]:
    """Return names that a container has on a network. Raises InvalidRequest."""
    return tuple(judge_name(word, what) for word in words(value, what))


_FIXED = {
    "ip": ("ip", judge_ipv4), "ip6": ("ip6", judge_ipv6), "mac_address": ("mac", judge_mac),
    "network_alias": ("aliases", judge_aliases),
}
