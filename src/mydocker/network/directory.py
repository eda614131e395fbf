"""Which name means which addresses, for whom: the data behind the resolver. Pure but for the test whether a process lives.

A container has, on each network of a user's, its name, its aliases there, its id and beginnings of it, and its host name, each
also with the network's name behind a dot. A client sees the names of all networks that it is on. Case means nothing.
"""
from __future__ import annotations

from mydocker.base.record import Record
from mydocker.linux.process import ProcessIdentity, is_alive

from .model import DEFAULT_NETWORK, Endpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Beginnings of ids are that long at least: shorter ones are too often something else.
_MIN_ID_LETTERS = 6
#: So many addresses fit into any answer, and no client tries more.
_MAX_ADDRESSES = 24


class Member(Record):
    """What the resolver knows of a container."""

    id: str
    name: str
    hostname: str
    identity: ProcessIdentity
    endpoints: tuple[Endpoint, ...]
    links: tuple[tuple[str, str], ...] = ()
    """(id, alias) of other containers, for this one alone."""
    servers: tuple[str, ...] = ()
    """Name servers in place of the machine's."""


class Directory:
    """The members by their names and by their addresses. Addresses of the dead are not told, whatever the records say."""

    def __init__(self, members: Iterable[Member], is_member_alive: Callable[[ProcessIdentity], bool] = is_alive) -> None:
        self._members = {member.id: member for member in members}
        self._is_alive = is_member_alive
        self._by_name: dict[str, list[tuple[Member, Endpoint]]] = {}
        self._by_address: dict[str, list[tuple[Member, Endpoint]]] = {}
        self._turn = 0
        for member in self._members.values():
            for endpoint in member.endpoints:
                if endpoint.network != DEFAULT_NETWORK:
                    self._enter(member, endpoint)

    def _enter(self, member: Member, endpoint: Endpoint) -> None:
        for name in {word.lower() for word in (member.name, member.hostname, member.id, *endpoint.aliases) if word}:
            for full in (name, f"{name}.{endpoint.network.lower()}"):
                self._by_name.setdefault(full, []).append((member, endpoint))
        for address in (endpoint.ip, endpoint.ip6):
            if address:
                self._by_address.setdefault(address, []).append((member, endpoint))

    def client(self, network_id: str, address: str) -> Member | None:
        """Return the container that has an address on a network."""
        for member, endpoint in self._by_address.get(address, ()):
            if endpoint.network_id == network_id and self._is_alive(member.identity):
                return member
        return None

    def addresses(self, name: str, networks: set[str], client: Member | None) -> list[str] | None:
        """Return the addresses of a name on networks (by id), each time another first; None when nobody has the name."""
        found = [(member, endpoint) for member, endpoint in self._candidates(name, client) if endpoint.network_id in networks]
        living = [endpoint for member, endpoint in found if self._is_alive(member.identity)]
        if not living:
            return None
        self._turn += 1
        start = self._turn % len(living)
        turned = [*living[start:], *living[:start]][:_MAX_ADDRESSES]
        return [address for endpoint in turned for address in (endpoint.ip, endpoint.ip6) if address]

    def _candidates(self, name: str, client: Member | None) -> list[tuple[Member, Endpoint]]:
        linked = [id for id, alias in client.links if alias.lower() == name] if client else []
        if linked:
            return [(member, endpoint) for id in linked if (member := self._members.get(id)) for endpoint in member.endpoints]
        if found := self._by_name.get(name):
            return found
        if name.isdigit() and len(name) >= _MIN_ID_LETTERS:
            return [
                (member, endpoint) for member in self._members.values() if member.id.startswith(name)
                for endpoint in member.endpoints if endpoint.network != DEFAULT_NETWORK]
        return []

    def names(self, address: str, networks: set[str]) -> list[str]:
        """Return the names that an address on networks stands for."""
        return [
            f"{member.name}.{endpoint.network}" for member, endpoint in self._by_address.get(address, ())
            if endpoint.network_id in networks and self._is_alive(member.identity)]
