"""A step that is not in the cache: what it changes becomes a layer.

It gets a directory in layer/ under a temporary name, which becomes the layer as it is: COPY, ADD and WORKDIR write into it
through an overlay that only this process sees (view.py), RUN's container has it as its write layer. The tar of it is
read once, for digest and blob. Nothing has its final name before the whole build ends (job.py).
"""
from __future__ import annotations

import os

from mydocker.base import files
from mydocker.oci.media_types import MEDIA_LAYER
from mydocker.storage import blobs, diff
from mydocker.storage.ingest import ingest, read_file
from mydocker.storage.layers import NewLayer

from .failed import CommandFailed
from .request import HostMount
from .settle import settle
from .state import Layer
from .view import open_view

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .job import Job
    from .request import RunStep
    from .runmounts import Preparation
    from .state import StageState


def change_files(
    job: Job, state: StageState, key: str, text: str, change: Callable[[int], None], *, is_linked: bool
) -> None:
    """Make a layer of what `change` does below the root; it is given a descriptor that can be written below.

    With `is_linked` the root is empty: what is below is neither seen nor followed (COPY --link).
    """
    new = NewLayer(job.layout)
    try:
        _prepare_upper(job, state, new)
        for name in ("work", "empty"):
            os.mkdir(f"{new.path}/{name}", 0o755)
        lower_dirs = ([] if is_linked else job.lower_dirs(state)) or [f"{new.path}/empty"]
        root_fd = open_view(lower_dirs, f"{new.path}/diff", f"{new.path}/work")
        try:
            change(root_fd)
        finally:
            os.close(root_fd)
        _finish_layer(job, state, new, key, text)
    except BaseException:
        new.discard()
        raise


def move_linked(job: Job, state: StageState, key: str, text: str) -> bool:
    """Put a linked layer that was made on other layers on those of this state; tells whether there is one.

    Its blob is the same there, its directory another: that is named by all that is below it.
    """
    known = job.find_linked(key)
    if known is None or known.layer is None:
        return False
    below = state.layers
    digest = known.layer.blob["digest"]
    try:
        blob_fd = os.open(blobs.path(job.layout, digest), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False  # removed meanwhile
    try:
        taken = ingest(job.layout, read_file(blob_fd), keep_blob=False, digest=digest, diff_id=known.layer.diff_id)
    finally:
        os.close(blob_fd)
    assert taken.layer is not None
    layer = known.layer.replace(name=os.path.basename(taken.layer.path))
    job.stage_layer([*below, layer], taken)
    state.layers = (*below, layer)
    job.remember(key, known.created, below, layer)
    state.add_history(known.created, text, is_empty=False)
    return True


def run_command(
    job: Job, state: StageState, key: str, text: str, step: RunStep, preparing: Preparation | None,
    write: Callable[[str, bytes], None],
) -> None:
    """Make a layer of what a command writes. Raises CommandFailed, and what the engine raises."""
    new = NewLayer(job.layout)
    try:
        places: list[tuple[bytes, int]] = []
        if preparing is not None:
            preparing.prepare(new.path)
            places = _missing_places(job, state, preparing.mounts)
            step = step.replace(env={**step.env, **preparing.env}, mounts=tuple(preparing.mounts))
        if step.script:
            step = step.replace(mounts=(*step.mounts, _mount_script(f"{new.path}/script", step)))
        upper_dir = f"{new.path}/diff"
        code = job.run_step(step, upper_dir, write)
        if code:
            raise CommandFailed(
                f"the command {' '.join(step.argv)[:200]!r} returned a non-zero code: {code}", exit_code=code)
        if places:
            from .runmounts import remove_places  # cold

            remove_places(upper_dir, places)
        _finish_layer(job, state, new, key, text)
    except BaseException:
        new.discard()
        raise


def _mount_script(path: str, step: RunStep) -> HostMount:
    """Store the script that a step runs, and return the mount that makes it the step's command."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o700)
    try:
        os.fchmod(fd, 0o755)  # whoever the step's user is, and whatever our umask
        files.write_all(fd, step.script.encode("utf-8", "surrogateescape"))
    finally:
        os.close(fd)
    return HostMount(source=path, target=step.argv[0], is_read_only=True)


def _missing_places(job: Job, state: StageState, mounts: list[HostMount]) -> list[tuple[bytes, int]]:
    """Return what will be made in the layer only to be mounted on."""
    from .runmounts import missing_places  # cold

    root_fd = open_view(job.lower_dirs(state) or [job.empty_dir()])
    try:
        return missing_places(root_fd, [mount.target for mount in mounts])
    finally:
        os.close(root_fd)


def _prepare_upper(job: Job, state: StageState, new: NewLayer) -> None:
    """Give the root of a new layer owner and mode of the one below, as `stat /` shows the top one's."""
    lower_dirs = job.lower_dirs(state)
    if lower_dirs:
        below = os.stat(lower_dirs[0])
        os.fchown(new.diff_fd, below.st_uid, below.st_gid)
        os.fchmod(new.diff_fd, below.st_mode & 0o7777)


def _finish_layer(job: Job, state: StageState, new: NewLayer, key: str, text: str) -> None:
    """Make what is in a new layer's directory the top of the state. Raises OSError, Unsupported."""
    for name in os.listdir(new.path):
        if name != "diff":
            job.throw_away(f"{new.path}/{name}")
    created = job.now()
    upper_dir = f"{new.path}/diff"
    below = state.layers
    layer = None
    if os.listdir(upper_dir):
        size_bytes, entries = settle(upper_dir, job.epoch_ns)
        taken = ingest(job.layout, diff.read_diff(upper_dir), unpack=False)
        layer = Layer(name=os.path.basename(new.path), diff_id=taken.diff_id, blob={
            "mediaType": MEDIA_LAYER, "digest": taken.digest, "size": taken.size_bytes})
        job.stage_layer([*below, layer], taken.replace(layer=new, unpacked_bytes=size_bytes, entries=entries))
        state.layers = (*below, layer)
    else:
        new.discard()
    job.remember(key, created, below, layer)
    state.add_history(created, text, is_empty=layer is None)
