"""`mydocker ps`."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mydocker.base.errors import Corrupt
    from mydocker.engine.containers import Container

    from ..context import Context

_COMMAND_WIDTH = 30
_MOUNT_WIDTH = 15
_COLUMNS = {
    "ID": "ID", "NAME": "Name", "PID": "PID", "STATUS": "Status", "COMMAND": "Command", "CREATED": "Created",
    "EXIT": "Exit", "PORTS": "Ports",
}
_HEADERS = {"CreatedAt": "CREATED AT", "ExitCode": "EXIT CODE", "OomKilled": "OOM KILLED", "Names": "NAMES"}


def run(context: Context) -> int:
    """List containers, the youngest first."""
    arguments = context.arguments
    broken: list[Corrupt] = []
    containers = context.engine.containers.list(all=True, on_error=broken.append)
    code = max([context.report(error) for error in broken], default=0)  # and on with those that can be read
    if arguments["filter"] or arguments["running"]:
        from ..filters import parse_filters

        matches = parse_filters(arguments["filter"])
        containers = [
            container for container in containers
            if matches(container) and (container.status == "running" or not arguments["running"])]
    containers.sort(key=lambda container: container.created_ns, reverse=True)
    last = 1 if arguments["latest"] else arguments["last"]
    if last >= 0:
        containers = containers[:last]
    if arguments["quiet"]:
        for container in containers:
            context.output.line(container.id)
        return code
    from ..format import write_items

    items = [describe(container, whole=arguments["no_trunc"]) for container in containers]
    write_items(context.output, arguments["format"], _COLUMNS, items, _HEADERS)
    return code


def describe(container: Container, *, whole: bool) -> dict[str, Any]:
    """Return one container's columns, under Docker's field names where it has them."""
    from mydocker.base.clock import format_local

    from ..output import shorten

    pid = container.pid
    labels: dict[str, str] = container.labels
    created = format_local(container.created_ns)
    mounts = [str(item.get("volume") or item["source"]) for item in container.record["config"].get("volumes", ())]
    return {
        "ID": container.id,
        "Name": container.name,
        "Names": container.name,
        "PID": str(pid) if pid else "",
        "Status": container.status,
        "State": container.status,
        "Command": container.command if whole else shorten(container.command, _COMMAND_WIDTH),
        "Created": created,
        "CreatedAt": created,
        "Exit": format_exit(container),
        "ExitCode": "" if container.exit_code is None else str(container.exit_code),
        "OomKilled": container.oom_killed,
        "Ports": ", ".join(f"{port.host_text}->{port.port}/{port.protocol}" for port in container.ports),
        "Image": container.image,
        "Mounts": ",".join(name if whole else shorten(name, _MOUNT_WIDTH) for name in mounts),
        "LocalVolumes": str(sum(1 for name in mounts if not name.startswith("/"))),
        "Labels": ",".join(f"{key}={value}" for key, value in labels.items()),
        "Label": lambda key: labels.get(key, ""),
    }


def format_exit(container: Container) -> str:
    """Return how a container ended: `0`, `137 (SIGKILL)`, `137 (out of memory)`; nothing while it has not."""
    if container.exit_code is None:
        return ""
    if container.oom_killed:
        return f"{container.exit_code} (out of memory)"
    if container.signal:
        return f"{container.exit_code} ({signal_name(container.signal)})"
    return str(container.exit_code)


def signal_name(number: int) -> str:
    """Return `SIGKILL` for 9, or `signal 40` for what has no name."""
    from mydocker.engine.signals import SIGNALS

    for name, value in SIGNALS.items():
        if value == number:
            return f"SIG{name}"
    return f"signal {number}"
