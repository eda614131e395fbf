"""Containers that find each other by name: asked by busybox, by glibc, and in plain DNS over UDP and TCP."""
from __future__ import annotations

import os
import random
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from dnslib import RCODE, RR, A, DNSRecord
from harness import Mydocker, processes, until

from mydocker.base.paths import Layout
from mydocker.engine import naming

pytestmark = [pytest.mark.needs("root", "overlay", "bridges")]


def address_of(mydocker: Mydocker, name: str, device: str = "eth0") -> str:
    lines = mydocker("exec", name, "ip", "-o", "-4", "addr", "show", device).out.splitlines()
    return lines[0].split()[3].partition("/")[0]


def start(mydocker: Mydocker, name: str, *options: str) -> str:
    """Start a container that waits; return its id."""
    return mydocker("run", "-d", "--name", name, *options, "busybox", "sleep", "1000").out.strip()


def lookup(mydocker: Mydocker, client: str, name: str) -> set[str]:
    """Return the IPv4 addresses that busybox's nslookup finds, in a container."""
    lines = mydocker("exec", client, "nslookup", "-type=a", name, code=None).out.splitlines()
    return {line.split()[1] for line in lines if line.startswith("Address: ")}


def resolver_pids(mydocker: Mydocker) -> list[int]:
    return [pid for pid, argv in processes() if mydocker.root in argv and any("naming import main" in word for word in argv)]


def query(server: str, name: str, kind: str = "A", *, tcp: bool = False, timeout_s: float = 5) -> DNSRecord:
    """Ask from the machine itself, which is a neighbour on the network, too."""
    question = bytes(DNSRecord.question(name, kind).pack())
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as client:
        client.settimeout(timeout_s)
        client.connect((server, 53))
        if not tcp:
            client.send(question)
            return DNSRecord.parse(client.recv(65536))
        client.sendall(struct.pack("!H", len(question)) + question)
        with client.makefile("rb") as stream:
            return DNSRecord.parse(stream.read(struct.unpack("!H", stream.read(2))[0]))


@pytest.fixture
def server() -> Iterator[dict[str, Any]]:
    """A name server of the outside, at an address of the machine's loopback: what it was asked, and by which protocol."""
    seen: dict[str, Any] = {"address": f"127.77.{random.randrange(256)}.{random.randrange(1, 255)}", "asked": []}
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    for listener in (udp, tcp):
        listener.bind((seen["address"], 53))
    tcp.listen()

    def answer(data: bytes, protocol: str) -> bytes:
        record = DNSRecord.parse(data)
        seen["asked"].append((str(record.q.qname), protocol))
        reply = record.reply()
        reply.add_answer(RR(record.q.qname, 1, rdata=A("192.0.2.7")))
        return bytes(reply.pack())

    def serve_udp() -> None:
        while True:
            try:
                data, client = udp.recvfrom(4096)
                udp.sendto(answer(data, "udp"), client)
            except OSError:
                return

    def serve_tcp() -> None:
        while True:
            try:
                connection, _ = tcp.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                data = answer(stream.read(struct.unpack("!H", stream.read(2))[0]), "tcp")
                connection.sendall(struct.pack("!H", len(data)) + data)

    for target in (serve_udp, serve_tcp):
        threading.Thread(target=target, daemon=True).start()
    yield seen
    for listener in (udp, tcp):
        listener.shutdown(socket.SHUT_RDWR) if listener is tcp else None
        listener.close()


def test_containers_find_each_other_by_name_alias_id_and_host_name(mydocker: Mydocker, busybox: str) -> None:
    mydocker("network", "create", "net")
    start(mydocker, "a", "--network", "net")
    b = start(mydocker, "b", "--network", "net", "--network-alias", "web", "--hostname", "box")
    expected = {address_of(mydocker, "b")}
    for name in ("b", "B", "web", b, b[:8], "box", "b.net"):
        assert lookup(mydocker, "a", name) == expected, name
    assert "name = b.net" in mydocker("exec", "a", "nslookup", *expected).out
    assert mydocker("exec", "a", "ping", "-c1", "-W2", "web", code=None).out.startswith(f"PING web ({min(expected)})")


