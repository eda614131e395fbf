"""`mydocker image prune`, `image verify`, `system df`, `system prune`, `gc`: what is on the disk, and what need not be."""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mydocker.engine.usage import Usage
    from mydocker.image.remove import RemovedImage

    from ..context import Context

_COLUMNS = {"TYPE": "Type", "TOTAL": "TotalCount", "ACTIVE": "Active", "SIZE": "Size", "RECLAIMABLE": "Reclaimable"}
_HEADERS = {"TotalCount": "TOTAL"}
_FAULTY = 1


def run(context: Context) -> int:
    """Do what the verb says."""
    return _ACTIONS[context.arguments.verb.name](context)


def _prune_images(context: Context) -> int:
    from mydocker.base.units import format_size

    removed = _prune(context)
    _write_removed(context, removed)
    context.output.line(f"Total reclaimed space: {format_size(sum(image.reclaimed_bytes for image in removed))}")
    return 0


def _prune(context: Context) -> list[RemovedImage]:
    from ..image_filters import PRUNING, parse_filters

    arguments, images = context.arguments, context.engine.images
    words = [word for word in arguments["filter"] if not word.startswith("dangling=")]
    takes_all = arguments["all"] or "dangling=false" in arguments["filter"] or "dangling=0" in arguments["filter"]
    parse_filters(arguments["filter"], images, PRUNING)
    return images.prune(all=takes_all, matches=parse_filters(words, images, PRUNING))


def _write_removed(context: Context, removed: list[RemovedImage]) -> None:
    if not removed:
        return
    context.output.line("Deleted Images:")
    for image in removed:
        for reference in image.untagged:
            context.output.line(f"untagged: {reference}")
        for identity in image.deleted:
            context.output.line(f"deleted: {identity}")
    context.output.line("")


def _prune_system(context: Context) -> int:
    from mydocker.base.units import format_size

    from ..image_filters import PRUNING, parse_filters

    engine, words = context.engine, context.arguments["filter"]
    parse_filters(words, engine.images, PRUNING)  # a mistake is told before anything is removed
    from mydocker.engine.pruning import prune_containers

    from .networks import parse_filters as parse_network_filters
    from .volumes import prune as prune_volumes
    from .volumes import write_removed as write_removed_volumes

    if context.arguments["volumes"] and any(not word.startswith(("label=", "label!=")) for word in words):
        raise InvalidRequest("only label= and label!= filter volumes", hint="leave --volumes out: volume prune removes them")
    freed = 0
    containers = prune_containers(engine, words)
    if containers:
        context.output.line("Deleted Containers:")
        for container in containers:
            context.output.line(container.id)
            freed += container.size_bytes
        context.output.line("")
    network_words = [word for word in words if not word.startswith("dangling=")]
    networks = engine.networks.prune(parse_network_filters(network_words, lambda network: False))
    if networks:
        context.output.line("Deleted Networks:")
        for network in networks:
            context.output.line(network.name)
        context.output.line("")
    if context.arguments["volumes"]:
        volumes = prune_volumes(context, words, all=False)
        write_removed_volumes(context.output, volumes)
        freed += sum(volume.size_bytes for volume in volumes)
    images = _prune(context)
    _write_removed(context, images)
    if not words:  # records of steps have neither labels nor ages that a filter could mean
        from mydocker.build.cache import prune as forget_steps  # cold

        forget_steps(engine.layout)  # what they kept goes with the collection below, which counts it
    freed += sum(image.reclaimed_bytes for image in images) + engine.images.collect()
    context.output.line(f"Total reclaimed space: {format_size(freed)}")
    return 0


def _verify(context: Context) -> int:
    code = 0

    def check(name: str) -> None:
        nonlocal code
        for image in context.engine.images.verify(name):
            for fault in image.faults:
                context.output.line(f"{image.reference}: {fault}")
                code = _FAULTY
            if not image.faults:
                context.output.line(f"{image.reference}: ok")
            context.output.flush()
    failed = context.each(context.arguments.positionals or [""], check)
    return failed or code


def _collect(context: Context) -> int:
    from mydocker.base.units import format_size

    context.engine.volumes.collect()
    context.output.line(f"Total reclaimed space: {format_size(context.engine.images.collect())}")
    return 0


def _show_usage(context: Context) -> int:
    from ..format import write_items

    arguments, usage = context.arguments, context.engine.usage()
    if arguments["verbose"]:
        _show_details(context, usage)
        return 0
    write_items(context.output, arguments["format"], _COLUMNS, _describe(usage, arguments["format"]), _HEADERS)
    return 0


def _describe(usage: Usage, form: str) -> list[dict[str, Any]]:
    from mydocker.base.units import format_size

    items: list[dict[str, Any]] = [{
        "Type": part.kind, "TotalCount": str(part.total), "Active": str(part.active), "Size": format_size(part.size_bytes),
        "SizeBytes": part.size_bytes, "Reclaimable": _share(part.reclaimable_bytes, part.size_bytes),
    } for part in usage.parts]
    if form in ("", "table", "json"):  # a template is docker's: four lines, and nothing that is no kind of thing
        items.append({
            "Type": "Total", "TotalCount": "", "Active": "", "Size": format_size(usage.size_bytes),
            "SizeBytes": usage.size_bytes,
            "Reclaimable": _share(sum(part.reclaimable_bytes for part in usage.parts), usage.size_bytes)})
    return items


def _share(part: int, whole: int) -> str:
    from mydocker.base.units import format_size

    return f"{format_size(part)} ({100 * part // whole}%)" if whole else format_size(part)


def _show_details(context: Context, usage: Usage) -> None:
    from mydocker.base.units import format_size

    from ..ages import since
    from .images import short_id, split_reference

    output = context.output
    output.line("Images space usage:\n")
    output.table(
        ("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"),
        ((*split_reference(name), short_id(image.id), since(image.created), format_size(image.shared_bytes + image.unique_bytes),
          format_size(image.shared_bytes), format_size(image.unique_bytes), str(image.containers))
         for image in usage.images for name in image.references or ("",)))
    output.line("\nContainers space usage:\n")
    output.table(
        ("CONTAINER ID", "IMAGE", "SIZE", "STATUS", "NAMES"),
        ((each.id, each.image, format_size(each.size_bytes), each.status, each.name) for each in usage.containers))
    output.line("\nLocal Volumes space usage:\n")
    output.table(
        ("VOLUME NAME", "LINKS", "SIZE"), ((each.name, str(each.links), format_size(each.size_bytes)) for each in usage.volumes))
    output.line(f"\nTotal: {format_size(usage.size_bytes)}")


_ACTIONS = {
    "image-prune": _prune_images, "image-verify": _verify, "system-df": _show_usage, "system-prune": _prune_system,
    "gc": _collect,
}
