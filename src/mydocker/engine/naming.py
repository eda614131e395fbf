"""Names on a user's network: one resolver for each, on the gateway's address, there while containers are.

It is no daemon that anything depends on. Whoever starts a container there (or executes something in one, or types any other
command) looks whether it runs, and starts it if not:

    network/<name>.json locked       a resolver runs, or is just being started: look no further
    not locked, containers there     lock it, bind port 53 of the gateway's addresses, start the process with both

The sockets are bound by whoever starts it, so a query that comes before the process is ready waits in them. Two halves make the
process: this one, which may read the records and never sees a packet, and network/resolver.py, which sees the packets and
may do nothing. When either ends the other does; with the last container gone both do.
"""
from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import socket
import sys
import time

from mydocker.base import log
from mydocker.base.errors import MydockerError, NotFound, Unavailable
from mydocker.base.paths import Layout
from mydocker.linux import syscalls as sc
from mydocker.linux.netlink import Route, device_index, format_address, parse_address
from mydocker.network import bridge
from mydocker.network.directory import Directory, Member
from mydocker.network.model import BRIDGE, DEFAULT_NETWORK, Endpoint, Network
from mydocker.network.store import NetworkStore

from .lifecycle import ALIVE
from .observe import identity_of
from .store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn

_PORT = 53
#: Descriptors of the new process: the lock, then the sockets. High enough that nothing else is there.
_FIRST_FD = 100
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
    "MALLOC_ARENA_MAX": "1",  # else each thread sets 64 MiB of addresses apart, against the limit below
}
_PROGRAM = (
    "import os; os.fork() and os._exit(0); import sys; sys.path.insert(0, {!r}); "
    "from mydocker.engine.naming import main; main()")
_IP_FREEBIND = 15
#: How long the sockets of a resolver that was just killed may still be there.
_TAKEOVER_S = 1.0


def ensure_resolvers(layout: Layout, references: Iterable[str]) -> None:
    """See that the resolvers of networks run. Raises NotFound (a network), Unavailable (port 53 is somebody else's)."""
    networks = NetworkStore(layout)
    for reference in references:
        network = networks.find(reference)
        if has_resolver(network):
            ensure_resolver(layout, network)


def has_resolver(network: Network) -> bool:
    """Tell whether a network is to have one: a gateway of ours is needed, where it can be reached."""
    return network.has_names and network.driver == BRIDGE and bool(network.ipv4.gateway)


def restore_resolvers(layout: Layout) -> None:
    """Start the resolvers that were killed while containers need them."""
    for network in NetworkStore(layout).all():
        if has_resolver(network) and bridge.has_members(network):
            try:
                ensure_resolver(layout, network)
            except MydockerError as error:
                log.debug("restore resolver", network=network.name, error=error)  # the next start will say it


def ensure_resolver(layout: Layout, network: Network) -> None:
    """See that a network's resolver runs. Raises NotFound, Unavailable, RuntimeFailed."""
    try:
        lock_fd = os.open(layout.network(network.name), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"no network {network.name}") from None
    listeners: list[socket.socket] = []
    try:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        with Route() as route:
            bridge.ensure_bridge(route, network, layout.network(network.name))
        for subnet in network.subnets:
            if subnet.gateway:
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    listeners.append(_bind(network, format_address(subnet.gateway), kind))
        _spawn(layout, network, [lock_fd, *(listener.fileno() for listener in listeners)])
        log.debug("started resolver", network=network.name)
    finally:
        os.close(lock_fd)
        for listener in listeners:
            listener.close()


def _bind(network: Network, address: str, kind: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind | socket.SOCK_CLOEXEC)
    if kind == socket.SOCK_STREAM:
        # Connections of an earlier resolver may linger. Never for UDP: there it would let another steal the port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    deadline = time.monotonic() + _TAKEOVER_S
    while True:
        try:
            listener.bind((address, _PORT))
            if kind == socket.SOCK_STREAM:
                listener.listen(64)
            return listener
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(0.01)
                continue
            listener.close()
            raise Unavailable(
                f"serve names on network {network.name}: bind port {_PORT} of {address}: {os.strerror(error.errno or 0).lower()}",
                hint="another name server listens on all addresses of this machine: have it listen on its own only") from error


