"""What tests of volumes share: images with content where volumes go, and a look into volumes."""
from __future__ import annotations

import json
import os
import tarfile
from typing import Any

from harness import Mydocker
from image_rig import Member, digest, directory, docker_archive, link, member, symlink, tar

#: A tree with something of every kind, at /data.
CONTENT: tuple[Member, ...] = (
    directory("data", uid=7, gid=8, mode=0o2750),
    member("data/file", b"of the image", uid=5, gid=6, mode=0o640, mtime=1_000_000_000),
    member("data/program", b"#!/bin/sh\n", mode=0o4755, uid=5),
    link("data/again", "data/file"),
    symlink("data/link", "../etc/passwd", uid=3, gid=4),
    directory("data/sub", mode=0o1777, uid=9),
    member("data/sub/deep", b"x", pax_headers={"SCHILY.xattr.user.note": "kept"}),
    member("data/pipe", type=tarfile.FIFOTYPE, mode=0o600),
)


def load_image(
    mydocker: Mydocker, busybox_tar: str, *members: Member, volumes: tuple[str, ...] = (), name: str = "rig:1",
    more: tuple[bytes, ...] = (),
) -> str:
    """Load an image of busybox with one more layer, and `more`; its config declares volumes. Returns its name."""
    with open(busybox_tar, "rb") as stream:
        layers = (stream.read(), tar(*members), *more)
    config = json.dumps({
        "os": "linux", "architecture": "amd64", "created": "2024-01-01T00:00:00Z",
        "config": {"Cmd": ["sh"], "Volumes": {path: {} for path in volumes} or None},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
    }).encode()
    mydocker("load", stdin=docker_archive(*layers, tags=(name,), config=config))
    return name


def data_of(mydocker: Mydocker, name: str) -> str:
    """Return the directory of a volume's files."""
    return f"{mydocker.root}/volume/{name}/_data"


def names(mydocker: Mydocker) -> list[str]:
    """Return the names of all volumes."""
    return mydocker("volume", "ls", "-q").out.split()


def mounts(mydocker: Mydocker, container: str) -> dict[str, dict[str, Any]]:
    """Return what a container mounts for the user, by where."""
    return {mount["Destination"]: mount for mount in mydocker.inspect(container)["Mounts"]}


def facts(path: str) -> dict[str, Any]:
    """Return all that a copy must keep, by path."""
    found: dict[str, Any] = {}
    for top, directories, files in os.walk(path):
        for name in (".", *directories, *files) if top == path else (*directories, *files):
            place = f"{top}/{name}"
            status = os.lstat(place)
            kind = oct(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns
            content: object = os.readlink(place) if os.path.islink(place) else ""
            if os.path.isfile(place) and not os.path.islink(place):
                with open(place, "rb") as stream:
                    content = stream.read(), status.st_nlink
            xattrs = {key: os.getxattr(place, key, follow_symlinks=False) for key in os.listxattr(place, follow_symlinks=False)}
            found[os.path.relpath(place, path)] = (*kind, content, xattrs)
    return found
