"""Published ports, with real connections from the machine, from containers and from another host."""
from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import Mydocker, until
from network_rig import HERE, Place, Server, TestHost, address_of, free_port, make_network, start

from mydocker.base.paths import Layout
from mydocker.linux.netlink import Route
from mydocker.linux.nft import Tables
from mydocker.network import bridge, firewall
from mydocker.network.store import NetworkStore

pytestmark = pytest.mark.needs("root", "netns", "nft", "ip")


def elements(mydocker: Mydocker) -> list[str]:
    """Return the published ports that the kernel has, each `address:port/protocol`."""
    table = firewall.table_name(Layout(mydocker.root))
    with Tables() as tables:
        return [firewall.describe(element, name) for name in firewall.MAPS for element in tables.elements(table, name)]


def test_a_port_without_an_address_is_reached_on_the_loopback_device_only(mydocker: Mydocker, outside: TestHost) -> None:
    port = free_port()
    with Server(start(mydocker, "web", "-p", f"{port}:80"), 80):
        assert HERE.ask("127.0.0.1", port)
        assert outside.is_cut_off(outside.host_ip, port)
        assert HERE.is_cut_off(outside.host_ip, port)
    assert mydocker("port", "web").out == f"80/tcp -> 127.0.0.1:{port}\n"
    assert mydocker("port", "web", "80").out == f"127.0.0.1:{port}\n"
    assert mydocker.rows()["web"]["PORTS"] == f"127.0.0.1:{port}->80/tcp"
    assert mydocker.inspect("web")["ports"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}
    assert "publishes no port 81/tcp" in mydocker("port", "web", "81", code=125).one_error_line()


def test_a_port_on_every_address_is_reached_from_another_host_whose_address_is_seen(
    mydocker: Mydocker, outside: TestHost
) -> None:
    port = free_port()
    with Server(start(mydocker, "web", "-p", f"0.0.0.0:{port}:80"), 80) as server:
        assert outside.ask(outside.host_ip, port) == outside.ip
        assert HERE.ask(outside.host_ip, port)
        assert HERE.ask("127.0.0.1", port)
    assert server.seen[0] == outside.ip


def test_the_environment_says_where_ports_without_an_address_are_published(mydocker: Mydocker, outside: TestHost) -> None:
    port = free_port()
    mydocker(
        "run", "-d", "--name", "web", "-p", f"{port}:80", "busybox", "sleep", "1000",
        env={"MYDOCKER_PUBLISH_ADDRESS": outside.host_ip})
    with Server(Place.of(mydocker, "web"), 80):
        assert outside.ask(outside.host_ip, port) == outside.ip
        assert HERE.is_cut_off("127.0.0.1", port)
    assert mydocker("port", "web", "80").out == f"{outside.host_ip}:{port}\n"


def test_udp_reaches_the_container_and_the_reply_comes_from_where_it_was_asked(mydocker: Mydocker, outside: TestHost) -> None:
    port = free_port(socket.SOCK_DGRAM)
    with Server(start(mydocker, "dns", "-p", f"0.0.0.0:{port}:53/udp"), 53, udp=True):
        assert outside.ask(outside.host_ip, port, udp=True) == outside.ip
        assert HERE.ask("127.0.0.1", port, udp=True)
        assert outside.is_cut_off(outside.host_ip, port)  # tcp is not published


def test_who_keeps_sending_datagrams_reaches_the_container_that_comes_next(mydocker: Mydocker, outside: TestHost) -> None:
    port = free_port(socket.SOCK_DGRAM)
    with outside.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((outside.host_ip, port))
        client.settimeout(0.2)

        def is_served() -> bool:
            try:
                client.send(b"?")
                return bool(client.recv(100))
            except OSError:
                return False

        assert not is_served()
        for name in ("one", "next"):
            with Server(start(mydocker, name, "-p", f"0.0.0.0:{port}:53/udp"), 53, udp=True):
                until(is_served)
            mydocker("rm", "-f", name)
            assert not is_served()


def test_an_ipv6_address_is_published_and_seen(mydocker: Mydocker, outside: TestHost) -> None:
    port = free_port()
    make_network(mydocker, "six", ipv6=True)
    with Server(start(mydocker, "web", "--network", "six", "-p", f"[::]:{port}:80"), 80, address="::"):
        assert outside.ask(outside.host_ip6, port) == outside.ip6
        assert outside.is_cut_off(outside.host_ip, port)
    assert mydocker("port", "web", "80/tcp").out == f"[::]:{port}\n"


