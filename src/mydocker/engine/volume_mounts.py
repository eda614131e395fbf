"""Which volumes a container has: pinned when it is made, opened when it starts. volume_filling.py makes them.

Pinning gives anonymous volumes their names, takes over what `--volumes-from` says, and adds the paths that the image declares.
All of it is in the container's record before the first volume is made: what a killed command made is known by the record.
"""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest, NotFound, RuntimeFailed
from mydocker.base.ids import new_hex
from mydocker.linux import beneath
from mydocker.linux import syscalls as sc
from mydocker.storage import volumes

from .request import Volume, clean_path
from .volume_request import VolumeMount, plan_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from mydocker.base.paths import Layout
    from mydocker.image.store import ResolvedImage
    from mydocker.oci.runtime_spec import Mount, Spec

    from .request import ContainerConfig
    from .store import ContainerRecord, Store

_NAME_DIGITS = 64
#: More than any image has use for; each is a directory that outlives the container.
_MAX_IMAGE_VOLUMES = 256
#: Where an image says nothing (CVE-2019-16884: what believes in /proc would believe the image), with what is harmless there.
_ENGINES_OWN = {"/proc": (), "/sys": ("/sys/fs/cgroup",), "/dev": ("/dev/shm",)}


def pin_volumes(store: Store, config: ContainerConfig, resolved: ResolvedImage) -> ContainerConfig:
    """Return the configuration with every volume named and its source told. Raises InvalidRequest, NotFound."""
    is_mapped = config.isolation is not None and config.isolation.user_mode == "private"
    found = [
        _pin(store.layout, volume, is_mapped=is_mapped) if isinstance(volume, VolumeMount) else volume
        for volume in config.volumes]
    taken = {volume.target for volume in found}
    if config.isolation is not None:
        taken.update(target for target, _ in config.isolation.tmpfs)
    sources = tuple((store.find(name), mode) for name, mode in config.volumes_from)
    for container_id, mode in sources:
        for volume in _volumes_of(store, container_id, mode):
            if volume.target not in taken:
                taken.add(volume.target)
                found.append(volume)
    for target in image_volumes(resolved):
        if target not in taken:
            mount = VolumeMount(source="", target=target, anonymous=True)
            found.append(_pin(store.layout, mount, is_mapped=is_mapped))
    return config.replace(volumes=tuple(found), volumes_from=sources)


def _pin(layout: Layout, mount: VolumeMount, *, is_mapped: bool) -> VolumeMount:
    name = mount.volume or new_hex(_NAME_DIGITS)
    try:
        settings = volumes.load(layout, name).options
    except NotFound:
        settings = mount.settings
    options = mount.options
    source = volumes.data_dir(layout, name)
    if settings:
        kind, device, words = plan_settings(settings, f"volume {name}")
        options += tuple(word for word in words if word not in options)
        if kind == "tmpfs":
            return mount.replace(volume=name, filesystem="tmpfs", options=options)
        source = device
    elif is_mapped:
        options += ("idmap",)  # the files keep the ids that they have for everybody else
    return mount.replace(volume=name, source=f"{source}/{mount.subpath}" if mount.subpath else source, options=options)


def _volumes_of(store: Store, container_id: str, mode: str) -> Iterator[Volume]:
    """Yield the mounts of another container, read-only with mode `ro`."""
    for item in store.load(container_id).config.get("volumes") or ():
        volume = from_document(item)
        if mode == "ro" and "ro" not in volume.options:
            volume = volume.replace(options=(*(word for word in volume.options if word != "rw"), "ro"))
        # What it has is filled: an emptied volume is the user's own doing.
        yield volume.replace(nocopy=True) if isinstance(volume, VolumeMount) else volume