def _spawn(layout: Layout, network: Network, fds: list[int]) -> None:
    package_parent = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0), (os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2)]
    # From numbers that are not among the targets: a program may have a hundred open, and one dup2 would overwrite what the
    # next one copies.
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_FD + len(fds)) for fd in fds]
    actions += [(os.POSIX_SPAWN_DUP2, fd, _FIRST_FD + number) for number, fd in enumerate(copies)]
    argv = [sys.executable, "-I", "-c", _PROGRAM.format(package_parent), layout.root, layout.run, network.name, str(len(fds))]
    try:
        pid = os.posix_spawn(sys.executable, argv, _ENVIRONMENT, file_actions=actions, setsid=True)
    finally:
        for fd in copies:
            os.close(fd)
    try:
        os.waitpid(pid, 0)  # it has a child that goes on, which nobody here has to reap
    except ChildProcessError:
        pass  # this program has its children reaped by the kernel


# --- the process --------------------------------------------------------------------------------------


def main() -> NoReturn:
    """Be a resolver. Arguments: state root, run directory, network, how many descriptors there are."""
    root, run, name, count = sys.argv[1:5]
    end = _FIRST_FD + int(count)
    os.closerange(3, _FIRST_FD)
    sc.close_range(end, 0xFFFFFFFF, 0)
    os.chdir("/")
    layout = Layout(root, run)
    network = NetworkStore(layout).load(name)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        os.close(_FIRST_FD)  # the lock is the keeper's alone: who kills that one frees it
        _serve([socket.socket(fileno=fd) for fd in range(_FIRST_FD + 1, end)], theirs, network)
    theirs.close()
    os.closerange(_FIRST_FD + 1, end)
    try:
        Keeper(layout, network, ours).run()
        _end(layout, network, ours)
    finally:
        os._exit(0)


def _serve(listeners: list[socket.socket], channel: socket.socket, network: Network) -> NoReturn:
    """Give up every right and talk to clients."""
    try:
        import resource
        from encodings import idna  # noqa: F401  # nothing can be imported any more behind the chroot

        from mydocker.network.resolver import Resolver

        resolver = Resolver(listeners, channel, network.subnets)
        resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))
        resource.setrlimit(resource.RLIMIT_NOFILE, (2048, 2048))
        # An empty directory that cannot be written to, and goes with the process.
        os.chroot("/proc/self/fdinfo")
        os.chdir("/")
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1)
        resolver.run()
    finally:
        os._exit(1)


def _end(layout: Layout, network: Network, channel: socket.socket) -> None:
    """Let go of sockets and lock, in this order; then look once more, because somebody may have come and seen the lock taken."""
    channel.close()
    os.wait()
    os.close(_FIRST_FD)
    if bridge.has_members(network):
        try:
            ensure_resolver(layout, network)
        except MydockerError:
            pass  # the network is gone, or another has taken over


