"""`save`: images as an archive that docker, podman, skopeo and `load` take, or as an OCI layout directory.

The archive is an OCI layout with docker's manifest.json in it, as `docker save` has written since 25: one file for both
families. Blobs go out as they are stored, compressed or not, so every digest stays what it was, and equal images
give equal bytes. All blobs are opened before the first byte is written: a removal meanwhile takes nothing away.
"""
from __future__ import annotations

import os

from mydocker.base import jsontext
from mydocker.base.errors import Conflict, Corrupt, InvalidRequest, NotFound, Unsupported
from mydocker.base.newfile import NewFile
from mydocker.oci import media_types
from mydocker.oci import platform as platforms
from mydocker.oci.reference import is_reference, parse
from mydocker.storage import blobs
from mydocker.storage.diff import file_header
from mydocker.storage.tarheader import BLOCK

from . import index
from .load import refuse_other_platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, BinaryIO

    from mydocker.base.paths import Layout
    from mydocker.oci.image_spec import Descriptor

    from .store import Images

DOCKER_ARCHIVE, OCI_ARCHIVE, OCI_DIRECTORY = "docker-archive", "oci-archive", "oci-dir"
FORMATS = (DOCKER_ARCHIVE, OCI_ARCHIVE, OCI_DIRECTORY)
_COPY_BYTES = 1 << 20
_SENDFILE_BYTES = 1 << 30
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'

Chosen = list[tuple["Descriptor", tuple[str, ...]]]


def save(layout: Layout, chosen: Chosen, target: str | os.PathLike[str] | int | BinaryIO, *, form: str = DOCKER_ARCHIVE) -> None:
    """Save images (descriptor of the manifest, canonical names) to a path, a descriptor, or a binary file.

    A file appears whole or not at all; a directory must be new or empty. Raises NotFound (a blob is gone),
    Unsupported (an image of this machine's files), Conflict, Unavailable, OSError.
    """
    with _Parts(layout, chosen, form) as parts:
        if form == OCI_DIRECTORY:
            if not isinstance(target, (str, os.PathLike)):
                raise InvalidRequest("save: an OCI layout directory needs a path", hint="give it with -o DIRECTORY")
            _write_directory(os.fspath(target), parts)
        elif isinstance(target, int):
            _write_tar(_FdWriter(target), parts)
        elif isinstance(target, (str, os.PathLike)):
            _write_file(os.fspath(target), parts)
        else:
            _write_tar(_StreamWriter(target), parts)


# --- what goes in ---------------------------------------------------------------------------------------


