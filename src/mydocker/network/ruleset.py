"""The text of the table: which rules a set of networks and published ports makes. `plan` is pure, `build` has nft carry it out.

Hooks in the order in which a packet meets them:

    raw          a further bridge of a network is a piece of cable: its frames are not tracked (br_netfilter would have each
                 piece track the connection anew, under addresses that the first has changed). And no loopback address comes
                 from or goes to a container: `route_localnet` is on for bridges with published ports (CVE-2020-8558)
    prerouting   a published port, asked for at an address of this machine's only, becomes the container's (a map without that
    output       condition would grab what is forwarded to others: the portmap plugin did). 127.0.0.1 is asked from here only,
                 and who asks its own network's resolver is not led to a published port 53
    forward      replies pass; into a network comes what is its own or was published; out of an internal one goes nothing. Nor is
                 anything routed that came by a further bridge: frames to its own hardware address would go past all of this
    input        an internal network reaches the machine at the network's own gateway address only
    postrouting  what leaves our subnets gets an address of the machine's. A sender on the container's own bridge gets one, too,
                 else the reply would go past us; so does one on the loopback device. Every other client keeps its address.
                 Bridges of other state roots are theirs to judge: whose root was deleted leaves a table behind, and a subnet that
                 it names may be another root's by now
"""
from __future__ import annotations

import _socket
import os

from mydocker.base import log
from mydocker.base.record import Record
from mydocker.linux.netlink import Route, device_index
from mydocker.linux.nft import IPV4, IPV6, Tables, run_nft

from . import orphans
from .bridge import bridge_name, last_bridge
from .firewall import ANY, MARK_OF_MISSING, NEIGHBOUR_CHAIN, Published, has_chain, lock_rules, table_name
from .model import BRIDGE
from .store import NetworkStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mydocker.base.paths import Layout

    from .model import Network

_TYPES = {
    "ports4": "ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service",
    "any4": "inet_proto . inet_service : ipv4_addr . inet_service",
    "ports6": "ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service",
    "any6": "inet_proto . inet_service : ipv6_addr . inet_service",
}

_HOOKS = """
	chain raw {
		type filter hook prerouting priority raw; policy accept;
		iifname @cables notrack accept
		iifname @bridges ip daddr 127.0.0.0/8 drop
		iifname @bridges ip saddr 127.0.0.0/8 drop
	}
	chain publish {
		dnat ip to ip daddr . meta l4proto . th dport map @ports4
		dnat ip to meta l4proto . th dport map @any4
		dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6
		dnat ip6 to meta l4proto . th dport map @any6
	}
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		ip daddr 127.0.0.0/8 return
		iifname "mb*" iifname != @nameless meta l4proto { tcp, udp } th dport 53 fib daddr . iif type local return
		fib daddr type local goto publish
	}
	chain output {
		type nat hook output priority -100; policy accept;
		fib daddr type local goto publish
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "lo" accept
		oifname vmap @leaving
		oifname "mb*" accept
		ip saddr @subnets4 masquerade
		ip6 saddr @subnets6 masquerade
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		ct state established,related accept
		oifname vmap @networks
		iifname @internal drop
		iifname @cables drop
	}
	chain input {
		type filter hook input priority filter; policy accept;
		iifname @cables drop
		iifname @internal fib daddr . iif type { unicast, blackhole, unreachable, prohibit } drop
	}
"""


class Bridged(Record):
    """A network that is there, with the names of its bridges, the first of them with the gateway's address."""

    network: Network
    bridges: tuple[str, ...]


