"""Which packets pass between containers, networks, this machine and others: shown by connections that succeed, and that fail."""
from __future__ import annotations

import os
import socket
import subprocess

import pytest
from harness import Mydocker
from network_rig import HERE, Server, TestHost, address_of, free_port, make_network, start

from mydocker.base.paths import Layout
from mydocker.linux.netlink import Route
from mydocker.linux.nft import run_nft
from mydocker.network import bridge, ruleset
from mydocker.network.store import NetworkStore

pytestmark = pytest.mark.needs("root", "netns", "nft", "ip")


def test_containers_of_one_network_reach_each_other_and_keep_their_addresses(mydocker: Mydocker) -> None:
    one, other = start(mydocker, "one", "--network", "bridge"), start(mydocker, "other", "--network", "bridge")
    with Server(other, 80), Server(other, 53, udp=True):
        assert one.ask(address_of(mydocker, "other"), 80) == address_of(mydocker, "one")
        assert one.ask(address_of(mydocker, "other"), 53, udp=True) == address_of(mydocker, "one")
        assert HERE.ask(address_of(mydocker, "other"), 80) == bridge_address(mydocker, "bridge")
    with Server(HERE, port := free_port()):
        gateway = bridge_address(mydocker, "bridge")
        assert HERE.ask(gateway, port) == gateway
        assert one.ask(gateway, port) == address_of(mydocker, "one")


def br_netfilter() -> bool:
    try:
        with open("/proc/sys/net/bridge/bridge-nf-call-iptables", encoding="ascii") as stream:
            return stream.read().strip() == "1"
    except FileNotFoundError:
        return False


def bridge_address(mydocker: Mydocker, name: str) -> str:
    from mydocker.linux.netlink import format_address

    return format_address(NetworkStore(Layout(mydocker.root)).load(name).ipv4.gateway)


def test_networks_do_not_reach_each_other(mydocker: Mydocker) -> None:
    for name in ("red", "blue"):
        make_network(mydocker, name, ipv6=True)
    red, blue = start(mydocker, "r", "--network", "red"), start(mydocker, "b", "--network", "blue")
    with Server(blue, 80), Server(blue, 53, udp=True), Server(blue, 80, address="::1") as _, Server(blue, 81, address="::"):
        assert red.is_cut_off(address_of(mydocker, "b"), 80)
        assert red.is_cut_off(address_of(mydocker, "b"), 53, udp=True)
        assert red.is_cut_off(address_of(mydocker, "b", ipv6=True), 81)
        assert HERE.ask(address_of(mydocker, "b"), 80)
    # Who is on both reaches both, and is no way from one to the other.
    both = start(mydocker, "both", "--network", "red", "--network", "blue")
    with Server(blue, 80), Server(red, 80):
        assert both.ask(address_of(mydocker, "b"), 80) == address_of(mydocker, "both", 1)
        assert both.ask(address_of(mydocker, "r"), 80) == address_of(mydocker, "both", 0)
        assert red.is_cut_off(address_of(mydocker, "b"), 80)


def test_state_roots_do_not_reach_each_other_nor_disturb_each_others_rules(
    mydocker: Mydocker, root_with_images: str, tmp_path_factory: pytest.TempPathFactory, scratch: str
) -> None:
    subprocess.run(["cp", "-a", f"{root_with_images}/.", f"{scratch}/root"], check=True)
    second = Mydocker(f"{scratch}/root")
    try:
        port = free_port()
        one, other = start(mydocker, "one", "--network", "bridge"), start(second, "other", "-p", f"{port}:80")
        with Server(other, 80):
            assert one.is_cut_off(address_of(second, "other"), 80)
            assert HERE.ask("127.0.0.1", port)
            mydocker("rm", "-f", "one")
            mydocker.destroy()
            assert HERE.ask("127.0.0.1", port)
    finally:
        second.destroy()
    assert second.leftovers() == []


