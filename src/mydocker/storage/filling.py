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
from mydocker.base.record import Record
from mydocker.linux.syscalls import RENAME_NOREPLACE, renameat2

from . import trash
from .copying import TreeCopy, copy_metadata
from .volumes import DATA

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Staging(Record):
    """Where a copy is made, on the file system of what it is for: the directory, and the names there before and after."""

    fd: int
    copy: str = ".copy"
    whole: str = ".fill"


def fill(volume_fd: int, open_source: Callable[[], int | None]) -> None:
    """Fill a volume if it is empty. `open_source` returns the image's directory, or None where it has none. Raises OSError."""
    data_fd = os.open(DATA, _DIRECTORY, dir_fd=volume_fd)
    try:
        _fill(data_fd, Staging(fd=volume_fd), open_source)
    finally:
        os.close(data_fd)


def fill_directory(path: str, open_source: Callable[[], int | None]) -> None:
    """The same for a volume that is a directory of the machine, where the copy is made in that itself."""
    data_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _fill(data_fd, Staging(fd=data_fd, copy=".mydocker-copy", whole=".mydocker-fill"), open_source)
    finally:
        os.close(data_fd)


def _fill(data_fd: int, staging: Staging, open_source: Callable[[], int | None]) -> None:
    _move_in(staging, data_fd)  # what a killed one had copied
    trash.remove_at(staging.fd, os.fsencode(staging.copy))
    if os.listdir(data_fd):
        return
    source_fd = open_source()
    if source_fd is None:
        return
    try:
        _copy(source_fd, staging)
    finally:
        os.close(source_fd)
    trace.point("copied to volume")
    os.rename(staging.copy, staging.whole, src_dir_fd=staging.fd, dst_dir_fd=staging.fd)
    trace.point("volume copy whole")
    _move_in(staging, data_fd)


def _copy(source_fd: int, staging: Staging) -> None:
    os.mkdir(staging.copy, 0o700, dir_fd=staging.fd)
    try:
        target_fd = os.open(staging.copy, _DIRECTORY, dir_fd=staging.fd)
        try:
            trace.point("copying to volume")
            TreeCopy(source_fd, target_fd).copy()
        finally:
            os.close(target_fd)
    except BaseException:
        trash.remove_at(staging.fd, os.fsencode(staging.copy))
        raise


def _move_in(staging: Staging, data_fd: int) -> None:
    """Move what was copied whole into the volume, and give the volume's directory the owner and mode of the image's."""
    try:
        whole_fd = os.open(staging.whole, _DIRECTORY, dir_fd=staging.fd)
    except FileNotFoundError:
        return
    try:
        status = os.fstat(whole_fd)  # its time changes with every entry that leaves
        for number, name in enumerate(os.listdir(whole_fd)):
            try:
                renameat2(whole_fd, name, data_fd, name, RENAME_NOREPLACE)
            except FileExistsError:
                pass  # a container that has the volume made it meanwhile
            if number == 0:
                trace.point("moved into volume")
        copy_metadata(whole_fd, data_fd, status)
    finally:
        os.close(whole_fd)
    trash.remove_at(staging.fd, os.fsencode(staging.whole))
    os.utime(data_fd, ns=(status.st_atime_ns, status.st_mtime_ns))  # where the copy was made in the directory itself
