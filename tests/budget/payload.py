"""What the engines are fed: a busybox root file system, a tree of many files, archives of them.

The same bytes each time.
"""
from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import tarfile

#: The name of the image in every engine. Podman puts localhost/ before it and finds it without.
IMAGE = "mydocker-bench:latest"
#: One line of a log, with its line end.
LINE_BYTES = 100
LINES_FILE_BYTES = 1_000_000
_APPLETS = ("sh", "true", "sleep", "cat", "echo", "ls", "env", "head")
_EPOCH = 1_700_000_000


def find_busybox() -> str:
    """Return the path of a busybox that runs in an empty root. Raises FileNotFoundError."""
    path = shutil.which("busybox")
    if path is None:
        raise FileNotFoundError("busybox is not installed: apt-get install busybox-static")
    return os.path.realpath(path)


def make_rootfs(directory: str) -> None:
    """Make a small root file system: busybox, a passwd, and /lines, a megabyte of lines for the log."""
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "root"):
        os.makedirs(f"{directory}/{name}")
    shutil.copyfile(find_busybox(), f"{directory}/bin/busybox")
    os.chmod(f"{directory}/bin/busybox", 0o755)
    for applet in _APPLETS:
        os.symlink("busybox", f"{directory}/bin/{applet}")
    with open(f"{directory}/etc/passwd", "w", encoding="ascii") as stream:
        stream.write("root:x:0:0:root:/root:/bin/sh\n")
    with open(f"{directory}/lines", "wb") as lines:
        for number in range(LINES_FILE_BYTES // LINE_BYTES):
            lines.write(b"%08d %s\n" % (number, b"x" * (LINE_BYTES - 10)))


def pack_directory(directory: str, path: str) -> None:
    """Write a directory as a tar, its members named from inside it."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(directory, arcname=".")


def write_tree_tar(path: str, files: int, total_bytes: int) -> None:
    """Write a tar of many files, a hundred a directory, of sizes as software has them: many small, some large."""
    chance = random.Random(0)
    weights = [chance.lognormvariate(0, 1.2) for _ in range(files)]
    scale = total_bytes / sum(weights)
    # Half text, half noise: neither a disk nor a compressor should find it unusual.
    noise = chance.randbytes(1 << 20)
    text = (b"def function_%d(argument): return argument\n" % 7) * 25_000
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for number, weight in enumerate(weights):
            if number % 100 == 0:
                archive.addfile(_member(f"tree/d{number // 100:03}", 0o755, tarfile.DIRTYPE))
            size = int(weight * scale)
            source = (noise, text)[number % 2]
            start = chance.randrange(1 << 18)
            content = (source[start:] * (size // (len(source) - start) + 1))[:size]
            member = _member(f"tree/d{number // 100:03}/f{number:05}", 0o644, tarfile.REGTYPE)
            member.size = size
            archive.addfile(member, io.BytesIO(content))


def _member(name: str, mode: int, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode, member.type, member.mtime = mode, kind, _EPOCH
    return member


def write_docker_archive(path: str, layer_tar: str, image: str) -> None:
    """Write a tar of one layer as `docker save` would write an image of it."""
    with open(layer_tar, "rb") as stream:
        diff_id = hashlib.file_digest(stream, "sha256").hexdigest()
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "created": "2023-11-14T22:13:20Z", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
        "history": [{"created": "2023-11-14T22:13:20Z"}],
    }).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [image], "Layers": [f"{diff_id}/layer.tar"]}]).encode()
    with tarfile.open(path, "w") as archive:
        for name, content in ((config_name, config), ("manifest.json", manifest)):
            member = _member(name, 0o644, tarfile.REGTYPE)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        archive.add(layer_tar, arcname=f"{diff_id}/layer.tar")
