"""/etc/hosts and /etc/resolv.conf of a container, as Docker makes them. The planning is pure.

Both are files of the container's directory that are bound into it, so they are rewritten in place, never replaced; with each
start, and when a container joins or leaves a network. Where names come from:

    default network     the machine's own name servers; those on the machine's loopback are of no use inside
    a user's networks   the resolver on each network's gateway (naming.py), which knows the containers
    network host        the machine's files as they are
"""
from __future__ import annotations

import os

from mydocker.base import files
from mydocker.linux.netlink import parse_address
from mydocker.network.model import BRIDGE, DEFAULT_NETWORK, Endpoint

from .spec import STANDARD_HOSTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from mydocker.base.paths import Layout

    from .request import ContainerConfig
    from .store import ContainerRecord

RESOLV_CONF = "/etc/resolv.conf"
#: What systemd-resolved itself asks, where /etc/resolv.conf names only its own stub.
_BEHIND_STUB = "/run/systemd/resolve/resolv.conf"
#: Docker's, for a machine that names no server which a container could reach (moby libnetwork/internal/resolvconf).
_LAST_RESORT = ("8.8.8.8", "8.8.4.4")
_MAX_SERVERS = 3  # resolv.conf(5) MAXNS


def plan_hosts(
    hostname: str, *, domainname: str = "", endpoints: Iterable[Endpoint] = (), extra: Iterable[Iterable[str]] = (),
    links: Iterable[tuple[str, str]] = (), base: str = "",
) -> str:
    """Return the content of /etc/hosts. `extra` are (name, address), `links` (names, address); `base` is the machine's."""
    endpoints = [*endpoints]
    names = _own_names(hostname, domainname)
    # Without a network the name stands for the container's loopback, else for its address there.
    text = base or STANDARD_HOSTS.format("" if endpoints else f" {names}")
    gateway = next((endpoint.gateway for endpoint in endpoints if endpoint.gateway), "127.0.0.1" if base else "")
    for name, address in extra:
        address = gateway if address == "host-gateway" else address
        if address:
            text += f"{address}\t{name}\n"
    text += "".join(f"{address}\t{words}\n" for words, address in links)
    text += "".join(
        f"{address}\t{names}\n" for endpoint in endpoints for address in (endpoint.ip, endpoint.ip6) if address)
    return text


def _own_names(hostname: str, domainname: str) -> str:
    if domainname:
        return f"{hostname}.{domainname} {hostname}"
    first, dot, _ = hostname.partition(".")
    return f"{hostname} {first}" if dot and first else hostname


class HostDns:
    """What the machine's resolv.conf says."""

    __slots__ = ("options", "search", "servers")

    def __init__(self, text: str) -> None:
        self.servers: list[str] = []
        self.search: list[str] = []
        self.options: list[str] = []
        for line in text.splitlines():
            words = line.split()
            if len(words) < 2 or words[0][0] in "#;":
                continue
            if words[0] == "nameserver":
                self.servers.append(words[1])
            elif words[0] in ("search", "domain"):
                self.search = words[1:]
            elif words[0] == "options":
                self.options += words[1:]


def read_host_dns() -> HostDns:
    """Return the machine's; behind systemd-resolved's stub, what that one asks."""
    found = HostDns(read_text(RESOLV_CONF))
    if found.servers and all(is_loopback(server) for server in found.servers):
        behind = HostDns(read_text(_BEHIND_STUB))
        if behind.servers:
            return behind
    return found


def read_text(path: str) -> str:
    """Return a file of the machine's, "" when there is none."""
    try:
        return files.read_bytes(path).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""  # a machine without the file has nothing to pass on


def is_loopback(server: str) -> bool:
    """Tell whether an address is one of the machine's loopback, or makes sense on one of its devices only."""
    try:
        packed = parse_address(server.partition("%")[0])
    except OSError:
        return True
    if len(packed) == 4:
        return packed[0] == 127 or not any(packed)
    return packed in (bytes(15) + b"\1", bytes(16)) or "%" in server or packed[:1] == b"\xfe"


