"""The judge's part on networks: options as typed or as Python values -> a network mode and EndpointRequests.

Same promise as engine/request.py, which calls this. That a network of the name exists is seen later (connecting.py): it
is no property of the input.
"""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest
from mydocker.linux.netlink import format_address, parse_address
from mydocker.network.model import DEFAULT_NETWORK, EndpointRequest

from .request import is_name, judge_name, text_line, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_PORTS = frozenset(("publish", "publish_all", "expose"))
HOST_GATEWAY = "host-gateway"
_ALONE = ("none", "host")
_CONTAINER = "container:"


def judge_endpoints(options: Mapping[str, Any], values: dict[str, Any]) -> None:
    """Add `network` (the mode) and `endpoints` to the judge's values; fixed addresses and aliases are the first network's.

    Raises InvalidRequest.
    """
    requests = judge_networks(options.get("network"), "network") or [EndpointRequest(network=DEFAULT_NETWORK)]
    values["network"] = ",".join(request.network for request in requests)
    fixed: dict[str, Any] = {field: check(options[name], name) for name, (field, check) in _FIXED.items() if name in options}
    if not _NAMES.isdisjoint(options):
        from .name_options import judge_names  # cold

        judge_names(options, values)
    mode = requests[0].network
    if not _PORTS.isdisjoint(options):
        from .ports import judge_ports  # cold

        judge_ports(options, values)
    if _is_alone(mode):
        _refuse_without_network(mode, fixed, values)
        return
    values["endpoints"] = (_with_fixed(requests[0], fixed), *requests[1:])


def _with_fixed(request: EndpointRequest, fixed: dict[str, Any]) -> EndpointRequest:
    """Return the first network's request with the options that stand apart; `--network name=...,ip=...` may not say it again."""
    for field, value in fixed.items():
        if field == "aliases":
            fixed["aliases"] = (*request.aliases, *value)
        elif getattr(request, field):
            raise InvalidRequest(f"{field} of network {request.network}: said twice")
    return request.replace(**fixed)


def _refuse_without_network(mode: str, fixed: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    if fixed:
        raise InvalidRequest(f"{', '.join(fixed)}: only on a network, and this container has {mode}")
    if values.get("links"):
        raise InvalidRequest(f"link: only on a network, and this container has {mode}")
    if mode.startswith(_CONTAINER):
        for field in ("dns", "dns_search", "dns_options", "extra_hosts"):
            if values.get(field):
                raise InvalidRequest(f"{field} conflicts with network {mode}: the files are that container's")
    if mode == "none" and any(address == HOST_GATEWAY for _, address in values.get("extra_hosts", ())):
        raise InvalidRequest("add_host host-gateway: the container has no network")


def _is_alone(mode: str) -> bool:
    return mode in _ALONE or mode.startswith(_CONTAINER)


def judge_endpoint(network: str, options: Mapping[str, Any]) -> EndpointRequest:
    """Return what a container asks of one more network; options that are empty are not given. Raises InvalidRequest."""
    fixed: dict[str, Any] = {
        field: check(options[name], name) for name, (field, check) in _FIXED.items() if options.get(name)}
    return EndpointRequest(network=network, **fixed)


def judge_networks(value: Any, what: str) -> list[EndpointRequest]:
    """Return what is asked of each network, or one request for none, host or container:NAME alone. Raises InvalidRequest."""
    requests = [_judge_network(word, what) for word in words(value, what)]
    names = [request.network for request in requests]
    if len(names) > 1 and any(_is_alone(name) for name in names):
        raise InvalidRequest(f"{what}: none, host and container:NAME go with no other network")
    if len(set(names)) < len(names):
        raise InvalidRequest(f"{what}: the same network twice")
    return requests


def _judge_network(word: str, what: str) -> EndpointRequest:
    """Return the request of `NAME`, or of `name=NAME,alias=...,ip=...,ip6=...,mac-address=...` as docker has it."""
    fields: dict[str, Any] = {}
    name = word
    if "=" in word:
        name = ""
        for item in word.split(","):
            key, _, value = item.partition("=")
            if key == "name":
                name = value
            elif key == "alias":
                fields["aliases"] = (*fields.get("aliases", ()), *judge_aliases(value, what))
            elif key in _LONG:
                field, check = _FIXED[_LONG[key]]
                fields[field] = check(value, f"{what} {key}")
            else:
                raise InvalidRequest(f"{what} {word!r}: unknown {key!r}", hint=f"name, alias, {', '.join(_LONG)} are known")
    if not is_name(name.removeprefix(_CONTAINER)):
        raise InvalidRequest(
            f"{what} {name!r} is not a network",
            hint="use none, host, bridge, container:NAME, or a name of `mydocker network ls`")
    return EndpointRequest(network="bridge" if name == "default" else name, **fields)


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


_LONG = {"ip": "ip", "ip6": "ip6", "mac-address": "mac_address"}
_NAMES = frozenset(("dns", "dns_search", "dns_option", "add_host", "link"))
