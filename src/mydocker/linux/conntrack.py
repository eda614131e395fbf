"""Connections that the kernel tracks: forgetting those to a UDP port, by netlink.

Where a packet of a known connection goes was decided with its first one. TCP connections end with who served them, but a client
that keeps sending datagrams from one port keeps its entry alive, and would be led to where a container used to be for ever.

Source: include/uapi/linux/netfilter/nfnetlink_conntrack.h. The kernel filters what it lists since Linux 5.8; before that it
lists all, so it is filtered here again.
"""
from __future__ import annotations

import _socket
import errno
import os
import struct

from .netlink import attribute, parse_address, parse_attributes

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_NFGENMSG = struct.Struct(">BBH")  # family, version, resource
_NETLINK_NETFILTER, _SUBSYSTEM, _GET, _DELETE = 12, 1, 1, 2
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 0x1, 0x4, 0x300
_NESTED = 0x8000
_TUPLE_ORIG, _ZONE, _FILTER = 1, 18, 25
_TUPLE_IP, _TUPLE_PROTO, _PROTO_NUM, _PROTO_DST_PORT = 1, 2, 1, 3
_IP_DST = {_socket.AF_INET: 2, _socket.AF_INET6: 4}
_FILTER_ORIG_FLAGS, _FILTER_REPLY_FLAGS = 1, 2
_BY_PROTO_NUM, _BY_DST_PORT = 1 << 3, 1 << 5
_UDP = 17


def forget_udp(address: str, port: int) -> int:
    """Have the kernel forget connections to a UDP port of this machine at an address, or any (0.0.0.0, ::); return how many."""
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    wanted = parse_address(address)
    link = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    try:
        return sum(_remove(link, family, found) for found in _list(link, family, port) if _is_to(found, family, wanted, port))
    finally:
        link.close()


def _is_to(found: dict[int, bytes], family: int, address: bytes, port: int) -> bool:
    original = parse_attributes(found[_TUPLE_ORIG])
    proto = parse_attributes(original.get(_TUPLE_PROTO, b""))
    if proto.get(_PROTO_NUM) != bytes((_UDP,)) or proto.get(_PROTO_DST_PORT) != port.to_bytes(2):
        return False
    return not any(address) or parse_attributes(original.get(_TUPLE_IP, b"")).get(_IP_DST[family]) == address


def _list(link: _socket.socket, family: int, port: int) -> list[dict[int, bytes]]:
    proto = attribute(_PROTO_NUM, bytes((_UDP,))) + attribute(_PROTO_DST_PORT, port.to_bytes(2))
    flags = struct.pack("=I", _BY_PROTO_NUM | _BY_DST_PORT)
    body = attribute(_TUPLE_ORIG | _NESTED, attribute(_TUPLE_PROTO | _NESTED, proto))
    body += attribute(_FILTER | _NESTED, attribute(_FILTER_ORIG_FLAGS, flags) + attribute(_FILTER_REPLY_FLAGS, b"\0\0\0\0"))
    link.send(_pack(_GET, _NLM_F_DUMP, family, body))
    found: list[dict[int, bytes]] = []
    while True:
        data = link.recv(1 << 18)
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, _, _, _ = _HEADER.unpack_from(data, at)
            if kind == _NLMSG_DONE:
                return found
            if kind == _NLMSG_ERROR:
                code = -int(struct.unpack_from("=i", data, at + _HEADER.size)[0])
                raise OSError(code, f"list connections: {os.strerror(code).lower()}")
            attributes = parse_attributes(data[at + _HEADER.size + _NFGENMSG.size : at + length])
            if _TUPLE_ORIG in attributes:
                found.append(attributes)
            at += length + (-length % 4)


def _remove(link: _socket.socket, family: int, found: dict[int, bytes]) -> int:
    body = attribute(_TUPLE_ORIG | _NESTED, found[_TUPLE_ORIG])
    if _ZONE in found:
        body += attribute(_ZONE, found[_ZONE])
    link.send(_pack(_DELETE, _NLM_F_ACK, family, body))
    code = -int(struct.unpack_from("=i", link.recv(65536), _HEADER.size)[0])
    if code not in (0, errno.ENOENT):  # it has timed out by itself
        raise OSError(code, f"forget a connection: {os.strerror(code).lower()}")
    return int(not code)


def _pack(kind: int, flags: int, family: int, body: bytes) -> bytes:
    length = _HEADER.size + _NFGENMSG.size + len(body)
    return _HEADER.pack(length, _SUBSYSTEM << 8 | kind, flags | _NLM_F_REQUEST, 1, 0) + _NFGENMSG.pack(family, 0, 0) + body
