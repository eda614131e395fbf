"""The judge's part on networks themselves: what `network create` was given -> NetworkRequest.

Same promise as engine/request.py: nothing behind it looks at user input again, and everything that is wrong with the
input alone is InvalidRequest here. What depends on the machine and on other networks is networks.py's.
"""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest
from mydocker.base.record import Record
from mydocker.linux.netlink import format_address, parse_address
from mydocker.network.ipam import special_addresses
from mydocker.network.model import BRIDGE, DRIVERS, MACVLAN, Subnet, parse_subnet

from .request import flag, judge_labels, judge_name, text_line, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, TypedDict

    class NetworkOptions(TypedDict, total=False):
        """Keywords of `engine.networks.create`: the options of `mydocker network create`."""

        driver: str
        subnet: str | Iterable[str]
        ip_range: str | Iterable[str]
        gateway: str | Iterable[str]
        internal: bool
        ipv6: bool
        label: str | Iterable[str] | Mapping[str, str]
        opt: str | Iterable[str] | Mapping[str, str]

#: Names with a meaning of their own in `--network`.
RESERVED = ("bridge", "default", "host", "none", "container")
MTU = "com.docker.network.driver.mtu"
_MACVLAN_MODES = ("bridge", "private", "vepa", "passthru")
_IPVLAN_MODES = ("l2", "l3", "l3s")
_MIN_MTU, _MAX_MTU = 68, 65535
#: More IPv4 addresses than that no network has, and no bridge could serve.
_MIN_PREFIX = {32: 8, 128: 8}
_KEYS = ("driver", "subnet", "ip_range", "gateway", "internal", "ipv6", "label", "opt")


class NetworkRequest(Record):
    """What a network is to be; without `subnets` one is chosen, with `wants_ipv6` one of each kind."""

    name: str
    driver: str = BRIDGE
    subnets: tuple[Subnet, ...] = ()
    internal: bool = False
    wants_ipv6: bool = False
    parent: str = ""
    mode: str = ""
    mtu: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()


def judge_network(name: Any, options: Mapping[str, Any]) -> NetworkRequest:
    """Return the judged request. Raises InvalidRequest."""
    name = judge_name(name, "network name")
    if name in RESERVED:
        raise InvalidRequest(f"network name {name!r} has a meaning of its own in --network", hint="choose another name")
    for key in options:
        if key not in _KEYS:
            raise InvalidRequest(f"network create: unknown option {key}", hint=f"options are {', '.join(_KEYS)}")
    driver = text_line(options.get("driver") or BRIDGE, "driver")
    if driver not in DRIVERS:
        raise InvalidRequest(f"network driver {driver!r} is not known", hint=f"drivers are {', '.join(DRIVERS)}")
    subnets = judge_subnets(options)
    request = NetworkRequest(
        name=name, driver=driver, subnets=subnets, internal=flag(options.get("internal", False), "internal"),
        wants_ipv6=flag(options.get("ipv6", False), "ipv6") or any(subnet.bits == 128 for subnet in subnets),
        labels=judge_labels(options.get("label") or (), "label"), **_judge_driver(driver, options.get("opt") or ()))
    if driver != BRIDGE and not any(subnet.bits == 32 for subnet in subnets):
        raise InvalidRequest(
            f"network driver {driver} needs --subnet: the one of the network that its parent is on",
            hint="such as --subnet 192.168.1.0/24 --gateway 192.168.1.1")
    return request


