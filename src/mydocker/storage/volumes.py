"""Volumes: directories that outlive containers, one a name.

    volume/<name>/         flock, exclusive: who makes, fills or removes the volume
      _data/               what is mounted
      volume.json          {"version", "name", "driver", "labels", "options", "created_ns", "anonymous"}; made last: without
                           it there is no volume, only what a killed command left
      .copy/ .fill/        an image's content on its way into `_data` (filling.py)

Owns their making, locking and removal. Nobody counts users: they are found in the containers' records, and that needs no
second lock, because of the order in which both sides go. Who uses a volume writes the record that names it first and then
takes the volume's lock to make it where it is missing; who removes one takes the lock first and then reads the records.
"""
from __future__ import annotations

import os

from mydocker.base import files, locks, log, trace
from mydocker.base.clock import now_ns
from mydocker.base.errors import Conflict, Corrupt, NotFound
from mydocker.base.ids import new_unique
from mydocker.base.record import Record

from . import refs, trash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mydocker.base.locks import DirectoryLock
    from mydocker.base.paths import Layout

DATA = "_data"
RECORD = "volume.json"
_VERSION = 1
_NAME_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_NAME_REST = _NAME_FIRST | frozenset("_.-")


class Volume(Record):
    """One volume, as stored. `options` are the local driver's: `type`, `device`, `o`."""

    name: str
    created_ns: int
    driver: str = "local"
    labels: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    anonymous: bool = False

    def to_document(self) -> dict[str, Any]:
        """Return the JSON object of volume.json."""
        return {**self.as_dict(), "version": _VERSION, "labels": dict(self.labels), "options": dict(self.options)}


def is_volume_name(text: str) -> bool:
    """Tell whether a text can be the name of a volume, and so a file name of ours."""
    return 2 <= len(text) <= 255 and text[0] in _NAME_FIRST and _NAME_REST.issuperset(text)


def data_dir(layout: Layout, name: str) -> str:
    """The directory that is mounted."""
    return f"{layout.volume(name)}/{DATA}"


def names(layout: Layout) -> list[str]:
    """Return the names of all volumes, sorted."""
    return sorted(name for name in os.listdir(layout.volumes) if os.path.exists(f"{layout.volume(name)}/{RECORD}"))


def load(layout: Layout, name: str) -> Volume:
    """Return a volume. Raises NotFound, Corrupt."""
    if not is_volume_name(name):
        raise _absent(name)
    path = f"{layout.volume(name)}/{RECORD}"
    try:
        document = files.load_json(path)
        if document["version"] != _VERSION or document["name"] != name:
            raise ValueError(f"it is of version {document['version']!r} and volume {document['name']!r}")
        return Volume(
            name=name, created_ns=int(document["created_ns"]), driver=str(document["driver"]),
            labels=_pairs(document["labels"]), options=_pairs(document["options"]), anonymous=bool(document["anonymous"]))
    except (FileNotFoundError, NotADirectoryError):
        raise _absent(name) from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Corrupt(f"read {path}: it is not a volume's record: {error}", hint="its files are beside it, in _data") from error


def _pairs(document: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((str(key), str(value)) for key, value in document.items())


def ensure(layout: Layout, wanted: Volume) -> tuple[DirectoryLock, Volume]:
    """Return a volume, made like `wanted` where there is none of that name, with its lock; the caller closes that."""
    path = layout.volume(wanted.name)
    while True:
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass  # a volume, or what a killed command left of one: the record tells
        try:
            lock = locks.lock_directory(path)
        except NotFound:
            continue  # removed before it was locked
        assert lock is not None  # it waits
        break
    try:
        try:
            return lock, load(layout, wanted.name)
        except NotFound:
            return lock, _complete(lock, wanted)
    except BaseException:
        lock.close()
        raise


def _complete(lock: DirectoryLock, wanted: Volume) -> Volume:
    trace.point("claimed volume")
    try:
        os.mkdir(DATA, 0o755, dir_fd=lock.fd)
    except FileExistsError:
        pass  # a killed command came as far as here
    fd = os.open(DATA, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=lock.fd)
    os.fchmod(fd, 0o755)  # whatever the umask
    os.close(fd)
    made = wanted.replace(created_ns=wanted.created_ns or now_ns())
    files.save_json(RECORD, made.to_document(), dir_fd=lock.fd, durable=True)
    return made


def users(layout: Layout) -> dict[str, list[str]]:
    """Return for each volume that is used the containers that name it, running or not. Raises Corrupt (a record).

    While one container cannot be asked, no volume can be told unused.
    """
    found: dict[str, list[str]] = {}
    for record in refs.container_records(layout):
        config = record.get("config")
        for item in (config.get("volumes") or ()) if isinstance(config, dict) else ():
            name = item.get("volume") if isinstance(item, dict) else None
            if name and (container := str(record.get("name"))) not in found.setdefault(str(name), []):
                found[str(name)].append(container)
    return found


def remove(layout: Layout, name: str) -> None:
    """Remove a volume that no container names. Raises NotFound, Conflict (in use, or about to be), Corrupt."""
    lock = _lock_to_remove(layout, name)
    with lock:
        if not os.path.exists(f"{layout.volume(name)}/{RECORD}"):
            _discard(layout, name)  # only what a killed command left
            raise _absent(name)
        if containers := users(layout).get(name):
            shown = ", ".join(sorted(containers)[:5]) + (f" and {len(containers) - 5} more" if len(containers) > 5 else "")
            raise Conflict(f"remove volume {name}: it is in use by {shown}", hint="remove these first, with `mydocker rm`")
        _discard(layout, name)


def _lock_to_remove(layout: Layout, name: str) -> DirectoryLock:
    if not is_volume_name(name):
        raise _absent(name)
    try:
        lock = locks.lock_directory(layout.volume(name), wait=False)
    except NotFound:
        raise _absent(name) from None
    if lock is None:
        raise Conflict(f"remove volume {name}: it is in use by a command that works on it", hint="try again")
    return lock


def _absent(name: str) -> NotFound:
    return NotFound(f"no volume {name}", hint="`mydocker volume ls` lists those there are")


def _discard(layout: Layout, name: str) -> None:
    """Remove a volume's directory. The caller holds its lock: who waits for that sees that the directory moved."""
    place = f"{layout.trash}/volume@{new_unique()}"
    os.rename(layout.volume(name), place)
    trace.point("volume in trash")
    trash.remove_tree(place)


def discard_unused(layout: Layout, wanted: list[str]) -> None:
    """Remove the anonymous volumes of a container that is gone, except those that another one names by now."""
    for name in wanted:
        try:
            remove(layout, name)
        except (NotFound, Conflict):
            continue  # gone already; or another container has it
        except Corrupt as error:
            log.debug("keep volume", volume=name, error=error)  # who has it cannot be told: `volume prune` will see


def sweep(layout: Layout) -> None:
    """Remove what killed commands left of volumes that never were, and of copies into volumes."""
    for name in os.listdir(layout.volumes):
        try:
            lock = locks.lock_directory(layout.volume(name), wait=False)
        except (NotFound, NotADirectoryError):
            continue
        if lock is None:
            continue  # somebody is at it
        with lock:
            if not os.path.exists(f"{layout.volume(name)}/{RECORD}"):
                _discard(layout, name)
            else:
                trash.remove_at(lock.fd, b".copy")