class _Parts:
    """The documents and the open blobs of an archive, by name, in the order in which they are written."""

    def __init__(self, layout: Layout, chosen: Chosen, form: str) -> None:
        self._layout = layout
        self.blobs: dict[str, tuple[int, int]] = {}
        try:
            manifests, docker = [], []
            for descriptor, names in chosen:
                if index.base_of(descriptor):
                    shown = parse(names[0]).familiar if names else descriptor["digest"]
                    raise Unsupported(
                        f"save image {shown}: it stands on this machine's own files, which are not part of it",
                        hint="export a container of it: mydocker export",
                    )
                manifests += [_entry(descriptor, name) for name in names or ("",)]
                docker.append(self._add_image(descriptor, names))
            document = {"schemaVersion": 2, "mediaType": media_types.MEDIA_INDEX, "manifests": manifests}
            self.documents = {"oci-layout": _LAYOUT, "index.json": jsontext.dumps(document).encode()}
            if form == DOCKER_ARCHIVE:
                self.documents["manifest.json"] = jsontext.dumps(docker).encode()
        except BaseException:
            self.close()
            raise

    def _add_image(self, descriptor: Descriptor, names: tuple[str, ...]) -> dict[str, Any]:
        data = blobs.read_verified(self._layout, descriptor["digest"])
        manifest = jsontext.loads(data, source=f"manifest {descriptor['digest']}")
        digests = [manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]
        for digest in (descriptor["digest"], *digests):
            self._open(digest)
        paths = [_name_of(digest) for digest in digests]
        tags = [parse(name).familiar for name in names if "@" not in name]  # docker load takes no name with a digest
        return {"Config": paths[0], "RepoTags": tags or None, "Layers": paths[1:]}

    def _open(self, digest: str) -> None:
        name = _name_of(digest)
        if name in self.blobs:
            return
        try:
            fd = os.open(blobs.path(self._layout, digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"save: blob {digest} is not there", hint="load or pull the image again") from None
        self.blobs[name] = fd, os.fstat(fd).st_size

    def close(self) -> None:
        for fd, _ in self.blobs.values():
            os.close(fd)
        self.blobs.clear()

    def __enter__(self) -> _Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _name_of(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/', 1)}"


def _entry(descriptor: Descriptor, name: str) -> Descriptor:
    """Return an index entry. podman and skopeo read the whole name where containerd and docker expect the tag; these
    read their own annotation first, so the whole name in both places serves all.
    """
    entry: Descriptor = {"mediaType": descriptor["mediaType"], "digest": descriptor["digest"], "size": descriptor["size"]}
    if "platform" in descriptor:
        entry["platform"] = descriptor["platform"]
    if name:
        entry["annotations"] = {media_types.CONTAINERD_NAME: name, media_types.REF_NAME: name}
    return entry


# --- how it is written ------------------------------------------------------------------------------------


class _FdWriter:
    """Writes to a descriptor; blobs do not pass through this process (sendfile(2))."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view):]

    def copy(self, fd: int, size: int) -> None:
        position = 0
        while position < size:
            sent = os.sendfile(self._fd, fd, position, min(size - position, _SENDFILE_BYTES))
            if not sent:
                raise Corrupt("save: a blob became shorter while it was read")
            position += sent


class _StreamWriter:
    """Writes to a binary file object."""

    def __init__(self, stream: BinaryIO) -> None:
        self.write = stream.write

    def copy(self, fd: int, size: int) -> None:
        position = 0
        while position < size:
            data = os.pread(fd, min(size - position, _COPY_BYTES), position)
            if not data:
                raise Corrupt("save: a blob became shorter while it was read")
            self.write(data)
            position += len(data)


def _write_tar(out: _FdWriter | _StreamWriter, parts: _Parts) -> None:
    for name, data in parts.documents.items():
        out.write(file_header(name.encode(), len(data)) + data + bytes(-len(data) % BLOCK))
    for name, (fd, size) in parts.blobs.items():
        out.write(file_header(name.encode(), size))
        out.copy(fd, size)
        out.write(bytes(-size % BLOCK))
    out.write(bytes(2 * BLOCK))


def _write_file(path: str, parts: _Parts) -> None:
    with NewFile(path, "save") as fd:
        _write_tar(_FdWriter(fd), parts)


def _write_directory(path: str, parts: _Parts) -> None:
    """Write an OCI layout; index.json comes last, so that a half of it is never taken for a whole."""
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        if not os.path.isdir(path) or os.listdir(path):
            raise Conflict(f"save {path}: it is there already", hint="name a new or an empty directory") from None
    directory_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.makedirs(f"{path}/blobs/sha256")
        for name, (blob_fd, size) in parts.blobs.items():
            fd = _create(name, directory_fd)
            try:
                _FdWriter(fd).copy(blob_fd, size)
            finally:
                os.close(fd)
        for name, data in parts.documents.items():
            fd = _create(name, directory_fd)
            try:
                _FdWriter(fd).write(data)
            finally:
                os.close(fd)
    finally:
        os.close(directory_fd)


def _create(name: str, directory_fd: int) -> int:
    return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=directory_fd)


def judged_format(form: str) -> str:
    """Return a format's name. Raises InvalidRequest."""
    if form not in FORMATS:
        raise InvalidRequest(f"save: format {form!r} is not known", hint=f"formats are {', '.join(FORMATS)}")
    return form


# --- which images -----------------------------------------------------------------------------------------


def save_named(
    images: Images, names: Sequence[str], target: str | os.PathLike[str] | int | BinaryIO, *, form: str, platform: str
) -> None:
    """Save images as a user names them: see `Images.save`. Raises as `save` does, NotFound, InvalidRequest."""
    judged_format(form)
    joined: dict[str, tuple[Descriptor, tuple[str, ...]]] = {}
    for name in dict.fromkeys(names):
        for descriptor, found in _choose(images, name, platform):
            _, before = joined.get(descriptor["digest"], (descriptor, ()))
            joined[descriptor["digest"]] = descriptor, tuple(dict.fromkeys((*before, *found)))
    save(images.layout, list(joined.values()), target, form=form)


def _choose(images: Images, name: str, platform: str) -> Chosen:
    if name in ("host", "host:latest"):
        raise Unsupported("save image host: it is this machine", hint="export a container of it: mydocker export")
    wanted = platforms.parse(platform) if platform else None
    manifests = index.load(images.layout)
    names: tuple[str, ...] = ()
    if is_reference(name) and not name.startswith("sha256:"):
        parsed = parse(name)
        if not parsed.digest and not name.endswith(f":{parsed.tag}"):
            names = _all_tags(manifests, f"{parsed.domain}/{parsed.path}")
        elif parsed.canonical in map(index.name_of, manifests):
            names = (parsed.canonical,)
    found: Chosen = [(images.find(canonical), (canonical,)) for canonical in names]
    found = found or [(images.find(name), ())]
    for descriptor, _ in found:
        refuse_other_platform(images.documents(descriptor)[1], wanted, what=f"save image {name}")
    return found


def _all_tags(manifests: Sequence[Descriptor], wanted: str) -> tuple[str, ...]:
    """Return the canonical names that `wanted` (canonical without a tag) has in an index, as `docker save NAME` takes all."""
    return tuple(
        name for name in (index.name_of(entry) for entry in manifests) if name and name.rpartition(":")[0] == wanted
    )
