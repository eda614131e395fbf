"""Real traffic: sockets in any network namespace, and a test host behind a cable, as another machine would be.

A `Place` is a network namespace; a socket that was made there stays there, so servers run as threads of the test, inside
containers that only sleep. What a server answers is the address that it saw.
"""
from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import pytest
from harness import Mydocker

from mydocker.base import ids
from mydocker.base.clock import now_ns
from mydocker.base.paths import Layout
from mydocker.linux import syscalls as sc
from mydocker.linux.netlink import Route
from mydocker.network.ipam import choose_subnet6, is_used
from mydocker.network.model import Network, Subnet
from mydocker.network.store import NetworkStore, used_subnets

#: For documentation and tests only (RFC 5737, RFC 3849); each test run takes a part of its own.
_HOST4, _PEER4 = "198.51.100.{}", "198.51.100.{}"
CUT_AFTER_S = 1.0


class Place:
    """A network namespace, by the path of its file; None is the machine's own."""

    def __init__(self, path: str | None = None) -> None:
        self.path = path

    @classmethod
    def of(cls, mydocker: Mydocker, name: str) -> Self:
        """Return the namespace of a running container."""
        return cls(f"/proc/{mydocker.pid_of(name)}/ns/net")

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Return a socket of this place."""
        if self.path is None:
            return socket.socket(family, kind, protocol)
        home, there = os.open("/proc/thread-self/ns/net", os.O_RDONLY), os.open(self.path, os.O_RDONLY)
        try:
            sc.setns(there, sc.CLONE_NEWNET)
            try:
                return socket.socket(family, kind, protocol)
            finally:
                sc.setns(home, sc.CLONE_NEWNET)
        finally:
            os.close(home)
            os.close(there)

    def ask(self, address: str, port: int, *, udp: bool = False, timeout_s: float = 5, source: str = "") -> str:
        """Ask a server there and return the address that it saw. Raises OSError."""
        with self.socket(_family(address), socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as made:
            made.settimeout(timeout_s)
            if source:
                made.bind((source, 0))
            made.connect((address, port))
            if udp:
                made.send(b"?")
            return made.recv(1000).decode()

    def is_cut_off(self, address: str, port: int, *, udp: bool = False) -> bool:
        """Tell whether nothing comes back from there."""
        try:
            self.ask(address, port, udp=udp, timeout_s=CUT_AFTER_S)
        except OSError:
            return True
        return False

    def run(self, *argv: str) -> str:
        """Run a program there and return its output."""
        assert self.path is not None
        return subprocess.run(["nsenter", f"--net={self.path}", *argv], check=True, capture_output=True, text=True).stdout


HERE = Place()


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Server:
    """A server at a place that tells everyone by which address it saw him. `seen` has them all."""

    def __init__(self, place: Place, port: int, *, udp: bool = False, address: str = "0.0.0.0") -> None:
        self.seen: list[str] = []
        self._udp = udp
        self._socket = place.socket(_family(address), socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((address, port))
        if not udp:
            self._socket.listen(64)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # an unconnected UDP socket; it wakes all the same
        self._socket.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                if self._udp:
                    data, peer = self._socket.recvfrom(100)
                    if not data:
                        return
                    self._socket.sendto(peer[0].encode(), peer)
                else:
                    connection, peer = self._socket.accept()
                    with connection:
                        connection.sendall(peer[0].encode())
            except OSError:
                return
            self.seen.append(peer[0])


class TestHost(Place):
    """Another machine: a namespace behind a cable to this one, with routes by it to everywhere."""

    __test__ = False

    def __init__(self, number: int, machine: str = "") -> None:
        self._machine = machine and f"-n {machine} "
        self.name = f"mdtest{os.getpid() % 100000}"
        super().__init__(f"/run/netns/{self.name}")
        base = number % 60 * 4
        self.host_ip, self.ip = _HOST4.format(base + 1), _PEER4.format(base + 2)
        self.host_ip6, self.ip6 = f"2001:db8:{base + 1:x}::1", f"2001:db8:{base + 1:x}::2"
        self.device = f"th{os.getpid() % 100000}"

    def __enter__(self) -> Self:
        for words in (
            f"netns add {self.name}", f"{self._machine}link add {self.device} type veth peer name eth0 netns {self.name}",
            f"{self._machine}addr add {self.host_ip}/30 dev {self.device}",
            f"{self._machine}-6 addr add {self.host_ip6}/64 dev {self.device} nodad",
            f"{self._machine}link set {self.device} up", f"-n {self.name} link set lo up", f"-n {self.name} addr add {self.ip}/30 dev eth0",
            f"-n {self.name} -6 addr add {self.ip6}/64 dev eth0 nodad", f"-n {self.name} link set eth0 up",
            f"-n {self.name} route add default via {self.host_ip}", f"-n {self.name} -6 route add default via {self.host_ip6}",
        ):
            subprocess.run(["ip", *words.split()], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=False)
        words = f"{self._machine}link del {self.device}".split()
        subprocess.run(["ip", *words], check=False, capture_output=True)


@pytest.fixture
def outside() -> Iterator[TestHost]:
    """Another machine on a network of its own with this one."""
    with TestHost(os.getpid()) as host:
        yield host


class Machine(Place):
    """A machine whose network is its own: no other engine's rules, its own switches. Commands of `mydocker` are run on it."""

    def __init__(self) -> None:
        self.name = f"mdmachine{os.getpid() % 100000}"
        super().__init__(f"/run/netns/{self.name}")

    def __enter__(self) -> Self:
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        subprocess.run(["ip", "-n", self.name, "link", "set", "lo", "up"], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=True)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Have this thread of the test on the machine."""
        home, there = os.open("/proc/thread-self/ns/net", os.O_RDONLY), os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        sc.setns(there, sc.CLONE_NEWNET)
        try:
            yield
        finally:
            sc.setns(home, sc.CLONE_NEWNET)
            os.close(home)
            os.close(there)

    def set(self, name: str, value: str) -> None:
        """Set a sysctl of this machine's network."""
        self.run("sysctl", "-qw", f"{name}={value}")


