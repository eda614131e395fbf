"""The anonymous volumes of a container that goes: with `--rm`, `rm -v`, or because it never came to be.

    container/<id>/remove-volumes    an empty file: with this container its anonymous volumes go, too

The mark is made before the container moves into the trash, and the volumes are removed before anything of the trash is
deleted. So who sweeps after a kill still finds both, the mark and the record with the names. Volumes of other containers stay.
"""
from __future__ import annotations

import errno
import os

from mydocker.base import files, log, paths, trace
from mydocker.base.errors import Corrupt
from mydocker.storage import volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .store import Store

_MARK = "remove-volumes"


def discard_with_volumes(store: Store, container_id: str, name: str, delete: Callable[[str], object]) -> None:
    """Remove a container and its anonymous volumes. The caller holds the container's lock."""
    _mark(f"{store.layout.container(container_id)}/{_MARK}")
    trash = store.discard(container_id, name)
    trace.point("discarded with volumes")
    _discard_volumes(store, trash)
    delete(trash)


def _mark(path: str) -> None:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        log.debug("no room to mark", path=path)  # a removal makes room: only a kill at this moment would leave volumes


def finish_removal(store: Store, trash: str) -> None:
    """Remove the volumes that go with a container in the trash, where they do. Idempotent."""
    if os.path.exists(f"{trash}/{_MARK}"):
        _discard_volumes(store, trash)


def _discard_volumes(store: Store, trash: str) -> None:
    try:
        items = files.load_json(f"{trash}/{paths.RECORD}")["config"]["volumes"]
        wanted = [str(item["volume"]) for item in items if item.get("anonymous")]
    except (FileNotFoundError, Corrupt, KeyError, TypeError, AttributeError):
        return  # it was never recorded, and so it has made none
    volumes.discard_unused(store.layout, wanted)
