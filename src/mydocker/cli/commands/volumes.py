"""`mydocker volume ...`, in docker's words."""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest, NotFound

from ..filter_words import join_tests, label_matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mydocker.engine.volumes import RemovedVolume, Volumes
    from mydocker.storage.volumes import Volume

    from ..context import Context
    from ..output import Output

_COLUMNS = {"DRIVER": "Driver", "VOLUME NAME": "Name"}
_HEADERS = {"Name": "VOLUME NAME"}
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def run(context: Context) -> int:
    """Do what the verb says."""
    return _ACTIONS[context.arguments.verb.name](context)


def _create(context: Context) -> int:
    name = "".join(context.arguments.positionals)
    context.output.line(context.engine.volumes.create(name, **context.arguments.engine_options()).name)
    return 0


def _list(context: Context) -> int:
    arguments, volumes = context.arguments, context.engine.volumes
    used = volumes.users() if any(word.startswith("dangling=") for word in arguments["filter"]) else {}
    matches = parse_filters(arguments["filter"], lambda volume: volume.name in used)
    found = [volume for volume in volumes.list() if matches(volume)]
    if arguments["quiet"]:
        for volume in found:
            context.output.line(volume.name)
        return 0
    from ..format import write_items

    write_items(context.output, arguments["format"], _COLUMNS, [describe(volumes, volume) for volume in found], _HEADERS)
    return 0


def describe(volumes: Volumes, volume: Volume) -> dict[str, Any]:
    """Return one volume's columns, under docker's field names."""
    labels = dict(volume.labels)
    return {
        "Driver": volume.driver, "Name": volume.name, "Scope": "local", "Mountpoint": volumes.mountpoint(volume),
        "Labels": ",".join(f"{key}={value}" for key, value in labels.items()), "Label": lambda key: labels.get(key, ""),
        "Links": "N/A", "Size": "N/A", "Status": "N/A", "Availability": "N/A", "Group": "N/A",
    }


def parse_filters(words: list[str], is_used: Callable[[Volume], bool]) -> Callable[[Volume], bool]:
    """Return the test that `KEY=VALUE` words describe: one of each key, all labels. Raises InvalidRequest."""
    tests: dict[str, Callable[[Volume, str], bool]] = {
        "dangling": lambda volume, value: is_used(volume) != _TRUTH[value],
        "name": lambda volume, value: value in volume.name,
        "label": lambda volume, value: label_matches(dict(volume.labels), value),
        "label!": lambda volume, value: not label_matches(dict(volume.labels), value),
        "driver": lambda volume, value: volume.driver == value,
        "scope": lambda volume, value: value == "local",
    }
    return join_tests(words, tests, _judge_filter)


def _judge_filter(key: str, value: str) -> None:
    if key == "dangling" and value not in _TRUTH:
        raise InvalidRequest(f"filter dangling: {value!r} is neither true nor false")


def _inspect(context: Context) -> int:
    form = context.arguments["format"]
    found: list[dict[str, Any]] = []
    code = context.each(context.arguments.positionals, lambda name: found.append(inspect_volume(context.engine.volumes, name)))
    from ..format import write_document

    if form in ("", "json"):
        context.output.json(found)
    else:
        for document in found:
            write_document(context.output, form, document)
    return code


def inspect_volume(volumes: Volumes, name: str) -> dict[str, Any]:
    """Return docker's document of a volume. Raises NotFound."""
    from mydocker.base.clock import format_rfc3339

    volume = volumes.get(name)
    return {
        "CreatedAt": format_rfc3339(volume.created_ns), "Driver": volume.driver, "Labels": dict(volume.labels) or None,
        "Mountpoint": volumes.mountpoint(volume), "Name": volume.name, "Options": dict(volume.options) or None, "Scope": "local",
    }


def _remove(context: Context) -> int:
    force = context.arguments["force"]

    def remove(name: str) -> str | None:
        try:
            context.engine.volumes.remove(name)
        except NotFound:
            if not force:
                raise
        return name
    return context.each(context.arguments.positionals, remove)


def _prune(context: Context) -> int:
    from mydocker.base.units import format_size

    removed = prune(context, context.arguments["filter"], all=context.arguments["all"])
    write_removed(context.output, removed)
    context.output.line(f"Total reclaimed space: {format_size(sum(volume.size_bytes for volume in removed))}")
    return 0


def prune(context: Context, words: list[str], *, all: bool) -> list[RemovedVolume]:
    """Remove unused volumes; raises InvalidRequest for words that are no filters of prune."""
    for word in words:
        key, _, value = word.partition("=")
        if key not in ("label", "label!", "all") or (key == "all" and value not in _TRUTH):
            raise InvalidRequest(f"filter {word!r} is not known", hint="filters are label=, label!= and all=true")
        all = _TRUTH[value] if key == "all" else all
    matches = parse_filters([word for word in words if not word.startswith("all=")], lambda volume: False)
    return [*context.engine.volumes.prune(all=all, matches=matches)]


def write_removed(output: Output, removed: list[RemovedVolume]) -> None:
    """Say which volumes are gone, as docker does."""
    if removed:
        output.line("Deleted Volumes:")
        for volume in removed:
            output.line(volume.name)
        output.line("")


_ACTIONS = {
    "volume-create": _create, "volume-ls": _list, "volume-inspect": _inspect, "volume-rm": _remove, "volume-prune": _prune,
}
