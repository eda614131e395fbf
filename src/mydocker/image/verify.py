"""`image verify`: every stored byte against the digest that names it, every unpacked layer against its blob.

A layer's directory has no digest of its own, so its blob is unpacked once more under a temporary name and the two trees are
compared: types, owners, modes, times, attributes, links and content. What is checked is held, so that no removal meets it;
nothing is repaired.
"""
from __future__ import annotations

import os
import stat

from mydocker.base.errors import Corrupt, MydockerError, NotFound
from mydocker.base.record import Record
from mydocker.oci.digest import chain_ids
from mydocker.oci.image_spec import diff_ids_of
from mydocker.oci.reference import parse
from mydocker.storage import blobs, layer_locks, layers
from mydocker.storage.ingest import ingest, read_file

from . import index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from mydocker.base.paths import Layout
    from mydocker.oci.image_spec import Descriptor

_COMPARE_BYTES = 1 << 20


class VerifiedImage(Record):
    """One image and what is wrong with it: nothing, when it is as it was stored."""

    reference: str           # familiar; its manifest's digest when it has no name
    manifest_digest: str
    faults: tuple[str, ...]


def verify(layout: Layout, descriptors: Sequence[Descriptor]) -> Iterator[VerifiedImage]:
    """Yield each image as it is checked; layers that several images share are checked once."""
    layers.sweep(layout)
    names: dict[str, list[str]] = {}
    for descriptor in descriptors:
        names.setdefault(descriptor["digest"], []).append(index.name_of(descriptor))
    checked: dict[tuple[str, str], str] = {}
    for digest, found in names.items():
        reference = ", ".join(parse(name).familiar for name in found if name) or digest
        faults = tuple(fault for fault in _verify_image(layout, digest, checked) if fault)
        yield VerifiedImage(reference=reference, manifest_digest=digest, faults=faults)


def _verify_image(layout: Layout, digest: str, checked: dict[tuple[str, str], str]) -> Iterator[str]:
    try:
        manifest = _document(layout, digest)
        config = _document(layout, manifest["config"]["digest"])
        diff_ids = diff_ids_of(config, what=f"config of {digest}")
        descriptors = list(manifest["layers"])
        if len(diff_ids) != len(descriptors):
            raise Corrupt(f"config of {digest}: {len(diff_ids)} diff ids for {len(descriptors)} layers")
    except MydockerError as error:
        yield error.message
        return
    except (KeyError, TypeError):
        yield f"manifest {digest}: it is no image"
        return
    chain = chain_ids(diff_ids)
    for descriptor, diff_id, chain_id in zip(descriptors, diff_ids, chain, strict=True):
        key = descriptor["digest"], chain_id
        if key not in checked:
            checked[key] = _verify_layer(layout, descriptor, diff_id, chain_id)
        yield checked[key]


def _document(layout: Layout, digest: str) -> Any:
    from mydocker.base import jsontext

    return jsontext.loads(blobs.read_verified(layout, digest), source=f"blob {digest}")


