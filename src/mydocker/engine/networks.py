"""Networks as users make and see them: create, list, inspect, remove, prune. Containers join and leave in memberships.py.

A network is in use while a device of a container is on it, or a record says so of a container that lives: the first is
the kernel's word, the second holds for drivers without a device outside.
"""
from __future__ import annotations

import time

from mydocker.base import ids, log, trace
from mydocker.base.clock import now_ns
from mydocker.base.errors import Conflict, Corrupt, MydockerError, NotFound
from mydocker.base.record import Record
from mydocker.linux.netlink import Route, device_index
from mydocker.network import bridge, claiming, firewall, orphans
from mydocker.network.ipam import choose_subnet, choose_subnet6, overlaps
from mydocker.network.model import BRIDGE, DEFAULT_NETWORK, Endpoint, EndpointRequest, Network
from mydocker.network.store import NetworkStore, used_subnets

from .ending import current
from .lifecycle import ALIVE
from .network_request import judge_network
from .publishing import published_loader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Unpack

    from mydocker.network.model import Subnet

    from .network_request import NetworkOptions, NetworkRequest
    from .store import ContainerRecord, Store

#: How long the kernel may take to tear down the network namespaces of containers that have ended.
_TEARDOWN_S = 5.0
_DEFAULT_ALIASES = ("bridge", "default")
_MODES = ("host", "none")


class Member(Record):
    """A container on a network: which, and where it is there."""

    container_id: str
    name: str
    endpoint: Endpoint


