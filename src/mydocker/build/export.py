"""`--output`: what was built as files (local, tar) or as an archive of the image (oci, docker), outside of the store."""
from __future__ import annotations

import os
import sys

from mydocker.base import files
from mydocker.image import store
from mydocker.storage import diff

from .ignore import IgnoreRules
from .modes import Ownership
from .sources import close_sources, find_sources
from .tree import copy_sources
from .view import open_view

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from mydocker.base.paths import Layout

_FORMATS = {"oci": "oci-archive", "oci-dir": "oci-dir", "docker": "docker-archive"}


def export_files(lower_dirs: Sequence[str], kind: str, destination: str) -> None:
    """Write the root file system of the target to a directory, or as a tar (`-`: standard output). Raises OSError."""
    root_fd = open_view(lower_dirs)
    try:
        if kind == "local":
            _export_directory(root_fd, destination)
        else:
            _export_tar(root_fd, destination)
    finally:
        os.close(root_fd)


def _export_directory(root_fd: int, destination: str) -> None:
    os.makedirs(destination, exist_ok=True)
    rules = IgnoreRules([])
    sources = find_sources(root_fd, "/", rules, rules)
    fd = os.open(destination, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        copy_sources(sources, fd, "/", Ownership())
    finally:
        os.close(fd)
        close_sources(sources)


def _export_tar(root_fd: int, destination: str) -> None:
    fd = os.dup(sys.stdout.fileno()) if destination == "-" else os.open(
        destination, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        read = diff.read_diff(f"/proc/self/fd/{root_fd}")
        while data := read():
            files.write_all(fd, data)
    finally:
        os.close(fd)


def export_image(layout: Layout, digest: str, kind: str, destination: str, references: Sequence[str]) -> None:
    """Write the built image as an archive, or a directory. Raises Conflict (it is not empty), OSError."""
    names = list(references) or [digest]
    target: str | int = 1 if destination == "-" else destination
    store.Images(layout).save(names, target, format=_FORMATS[kind])
