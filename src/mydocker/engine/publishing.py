"""Published ports of containers: reserved before anything is started, let in when the container has its address, taken back.

A port of the machine is reserved by a socket that is bound to it and never used. The stage leaves it to the monitor, which
holds it as long as the container lives: no other program can take the port, and whatever is killed, the kernel gives it back.
What leads packets to the container is an element of a map (network/firewall.py) under the container's id. What is published is
in the record (`ports`) before it is let in, so that a table that was flushed can be made anew from records at any time.
"""
from __future__ import annotations

import _socket
import errno
import fcntl
import os

from mydocker.base import files, log, trace
from mydocker.base.errors import Conflict, Corrupt, InvalidRequest, NotFound, RuntimeFailed, Unavailable, Unsupported
from mydocker.base.record import Record
from mydocker.linux.netlink import Message, Refused, Route, add_local_route, allow_hairpin, device_index, parse_address
from mydocker.linux.process import is_alive
from mydocker.network import firewall
from mydocker.network.firewall import PROTOCOLS, Published
from mydocker.network.model import BRIDGE, Endpoint, Network

from .observe import identity_of
from .ports import PortRequest, parse_exposed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from mydocker.base.paths import Layout
    from mydocker.base.undo import Undo

    from .store import ContainerRecord, Store

#: Sockets get descriptors from here on, so that the monitor is told one number. It has some 60 others at most.
HELD_FROM = 128
_LOOPBACK6 = "::1"
_DNS_PORT = 53
_BRIDGE_FILTERS_IPV6 = "/proc/sys/net/bridge/bridge-nf-call-ip6tables"
#: How often another random port is tried when the first is taken on one of several addresses.
_TRIES = 50


class Binding(Record):
    """One port of a container as it is published."""

    port: int
    protocol: str
    host_ip: str
    host_port: int

    @property
    def host_text(self) -> str:
        """`127.0.0.1:8080`, or `[::1]:8080`."""
        return f"{f'[{self.host_ip}]' if ':' in self.host_ip else self.host_ip}:{self.host_port}"


class Reservation:
    """Ports of the machine that are a container's now, held by the descriptors `fds`."""

    __slots__ = ("bindings", "fds")

    def __init__(self) -> None:
        self.bindings: list[Binding] = []
        self.fds: list[int] = []

    def hold(self, binding: Binding, sockets: Iterable[_socket.socket]) -> None:
        """Take a port's sockets over."""
        self.bindings.append(binding)
        for taken in sockets:
            try:
                self.fds.append(fcntl.fcntl(taken.fileno(), fcntl.F_DUPFD_CLOEXEC, HELD_FROM))
            finally:
                taken.close()

    def publish(self, store: Store, record: ContainerRecord, undo: Undo) -> list[str]:
        """Let the ports in, and leave the descriptors to the monitor; return what that is to be told."""
        undo.callback(withdraw, store, record)
        publish(store, record)
        trace.point("published ports")
        for fd in self.fds:
            os.set_inheritable(fd, True)
        return ["--held", str(HELD_FROM)] if self.fds else []


def reserve_ports(layout: Layout, config: dict[str, Any]) -> Reservation | None:
    """Reserve what a container of this configuration publishes; None when with `-P` there is nothing to publish."""
    if not config.get("ports") and not config.get("exposed"):
        return None
    from .connecting import networks_of  # cold

    return reserve(config, networks_of(layout, config))


def reserve(config: dict[str, Any], networks: list[Network]) -> Reservation:
    """Reserve all ports that a container publishes. Raises Conflict (in use), InvalidRequest, Unsupported, Unavailable."""
    outer = [network for network in networks if network.driver == BRIDGE and not network.internal]
    if not outer:
        raise InvalidRequest(
            "publish: none of the container's networks is reached from outside", hint="put it on a bridge network, too")
    missing, hint = firewall.find_missing_part()
    if missing:
        raise Unavailable(f"publish ports: there is {missing} on this machine", hint=hint)
    requests = plan_requests(config)
    found = Reservation()
    has_ipv6 = any(network.ipv6 for network in outer)
    with _RoomForDescriptors(2 * len(requests)):
        for request in requests:
            addresses = [address for address in request.addresses if _is_possible(address, request, has_ipv6=has_ipv6)]
            port, sockets = _reserve_one(request, addresses)
            for address, taken in zip(addresses, sockets, strict=True):
                binding = Binding(port=request.port, protocol=request.protocol, host_ip=address, host_port=port)
                found.hold(binding, taken)
    log.debug("reserved ports", ports=[f"{item.host_text}/{item.protocol}" for item in found.bindings])
    return found


def plan_requests(config: dict[str, Any]) -> list[PortRequest]:
    """Return what is to be published, with `-P` every exposed port that is not named anyway."""
    requests = [PortRequest.from_document(item) for item in config.get("ports", ())]
    addresses = tuple(config.get("publish_all", ()))
    named = {(request.port, request.protocol) for request in requests}
    if addresses:
        for item in config.get("exposed", ()):
            for port, protocol in parse_exposed(item, "expose"):
                if (port, protocol) not in named:
                    requests.append(PortRequest(port=port, protocol=protocol, addresses=addresses, is_default=True))
    return requests


