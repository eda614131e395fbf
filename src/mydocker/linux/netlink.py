"""Network devices, addresses and routes by netlink: only what containers need, nothing imported that is not here.

A `Route` is one socket to the kernel, bound to the network namespace in which it was opened, for good: one that
was opened inside a container's namespace configures that one from anywhere. Requests go out many at a time and are
answered one by one; the first refusal is raised. Any import of a complete library would cost more than the whole start of
a container (docs/decisions/0005-networking.md).

Source: netlink(7), rtnetlink(7), include/uapi/linux/{rtnetlink,if_link,if_addr,veth}.h. Numbers are in the machine's byte
order, addresses in the network's.
"""
from __future__ import annotations

import _socket
import os
import struct

from mydocker.base.record import Record

from . import syscalls as sc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self, TypeVar

    T = TypeVar("T")

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")
_IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFADDR = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst length, src length, tos, table, protocol, scope, type, flags

_NETLINK_ROUTE = 0
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_EXCL, _NLM_F_CREATE, _NLM_F_DUMP = 0x1, 0x4, 0x200, 0x400, 0x300
_NLM_F_REPLACE = 0x100
_SOL_NETLINK, _NETLINK_EXT_ACK = 270, 11
_NLM_F_ACK_TLVS, _NLM_F_CAPPED, _NLMSGERR_ATTR_MSG = 0x200, 0x100, 1

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_RTM_NEWLINKPROP = 108

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
_IFLA_IFALIAS, _IFLA_NET_NS_FD, _IFLA_ALT_IFNAME, _IFLA_PROP_LIST = 20, 28, 53, 52
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFLA_INFO_SLAVE_KIND, _IFLA_INFO_SLAVE_DATA, _IFLA_BRPORT_MODE = 4, 5, 4
_NESTED = 0x8000
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 5, 6, 7, 15
_IFA_F_NODAD = 0x02
_RT_TABLE_MAIN, _RT_TABLE_LOCAL, _RTPROT_STATIC, _RTN_UNICAST, _RTN_LOCAL = 254, 255, 4, 1, 2
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK = 0, 253
_LAST_PRIORITY = 2048
IFF_UP = 1
AF_INET, AF_INET6 = 2, 10


class Address(Record):
    """An address of a device: `packed` in network order, `prefix` its length."""

    family: int
    packed: bytes
    prefix: int


class Link(Record):
    """A network device as the kernel lists it."""

    index: int
    name: str
    master: int
    is_up: bool
    kind: str = ""
    mac: str = ""
    peer: int = 0
    """The other end of a veth, the parent of a macvlan: a number that may be of another namespace."""
    alias: str = ""


class RouteEntry(Record):
    """A route of the main table: an empty destination is the default route; `device` 0 is none."""

    family: int
    packed: bytes
    prefix: int
    device: int


def attribute(kind: int, payload: bytes) -> bytes:
    """Return one attribute, padded."""
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + b"\0" * (-length % 4)


def text_attribute(kind: int, text: str) -> bytes:
    """Return an attribute that holds a name."""
    return attribute(kind, text.encode() + b"\0")


def number_attribute(kind: int, number: int) -> bytes:
    """Return an attribute that holds 32 bits."""
    return attribute(kind, struct.pack("=I", number))


def parse_attributes(data: bytes) -> dict[int, bytes]:
    """Return the attributes of a message by their kind."""
    found: dict[int, bytes] = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = data[at + _ATTRIBUTE.size : at + length]
        at += length + (-length % 4)
    return found


class Message(Record):
    """One request before it has a number: type, flags beside REQUEST and ACK, and its body. `what` is for errors."""

    kind: int
    flags: int
    body: bytes
    what: str


