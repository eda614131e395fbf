"""Bridges, and containers on them: made with their network, or when missed, by netlink, in as few messages as there are waits.

A bridge has 1023 ports at most. So each has a spare one from the beginning, with a cable that leads nowhere: when the
ports are used up a second bridge is made and takes the other end of that cable, and so on. To whoever is on them
the bridges are one network.

    mb<id>     the first bridge, with the gateway's address        mb<id>.1, mb<id>.2 ... the next ones
    mc<id>.N   the cable's end on bridge N - 1                      mc<id>.N- its end for bridge N, down until that is there
    mv<ip>     the outer end of a container's device (ipam.py)

Nothing here is written down: what the kernel has is the truth. No lock either; who comes second finds EEXIST. A bridge's cable
is laid last: a bridge without one is being made, or whoever made it was killed, and whoever comes next does all of it again.
"""
from __future__ import annotations

import _socket
import errno
import os

from mydocker.base import files, log, trace
from mydocker.base.errors import Conflict, InvalidRequest, RuntimeFailed, Unavailable, Unsupported
from mydocker.linux import netlink
from mydocker.linux.netlink import AF_INET, AF_INET6, Address, Route, device_index, format_address

from . import ipam
from .model import Endpoint, EndpointRequest, Network, Subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_EXFULL = errno.EXFULL
#: How the alias of a first bridge begins; the path of its network's file follows, see orphans.py.
MARK = "mydocker "
_MOST_BYTES = 255  # IFALIASZ
#: How many addresses may turn out to be taken before the network counts as full of others' devices.
_MAX_CLAIMS = 70_000


class SubnetTaken(Conflict):
    """Another network on the machine, of another state root, has a subnet of this one or a part of it."""

    def __init__(self, network: Network, subnet: Subnet, verb: str, device: str) -> None:
        super().__init__(
            f"subnet {subnet.text} of network {network.name} {verb} that of another network on this machine",
            hint=f"`ip link show {device}` tells whose; make this one anew: network rm, network create")
        self.subnet = subnet


def bridge_name(network: Network, number: int) -> str:
    """Return the name of one of a network's bridges; 0 is the first."""
    return network.bridge if number == 0 else f"{network.bridge}.{number}"


def ensure_bridge(route: Route, network: Network, path: str) -> int:
    """Return the index of the first bridge, made with its addresses if it is not there; its network's file is at `path`.

    Raises SubnetTaken (its subnet is that of another bridge of ours), RuntimeFailed, Unsupported.
    """
    index = device_index(network.bridge)
    if index and device_index(cable_name(network, 1)):
        enable_forwarding(network)  # somebody may have turned it off
        return index
    # Without a hardware address of its own a bridge takes the lowest of its ports', which changes under its neighbours.
    # The kernel does all that is in one packet before a signal of the sender's: no bridge says nothing about itself.
    _make(
        route, netlink.new_bridge(network.bridge, mac=ipam.mac_of(network.ipv4.packed), mtu=network.mtu), *mark(network, path))
    trace.point("made bridge")
    shut_to_routers(network.bridge, has_ipv6=network.ipv6 is not None)
    index = device_index(network.bridge)
    _claim_subnet(route, network, index)
    _refuse_overlap(route, network, index)  # of one that is there: it would lose packets to us meanwhile
    trace.point("saw subnet free")
    for subnet in network.subnets:
        if subnet.gateway:
            _make(route, netlink.add_address(index, Address(
                family=AF_INET if subnet.bits == 32 else AF_INET6, packed=subnet.gateway, prefix=subnet.prefix)))
    _refuse_overlap(route, network, index)  # of one that looked when we had no addresses yet; if both see each other, both go
    _adopt(route, network, index)
    _lay_cable(route, network, 0)
    enable_forwarding(network)
    return index


def mark(network: Network, path: str) -> tuple[netlink.Message, ...]:
    """Have a network's first bridge say where its file is; nothing when the path is too long for that."""
    alias = os.fsencode(f"{MARK}{path}")
    return (netlink.change_alias(network.bridge, alias),) if len(alias) <= _MOST_BYTES else ()