class _RoomForDescriptors:
    """While ports are reserved the process may have as many descriptors as its hard limit allows: a range may be long."""

    __slots__ = ("_before", "_count")

    def __init__(self, count: int) -> None:
        self._count = count
        self._before: tuple[int, int] | None = None

    def __enter__(self) -> None:
        import resource  # cold

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < HELD_FROM + self._count + 64:
            self._before = (soft, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            import resource  # cold

            # The container's own limit comes from this process, too.
            resource.setrlimit(resource.RLIMIT_NOFILE, self._before)


def _is_possible(address: str, request: PortRequest, *, has_ipv6: bool) -> bool:
    """Tell whether a port can be published on an address; False leaves a default one out. Raises Unsupported, InvalidRequest."""
    if ":" not in address:
        return True
    if not has_ipv6:
        if request.is_default:
            return False
        raise InvalidRequest(
            f"publish [{address}]: the container has no IPv6 address", hint="connect it to a network made with --ipv6")
    if address == _LOOPBACK6 and _bridges_filter_ipv6():
        # The reply's address is changed back to ::1 while it is still the bridge's packet, and ::1 is refused there.
        if request.is_default:
            return False
        raise Unsupported(
            f"publish [{address}]: not while {_BRIDGE_FILTERS_IPV6} is 1", hint="use 127.0.0.1, or set that to 0")
    return True


def _bridges_filter_ipv6() -> bool:
    try:
        return files.read_bytes(_BRIDGE_FILTERS_IPV6).strip() != b"0"
    except FileNotFoundError:
        return False  # br_netfilter is not loaded


def _reserve_one(request: PortRequest, addresses: list[str]) -> tuple[int, list[list[_socket.socket]]]:
    """Return a port of the machine with the sockets that hold it on each of the addresses."""
    candidates = range(request.first, request.last + 1) if request.first else [0] * _TRIES
    refusal: Conflict | None = None
    for candidate in candidates:
        sockets: list[list[_socket.socket]] = []
        port = candidate
        try:
            for address in addresses:
                sockets.append(_hold(request.protocol, address, port))
                port = sockets[-1][0].getsockname()[1]
            return port, sockets
        except Conflict as error:
            refusal = error
            for taken in sockets:
                for made in taken:
                    made.close()
    if refusal is None or request.first == request.last != 0:
        raise refusal or InvalidRequest("publish: no address to publish on")
    what = f"{request.first}-{request.last}" if request.first else "random"
    raise Conflict(f"publish port {request.port}/{request.protocol}: every one of the host ports ({what}) is in use")


def _hold(protocol: str, address: str, port: int) -> list[_socket.socket]:
    """Return sockets that keep everybody else from a port at an address. Raises as `bind`."""
    if port == _DNS_PORT and protocol != "sctp" and address in firewall.ANY:
        from .dns_port import bind_beside_resolvers  # cold

        return bind_beside_resolvers(protocol, address, bind)
    return [bind(protocol, address, port)]


def bind(protocol: str, address: str, port: int) -> _socket.socket:
    """Return a socket that nobody can reach and that keeps everybody else from the port. Raises Conflict, InvalidRequest, ..."""
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    kind = _socket.SOCK_DGRAM if protocol == "udp" else _socket.SOCK_STREAM
    what = f"{f'[{address}]' if ':' in address else address}:{port}/{protocol}"
    try:
        made = _socket.socket(family, kind | _socket.SOCK_CLOEXEC, PROTOCOLS[protocol])
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise Unsupported(f"publish {what}: the kernel has no {protocol} for this address: {reason}") from error
    try:
        if family == _socket.AF_INET6:
            made.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        if kind == _socket.SOCK_DGRAM or not port:
            made.bind((address, port))
        else:
            _bind_though_it_lingers(made, address, port)
    except OSError as error:
        made.close()
        raise _refusal(what, error) from error
    return made


def _bind_though_it_lingers(made: _socket.socket, address: str, port: int) -> None:
    """Bind to a port of which past connections may be in TIME_WAIT: they are no users of it.

    SO_REUSEADDR would let others share the port, too, as long as nobody listens; only listening makes the kernel forget it.
    After shutdown(2) the port stays bound (one that the kernel chose would not) and whoever connects is refused.
    """
    made.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    made.listen(1)
    made.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 0)
    made.shutdown(_socket.SHUT_RDWR)


def _refusal(what: str, error: OSError) -> Exception:
    if error.errno == errno.EADDRINUSE:
        return Conflict(f"publish {what}: the port is in use", hint="choose another host port, or none for a random one")
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return InvalidRequest(f"publish {what}: that is no address of this machine")
    return Unavailable(f"publish {what}: {os.strerror(error.errno or 0).lower()}")