def test_the_table_of_a_state_root_that_was_deleted_changes_no_addresses_of_anothers(mydocker: Mydocker, outside: TestHost) -> None:
    for name in ("near", "far"):
        make_network(mydocker, name)
    networks = NetworkStore(Layout(mydocker.root)).all()
    gone = ruleset.plan(table := f"mydocker-gone{os.getpid()}", [
        ruleset.Bridged(network=network.replace(id=f"{number:012x}"), bridges=(f"mb{number:08x}",))
        for number, network in enumerate(networks)], [])
    port = free_port()
    far = start(mydocker, "far", "--network", "far")
    run_nft(gone)
    try:
        with Server(start(mydocker, "near", "--network", "near", "-p", f"0.0.0.0:{port}:80"), 80):
            assert far.ask(outside.host_ip, port) == address_of(mydocker, "far")
    finally:
        subprocess.run(["nft", "delete", "table", "inet", table], check=True)


def test_a_container_gets_out_under_an_address_of_the_machine(mydocker: Mydocker, outside: TestHost) -> None:
    make_network(mydocker, "six", ipv6=True)
    inside = start(mydocker, "c", "--network", "six")
    with Server(outside, 80), Server(outside, 53, udp=True), Server(outside, 81, address="::"):
        assert inside.ask(outside.ip, 80) == outside.host_ip
        assert inside.ask(outside.ip, 53, udp=True) == outside.host_ip
        assert inside.ask(outside.ip6, 81) == outside.host_ip6
        assert "64 bytes from" in inside.run("busybox", "ping", "-c1", "-W2", outside.ip)


def test_an_unpublished_port_is_not_reached_by_a_route_to_the_container(mydocker: Mydocker, outside: TestHost) -> None:
    make_network(mydocker, "six", ipv6=True)
    inside = start(mydocker, "c", "--network", "six", "-p", f"0.0.0.0:{free_port()}:80")
    with Server(inside, 80), Server(inside, 81), Server(inside, 82, address="::"):
        # The other host's default route is by this machine, so its packets come.
        for port in (80, 81):
            assert outside.is_cut_off(address_of(mydocker, "c"), port)
        assert outside.is_cut_off(address_of(mydocker, "c", ipv6=True), 82)


def test_an_internal_network_reaches_nothing_and_nothing_reaches_it(mydocker: Mydocker, outside: TestHost) -> None:
    network = make_network(mydocker, "cave", internal=True)
    one, other = start(mydocker, "one", "--network", "cave"), start(mydocker, "other", "--network", "cave")
    near = start(mydocker, "near", "--network", "bridge")
    gateway = bridge_address(mydocker, "cave")
    # Whoever is root inside makes the way out that the engine did not.
    one.run("ip", "route", "add", "default", "via", gateway)
    with Server(outside, 80), Server(near, 80), Server(other, 80), Server(HERE, port := free_port()):
        assert one.ask(address_of(mydocker, "other"), 80)
        assert one.is_cut_off(outside.ip, 80)
        assert one.is_cut_off(address_of(mydocker, "near"), 80)
        assert one.is_cut_off(outside.host_ip, port)
        assert one.ask(gateway, port)  # where the network's own services are
    with Server(one, 80):
        assert near.is_cut_off(address_of(mydocker, "one"), 80)
        assert outside.is_cut_off(address_of(mydocker, "one"), 80)
    line = mydocker("run", "-p", "80", "--network", network.name, "busybox", "true", code=125).one_error_line()
    assert "reached from outside" in line


def test_a_network_of_several_bridges_is_one_network(mydocker: Mydocker, outside: TestHost) -> None:
    first = start(mydocker, "first", "--network", "bridge")
    network = NetworkStore(Layout(mydocker.root)).load("bridge")
    with Route() as route:
        bridge._add_bridge(route, network, 1)  # as when the first is full
    port = free_port()
    second = start(mydocker, "second", "-p", f"0.0.0.0:{port}:80")
    assert os.path.exists(f"/sys/class/net/{network.bridge}.1/brif/mv{socket.inet_aton(address_of(mydocker, 'second')).hex()}")
    make_network(mydocker, "other")
    stranger = start(mydocker, "stranger", "--network", "other")
    with Server(second, 80), Server(first, 81), Server(outside, 82):
        assert first.ask(address_of(mydocker, "second"), 80) == address_of(mydocker, "first")
        assert second.ask(address_of(mydocker, "first"), 81) == address_of(mydocker, "second")
        assert second.ask(outside.ip, 82) == outside.host_ip
        assert outside.ask(outside.host_ip, port) == outside.ip
        assert HERE.ask("127.0.0.1", port)
        assert first.ask(outside.host_ip, port)
        if not br_netfilter():  # with it the first bridge would have to send a frame back by the cable it came by
            assert second.ask(outside.host_ip, port)
        assert stranger.is_cut_off(address_of(mydocker, "second"), 80)
        assert outside.is_cut_off(address_of(mydocker, "second"), 80)


