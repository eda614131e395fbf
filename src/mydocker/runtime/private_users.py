"""A container's root for user ids of its own: overlayfs on id-mapped layers, at a place that these ids can reach.

The files on disk keep the ids of the image. Each lower directory, and the directory of the write layer, is seen through a
mount that maps ids as the container's user namespace does; the overlay on top of them is mounted with the machine's
rights, so the layers' own marks (trusted.overlay.*) count. All of it happens in a mount namespace that nobody else
sees: there a tmpfs covers a directory that every user may enter, because a state root is for root alone.

Source: mount_setattr(2) "ID-mapped mounts" (overlayfs takes them as layers since Linux 5.19).
"""
from __future__ import annotations

import os
from contextlib import contextmanager

from mydocker.base.errors import InvalidRequest, RuntimeFailed, Unsupported
from mydocker.linux import syscalls as sc

from .idmap import open_mapped_userns
from .rootfs import LOWER_SEPARATOR, attach, mount_overlay, open_bind, open_filesystem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mydocker.oci.runtime_spec import IdMapping, Mount, Spec

#: Directories that every machine has, every user may enter, and nothing of a container's start comes from.
_PLACES = ("/mnt", "/media", "/srv", "/opt", "/home")
_PATH_DIR = sc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def mount_mapped_root(spec: Spec, root_mount: Mount) -> str:
    """Mount the container's root with its ids mapped, and return where. Requires a mount namespace of one's own.

    Raises Unsupported, RuntimeFailed, OSError.
    """
    place = _find_place(spec)
    attach(open_filesystem("tmpfs", "tmpfs", ("mode=755",), sc.MOUNT_ATTR_NOSUID), os.open(place, _PATH_DIR))
    linux = spec["linux"]
    userns = open_mapped_userns(linux.get("uidMappings", ()), linux.get("gidMappings", ()), field="linux.")
    try:
        options = _map_layers(place, list(root_mount.get("options", ())), userns)
    finally:
        os.close(userns)
    # It covers the layers; runc wants to find its path outside, too, where it is just a directory (for `exec`).
    # overlayfs makes files with the ids of whoever mounted it: in a mapped layer there is no id for the machine's root.
    with _fs_ids(_first(linux.get("uidMappings", ())), _first(linux.get("gidMappings", ()))):
        mount_overlay(place, options)
    return place


def _first(mappings: Iterable[IdMapping]) -> int:
    """Return the machine's id for the container's root."""
    for mapping in mappings:
        if mapping["containerID"] == 0:
            return mapping["hostID"]
    raise InvalidRequest("linux.uidMappings: there is no root in the container")


@contextmanager
def _fs_ids(uid: int, gid: int) -> Iterator[None]:
    """Be this user for a while, with every right that this process has."""
    permitted = sc.capget()[1]
    os.setresgid(gid, gid, 0)
    os.setresuid(uid, uid, 0)  # root stays the saved id, so the permitted capabilities stay, too (capabilities(7))
    try:
        sc.capset(permitted, permitted, 0)
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)


def _find_place(spec: Spec) -> str:
    named = [mount.get("source", "") for mount in spec.get("mounts", ())]
    sources = [os.path.realpath(source) for source in named if source.startswith("/")]
    for place in _PLACES:
        is_free = not any(source == place or source.startswith(f"{place}/") for source in sources)
        if is_free and os.path.isdir(place) and os.path.realpath(place) == place and os.stat(place).st_mode & 0o001:
            return place
    raise RuntimeFailed(f"mount the root file system: none of {', '.join(_PLACES)} is free for it")


def _map_layers(place: str, options: list[str], userns: int) -> list[str]:
    """Return the overlay's options with every directory replaced by a mapped view of it."""
    mapped: dict[str, str] = {}

    def view(path: str) -> str:
        if path not in mapped:
            mapped[path] = f"{place}/layer-{len(mapped)}"
            os.mkdir(mapped[path], 0o755)
            _mount_mapped(path, mapped[path], userns)
        return mapped[path]

    words = []
    for option in options:
        key, _, value = option.partition("=")
        if key == "lowerdir":
            places = value.split(LOWER_SEPARATOR)
            if places[-1] == "/":
                raise Unsupported("userns private: the image `host` is the machine's own files, which keep the machine's ids")
            option = f"{key}={LOWER_SEPARATOR.join(view(path) for path in places)}"
        elif key in ("upperdir", "workdir"):
            # Both by way of the directory that holds them: overlayfs wants them on one mount.
            parent, _, name = value.rpartition("/")
            option = f"{key}={view(parent)}/{name}"
        words.append(option)
    return words


def _mount_mapped(source: str, target: str, userns: int) -> None:
    mount = open_bind(source, recursive=False)
    try:
        sc.mount_setattr(mount, "", sc.AT_EMPTY_PATH, sc.MOUNT_ATTR_IDMAP, 0, 0, userns)
    except OSError as error:
        os.close(mount)
        raise Unsupported(
            f"userns private: map the ids of {source}: {os.strerror(error.errno or 0)}",
            hint="the kernel (Linux 5.19) or the file system of the state root cannot") from error
    attach(mount, os.open(target, _PATH_DIR))
