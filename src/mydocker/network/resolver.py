"""The resolver's talking half: sockets of a network's gateway, queries, other name servers. It has no rights.

It runs as nobody in an empty root and knows nothing by itself: who a client is and what a name means it asks the other
half (engine/naming.py) over a socket, where only a client's address and a name of at most 255 letters go. Everything that
a client can make it keep has a bound, so that its memory stays what it is.

UDP is served by one loop; TCP, which few clients use, by a thread a connection.
"""
from __future__ import annotations

import json
import os
import select
import socket
import struct
import time
from _thread import allocate_lock, stack_size, start_new_thread

from mydocker.base.record import Record
from mydocker.linux.netlink import parse_address

from . import dns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from .model import Subnet

_MAX_PENDING, _MAX_PENDING_OF_ONE = 512, 64
_MAX_CONNECTIONS, _MAX_CONNECTIONS_OF_ONE = 64, 16
_MAX_QUERIES_OF_CONNECTION = 1000
#: A name server has this long for its answer, then the next one is asked. A client gives up after five seconds.
_SERVER_TIMEOUT_S = 2.0
_CHECK_S = 0.25
_STACK_BYTES = 512 << 10
_IDLE_S = 10.0
_DNS_PORT = 53


class Knowledge:
    """The other half, asked. Used by the loop and by threads."""

    __slots__ = ("_channel", "_lock")

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lock = allocate_lock()

    def ask(self, client: str, name: str, pointed: str) -> dict[str, Any]:
        """Return `known`, `addresses`, `names` and the `servers` to ask for what is not known."""
        with self._lock:
            self._channel.send(json.dumps([client, name, pointed]).encode())
            data = self._channel.recv(1 << 16)
        if not data:
            os._exit(0)  # the other half has ended, and so do we
        found: dict[str, Any] = json.loads(data)
        return found


class Pending(Record):
    """A query that was passed on over UDP and waits for the answer of `servers[0]`."""

    query: dns.Query
    id: int
    client: Any
    listener: socket.socket
    servers: tuple[str, ...]
    upstream: socket.socket
    deadline: float


class Resolver:
    """Serves the listening sockets of one network."""

    def __init__(self, listeners: Sequence[socket.socket], channel: socket.socket, subnets: Sequence[Subnet]) -> None:
        self._udp = {each.fileno(): each for each in listeners if each.type == socket.SOCK_DGRAM}
        self._tcp = {each.fileno(): each for each in listeners if each.type == socket.SOCK_STREAM}
        self._channel = channel
        self._knowledge = Knowledge(channel)
        self._subnets = subnets
        self._pending: dict[int, Pending] = {}
        self._connections: dict[str, int] = {}
        self._connections_lock = allocate_lock()
        self._poll = select.poll()
        self._next_check = 0.0
        stack_size(_STACK_BYTES)

    def run(self) -> NoReturn:
        """Serve until the other half ends."""
        for fd in (*self._udp, *self._tcp):
            self._poll.register(fd, select.POLLIN)
        self._poll.register(self._channel.fileno(), 0)  # only its end
        while True:
            for fd, _ in self._poll.poll(_CHECK_S * 1000 if self._pending else None):
                if fd in self._udp:
                    self._read_query(self._udp[fd])
                elif fd in self._tcp:
                    self._accept(self._tcp[fd])
                elif fd in self._pending:
                    self._read_answer(self._pending[fd])
                elif fd == self._channel.fileno():
                    os._exit(0)
            self._ask_others_for_late_answers()

    def _is_ours(self, client: str) -> bool:
        """Tell whether a client is of the network: to others this would be an open resolver."""
        packed = parse_address(client)
        return any(subnet.contains(packed) for subnet in self._subnets)

    # --- UDP ----------------------------------------------------------------------------------------

    def _read_query(self, listener: socket.socket) -> None:
        try:
            data, client = listener.recvfrom(4096)
        except OSError:
            return  # an error that ICMP brought back for an earlier answer, or a packet with a wrong checksum
        address = client[0].partition("%")[0]
        if not self._is_ours(address):
            return
        query = dns.parse_query(data)
        if isinstance(query, bytes):
            _send(listener, query, client)
        elif query is not None:
            found = self._knowledge.ask(address, query.name, query.pointed_address)
            answer = _local_answer(query, found, over_tcp=False)
            if answer is not None:
                _send(listener, answer, client)
            elif not self._pass_on(query, listener, client, tuple(found["servers"])):
                _send(listener, dns.server_failure(query), client)

    def _pass_on(self, query: dns.Query, listener: socket.socket, client: Any, servers: tuple[str, ...]) -> bool:
        """Ask the first of other servers that can be asked; False when none can, or too many questions are open."""
        mine = sum(pending.client[0] == client[0] for pending in self._pending.values())
        if len(self._pending) >= _MAX_PENDING or mine >= _MAX_PENDING_OF_ONE:
            return False
        while servers:
            try:
                upstream = _connect(servers[0], socket.SOCK_DGRAM)
                # A number and a port that nobody can guess: an answer could be forged otherwise.
                number = int.from_bytes(os.urandom(2))
                upstream.send(dns.with_id(query.data, number))
            except OSError:
                servers = servers[1:]
                continue
            fd = upstream.fileno()
            self._pending[fd] = Pending(
                query=query, id=number, client=client, listener=listener, servers=servers, upstream=upstream,
                deadline=time.monotonic() + _SERVER_TIMEOUT_S)
            self._poll.register(fd, select.POLLIN)
            return True
        return False

    def _read_answer(self, pending: Pending) -> None:
        try:
            data = pending.upstream.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:  # nobody listens there
            self._try_next(pending)
            return
        if dns.is_answer_to(data, pending.id, pending.query.question):
            self._forget(pending)
            _send(pending.listener, dns.with_id(data, pending.query.id), pending.client)

    def _try_next(self, pending: Pending) -> None:
        self._forget(pending)
        if not self._pass_on(pending.query, pending.listener, pending.client, pending.servers[1:]):
            _send(pending.listener, dns.server_failure(pending.query), pending.client)

    def _forget(self, pending: Pending) -> None:
        fd = pending.upstream.fileno()
        del self._pending[fd]
        self._poll.unregister(fd)
        pending.upstream.close()

    def _ask_others_for_late_answers(self) -> None:
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + _CHECK_S
        for pending in [each for each in self._pending.values() if each.deadline < now]:
            self._try_next(pending)

    # --- TCP ----------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, client = listener.accept()
        except OSError:
            return  # it was gone again
        address = client[0].partition("%")[0]
        with self._connections_lock:
            mine = self._connections.get(address, 0)
            if (not self._is_ours(address) or mine >= _MAX_CONNECTIONS_OF_ONE
                    or sum(self._connections.values()) >= _MAX_CONNECTIONS):
                connection.close()
                return
            self._connections[address] = mine + 1
        try:
            start_new_thread(self._serve_connection, (connection, address))
        except RuntimeError:  # no room for a thread: there are others who are served
            self._release(connection, address)

    def _serve_connection(self, connection: socket.socket, address: str) -> None:
        try:
            connection.settimeout(_IDLE_S)
            for _ in range(_MAX_QUERIES_OF_CONNECTION):
                data = _read_message(connection)
                answer = self._answer_over_tcp(data, address) if data else None
                if answer is None:
                    return
                connection.sendall(struct.pack("!H", len(answer)) + answer)
        except OSError:
            pass  # the client went away or kept us waiting
        finally:
            self._release(connection, address)

    def _release(self, connection: socket.socket, address: str) -> None:
        connection.close()
        with self._connections_lock:
            self._connections[address] -= 1
            if not self._connections[address]:
                del self._connections[address]

    def _answer_over_tcp(self, data: bytes, address: str) -> bytes | None:
        query = dns.parse_query(data)
        if query is None or isinstance(query, bytes):
            return query
        found = self._knowledge.ask(address, query.name, query.pointed_address)
        answer = _local_answer(query, found, over_tcp=True)
        return answer if answer is not None else _ask_over_tcp(query, found["servers"])


