"""The judge's part on ports: `-p`, `-P` and `--expose`, as typed or as Python values -> PortRequests.

Same promise as engine/request.py, which calls this. Without an address a port is published on the loopback addresses only:
who wants to be reached from elsewhere says so, by an address or for all containers with MYDOCKER_PUBLISH_ADDRESS. (docker's
default is every address, past the host's own firewall.)
"""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest
from mydocker.base.record import Record
from mydocker.linux.netlink import format_address, parse_address
from mydocker.network.firewall import PROTOCOLS

from .request import flag, text_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

#: Which addresses a port is published on when none is named; those of IPv6 where the container has one.
DEFAULT_ADDRESSES = ("127.0.0.1", "::1")
ADDRESS_VARIABLE = "MYDOCKER_PUBLISH_ADDRESS"
_LONG = ("published", "target", "protocol", "mode")
_LONG_HINT = "published=PORT,target=PORT,protocol=tcp|udp|sctp"
_HINT = "write [ADDRESS:][HOST_PORT[-LAST]:]PORT[-LAST][/tcp|udp|sctp]"


class PortRequest(Record):
    """A port of the container and where it is to be published.

    On every one of `addresses` (those of IPv6 may be left out if `is_default`), at a port from `first` to `last` of the machine,
    any if these are 0.
    """

    port: int
    protocol: str
    addresses: tuple[str, ...]
    first: int = 0
    last: int = 0
    is_default: bool = False

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> PortRequest:
        """Return it from the record of a container."""
        values = {key: document[key] for key in cls._fields if key in document}
        values["addresses"] = tuple(values["addresses"])
        return cls(**values)


def judge_ports(options: Mapping[str, Any], values: dict[str, Any]) -> None:
    """Add `ports`, `publish_all` and `exposed` to the judge's values, which have the network already. Raises InvalidRequest."""
    requests = [request for item in _items(options.get("publish")) for request in parse_publish(item)]
    everything = flag(options.get("publish_all", False), "publish_all")
    if requests or everything:
        _require_network(values)
    values["ports"] = tuple(dict.fromkeys(requests))
    values["publish_all"] = default_addresses() if everything else ()
    values["exposed"] = tuple(
        f"{port}/{protocol}" for item in _items(options.get("expose")) for port, protocol in parse_exposed(item, "expose"))


def _require_network(values: Mapping[str, Any]) -> None:
    mode = values["network"]
    if mode == "host":
        raise InvalidRequest("publish: the container has the host's network, where its ports are the host's anyway")
    if mode == "none" or mode.startswith("container:"):
        raise InvalidRequest(f"publish: only on a network, and this container has {mode}")


def _items(value: Any) -> list[str]:
    """Return a list of texts of one text or number, several, or a mapping of container ports to host ports (None: any)."""
    if value is None:
        return []
    if hasattr(value, "items"):
        return [f"{'' if host is None else host}:{port}" for port, host in value.items()]
    if isinstance(value, (str, int)):
        return [str(value)]
    return [str(item) for item in value]


def parse_publish(text: str) -> list[PortRequest]:
    """Return the ports of one `-p`. Raises InvalidRequest."""
    if "=" in text:
        text = _shorten(text)
    address, _, rest = text_line(text, "publish").rpartition("]:")
    if address:
        host, _, inner = rest.rpartition(":")
        address += "]"
    else:
        outer, _, inner = text.rpartition(":")
        address, _, host = outer.rpartition(":")
    number, protocol = _split_protocol(inner, text)
    first, last = _range(number, "publish", text)
    low, high = _range(host, "publish", text) if host else (0, 0)
    addresses = (_host_address(address, text),) if address else default_addresses()
    count = last - first + 1
    if host and high - low + 1 != count and count > 1:
        raise InvalidRequest(f"publish {text!r}: ranges of different lengths", hint=_HINT)
    common: dict[str, Any] = {"protocol": protocol, "addresses": addresses, "is_default": not address}
    if count == 1:
        return [PortRequest(port=first, first=low, last=high, **common)]
    return [
        PortRequest(port=first + step, first=low + step if host else 0, last=low + step if host else 0, **common)
        for step in range(count)]