def _claim_subnet(route: Route, network: Network, index: int) -> None:
    """Claim the subnet by a further name of the bridge: another state root, which knows nothing of us, may have chosen it."""
    name = ipam.subnet_name(network.ipv4)
    try:
        route.request(netlink.add_alternative_name(index, name))
    except netlink.Refused as error:
        if error.errno == errno.EOPNOTSUPP or (error.errno == errno.EEXIST and device_index(name) == index):
            return  # before Linux 5.5; or whoever made it was killed after this line
        _remove_bridge(route, network, 0)  # somebody else who starts here may have laid the cable by now
        if error.errno != errno.EEXIST:
            raise RuntimeFailed(error.args[1]) from error
        raise SubnetTaken(network, network.ipv4, "is", name) from error


def _refuse_overlap(route: Route, network: Network, index: int) -> None:
    """Give way where another bridge of ours has addresses of our subnets: names differ where prefixes do, and IPv6 has none."""
    for other, address in route.addresses():
        for subnet in network.subnets:
            if other != index and ipam.overlaps(subnet, address.packed, address.prefix):
                try:
                    device = _socket.if_indextoname(other)
                except OSError:
                    continue  # removed meanwhile
                if device.startswith("mb"):
                    _remove_bridge(route, network, 0)
                    raise SubnetTaken(network, subnet, "overlaps", device)


def _adopt(route: Route, network: Network, index: int) -> None:
    """Put containers' devices that are on no bridge on a new one: somebody removed theirs, with the containers alive."""
    for link in route.links():
        if link.name.startswith("mv") and not link.master and network.ipv4.contains(bytes.fromhex(link.name[2:])):
            _make(route, netlink.change_link(link.index, master=index))


def shut_to_routers(device: str, *, has_ipv6: bool) -> None:
    """Have a device of this namespace believe no router's advertisement, which any container can send (CVE-2020-10749, -13401).

    Nor does it speak IPv6 at all, unless it is to have an address. Raises RuntimeFailed.
    """
    path = f"/proc/sys/net/ipv6/conf/{device}/{'accept_ra' if has_ipv6 else 'disable_ipv6'}"
    try:
        _write(path, b"0" if has_ipv6 else b"1")
    except FileNotFoundError:
        pass  # a kernel without IPv6
    except OSError as error:
        raise RuntimeFailed(f"set up network device {device} ({path}): {os.strerror(error.errno or 0).lower()}") from error


def _make(route: Route, *messages: netlink.Message) -> None:
    try:
        route.request(*messages)
    except netlink.Refused as error:
        if error.errno == errno.EOPNOTSUPP:
            raise Unsupported(error.args[1], hint="modprobe bridge veth, or do without a network: --network none") from error
        if error.errno != errno.EEXIST:  # somebody else makes the same
            raise RuntimeFailed(error.args[1]) from error


def cable_name(network: Network, number: int) -> str:
    """Return the name of the cable to one of a network's bridges: its end on the bridge before; the other has a `-` behind it."""
    return f"mc{network.id[:8]}.{number}"


def _lay_cable(route: Route, network: Network, number: int) -> None:
    """Give a bridge the port that a next bridge will be behind."""
    name = cable_name(network, number + 1)
    master = device_index(bridge_name(network, number))
    if not master:  # without one the kernel would make a cable that belongs to nobody, and stays
        raise Conflict(f"network {network.name}: its bridge was removed while a container joined", hint="start it again")
    # Up without a bridge at the other end: the port has no carrier, and nothing is sent there.
    _make(route, netlink.new_veth(name, master=master, peer=f"{name}-", mtu=network.mtu))


def _add_bridge(route: Route, network: Network, number: int) -> None:
    """Make one more bridge behind the last one's cable."""
    name = bridge_name(network, number)
    _make(route, netlink.new_bridge(name, mtu=network.mtu))
    trace.point("made further bridge")
    shut_to_routers(name, has_ipv6=False)  # nothing but cable
    index = device_index(name)
    try:
        # By default a device answers for every address of the machine, so also for the gateway's, which is the first bridge's.
        _write(f"/proc/sys/net/ipv4/conf/{name}/arp_ignore", b"1")
    except OSError as error:
        raise RuntimeFailed(f"set up bridge {name}: {os.strerror(error.errno or 0).lower()}") from error
    end = device_index(f"{cable_name(network, number)}-")
    _make(route, netlink.change_link(end, master=index), netlink.change_link(end, up=True))
    _lay_cable(route, network, number)
    log.debug("the bridge is full: another", network=network.name, bridge=name)


