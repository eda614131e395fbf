"""`mydocker start`."""
from __future__ import annotations

from mydocker.base.errors import AlreadyInState, InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Start each container; with `-a` or `-i` exactly one, attached, its exit code passed on."""
    arguments = context.arguments
    if not (arguments["attach"] or arguments["interactive"]):
        return context.each(arguments.positionals, lambda name: _start(context, name))
    if len(arguments.positionals) != 1:
        raise InvalidRequest("start: -a and -i take one container", hint="start the others without them")
    from ..terminal import start_attached

    container = context.engine.containers.get(arguments.positionals[0])
    return start_attached(context, container, stdin=arguments["interactive"], proxy=arguments["sig_proxy"])


def _start(context: Context, name: str) -> str:
    try:
        context.engine.containers.get(name).start()
    except AlreadyInState:
        pass  # as asked, and docker start says so with success, too
    return name