def new_bridge(name: str, *, mac: str = "", mtu: int = 0) -> Message:
    """Make a bridge, up. Fails with EEXIST when there is one of the name."""
    body = _IFINFO.pack(0, 0, 0, IFF_UP, IFF_UP) + text_attribute(_IFLA_IFNAME, name)
    if mac:
        body += attribute(_IFLA_ADDRESS, parse_mac(mac))
    if mtu:
        body += number_attribute(_IFLA_MTU, mtu)
    body += attribute(_IFLA_LINKINFO | _NESTED, text_attribute(_IFLA_INFO_KIND, "bridge"))
    return Message(kind=_RTM_NEWLINK, flags=_NLM_F_CREATE | _NLM_F_EXCL, body=body, what=f"make bridge {name}")


def new_veth(
    name: str, *, master: int, peer: str, peer_ns_fd: int = -1, peer_mac: str = "", mtu: int = 0, up: bool = True,
) -> Message:
    """Make a pair of devices: `name` here, up and a port of bridge `master` (0: of none), and `peer` in another namespace.

    The peer is left down: the kernel would bring it up before the two know each other, and refuse that.
    """
    flags = IFF_UP if up else 0
    inner = _IFINFO.pack(0, 0, 0, 0, 0) + text_attribute(_IFLA_IFNAME, peer)
    if peer_mac:
        inner += attribute(_IFLA_ADDRESS, parse_mac(peer_mac))
    if mtu:
        inner += number_attribute(_IFLA_MTU, mtu)
    if peer_ns_fd >= 0:
        inner += number_attribute(_IFLA_NET_NS_FD, peer_ns_fd)
    info = text_attribute(_IFLA_INFO_KIND, "veth") + attribute(
        _IFLA_INFO_DATA | _NESTED, attribute(_VETH_INFO_PEER | _NESTED, inner))
    body = _IFINFO.pack(0, 0, 0, flags, flags) + text_attribute(_IFLA_IFNAME, name)
    if mtu:
        body += number_attribute(_IFLA_MTU, mtu)
    if master:
        body += number_attribute(_IFLA_MASTER, master)
    body += attribute(_IFLA_LINKINFO | _NESTED, info)
    return Message(kind=_RTM_NEWLINK, flags=_NLM_F_CREATE | _NLM_F_EXCL, body=body, what=f"make network device {name}")


def new_virtual(name: str, *, kind: str, parent: int, data: bytes = b"", ns_fd: int = -1, mac: str = "") -> Message:
    """Make a macvlan or ipvlan on the device `parent`, in another namespace when `ns_fd` is given. `data` are its attributes."""
    body = _IFINFO.pack(0, 0, 0, 0, 0) + text_attribute(_IFLA_IFNAME, name) + number_attribute(_IFLA_LINK, parent)
    if mac:
        body += attribute(_IFLA_ADDRESS, parse_mac(mac))
    if ns_fd >= 0:
        body += number_attribute(_IFLA_NET_NS_FD, ns_fd)
    info = text_attribute(_IFLA_INFO_KIND, kind) + (attribute(_IFLA_INFO_DATA | _NESTED, data) if data else b"")
    body += attribute(_IFLA_LINKINFO | _NESTED, info)
    return Message(kind=_RTM_NEWLINK, flags=_NLM_F_CREATE | _NLM_F_EXCL, body=body, what=f"make network device {name} ({kind})")


def change_link(index: int, *, up: bool | None = None, master: int | None = None, name: str = "") -> Message:
    """Bring a device up or down, make it a port of a bridge (0: of none), rename it."""
    flags, change = (IFF_UP if up else 0, IFF_UP) if up is not None else (0, 0)
    body = _IFINFO.pack(0, 0, index, flags, change)
    if master is not None:
        body += number_attribute(_IFLA_MASTER, master)
    if name:
        body += text_attribute(_IFLA_IFNAME, name)
    return Message(kind=_RTM_NEWLINK, flags=0, body=body, what=f"change network device {index}")