def enable_forwarding(network: Network) -> None:
    """Have the machine forward packets, which is off by default, and stay what it is otherwise. Raises RuntimeFailed."""
    if network.internal:
        return
    paths = ["/proc/sys/net/ipv4/ip_forward"]
    if network.ipv6 is not None:
        paths.append("/proc/sys/net/ipv6/conf/all/forwarding")
    for path in paths:
        try:
            if files.read_bytes(path).strip() == b"0":
                log.debug("turn forwarding on", path=path)
                if "ipv6" in path:
                    _keep_routers()
                _write(path, b"1")
        except OSError as error:
            raise RuntimeFailed(f"turn on forwarding ({path}): {os.strerror(error.errno or 0).lower()}") from error


def _keep_routers() -> None:
    """Have the machine's devices go on believing routers: one that forwards forgets its way out, where that was advertised.

    1 means "unless I forward", 2 "always" (Documentation/networking/ip-sysctl.rst, accept_ra). Raises OSError.
    """
    conf = "/proc/sys/net/ipv6/conf"
    for device in os.listdir(conf):
        if device not in ("all", "default", "lo") and not device.startswith(("mb", "mc", "mv")):
            try:
                if files.read_bytes(path := f"{conf}/{device}/accept_ra").strip() == b"1":
                    _write(path, b"2")
            except FileNotFoundError:
                continue  # the device has just gone


