"""How a network gets its subnet: it is chosen, and claimed by the network's bridge, on the whole machine.

Another state root, which knows nothing of ours, may choose the same at the same time. Whose bridge is second finds that out
(bridge.py), and takes another subnet, unless the user named this one.

A network that a user makes has its bridge before its name: what can be seen has its subnet. Until then its unfinished file is
the crash journal: a bridge of that id is nobody's, and goes with the file. The bridge says where that file is, then where the
network's is: whoever finds the file of a bridge gone removes it (orphans.py).
"""
from __future__ import annotations

import os

from mydocker.base import files, ids, log, trace
from mydocker.base.clock import now_ns
from mydocker.base.errors import Conflict, Corrupt, NotFound
from mydocker.base.locks import lock_directory
from mydocker.base.undo import Undo
from mydocker.linux.netlink import Route, device_index

from . import bridge, orphans
from .ipam import choose_subnet, is_used
from .model import DEFAULT_NETWORK, Network
from .store import TEMPORARY, NetworkStore, used_subnets


def make(store: NetworkStore, route: Route, network: Network, used: list[tuple[bytes, int]] | None) -> Network:
    """Make a new network on a bridge: its file, its bridge, its name; return it with the subnet that it got.

    `used` is what a subnet must not overlap that is chosen in place of one which another state root has just taken; None, if
    the user named the subnet. The caller holds the lock. Raises Conflict (the subnet is taken), Unavailable (none is free), and
    as bridge.ensure_bridge does; then nothing is left.
    """
    journal = store.write_unfinished(network)
    with Undo() as undo:
        undo.callback(_undo, route, network, journal)
        trace.point("wrote unfinished network")
        network = _claim(route, network, journal, used)
        trace.point("claimed subnet")
        store.give_name(journal, network)
        undo.pop_all()
    trace.point("named network")
    orphans.mark(route, network, store.layout.network(network.name))
    os.unlink(journal)
    return network


def _undo(route: Route, network: Network, journal: str) -> None:
    """Remove the bridge of a network that gets no name. If that fails its file stays, for who comes next."""
    bridge.remove_bridges(route, network)  # whatever subnet it has by now: the id does not change
    os.unlink(journal)


def _claim(route: Route, network: Network, path: str, used: list[tuple[bytes, int]] | None) -> Network:
    """Make a network's bridge, which claims its subnet; as long as others are faster move on, in the network's file, too."""
    while True:
        try:
            bridge.ensure_bridge(route, network, path)
            return network
        except bridge.SubnetTaken as error:
            if used is None or error.subnet != network.ipv4:
                raise Conflict(error.message, hint="choose another subnet, or let the engine choose") from error
            used.append((network.ipv4.packed, network.ipv4.prefix))
            network = _move(network, path, used)


def _move(network: Network, path: str, used: list[tuple[bytes, int]]) -> Network:
    """Give a network that has no bridge another IPv4 subnet. Raises Unavailable."""
    moved = network.replace(subnets=(choose_subnet(used), *(subnet for subnet in network.subnets if subnet.bits != 32)))
    files.save_json(path, moved.to_document())
    log.debug("moved network", network=network.name, subnet=moved.ipv4.text)
    return moved


def place_default(store: NetworkStore, *, wants_bridge: bool) -> Network:
    """Make the default network, or move it while its bridge is not there: the machine may use its subnet by now.

    A route that is narrower than the subnet would take addresses away from containers, a wider one would lose some to them.
    """
    path = store.layout.network(DEFAULT_NETWORK)
    with store.lock(), Route() as route:
        try:
            network = store.load(DEFAULT_NETWORK)
            if device_index(network.bridge):
                return network  # somebody was faster
        except NotFound:
            network = None
        orphans.sweep(route)
        used = used_subnets(store, route, besides=DEFAULT_NETWORK)
        if network is None:
            network = Network(id=ids.new_hex(12), name=DEFAULT_NETWORK, subnets=(choose_subnet(used),), created_ns=now_ns())
            store.add(network)
        elif is_used(network.ipv4, used):
            network = _move(network, path, used)
        return _claim(route, network, path, used) if wants_bridge else network


def sweep(store: NetworkStore) -> None:
    """Remove what whoever was killed in making a network left; nothing while somebody makes one."""
    lock = lock_directory(store.layout.networks, wait=False)
    if lock is None:
        return
    with lock, Route() as route:
        for entry in os.listdir(store.layout.networks):
            if entry.endswith(TEMPORARY):
                path = f"{store.layout.networks}/{entry}"
                if _finish(store, route, path):
                    os.unlink(path)


def _finish(store: NetworkStore, route: Route, journal: str) -> bool:
    """Write on the bridge of an unfinished network where its file is, if it got its name; else remove it.

    But not under containers: whoever was killed had found the network in use after he had removed its name, and was undoing that.
    Tell whether the unfinished file may go, which one that another version wrote may not. (A bridge in another network
    namespace than ours is an orphan then.)
    """
    try:
        network = Network.from_document(files.load_json(journal))
        path = store.layout.network(network.name)
        has_name = orphans.is_of(network.bridge, path)
    except Corrupt:
        return True  # the file itself is not whole, and the bridge is made after it
    except orphans.UNREADABLE as error:
        log.debug("leave unfinished network", path=journal, error=error)
        return False
    if has_name:
        orphans.mark(route, network, path)
    elif not bridge.has_members(network):
        bridge.remove_bridges(route, network)
    return True
