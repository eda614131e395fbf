"""The firewall on a machine of its own: what other engines, administrators and switches of the kernel make of it."""
from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator

import pytest
from harness import Mydocker
from network_rig import Machine, Place, Server, TestHost, address_of, free_port, make_network, start

from mydocker.base.paths import Layout
from mydocker.linux.nft import Tables
from mydocker.network import firewall, ruleset

pytestmark = pytest.mark.needs("root", "netns", "nft", "ip", "nsenter")


@pytest.fixture
def abroad(machine: Machine) -> Iterator[TestHost]:
    """Another machine beside the test's own."""
    with TestHost(os.getpid() + 1, machine.name) as host:
        yield host


def set_bridge_filter(machine: Machine, value: str) -> None:
    """Have bridged frames pass the rules of IP, or not (br_netfilter, if it is there)."""
    if os.path.isdir("/proc/sys/net/bridge"):
        for family in ("iptables", "ip6tables"):
            machine.set(f"net.bridge.bridge-nf-call-{family}", value)
    elif value == "1":
        pytest.skip("br_netfilter is not loaded")


@pytest.mark.parametrize("value", ["0", "1"], ids=["without br_netfilter", "with br_netfilter"])
def test_all_ways_to_a_container_with_bridged_frames_filtered_and_not(
    mydocker: Mydocker, machine: Machine, abroad: TestHost, value: str
) -> None:
    set_bridge_filter(machine, value)
    port = free_port()
    web, near = start(mydocker, "web", "-p", f"0.0.0.0:{port}:80"), start(mydocker, "near", "--network", "bridge")
    with Server(web, 80), Server(abroad, 81):
        assert near.ask(address_of(mydocker, "web"), 80) == address_of(mydocker, "near")
        assert abroad.ask(abroad.host_ip, port) == abroad.ip
        assert machine.ask("127.0.0.1", port)
        assert machine.ask(abroad.host_ip, port)
        assert web.ask(abroad.host_ip, port)
        assert near.ask(abroad.host_ip, port)
        assert near.ask(abroad.ip, 81) == abroad.host_ip
        assert abroad.is_cut_off(address_of(mydocker, "web"), 80)


def test_the_ipv6_loopback_address_is_published_where_bridges_leave_its_replies_alone(mydocker: Mydocker, machine: Machine) -> None:
    make_network(mydocker, "six", ipv6=True)
    port = free_port()
    set_bridge_filter(machine, "0")
    with Server(start(mydocker, "web", "--network", "six", "-p", f"{port}:80"), 80, address="::"):
        assert machine.ask("::1", port)
        assert machine.ask("127.0.0.1", port)
    assert mydocker("port", "web", "80").out == f"127.0.0.1:{port}\n[::1]:{port}\n"
    mydocker("rm", "-f", "web")
    set_bridge_filter(machine, "1")
    start(mydocker, "web", "--network", "six", "-p", f"{port}:80")
    assert mydocker("port", "web", "80").out == f"127.0.0.1:{port}\n"
    line = mydocker("run", "--network", "six", "-p", f"[::1]:{port}:80", "busybox", "true", code=125).one_error_line()
    assert "bridge-nf-call-ip6tables" in line


def test_forwarding_that_is_off_is_turned_on_and_said_in_debug(mydocker: Mydocker, machine: Machine, abroad: TestHost) -> None:
    machine.set("net.ipv4.ip_forward", "0")
    assert "turn forwarding on" in mydocker(
        "--debug", "run", "-d", "--name", "c", "--network", "bridge", "busybox", "sleep", "1000").err
    with Server(abroad, 80):
        assert Place.of(mydocker, "c").ask(abroad.ip, 80) == abroad.host_ip


def test_the_whole_rule_set_flushed_by_another_tool_comes_back_with_the_next_start(
    mydocker: Mydocker, machine: Machine, abroad: TestHost
) -> None:
    port = free_port()
    make_network(mydocker, "other")
    with Server(start(mydocker, "web", "-p", f"0.0.0.0:{port}:80"), 80):
        machine.run("nft", "flush", "ruleset")
        assert abroad.is_cut_off(abroad.host_ip, port)
        stranger = start(mydocker, "stranger", "--network", "other")
        assert abroad.ask(abroad.host_ip, port) == abroad.ip
        assert stranger.is_cut_off(address_of(mydocker, "web"), 80)


@pytest.mark.needs("iptables")
@pytest.mark.parametrize("chain", ["FORWARD", "DOCKER-USER"])
def test_a_policy_to_drop_what_is_forwarded_lets_our_packets_through_and_no_others(
    mydocker: Mydocker, machine: Machine, abroad: TestHost, chain: str
) -> None:
    machine.run("iptables", "-P", "FORWARD", "DROP")
    if chain == "DOCKER-USER":
        machine.run("iptables", "-N", chain)
        machine.run("iptables", "-I", "FORWARD", "-j", chain)
    # The bridge of another engine, with a container whose port is not published.
    machine.run("ip", "link", "add", "docker7", "type", "bridge")
    machine.run("ip", "addr", "add", "192.0.2.65/28", "dev", "docker7")
    machine.run("ip", "link", "set", "docker7", "up")
    port = free_port()
    web, near = start(mydocker, "web", "-p", f"0.0.0.0:{port}:80"), start(mydocker, "near", "--network", "bridge")
    with Server(web, 80), Server(abroad, 81):
        assert near.ask(abroad.ip, 81) == abroad.host_ip
        assert near.ask(address_of(mydocker, "web"), 80)
        assert abroad.ask(abroad.host_ip, port) == abroad.ip
        assert abroad.is_cut_off(address_of(mydocker, "near"), 80)
    assert machine.run("iptables", "-S", chain).count("-j MYDOCKER") == 1
    assert near.is_cut_off("192.0.2.66", 80)
    counted = machine.run("iptables", "-nvxL", "MYDOCKER")
    (line,) = [line for line in counted.splitlines() if "docker+" in line]
    assert int(line.split()[0]) > 0  # left to the other engine, whose policy dropped it
    mydocker("rm", "-f", "web", "near")
    mydocker("network", "prune", "-f")
    assert "MYDOCKER" not in machine.run("iptables", "-S")
    assert "mydocker" not in machine.run("nft", "list", "tables")