def change_alias(name: str, text: bytes) -> Message:
    """Have a device say something about itself, in 255 bytes at most (what makes a device takes no alias)."""
    body = _IFINFO.pack(0, 0, 0, 0, 0) + text_attribute(_IFLA_IFNAME, name) + attribute(_IFLA_IFALIAS, text + b"\0")
    return Message(kind=_RTM_NEWLINK, flags=0, body=body, what=f"describe network device {name}")


def allow_hairpin(name: str) -> Message:
    """Let a port of a bridge send back what came by it (with br_netfilter addresses change before a port is chosen)."""
    info = text_attribute(_IFLA_INFO_SLAVE_KIND, "bridge") + attribute(
        _IFLA_INFO_SLAVE_DATA | _NESTED, attribute(_IFLA_BRPORT_MODE, b"\1"))
    body = _IFINFO.pack(0, 0, 0, 0, 0) + text_attribute(_IFLA_IFNAME, name) + attribute(_IFLA_LINKINFO | _NESTED, info)
    return Message(kind=_RTM_NEWLINK, flags=0, body=body, what=f"change bridge port {name}")


def add_alternative_name(index: int, name: str) -> Message:
    """Give a device one more name, unique among all names of the namespace (Linux 5.5)."""
    body = _IFINFO.pack(0, 0, index, 0, 0) + attribute(_IFLA_PROP_LIST | _NESTED, text_attribute(_IFLA_ALT_IFNAME, name))
    return Message(
        kind=_RTM_NEWLINKPROP, flags=_NLM_F_CREATE | _NLM_F_EXCL, body=body, what=f"name network device {index} {name}")


def delete_link(name: str) -> Message:
    """Remove a device by its name."""
    body = _IFINFO.pack(0, 0, 0, 0, 0) + text_attribute(_IFLA_IFNAME, name)
    return Message(kind=_RTM_DELLINK, flags=0, body=body, what=f"remove network device {name}")


def add_address(index: int, address: Address) -> Message:
    """Give a device an address; IPv6 without the search for duplicates, which would keep it unusable for a second."""
    body = _IFADDR.pack(address.family, address.prefix, 0, 0, index) + attribute(_IFA_LOCAL, address.packed)
    body += attribute(_IFA_ADDRESS, address.packed)
    if address.family == AF_INET6:
        body += number_attribute(_IFA_FLAGS, _IFA_F_NODAD)
    return Message(
        kind=_RTM_NEWADDR, flags=_NLM_F_CREATE | _NLM_F_EXCL, body=body,
        what=f"give network device {index} the address {format_address(address.packed)}/{address.prefix}")


def add_default_route(gateway: bytes, index: int) -> Message:
    """Route everything through a gateway; replaces a default route that there is."""
    family = AF_INET if len(gateway) == 4 else AF_INET6
    body = _RTMSG.pack(family, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RTN_UNICAST, 0)
    body += attribute(_RTA_GATEWAY, gateway) + number_attribute(_RTA_OIF, index)
    return Message(
        kind=_RTM_NEWROUTE, flags=_NLM_F_CREATE | _NLM_F_REPLACE, body=body,
        what=f"add the default route by {format_address(gateway)}")


def add_device_route(family: int, index: int) -> Message:
    """Route everything to a device that finds its neighbours by itself (ipvlan in its mode l3)."""
    body = _RTMSG.pack(family, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_LINK, _RTN_UNICAST, 0)
    body += number_attribute(_RTA_OIF, index)
    return Message(
        kind=_RTM_NEWROUTE, flags=_NLM_F_CREATE | _NLM_F_REPLACE, body=body, what=f"add the default route to device {index}")


def add_local_route(address: bytes, index: int) -> Message:
    """Have an address be this machine's also for what comes in by a device, behind the routes that there are."""
    family = AF_INET if len(address) == 4 else AF_INET6
    body = _RTMSG.pack(family, len(address) * 8, 0, 0, _RT_TABLE_LOCAL, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RTN_LOCAL, 0)
    body += attribute(_RTA_DST, address) + number_attribute(_RTA_OIF, index) + number_attribute(_RTA_PRIORITY, _LAST_PRIORITY)
    return Message(
        kind=_RTM_NEWROUTE, flags=_NLM_F_CREATE | _NLM_F_EXCL, body=body,
        what=f"route {format_address(address)} by network device {index}")


