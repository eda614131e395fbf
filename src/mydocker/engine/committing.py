"""`commit`: an image of a container as it is now."""
from __future__ import annotations

from mydocker.base import paths, trace
from mydocker.base.errors import Conflict
from mydocker.base.undo import Undo
from mydocker.linux.cgroup.group import Cgroup

from .ending import current
from .lifecycle import CREATING, PAUSED, RUNNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from mydocker.image.store import Images

    from .store import ContainerRecord, Store


def commit(
    store: Store, images: Images, container_id: str, image: str, *, author: str = "", message: str = "", pause: bool = True,
    change: Sequence[str] = (),
) -> str:
    """Make an image of a container; return its manifest's digest. Holds the container's lock throughout.

    A running container is frozen meanwhile unless `pause` is false. `image` may be empty: an image
    without a name. Raises Conflict, InvalidRequest (name, change).
    """
    images.judged_name(image)
    with store.lock(container_id), Undo() as undo:
        record = current(store, container_id)
        if record.status == CREATING:
            raise Conflict(f"commit container {record.name}: it is still being made")
        if pause and record.status == RUNNING:
            cgroup = Cgroup.open(record.cgroups_path)
            # If we are killed meanwhile, `ps` says why the container stands still, and `unpause` lets it go on.
            store.save(record.replace(status=PAUSED))
            undo.callback(store.save, record)
            undo.callback(cgroup.thaw)
            cgroup.freeze()
            trace.point("froze to commit")
        return images.commit(
            f"{store.layout.container(container_id)}/{paths.UPPER}", image, manifest_digest=record.image_id, base=record.base,
            author=author, message=message, command=record.command, overrides=_overrides(record), change=change)


def _overrides(record: ContainerRecord) -> dict[str, Any]:
    """Return what the container's own settings change of its image's configuration."""
    config = record.config
    overrides: dict[str, Any] = {}
    if config["argv"]:
        overrides["Cmd"] = list(config["argv"])
    if config["entrypoint"] is not None:
        overrides["Entrypoint"] = list(config["entrypoint"])
    if config["env"]:
        overrides["Env"] = list(config["env"])
    if config["workdir"]:
        overrides["WorkingDir"] = config["workdir"]
    if config["user"]:
        overrides["User"] = config["user"]
    if config["labels"]:
        overrides["Labels"] = dict(config["labels"])
    return overrides
