"""`--link NAME[:ALIAS]`: another container by a name of one's own.

A name is pinned to an id when the container is made, because names may move. On the default network, which has no
resolver, a link is a line of /etc/hosts, written with each start; on a user's network the resolver answers it (naming.py).
"""
from __future__ import annotations

from mydocker.base.errors import Conflict, Corrupt, NotFound
from mydocker.network.model import DEFAULT_NETWORK, Endpoint

from .ending import current
from .etc_files import rewrite
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


def find_links(
    layout: Layout, record: ContainerRecord, endpoints: tuple[Endpoint, ...], *, is_start: bool
) -> list[tuple[str, str]]:
    """Return (names, address) of the linked containers on the default network. At a start each must run there, or Conflict."""
    if not any(endpoint.network == DEFAULT_NETWORK for endpoint in endpoints):
        return []
    store = Store(layout)
    found = []
    for container_id, alias in record.config["links"]:
        try:
            other = current(store, container_id)
        except NotFound:
            if is_start:
                raise
            continue
        address = next((endpoint.ip for endpoint in endpoints_of(other) if endpoint.network == DEFAULT_NETWORK), "")
        if other.status not in ALIVE or not address:
            if not is_start:
                continue
            raise Conflict(f"link to container {other.name}: it does not run on network {DEFAULT_NETWORK}", hint="start it first")
        found.append((" ".join(dict.fromkeys((alias, other.name, other.id))), address))
    return found


def follow_move(store: Store, before: ContainerRecord, after: ContainerRecord) -> None:
    """Tell those that link to a container that was started again where it is now, if it is elsewhere. No lock may be held.

    Seldom: a container's address depends on its id, so it gets its old one back unless somebody else has it now.
    """
    if _default_addresses(before) == _default_addresses(after):
        return
    for container_id in store.ids():
        try:
            if any(linked == after.id for linked, _ in store.load(container_id).config.get("links", ())):
                with store.lock(container_id):
                    owner = current(store, container_id)
                    if owner.status in ALIVE:
                        rewrite(store.layout, owner)
        except (NotFound, Corrupt):
            continue  # removed meanwhile, or unreadable and so not to be told


def _default_addresses(record: ContainerRecord) -> list[str]:
    return [endpoint.ip for endpoint in endpoints_of(record) if endpoint.network == DEFAULT_NETWORK]