class Keeper:
    """Answers the talking half from the records, and sees when there is nobody left to serve."""

    #: Records are looked at again when a query comes so long after the last look.
    _FRESH_S = 0.02
    #: A resolver is started before the container that it is started for is on the network; and one may be followed by the next.
    _FIRST_WAIT_S, _LINGER_S = 10.0, 1.0

    def __init__(self, layout: Layout, network: Network, channel: socket.socket) -> None:
        self._store = Store(layout)
        self._network = network
        self._networks = NetworkStore(layout)
        self._channel = channel
        self._seen: dict[str, tuple[tuple[int, int], Member | None]] = {}
        self._directory = Directory([])
        self._looked = 0.0
        self._host: tuple[float, tuple[str, ...]] = (-10.0, ())
        self._deadline: float | None = time.monotonic() + self._FIRST_WAIT_S

    def run(self) -> None:
        """Return when the other half has ended, or nobody is left on the network."""
        links = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        links.bind((0, 1))  # RTMGRP_LINK: a container that comes or goes is a device that comes or goes
        links.setblocking(False)
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(links, select.POLLIN)
        while self._is_needed():
            wait_s = None if self._deadline is None else max(self._deadline - time.monotonic(), 0) + 0.01
            for fd, _ in poll.poll(None if wait_s is None else wait_s * 1000):
                if fd == links.fileno():
                    _drain(links)
                elif not self._answer():
                    return

    def _is_needed(self) -> bool:
        """Tell whether anybody is on the network, or was a moment ago."""
        if not os.path.exists(self._store.layout.network(self._network.name)):
            return False
        if bridge.has_members(self._network):
            self._deadline = None
            return True
        if not device_index(self._network.bridge):
            return False  # it was there when we were started
        if self._deadline is None:
            self._deadline = time.monotonic() + self._LINGER_S
        return time.monotonic() < self._deadline

    def _answer(self) -> bool:
        request = self._channel.recv(4096)
        if not request:
            return False
        client_address, name, pointed = json.loads(request)
        self._look()
        self._channel.send(json.dumps(self._find(client_address, name, pointed)).encode())
        return True

    def _find(self, client_address: str, name: str, pointed: str) -> dict[str, object]:
        client = self._directory.client(self._network.id, client_address)
        endpoints = client.endpoints if client else ()
        networks = {endpoint.network_id for endpoint in endpoints if endpoint.network != DEFAULT_NETWORK} or {self._network.id}
        is_internal = all(endpoint.internal for endpoint in endpoints) if endpoints else self._network.internal
        addresses = None if pointed or not name else self._directory.addresses(name, networks, client)
        is_inside = bool(pointed) and self._is_inside(pointed, networks)
        servers: tuple[str, ...] = () if is_internal else (client.servers if client else ()) or self._host_servers()
        return {
            "known": addresses is not None or is_inside, "addresses": addresses or [],
            "names": self._directory.names(pointed, networks)[:8] if is_inside else [], "servers": servers,
        }

    def _is_inside(self, address: str, networks: set[str]) -> bool:
        """Tell whether an address is of one of the client's networks: nobody outside is asked about those."""
        packed = parse_address(address)
        return any(
            subnet.contains(packed) for network in self._networks.all() if network.id in networks for subnet in network.subnets)

    def _host_servers(self) -> tuple[str, ...]:
        """Return the machine's name servers, loopback ones too: this process is in the machine's network."""
        when, servers = self._host
        if time.monotonic() - when > 1.0:
            from .etc_files import RESOLV_CONF, HostDns, read_text

            own = {format_address(subnet.gateway) for subnet in self._network.subnets if subnet.gateway}
            servers = tuple(server for server in HostDns(read_text(RESOLV_CONF)).servers if server not in own)
            self._host = (time.monotonic(), servers)
        return servers

    def _look(self) -> None:
        """Bring the directory up to date: only records that changed are read."""
        now = time.monotonic()
        if now - self._looked < self._FRESH_S:
            return
        self._looked = now
        seen: dict[str, tuple[tuple[int, int], Member | None]] = {}
        is_changed = False
        for container_id in self._store.ids():
            try:
                status = os.stat(f"{self._store.layout.container(container_id)}/config.json")
            except FileNotFoundError:
                continue
            mark = (status.st_mtime_ns, status.st_ino)
            known = self._seen.get(container_id)
            if known is None or known[0] != mark:
                known = (mark, self._read(container_id))
                is_changed = True
            seen[container_id] = known
        if is_changed or len(seen) != len(self._seen):
            self._directory = Directory([member for _, member in seen.values() if member])
        self._seen = seen

    def _read(self, container_id: str) -> Member | None:
        try:
            record = self._store.load(container_id)
        except MydockerError:
            return None  # just removed, or unreadable: nobody can be told where it is
        identity = identity_of(record)
        if identity is None or record.status not in ALIVE or not record.endpoints:
            return None
        config = record.config
        return Member(
            id=record.id, name=record.name, hostname=config.get("hostname", ""), identity=identity,
            endpoints=tuple(Endpoint.from_document(item) for item in record.endpoints),
            links=tuple((item[0], item[1]) for item in config.get("links", ())), servers=tuple(config.get("dns", ())))


def _drain(links: socket.socket) -> None:
    while True:
        try:
            links.recv(1 << 16)
        except OSError:
            return  # nothing more; or ENOBUFS, more than fits: that something happened is all we want to know
