"""The table of nftables that keeps networks apart, lets them out, and brings published ports in.

One table a state root: `inet mydocker` for the default root, `inet mydocker-<hash>` for another, so that roots do not disturb
each other. It comes to be with the first container on a bridge, and its rules are made anew from the truth, in one
transaction, whenever they are found missing: what a start asks is whether its bridge's chain has rules, which the kernel answers
in some 50 us. A published port is one element of a map, whose comment is the container's id.

    chain mb<id>        into this network: its own, what was published; chain mb<id>.N: a further bridge of the same network
    map networks        bridge -> that chain             map leaving   bridge -> its chain for addresses of the sender
    map ports4 ports6   address . protocol . port -> container's address . port        map any4 any6   the same for any address

Lock: `network/` of the state root (base/locks.py), by whoever writes rules or elements.
"""
from __future__ import annotations

import errno
import os
from binascii import crc32

from mydocker.base import log
from mydocker.base.errors import Conflict, RuntimeFailed, Unavailable
from mydocker.base.locks import DirectoryLock, lock_directory
from mydocker.base.paths import DEFAULT_ROOT
from mydocker.base.record import Record
from mydocker.linux.netlink import format_address, parse_address
from mydocker.linux.nft import INET, IPV4, IPV6, Element, Refused, Tables, find_program

from .bridge import bridge_name, last_bridge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mydocker.base.paths import Layout

    from .model import Network

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
MAPS = ("ports4", "any4", "ports6", "any6")
ANY = ("0.0.0.0", "::")
#: In `network/` of the state root: the user has been told that there is no nft.
MARK_OF_MISSING = ".no-nft"
#: Where other engines' firewalls let ours through, see neighbours.py.
NEIGHBOUR_CHAIN = "MYDOCKER"


class Published(Record):
    """A port of a container (`ip`, `port`) that is reached at `host_ip` (0.0.0.0 and :: for any) and `host_port` of the machine.

    `owner` is the container's id.
    """

    owner: str
    protocol: str
    host_ip: str
    host_port: int
    ip: str
    port: int


def table_name(layout: Layout) -> str:
    """Return the name of a state root's table."""
    return table_of(layout.root)


def table_of(root: str) -> str:
    """Return the name of the table of the state root at a path."""
    return "mydocker" if root == DEFAULT_ROOT else f"mydocker-{crc32(os.fsencode(root)):08x}"


def element_of(published: Published) -> tuple[str, Element]:
    """Return the map and the element of a published port: the parts of key and value each fill whole words of 32 bits."""
    version = "6" if ":" in published.host_ip else "4"
    is_any = published.host_ip in ANY
    key = b"" if is_any else parse_address(published.host_ip)
    key += bytes((PROTOCOLS[published.protocol], 0, 0, 0)) + _pack_port(published.host_port)
    value = parse_address(published.ip) + _pack_port(published.port)
    return f"{'any' if is_any else 'ports'}{version}", Element(key=key, value=value, comment=published.owner)


def _pack_port(port: int) -> bytes:
    return port.to_bytes(2) + b"\0\0"


def lock_rules(layout: Layout) -> DirectoryLock:
    """Take the lock of whoever writes rules. Held for some 100 us for ports, some 10 ms for a whole table."""
    lock = lock_directory(layout.networks)
    assert lock is not None  # waited for
    return lock


def is_whole(layout: Layout, network: Network) -> bool:
    """Tell whether the rules of a network's newest bridge are there, and with them all others."""
    return has_chain(layout, bridge_name(network, last_bridge(network)))


def ensure(layout: Layout, network: Network, load_published: Callable[[], Iterable[Published]]) -> None:
    """See that a network's rules are there, and that other engines' rules let its packets through.

    The network's bridge is there. `load_published` tells the ports of all running containers; it is asked when rules are to be
    made. Raises Unavailable (no program nft), RuntimeFailed.
    """
    bridge = bridge_name(network, last_bridge(network))
    with Tables() as tables:
        if not tables.has_rules(INET, table_name(layout), bridge):
            from . import ruleset  # cold: once a network and boot

            log.debug("make rules", bridge=bridge)
            ruleset.build(layout, load_published, missing=bridge)
        closed = [family for family in ((IPV4, IPV6) if network.ipv6 else (IPV4,)) if _is_closed(tables, family)]
    if closed:
        from . import neighbours  # cold

        neighbours.open_forward(closed)


def _is_closed(tables: Tables, family: int) -> bool:
    """Tell whether docker, or an administrator, drops what is forwarded and has not been told of us."""
    return tables.drops_by_policy(family, "filter", "FORWARD") and not tables.has_rules(family, "filter", NEIGHBOUR_CHAIN)


