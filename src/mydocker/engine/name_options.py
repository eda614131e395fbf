"""The judge's part on names: `--dns`, `--dns-search`, `--dns-option`, `--add-host` and `--link`. Same promise as endpoints.py."""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest
from mydocker.linux.netlink import format_address, parse_address

from .endpoints import HOST_GATEWAY
from .request import judge_name, text_line, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_HOST_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


def judge_names(options: Mapping[str, Any], values: dict[str, Any]) -> None:
    """Add what is given of these options to the judge's values. Raises InvalidRequest."""
    for name, (field, judge_value) in _NAMES.items():
        if name in options:
            values[field] = judge_value(options[name], name)


def _servers(value: Any, what: str) -> tuple[str, ...]:
    found = []
    for word in words(value, what):
        try:
            found.append(format_address(parse_address(text_line(word, what))))
        except OSError:
            raise InvalidRequest(f"{what} {word!r} is not an address of a name server") from None
    return tuple(found)


def _domains(value: Any, what: str) -> tuple[str, ...]:
    found = words(value, what)
    for word in found:
        if word != "." and not _is_host(word.removesuffix(".")):
            raise InvalidRequest(f"{what} {word!r} is not a domain", hint="`.` alone stands for none")
    return tuple(found)


def _resolver_options(value: Any, what: str) -> tuple[str, ...]:
    found = words(value, what)
    for word in found:
        # One word each: it is a line of a file of the container's that others in it believe.
        if not word or not _HOST_LETTERS.issuperset(word.replace(":", "")):
            raise InvalidRequest(f"{what} {word!r} is not an option of resolv.conf(5)", hint="write such as ndots:2 or use-vc")
    return tuple(found)


def _is_host(text: str) -> bool:
    return 0 < len(text) <= 253 and _HOST_LETTERS.issuperset(text) and text[0] not in "-."


def _extra_hosts(value: Any, what: str) -> tuple[tuple[str, str], ...]:
    """`NAME:ADDRESS`, or `NAME=ADDRESS`, IPv6 addresses with brackets or without."""
    found = []
    items = [f"{name}={address}" for name, address in value.items()] if hasattr(value, "items") else words(value, what)
    for word in items:
        name, separator, address = text_line(word, what).partition("=" if "=" in word else ":")
        address = address.removeprefix("[").removesuffix("]")
        if not separator or not _is_host(name):
            raise InvalidRequest(f"{what} {word!r} is not NAME:ADDRESS")
        try:
            found.append((name, address if address == HOST_GATEWAY else format_address(parse_address(address))))
        except OSError:
            raise InvalidRequest(f"{what} {word!r}: {address!r} is not an address", hint="an address, or host-gateway") from None
    return tuple(found)


def _links(value: Any, what: str) -> tuple[tuple[str, str], ...]:
    found = []
    for word in words(value, what):
        name, colon, alias = word.partition(":")
        found.append((judge_name(name, what), judge_name(alias if colon else name, what)))
    return tuple(found)


_NAMES = {
    "dns": ("dns", _servers), "dns_search": ("dns_search", _domains), "dns_option": ("dns_options", _resolver_options),
    "add_host": ("extra_hosts", _extra_hosts), "link": ("links", _links),
}
