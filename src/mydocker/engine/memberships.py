"""Containers that join and leave networks while they are there: `network connect` and `disconnect`.

The container's lock is held throughout. One that lives (running, paused, created) is changed at once: its namespace is
opened by a process that is verified by a pidfd, and the record follows. Of one that ended only the configuration
changes, for the next start.
"""
from __future__ import annotations

import errno
import os

from mydocker.base.errors import Conflict, RuntimeFailed
from mydocker.linux import netlink
from mydocker.linux.netlink import AF_INET, AF_INET6, Route
from mydocker.linux.process import open_pidfd, wait_pidfd
from mydocker.network.model import Network

from .connecting import documents, guard, plug
from .ending import current
from .lifecycle import ALIVE
from .networks import endpoints_of, requests_of
from .observe import identity_of
from .publishing import publish, retarget, withdraw
from .recover import ensure_resolvers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.network.model import Endpoint, EndpointRequest

    from .store import ContainerRecord, Store


def connect(store: Store, network: Network, container_id: str, request: EndpointRequest) -> None:
    """Put a container on a network. Raises Conflict, NotFound, InvalidRequest, Unavailable."""
    with store.lock(container_id):
        record = current(store, container_id)
        mode = record.config.get("network", "")
        if mode in ("none", "host") or mode.startswith("container:"):
            raise Conflict(f"connect container {record.name} to network {network.name}: it was made with --network {mode}")
        requests = requests_of(record)
        if any(other.network in (network.name, network.id) for other in requests):
            raise Conflict(f"container {record.name} is on network {network.name} already")
        config = {**record.config, "endpoints": [item.as_dict() for item in (*requests, request)]}
        changed = record.replace(config=config)
        if record.status in ALIVE:
            changed = retarget(changed.replace(
                endpoints=documents((*endpoints_of(record), _plug(store, record, network, request)))))
            guard(store.layout, network)
        # Killed before this line, the container has a device that no record knows, until its end.
        store.save(changed)
        _follow_up(store, changed)


def _plug(store: Store, record: ContainerRecord, network: Network, request: EndpointRequest) -> Endpoint:
    namespace_fd = open_network_namespace(record)
    try:
        with Route() as route, Route.inside(namespace_fd) as inside:
            # The container may have made devices of its own, and a name in use would look like an address in use.
            interface = _free_name({link.name for link in inside.links()})
            return plug(
                store.layout, route, network, request, namespace_fd, interface, f"{record.id}{interface[3:]}",
                routes=_families_without_default(inside))
    finally:
        os.close(namespace_fd)


def _free_name(taken: set[str]) -> str:
    number = 0
    while f"eth{number}" in taken:
        number += 1
    return f"eth{number}"


def disconnect(store: Store, network: Network, container_id: str) -> None:
    """Take a container off a network. Raises Conflict."""
    with store.lock(container_id):
        record = current(store, container_id)
        requests, endpoints = requests_of(record), endpoints_of(record)
        left = [item for item in requests if item.network not in (network.name, network.id)]
        gone = [item for item in endpoints if item.network_id == network.id or item.network == network.name]
        if len(left) == len(requests) and not (gone and record.status in ALIVE):
            raise Conflict(f"container {record.name} is not on network {network.name}")
        remaining = [item for item in endpoints if item not in gone]
        if record.status in ALIVE and gone:
            withdraw(store, record)  # before the address can be another's
            _unplug(record, gone, remaining)
        changed = retarget(record.replace(
            config={**record.config, "endpoints": [item.as_dict() for item in left]}, endpoints=documents(tuple(remaining))))
        store.save(changed)
        _follow_up(store, changed)


def _unplug(record: ContainerRecord, gone: list[Endpoint], remaining: list[Endpoint]) -> None:
    """Remove devices, found from inside by what they are and not by their names, which a container may have changed."""
    namespace_fd = open_network_namespace(record)
    try:
        with Route.inside(namespace_fd) as inside:
            for endpoint in gone:
                _remove_device(inside, endpoint)
            for family in _families_without_default(inside):
                _restore_default_route(inside, remaining, family)
    finally:
        os.close(namespace_fd)


def _remove_device(inside: Route, endpoint: Endpoint) -> None:
    outer = netlink.device_index(endpoint.host_interface) if endpoint.host_interface else 0
    for link in inside.links():
        is_peer = link.kind == "veth" and link.peer == outer if outer else (
            link.kind == endpoint.driver and endpoint.interface == link.name)
        if not is_peer:
            continue
        try:
            inside.request(netlink.delete_link(link.name))
        except netlink.Refused as error:
            if error.errno != errno.ENODEV:
                raise RuntimeFailed(error.args[1]) from error


def _families_without_default(inside: Route) -> list[int]:
    found = {entry.family for entry in inside.routes() if not entry.packed}
    return [family for family in (AF_INET, AF_INET6) if family not in found]


def _restore_default_route(inside: Route, remaining: list[Endpoint], family: int) -> None:
    """Give a container that lost its way out another one: the first network that has one."""
    for endpoint in remaining:
        if gateway := endpoint.way_out(family):
            index = inside.index_of(endpoint.interface)
            inside.request(netlink.add_default_route(netlink.parse_address(gateway), index))
            return


def open_network_namespace(record: ContainerRecord) -> int:
    """Return the network namespace of a container that lives; the caller closes it. Raises Conflict when it has just ended."""
    identity = identity_of(record)
    pidfd = open_pidfd(identity) if identity else None
    if identity is None or pidfd is None:
        raise Conflict(f"container {record.name} has just ended")
    try:
        try:
            fd = os.open(f"/proc/{identity.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):
            raise Conflict(f"container {record.name} has just ended") from None
        # Alive after the opening: then the pid was this container's all the time.
        if wait_pidfd(pidfd, 0):
            os.close(fd)
            raise Conflict(f"container {record.name} has just ended")
        return fd
    finally:
        os.close(pidfd)


def _follow_up(store: Store, record: ContainerRecord) -> None:
    """Have the container's files, and the names on its networks, follow."""
    if record.status in ALIVE:
        if record.ports:
            publish(store, record)
        from .etc_files import rewrite  # cold

        rewrite(store.layout, record)
        ensure_resolvers(store.layout, record.named_networks)