def build(layout: Layout, load_published: Callable[[], Iterable[Published]], *, missing: str = "") -> None:
    """Make the table from what is there: networks with a bridge, and ports of running containers.

    With `missing` only if the chain of that name is (still) not there. Raises Unavailable (no nft), RuntimeFailed.
    """
    table = table_name(layout)
    with lock_rules(layout):
        if missing and has_chain(layout, missing):
            return  # of starts at the same time, the first one made it
        there = find_bridges(layout)
        if not there:
            with Tables() as tables:
                tables.remove_table(table)
                is_open = any(tables.has_rules(family, "filter", NEIGHBOUR_CHAIN) for family in (IPV4, IPV6))
            if is_open and not any(name.startswith("mb") for _, name in _socket.if_nameindex()):  # of any state root
                from .neighbours import close_forward  # cold

                close_forward()
            return
        with Route() as route:
            for item in there:
                orphans.mark(route, item.network, layout.network(item.network.name))
        run_nft(plan(table, there, list(load_published())))
        try:
            os.unlink(f"{layout.networks}/{MARK_OF_MISSING}")
        except FileNotFoundError:
            pass  # nobody was ever told
    log.debug("made rules", table=table)


def find_bridges(layout: Layout) -> list[Bridged]:
    """Return the networks whose bridges are there."""
    return [
        Bridged(network=network, bridges=tuple(bridge_name(network, number) for number in range(last_bridge(network) + 1)))
        for network in NetworkStore(layout).all() if network.driver == BRIDGE and device_index(network.bridge)]


def plan(table: str, there: Sequence[Bridged], ports: Sequence[Published]) -> str:
    """Return the whole table as text for nft, replacing the one that there is in the same transaction."""
    firsts = [item.bridges[0] for item in there]
    cables = [bridge for item in there for bridge in item.bridges[1:]]
    sets = [
        _named("set", "bridges", "type ifname", [f'"{name}"' for name in firsts]),
        _named("set", "cables", "type ifname", [f'"{name}"' for name in cables]),
        _named("set", "nameless", "type ifname", [f'"{item.bridges[0]}"' for item in there if not item.network.has_names]),
        _named("set", "internal", "type ifname", [f'"{item.bridges[0]}"' for item in there if item.network.internal]),
        _named("set", "subnets4", "type ipv4_addr; flags interval; auto-merge", [item.network.ipv4.text for item in there]),
        _named("set", "subnets6", "type ipv6_addr; flags interval; auto-merge",
               [item.network.ipv6.text for item in there if item.network.ipv6]),
        _named("map", "networks", "type ifname : verdict", [f'"{name}" : goto {name}' for name in firsts + cables]),
        _named("map", "leaving", "type ifname : verdict", [f'"{name}" : goto {name}-nat' for name in firsts]),
        *(_named("map", name, f"type {kind}", [_element(port) for port in ports if _map_of(port) == name])
          for name, kind in _TYPES.items()),
    ]
    chains = [chain for item in there for chain in _chains(item)]
    return f"table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n{''.join(sets + chains)}{_HOOKS}}}\n"


def _named(word: str, name: str, kind: str, elements: list[str]) -> str:
    inner = f" elements = {{ {', '.join(elements)} }};" if elements else ""
    return f"\t{word} {name} {{ {kind};{inner} }}\n"


def _chains(item: Bridged) -> list[str]:
    first, network = item.bridges[0], item.network
    into = [f'iifname "{first}" accept']
    if not network.internal:
        into += ["iifname @internal drop", "ct status dnat accept"]
    leaving = [f"ip saddr {network.ipv4.text} ct status dnat masquerade", "ip saddr 127.0.0.0/8 masquerade"]
    if network.ipv6:
        leaving += [f"ip6 saddr {network.ipv6.text} ct status dnat masquerade", "ip6 saddr ::1 masquerade"]
    cables = [_chain(name, [f'iifname "{name}" accept', "drop"]) for name in item.bridges[1:]]
    return [_chain(first, [*into, "drop"]), _chain(f"{first}-nat", leaving), *cables]


def _chain(name: str, rules: list[str]) -> str:
    lines = "".join(f"\t\t{rule}\n" for rule in rules)
    return f"\tchain {name} {{\n{lines}\t}}\n"


def _map_of(port: Published) -> str:
    return f"{'any' if port.host_ip in ANY else 'ports'}{'6' if ':' in port.host_ip else '4'}"


def _element(port: Published) -> str:
    address = "" if port.host_ip in ANY else f"{port.host_ip} . "
    return f'{address}{port.protocol} . {port.host_port} comment "{port.owner}" : {port.ip} . {port.port}'
