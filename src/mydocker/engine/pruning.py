"""`system prune`: the containers that ended or never began."""
from __future__ import annotations

from mydocker.base.errors import Conflict, NotFound
from mydocker.storage.usage import DiskUsage

from .lifecycle import ALIVE, CREATED
from .usage import ContainerUse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .containers import Container
    from .engine import Engine


def prune_containers(engine: Engine, words: Iterable[str] = ()) -> list[ContainerUse]:
    """Remove what does not run and `until=`, `label=`, `label!=` words say; return it with the bytes it held."""
    disk, removed = DiskUsage(), []
    words = list(words)
    for container in engine.containers.list(on_error=lambda error: None):
        if (container.status in ALIVE and container.status != CREATED) or not _matches(container, words):
            continue
        size = disk.measure(engine.layout.container(container.id))
        try:
            container.remove()
        except (Conflict, NotFound):
            continue  # started, or removed, at this moment
        removed.append(ContainerUse(
            id=container.id, name=container.name, image=container.image, status=container.status, size_bytes=size))
    return removed


def _matches(container: Container, words: list[str]) -> bool:
    from .logs import judge_time  # cold

    for word in words:
        key, _, value = word.partition("=")
        name, equals, wanted = value.partition("=")
        has = name in container.labels and (not equals or container.labels[name] == wanted)
        if (key == "label" and not has) or (key == "label!" and has):
            return False
        if key == "until" and container.created_ns >= (judge_time(value, "filter until") or 0):
            return False
    return True