def test_those_that_join_later_are_found_and_the_dead_are_not(mydocker: Mydocker, busybox: str) -> None:
    mydocker("network", "create", "net")
    start(mydocker, "a", "--network", "net")
    assert lookup(mydocker, "a", "late") == set()
    start(mydocker, "late", "--network", "net")
    late = address_of(mydocker, "late")
    assert lookup(mydocker, "a", "late") == {late}
    mydocker("kill", "late")
    assert lookup(mydocker, "a", "late") == set()
    mydocker("start", "late")
    assert lookup(mydocker, "a", "late") == {address_of(mydocker, "late")}
    os.kill(mydocker.monitor_of("late"), signal.SIGKILL)
    os.kill(mydocker.pid_of("late"), signal.SIGKILL)  # nobody is left to record it
    until(lambda: lookup(mydocker, "a", "late") == set(), what="for the dead to be forgotten")


def test_one_alias_of_several_takes_turns(mydocker: Mydocker, busybox: str) -> None:
    mydocker("network", "create", "--subnet", "10.215.1.0/24", "net")
    names = ("one", "two", "three")
    for name in names:
        start(mydocker, name, "--network", "net", "--network-alias", "web")
    expected = {address_of(mydocker, name) for name in names}
    answers = [[str(rr.rdata) for rr in query("10.215.1.1", "web").rr] for _ in range(6)]
    assert all(set(answer) == expected for answer in answers)
    assert {answer[0] for answer in answers} == expected


def test_a_running_container_is_found_on_a_network_that_it_joins_until_it_leaves(mydocker: Mydocker, busybox: str) -> None:
    for name in ("one", "two"):
        mydocker("network", "create", name)
    start(mydocker, "a", "--network", "one")
    start(mydocker, "b", "--network", "two")
    assert lookup(mydocker, "a", "b") == set()
    mydocker("network", "connect", "--alias", "also", "one", "b")
    there = {address_of(mydocker, "b", "eth1")}
    assert lookup(mydocker, "a", "b") == there == lookup(mydocker, "a", "also")
    assert lookup(mydocker, "b", "a") == {address_of(mydocker, "a")}  # by the resolver of the other network
    mydocker("network", "disconnect", "one", "b")
    assert lookup(mydocker, "a", "b") == set()


@pytest.mark.needs("host_image")
def test_glibc_finds_them(mydocker: Mydocker, busybox: str) -> None:
    mydocker("network", "create", "--ipv6", "net")
    start(mydocker, "web", "--network", "net")
    program = (
        "import socket; print(sorted({item[4][0] for item in socket.getaddrinfo('web', 80)})); "
        "print(socket.gethostbyaddr(socket.gethostbyname('web'))[0])")
    out = mydocker("run", "--rm", "--network", "net", "host", "/usr/bin/python3", "-c", program).out.splitlines()
    assert address_of(mydocker, "web") in out[0] and "fd" in out[0]
    assert out[1] == "web.net"


def test_a_client_that_speaks_only_tcp_is_served(mydocker: Mydocker, busybox: str, server: dict[str, Any]) -> None:
    mydocker("network", "create", "--subnet", "10.215.2.0/24", "net")
    start(mydocker, "web", "--network", "net")
    assert [str(rr.rdata) for rr in query("10.215.2.1", "web", tcp=True).rr] == [address_of(mydocker, "web")]
    # A name that has no address of the kind exists all the same: no error, no record.
    reply = query("10.215.2.1", "web", "AAAA", tcp=True)
    assert (reply.header.rcode, reply.rr) == (RCODE.NOERROR, [])


def test_other_names_are_asked_outside_in_the_clients_protocol(mydocker: Mydocker, busybox: str, server: dict[str, Any]) -> None:
    mydocker("network", "create", "net")
    start(mydocker, "a", "--network", "net", "--dns", server["address"])
    assert lookup(mydocker, "a", "www.example.com") == {"192.0.2.7"}
    assert ("www.example.com.", "udp") in server["asked"]
    gateway = mydocker("exec", "a", "sed", "-n", "s/nameserver //p", "/etc/resolv.conf").out.strip()
    question = bytes(DNSRecord.question("www.example.com").pack())
    words = "".join(f"\\{byte:03o}" for byte in struct.pack("!H", len(question)) + question)
    mydocker("exec", "a", "sh", "-c", f"(printf '{words}'; sleep 1) | nc {gateway} 53")
    assert ("www.example.com.", "tcp") in server["asked"]