@pytest.fixture
def machine(mydocker: Mydocker) -> Iterator[Machine]:
    """A machine of the test's own, on which `mydocker` is run from now on."""
    with Machine() as made:
        plain = mydocker.argv
        mydocker.argv = ["nsenter", f"--net={made.path}", *plain]
        yield made
        mydocker.destroy()
        mydocker.argv = plain


def _free_subnet(used: list[tuple[bytes, int]]) -> Subnet:
    """Return a subnet apart from those of tests beside this one, whose networks nobody sees before they have a bridge."""
    for number in range(1024):
        packed = bytes((10, 140 + os.getpid() % 40, (os.getpid() // 40 * 16 + number) % 256, 0))
        subnet = Subnet(packed=packed, prefix=24, gateway=packed[:3] + b"\1")
        if not is_used(subnet, used):
            return subnet
    raise AssertionError("no subnet is free")


def make_network(mydocker: Mydocker, name: str, *, internal: bool = False, ipv6: bool = False) -> Network:
    """Enter a network with a free subnet in the test's state root."""
    store = NetworkStore(Layout(mydocker.root))
    with Route() as route:
        subnets = [_free_subnet(used_subnets(store, route))]
    network_id = ids.new_hex(12)
    if ipv6:
        subnets.append(choose_subnet6(network_id))
    network = Network(id=network_id, name=name, subnets=tuple(subnets), internal=internal, created_ns=now_ns())
    store.add(network)
    return network


def start(mydocker: Mydocker, name: str, *options: str) -> Place:
    """Start a container that sleeps and return its network namespace."""
    mydocker("run", "-d", "--name", name, *options, "busybox", "sleep", "1000")
    return Place.of(mydocker, name)


def address_of(mydocker: Mydocker, name: str, number: int = 0, *, ipv6: bool = False) -> str:
    """Return a container's address on its first network."""
    with open(f"{mydocker.directory_of(name)}/config.json", encoding="utf-8") as stream:
        endpoint = json.load(stream)["endpoints"][number]
    return str(endpoint["ip6" if ipv6 else "ip"])


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """Return a port of this machine that nobody uses, outside of the range that the kernel gives away."""
    for port in range(20000 + os.getpid() % 5000, 30000):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