def _verify_layer(layout: Layout, descriptor: Descriptor, diff_id: str, chain_id: str) -> str:
    """Return what is wrong with one layer, or nothing."""
    try:
        fd = os.open(blobs.path(layout, descriptor["digest"]), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return f"blob {descriptor['digest']}: it is not there"
    try:
        with layer_locks.lock_layers(layout, (chain_id,)):
            fresh = ingest(layout, read_file(fd), keep_blob=False, digest=descriptor["digest"], diff_id=diff_id)
            try:
                assert fresh.layer is not None
                fault = compare_trees(f"{fresh.layer.path}/{layers.DIFF}", layers.diff_dir(layout, chain_id))
            finally:
                fresh.discard()
    except NotFound:
        return f"layer {chain_id}: it is not unpacked"
    except Corrupt as error:
        return f"blob {descriptor['digest']}: {error.message}"
    finally:
        os.close(fd)
    return f"layer {chain_id}: {fault}" if fault else ""


def compare_trees(right: str, found: str) -> str:
    """Return the first difference of two trees that nobody writes to, or nothing."""
    links: dict[int, int] = {}
    waiting = [(os.open(right, _DIRECTORY), os.open(found, _DIRECTORY), "/")]
    try:
        while waiting:
            right_fd, found_fd, place = waiting.pop()
            try:
                fault = _compare_entry(os.fstat(right_fd), os.fstat(found_fd), links) or _compare_xattrs(right_fd, found_fd)
                if fault:
                    return f"{place}: {fault}"
                names = sorted(os.listdir(right_fd))
                if names != sorted(os.listdir(found_fd)):
                    odd = sorted(set(names) ^ set(os.listdir(found_fd)))
                    return f"{os.path.join(place, odd[0])}: it is {'missing' if odd[0] in names else 'not of the layer'}"
                for name in names:
                    fault = _compare_child(name, right_fd, found_fd, links, waiting, place)
                    if fault:
                        return f"{os.path.join(place, name)}: {fault}"
            finally:
                os.close(right_fd)
                os.close(found_fd)
        return ""
    finally:
        for right_fd, found_fd, _ in waiting:
            os.close(right_fd)
            os.close(found_fd)


_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def _compare_child(
    name: str, right_fd: int, found_fd: int, links: dict[int, int], waiting: list[tuple[int, int, str]], place: str
) -> str:
    right = os.stat(name, dir_fd=right_fd, follow_symlinks=False)
    found = os.stat(name, dir_fd=found_fd, follow_symlinks=False)
    if stat.S_ISDIR(right.st_mode) and stat.S_ISDIR(found.st_mode):
        if len(waiting) > 200:  # a wide tree: no descriptor for every directory that waits
            return compare_trees(f"/proc/self/fd/{right_fd}/{name}", f"/proc/self/fd/{found_fd}/{name}")
        waiting.append((
            os.open(name, _DIRECTORY, dir_fd=right_fd), os.open(name, _DIRECTORY, dir_fd=found_fd), os.path.join(place, name)))
        return ""
    fault = _compare_entry(right, found, links)
    if fault or stat.S_ISREG(right.st_mode):
        return fault or _compare_files(name, right_fd, found_fd)
    if stat.S_ISLNK(right.st_mode) and os.readlink(name, dir_fd=right_fd) != os.readlink(name, dir_fd=found_fd):
        return "the link leads elsewhere"
    return _compare_xattrs(f"/proc/self/fd/{right_fd}/{name}", f"/proc/self/fd/{found_fd}/{name}")


def _compare_entry(right: os.stat_result, found: os.stat_result, links: dict[int, int]) -> str:
    for what, key in (("type or mode", "st_mode"), ("owner", "st_uid"), ("group", "st_gid"), ("device", "st_rdev")):
        if getattr(right, key) != getattr(found, key):
            return f"its {what} is another"
    if stat.S_ISDIR(right.st_mode):
        return ""  # the time of a directory that an archive does not list is that of its making
    if right.st_mtime_ns != found.st_mtime_ns and (not stat.S_ISCHR(right.st_mode) or right.st_rdev):  # so is a whiteout's
        return "its time is another"
    if right.st_size != found.st_size:
        return f"its size is {found.st_size}, not {right.st_size}"
    if right.st_nlink != found.st_nlink or links.setdefault(right.st_ino, found.st_ino) != found.st_ino:
        return "its hard links are others"
    return ""


def _compare_xattrs(right: int | str, found: int | str) -> str:
    def read(place: int | str) -> dict[str, bytes]:
        if isinstance(place, int):
            return {name: os.getxattr(place, name) for name in os.listxattr(place)}
        return {name: os.getxattr(place, name, follow_symlinks=False) for name in os.listxattr(place, follow_symlinks=False)}
    return "" if read(right) == read(found) else "its extended attributes are others"


def _compare_files(name: str, right_fd: int, found_fd: int) -> str:
    right = os.open(name, _FILE, dir_fd=right_fd)
    try:
        found = os.open(name, _FILE, dir_fd=found_fd)
        try:
            while True:
                data = os.read(right, _COMPARE_BYTES)
                if data != os.read(found, _COMPARE_BYTES):
                    return "its content is another"
                if not data:
                    return _compare_xattrs(right, found)
        finally:
            os.close(found)
    finally:
        os.close(right)
