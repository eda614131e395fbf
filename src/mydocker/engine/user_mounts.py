"""What the user mounts: as mounts of the runtime spec, among the engine's own, and the directories that are their sources."""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest

from .request import Volume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from mydocker.base.paths import Layout
    from mydocker.oci.runtime_spec import Mount

    from .request import ContainerConfig

#: Words of ours, and those that mean nothing to mount(2).
_NOT_OF_MOUNT = ("z", "Z", "nocopy", "rw", "norecursive", "toponly")


def volume_mount(volume: Volume) -> Mount:
    """Return the mount of a host directory or file, or of a volume."""
    if not volume.source:
        from .volume_mounts import tmpfs_mount  # cold: a volume that is a tmpfs

        return tmpfs_mount(volume)
    options = [option for option in volume.options if option not in _NOT_OF_MOUNT]
    if not any("private" in option or "shared" in option or "slave" in option for option in options):
        options.append("rprivate")
    if "ro" in options and "toponly" not in volume.options:
        options.append("rro")  # mounts below the host's directory, too
    kind = "bind" if "norecursive" in volume.options else "rbind"
    return {"destination": volume.target, "type": "bind", "source": volume.source, "options": [kind, *options]}


def place_users(standard: list[Mount], users: list[Mount]) -> list[Mount]:
    """Return all mounts: what the user mounts takes the place of ours, and /dev takes that of everything below it."""
    taken = {mount["destination"] for mount in users}
    standard = [mount for mount in standard if mount["destination"] not in taken and not (
        "/dev" in taken and mount["destination"].startswith("/dev/"))]
    # Docker, too, puts its files of /etc on top of what is mounted there.
    files = [mount for mount in standard if "/etc" in taken and mount["destination"].startswith("/etc/")]
    # A mount on a parent must not cover one below it.
    ordered = sorted([*files, *users], key=lambda mount: mount["destination"].count("/"))
    return [mount for mount in standard if mount not in files] + ordered


def make_sources(layout: Layout, config: ContainerConfig, directory: str, lower_dirs: Sequence[str]) -> None:
    """Make what a new container mounts where it is missing: host directories, as Docker does, and volumes.

    `directory` is the container's, with its write layer and bundle. Raises InvalidRequest, NotFound, OSError.
    """
    for volume in config.volumes:
        if type(volume) is Volume:
            _make_host_directory(volume)
    if any(type(volume) is not Volume for volume in config.volumes):
        from .volume_filling import make_volumes  # cold: directories of the host are seen as they are

        make_volumes(layout, config, directory, lower_dirs)


def _make_host_directory(volume: Volume) -> None:
    try:
        if not os.path.exists(volume.source):
            os.makedirs(volume.source, mode=0o755, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(f"make volume directory {volume.source}: {os.strerror(error.errno or 0)}") from error