def test_an_internal_network_resolves_nothing_outside(mydocker: Mydocker, busybox: str, server: dict[str, Any]) -> None:
    """CVE-2024-29018: what goes out in a name goes out."""
    mydocker("network", "create", "--internal", "net")
    start(mydocker, "a", "--network", "net", "--dns", server["address"])
    start(mydocker, "b", "--network", "net")
    assert lookup(mydocker, "a", "b") == {address_of(mydocker, "b")}
    assert lookup(mydocker, "a", "secret.example.com") == set()
    assert "NXDOMAIN" in mydocker("exec", "a", "nslookup", "secret.example.com", code=1).out
    assert server["asked"] == []


def test_the_default_network_has_no_names_but_links(mydocker: Mydocker, busybox: str) -> None:
    start(mydocker, "db", "--network", "bridge")
    start(mydocker, "app", "--network", "bridge", "--link", "db:storage")
    hosts = mydocker("exec", "app", "cat", "/etc/hosts").out
    assert f"{address_of(mydocker, 'db')}\tstorage db " in hosts
    assert "nameserver" in mydocker("exec", "app", "cat", "/etc/resolv.conf").out
    assert resolver_pids(mydocker) == []
    mydocker("kill", "db")
    assert "does not run" in mydocker(
        "run", "--network", "bridge", "--link", "db", busybox, "true", code=125).one_error_line()


def test_a_linked_container_that_comes_back_elsewhere_is_followed(mydocker: Mydocker, busybox: str) -> None:
    start(mydocker, "db", "--network", "bridge")
    start(mydocker, "app", "--network", "bridge", "--link", "db")
    before = address_of(mydocker, "db")
    mydocker("kill", "db")
    until(lambda: mydocker("run", "-d", "--network", "bridge", "--ip", before, busybox, "sleep", "1000", code=None).code == 0)
    mydocker("start", "db")
    after = address_of(mydocker, "db")
    hosts = mydocker("exec", "app", "cat", "/etc/hosts").out
    assert after != before and f"{after}\tdb " in hosts and before not in hosts
    mydocker("kill", "db")
    mydocker("network", "disconnect", "bridge", "app")  # a link that leads nowhere hinders nobody who runs
    assert "db" not in mydocker("exec", "app", "cat", "/etc/hosts").out


def test_a_link_on_a_users_network_is_its_owners_alone(mydocker: Mydocker, busybox: str) -> None:
    mydocker("network", "create", "net")
    start(mydocker, "db", "--network", "net")
    start(mydocker, "app", "--network", "net", "--link", "db:storage")
    assert lookup(mydocker, "app", "storage") == {address_of(mydocker, "db")}
    assert lookup(mydocker, "db", "storage") == set()


def test_who_shares_a_network_shares_its_names(mydocker: Mydocker, busybox: str) -> None:
    mydocker("network", "create", "net")
    start(mydocker, "a", "--network", "net")
    assert "web" in mydocker("run", "-d", "--name", "web", "--network", "net", busybox, "sleep", "1000").argv
    out = mydocker("run", "--rm", "--network", "container:a", busybox, "nslookup", "-type=a", "web").out
    assert address_of(mydocker, "web") in out


def test_there_is_one_resolver_for_each_network_and_it_ends_with_the_last_container(mydocker: Mydocker, busybox: str) -> None:
    for name in ("one", "two"):
        mydocker("network", "create", name)
    started = [mydocker.popen("run", "-d", "--network", name, busybox, "sleep", "1000") for name in ("one", "two") * 4]
    assert all(process.wait() == 0 for process in started)
    for process in started:
        process.communicate()
    until(lambda: len(resolver_pids(mydocker)) >= 4, what="for two halves of each")
    assert len(resolver_pids(mydocker)) == 4
    mydocker("rm", "-f", *mydocker.container_ids())
    until(lambda: resolver_pids(mydocker) == [], what="for the resolvers to end")


def test_a_killed_resolver_is_there_again_with_the_next_command(mydocker: Mydocker, busybox: str) -> None:
    mydocker("network", "create", "net")
    start(mydocker, "a", "--network", "net")
    start(mydocker, "b", "--network", "net")
    expected = {address_of(mydocker, "b")}
    for words in (("exec", "a", "true"), ("ps",), ("run", "--rm", "--network", "net", busybox, "true")):
        for half in (0, 1):
            pids = sorted(resolver_pids(mydocker))
            os.kill(pids[half], signal.SIGKILL)
            until(lambda gone=pids: not set(gone) & set(resolver_pids(mydocker)), what="for the other half to end")
            mydocker(*words)
            until(lambda: len(resolver_pids(mydocker)) == 2, what="for both halves")
            assert lookup(mydocker, "a", "b") == expected