def documents(bindings: Iterable[Binding], endpoints: Iterable[Endpoint]) -> list[dict[str, Any]]:
    """Return bindings for the record, each with the container's address that it leads to, "" when there is none (any more)."""
    outer = [endpoint for endpoint in endpoints if endpoint.driver == BRIDGE and not endpoint.internal]
    ip = next((endpoint.ip for endpoint in outer), "")
    ip6 = next((endpoint.ip6 for endpoint in outer if endpoint.ip6), "")
    return [{**binding.as_dict(), "ip": ip6 if ":" in binding.host_ip else ip} for binding in bindings]


def bindings_of(record: ContainerRecord) -> list[Binding]:
    """Return what a container publishes, by its ports."""
    found = [Binding(**{key: item[key] for key in Binding._fields}) for item in record.ports or ()]
    return sorted(found, key=lambda item: (item.port, item.protocol, ":" in item.host_ip, item.host_ip, item.host_port))


def published_by(record: ContainerRecord) -> list[Published]:
    """Return a container's ports as the firewall takes them."""
    return [
        Published(owner=record.id, protocol=item["protocol"], host_ip=item["host_ip"], host_port=item["host_port"],
                  ip=item["ip"], port=item["port"])
        for item in record.ports or () if item["ip"]]


def publish(store: Store, record: ContainerRecord) -> None:
    """Let a container's ports in: its record is saved. Raises Conflict, RuntimeFailed."""
    ports = published_by(record)
    endpoints = [Endpoint.from_document(item) for item in record.endpoints or ()]
    inside = {port.ip for port in ports}
    with Route() as route:
        for endpoint in endpoints:
            if endpoint.ip in inside or endpoint.ip6 in inside:
                _prepare_bridge(route, endpoint, {port.host_ip for port in ports})
    firewall.publish(store.layout, ports, lambda owner: is_owner_alive(store, owner), published_loader(store))
    _forget_flows(ports)


def _forget_flows(ports: list[Published]) -> None:
    """Have who keeps sending to a UDP port be led anew: to this container, or away from it."""
    flows = {(port.host_ip, port.host_port) for port in ports if port.protocol == "udp"}
    if not flows:
        return
    from mydocker.linux.conntrack import forget_udp  # cold

    for address, port in flows:
        try:
            forget_udp(address, port)
        except OSError as error:
            log.debug("forget connections", port=port, error=error)  # a kernel without ctnetlink: they time out


def _prepare_bridge(route: Route, endpoint: Endpoint, host_addresses: set[str]) -> None:
    """Let in replies to this machine's own loopback addresses, and the container's questions to its own published ports."""
    bridge = f"mb{endpoint.network_id[:8]}"
    path = f"/proc/sys/net/ipv4/conf/{bridge}/route_localnet"
    if files.read_bytes(path).strip() == b"0":
        with open(path, "wb", buffering=0) as stream:
            stream.write(b"1")
    _request(route, allow_hairpin(endpoint.host_interface))
    if _LOOPBACK6 in host_addresses:
        # Replies to ::1 are looked up strictly: on the device that they came in by.
        _request(route, add_local_route(parse_address(_LOOPBACK6), device_index(bridge)))


def _request(route: Route, message: Message) -> None:
    try:
        route.request(message)
    except Refused as error:
        # ENODEV: the init died with its devices, and the monitor will tell why.
        if error.errno not in (errno.EEXIST, errno.ENODEV):
            raise RuntimeFailed(error.args[1]) from error


def retarget(record: ContainerRecord) -> ContainerRecord:
    """Return the record of a container that has joined or left a network, with its ports leading to where it is now."""
    if not record.ports:
        return record
    endpoints = [Endpoint.from_document(item) for item in record.endpoints or ()]
    return record.replace(ports=documents(bindings_of(record), endpoints))


def withdraw(store: Store, record: ContainerRecord) -> None:
    """Take back what an ended container published; idempotent."""
    if record.ports:
        firewall.withdraw(store.layout, published_by(record))
        _forget_flows(published_by(record))


def withdraw_unrecorded(store: Store, container_id: str) -> None:
    """Take back the ports of a container that did not come to be, or whose record cannot be read."""
    try:
        withdraw(store, store.load(container_id))
    except (Corrupt, NotFound):
        firewall.sweep(store.layout, lambda owner: owner == container_id)


def published_loader(store: Store) -> Callable[[], Iterable[Published]]:
    """Return what reads the ports of all running containers when rules are to be made."""
    return lambda: [item for record in _alive_publishers(store) for item in published_by(record)]


def _alive_publishers(store: Store) -> Iterable[ContainerRecord]:
    for container_id in store.ids():
        try:
            record = store.load(container_id)
        except (Corrupt, NotFound):
            continue  # removed meanwhile, or nothing can be told of it
        if record.ports and _has_process(record):
            yield record


def _has_process(record: ContainerRecord) -> bool:
    identity = identity_of(record)
    return identity is not None and is_alive(identity)


def is_owner_alive(store: Store, container_id: str) -> bool:
    """Tell whether the container that an element of a map is for has a process."""
    try:
        return _has_process(store.load(container_id))
    except (Corrupt, NotFound):
        return False