def test_an_ipv6_address_of_a_container_that_has_none_is_refused(mydocker: Mydocker, busybox: str) -> None:
    line = mydocker("run", "-d", "-p", f"[::]:{free_port()}:80", busybox, "true", code=125).one_error_line()
    assert "the container has no IPv6 address" in line
    assert mydocker.rows() == {}


def test_a_container_reaches_its_own_and_its_neighbours_port_at_the_machines_address(
    mydocker: Mydocker, outside: TestHost
) -> None:
    port = free_port()
    web, neighbour = start(mydocker, "web", "-p", f"0.0.0.0:{port}:80"), start(mydocker, "near", "--network", "bridge")
    make_network(mydocker, "other")
    stranger = start(mydocker, "far", "--network", "other")
    with Server(web, 80):
        assert web.ask(outside.host_ip, port)
        assert neighbour.ask(outside.host_ip, port)
        assert stranger.ask(outside.host_ip, port) == address_of(mydocker, "far")


def test_a_port_in_use_is_an_error_before_anything_is_started(mydocker: Mydocker, busybox: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        line = mydocker("run", "-d", "--name", "web", "-p", f"{port}:80", busybox, "sleep", "9", code=125).one_error_line()
        assert f"127.0.0.1:{port}/tcp: the port is in use" in line
    assert mydocker.rows() == {}
    start(mydocker, "web", "-p", f"{port}:80")
    assert "the port is in use" in mydocker("run", "-p", f"0.0.0.0:{port}:80", busybox, "true", code=125).err
    with socket.socket() as probe, pytest.raises(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        probe.listen(1)
    mydocker("run", "--rm", "-p", f"{port}:80/udp", busybox, "true")


@pytest.mark.parametrize("kind", ["random", "named"])
def test_nobody_else_gets_a_port_while_the_container_lives(mydocker: Mydocker, kind: str) -> None:
    start(mydocker, "web", "-p", "80" if kind == "random" else f"{free_port()}:80")
    port = int(mydocker("port", "web", "80").out.rpartition(":")[2])
    for reuse in (0, 1):
        with socket.socket() as probe, pytest.raises(OSError, match="in use"):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
            probe.bind(("127.0.0.1", port))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    mydocker("rm", "-f", "web")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))


def test_a_port_that_lingers_in_time_wait_is_free(mydocker: Mydocker) -> None:
    with socket.socket() as server, socket.socket() as client:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        port = server.getsockname()[1]
        client.connect(("127.0.0.1", port))
        server.accept()[0].close()  # who closes first lingers
        assert client.recv(1) == b""
    start(mydocker, "web", "-p", f"{port}:80")


def test_ranges_random_ports_and_exposed_ones(mydocker: Mydocker, busybox: str) -> None:
    port = free_port()
    mydocker("run", "-d", "--name", "a", "-p", f"{port}-{port + 2}:80-82", "-p", "90", "--expose", "7", busybox, "sleep", "1000")
    lines = mydocker("port", "a").out.splitlines()
    assert lines[:3] == [f"{80 + step}/tcp -> 127.0.0.1:{port + step}" for step in range(3)]
    assert lines[3].startswith("90/tcp -> 127.0.0.1:") and not lines[3].endswith(":90")
    # One port of a range for one port of the container: the first that is free.
    mydocker("run", "-d", "--name", "b", "-p", f"{port}-{port + 3}:80", busybox, "sleep", "1000")
    assert mydocker("port", "b", "80").out == f"127.0.0.1:{port + 3}\n"
    assert "is in use" in mydocker("run", "-p", f"{port}-{port + 3}:80", busybox, "true", code=125).one_error_line()
    mydocker("run", "-d", "--name", "c", "-P", "--expose", "7/udp", "--expose", "8-9", busybox, "sleep", "1000")
    assert [line.split(" -> ")[0] for line in mydocker("port", "c").out.splitlines()] == ["7/udp", "8/tcp", "9/tcp"]
    assert mydocker.inspect("a")["ports"]["7/tcp"] is None