def _local_answer(query: dns.Query, found: dict[str, Any], *, over_tcp: bool) -> bytes | None:
    """Return the answer that needs nobody else, None for what others are to be asked."""
    if found["known"]:
        if query.pointed_address:
            return dns.answer_pointer(query, found["names"], over_tcp=over_tcp) if found["names"] else dns.no_such_name(query)
        return dns.answer_addresses(query, found["addresses"], over_tcp=over_tcp)
    return None if found["servers"] else dns.no_such_name(query)


def _ask_over_tcp(query: dns.Query, servers: Sequence[str]) -> bytes:
    for server in servers:
        try:
            with _connect(server, socket.SOCK_STREAM) as upstream:
                number = int.from_bytes(os.urandom(2))
                upstream.sendall(struct.pack("!H", len(query.data)) + dns.with_id(query.data, number))
                data = _read_message(upstream)
        except OSError:
            continue
        if data and dns.is_answer_to(data, number, query.question):
            return dns.with_id(data, query.id)
    return dns.server_failure(query)


def _connect(server: str, kind: int) -> socket.socket:
    upstream = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, kind | socket.SOCK_CLOEXEC)
    try:
        if kind == socket.SOCK_DGRAM:
            upstream.setblocking(False)
        else:
            upstream.settimeout(_SERVER_TIMEOUT_S)
        # Connected: the kernel takes packets of nobody else, and says so when nobody listens there.
        upstream.connect((server, _DNS_PORT))
        return upstream
    except BaseException:
        upstream.close()
        raise


def _read_message(stream: socket.socket) -> bytes:
    """Return one message of a stream, b"" at its end."""
    size = _read_exactly(stream, 2)
    return _read_exactly(stream, struct.unpack("!H", size)[0]) if size else b""


def _read_exactly(stream: socket.socket, count: int) -> bytes:
    data = bytearray()
    deadline = time.monotonic() + _IDLE_S
    while len(data) < count:
        chunk = stream.recv(count - len(data))
        if not chunk or time.monotonic() > deadline:
            return b""
        data += chunk
    return bytes(data)


def _send(listener: socket.socket, data: bytes, client: Any) -> None:
    try:
        listener.sendto(data, client)
    except OSError:
        pass  # the client's address is not there any more, or its queue is full: UDP promises nothing