def plan_resolv_conf(
    host: HostDns, *, endpoints: Iterable[Endpoint] = (), dns: Iterable[str] = (), search: Iterable[str] = (),
    options: Iterable[str] = (), keeps_loopback: bool = False,
) -> str:
    """Return the content of /etc/resolv.conf; `dns`, `search`, `options` are the user's. `keeps_loopback`: on the machine."""
    endpoints = [*endpoints]
    resolvers = resolver_addresses(endpoints)
    servers = resolvers or [*dns]
    if not servers:
        has_ipv6 = keeps_loopback or any(endpoint.ip6 for endpoint in endpoints)
        servers = [
            server for server in host.servers
            if keeps_loopback or (not is_loopback(server) and (":" not in server or has_ipv6))]
        if not servers and not keeps_loopback:
            servers = [*_LAST_RESORT]
    found_search, found_options = [*search] or host.search, [*options] or ([] if resolvers else host.options)
    if found_search == ["."]:
        found_search = []
    if resolvers and not any(option.startswith("ndots:") for option in found_options):
        found_options = [*found_options, "ndots:0"]  # a name without a dot is a container's first of all
    lines = ["# Written by mydocker."] + [f"nameserver {server}" for server in servers[:_MAX_SERVERS]]
    if found_search:
        lines.append(f"search {' '.join(found_search)}")
    if found_options:
        lines.append(f"options {' '.join(found_options)}")
    return "\n".join(lines) + "\n"


def resolver_addresses(endpoints: Iterable[Endpoint]) -> list[str]:
    """Return where the resolvers of a container's networks listen; each of them knows the names of all."""
    return [
        endpoint.gateway for endpoint in endpoints
        if endpoint.network != DEFAULT_NETWORK and endpoint.driver == BRIDGE and endpoint.gateway]


def plan_files(
    layout: Layout, record: ContainerRecord, endpoints: tuple[Endpoint, ...], *, is_start: bool = True
) -> dict[str, str]:
    """Return the content of both files of a container on networks. Raises Conflict when it links to one that does not run."""
    config = record.config
    links: list[tuple[str, str]] = []
    if config.get("links"):
        from .links import find_links  # cold

        links = find_links(layout, record, endpoints, is_start=is_start)
    return {
        "hosts": plan_hosts(
            config.get("hostname") or record.id, domainname=record.isolation.get("domainname", ""), endpoints=endpoints,
            extra=config.get("extra_hosts", ()), links=links),
        "resolv.conf": plan_resolv_conf(
            read_host_dns(), endpoints=endpoints, dns=config.get("dns", ()), search=config.get("dns_search", ()),
            options=config.get("dns_options", ())),
    }


def write_files(layout: Layout, record: ContainerRecord, endpoints: tuple[Endpoint, ...], *, is_start: bool = True) -> None:
    """Write both files of a container on networks. Raises as `plan_files`."""
    directory = layout.container(record.id)
    for name, text in plan_files(layout, record, endpoints, is_start=is_start).items():
        write_in_place(f"{directory}/{name}", text.encode())


def rewrite(layout: Layout, record: ContainerRecord) -> None:
    """Have the files of a container that lives follow its record. The caller holds its lock."""
    endpoints: list[Any] = record.endpoints or []
    write_files(layout, record, tuple(Endpoint.from_document(item) for item in endpoints), is_start=False)


def write_in_place(path: str, content: bytes) -> None:
    """Change a file that is bound into a container: one write, then its end is cut off, so that no reader finds it empty."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        files.write_all(fd, content)
        os.ftruncate(fd, len(content))
    finally:
        os.close(fd)


def plan_first_files(config: ContainerConfig, hostname: str) -> dict[str, str]:
    """Return both files as they are made with a container: for good in the machine's network or in none, else until its start."""
    if config.network == "host":
        host = HostDns(read_text(RESOLV_CONF))
        is_changed = config.dns or config.dns_search or config.dns_options
        return {
            "hosts": plan_hosts(hostname, extra=config.extra_hosts, base=read_text("/etc/hosts")),
            "resolv.conf": plan_resolv_conf(
                host, dns=config.dns, search=config.dns_search, options=config.dns_options, keeps_loopback=True)
            if is_changed else read_text(RESOLV_CONF),
        }
    resolv_conf = plan_resolv_conf(
        HostDns(""), dns=config.dns, search=config.dns_search, options=config.dns_options) if config.dns else ""
    return {"hosts": plan_hosts(hostname, extra=config.extra_hosts), "resolv.conf": resolv_conf}