class Refused(OSError):
    """The kernel refused a request: the errno, and in the text which request and the kernel's own words if it has any."""


class Route:
    """A netlink socket for devices, addresses and routes of one network namespace. A context manager."""

    __slots__ = ("_sequence", "_socket")

    def __init__(self) -> None:
        self._socket = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._sequence = 0

    @classmethod
    def inside(cls, namespace_fd: int) -> Self:
        """Return a socket of another network namespace; see `call_inside`."""
        return call_inside(namespace_fd, cls)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def request(self, *messages: Message) -> None:
        """Have requests done in order; the kernel goes on behind one that it refuses. Raises the first refusal."""
        first = self._sequence + 1
        packet = b"".join(self._pack(message, _NLM_F_ACK | message.flags) for message in messages)
        self._socket.send(packet)
        refusal: Refused | None = None
        for _ in messages:
            error = self._read_answer()
            if error is not None and refusal is None:
                refusal = _refused(messages[error[0] - first], error[1], error[2])
        if refusal is not None:
            raise refusal

    def _pack(self, message: Message, flags: int) -> bytes:
        self._sequence += 1
        padded = message.body + b"\0" * (-len(message.body) % 4)
        return _HEADER.pack(_HEADER.size + len(padded), message.kind, _NLM_F_REQUEST | flags, self._sequence, 0) + padded

    def _read_answer(self) -> tuple[int, int, str] | None:
        """Read one acknowledgement; None, or (sequence, errno, the kernel's words) of a refusal."""
        data = self._socket.recv(65536)
        _, kind, flags, sequence, _ = _HEADER.unpack_from(data)
        if kind != _NLMSG_ERROR:
            raise OSError(f"netlink: an answer of type {kind} where an acknowledgement was due")
        (code,) = struct.unpack_from("=i", data, _HEADER.size)
        if not code:
            return None
        return sequence, -code, _kernel_words(data, flags)

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        """Yield the bodies of all answers to a request for a list."""
        self._socket.send(self._pack(Message(kind=kind, flags=0, body=body, what="list"), _NLM_F_DUMP))
        while True:
            data = self._socket.recv(1 << 18)
            at = 0
            while at + _HEADER.size <= len(data):
                length, answer, _, _, _ = _HEADER.unpack_from(data, at)
                if answer == _NLMSG_DONE:
                    return
                if answer == _NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", data, at + _HEADER.size)
                    raise OSError(-code, f"list by netlink: {os.strerror(-code)}")
                yield data[at + _HEADER.size : at + length]
                at += length + (-length % 4)

    def index_of(self, name: str) -> int:
        """Return the number of a device of the socket's namespace. Raises Refused when there is none."""
        message = Message(
            kind=_RTM_GETLINK, flags=0, body=_IFINFO.pack(0, 0, 0, 0, 0) + text_attribute(_IFLA_IFNAME, name),
            what=f"find network device {name}")
        self._socket.send(self._pack(message, 0))
        data = self._socket.recv(65536)
        _, kind, flags, _, _ = _HEADER.unpack_from(data)
        if kind == _NLMSG_ERROR:
            (code,) = struct.unpack_from("=i", data, _HEADER.size)
            raise _refused(message, -code, _kernel_words(data, flags))
        return _parse_link(data[_HEADER.size :]).index

    def links(self) -> list[Link]:
        """Return all devices of the namespace."""
        return [_parse_link(body) for body in self.dump(_RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0))]

    def addresses(self) -> list[tuple[int, Address]]:
        """Return (device index, address) of all devices."""
        found = []
        for body in self.dump(_RTM_GETADDR, _IFADDR.pack(0, 0, 0, 0, 0)):
            family, prefix, _, _, index = _IFADDR.unpack_from(body)
            attributes = parse_attributes(body[_IFADDR.size :])
            packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS, b"")
            if family in (AF_INET, AF_INET6):
                found.append((index, Address(family=family, packed=packed, prefix=prefix)))
        return found

    def routes(self) -> list[RouteEntry]:
        """Return the routes of every table but the local one, default routes included."""
        found = []
        for body in self.dump(_RTM_GETROUTE, _RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)):
            family, prefix, _, _, table, _, _, kind, _ = _RTMSG.unpack_from(body)
            attributes = parse_attributes(body[_RTMSG.size :])
            if family in (AF_INET, AF_INET6) and kind == _RTN_UNICAST and table != 255:
                device = struct.unpack("=I", attributes[_RTA_OIF])[0] if _RTA_OIF in attributes else 0
                found.append(RouteEntry(family=family, packed=attributes.get(_RTA_DST, b""), prefix=prefix, device=device))
        return found


