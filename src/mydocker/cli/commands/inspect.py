"""`mydocker inspect`."""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..context import Context


def run(context: Context) -> int:
    """Show containers, images or volumes as one JSON array, or each by a template; report first what is not found."""
    arguments = context.arguments
    kind, form = arguments["type"], arguments["format"]
    if kind not in ("", "container", "image", "volume"):
        raise InvalidRequest(f"inspect: unknown type {kind!r}", hint="use container, image or volume")
    found: list[dict[str, Any]] = []

    def look(name: str) -> None:
        found.append(_inspect(context, name, kind))
    from ..format import write_document

    errors_after: list[int] = [context.each([name], look) for name in arguments.positionals]
    if form in ("", "json"):
        context.output.json(found)
    else:
        for document in found:
            write_document(context.output, form, document)
    return max(errors_after)


def _inspect(context: Context, name: str, kind: str) -> dict[str, Any]:
    if kind in ("", "container"):
        try:
            return context.engine.containers.get(name).inspect()
        except NotFound as error:
            if kind:
                raise
            absent = error
    if kind in ("", "image"):
        try:
            return context.engine.images.describe(name)
        except (NotFound, InvalidRequest):
            if kind:
                raise
    from .volumes import inspect_volume

    try:
        return inspect_volume(context.engine.volumes, name)
    except NotFound as error:
        if kind:
            raise
        raise NotFound(f"no container, image or volume {name}", hint=absent.hint) from error