def publish(
    layout: Layout, ports: list[Published], is_alive: Callable[[str], bool], load_published: Callable[[], Iterable[Published]],
) -> None:
    """Let ports in. The caller holds a socket on each of the machine's, so that no other container can want them.

    What is found there is of a container that ended unseen, or of one that runs though its monitor is dead: then Conflict
    is raised. `load_published` knows of these ports already; it is asked when the rules have just been flushed.
    """
    table = table_name(layout)
    with lock_rules(layout), Tables() as tables:
        stale, new = [], []
        for name, element in map(element_of, ports):
            there = tables.find(table, name, element.key)
            if there == element:
                continue
            if there and there.comment != element.comment and is_alive(there.comment):
                raise Conflict(f"publish: the port is container {there.comment}'s", hint="choose another, or stop that container")
            if there:
                stale.append((name, there))
            new.append((name, element))
        try:
            tables.change(table, remove=stale, add=new)
            return
        except Refused as error:
            if error.errno != errno.ENOENT:
                raise RuntimeFailed(f"publish ports: {os.strerror(error.errno or 0).lower()}") from error
    from . import ruleset  # cold

    ruleset.build(layout, load_published)


def withdraw(layout: Layout, ports: list[Published]) -> None:
    """Take ports back, those that are still the owner's; idempotent."""
    table = table_name(layout)
    with lock_rules(layout), Tables() as tables:
        wanted = [(name, element, tables.find(table, name, element.key)) for name, element in map(element_of, ports)]
        _remove(tables, table, [(name, there) for name, element, there in wanted if there and there.comment == element.comment])


def sweep(layout: Layout, is_stale: Callable[[str], bool]) -> None:
    """Take back the ports of all owners of whom `is_stale` says that they are gone."""
    table = table_name(layout)
    with lock_rules(layout), Tables() as tables:
        found = [(name, element) for name in MAPS for element in tables.elements(table, name)]
        _remove(tables, table, [(name, element) for name, element in found if is_stale(element.comment)])


def _remove(tables: Tables, table: str, elements: list[tuple[str, Element]]) -> None:
    """Remove elements that were there under the lock: if the kernel knows better, somebody has flushed them all."""
    try:
        tables.change(table, remove=elements, add=[])
    except Refused as error:
        if error.errno != errno.ENOENT:
            raise RuntimeFailed(f"withdraw ports: {os.strerror(error.errno or 0).lower()}") from error


def forget(layout: Layout, load_published: Callable[[], Iterable[Published]]) -> None:
    """Have no rules of networks whose bridge is gone: without any bridge no table. Raises RuntimeFailed."""
    if not has_table(layout):
        return
    from . import ruleset  # cold

    try:
        ruleset.build(layout, load_published)
    except Unavailable as error:
        log.debug("rules of a network that is gone stay", error=error)  # they match nothing, and the next start rewrites them


def has_table(layout: Layout) -> bool:
    """Tell whether there is a table of this state root with rules in it."""
    return has_chain(layout, "forward")


def has_chain(layout: Layout, chain: str) -> bool:
    """Tell whether a chain of this state root's table is there, with rules in it."""
    with Tables() as tables:
        return tables.has_rules(INET, table_name(layout), chain)


def find_missing_part() -> tuple[str, str]:
    """Return what this machine lacks to make rules, and the way out; "" when it lacks nothing."""
    if not find_program("nft"):
        return "no program nft", "install the package nftables"
    with Tables() as tables:
        return ("", "") if tables.is_possible() else ("no nft in the kernel (tables of the family inet)", "modprobe nf_tables")


def tell_of_missing_part(layout: Layout) -> None:
    """Warn, once a state root, that this machine makes no rules; what works without them is told, too."""
    if has_table(layout):
        return
    missing, hint = find_missing_part()
    if not missing:
        return
    try:
        os.close(os.open(f"{layout.networks}/{MARK_OF_MISSING}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    log.warn(
        f"there is {missing}: containers reach each other and this machine, but nothing keeps networks apart, no port is "
        "published and no address is translated", hint=hint)


def describe(element: Element, name: str) -> str:
    """Return `127.0.0.1:8080/tcp` of an element, for tests and debug lines."""
    size = {"ports4": 4, "ports6": 16}.get(name, 0)
    address = format_address(element.key[:size]) if size else ("0.0.0.0" if name == "any4" else "::")
    number, port = element.key[size], int.from_bytes(element.key[size + 4 : size + 6])
    return f"{address}:{port}/{next(word for word, value in PROTOCOLS.items() if value == number)}"
