"""What the `process` section of a container's spec and that of an exec session have in common. Pure."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from mydocker.oci.runtime_spec import Process


def merge_env(*sources: Iterable[str]) -> list[str]:
    """Return `K=V` items of all sources; a later one replaces an earlier one of the same name in its place."""
    return list({item.partition("=")[0]: item for source in sources for item in source}.values())


def set_console_size(process: Process, size: tuple[int, int] | None) -> None:
    """Set the size (rows, columns) that the process's terminal has from the first instant; None leaves it to the kernel."""
    process.pop("consoleSize", None)
    if size is not None:
        process["consoleSize"] = {"height": size[0], "width": size[1]}
