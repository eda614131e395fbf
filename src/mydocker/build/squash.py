"""`--squash`: the layers that a build added become one, on top of the base's."""
from __future__ import annotations

import os
import stat

from mydocker.oci.media_types import MEDIA_LAYER
from mydocker.storage import diff, trash
from mydocker.storage.ingest import ingest
from mydocker.storage.layers import NewLayer
from mydocker.storage.unpack import OPAQUE_XATTR

from .ignore import IgnoreRules
from .modes import Ownership
from .settle import settle
from .sources import close_sources, find_sources
from .state import Layer
from .tree import copy_sources
from .view import open_view

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .job import Job
    from .state import StageState

_NO_RULES = IgnoreRules([])


def squash(job: Job, state: StageState, kept: int) -> None:
    """Replace all layers of a state above the lowest `kept` by one. Raises OSError."""
    added = state.layers[kept:]
    if len(added) < 2:
        return
    below = state.layers[:kept]
    new = NewLayer(job.layout)
    try:
        for name in ("work", "empty"):
            os.mkdir(f"{new.path}/{name}", 0o755)
        lower_dirs = [f"{job.layout.layer(layer.name)}/diff" for layer in reversed(below)] or [f"{new.path}/empty"]
        root_fd = open_view(lower_dirs, f"{new.path}/diff", f"{new.path}/work")
        try:
            for layer in added:
                _apply(f"{job.layout.layer(layer.name)}/diff", root_fd)
        finally:
            os.close(root_fd)
        for name in ("work", "empty"):
            job.throw_away(f"{new.path}/{name}")
        size_bytes, entries = settle(f"{new.path}/diff", job.epoch_ns)
        taken = ingest(job.layout, diff.read_diff(f"{new.path}/diff"), unpack=False)
        one = Layer(name=os.path.basename(new.path), diff_id=taken.diff_id, blob={
            "mediaType": MEDIA_LAYER, "digest": taken.digest, "size": taken.size_bytes})
        state.layers = (*below, one)
        job.stage_layer([*below, one], taken.replace(layer=new, unpacked_bytes=size_bytes, entries=entries))
    except BaseException:
        new.discard()
        raise
    seen = 0
    for entry in state.history:
        if not entry.get("empty_layer"):
            seen += 1
            if seen > kept:
                entry["empty_layer"] = True
    state.add_history(job.now(), "", is_empty=False)
    state.history[-1]["comment"] = f"merge of {len(added)} layers"


def _apply(layer_dir: str, root_fd: int) -> None:
    """Do to a root what a layer (overlayfs's upper directory) did to it."""
    layer_fd = os.open(layer_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path, _, names, fd in os.fwalk(".", dir_fd=layer_fd, follow_symlinks=False):
            inside = os.fsencode(os.path.normpath(path))
            if inside != b"." and OPAQUE_XATTR in os.listxattr(fd):
                _remove(root_fd, inside)
            for name in names:
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                    _remove(root_fd, os.path.join(inside, os.fsencode(name)))
        sources = find_sources(layer_fd, "/", _NO_RULES, _NO_RULES)
        try:
            copy_sources([source.replace(entries=tuple(
                entry for entry in source.entries if not _is_whiteout(layer_fd, entry.path, entry.mode))) for source in sources],
                root_fd, "/", Ownership())
        finally:
            close_sources(sources)
    finally:
        os.close(layer_fd)


def _is_whiteout(layer_fd: int, path: bytes, mode: int) -> bool:
    return stat.S_ISCHR(mode) and os.stat(path, dir_fd=layer_fd, follow_symlinks=False).st_rdev == 0


def _remove(root_fd: int, path: bytes) -> None:
    from mydocker.linux import beneath  # cold

    head, _, name = os.path.normpath(path).rpartition(b"/")
    try:
        fd = beneath.open_beneath(root_fd, head, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return  # not there
    try:
        trash.remove_at(fd, name)
    finally:
        os.close(fd)
