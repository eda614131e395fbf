"""The build cache: what a step made, under a key of all that it was made of.

    build/
      <key hex>.json     {"version", "created", "layer": null | {"diff_id", "blob"}, "chain"}
      .cache-<id hex>/   the directory of a RUN --mount=type=cache, locked as its `sharing` says

A record is a promise only while its layer is there; storage/refs.py counts records as users of their layers and
blobs, so that `rmi` leaves both, and `builder prune` takes all. Owns no lock: records are replaced whole.
"""
from __future__ import annotations

import os
import time

from mydocker.base import files
from mydocker.base.errors import Corrupt, NotFound
from mydocker.base.record import Record
from mydocker.oci.digest import chain_ids
from mydocker.storage import blobs, layer_locks, layers

from .state import Layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mydocker.base.paths import Layout

VERSION = 1
_TEMPORARY_S = 60.0


class Hit(Record):
    """What a step made before; no layer when it changed no file."""

    created: str
    layer: Layer | None


class Cache:
    """Records below one layout. New ones wait in memory until their layers are published."""

    def __init__(self, layout: Layout, *, is_enabled: bool) -> None:
        self._layout = layout
        self._is_enabled = is_enabled
        self._new: dict[str, dict[str, Any]] = {}

    def find(self, key: str, below: tuple[Layer, ...], held: layer_locks.LayerLocks) -> Hit | None:
        """Return what is known under a key, its layer locked by `held`; None when something of it is missing."""
        hit = self.find_made(key)
        if hit is None or hit.layer is None:
            return hit
        chain = chain_ids([*(layer.diff_id for layer in below), hit.layer.diff_id])[-1]
        try:
            if not layers.is_there(self._layout, chain):
                return None
            held.add(self._layout, chain)
        except NotFound:
            return None  # removed at this moment
        return hit.replace(layer=hit.layer.replace(name=chain))

    def find_made(self, key: str) -> Hit | None:
        """Return what is known under a key, wherever its layer was made: that has no name yet, only its blob is there."""
        if not self._is_enabled:
            return None
        try:
            record = files.load_json(self._path(key))
            if record["version"] != VERSION:
                return None
            found = record["layer"]
            if found is None:
                return Hit(created=record["created"], layer=None)
            if not blobs.is_there(self._layout, found["blob"]["digest"]):
                return None
            return Hit(created=record["created"], layer=Layer(name="", diff_id=found["diff_id"], blob=found["blob"]))
        except FileNotFoundError:
            return None
        except (Corrupt, KeyError, TypeError):
            return None  # half a record after a power cut: the step is done again, and the record replaced

    def add(self, key: str, created: str, below: tuple[Layer, ...], layer: Layer | None) -> None:
        """Remember what a step made, once `save` is called."""
        record: dict[str, Any] = {"version": VERSION, "created": created, "layer": None}
        if layer is not None:
            record["layer"] = {"diff_id": layer.diff_id, "blob": layer.blob}
            record["chain"] = list(chain_ids([*(one.diff_id for one in below), layer.diff_id]))
        self._new[key] = record

    def save(self) -> None:
        """Write what was added; its layers have their names now."""
        if not self._new:
            return
        os.makedirs(self._layout.build, mode=0o700, exist_ok=True)
        for key, record in self._new.items():
            files.save_json(self._path(key), record)
        self._new.clear()

    def _path(self, key: str) -> str:
        return f"{self._layout.build}/{key.removeprefix('sha256:')}.json"


def _unlink(path: str) -> bool:
    """Remove a file; tells whether it was there: another may be pruning, too."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def _is_dead(path: str) -> bool:
    """Tell whether a record's temporary file is one that a killed build left: the living rename theirs at once."""
    try:
        return time.time() - os.stat(path).st_mtime > _TEMPORARY_S
    except FileNotFoundError:
        return False


def prune(layout: Layout) -> int:
    """Forget every record and every cache directory that nobody uses; returns how many."""
    from mydocker.storage import trash  # cold

    count = 0
    try:
        names = os.listdir(layout.build)
    except FileNotFoundError:
        return 0
    for name in names:
        path = f"{layout.build}/{name}"
        if name.endswith(".json"):
            count += _unlink(path)
            continue
        if name.endswith(".tmp") and _is_dead(path):
            _unlink(path)
        # The rest is what builds stand on while they have nothing else.
        if name.startswith(".cache-"):
            count += trash.discard_unheld(layout, path)
    return count