def _write(path: str, value: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        files.write_all(fd, value)
    finally:
        os.close(fd)


def plug(
    route: Route, network: Network, request: EndpointRequest, namespace_fd: int, interface: str, seed: str, *,
    path: str, routes: Iterable[int],
) -> Endpoint:
    """Put a network namespace on a network, whose file is at `path`: claim an address, make the device, configure it inside.

    `seed` decides which address is tried first; by the gateway go packets of the families `routes`. Raises Conflict (a fixed
    address is in use), InvalidRequest (it is none of the network's), Unavailable (none is left), RuntimeFailed.
    """
    ensure_bridge(route, network, path)
    address, six = claim(route, network, request, namespace_fd, interface, seed)
    endpoint = make_endpoint(network, request, address, six, interface)

    def enter() -> Route:
        shut_to_routers(interface, has_ipv6=bool(six))
        return Route()

    try:
        with netlink.call_inside(namespace_fd, enter) as inner:
            configure(inner, endpoint, routes)
    except netlink.Refused as error:
        raise RuntimeFailed(error.args[1]) from error
    return endpoint


def claim(
    route: Route, network: Network, request: EndpointRequest, namespace_fd: int, interface: str, seed: str
) -> tuple[bytes, bytes]:
    """Claim addresses by making the device that is named after them; return them, b"" where the network has no IPv6."""
    number = last_bridge(network)
    if number and not device_index(cable_name(network, number + 1)):
        _add_bridge(route, network, number)
    tried = 0
    for address, six in addresses(network, request, seed):
        while True:
            message = netlink.new_veth(
                ipam.host_interface(address), master=device_index(bridge_name(network, number)), peer=interface,
                peer_ns_fd=namespace_fd, peer_mac=request.mac or ipam.mac_of(address), mtu=network.mtu)
            try:
                route.request(message)
                if not six or _claim6(route, request, address, six):
                    return address, six
            except netlink.Refused as error:
                if error.errno == _EXFULL:
                    number += 1
                    _add_bridge(route, network, number)
                    continue
                if error.errno != errno.EEXIST:
                    raise RuntimeFailed(f"connect to network {network.name}: {error.args[1]}") from error
            break
        tried += 1
        if tried >= _MAX_CLAIMS:
            break
    if request.ip:
        raise _in_use(request.ip, network.name)
    raise Unavailable(f"network {network.name} has no free address left", hint="remove containers, or make a larger network")


def _in_use(address: str, network: str) -> Conflict:
    return Conflict(f"address {address} of network {network} is in use", hint="choose another, or let the engine choose")


def _claim6(route: Route, request: EndpointRequest, address: bytes, six: bytes) -> bool:
    """Claim an IPv6 address by a further name of the device; False, and no device any more, when another has it.

    Raises Conflict when nothing else was asked for.
    """
    name = ipam.host_interface(address)
    try:
        route.request(netlink.add_alternative_name(device_index(name), ipam.host_name6(six)))
    except netlink.Refused as error:
        if error.errno == errno.EOPNOTSUPP:
            return True  # before Linux 5.5; addresses that nobody fixed differ all the same
        route.request(netlink.delete_link(name))
        if error.errno != errno.EEXIST:
            raise
        if request.ip6:
            raise _in_use(request.ip6, request.network) from error
        return False
    return True


def addresses(network: Network, request: EndpointRequest, seed: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield the IPv4 and IPv6 addresses that a container may get, b"" where the network has none. Raises InvalidRequest."""
    subnet, other = network.ipv4, network.ipv6
    fixed6 = fixed_address(request.ip6, network, other) if request.ip6 else b""
    for address in [fixed_address(request.ip, network, subnet)] if request.ip else ipam.candidates(subnet, seed):
        six = fixed6 or (ipam.pair_with(address, subnet, other) if other else b"")
        if six or not other:
            yield address, six
        elif request.ip:
            raise InvalidRequest(
                f"ip {request.ip}: the IPv6 address that goes with it on network {network.name} is not for containers",
                hint="choose an --ip6, too")


def last_bridge(network: Network) -> int:
    """Return the number of the network's newest bridge."""
    number = 0
    while device_index(bridge_name(network, number + 1)):
        number += 1
    return number


def fixed_address(text: str, network: Network, subnet: Subnet | None) -> bytes:
    """Return the address that was asked for. Raises InvalidRequest."""
    if subnet is None:
        raise InvalidRequest(f"ip6 {text}: network {network.name} has no IPv6", hint="make it with --ipv6")
    try:
        return ipam.check_address(text, subnet)
    except (ValueError, OSError):
        raise InvalidRequest(
            f"{'ip6' if ':' in text else 'ip'} {text} is no address for a container on network {network.name} ({subnet.text})",
        ) from None


def make_endpoint(network: Network, request: EndpointRequest, address: bytes, six: bytes, interface: str) -> Endpoint:
    """Return what a container with these addresses is on a network."""
    subnet, other = network.ipv4, network.ipv6
    return Endpoint(
        network=network.name, network_id=network.id, interface=interface, host_interface=ipam.host_interface(address),
        mac=request.mac or ipam.mac_of(address), ip=format_address(address), prefix=subnet.prefix,
        gateway=format_address(subnet.gateway) if subnet.gateway else "", ip6=format_address(six) if six else "",
        prefix6=other.prefix if other else 0, gateway6=format_address(other.gateway) if other and other.gateway else "",
        aliases=request.aliases, driver=network.driver, internal=network.internal)


def configure(inner: Route, endpoint: Endpoint, routes: Iterable[int]) -> None:
    """Bring a container's device up, with its addresses and the default routes of the families for which it is the way out."""
    index = inner.index_of(endpoint.interface)
    messages = [netlink.change_link(index, up=True), netlink.add_address(index, Address(
        family=AF_INET, packed=netlink.parse_address(endpoint.ip), prefix=endpoint.prefix))]
    if endpoint.ip6:
        messages.append(netlink.add_address(index, Address(
            family=AF_INET6, packed=netlink.parse_address(endpoint.ip6), prefix=endpoint.prefix6)))
    for family in routes:
        if gateway := endpoint.way_out(family):
            messages.append(netlink.add_default_route(netlink.parse_address(gateway), index))
    inner.request(*messages)


def remove_bridges(route: Route, network: Network) -> None:
    """Remove a network's bridges and cables. The caller knows that nobody is on them."""
    for number in range(last_bridge(network), -1, -1):
        _remove_bridge(route, network, number)


def _remove_bridge(route: Route, network: Network, number: int) -> None:
    # The cable goes last: whoever is about to lay it to a bridge that is gone fails, and leaves nothing.
    for name in (bridge_name(network, number), cable_name(network, number + 1)):
        if device_index(name):
            try:
                route.request(netlink.delete_link(name))
            except netlink.Refused as error:
                if error.errno != errno.ENODEV:
                    raise RuntimeFailed(error.args[1]) from error


def ports_of(route: Route, network: Network) -> list[str]:
    """Return the names of the containers' devices on a network."""
    links = route.links()
    masters = {link.index for link in links if link.name == network.bridge or link.name.startswith(f"{network.bridge}.")}
    return [link.name for link in links if link.master in masters and link.name.startswith("mv")]


def has_members(network: Network) -> bool:
    """Tell whether a container's device is on a network, without a list of all devices of the machine."""
    number = 0
    while True:
        try:
            ports = os.listdir(f"/sys/class/net/{bridge_name(network, number)}/brif")
        except FileNotFoundError:
            return False
        if any(port.startswith("mv") for port in ports):
            return True
        number += 1