def test_a_program_with_a_hundred_open_files_starts_a_resolver_that_answers(mydocker: Mydocker, busybox: str) -> None:
    mydocker("network", "create", "net")
    start(mydocker, "a", "--network", "net")
    start(mydocker, "b", "--network", "net")
    pids = resolver_pids(mydocker)
    os.kill(pids[0], signal.SIGKILL)
    until(lambda: not set(pids) & set(resolver_pids(mydocker)), what="for both halves to end")
    held: list[int] = []
    try:
        while not held or held[-1] < 98:  # the resolver's own descriptors begin at 100
            held.append(os.open(os.devnull, os.O_RDONLY))
        naming.ensure_resolvers(Layout(mydocker.root, mydocker.run_dir), ["net"])
    finally:
        for fd in held:
            os.close(fd)
    until(lambda: len(resolver_pids(mydocker)) == 2, what="for both halves")
    pids = resolver_pids(mydocker)
    assert lookup(mydocker, "a", "b") == {address_of(mydocker, "b")}
    assert resolver_pids(mydocker) == pids  # `exec` would have started another


def test_the_half_that_talks_has_no_rights(mydocker: Mydocker, busybox: str) -> None:
    mydocker("network", "create", "net")
    start(mydocker, "a", "--network", "net")
    assert lookup(mydocker, "a", "a")
    talking = max(resolver_pids(mydocker))
    with open(f"/proc/{talking}/status", encoding="ascii") as stream:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in stream if ":\t" in line)
    assert status["Uid"].split() == ["65534"] * 4 and status["Gid"].split() == ["65534"] * 4
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0 and status["NoNewPrivs"] == "1"
    assert status["Groups"].split() == []
    assert os.readlink(f"/proc/{talking}/root") != "/"


def test_rubbish_costs_no_memory_and_hinders_nobody(mydocker: Mydocker, busybox: str, server: dict[str, Any]) -> None:
    mydocker("network", "create", "--subnet", "10.215.3.0/24", "net")
    start(mydocker, "a", "--network", "net")
    source = random.Random(1)
    talking = max(resolver_pids(mydocker))

    def is_served() -> bool:
        try:
            return bool(query("10.215.3.1", "a", timeout_s=0.5).rr)
        except TimeoutError:
            return False

    def throw(count: int) -> int:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("10.215.3.1", 53))
            for number in range(count):
                data = bytearray(DNSRecord.question(f"a{number}", "A").pack()) if number % 3 else bytearray(source.randbytes(200))
                data[source.randrange(len(data))] = source.randrange(256)
                client.send(bytes(data))
        until(is_served, what="for an answer")  # the queue of packets is full of rubbish for a moment
        with open(f"/proc/{talking}/statm", encoding="ascii") as stream:
            return int(stream.read().split()[1]) * 4
    before = throw(3000)
    after = throw(12000)
    assert after < before + 1024, (before, after)
    assert lookup(mydocker, "a", "a") == {address_of(mydocker, "a")}


def test_connections_that_say_nothing_hinder_nobody(mydocker: Mydocker, busybox: str) -> None:
    mydocker("network", "create", "--subnet", "10.215.4.0/24", "net")
    start(mydocker, "a", "--network", "net")
    before = resolver_pids(mydocker)
    silent = [socket.create_connection(("10.215.4.1", 53)) for _ in range(120)]
    assert lookup(mydocker, "a", "a") == {address_of(mydocker, "a")}
    for connection in silent:
        connection.close()

    def is_served() -> bool:
        try:
            return bool(query("10.215.4.1", "a", tcp=True).rr)
        except (OSError, struct.error):
            return False  # closed at once: there are as many of us as may be
    until(is_served, what="for connections to be served again")
    assert resolver_pids(mydocker) == before


def test_a_name_server_on_all_addresses_is_told(mydocker: Mydocker, busybox: str) -> None:
    mydocker("network", "create", "--subnet", "10.215.5.0/24", "net")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.IPPROTO_IP, 15, 1)
        other.bind(("10.215.5.1", 53))
        message = mydocker("run", "--rm", "--network", "net", busybox, "true", code=125).one_error_line()
    assert "serve names on network net: bind port 53 of 10.215.5.1" in message
    mydocker("run", "--rm", "--network", "net", busybox, "true")
