"""Addresses: which subnet a network takes, and in which order addresses are tried. Pure.

No address is ever written down as taken. The host's end of a container's device is named after its IPv4 address, names are
unique, and so *making the device is what claims the address*; when the container's network namespace dies, however it
dies, the kernel removes the device, and the address is free. There is no list that could be wrong, and no lock.
"""
from __future__ import annotations

from binascii import crc32

from mydocker.base.errors import Unavailable
from mydocker.linux.netlink import parse_address

from .model import Subnet, parse_subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Where networks without a subnet of the user's get theirs: (pool, prefix of each).
_POOLS = (("172.24.0.0/13", 16), ("10.192.0.0/11", 16), ("192.168.0.0/16", 20))


def choose_subnet(used: Iterable[tuple[bytes, int]]) -> Subnet:
    """Return a subnet that overlaps none of `used`: the machine's routes and addresses, and networks that exist.

    Raises Unavailable when every one of the pools overlaps.
    """
    taken = _numbers(used)
    for pool, prefix in _POOLS:
        packed, pool_prefix = parse_subnet(pool)
        first = int.from_bytes(packed)
        for number in range(1 << (prefix - pool_prefix)):
            candidate = first + (number << (32 - prefix))
            if not any(overlap(candidate, prefix, other, length) for other, length in taken):
                return Subnet(packed=candidate.to_bytes(4), prefix=prefix, gateway=(candidate + 1).to_bytes(4))
    raise Unavailable("choose a subnet: every one of the pools is in use on this machine", hint="name one with --subnet")


def is_used(subnet: Subnet, used: Iterable[tuple[bytes, int]]) -> bool:
    """Tell whether an IPv4 subnet overlaps one of `used`."""
    return any(overlap(int.from_bytes(subnet.packed), subnet.prefix, other, length) for other, length in _numbers(used))


def _numbers(used: Iterable[tuple[bytes, int]]) -> list[tuple[int, int]]:
    return [(int.from_bytes(packed), prefix) for packed, prefix in used if len(packed) == 4 and prefix]


def choose_subnet6(network_id: str) -> Subnet:
    """Return a unique local subnet (RFC 4193) made of the network's id, which is random."""
    packed = b"\xfd" + bytes.fromhex(network_id[:10]) + b"\0\0"
    packed = packed[:8].ljust(16, b"\0")
    return Subnet(packed=packed, prefix=64, gateway=(int.from_bytes(packed) + 1).to_bytes(16))


def overlap(one: int, one_prefix: int, other: int, other_prefix: int) -> bool:
    """Tell whether two IPv4 subnets have an address in common."""
    shift = 32 - min(one_prefix, other_prefix)
    return one >> shift == other >> shift


def overlaps(one: Subnet, packed: bytes, prefix: int) -> bool:
    """Tell whether a subnet has an address in common with another, of either kind."""
    shift = one.bits - min(one.prefix, prefix)
    return len(packed) == len(one.packed) and int.from_bytes(one.packed) >> shift == int.from_bytes(packed) >> shift


def candidates(subnet: Subnet, seed: str) -> Iterator[bytes]:
    """Yield every address that a container may get, once, from a place that depends on `seed` on.

    Not the lowest first: starts at the same time would all try the same one, and a neighbour's address would be given
    to somebody else while its peers still remember the hardware address.
    """
    packed, prefix = (subnet.range_packed, subnet.range_prefix) if subnet.range_packed else (subnet.packed, subnet.prefix)
    base, size = int.from_bytes(packed), 1 << (subnet.bits - prefix)
    taken = {subnet.gateway, *special_addresses(subnet)}
    start = crc32(seed.encode()) % size
    for step in range(size):
        address = (base + (start + step) % size).to_bytes(len(subnet.packed))
        if address not in taken:
            yield address


def pair_with(address: bytes, subnet: Subnet, other: Subnet) -> bytes:
    """Return the IPv6 address that goes with an IPv4 one: the same number in the other subnet, or in its part for containers.

    b"" when that one is not for containers. In a smaller subnet several have one address, and only one can claim it.
    """
    packed, prefix = (other.range_packed, other.range_prefix) if other.range_packed else (other.packed, other.prefix)
    offset = (int.from_bytes(address) - int.from_bytes(subnet.packed)) % (1 << (other.bits - prefix))
    found = (int.from_bytes(packed) + offset).to_bytes(16)
    return b"" if found in (other.gateway, *special_addresses(other)) else found


def subnet_name(subnet: Subnet) -> str:
    """Return the further name of a bridge that claims an IPv4 subnet, on the whole machine."""
    return f"mn{subnet.packed.hex()}-{subnet.prefix}"


def host_interface(address: bytes) -> str:
    """Return the name of the device outside whose existence claims an IPv4 address."""
    return f"mv{address.hex()}"


def host_name6(address: bytes) -> str:
    """Return the further name of the same device that claims an IPv6 address."""
    return f"mv{address.hex()}"


def mac_of(address: bytes) -> str:
    """Return the hardware address that goes with an IPv4 address: who gets the address again is the same to its neighbours."""
    return f"02:42:{address.hex(':')}"


def check_address(text: str, subnet: Subnet) -> bytes:
    """Return a fixed address as bytes. Raises ValueError when it is not one that a container may have there, OSError if none."""
    address = parse_address(text)
    if not subnet.contains(address) or address == subnet.gateway or address in special_addresses(subnet):
        raise ValueError(text)
    return address


def special_addresses(subnet: Subnet) -> tuple[bytes, ...]:
    """Return the addresses that stand for the whole subnet and for everybody in it (in IPv6 only the first is special)."""
    if subnet.prefix >= subnet.bits - 1:
        return ()  # /31 and /32 have neither (RFC 3021)
    if subnet.bits == 128:
        return (subnet.packed,)
    last = int.from_bytes(subnet.packed) + (1 << (subnet.bits - subnet.prefix)) - 1
    return subnet.packed, last.to_bytes(4)
