"""What image tests share: archives made by hand, and a look into a container's root file system."""
from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from typing import Any

from mydocker.base.paths import Layout
from mydocker.image.store import Images
from mydocker.linux import syscalls
from mydocker.oci import media_types
from mydocker.storage.snapshots import overlay_mount

Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, data: bytes = b"", **fields: Any) -> Member:
    """One member of a tar; `type` and the like are fields of TarInfo."""
    info = tarfile.TarInfo(name)
    info.mtime = 1_700_000_000
    info.mode = 0o755 if fields.get("type") == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def directory(name: str, **fields: Any) -> Member:
    return member(name, type=tarfile.DIRTYPE, **fields)


def link(name: str, target: str, **fields: Any) -> Member:
    return member(name, type=tarfile.LNKTYPE, linkname=target, **fields)


def symlink(name: str, target: str, **fields: Any) -> Member:
    return member(name, type=tarfile.SYMTYPE, linkname=target, **fields)


def tar(*members: Member, kind: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def image_config(*layers: bytes, **fields: Any) -> bytes:
    return json.dumps({
        "os": "linux", "architecture": "amd64", "created": "2024-01-01T00:00:00Z", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]}, **fields,
    }).encode()


def docker_archive(*layers: bytes, tags: tuple[str, ...] = ("rig:1",), config: bytes = b"", **entry: Any) -> bytes:
    """A docker-archive with the given diffs as layers."""
    config = config or image_config(*layers)
    name = f"{digest(config)[7:]}.json"
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = json.dumps([{"Config": name, "RepoTags": list(tags), "Layers": names, **entry}]).encode()
    return tar(
        member(name, config), *(member(path, data) for path, data in zip(names, layers, strict=True)),
        member("manifest.json", manifest))


def oci_files(
    *layers: bytes, name: str = "rig:1", config: bytes = b"", annotations: dict[str, str] | None = None
) -> dict[str, bytes]:
    """The files of an OCI layout with the given diffs, compressed with gzip."""
    config = config or image_config(*layers)
    stored = [gzip.compress(layer, mtime=0) for layer in layers]

    def descriptor(data: bytes, media_type: str) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": media_types.MEDIA_MANIFEST, "config": descriptor(config, media_types.MEDIA_CONFIG),
        "layers": [descriptor(data, f"{media_types.MEDIA_LAYER}+gzip") for data in stored],
    }).encode()
    index = {"schemaVersion": 2, "manifests": [{
        **descriptor(manifest, media_types.MEDIA_MANIFEST),
        "annotations": {media_types.REF_NAME: name, **(annotations or {})},
    }]}
    blobs = {f"blobs/sha256/{digest(data)[7:]}": data for data in (config, manifest, *stored)}
    return {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index).encode(), **blobs}


def oci_archive(files: dict[str, bytes]) -> bytes:
    return tar(*(member(name, data) for name, data in files.items()))


def images(scratch: str) -> Images:
    layout = Layout(f"{scratch}/state")
    layout.ensure()
    return Images(layout)


def take(store: Images, data: bytes) -> list[str]:
    """Load an archive given as bytes; returns the familiar names."""
    return [name for image in store.load(io.BytesIO(data)) for name in image.references]


def tree(path: str) -> list[str]:
    """Every path below a directory, sorted."""
    return sorted(
        os.path.relpath(f"{top}/{name}", path) for top, directories, files in os.walk(path) for name in (*directories, *files))


def leftovers(store: Images) -> list[str]:
    """What should never remain: temporary layers, trash, files beside the blobs that index.json needs."""
    layout = store.layout
    found = [name for name in os.listdir(layout.layers) if name.startswith(".tmp")]
    found += os.listdir(layout.trash)
    found += [name for name in os.listdir(layout.image) if name.startswith(".")]
    return found


def new_container(
    store: Images, name: str, container_id: str = "1234567890", show: tuple[str, ...] = ()
) -> tuple[str, tuple[str, ...]]:
    """Make a container's directory and record on an image; returns the directory and its lower directories."""
    resolved = store.resolve(name, show)
    path = store.layout.container(container_id)
    os.mkdir(path)
    with store.hold(resolved) as lower_dirs, open(f"{path}/config.json", "w") as record:
        json.dump({
            "id": container_id, "name": container_id, "layers": list(resolved.chain_ids), "image_id": resolved.manifest_digest,
        }, record)
    store.prepare_write_layer(path, lower_dirs)
    os.mkdir(f"{path}/rootfs")
    return path, lower_dirs


def inside(container: str, lower_dirs: tuple[str, ...], look: Callable[[str], Any]) -> Any:
    """Mount a container's root file system in a mount namespace of a forked child; return what `look(root)` gives as JSON."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reader)
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE, None)
            _mount(container, lower_dirs)
            result = look(f"{container}/rootfs")
            os.write(writer, json.dumps({"result": result}).encode())
            code = 0
        except BaseException as error:
            os.write(writer, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        finally:
            os._exit(code)
    os.close(writer)
    with open(reader, "rb") as stream:
        answer = json.loads(stream.read() or b'{"error": "the child died"}')
    os.waitpid(pid, 0)
    assert "error" not in answer, answer["error"]
    return answer["result"]


def _mount(container: str, lower_dirs: tuple[str, ...]) -> None:
    root = f"{container}/rootfs"
    if lower_dirs[-1] == "/":
        # overlayfs takes no lower directory below another one: `/` becomes a file system of its own first.
        syscalls.mount("tmpfs", root, "tmpfs", 0, "size=4k")
        syscalls.mount("overlay", root, "overlay", syscalls.MS_RDONLY, f"lowerdir={root}:/")
        lower_dirs = (*lower_dirs[:-1], root)
    options = overlay_mount(lower_dirs, container).get("options", [])
    syscalls.mount("overlay", root, "overlay", 0, ",".join(options).replace("\n", ":"))
