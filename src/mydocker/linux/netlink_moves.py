"""Moving a network device into another namespace by netlink (netlink.py), with the addresses that the kernel takes off it.

Source: rtnetlink(7), include/uapi/linux/{rtnetlink,if_link,if_addr}.h.
"""
from __future__ import annotations

import struct

from .netlink import AF_INET6, Message, Route, attribute, number_attribute, parse_attributes, text_attribute

_IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFADDR = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_RTM_NEWLINK, _RTM_NEWADDR, _RTM_GETADDR = 16, 20, 22
_NLM_F_EXCL, _NLM_F_CREATE = 0x200, 0x400
_IFLA_IFNAME, _IFLA_NET_NS_FD = 3, 28
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_IFA_F_NODAD, _IFA_F_PERMANENT = 0x02, 0x80
_RT_SCOPE_UNIVERSE = 0


def move_link(index: int, namespace_fd: int, name: str) -> Message:
    """Move a device into another network namespace, under a name that may be a pattern such as `eth%d`."""
    body = _IFINFO.pack(0, 0, index, 0, 0) + number_attribute(_IFLA_NET_NS_FD, namespace_fd) + text_attribute(_IFLA_IFNAME, name)
    return Message(kind=_RTM_NEWLINK, flags=0, body=body, what=f"move the device to the network namespace as {name}")


def kept_addresses(route: Route, device: int) -> list[bytes]:
    """Return the addresses of a device that somebody set for good and that count everywhere, for `give_address`."""
    found = []
    for body in route.dump(_RTM_GETADDR, _IFADDR.pack(0, 0, 0, 0, 0)):
        family, prefix, flags, scope, index = _IFADDR.unpack_from(body)
        if index != device or scope != _RT_SCOPE_UNIVERSE or not flags & _IFA_F_PERMANENT:
            continue
        attributes = parse_attributes(body[_IFADDR.size :])
        kept = [attribute(kind, attributes[kind]) for kind in (_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST) if kind in attributes]
        if family == AF_INET6:
            kept.append(number_attribute(_IFA_FLAGS, _IFA_F_NODAD))
        found.append(_IFADDR.pack(family, prefix, 0, scope, 0) + b"".join(kept))
    return found


def give_address(index: int, body: bytes) -> Message:
    """Give a device an address that one had elsewhere."""
    family, prefix, flags, scope, _ = _IFADDR.unpack_from(body)
    body = _IFADDR.pack(family, prefix, flags, scope, index) + body[_IFADDR.size :]
    return Message(kind=_RTM_NEWADDR, flags=_NLM_F_CREATE | _NLM_F_EXCL, body=body, what=f"give device {index} its address")
