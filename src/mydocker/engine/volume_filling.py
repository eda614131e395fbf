"""Making the volumes of a new container, and filling those that are empty with what its image has there.

The record that names them is written already (storage/volumes.py says why), and one volume is locked at a time. The image is
read through the same overlay that the container will stand on, mounted where nobody sees it (exporting.py), so that a link
or a `..` in it leads nowhere but inside (CVE-2022-23648).
"""
from __future__ import annotations

import errno
import os

from mydocker.base.errors import InvalidRequest, NotFound
from mydocker.linux import beneath
from mydocker.storage import filling, volumes

from .exporting import open_merged
from .volume_request import VolumeMount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from mydocker.base.paths import Layout

    from .request import ContainerConfig


def make_volumes(layout: Layout, config: ContainerConfig, directory: str, lower_dirs: Sequence[str]) -> None:
    """Make the volumes of a new container where they are missing, and fill the empty ones. See user_mounts.py `make_sources`."""
    with _ImageView(directory, tuple(lower_dirs)) as image:
        for volume in config.volumes:
            if isinstance(volume, VolumeMount):
                _make_volume(layout, volume, image)


def _make_volume(layout: Layout, mount: VolumeMount, image: _ImageView) -> None:
    lock, stored = volumes.ensure(layout, volumes.Volume(
        name=mount.volume, created_ns=0, labels=mount.labels, options=mount.settings, anonymous=mount.anonymous))
    with lock:
        if stored.options and mount.source and not os.path.isdir(mount.source):
            raise NotFound(f"volume {mount.volume}: its directory {mount.source} is not there")
        if mount.nocopy or mount.subpath or mount.filesystem:
            return
        if stored.options:
            filling.fill_directory(mount.source, lambda: image.open(mount.target, mount.volume))
        else:
            filling.fill(lock.fd, lambda: image.open(mount.target, mount.volume))


class _ImageView:
    """What the image has, as the container would see it; mounted when it is first asked for."""

    def __init__(self, directory: str, lower_dirs: tuple[str, ...]) -> None:
        self._directory = directory
        self._lower_dirs = lower_dirs
        self._root_fd = -1

    def open(self, path: str, volume: str) -> int | None:
        """Return the directory at a path, links followed in the image; None where there is none. The caller closes it."""
        if self._root_fd < 0:
            self._root_fd = open_merged(self._directory, self._lower_dirs)
        try:
            return beneath.open_in_root(self._root_fd, path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            raise InvalidRequest(f"volume {volume}: {path} is no directory in the image") from error

    def __enter__(self) -> _ImageView:
        return self

    def __exit__(self, *_: object) -> None:
        if self._root_fd >= 0:
            os.close(self._root_fd)