def from_document(item: dict[str, Any]) -> Volume:
    """Return one mount as it is in a container's record."""
    kind = VolumeMount if "volume" in item else Volume
    values = {key: item[key] for key in kind._fields if key in item}
    for key in ("labels", "settings"):
        if key in values:
            values[key] = tuple((str(name), str(value)) for name, value in values[key])
    return kind(**{**values, "options": tuple(values.get("options") or ())})


def image_volumes(resolved: ResolvedImage) -> list[str]:
    """Return where an image wants volumes, judged: the words are the image's, and hostile. Raises InvalidRequest."""
    declared = (resolved.config.get("config") or {}).get("Volumes") or {}
    if not isinstance(declared, dict) or len(declared) > _MAX_IMAGE_VOLUMES:
        raise InvalidRequest(f"image {resolved.reference}: its VOLUME paths cannot be used: {len(declared)} of them")
    return list(dict.fromkeys(_judge_image_path(resolved.reference, path) for path in declared))


def _judge_image_path(reference: str, path: str) -> str:
    """Return a path inside; refused is what climbs (CVE-2022-23648), is the root, or is the engine's own (CVE-2019-16884)."""
    cleaned = clean_path(f"/{path}")
    is_own = any(
        (cleaned == own or cleaned.startswith(f"{own}/")) and cleaned not in harmless for own, harmless in _ENGINES_OWN.items())
    is_text = not any(char in "\0\n" or "\ud800" <= char <= "\udfff" for char in path)
    if cleaned == "/" or is_own or ".." in path.split("/") or not is_text or len(path) >= 4096:
        raise InvalidRequest(
            f"image {reference}: VOLUME {path[:200]!r} is no place for a volume", hint="the image is broken, or hostile")
    return cleaned


def tmpfs_mount(volume: Volume) -> Mount:
    """Return the mount of a volume that is a tmpfs: each container's own, because nothing is mounted on the host."""
    copies = isinstance(volume, VolumeMount) and not volume.nocopy
    options = [word for word in volume.options if word not in ("z", "Z", "rw")]
    return {
        "destination": volume.target, "type": "tmpfs", "source": "tmpfs",
        "options": ["nosuid", "nodev", *(["tmpcopyup"] if copies and "ro" not in options else []), *options]}


def open_subpaths(record: ContainerRecord, spec: Spec) -> Spec:
    """Return the spec with detached mounts, as `/proc/self/fd/N`, for what is mounted of the inside of a volume.

    What is there a container has made, and may change at this moment: no symbolic link is followed. The descriptors stay
    open for the runtime, which is called next. Raises NotFound, InvalidRequest.
    """
    opened: dict[str, int] = {}
    for item in record.config.get("volumes") or ():
        volume = from_document(item)
        if isinstance(volume, VolumeMount) and volume.subpath and volume.source:
            opened[volume.target] = _open_subpath(volume)
    mounts: list[Mount] = [
        {**mount, "source": f"/proc/self/fd/{opened[mount['destination']]}"} if mount["destination"] in opened else mount
        for mount in spec.get("mounts", ())]
    return {**spec, "mounts": mounts}


def _open_subpath(volume: VolumeMount) -> int:
    root_fd = os.open(volume.source.removesuffix(f"/{volume.subpath}"), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = beneath.open_beneath(root_fd, volume.subpath, os.O_PATH)
    except FileNotFoundError:
        raise NotFound(f"volume {volume.volume}: subpath {volume.subpath}: there is no such file or directory") from None
    except OSError as error:
        raise InvalidRequest(f"volume {volume.volume}: subpath {volume.subpath}: {os.strerror(error.errno or 0)}") from error
    finally:
        os.close(root_fd)
    try:
        return sc.open_tree(fd, "", sc.OPEN_TREE_CLONE | sc.OPEN_TREE_CLOEXEC | sc.AT_EMPTY_PATH | sc.AT_RECURSIVE)
    except OSError as error:
        raise RuntimeFailed(f"volume {volume.volume}: subpath {volume.subpath}: {os.strerror(error.errno or 0)}") from error
    finally:
        os.close(fd)
