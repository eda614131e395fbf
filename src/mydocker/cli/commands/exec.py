"""`mydocker exec`."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Run a command inside a running container and pass its exit code on; `-d` leaves it there."""
    arguments = context.arguments
    name, *argv = arguments.positionals
    options = arguments.engine_options()
    container = context.engine.containers.get(name)
    if arguments["detach"]:
        container.exec(argv, detach=True, **options)
        return 0
    from ..terminal import check_terminal, console_size, relay

    tty, interactive = arguments["tty"], arguments["interactive"]
    check_terminal(context, tty=tty, interactive=interactive)
    session = container.open_exec(argv, interactive=interactive, console_size=console_size() if tty else None, **options)
    return relay(context, session, tty=tty, interactive=interactive)