def call_inside(namespace_fd: int, call: Callable[[], T]) -> T:
    """Call something in another network namespace; this process, which has one thread, is in it for a moment."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        sc.setns(namespace_fd, sc.CLONE_NEWNET)
        try:
            return call()
        finally:
            sc.setns(home, sc.CLONE_NEWNET)
    finally:
        os.close(home)


def _parse_link(body: bytes) -> Link:
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    attributes = parse_attributes(body[_IFINFO.size :])
    info = parse_attributes(attributes.get(_IFLA_LINKINFO, b""))
    master, peer = attributes.get(_IFLA_MASTER), attributes.get(_IFLA_LINK)
    return Link(
        index=index, name=attributes[_IFLA_IFNAME].rstrip(b"\0").decode("utf-8", "surrogateescape"),
        master=struct.unpack("=I", master)[0] if master else 0, is_up=bool(flags & IFF_UP),
        kind=info.get(_IFLA_INFO_KIND, b"").rstrip(b"\0").decode(), mac=attributes.get(_IFLA_ADDRESS, b"").hex(":"),
        peer=struct.unpack("=I", peer)[0] if peer else 0,
        alias=attributes.get(_IFLA_IFALIAS, b"").rstrip(b"\0").decode("utf-8", "surrogateescape"))


def _kernel_words(data: bytes, flags: int) -> str:
    """Return the text that the kernel adds to some refusals (NETLINK_EXT_ACK), or ''."""
    if not flags & _NLM_F_ACK_TLVS:
        return ""
    start = _HEADER.size + 4 + _HEADER.size
    if not flags & _NLM_F_CAPPED:  # the whole request is echoed
        (echoed,) = struct.unpack_from("=I", data, _HEADER.size + 4)
        start = _HEADER.size + 4 + echoed + (-echoed % 4)
    words = parse_attributes(data[start:]).get(_NLMSGERR_ATTR_MSG, b"")
    return words.rstrip(b"\0").decode("utf-8", "replace")


def _refused(message: Message, code: int, words: str) -> Refused:
    reason = os.strerror(code).lower() + (f" ({words})" if words else "")
    return Refused(code, f"{message.what}: {reason}")


def parse_mac(text: str) -> bytes:
    """Return the six bytes of `02:42:...`."""
    return bytes.fromhex(text.replace(":", ""))


def format_address(packed: bytes) -> str:
    """Return an address as text."""
    return _socket.inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed)


def parse_address(text: str) -> bytes:
    """Return the bytes of an IPv4 or IPv6 address. Raises OSError when it is neither."""
    return _socket.inet_pton(AF_INET6 if ":" in text else AF_INET, text)


def device_index(name: str) -> int:
    """Return the number of a device of this namespace, 0 when there is none."""
    try:
        return _socket.if_nametoindex(name)
    except OSError:
        return 0
