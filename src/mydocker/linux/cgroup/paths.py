"""Directories of cgroups: their paths, their making and their complete removal.

Owns the file operations that are the same for both versions. Knows nothing of limits. Below a
container's cgroup everything may have been made, and is changed meanwhile, by the container: trees
are walked by descriptor, one level at a time, so neither their depth nor a name in them matters.
"""
from __future__ import annotations

import errno
import os

from mydocker.base.errors import Conflict, Denied, InvalidRequest, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from mydocker.base.errors import MydockerError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


def check_path(cgroups_path: str) -> str:
    """Return an absolute cgroup path such as `/mydocker/<id>` as it is.

    At least two levels are asked for, so that no slip can hit a hierarchy's root or everything
    below one of its top directories. Raises InvalidRequest.
    """
    parts = cgroups_path.split("/")
    if parts[0] or len(parts) < 3 or any(part in ("", ".", "..") for part in parts[1:]):
        raise InvalidRequest(f"use cgroup {cgroups_path!r}: not an absolute path of two levels or more")
    return cgroups_path


def clean_path(cgroups_path: str) -> str:
    """Return a `linux.cgroupsPath` as an absolute path without `.`, `..` and doubled slashes.

    A relative one is taken from the root of each hierarchy: everybody finds it there, whatever cgroup they are in
    themselves. Raises InvalidRequest for the root itself.
    """
    parts: list[str] = []
    for part in cgroups_path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    if not parts or "\0" in cgroups_path or "\n" in cgroups_path:
        raise InvalidRequest(f"use cgroup {cgroups_path!r}: not a path below the root of a hierarchy")
    return "/" + "/".join(parts)


def default_path(container_id: str) -> str:
    """Return the cgroup of a bundle that names none: a top-level one for root, else next to the caller's own on v2.

    Not among the engine's, which removes what it finds at a path of its own. The caller's own group has a process, namely the
    caller, so on v2 one below it could have no controllers.
    """
    if os.geteuid() != 0:
        for line in read_text("/proc/self/cgroup").splitlines():
            if line.startswith("0::"):
                return f"{os.path.dirname(line[3:]).rstrip('/')}/mydocker-{container_id}"
    return f"/mydocker-{container_id}"


def read_text(path: str) -> str:
    """Return the content of one cgroup file. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(fd, 1 << 16):
            chunks.append(chunk)
    finally:
        os.close(fd)
    return b"".join(chunks).decode("utf-8", "replace")


def write_text(path: str, value: str) -> None:
    """Write one value into one cgroup file, in one write(2) as the kernel wants it. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def ensure_directory(mount_point: str, cgroups_path: str) -> list[str]:
    """Make a cgroup's directory below a hierarchy, and return the parents that had to be made, outermost first.

    Raises FileExistsError when the cgroup itself is there, Denied, Unavailable.
    """
    made: list[str] = []
    path = mount_point + cgroups_path
    try:
        try:
            os.mkdir(path, 0o755)
        except FileNotFoundError:
            made = _make_parents(mount_point, cgroups_path)
            os.mkdir(path, 0o755)
    except FileExistsError:
        raise
    except OSError as error:
        raise to_error(f"make cgroup {path}", error) from error
    return made


def _make_parents(mount_point: str, cgroups_path: str) -> list[str]:
    made = []
    path = mount_point
    for part in cgroups_path.split("/")[1:-1]:
        path = f"{path}/{part}"
        try:
            os.mkdir(path, 0o755)
            made.append(path)
        except FileExistsError:
            pass  # there already, or made by another command at this moment
    return made


def to_error(action: str, error: OSError) -> MydockerError:
    """Return the error that a failed operation on a cgroup is to the caller, to be raised `from` it."""
    message = f"{action}: {errno.errorcode.get(error.errno or 0, str(error))}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return Denied(message, hint="run as root, or in a cgroup that was delegated to you")
    if error.errno == errno.EROFS:
        return Denied(message, hint="cgroups are mounted read-only here: a container needs --privileged")
    if error.errno in (errno.EINVAL, errno.ERANGE, errno.EOVERFLOW, errno.ENODEV, errno.ENXIO):
        return InvalidRequest(message)  # ENODEV: a limit for a device that the machine lacks
    if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
        return Conflict(message)
    return Unavailable(message)


def walk(directory: str) -> Iterator[int]:
    """Yield a descriptor of every directory of a tree, parents first; each is good until the next.

    Directories that vanish meanwhile are left out. Raises OSError for the first one only.
    """
    fd = os.open(directory, _DIRECTORY)
    pending = [_subdirectories(fd)]
    try:
        yield fd
        while pending:
            if pending[-1]:
                name, into = pending[-1].pop(), True
            else:
                pending.pop()
                if not pending:
                    return
                name, into = "..", False
            try:
                below = os.open(name, _DIRECTORY, dir_fd=fd)
            except FileNotFoundError:
                if into:
                    continue
                return
            os.close(fd)
            fd = below
            if into:
                yield fd
                pending.append(_subdirectories(fd))
    finally:
        os.close(fd)


def remove_tree(directory: str) -> None:
    """Remove a cgroup and those below it, which must hold no process. Missing is fine. Raises OSError (EBUSY).

    Never by a path longer than one name: a container may nest deeper than PATH_MAX.
    """
    try:
        os.rmdir(directory)
        return
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
    fd = os.open(directory, _DIRECTORY)
    names: list[str] = []
    try:
        while True:
            below = _subdirectories(fd, first=True)
            if below:
                target = os.open(below[0], _DIRECTORY, dir_fd=fd)
                names.append(below[0])
            elif names:
                target = os.open("..", _DIRECTORY, dir_fd=fd)
                try:
                    os.rmdir(names.pop(), dir_fd=target)
                except BaseException:
                    os.close(target)
                    raise
            else:
                break
            os.close(fd)
            fd = target
    finally:
        os.close(fd)
    os.rmdir(directory)


def _subdirectories(fd: int, *, first: bool = False) -> list[str]:
    names: list[str] = []
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    names.append(entry.name)
                    if first:
                        break
    except FileNotFoundError:
        pass  # removed while it was open: nothing is below it any more
    return names
