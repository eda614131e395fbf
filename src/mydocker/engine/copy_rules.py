"""Docker's rules of `cp`: which argument is a container's, and where a source lands. Pure, and the same in both directions.

Source: docker/cli `cp.go`; go-archive `copy.go` (PrepareArchiveCopy, CopyInfoDestinationPath), whose words the errors have.
"""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest, NotFound
from mydocker.base.record import Record
from mydocker.linux.inroot import clean


class Landing(Record):
    """Where a source lands: `name` in the directory `directory`; `.` is the directory itself."""

    directory: str
    name: str


class Target(Record):
    """What is at a destination: links there were followed, also to nowhere."""

    path: str
    exists: bool = False
    is_directory: bool = False


def split_argument(argument: str) -> tuple[str, str]:
    """Return (container, path) of an argument; the container is "" for a path of the host's.

    A path of the host's that holds a colon is written with its directory: `./a:b`.
    """
    container, colon, path = argument.partition(":")
    if argument.startswith("/") or not colon or container.startswith("."):
        return "", argument
    return container, path


def says_directory(path: str) -> bool:
    """Tell whether a path can only be a directory's."""
    return path.endswith(("/", "/.", "/..")) or path in (".", "..")


def says_content(path: str) -> bool:
    """Tell whether a path means what a directory holds, not the directory (`dir/.`)."""
    return path == "." or path.endswith("/.")


def name_of(path: str) -> str:
    """Return what a source is called in an archive: `.` for a directory's content, `/` for the root."""
    return "." if says_content(path) else (clean(path) or ["/"])[-1]


def land(name: str, *, is_directory: bool, target: Target) -> Landing:
    """Return where a source called `name` lands. Raises InvalidRequest (a directory onto a file), NotFound."""
    names = clean(target.path)
    if target.is_directory:
        return Landing(directory=target.path, name="." if name == "/" else name)
    if target.exists and is_directory:
        raise InvalidRequest(f"cp: cannot copy directory onto file {target.path}")
    if not target.exists and not is_directory and says_directory(target.path):
        raise NotFound(f"cp: no such directory: {target.path}")
    if not names:
        raise InvalidRequest(f"cp: {target.path}: not a directory")
    if says_content(target.path):
        return Landing(directory=target.path, name=name)  # which is not there, as opening it will say
    return Landing(directory=_directory_of(target.path, names), name=names[-1])


def _directory_of(path: str, names: list[str]) -> str:
    return ("/" if path.startswith("/") else "") + "/".join(names[:-1]) or "."