def test_dockers_long_form_says_the_same(mydocker: Mydocker, busybox: str) -> None:
    port = free_port()
    mydocker("run", "-d", "--name", "a", "-p", f"published={port},target=80", "-p", "target=53,protocol=udp,mode=host", busybox,
             "sleep", "1000")
    lines = mydocker("port", "a").out.splitlines()
    assert lines[1] == f"80/tcp -> 127.0.0.1:{port}" and lines[0].startswith("53/udp -> 127.0.0.1:")


def test_many_ports_of_one_container(mydocker: Mydocker, busybox: str) -> None:
    first = 40000
    options = ["-p", f"127.0.0.9:{first}-{first + 1499}:{first}-{first + 1499}"]
    mydocker("run", "-d", "--name", "many", *options, busybox, "sh", "-c", "ulimit -n; exec sleep 1000")
    assert len(elements(mydocker)) == 1500
    with Server(Place.of(mydocker, "many"), first + 1499):
        assert HERE.ask("127.0.0.9", first + 1499)
    assert int(mydocker("logs", "many").out) == int(subprocess.run(["sh", "-c", "ulimit -n"], capture_output=True, check=True).stdout)
    mydocker("rm", "-f", "many")
    assert elements(mydocker) == []


@pytest.mark.parametrize("words", [
    ["-p", "0:80"], ["-p", "80:99999"], ["-p", "8080:80/icmp"], ["-p", "nonsense"], ["-p", "1-2:80-85"], ["-p", "::1:80:80"],
    ["-p", "example.org:80:80"], ["-p", ""], ["-p", "published=80"], ["-p", "target=80,target=81"],
    ["-p", "target=80,mode=x"], ["-p", "203.0.113.77:80:80"], ["--network", "none", "-p", "80"],
    ["--network", "host", "-p", "80"], ["--expose", "x"], ["-p", "90-80"],
], ids=" ".join)
def test_what_is_no_port_is_refused_in_one_line(mydocker: Mydocker, busybox: str, words: list[str]) -> None:
    mydocker("run", *words, busybox, "true", code=125).one_error_line()
    assert mydocker.rows() == {}


def test_a_restarted_container_has_the_same_port_again(mydocker: Mydocker) -> None:
    port = free_port()
    start(mydocker, "web", "-p", f"{port}:80")
    for verb in (["restart", "-t", "0"], ["restart", "-t", "0"], ["stop", "-t", "0"], ["start"]):
        mydocker(*verb, "web")
        if verb[0] == "stop":
            assert elements(mydocker) == []
            continue
        with Server(Place.of(mydocker, "web"), 80):
            assert HERE.ask("127.0.0.1", port)
    assert elements(mydocker) == [f"127.0.0.1:{port}/tcp"]


def test_created_container_holds_its_port_and_starts_with_it(mydocker: Mydocker, busybox: str) -> None:
    port = free_port()
    mydocker("create", "--name", "web", "-p", f"{port}:80", busybox, "sleep", "1000")
    assert "the port is in use" in mydocker("run", "-p", f"{port}:80", busybox, "true", code=125).err
    mydocker("start", "web")
    with Server(Place.of(mydocker, "web"), 80):
        assert HERE.ask("127.0.0.1", port)


@pytest.mark.parametrize("end", ["exit", "rm", "kill", "monitor", "both", "failed"])
def test_no_element_is_left_however_a_container_ends(mydocker: Mydocker, busybox: str, end: str) -> None:
    port = free_port()
    if end in ("exit", "failed"):
        command = ["true"] if end == "exit" else ["/no/such/command"]
        mydocker("run", "--rm", "-p", f"{port}:80", busybox, *command, code=0 if end == "exit" else 127)
        assert elements(mydocker) == []
        return
    start(mydocker, "web", "-p", f"{port}:80")
    assert elements(mydocker) == [f"127.0.0.1:{port}/tcp"]
    if end in ("monitor", "both"):
        os.kill(mydocker.monitor_of("web"), signal.SIGKILL)
    if end == "monitor":
        with Server(Place.of(mydocker, "web"), 80):  # the container goes on, and its port does
            assert HERE.ask("127.0.0.1", port)
        line = mydocker("run", "-p", f"{port}:80", busybox, "true", code=125).one_error_line()
        assert "the port is container" in line
    if end != "rm":
        os.kill(mydocker.pid_of("web"), signal.SIGKILL)
        until(lambda: mydocker.rows()["web"]["STATUS"] == "exited")
        until(lambda: elements(mydocker) == [])
    mydocker("rm", "-f", "web")
    assert elements(mydocker) == []
    start(mydocker, "next", "-p", f"{port}:80")


