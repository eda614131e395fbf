"""What a path means in a root that somebody else fills: its names, and where a link at its end leads, also to what is not there.

Owns what openat2(2) does not answer: it opens what exists (beneath.py), and here is asked for the name of what may not yet.
Takes no lock; whoever uses an answer opens it again below the root, so a link swapped meanwhile leads nowhere else but inside.
"""
from __future__ import annotations

import os

from . import beneath

#: As many symbolic links in a row as the kernel follows.
MAX_LINKS = 40


def clean(path: str) -> list[str]:
    """Return the names of a path without `.`, `..` resolved as in a root."""
    names: list[str] = []
    for name in path.split("/"):
        if name == "..":
            names[-1:] = []
        elif name not in ("", "."):
            names.append(name)
    return names


def follow_file(root_fd: int, path: str, *, followed: int = 0) -> tuple[str, bytes]:
    """Return directory and name of a file in a root, not the root itself; a link there is followed, also one to nowhere."""
    names = clean(path)
    try:
        fd = beneath.open_in_root(root_fd, "/".join(names), os.O_PATH)
    except OSError:
        target = _link_at(root_fd, names) if followed < MAX_LINKS else ""
        return follow_file(root_fd, target, followed=followed + 1) if target else ("/".join(names[:-1]), os.fsencode(names[-1]))
    try:
        inside = clean(path_in(root_fd, fd))
        return "/".join(inside[:-1]), os.fsencode(inside[-1])
    finally:
        os.close(fd)


def _link_at(root_fd: int, names: list[str]) -> str:
    """Return the path in the root that the link at a path means; nothing, when there is no link."""
    try:
        parent_fd = beneath.open_in_root(root_fd, "/".join(names[:-1]), os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return ""
    try:
        return target_of(root_fd, parent_fd, os.fsencode(names[-1]))
    except OSError:
        return ""
    finally:
        os.close(parent_fd)


def target_of(root_fd: int, parent_fd: int, name: bytes) -> str:
    """Return the path in the root that a link means. Raises OSError (EINVAL) when it is none."""
    target = os.fsdecode(os.readlink(name, dir_fd=parent_fd))
    return target if target.startswith("/") else f"{path_in(root_fd, parent_fd)}/{target}"


def path_in(root_fd: int, fd: int) -> str:
    """Return a descriptor's path in a root: both lie in one mount namespace, where paths begin at the root's."""
    root, path = os.readlink(f"/proc/self/fd/{root_fd}"), os.readlink(f"/proc/self/fd/{fd}")
    return path if root == "/" else path.removeprefix(root)
