"""Containers on networks: what a start does beside its mounts, from outside, while the init goes on inside.

The stage puts the container's network namespace on its networks right after the clone and before it becomes the monitor,
which is who says START: no command runs before its network is there. What came of it is in the record (`endpoints`);
what the next start will ask for is in the configuration (`endpoints` of `config`).
"""
from __future__ import annotations

import os

from mydocker.base import log, trace
from mydocker.base.errors import Conflict, MydockerError, Unavailable
from mydocker.linux.netlink import AF_INET, AF_INET6, Route
from mydocker.network import bridge, firewall
from mydocker.network.model import BRIDGE, DEFAULT_NETWORK, Endpoint, EndpointRequest, Network
from mydocker.network.store import NetworkStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from mydocker.base.paths import Layout
    from mydocker.network.firewall import Published
    from mydocker.runtime.cloning import Created

    from .publishing import Reservation
    from .request import ContainerConfig
    from .store import ContainerRecord


def pin_networks(layout: Layout, config: ContainerConfig) -> ContainerConfig:
    """Return the configuration with the names of networks that there are, before anything is made.

    Raises NotFound, Conflict (twice the same; ambiguous), Unavailable (no subnet for the default one), InvalidRequest (an
    address that is none there).
    """
    store = NetworkStore(layout)
    endpoints = tuple(_pin(store, request) for request in config.endpoints)
    if len({request.network for request in endpoints}) < len(endpoints):
        raise Conflict("network: the same network twice, by name and by id")
    if endpoints:
        firewall.tell_of_missing_part(layout)
    return config.replace(endpoints=endpoints)


def _pin(store: NetworkStore, request: EndpointRequest) -> EndpointRequest:
    network = load_network(store, request.network)
    if request.ip:
        bridge.fixed_address(request.ip, network, network.ipv4)
    if request.ip6:
        bridge.fixed_address(request.ip6, network, network.ipv6)
    return request.replace(network=network.name)


def networks_of(layout: Layout, config: dict[str, Any]) -> list[Network]:
    """Return the networks of a container's configuration, in its order. Raises NotFound."""
    store = NetworkStore(layout)
    return [load_network(store, item["network"]) for item in config.get("endpoints", ())]


def load_network(store: NetworkStore, name: str) -> Network:
    """Return a network; the default one comes to be with the first look."""
    return store.default(wants_bridge=True) if name == DEFAULT_NETWORK else store.find(name)


def join_networks(layout: Layout, record: ContainerRecord, created: Created, reservation: Reservation | None) -> ContainerRecord:
    """Put a container on its networks and return its record with what came of it.

    Raises what network/bridge.py does, or what the init has reported: one that has failed has no namespace any more.
    """
    try:
        return _join(layout, record, created, reservation)
    except (MydockerError, OSError):
        from mydocker.runtime.lastwords import raise_failure  # cold

        raise_failure(created.channel)
        raise


def _join(layout: Layout, record: ContainerRecord, created: Created, reservation: Reservation | None) -> ContainerRecord:
    from .etc_files import write_files  # cold

    endpoints = connect(layout, record, created)
    write_files(layout, record, endpoints)
    ports = None
    if reservation is not None:
        from . import publishing  # cold

        ports = publishing.documents(reservation.bindings, endpoints)
    return record.replace(endpoints=documents(endpoints), ports=ports)


def connect(layout: Layout, record: ContainerRecord, created: Created) -> tuple[Endpoint, ...]:
    """Put a container that is being made on its networks. Raises what network/bridge.py does.

    Nothing is to be undone: the devices die with the namespace.
    """
    requests = [EndpointRequest.from_document(item) for item in record.config.get("endpoints", ())]
    if not requests:
        return ()
    store = NetworkStore(layout)
    namespace_fd = open_namespace(created)
    endpoints: list[Endpoint] = []
    try:
        with Route() as route:
            for number, request in enumerate(requests):
                network = load_network(store, request.network)
                endpoints.append(plug(
                    layout, route, network, request, namespace_fd, f"eth{number}", f"{record.id}{number}",
                    routes=[family for family in (AF_INET, AF_INET6)
                            if not any(endpoint.way_out(family) for endpoint in endpoints)]))
                log.debug("connected", container=record.id, network=network.name, ip=endpoints[-1].ip)
                guard(layout, network)
    finally:
        os.close(namespace_fd)
    trace.point("connected networks")
    return tuple(endpoints)


def plug(
    layout: Layout, route: Route, network: Network, request: EndpointRequest, namespace_fd: int, interface: str, seed: str, *,
    routes: Iterable[int],
) -> Endpoint:
    """Put a namespace on a network of any driver; see network/bridge.py plug."""
    if network.driver == BRIDGE:
        return bridge.plug(
            route, network, request, namespace_fd, interface, seed, path=layout.network(network.name), routes=routes)
    from mydocker.network import virtual  # cold

    return virtual.plug(route, network, request, namespace_fd, interface, seed, routes=routes)


def guard(layout: Layout, network: Network) -> None:
    """See that the rules of a network that a container has just joined are there; without nft there are none."""
    if network.driver != BRIDGE:
        return
    try:
        firewall.ensure(layout, network, lambda: _load_published(layout))
    except Unavailable as error:
        log.debug("no rules", network=network.name, error=error)  # pin_networks has told the user


def _load_published(layout: Layout) -> Iterable[Published]:
    from .publishing import published_loader  # cold: a start whose rules are there does not come here
    from .store import Store

    return published_loader(Store(layout))()


def open_namespace(created: Created) -> int:
    """Return the container's network namespace. The init joins one that was made ahead by itself, perhaps not yet."""
    if created.network_fd >= 0:
        return os.dup(created.network_fd)
    return os.open(f"/proc/{created.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def documents(endpoints: tuple[Endpoint, ...]) -> list[dict[str, Any]]:
    """Return endpoints for the record."""
    return [endpoint.as_dict() for endpoint in endpoints]