def test_loopback_addresses_are_not_reached_by_the_cable(mydocker: Mydocker, outside: TestHost) -> None:
    """CVE-2020-8558: with route_localnet a neighbour could talk to what listens on 127.0.0.1 only."""
    port = free_port()
    inside = start(mydocker, "c", "-p", f"{port}:80")
    gateway = bridge_address(mydocker, "bridge")
    inside.run("ip", "route", "add", "127.0.0.0/8", "via", gateway, "table", "9")
    for place, way in ((inside, gateway), (outside, outside.host_ip)):
        for words in ("addr del 127.0.0.1/8 dev lo", "route del local 127.0.0.0/8 dev lo table local",
                      "route del local 127.0.0.1 dev lo table local", f"route add 127.0.0.0/8 via {way}"):
            subprocess.run(["nsenter", f"--net={place.path}", "ip", *words.split()], check=False, capture_output=True)
        place.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
    with socket.socket() as listener, Server(inside, 80):
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        listener.settimeout(0.1)
        mine = listener.getsockname()[1]
        assert HERE.ask("127.0.0.1", port)
        for place in (inside, outside):
            assert place.is_cut_off("127.0.0.1", mine)
            assert place.is_cut_off("127.0.0.1", port)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_published_port_grabs_nothing_that_is_forwarded_elsewhere(mydocker: Mydocker, outside: TestHost) -> None:
    """The portmap plugin's: a port on every address must not become that port on everybody's."""
    port = free_port()
    inside = start(mydocker, "c", "-p", f"0.0.0.0:{port}:80")
    neighbour = start(mydocker, "n", "--network", "bridge")
    with Server(inside, 80) as server, Server(outside, port) as theirs:
        assert neighbour.ask(outside.ip, port) == outside.host_ip
        assert HERE.ask(outside.ip, port) == outside.host_ip
        assert (len(server.seen), len(theirs.seen)) == (0, 2)


@pytest.mark.needs("docker", "iptables")
def test_beside_docker_our_packets_pass_and_dockers_rules_stay(mydocker: Mydocker, outside: TestHost) -> None:
    rules = subprocess.run(["iptables", "-S", "FORWARD"], check=True, capture_output=True, text=True).stdout
    if "-P FORWARD DROP" not in rules:
        pytest.skip("docker does not drop what is forwarded here")
    one, other = start(mydocker, "one", "--network", "bridge"), start(mydocker, "other", "--network", "bridge")
    with Server(outside, 80), Server(other, 80):
        assert one.ask(outside.ip, 80)
        assert one.ask(address_of(mydocker, "other"), 80)
    assert subprocess.run(["iptables", "-S", "FORWARD"], check=True, capture_output=True, text=True).stdout == rules
    user = subprocess.run(["iptables", "-S", "DOCKER-USER"], check=True, capture_output=True, text=True).stdout
    assert user.count("-j MYDOCKER") == 1


def test_rules_are_made_once_and_a_later_start_does_not_run_nft(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    mydocker("run", "--rm", "--network", "bridge", busybox, "true")
    with open(f"{scratch}/nft", "w", encoding="utf-8") as script:
        script.write(f"#!/bin/sh\necho ran >> {scratch}/ran\nexit 1\n")
    os.chmod(f"{scratch}/nft", 0o755)
    path = {"PATH": f"{scratch}:{os.environ['PATH']}"}
    mydocker("run", "--rm", "-p", "80", busybox, "true", env=path)
    assert not os.path.exists(f"{scratch}/ran")
    make_network(mydocker, "new")
    line = mydocker("run", "--rm", "--network", "new", busybox, "true", env=path, code=125).one_error_line()
    assert "nft" in line
    assert os.path.exists(f"{scratch}/ran")
