"""Copy-up: an empty volume gets what the image has where it is mounted. Docker's rule, and its order: never over anything.

    _data is empty -> .copy/ (being copied) -> .fill/ (whole) -> its entries move into _data, one by one

A kill leaves `.copy`, which the next one throws away and begins again, or `.fill`, which the next one goes on with. The
directory `_data` itself is never replaced: a container that has the volume already sees it fill. Each entry moves by a rename
that replaces nothing, so what such a container writes at the same time stays (CVE-2020-1726 was a copy over a filled volume).

The caller holds the volume's lock: of two containers that come at the same time one copies, and the other finds it done.
"""
from __future__ import annotations

import os

from mydocker.base import trace
from mydocker.linux.syscalls import RENAME_NOREPLACE, renameat2

from . import trash
from .copying import TreeCopy, copy_metadata
from .volumes import DATA

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

COPY, FILL = ".copy", ".fill"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def fill(volume_fd: int, open_source: Callable[[], int | None]) -> None:
    """Fill a volume if it is empty. `open_source` returns the image's directory, or None where it has none. Raises OSError."""
    data_fd = os.open(DATA, _DIRECTORY, dir_fd=volume_fd)
    try:
        _move_in(volume_fd, data_fd)  # what a killed one had copied
        trash.remove_at(volume_fd, os.fsencode(COPY))
        if os.listdir(data_fd):
            return
        source_fd = open_source()
        if source_fd is None:
            return
        try:
            _copy(source_fd, volume_fd)
        finally:
            os.close(source_fd)
        trace.point("copied to volume")
        os.rename(COPY, FILL, src_dir_fd=volume_fd, dst_dir_fd=volume_fd)
        trace.point("volume copy whole")
        _move_in(volume_fd, data_fd)
    finally:
        os.close(data_fd)


def _copy(source_fd: int, volume_fd: int) -> None:
    os.mkdir(COPY, 0o700, dir_fd=volume_fd)
    try:
        target_fd = os.open(COPY, _DIRECTORY, dir_fd=volume_fd)
        try:
            trace.point("copying to volume")
            TreeCopy(source_fd, target_fd).copy()
        finally:
            os.close(target_fd)
    except BaseException:
        trash.remove_at(volume_fd, os.fsencode(COPY))
        raise


def _move_in(volume_fd: int, data_fd: int) -> None:
    """Move what was copied whole into the volume, and give the volume's directory the owner and mode of the image's."""
    try:
        fill_fd = os.open(FILL, _DIRECTORY, dir_fd=volume_fd)
    except FileNotFoundError:
        return
    try:
        status = os.fstat(fill_fd)  # its time changes with every entry that leaves
        for number, name in enumerate(os.listdir(fill_fd)):
            try:
                renameat2(fill_fd, name, data_fd, name, RENAME_NOREPLACE)
            except FileExistsError:
                pass  # a container that has the volume made it meanwhile
            if number == 0:
                trace.point("moved into volume")
        copy_metadata(fill_fd, data_fd, status)
    finally:
        os.close(fill_fd)
    trash.remove_at(volume_fd, os.fsencode(FILL))
