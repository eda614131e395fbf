"""`mydocker run`, and the rules of the seed about `-ti` and `-d`."""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..context import Context
    from ..parse import Arguments


def run(context: Context) -> int:
    """Start a container: detached (prints its id), or in the foreground (passes its exit code on)."""
    arguments = context.arguments
    image, *argv = arguments.positionals
    options = plan_options(arguments)
    if not arguments["quiet"]:
        context.engine.images.open_progress = context.open_progress
    if "cidfile" in arguments.given:
        from ..cidfile import open_cidfile  # cold

        with open_cidfile(arguments["cidfile"]) as write_id:
            return _run(context, image, argv, options, write_id)
    return _run(context, image, argv, options)


def _run(
    context: Context, image: str, argv: list[str], options: dict[str, Any], write_id: Callable[[str], None] | None = None
) -> int:
    arguments = context.arguments
    if arguments["detach"]:
        container = context.engine.containers.run(image, argv, detach=True, **options)
        if write_id:
            write_id(container.id)
        context.output.line(container.id)
        return 0
    from ..terminal import check_terminal, relay

    check_terminal(context, tty=arguments["tty"], interactive=arguments["interactive"])
    session = context.engine.containers.open(image, argv, **options)
    if write_id and session.container:
        write_id(session.container.id)
    return relay(
        context, session, tty=arguments["tty"], interactive=arguments["interactive"], proxy=arguments["sig_proxy"])


def plan_options(arguments: Arguments) -> dict[str, Any]:
    """Return the engine's keywords for what was typed.

    `-ti` is a session: its container goes when it ends, unless `--rm=false`. With `-d` nobody would sit at that
    terminal, so the two together are refused. Raises InvalidRequest.
    """
    is_session = arguments["tty"] and arguments["interactive"]
    if is_session and arguments["detach"]:
        raise InvalidRequest("run: -ti and -d exclude each other", hint="use one of them")
    options = arguments.engine_options()
    if arguments["tty"]:
        from ..terminal import console_size

        options["console_size"] = console_size()
    if is_session:
        options.setdefault("rm", True)
    return options
