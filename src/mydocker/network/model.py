"""What a network and an endpoint are. Pure data; no I/O.

A *network* is a subnet or two on a bridge of its own (or, macvlan and ipvlan, on a device of the machine's). An *endpoint* is a
container on a network: a device inside, an address, and for a bridge the device outside that is its other end.
"""
from __future__ import annotations

from mydocker.base.record import Record
from mydocker.linux.netlink import AF_INET, format_address, parse_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_NETWORK = "bridge"
BRIDGE, MACVLAN, IPVLAN = "bridge", "macvlan", "ipvlan"
DRIVERS = (BRIDGE, MACVLAN, IPVLAN)


class Subnet(Record):
    """`packed` is the network's address in network order; `gateway` empty on an internal network of no bridge.

    `range_packed`/`range_prefix` is the part from which addresses are given; the whole by default.
    """

    packed: bytes
    prefix: int
    gateway: bytes = b""
    range_packed: bytes = b""
    range_prefix: int = 0

    @property
    def bits(self) -> int:
        """32 or 128."""
        return len(self.packed) * 8

    @property
    def text(self) -> str:
        """`10.1.0.0/16`."""
        return f"{format_address(self.packed)}/{self.prefix}"

    def contains(self, address: bytes) -> bool:
        """Tell whether an address is of this subnet."""
        if len(address) != len(self.packed):
            return False
        shift = self.bits - self.prefix
        return int.from_bytes(address) >> shift == int.from_bytes(self.packed) >> shift

    def to_document(self) -> dict[str, str]:
        """Return it for network/<name>.json."""
        return {
            "subnet": self.text, "gateway": format_address(self.gateway) if self.gateway else "",
            "ip_range": f"{format_address(self.range_packed)}/{self.range_prefix}" if self.range_packed else "",
        }

    @classmethod
    def from_document(cls, document: dict[str, str]) -> Subnet:
        """Return it from network/<name>.json, which `judge` wrote."""
        packed, prefix = parse_subnet(document["subnet"])
        range_packed, range_prefix = parse_subnet(document["ip_range"]) if document.get("ip_range") else (b"", 0)
        return cls(
            packed=packed, prefix=prefix, gateway=parse_address(document["gateway"]) if document.get("gateway") else b"",
            range_packed=range_packed, range_prefix=range_prefix)


def parse_subnet(text: str) -> tuple[bytes, int]:
    """Return (address of the network, prefix) of `10.1.0.0/16`. Raises ValueError, OSError."""
    address, slash, length = text.partition("/")
    packed = parse_address(address)
    prefix = int(length) if slash else len(packed) * 8
    if not 0 <= prefix <= len(packed) * 8:
        raise ValueError(text)
    shift = len(packed) * 8 - prefix
    return (int.from_bytes(packed) >> shift << shift).to_bytes(len(packed)), prefix


class Network(Record):
    """One network, as in network/<name>.json. `id` is twelve hexadecimal digits; `parent` the device of macvlan and ipvlan."""

    id: str
    name: str
    driver: str = BRIDGE
    subnets: tuple[Subnet, ...] = ()
    internal: bool = False
    parent: str = ""
    mode: str = ""
    mtu: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    created_ns: int = 0

    @property
    def bridge(self) -> str:
        """The name of its (first) bridge; device names have 15 letters at most."""
        return f"mb{self.id[:8]}"

    @property
    def ipv4(self) -> Subnet:
        """The IPv4 subnet, which every network has."""
        return next(subnet for subnet in self.subnets if subnet.bits == 32)

    @property
    def ipv6(self) -> Subnet | None:
        """The IPv6 subnet, if it has one."""
        return next((subnet for subnet in self.subnets if subnet.bits == 128), None)

    @property
    def has_names(self) -> bool:
        """Tell whether its containers find each other by name: on every network that a user made, as with docker."""
        return self.name != DEFAULT_NETWORK

    def to_document(self) -> dict[str, Any]:
        """Return it for network/<name>.json."""
        document = self.as_dict()
        document.update(
            version=1, subnets=[subnet.to_document() for subnet in self.subnets], labels=dict(self.labels),
            options=dict(self.options))
        return document

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Network:
        """Return it from network/<name>.json; keys that are not ours are left out."""
        values = {key: document[key] for key in cls._fields if key in document}
        values["subnets"] = tuple(Subnet.from_document(item) for item in document.get("subnets", ()))
        for key in ("labels", "options"):
            values[key] = tuple(document.get(key, {}).items())
        return cls(**values)


class EndpointRequest(Record):
    """What a container asks of one network: fixed addresses and a fixed MAC where not empty, names beside its own."""

    network: str
    ip: str = ""
    ip6: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> EndpointRequest:
        """Return it from the record of a container."""
        values = {key: document[key] for key in cls._fields if key in document}
        values["aliases"] = tuple(values.get("aliases", ()))
        return cls(**values)


class Endpoint(Record):
    """A container on a network, as it came to be. Addresses as text, "" where there is none."""

    network: str
    network_id: str
    interface: str
    host_interface: str
    mac: str
    ip: str
    prefix: int
    gateway: str = ""
    ip6: str = ""
    prefix6: int = 0
    gateway6: str = ""
    aliases: tuple[str, ...] = ()
    driver: str = BRIDGE
    internal: bool = False

    def way_out(self, family: int) -> str:
        """Return the gateway by which packets of a family get out of the network, "" where none does."""
        return "" if self.internal else self.gateway if family == AF_INET else self.gateway6

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Endpoint:
        """Return it from the record of a container."""
        values = {key: document[key] for key in cls._fields if key in document}
        values["aliases"] = tuple(values.get("aliases", ()))
        return cls(**values)
