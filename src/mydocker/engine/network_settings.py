"""`NetworkSettings` of `inspect`: where a container is on which network, in docker's words, which people's templates know."""
from __future__ import annotations

from mydocker.network.model import Endpoint

from .lifecycle import ALIVE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .store import ContainerRecord

_MODES = ("host", "none")


def network_settings(record: ContainerRecord, ports: dict[str, list[dict[str, str]] | None]) -> dict[str, Any]:
    """Return the document. Addresses are those of now: "" of a container that does not live.

    Those at the top are of the first network (docker's are of `bridge` only).
    """
    config = record.config
    found = {item["network"]: _describe(_nowhere(item["network"]), [*item["aliases"]]) for item in config.get("endpoints", ())}
    if config["network"] in _MODES:
        found[config["network"]] = _describe(_nowhere(config["network"]), [])
    is_alive = record.status in ALIVE
    if is_alive:
        for item in record.endpoints or ():
            endpoint = Endpoint.from_document(item)
            found[endpoint.network] = _describe(endpoint, [*endpoint.aliases])
    first = next(iter(found.values()), {})
    return {
        "SandboxKey": f"/proc/{record.pid}/ns/net" if is_alive and record.pid else "",
        "Ports": ports,
        **{key: first.get(key, 0 if key.endswith("Len") else "") for key in _AT_THE_TOP},
        "Networks": found,
    }


_AT_THE_TOP = (
    "Gateway", "IPAddress", "IPPrefixLen", "IPv6Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "MacAddress")


def _nowhere(network: str) -> Endpoint:
    return Endpoint(network=network, network_id="", interface="", host_interface="", mac="", ip="", prefix=0)


def _describe(endpoint: Endpoint, aliases: list[str]) -> dict[str, Any]:
    return {
        "Aliases": aliases, "NetworkID": endpoint.network_id, "MacAddress": endpoint.mac, "Gateway": endpoint.gateway,
        "IPAddress": endpoint.ip, "IPPrefixLen": endpoint.prefix, "IPv6Gateway": endpoint.gateway6,
        "GlobalIPv6Address": endpoint.ip6, "GlobalIPv6PrefixLen": endpoint.prefix6,
    }