def _shorten(text: str) -> str:
    """Return docker's long form (published=8080,target=80,protocol=tcp,mode=host) in the short one. Raises InvalidRequest."""
    fields = dict.fromkeys(_LONG, "")
    for item in text.split(","):
        key, _, value = item.partition("=")
        if fields.get(key) != "" or not value:
            raise InvalidRequest(f"publish {text!r}: {item!r} is not known here", hint=f"write {_LONG_HINT}")
        fields[key] = value
    if fields["mode"] not in ("", "host", "ingress"):  # without a swarm both mean this machine
        raise InvalidRequest(f"publish {text!r}: unknown mode {fields['mode']!r}", hint=f"write {_LONG_HINT}")
    host = f"{fields['published']}:" if fields["published"] else ""
    return f"{host}{fields['target']}{fields['protocol'] and '/'}{fields['protocol']}"


def parse_exposed(text: str, what: str) -> list[tuple[int, str]]:
    """Return the (port, protocol) pairs of `80`, `80/udp` or `80-90/tcp`. Raises InvalidRequest."""
    number, protocol = _split_protocol(text_line(text, what), text)
    first, last = _range(number, what, text)
    return [(port, protocol) for port in range(first, last + 1)]


def parse_port(text: str) -> tuple[int, str]:
    """Return (port, protocol) of `80` or `80/udp`. Raises InvalidRequest."""
    found = parse_exposed(text, "port")
    if len(found) != 1:
        raise InvalidRequest(f"port {text!r} is not one port")
    return found[0]


def exposed_ports(config: Mapping[str, Any], image_config: Mapping[str, Any]) -> list[str]:
    """Return what the user and the image expose, each `80/tcp`; the image's words are judged here. Raises InvalidRequest."""
    found = set(config["exposed"])
    for item in image_config.get("ExposedPorts") or ():
        found.update(f"{port}/{protocol}" for port, protocol in parse_exposed(str(item), "the image's ExposedPorts"))
    return sorted(found, key=lambda text: (int(text.partition("/")[0]), text))


def default_addresses() -> tuple[str, ...]:
    """Return where ports are published when no address is named. Raises InvalidRequest (the environment's words)."""
    chosen = os.environ.get(ADDRESS_VARIABLE, "")
    if not chosen:
        return DEFAULT_ADDRESSES
    return tuple(_host_address(word.strip(), chosen, ADDRESS_VARIABLE) for word in chosen.split(","))


def _split_protocol(text: str, whole: str) -> tuple[str, str]:
    number, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in PROTOCOLS:
        raise InvalidRequest(f"publish {whole!r}: unknown protocol {protocol!r}", hint="tcp, udp and sctp are known")
    return number, protocol


def _range(text: str, what: str, whole: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    ends = (low, high if dash else low)
    if not all(end.isascii() and end.isdigit() and len(end) <= 5 for end in ends):
        raise InvalidRequest(f"{what} {whole!r} is not a port", hint=_HINT)
    first, last = int(ends[0]), int(ends[1])
    if not 1 <= first <= last <= 65535:
        raise InvalidRequest(f"{what} {whole!r}: ports are 1 to 65535, the lower one first")
    return first, last


def _host_address(text: str, whole: str, what: str = "publish") -> str:
    try:
        return format_address(parse_address(text.removeprefix("[").removesuffix("]")))
    except OSError:
        hint = "names are not looked up; IPv6 in brackets: [::1]:8080:80"
        raise InvalidRequest(f"{what} {whole!r}: {text!r} is not an address", hint=hint) from None


def documents(requests: Iterable[PortRequest]) -> list[dict[str, Any]]:
    """Return requests for the record."""
    return [request.as_dict() for request in requests]
