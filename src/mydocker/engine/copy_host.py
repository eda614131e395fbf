"""The host's side of `cp`: what a user's path means, with docker's rules and words. Paths of the host's are the caller's own.

Source: docker/cli `command/utils.go` ValidateOutputPath; go-archive `copy.go`.
"""
from __future__ import annotations

import errno
import os
import stat

from mydocker.base.errors import InvalidRequest, NotFound
from mydocker.base.record import Record
from mydocker.storage.diff import tar_entry, tar_tree

from .copy_rules import Target, name_of, says_content, says_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

#: As many links to links as docker follows at a destination.
_MAX_LINKS = 10


class HostSource(Record):
    """A file or directory to copy: an O_PATH descriptor, which the finder closes, and what it is called in the archive."""

    fd: int
    name: str
    is_directory: bool


def absolute(path: str) -> str:
    """Return an absolute path of the host's, its last `/` or `/.` kept."""
    cleaned = os.path.abspath(path)
    if says_content(path):
        return cleaned.rstrip("/") + "/."
    return cleaned.rstrip("/") + "/" if path.endswith("/") else cleaned


def find_source(path: str, *, follow: bool) -> HostSource:
    """Open what a path names; a link itself, unless `follow` or a `/` behind it says otherwise.

    Raises NotFound, InvalidRequest, OSError.
    """
    if not path:
        raise InvalidRequest("cp: source can not be empty")
    place = absolute(path)
    # `link/` and `link/.` mean what the link leads to.
    flags = os.O_PATH | os.O_CLOEXEC | (0 if follow or says_directory(path) else os.O_NOFOLLOW)
    try:
        fd = os.open(place, flags)
    except (FileNotFoundError, NotADirectoryError) as error:
        if isinstance(error, NotADirectoryError) and says_directory(path):
            raise InvalidRequest(f"cp: {path}: not a directory") from error
        raise NotFound(f"cp: {path}: {(error.strerror or '').lower()}") from error
    is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
    return HostSource(fd=fd, name=name_of(place), is_directory=is_directory)


def tar(source: HostSource, name: str) -> Generator[bytes]:
    """Return the tar of a source, called `name` in it."""
    if not source.is_directory:
        return tar_entry(source.fd, os.fsencode(name))
    return tar_tree(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=source.fd), os.fsencode(name))


def check_output(path: str) -> None:
    """Refuse a destination that nothing can be copied to. Raises NotFound, InvalidRequest."""
    if not path:
        raise InvalidRequest("cp: destination can not be empty")
    directory = os.path.dirname(os.path.abspath(path))
    if not os.path.exists(directory):
        raise NotFound(f'cp: invalid output path: directory "{directory}" does not exist')
    try:
        mode = os.stat(absolute(path)).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise InvalidRequest(f"cp: {path}: {(error.strerror or str(error)).lower()}") from error
    refuse_device(mode, f'invalid output path: "{path}"')


def refuse_device(mode: int, what: str) -> None:
    """Raise InvalidRequest for a device."""
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise InvalidRequest(f"cp: {what} must be a directory or a regular file: got a device")


def find_target(path: str) -> Target:
    """Return what is at a destination; a link there is followed, also to nowhere. Raises NotFound, InvalidRequest."""
    place = absolute(path)
    if says_directory(path):
        return Target(path=place, exists=os.path.isdir(place), is_directory=os.path.isdir(place))
    for _ in range(_MAX_LINKS + 1):
        try:
            mode = os.lstat(place).st_mode
        except FileNotFoundError:
            return Target(path=place)
        except OSError as error:
            raise InvalidRequest(f"cp: {path}: {(error.strerror or str(error)).lower()}") from error
        if not stat.S_ISLNK(mode):
            return Target(path=place, exists=True, is_directory=stat.S_ISDIR(mode))
        place = os.path.join(os.path.dirname(place), os.readlink(place))
    raise InvalidRequest(f"cp: too many symlinks in {path}")


def open_directory(path: str) -> int:
    """Return a handle on the directory to copy into; the caller closes it. Raises NotFound, InvalidRequest."""
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(f"cp: {path}: no such directory") from error
    except OSError as error:
        if error.errno != errno.ENOTDIR:
            raise
        raise InvalidRequest(f"cp: {path}: not a directory") from error