def test_a_port_follows_its_container_from_network_to_network(mydocker: Mydocker, machine: Machine, abroad: TestHost) -> None:
    for name in ("one", "other"):
        mydocker("network", "create", name)
    port = free_port()
    place = start(mydocker, "web", "--network", "one", "-p", f"0.0.0.0:{port}:80")
    with Server(place, 80):
        mydocker("network", "connect", "other", "web")
        assert abroad.ask(abroad.host_ip, port) == abroad.ip
        mydocker("network", "disconnect", "one", "web")
        assert abroad.ask(abroad.host_ip, port) == abroad.ip
        mydocker("network", "disconnect", "other", "web")
        assert abroad.is_cut_off(abroad.host_ip, port)
        assert "comment" not in machine.run("nft", "list", "ruleset")
        mydocker("network", "connect", "one", "web")
        assert abroad.ask(abroad.host_ip, port) == abroad.ip


def test_port_53_of_every_address_is_published_beside_the_resolvers_of_networks(
    mydocker: Mydocker, machine: Machine, abroad: TestHost
) -> None:
    mydocker("network", "create", "net")
    a = start(mydocker, "a", "--network", "net")
    ports = ("-p", "0.0.0.0:53:53/udp", "-p", "0.0.0.0:53:53")
    with machine.socket(socket.AF_INET, socket.SOCK_DGRAM) as stub:
        stub.bind(("127.0.0.53", 53))  # as systemd-resolved does
        line = mydocker("run", *ports, "busybox", "true", code=125).one_error_line()
        assert "0.0.0.0:53/udp: the port is in use at 127.0.0.53" in line
    server = start(mydocker, "server", *ports)
    line = mydocker("run", *ports, "busybox", "true", code=125).one_error_line()
    assert ":53/udp: the port is in use" in line
    mydocker("network", "create", "later")
    start(mydocker, "late", "--network", "later")
    near = start(mydocker, "near")
    with Server(server, 53, udp=True), Server(server, 53):
        for udp in (True, False):
            assert abroad.ask(abroad.host_ip, 53, udp=udp) == abroad.ip
            assert machine.ask("127.0.0.1", 53, udp=udp)
            assert near.ask(gateway_of(mydocker, "near"), 53, udp=udp)
            assert a.ask(abroad.host_ip, 53, udp=udp) == address_of(mydocker, "a")
        for name in ("a", "late"):
            assert address_of(mydocker, name) in mydocker("exec", name, "nslookup", name).out
    mydocker("rm", "-f", "server")
    with machine.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 53))


def gateway_of(mydocker: Mydocker, name: str) -> str:
    return str(mydocker.inspect(name)["NetworkSettings"]["Gateway"])


def test_the_kernel_takes_elements_for_sctp(mydocker: Mydocker, machine: Machine) -> None:
    """As rules and one by one, where there is no SCTP to try them with."""
    start(mydocker, "c")
    layout = Layout(mydocker.root)
    port = firewall.Published(owner="7", protocol="sctp", host_ip="0.0.0.0", host_port=9000, ip="10.9.9.9", port=9)
    name, element = firewall.element_of(port)
    with machine.entered():
        ruleset.build(layout, lambda: [port])
        assert "sctp . 9000 comment \"7\" : 10.9.9.9 . 9" in machine.run("nft", "list", "map", "inet", firewall.table_name(layout), "any4")
        with Tables() as tables:
            assert tables.find(firewall.table_name(layout), name, element.key) == element


def test_without_nft_containers_run_on_a_bridge_and_what_is_missing_is_said_once(
    mydocker: Mydocker, machine: Machine, scratch: str
) -> None:
    for name in ("busybox", "ip", "nsenter"):
        os.symlink(shutil.which(name) or "", f"{scratch}/{name}")
    path = {"PATH": scratch}
    first = mydocker("run", "-d", "--name", "a", "--network", "bridge", "busybox", "sleep", "1000", env=path)
    assert first.err.count("\n") == 1 and "nft" in first.err and first.err.startswith("mydocker: warning: ")
    assert mydocker("run", "-d", "--name", "b", "--network", "bridge", "busybox", "sleep", "1000", env=path).err == ""
    with Server(Place.of(mydocker, "a"), 80):
        assert Place.of(mydocker, "b").ask(address_of(mydocker, "a"), 80)
    line = mydocker("run", "-p", "80", "busybox", "true", code=125, env=path).one_error_line()
    assert "nft" in line and "install" in line
    mydocker("run", "--rm", "--network", "bridge", "busybox", "true")
    assert firewall.table_name(Layout(mydocker.root)) in machine.run("nft", "list", "tables")
