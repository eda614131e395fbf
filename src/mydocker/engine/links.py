"""`--link NAME[:ALIAS]`: another container by a name of one's own.

A name is pinned to an id when the container is made, because names may move. On the default network, which has no
resolver, a link is a line of /etc/hosts, written with each start; on a user's network the resolver answers it (naming.py).
"""
from __future__ import annotations

from mydocker.base.errors import Conflict
from mydocker.network.model import DEFAULT_NETWORK, Endpoint

from .ending import current
from .lifecycle import ALIVE
from .networks import endpoints_of
from .store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.base.paths import Layout

    from .request import ContainerConfig
    from .store import ContainerRecord


def pin_links(store: Store, config: ContainerConfig) -> ContainerConfig:
    """Return the configuration with ids of other containers in place of their names. Raises NotFound, Conflict (ambiguous)."""
    return config.replace(links=tuple((store.find(name), alias) for name, alias in config.links))


def find_links(layout: Layout, record: ContainerRecord, endpoints: tuple[Endpoint, ...]) -> list[tuple[str, str]]:
    """Return (names, address) of the linked containers on the default network. Raises Conflict when one does not run there."""
    if not any(endpoint.network == DEFAULT_NETWORK for endpoint in endpoints):
        return []
    store = Store(layout)
    found = []
    for container_id, alias in record.config["links"]:
        other = current(store, container_id)
        address = next((endpoint.ip for endpoint in endpoints_of(other) if endpoint.network == DEFAULT_NETWORK), "")
        if other.status not in ALIVE or not address:
            raise Conflict(f"link to container {other.name}: it does not run on network {DEFAULT_NETWORK}", hint="start it first")
        found.append((" ".join(dict.fromkeys((alias, other.name, other.id))), address))
    return found
