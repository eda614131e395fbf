"""`mydocker port`."""
from __future__ import annotations

from mydocker.base.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Show where each published port is reached, or only one: `80/tcp -> 127.0.0.1:8080`."""
    name, *wanted = context.arguments.positionals
    bindings = context.engine.containers.get(name).ports
    if not wanted:
        for binding in bindings:
            context.output.line(f"{binding.port}/{binding.protocol} -> {binding.host_text}")
        return 0
    from mydocker.engine.ports import parse_port

    port, protocol = parse_port(wanted[0])
    found = [binding for binding in bindings if (binding.port, binding.protocol) == (port, protocol)]
    if not found:
        raise NotFound(f"container {name} publishes no port {port}/{protocol}", hint="`mydocker port` lists what it does")
    for binding in found:
        context.output.line(binding.host_text)
    return 0
