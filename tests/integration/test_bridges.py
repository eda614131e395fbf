"""The bridges of a network: whole whoever is killed, deaf to what containers advertise, and as many as there have to be."""
from __future__ import annotations

import os
import socket
import struct
import subprocess

import pytest
from harness import Mydocker, until
from network_rig import Machine, Place, Server, TestHost, address_of, make_network, start

from mydocker.base.paths import Layout
from mydocker.network.model import Network
from mydocker.network.store import NetworkStore

pytestmark = pytest.mark.needs("root", "netns", "nft", "ip", "nsenter", "bridges")
_MOST_PORTS = 1023


def network_of(mydocker: Mydocker, name: str = "bridge") -> Network:
    return NetworkStore(Layout(mydocker.root)).load(name)


def fill(machine: Machine, network: Network, number: int = 0) -> None:
    """Use up the ports of one of a network's bridges, as so many containers of others would."""
    name = network.bridge if not number else f"{network.bridge}.{number}"
    taken = machine.run("ip", "-o", "link", "show", "master", name).count("\n")
    lines = "".join(f"link add f{number}x{port} master {name} type veth peer name g{number}x{port}\n" for port in range(_MOST_PORTS - taken))
    subprocess.run(["ip", "-n", machine.name, "-batch", "-"], input=lines, text=True, check=True)


def test_a_bridge_whose_maker_was_killed_is_finished_by_the_next_start(mydocker: Mydocker, machine: Machine) -> None:
    mydocker("run", "-d", "busybox", "sleep", "9", env={"MYDOCKER_TRACE": "made bridge=kill"}, code=None)
    network = network_of(mydocker)
    assert network.bridge in machine.run("ip", "-o", "link")
    assert "inet " not in machine.run("ip", "addr", "show", network.bridge)
    inside = start(mydocker, "next")
    assert "64 bytes from" in inside.run("busybox", "ping", "-c1", "-W2", network_gateway(network))


def network_gateway(network: Network) -> str:
    return socket.inet_ntop(socket.AF_INET, network.ipv4.gateway)


@pytest.mark.time_limit(120)
def test_a_full_bridge_gets_another_which_is_finished_though_its_maker_is_killed(mydocker: Mydocker, machine: Machine) -> None:
    first = start(mydocker, "first")
    network = network_of(mydocker)
    for number in (0, 1):
        fill(machine, network, number)
        mydocker("run", "-d", "busybox", "sleep", "9", env={"MYDOCKER_TRACE": "made further bridge=kill"}, code=None)
        assert f"{network.bridge}.{number + 1}" in machine.run("ip", "-o", "link")
        inside = start(mydocker, f"c{number}")
        assert f"master {network.bridge}.{number + 1}" in machine.run(
            "ip", "-o", "link", "show", f"mv{socket.inet_aton(address_of(mydocker, f'c{number}')).hex()}")
        with Server(first, 80), Server(inside, 81):
            assert inside.ask(address_of(mydocker, "first"), 80) == address_of(mydocker, f"c{number}")
            assert first.ask(address_of(mydocker, f"c{number}"), 81) == address_of(mydocker, "first")
            assert machine.ask(address_of(mydocker, f"c{number}"), 81) == network_gateway(network)
    mydocker("rm", "-f", "first", "c0", "c1")
    mydocker("network", "prune", "-f")
    assert network.bridge not in machine.run("ip", "-o", "link")


def test_a_bridge_that_somebody_removed_comes_back_with_its_containers(mydocker: Mydocker, machine: Machine) -> None:
    one, other = start(mydocker, "one"), start(mydocker, "other")
    machine.run("ip", "link", "del", network_of(mydocker).bridge)
    with Server(other, 80):
        assert one.is_cut_off(address_of(mydocker, "other"), 80)
        start(mydocker, "next")
        assert one.ask(address_of(mydocker, "other"), 80) == address_of(mydocker, "one")
        assert machine.ask(address_of(mydocker, "other"), 80)


def advertise(place: Place, device: str) -> None:
    """Say that whoever hears it shall send everything by way of us."""
    index = int(place.run("ip", "-o", "link", "show", device).partition(":")[0])
    with place.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as made:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + socket.inet_pton(socket.AF_INET6, "2001:db8:bad::")
        made.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix, ("ff02::1", 0, 0, index))


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4 only", "with ipv6"])
def test_what_a_container_advertises_as_a_router_is_not_believed(mydocker: Mydocker, machine: Machine, ipv6: bool) -> None:
    """CVE-2020-10749 and CVE-2020-13401: the way out of the machine, and of neighbours, would have been the container's."""
    make_network(mydocker, "net", ipv6=ipv6)
    victim, liar = start(mydocker, "victim", "--network", "net"), start(mydocker, "liar", "--network", "net")
    machine.set("net.ipv6.conf.all.forwarding", "0")  # a router would not believe others anyway
    liar.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=0")  # with CAP_NET_RAW it needs no address for that
    until(lambda: "tentative" not in (text := liar.run("ip", "-6", "addr", "show", "eth0")) and "fe80" in text)
    witness = Place(f"/run/netns/{machine.name}")
    before = {place: place.run("ip", "-6", "route") for place in (victim, witness)}
    for _ in range(3):
        advertise(liar, "eth0")
    assert "64 bytes" in victim.run("busybox", "ping", "-c1", "-W2", network_gateway(network_of(mydocker, "net")))
    for place, routes in before.items():
        assert place.run("ip", "-6", "route") == routes
        assert "2001:db8:bad" not in place.run("ip", "-6", "addr")
    assert ("fe80" in victim.run("ip", "-6", "addr", "show", "eth0")) == ipv6


def test_the_machine_keeps_its_way_out_that_a_router_advertises(mydocker: Mydocker, machine: Machine) -> None:
    """The kernel forgets such a default route when it is to forward IPv6 packets itself."""
    with TestHost(os.getpid() + 2, machine.name) as router:
        machine.set("net.ipv6.conf.all.forwarding", "0")
        until(lambda: "tentative" not in (text := router.run("ip", "-6", "addr", "show", "eth0")) and "fe80" in text)

        def is_heard() -> bool:
            advertise(router, "eth0")
            return "default via fe80" in machine.run("ip", "-6", "route")

        until(is_heard)
        make_network(mydocker, "net", ipv6=True)
        start(mydocker, "c", "--network", "net")
        assert machine.run("sysctl", "-n", "net.ipv6.conf.all.forwarding") == "1\n"
        assert "default via fe80" in machine.run("ip", "-6", "route")


def test_the_devices_of_a_deleted_bridge_are_adopted_by_their_own_network_only(mydocker: Mydocker, machine: Machine) -> None:
    for name in ("red", "blue"):
        make_network(mydocker, name)
    red = start(mydocker, "r", "--network", "red")
    machine.run("ip", "link", "del", network_of(mydocker, "red").bridge)
    blue = start(mydocker, "b", "--network", "blue")
    with Server(red, 80):
        assert blue.is_cut_off(address_of(mydocker, "r"), 80)
    outer = f"mv{socket.inet_aton(address_of(mydocker, 'r')).hex()}"
    assert "master" not in machine.run("ip", "-o", "link", "show", outer)
    assert os.path.exists(f"{mydocker.root}/network/red.json")
