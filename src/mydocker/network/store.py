"""Networks on disk: network/<name>.json, made once, removed by name, never changed (but for the default one's subnet).

Making a name is a link(2) of a finished file, so that two commands that make the same network at the same time end with
one of them (the default network comes to be by itself, with the first container that wants it). What a subnet is chosen
by is looked at under the lock of the directory, which nobody takes who only uses networks; see claiming.py.
"""
from __future__ import annotations

import os

from mydocker.base import files, ids
from mydocker.base.errors import Conflict, NotFound
from mydocker.base.locks import DirectoryLock, lock_directory
from mydocker.linux.netlink import device_index

from .model import DEFAULT_NETWORK, Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.base.paths import Layout
    from mydocker.linux.netlink import Route

#: How the files end that have no name yet.
TEMPORARY = ".tmp"


class NetworkStore:
    """The networks of one state root."""

    __slots__ = ("layout",)

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def names(self) -> list[str]:
        """Return the names of the networks that there are, sorted."""
        found = [entry[:-5] for entry in os.listdir(self.layout.networks) if entry.endswith(".json") and entry[0] != "."]
        return sorted(found)

    def load(self, name: str) -> Network:
        """Return a network by its exact name. Raises NotFound, Corrupt."""
        try:
            return Network.from_document(files.load_json(self.layout.network(name)))
        except FileNotFoundError:
            raise NotFound(f"no network {name}", hint="`mydocker network ls` lists those there are") from None

    def find(self, reference: str) -> Network:
        """Return a network by name, or by id or unique prefix of one. Raises NotFound, Conflict (ambiguous)."""
        if reference in self.names():
            return self.load(reference)
        found = [network for network in self.all() if network.id.startswith(reference)] if reference else []
        if len(found) > 1:
            names = ", ".join(network.name for network in found)
            raise Conflict(f"network {reference} is ambiguous: {names}", hint="write more of it")
        if not found:
            raise NotFound(
                f"no network {reference}", hint="`mydocker network ls` lists those there are, besides none and host")
        return found[0]

    def all(self) -> list[Network]:
        """Return all networks, by name."""
        found = []
        for name in self.names():
            try:
                found.append(self.load(name))
            except NotFound:
                continue  # removed between the listing and the look
        return found

    def add(self, network: Network) -> None:
        """Enter a new network. Raises Conflict when its name is in use. The caller holds the lock."""
        temporary = self.write_unfinished(network)
        try:
            self.give_name(temporary, network)
        finally:
            os.unlink(temporary)

    def write_unfinished(self, network: Network) -> str:
        """Write the file of a network that has no name yet, and return where. Whoever is killed leaves it to claiming.py."""
        temporary = f"{self.layout.networks}/.{network.name}.{ids.new_unique()}{TEMPORARY}"
        files.save_json(temporary, network.to_document())
        return temporary

    def give_name(self, temporary: str, network: Network) -> None:
        """Have a finished file be a network. Raises Conflict when the name is in use."""
        try:
            os.link(temporary, self.layout.network(network.name))
        except FileExistsError:
            raise Conflict(f"network {network.name} exists already", hint="choose another name") from None

    def remove(self, name: str) -> None:
        """Remove a network's entry; one that is not there is fine."""
        try:
            os.unlink(self.layout.network(name))
        except FileNotFoundError:
            pass

    def default(self, *, wants_bridge: bool = False) -> Network:
        """Return the default network, made now if this is the first time; with its bridge, if that is wanted.

        Raises Unavailable (no free subnet), and as bridge.ensure_bridge does.
        """
        try:
            network = self.load(DEFAULT_NETWORK)
            if device_index(network.bridge):
                return network
        except NotFound:
            pass
        from .claiming import place_default  # cold: once a boot

        return place_default(self, wants_bridge=wants_bridge)

    def lock(self) -> DirectoryLock:
        """Take the lock of whoever chooses a subnet: two new networks must not choose the same. The caller closes it."""
        lock = lock_directory(self.layout.networks)
        assert lock is not None  # waited for
        return lock


def used_subnets(store: NetworkStore, route: Route, *, besides: str = "") -> list[tuple[bytes, int]]:
    """Return what a network must not overlap: the machine's routes and addresses, and the networks but that of a name."""
    found = [(entry.packed, entry.prefix) for entry in route.routes() if entry.packed]
    found += [(address.packed, address.prefix) for _, address in route.addresses()]
    return found + [
        (subnet.packed, subnet.prefix) for network in store.all() if network.name != besides for subnet in network.subnets]
