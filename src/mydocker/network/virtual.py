"""Containers on a device of the machine's: macvlan and ipvlan. The device is made in the container's namespace and dies with it.

There is no device outside whose name could claim an address. The kernel claims it all the same: of macvlan devices with one
hardware address, which is made of the IPv4 address, only one can be up, and of ipvlan devices only one can have an
address; the second gets EADDRINUSE.

Source: drivers/net/macvlan.c macvlan_open, drivers/net/ipvlan/ipvlan_main.c ipvlan_addr4_validator_event.
"""
from __future__ import annotations

import errno
import struct

from mydocker.base.errors import Conflict, NotFound, RuntimeFailed, Unavailable, Unsupported
from mydocker.linux import netlink
from mydocker.linux.netlink import AF_INET, Route, device_index

from . import bridge
from .model import IPVLAN, MACVLAN, Endpoint, EndpointRequest, Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_IFLA_MODE = 1  # of both: IFLA_MACVLAN_MODE, IFLA_IPVLAN_MODE
_MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
_IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
#: How many addresses may turn out to be taken: each costs a device.
_MAX_CLAIMS = 4096


def plug(
    route: Route, network: Network, request: EndpointRequest, namespace_fd: int, interface: str, seed: str, *,
    routes: Iterable[int],
) -> Endpoint:
    """Put a network namespace on a macvlan or ipvlan network; see bridge.plug. Raises NotFound: its parent is gone."""
    parent = device_index(network.parent)
    if not parent:
        raise NotFound(f"connect to network {network.name}: no network device {network.parent}")
    tried = 0
    with Route.inside(namespace_fd) as inner:
        for address, six in bridge.addresses(network, request, seed):
            endpoint = bridge.make_endpoint(network, request, address, six, interface).replace(host_interface="")
            _make_device(route, network, endpoint, parent, namespace_fd)
            _shut_to_routers(namespace_fd, endpoint)
            if _configure(inner, network, endpoint, routes):
                return endpoint
            tried += 1
            if tried >= _MAX_CLAIMS:
                break
    if request.ip:
        raise Conflict(
            f"address {request.ip} of network {network.name} is in use", hint="choose another, or let the engine choose")
    raise Unavailable(f"network {network.name} has no free address left", hint="remove containers, or make a larger network")


def _make_device(route: Route, network: Network, endpoint: Endpoint, parent: int, namespace_fd: int) -> None:
    try:
        route.request(netlink.new_virtual(
            endpoint.interface, kind=network.driver, parent=parent, data=_mode(network), ns_fd=namespace_fd,
            # An ipvlan device has the hardware address of its parent.
            mac=endpoint.mac if network.driver == MACVLAN else ""))
    except netlink.Refused as error:
        if error.errno == errno.EOPNOTSUPP:
            raise Unsupported(
                f"connect to network {network.name}: this kernel has no {network.driver}", hint=f"modprobe {network.driver}",
            ) from error
        raise RuntimeFailed(f"connect to network {network.name}: {error.args[1]}") from error


def _shut_to_routers(namespace_fd: int, endpoint: Endpoint) -> None:
    """Have the container's way out be the gateway that its network names, whatever is advertised on the parent's network."""
    netlink.call_inside(namespace_fd, lambda: bridge.shut_to_routers(endpoint.interface, has_ipv6=bool(endpoint.ip6)))


def _mode(network: Network) -> bytes:
    if network.driver == IPVLAN:
        return netlink.attribute(_IFLA_MODE, struct.pack("=H", _IPVLAN_MODES[network.mode or "l2"]))
    return netlink.number_attribute(_IFLA_MODE, _MACVLAN_MODES[network.mode or "bridge"])


def _configure(inner: Route, network: Network, endpoint: Endpoint, routes: Iterable[int]) -> bool:
    """Give the device its addresses and bring it up; False, and no device any more, when the address is somebody else's."""
    has_no_neighbours = network.driver == IPVLAN and network.mode in ("l3", "l3s")
    try:
        bridge.configure(inner, endpoint, () if has_no_neighbours else routes)
        if has_no_neighbours and not network.internal:
            index = inner.index_of(endpoint.interface)
            families = [family for family in routes if family == AF_INET or endpoint.ip6]
            inner.request(*(netlink.add_device_route(family, index) for family in families))
        return True
    except netlink.Refused as error:
        if error.errno != errno.EADDRINUSE:
            raise RuntimeFailed(f"connect to network {network.name}: {error.args[1]}") from error
    inner.request(netlink.delete_link(endpoint.interface))
    return False
