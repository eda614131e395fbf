"""Bridges whose state root was deleted (`rm -rf`): nothing in it is left to say that they are somebody's.

So each bridge carries the path of its network's file as its alias from its first instant, which `ip link` shows, too: of the
unfinished one until its network has its name (claiming.py). Whoever is about to choose a
subnet, or prunes, removes bridges whose file is gone, or is another network's, and that no container is on, with the rules of
their root. If that was an error (the file is on a disk that is not there just now), the next start there makes both again.
"""
from __future__ import annotations

import errno
import os

from mydocker.base import files, log, trace
from mydocker.base.errors import Corrupt, RuntimeFailed
from mydocker.linux import netlink
from mydocker.linux.netlink import Link, Route
from mydocker.linux.nft import Tables

from . import bridge
from .firewall import table_of
from .model import Network

#: What reading a network's file raises when it is not there, or is of another version of ours.
UNREADABLE = (Corrupt, OSError, KeyError, ValueError, TypeError, AttributeError)


def mark(route: Route, network: Network, path: str) -> None:
    """Write on a network's first bridge where its file is; a path too long for that is left out. Raises RuntimeFailed."""
    for message in bridge.mark(network, path):
        _request(route, message)


def sweep(route: Route) -> None:
    """Remove the bridges of all state roots that are gone. Raises RuntimeFailed."""
    links = route.links()
    trace.point("listed bridges")
    if orphans := {(link.index, link.alias) for link in links if _is_orphan(link)}:
        # Who has just named a network has first changed what its bridge says, then removed the unfinished file that we missed.
        links = route.links()
        for link in links:
            if (link.index, link.alias) in orphans:
                _remove(route, links, link, _path_of(link))


def _is_orphan(link: Link) -> bool:
    return (
        link.kind == "bridge" and link.name.startswith("mb") and link.alias.startswith(bridge.MARK)
        and not is_of(link.name, _path_of(link)))


def _path_of(link: Link) -> str:
    return link.alias[len(bridge.MARK) :]


def is_of(name: str, path: str) -> bool:
    """Tell whether a bridge is that of the network in a file; one that cannot be read may be."""
    try:
        return Network.from_document(files.load_json(path)).bridge == name
    except (FileNotFoundError, NotADirectoryError):
        return False
    except UNREADABLE:
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
