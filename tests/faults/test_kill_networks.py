"""kill -9 of whoever makes or removes a network: its bridge and its subnet are the network's, or free again."""
from __future__ import annotations

import json
import os

import pytest
from fault_rig import killed_at
from harness import Mydocker, network_links

from mydocker.base.paths import Layout
from mydocker.linux.netlink import Route, device_index
from mydocker.network.model import Network
from mydocker.network.store import NetworkStore

pytestmark = pytest.mark.needs("root", "netns", "overlay", "bridges")

_SUBNET = ("--subnet", "10.213.2.0/24")


def links_of(network: Network) -> list[str]:
    return [name for name in network_links() if network.id[:8] in name]


def journal_of(mydocker: Mydocker) -> Network:
    """Return the network that a killed command was making."""
    (entry,) = [entry for entry in os.listdir(f"{mydocker.root}/network") if entry.endswith(".tmp")]
    with open(f"{mydocker.root}/network/{entry}", encoding="utf-8") as stream:
        return Network.from_document(json.load(stream))


@pytest.mark.parametrize("point", ["wrote unfinished network", "made bridge", "claimed subnet"])
def test_a_network_killed_before_it_has_its_name_leaves_its_subnet_free(mydocker: Mydocker, busybox: str, point: str) -> None:
    killed_at(mydocker, point, "network", "create", *_SUBNET, "net")
    network = journal_of(mydocker)
    assert bool(links_of(network)) == (point != "wrote unfinished network")
    assert mydocker("network", "ls", "-q", "-f", "name=net").out == ""
    assert links_of(network) == []
    assert not [entry for entry in os.listdir(f"{mydocker.root}/network") if entry.endswith(".tmp")]
    mydocker("network", "create", *_SUBNET, "net")
    assert "10.213.2." in mydocker("run", "--rm", "--network", "net", busybox, "ip", "-o", "addr").out
    mydocker("network", "rm", "net")


def test_a_network_killed_behind_its_name_is_whole(mydocker: Mydocker, busybox: str) -> None:
    killed_at(mydocker, "named network", "network", "create", *_SUBNET, "net")
    network = NetworkStore(Layout(mydocker.root)).load("net")
    assert mydocker("network", "ls", "-q", "-f", "name=net").out.strip() == network.id
    assert not [entry for entry in os.listdir(f"{mydocker.root}/network") if entry.endswith(".tmp")]
    with Route() as route:
        (alias,) = [link.alias for link in route.links() if link.name == network.bridge]
    assert alias == f"mydocker {mydocker.root}/network/net.json"
    assert "10.213.2." in mydocker("run", "--rm", "--network", "net", busybox, "ip", "-o", "addr").out
    mydocker("network", "rm", "net")
    assert links_of(network) == []


def test_a_removal_killed_behind_the_name_leaves_a_bridge_that_goes_with_the_next_create(mydocker: Mydocker) -> None:
    mydocker("network", "create", *_SUBNET, "net")
    network = NetworkStore(Layout(mydocker.root)).load("net")
    killed_at(mydocker, "removed network's name", "network", "rm", "net")
    assert device_index(network.bridge)
    mydocker("network", "create", *_SUBNET, "net")
    assert links_of(network) == []
    mydocker("network", "rm", "net")
