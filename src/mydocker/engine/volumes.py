"""Volumes as users make and see them: create, list, inspect, remove, prune. Containers get theirs in volume_mounts.py.

A volume is in use while the record of a container names it, running or not; nothing else counts users.
"""
from __future__ import annotations

from mydocker.base.errors import Conflict, NotFound
from mydocker.base.ids import new_hex
from mydocker.base.record import Record
from mydocker.storage import volumes as stored
from mydocker.storage.usage import DiskUsage
from mydocker.storage.volumes import Volume

from .mounts import pairs
from .request import judge_labels
from .volume_request import judge_driver, judge_settings, judge_volume_name, plan_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from .store import Store

_NAME_DIGITS = 64


class RemovedVolume(Record):
    """A volume that was removed, and the bytes that it held."""

    name: str
    size_bytes: int


class Volumes:
    """The volumes of an engine: `engine.volumes`. Nothing is held; every call looks anew."""

    __slots__ = ("_layout",)

    def __init__(self, store: Store) -> None:
        self._layout = store.layout

    def create(
        self, name: str = "", *, driver: str = "local", label: Mapping[str, str] | Iterable[str] = (),
        opt: Mapping[str, str] | Iterable[str] = (),
    ) -> Volume:
        """Make a volume, or return the one that has the name; without a name it is an anonymous one.

        `opt` are `type`, `device` and `o` of the local driver. Raises InvalidRequest, Unsupported.
        """
        what = f"create volume {name}".rstrip()
        wanted = Volume(
            name=judge_volume_name(name, what) if name else new_hex(_NAME_DIGITS), created_ns=0,
            driver=judge_driver(driver, f"{what}: driver"), labels=judge_labels(label, "label") if label else (),
            options=judge_settings(dict(pairs(opt, f"{what}: option")), what), anonymous=not name)
        lock, volume = stored.ensure(self._layout, wanted)
        lock.close()
        return volume

    def collect(self) -> None:
        """Remove what killed commands left of volumes that never were."""
        stored.sweep(self._layout)

    def list(self) -> Sequence[Volume]:
        """Return all volumes by name."""
        self.collect()
        found = []
        for name in stored.names(self._layout):
            try:
                found.append(stored.load(self._layout, name))
            except NotFound:
                continue  # removed at this moment
        return found

    def get(self, name: str) -> Volume:
        """Return a volume. Raises NotFound."""
        return stored.load(self._layout, name)

    def mountpoint(self, volume: Volume) -> str:
        """Return the directory where a volume's files are."""
        if volume.options:
            kind, device, _ = plan_settings(volume.options, f"volume {volume.name}")
            if kind == "bind":
                return device
        return stored.data_dir(self._layout, volume.name)

    def users(self) -> Mapping[str, Sequence[str]]:
        """Return the names of the containers that have a volume, by the volume's name. Raises Corrupt (a container's record)."""
        return stored.users(self._layout)

    def size_bytes(self, volume: Volume) -> int:
        """Return the bytes that a volume takes on the disk."""
        return DiskUsage().measure(self._layout.volume(volume.name))

    def remove(self, name: str) -> None:
        """Remove a volume with its files. Raises NotFound, Conflict (a container has it)."""
        stored.remove(self._layout, name)

    def prune(self, *, all: bool = False, matches: Callable[[Volume], bool] = lambda volume: True) -> Sequence[RemovedVolume]:
        """Remove the anonymous volumes, or `all`, that no container has; return them with the bytes they held."""
        removed = []
        used = self.users()
        for volume in self.list():
            if volume.name in used or not (all or volume.anonymous) or not matches(volume):
                continue
            size = self.size_bytes(volume)
            try:
                self.remove(volume.name)
            except (Conflict, NotFound):
                continue  # taken, or removed, at this moment
            removed.append(RemovedVolume(name=volume.name, size_bytes=size))
        return removed