def test_a_stale_element_is_replaced_by_who_has_the_port_now(mydocker: Mydocker) -> None:
    port = free_port()
    start(mydocker, "old", "-p", f"{port}:80")
    monitor, pid = mydocker.monitor_of("old"), mydocker.pid_of("old")
    os.kill(monitor, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    with Server(start(mydocker, "new", "-p", f"{port}:80"), 80):
        assert HERE.ask("127.0.0.1", port)
        mydocker("rm", "-f", "old")
        assert HERE.ask("127.0.0.1", port)
    assert elements(mydocker) == [f"127.0.0.1:{port}/tcp"]


def test_flushed_rules_are_made_again_by_the_next_start_with_all_ports(mydocker: Mydocker, busybox: str) -> None:
    port = free_port()
    table = firewall.table_name(Layout(mydocker.root))
    with Server(start(mydocker, "web", "-p", f"{port}:80"), 80):
        for flush in (["delete", "table"], ["flush", "table"]):
            subprocess.run(["nft", *flush, "inet", table], check=True)
            assert HERE.is_cut_off("127.0.0.1", port)
            mydocker("run", "--rm", "--network", "bridge", busybox, "true")
            assert HERE.ask("127.0.0.1", port)


def test_a_big_transfer_arrives_whole(mydocker: Mydocker, outside: TestHost) -> None:
    port, size = free_port(), 64 << 20
    place = start(mydocker, "web", "-p", f"0.0.0.0:{port}:80")
    with place.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("0.0.0.0", 80))
        listener.listen(1)

        def send() -> None:
            connection, _ = listener.accept()
            with connection:
                for number in range(size >> 20):
                    connection.sendall(bytes([number]) * (1 << 20))

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        with outside.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.settimeout(20)
            client.connect((outside.host_ip, port))
            got = bytearray()
            while data := client.recv(1 << 20):
                got += data
        thread.join()
    assert len(got) == size
    assert all(got[number << 20] == number == got[(number + 1 << 20) - 1] for number in range(size >> 20))


@pytest.mark.slow
@pytest.mark.time_limit(180)
def test_200_starts_20_at_a_time_have_addresses_and_ports_of_their_own_and_leave_nothing(mydocker: Mydocker, busybox: str) -> None:
    def run(number: int) -> str:
        words = ("run", "-d", "--name", f"c{number}", "--network", "bridge", "-p", "80", busybox, "sleep", "1000")
        return mydocker(*words, timeout_s=90).err

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(run, range(200))) == {""}
    addresses = {address_of(mydocker, f"c{number}") for number in range(200)}
    ports = {mydocker.inspect(f"c{number}")["ports"]["80/tcp"][0]["HostPort"] for number in range(0, 200, 20)}
    assert (len(addresses), len(ports), len(elements(mydocker))) == (200, 10, 200)
    with Server(Place.of(mydocker, "c117"), 80):
        assert HERE.ask("127.0.0.1", int(mydocker.inspect("c117")["ports"]["80/tcp"][0]["HostPort"]))
    mydocker("rm", "-f", *(f"c{number}" for number in range(200)), timeout_s=90)
    assert elements(mydocker) == []
    network = NetworkStore(Layout(mydocker.root)).load("bridge")
    with Route() as route:
        until(lambda: bridge.ports_of(route, network) == [])


def test_the_python_api_publishes_by_a_mapping(mydocker: Mydocker, busybox: str) -> None:
    from mydocker import Engine

    port = free_port()
    with Engine(mydocker.root) as engine:
        container = engine.containers.run(busybox, ["sleep", "1000"], publish={80: port, "53/udp": None}, detach=True)
        ports = container.refresh().ports
        assert [(item.port, item.protocol) for item in ports] == [(53, "udp"), (80, "tcp")]
        assert ports[1].host_port == port
        with Server(Place(f"/proc/{container.pid}/ns/net"), 80):
            assert HERE.ask("127.0.0.1", port)
        container.remove(force=True)
    assert elements(mydocker) == []
    assert json.loads(mydocker("ps", "--format", "json").out or "[]") == []
