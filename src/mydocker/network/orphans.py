"""Bridges whose state root was deleted (`rm -rf`): nothing in it is left to say that they are somebody's.

So each bridge carries the path of its network's file as its alias, which `ip link` shows, too. Whoever is about to choose a
subnet, or prunes, removes bridges whose file is gone, or is another network's, and that no container is on, with the rules of
their root. If that was an error (the file is on a disk that is not there just now), the next start there makes both again.
"""
from __future__ import annotations

import errno
import os

from mydocker.base import files, log
from mydocker.base.errors import Corrupt, RuntimeFailed
from mydocker.linux import netlink
from mydocker.linux.netlink import Link, Route, device_index
from mydocker.linux.nft import Tables

from .firewall import table_of
from .model import Network

_MARK = "mydocker "
_MOST_BYTES = 255  # IFALIASZ


def mark(route: Route, network: Network, path: str) -> None:
    """Write on a network's first bridge where its file is; a path too long for that is left out. Raises RuntimeFailed."""
    index = device_index(network.bridge)  # 0: somebody has just removed it, as he may
    if index and len(alias := os.fsencode(f"{_MARK}{path}")) <= _MOST_BYTES:
        _request(route, netlink.change_alias(index, alias))


def sweep(route: Route) -> None:
    """Remove the bridges of all state roots that are gone. Raises RuntimeFailed."""
    links = route.links()
    for link in links:
        if link.kind == "bridge" and link.name.startswith("mb") and link.alias.startswith(_MARK):
            path = link.alias[len(_MARK) :]
            if not is_of(link.name, path):
                _remove(route, links, link, path)


def is_of(bridge: str, path: str) -> bool:
    """Tell whether a bridge is that of the network in a file; one that cannot be read may be."""
    try:
        return Network.from_document(files.load_json(path)).bridge == bridge
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (Corrupt, OSError, KeyError, ValueError, TypeError):
        return True


def _remove(route: Route, links: list[Link], first: Link, path: str) -> None:
    bridges = [link for link in links if link.name == first.name or link.name.startswith(f"{first.name}.")]
    indexes = {link.index for link in bridges}
    if any(link.master in indexes and link.name.startswith("mv") for link in links):
        return  # its containers live on
    cables = [link for link in links if link.name.startswith(f"mc{first.name[2:]}.") and not link.name.endswith("-")]
    for link in (*bridges, *cables):
        _request(route, netlink.delete_link(link.name))
    root = os.path.dirname(os.path.dirname(path))
    if not os.path.lexists(root):
        with Tables() as tables:
            tables.remove_table(table_of(root))
    log.debug("removed the bridge of a state root that is gone", bridge=first.name, path=path)


def _request(route: Route, message: netlink.Message) -> None:
    try:
        route.request(message)
    except netlink.Refused as error:
        if error.errno != errno.ENODEV:  # somebody else removes the same
            raise RuntimeFailed(error.args[1]) from error