class Networks:
    """The networks of an engine: `engine.networks`. Nothing is held; every call looks anew."""

    __slots__ = ("_networks", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._networks = NetworkStore(store.layout)

    def create(self, name: str, **options: Unpack[NetworkOptions]) -> Network:
        """Make a network, and its bridge, which claims the subnet on the whole machine.

        Raises InvalidRequest, Conflict (the name is in use; a subnet overlaps), NotFound (the parent device), Unavailable
        (no subnet is free), Unsupported (the kernel makes no bridges), RuntimeFailed (it refuses to).
        """
        request = judge_network(name, options)
        if request.parent and not device_index(request.parent):
            raise NotFound(f"create network {name}: no network device {request.parent}")
        with self._networks.lock(), Route() as route:
            if request.name in self._networks.names():
                raise Conflict(f"network {name} exists already", hint="choose another name")
            orphans.sweep(route)
            self._refuse_overlaps(request, route)
            used = None if any(subnet.bits == 32 for subnet in request.subnets) else used_subnets(self._networks, route)
            network_id = ids.new_hex(12)
            network = Network(
                id=network_id, name=request.name, driver=request.driver, subnets=_complete(request, used, network_id),
                internal=request.internal, parent=request.parent, mode=request.mode, mtu=request.mtu, labels=request.labels,
                options=request.options, created_ns=now_ns())
            if network.driver == BRIDGE:
                network = claiming.make(self._networks, route, network, used)
            else:
                self._networks.add(network)
        log.debug("made network", network=name, subnets=[subnet.text for subnet in network.subnets])
        return network

    def _refuse_overlaps(self, request: NetworkRequest, route: Route) -> None:
        """Raise Conflict when a subnet that is asked for is not free."""
        others = [(subnet, network) for network in self._networks.all() for subnet in network.subnets]
        for wanted in request.subnets:
            for subnet, network in others:
                if overlaps(wanted, subnet.packed, subnet.prefix):
                    raise Conflict(
                        f"create network {request.name}: subnet {wanted.text} overlaps that of network {network.name} "
                        f"({subnet.text})", hint="choose another subnet, or let the engine choose")
            # The subnet of a macvlan or ipvlan is that of the machine's own network.
            if request.driver == BRIDGE:
                _refuse_overlap(request.name, wanted, route)

    def list(self) -> Sequence[Network]:
        """Return all networks by name, the default one also before its first container."""
        if DEFAULT_NETWORK not in self._networks.names():
            self._networks.default()
        return self._networks.all()

    def get(self, reference: str) -> Network:
        """Return a network by name, id or unique prefix of an id. Raises NotFound, Conflict (ambiguous; a mode)."""
        if reference in _MODES:
            raise Conflict(
                f"{reference} is no network that can be joined or left",
                hint=f"a container has it for life: run --network {reference}")
        return self._networks.default() if reference in _DEFAULT_ALIASES else self._networks.find(reference)

    def members(self, network: Network) -> Sequence[Member]:
        """Return the containers that are on a network now, by name."""
        found = [
            Member(container_id=record.id, name=record.name, endpoint=endpoint)
            for record in self._records() if record.status in ALIVE
            for endpoint in endpoints_of(record) if endpoint.network_id == network.id]
        return sorted(found, key=lambda member: member.name)

    def _records(self) -> Iterator[ContainerRecord]:
        for container_id in self._store.ids():
            try:
                yield current(self._store, container_id)
            except (NotFound, Corrupt):
                continue  # removed meanwhile; or unreadable, and then its device says what there is to say

    def remove(self, reference: str) -> Network:
        """Remove a network and its bridges. Raises NotFound, Conflict (in use; predefined)."""
        if reference in (*_DEFAULT_ALIASES, *_MODES):
            raise Conflict(f"network {reference} is predefined and cannot be removed")
        network = self._networks.find(reference)
        if network.name == DEFAULT_NETWORK:
            raise Conflict(f"network {reference} is predefined and cannot be removed")
        if users := [member.name for member in self.members(network)]:
            raise Conflict(
                f"remove network {network.name}: in use by {_enumerate(users)}",
                hint="remove these, or take them off with `mydocker network disconnect`")
        with Route() as route:
            self._remove(route, network)
        return network

    def _remove(self, route: Route, network: Network) -> None:
        """Remove a network nobody is on. Its entry goes first: who comes later finds none, and makes no bridge again."""
        if network.driver == BRIDGE and (ports := _ports_that_stay(route, network)):
            raise Conflict(f"remove network {network.name}: in use by {len(ports)} devices ({_enumerate(ports)})")
        self._networks.remove(network.name)
        if network.driver != BRIDGE:
            return
        trace.point("removed network's name")  # from here on its bridge is an orphan
        if bridge.ports_of(route, network):
            # Somebody looked the network up before the entry went, and joined after our look.
            with self._networks.lock():
                self._networks.add(network)
            raise Conflict(f"remove network {network.name}: a container has just joined it")
        bridge.remove_bridges(route, network)
        firewall.forget(self._store.layout, published_loader(self._store))

    def prune(self, matches: Callable[[Network], bool] = lambda network: True) -> Sequence[Network]:
        """Remove the networks that no container names, and the default one's devices if nobody is on it; return the removed."""
        named = {reference for record in self._records() for reference in _names_of(record)}
        removed = []
        with Route() as route:
            orphans.sweep(route)
            for network in self._networks.all():
                try:
                    if network.name == DEFAULT_NETWORK:
                        if not self.members(network) and not _ports_that_stay(route, network):
                            bridge.remove_bridges(route, network)
                            firewall.forget(self._store.layout, published_loader(self._store))
                    elif not named & {network.name, network.id} and matches(network):
                        self._remove(route, network)
                        removed.append(network)
                except MydockerError as error:
                    log.debug("prune: keep network", network=network.name, error=error)  # in use since we looked
        return removed

    def connect(
        self, reference: str, container: str, *, ip: str = "", ip6: str = "", mac: str = "", alias: Iterable[str] = (),
    ) -> None:
        """Put a container on one more network: at once when it lives, else with its next start.

        Raises NotFound, Conflict (it is on it; an address in use; it has no network of its own), InvalidRequest.
        """
        from .endpoints import judge_endpoint  # cold
        from .memberships import connect  # cold

        network = self.get(reference)
        request = judge_endpoint(network.name, {"ip": ip, "ip6": ip6, "mac_address": mac, "network_alias": alias})
        connect(self._store, network, self._store.find(container), request)

    def disconnect(self, reference: str, container: str, *, force: bool = False) -> None:
        """Take a container off a network; with `force` off one that is gone, too. Raises NotFound, Conflict (it is not on it)."""
        from .memberships import disconnect  # cold

        try:
            network = self.get(reference)
        except NotFound:
            if not force:
                raise
            network = Network(id="", name=reference)
        disconnect(self._store, network, self._store.find(container))


def endpoints_of(record: ContainerRecord) -> list[Endpoint]:
    """Return where a container is on which network."""
    return [Endpoint.from_document(item) for item in record.endpoints or ()]


def requests_of(record: ContainerRecord) -> list[EndpointRequest]:
    """Return the networks that a container is on with each start."""
    return [EndpointRequest.from_document(item) for item in record.config.get("endpoints", ())]


def _names_of(record: ContainerRecord) -> Iterator[str]:
    yield from (request.network for request in requests_of(record))
    if record.status in ALIVE:
        yield from (endpoint.network for endpoint in endpoints_of(record))


def _ports_that_stay(route: Route, network: Network) -> list[str]:
    """Return the containers' devices on a network. The kernel removes those of a container that ended a moment later."""
    deadline = time.monotonic() + _TEARDOWN_S
    while (ports := bridge.ports_of(route, network)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return ports


def _refuse_overlap(name: str, wanted: Subnet, route: Route) -> None:
    """Raise Conflict when the machine itself uses addresses of a subnet: packets for them would go astray."""
    used = [(entry.packed, entry.prefix) for entry in route.routes() if entry.packed]
    used += [(address.packed, address.prefix) for _, address in route.addresses()]
    for packed, prefix in used:
        if prefix and overlaps(wanted, packed, prefix):
            from mydocker.linux.netlink import format_address  # cold

            raise Conflict(
                f"create network {name}: subnet {wanted.text} overlaps {format_address(packed)}/{prefix}, in use by this machine",
                hint="choose another subnet, or let the engine choose")


def _complete(request: NetworkRequest, used: list[tuple[bytes, int]] | None, network_id: str) -> tuple[Subnet, ...]:
    """Return the subnets that are asked for with those that are missing: of IPv4 one beside `used`, None if there is one."""
    subnets = request.subnets if used is None else (choose_subnet(used), *request.subnets)
    if request.wants_ipv6 and not any(subnet.bits == 128 for subnet in subnets):
        subnets = (*subnets, choose_subnet6(network_id))
    return subnets


def _enumerate(names: Iterable[str]) -> str:
    names = [*names]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

