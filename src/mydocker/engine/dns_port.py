"""Port 53 of every address of the machine, beside the resolvers of users' networks, which have it at their gateways (naming.py).

One socket for all addresses would be in each other's way with theirs, whoever comes first. So each address is held by itself, but
for those of bridges; and because a name server at an address that is on no device (systemd-resolved's 127.0.0.53) would
not be noticed that way, the kernel is asked for those.
"""
from __future__ import annotations

import _socket
import struct

from mydocker.base import files
from mydocker.base.errors import Conflict
from mydocker.linux.netlink import AF_INET, AF_INET6, Route, format_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PORT = 53
_LISTENING = {"tcp": "0A", "udp": "07"}


def bind_beside_resolvers(
    protocol: str, address: str, bind: Callable[[str, str, int], _socket.socket]
) -> list[_socket.socket]:
    """Hold the port at every address of the family of `address`; `bind` is that of publishing.py. Raises Conflict."""
    family = AF_INET6 if ":" in address else AF_INET
    ours, others = _addresses(family)
    for taken in _listening(protocol, family):
        if taken not in ours:
            raise Conflict(f"publish {address}:{PORT}/{protocol}: the port is in use at {taken}", hint="choose another address")
    sockets: list[_socket.socket] = []
    try:
        for other in others:
            sockets.append(bind(protocol, other, PORT))
    except BaseException:
        for made in sockets:
            made.close()
        raise
    return sockets


def _addresses(family: int) -> tuple[set[str], list[str]]:
    """Return the addresses of our bridges (of any state root), and all others of the machine but those of one link only."""
    with Route() as route:
        bridges = {link.index for link in route.links() if link.name.startswith("mb")}
        found = [(index, address.packed) for index, address in route.addresses() if address.family == family]
    ours = {format_address(packed) for index, packed in found if index in bridges}
    return ours, [
        format_address(packed) for index, packed in found if index not in bridges and packed[:2] != b"\xfe\x80"]


def _listening(protocol: str, family: int) -> list[str]:
    """Return where somebody listens on the port: proc(5), /proc/net/{tcp,udp}{,6}."""
    name = f"/proc/net/{protocol}{'6' if family == AF_INET6 else ''}"
    found = []
    for line in files.read_bytes(name).decode("ascii").splitlines()[1:]:
        words = line.split()
        address, _, port = words[1].partition(":")
        if int(port, 16) == PORT and words[3] == _LISTENING[protocol]:
            numbers = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
            found.append(format_address(struct.pack(f"={len(numbers)}I", *numbers)))
    return found