def judge_subnets(options: Mapping[str, Any]) -> tuple[Subnet, ...]:
    """Return the subnets, at most one of each kind, with their gateways and ranges. Raises InvalidRequest."""
    subnets: dict[int, Subnet] = {}
    for text in words(options.get("subnet"), "subnet"):
        packed, prefix = _subnet(text, "subnet")
        bits = len(packed) * 8
        if bits in subnets:
            raise InvalidRequest(f"subnet {text}: a network has one IPv{4 if bits == 32 else 6} subnet")
        if not _MIN_PREFIX[bits] <= prefix <= bits - 1:
            raise InvalidRequest(f"subnet {text}: its prefix must be from {_MIN_PREFIX[bits]} to {bits - 1}")
        first = int.from_bytes(packed) + (1 if prefix < bits - 1 else 0)
        subnets[bits] = Subnet(packed=packed, prefix=prefix, gateway=first.to_bytes(bits // 8))
    for text in words(options.get("ip_range"), "ip_range"):
        packed, prefix = _subnet(text, "ip_range")
        subnet = _subnet_of(subnets, packed, f"ip_range {text}")
        if prefix < subnet.prefix:
            raise InvalidRequest(f"ip_range {text} is larger than subnet {subnet.text}")
        subnets[subnet.bits] = subnet.replace(range_packed=packed, range_prefix=prefix)
    for text in words(options.get("gateway"), "gateway"):
        try:
            packed = parse_address(text)
        except OSError:
            raise InvalidRequest(f"gateway {text!r} is not an address") from None
        subnet = _subnet_of(subnets, packed, f"gateway {text}")
        if packed in special_addresses(subnet):
            raise InvalidRequest(f"gateway {text} stands for the subnet itself, or for everybody in it")
        subnets[subnet.bits] = subnet.replace(gateway=packed)
    return tuple(subnets.values())


def _subnet(text: str, what: str) -> tuple[bytes, int]:
    try:
        packed, prefix = parse_subnet(text)
    except (ValueError, OSError):
        raise InvalidRequest(f"{what} {text!r} is not ADDRESS/PREFIX", hint="write such as 10.5.0.0/16") from None
    if "/" not in text:
        raise InvalidRequest(f"{what} {text!r} has no prefix", hint="write such as 10.5.0.0/16")
    if parse_address(text.partition("/")[0]) != packed:
        raise InvalidRequest(
            f"{what} {text}: there are bits behind the prefix", hint=f"did you mean {format_address(packed)}/{prefix}?")
    return packed, prefix


def _subnet_of(subnets: dict[int, Subnet], packed: bytes, what: str) -> Subnet:
    subnet = subnets.get(len(packed) * 8)
    if subnet is None or not subnet.contains(packed):
        raise InvalidRequest(f"{what} is in no subnet of the network", hint="name the subnet with --subnet")
    return subnet


def _judge_driver(driver: str, value: Any) -> dict[str, Any]:
    items = value.items() if hasattr(value, "items") else (word.partition("=")[::2] for word in words(value, "opt"))
    options = {text_line(key, "opt"): text_line(str(text), "opt") for key, text in items}
    found: dict[str, Any] = {"options": tuple(options.items())}
    allowed = {MTU} if driver == BRIDGE else {MTU, "parent", f"{driver}_mode"}
    for key in options:
        if key not in allowed:
            raise InvalidRequest(f"opt {key!r} is none of driver {driver}", hint=f"it knows {', '.join(sorted(allowed))}")
    if MTU in options:
        found["mtu"] = _mtu(options[MTU])
    if driver != BRIDGE:
        found["parent"] = _device_name(options.get("parent", ""))
        modes = _MACVLAN_MODES if driver == MACVLAN else _IPVLAN_MODES
        found["mode"] = options.get(f"{driver}_mode", modes[0])
        if found["mode"] not in modes:
            raise InvalidRequest(f"opt {driver}_mode={found['mode']} is not known", hint=f"modes are {', '.join(modes)}")
    return found


def _mtu(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not _MIN_MTU <= int(text) <= _MAX_MTU:
        raise InvalidRequest(f"opt {MTU}={text} is not a number from {_MIN_MTU} to {_MAX_MTU}")
    return int(text)


def _device_name(text: str) -> str:
    if not 0 < len(text) < 16 or "/" in text or text in (".", "..") or any(letter.isspace() for letter in text):
        raise InvalidRequest(
            f"opt parent={text}: not the name of a network device", hint="name the machine's device, such as -o parent=eth0")
    return text


