"""`mydocker network ...`, in docker's words."""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest, NotFound

from ..filter_words import join_tests, label_matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from mydocker.engine.networks import Member
    from mydocker.network.model import Network

    from ..context import Context

_COLUMNS = {"NETWORK ID": "ID", "NAME": "Name", "DRIVER": "Driver", "SCOPE": "Scope"}
_HEADERS = {"ID": "NETWORK ID", "CreatedAt": "CREATED AT"}
#: Modes of `--network` that docker lists as networks.
_MODES = ({"Name": "host", "Driver": "host"}, {"Name": "none", "Driver": "null"})


def run(context: Context) -> int:
    """Do what the verb says."""
    return _ACTIONS[context.arguments.verb.name](context)


def _create(context: Context) -> int:
    (name,) = context.arguments.positionals
    context.output.line(context.engine.networks.create(name, **context.arguments.engine_options()).id)
    return 0


def _list(context: Context) -> int:
    arguments = context.arguments
    networks = context.engine.networks
    matches = parse_filters(arguments["filter"], lambda network: bool(networks.members(network)))
    items = [describe(network) for network in networks.list() if matches(network)]
    items += [_describe_mode(mode) for mode in _MODES if _mode_matches(mode, arguments["filter"])]
    items.sort(key=lambda item: str(item["Name"]))
    if arguments["quiet"]:
        for item in items:
            context.output.line(item["ID"])
        return 0
    from ..format import write_items

    write_items(context.output, arguments["format"], _COLUMNS, items, _HEADERS)
    return 0


def describe(network: Network) -> dict[str, Any]:
    """Return one network's columns, under docker's field names."""
    from mydocker.base.clock import format_local

    labels = dict(network.labels)
    return {
        "ID": network.id, "Name": network.name, "Driver": network.driver, "Scope": "local",
        "IPv4": "true", "IPv6": str(network.ipv6 is not None).lower(), "Internal": str(network.internal).lower(),
        "CreatedAt": format_local(network.created_ns), "Labels": ",".join(f"{key}={value}" for key, value in labels.items()),
        "Label": lambda key: labels.get(key, ""),
    }


def _describe_mode(mode: dict[str, str]) -> dict[str, Any]:
    return {
        "ID": mode["Name"], "Name": mode["Name"], "Driver": mode["Driver"], "Scope": "local", "IPv4": "true", "IPv6": "false",
        "Internal": "false", "CreatedAt": "", "Labels": "", "Label": lambda key: ""}


def _mode_matches(mode: dict[str, str], words: list[str]) -> bool:
    for word in words:
        key, _, value = word.partition("=")
        if not {"name": value in mode["Name"], "id": mode["Name"].startswith(value), "driver": value == mode["Driver"],
                "scope": value == "local", "type": value == "builtin"}.get(key, False):
            return False
    return True


def parse_filters(words: list[str], is_used: Callable[[Network], bool]) -> Callable[[Network], bool]:
    """Return the test that `KEY=VALUE` words describe: one of each key, all labels. Raises InvalidRequest."""
    tests: dict[str, Callable[[Network, str], bool]] = {
        "name": lambda network, value: value in network.name,
        "id": lambda network, value: network.id.startswith(value),
        "driver": lambda network, value: network.driver == value,
        "scope": lambda network, value: value == "local",
        "label": lambda network, value: label_matches(dict(network.labels), value),
        "label!": lambda network, value: not label_matches(dict(network.labels), value),
        "type": lambda network, value: (network.name == "bridge") == (value == "builtin"),
        "dangling": lambda network, value: network.name != "bridge" and is_used(network) != (value in ("true", "1")),
        "until": lambda network, value: network.created_ns <= _moment_ns(value),
    }
    return join_tests(words, tests, _judge_filter)


_TRUTH = ("true", "1", "false", "0")


def _judge_filter(key: str, value: str) -> None:
    if (key == "type" and value not in ("custom", "builtin")) or (key == "dangling" and value not in _TRUTH):
        raise InvalidRequest(f"filter {key}: {value!r} is not known")


def _moment_ns(value: str) -> int:
    from mydocker.engine.logs import judge_time  # cold

    return judge_time(value, "filter until") or 0


def _inspect(context: Context) -> int:
    form = context.arguments["format"]
    found: list[dict[str, Any]] = []

    def look(name: str) -> None:
        networks = context.engine.networks
        modes = {mode["Name"]: mode for mode in _MODES}
        if name in modes:
            found.append({"Name": name, "Id": name, "Scope": "local", "Driver": modes[name]["Driver"], "Containers": {}})
            return
        network = networks.get(name)
        found.append(inspect_network(network, networks.members(network)))

    code = context.each(context.arguments.positionals, look)
    from ..format import write_document

    if form in ("", "json"):
        context.output.json(found)
    else:
        for document in found:
            write_document(context.output, form, document)
    return code


def inspect_network(network: Network, members: Sequence[Member]) -> dict[str, Any]:
    """Return docker's document of a network."""
    from mydocker.base.clock import format_rfc3339
    from mydocker.network.model import BRIDGE

    configs = []
    for subnet in network.subnets:
        document = subnet.to_document()
        config = {"Subnet": document["subnet"], "Gateway": document["gateway"], "IPRange": document["ip_range"]}
        configs.append({key: value for key, value in config.items() if value})
    containers = {
        member.container_id: {
            "Name": member.name, "EndpointID": member.endpoint.host_interface, "MacAddress": member.endpoint.mac,
            "IPv4Address": f"{member.endpoint.ip}/{member.endpoint.prefix}",
            "IPv6Address": f"{member.endpoint.ip6}/{member.endpoint.prefix6}" if member.endpoint.ip6 else "",
        } for member in members}
    options = dict(network.options)
    if network.driver == BRIDGE:
        options["com.docker.network.bridge.name"] = network.bridge
    return {
        "Name": network.name, "Id": network.id, "Created": format_rfc3339(network.created_ns), "Scope": "local",
        "Driver": network.driver, "EnableIPv4": True, "EnableIPv6": network.ipv6 is not None,
        "IPAM": {"Driver": "default", "Options": {}, "Config": configs}, "Internal": network.internal, "Attachable": True,
        "Ingress": False, "ConfigFrom": {"Network": ""}, "ConfigOnly": False, "Containers": containers, "Options": options,
        "Labels": dict(network.labels),
    }


def _remove(context: Context) -> int:
    force = context.arguments["force"]

    def remove(name: str) -> str | None:
        try:
            context.engine.networks.remove(name)
        except NotFound:
            if force:
                return None
            raise
        return name
    return context.each(context.arguments.positionals, remove)


def _prune(context: Context) -> int:
    for word in context.arguments["filter"]:
        if not word.startswith(("label=", "label!=", "until=")):
            raise InvalidRequest(f"filter {word!r} is not known", hint="filters are label=, label!= and until=")
    removed = context.engine.networks.prune(parse_filters(context.arguments["filter"], lambda network: False))
    if removed:
        context.output.line("Deleted Networks:")
        for network in removed:
            context.output.line(network.name)
    return 0


def _connect(context: Context) -> int:
    network, container = context.arguments.positionals
    context.engine.networks.connect(network, container, **context.arguments.engine_options())
    return 0


def _disconnect(context: Context) -> int:
    network, container = context.arguments.positionals
    context.engine.networks.disconnect(network, container, force=context.arguments["force"])
    return 0


_ACTIONS = {
    "network-create": _create, "network-ls": _list, "network-inspect": _inspect, "network-rm": _remove,
    "network-prune": _prune, "network-connect": _connect, "network-disconnect": _disconnect,
}
