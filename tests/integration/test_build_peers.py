"""The same small Dockerfiles built here, by docker's classic builder and by buildah: the same files, modes, owners and image config.

Slow (four minutes): it is kept out of the guest. Each builder's half is skipped where it is not installed.
"""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from build_cases import CASES, FAILING, make_context
from harness import Mydocker

pytestmark = [pytest.mark.slow, pytest.mark.needs("root", "overlay"), pytest.mark.time_limit(120)]

BASE = "mydocker-build-peer:base"
_WORDS = (
    "Env", "Cmd", "Entrypoint", "WorkingDir", "User", "ExposedPorts", "Volumes", "Labels", "StopSignal", "Healthcheck",
    "OnBuild", "Shell",
)
#: What containers bring and images need not have.
_OTHERS = ("dev", "proc", "sys", ".dockerenv", "etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/mtab")


def docker(*words: str, code: int | None = 0, stdin: str | None = None) -> str:
    """Run docker with its classic builder."""
    done = subprocess.run(
        ["docker", *words], env={**os.environ, "DOCKER_BUILDKIT": "0"}, input=stdin, capture_output=True, text=True, check=False)
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def base(busybox_tar: str) -> Iterator[str]:
    docker("import", busybox_tar, BASE)
    yield BASE
    _remove_steps()
    docker("rmi", "-f", BASE, code=None)


def _remove_steps() -> None:
    """Remove the nameless images that builds which fail leave: those that stand on the base, and no others."""
    base_id = docker("images", "-q", "--no-trunc", BASE).strip()
    for _ in range(9):  # children before their parents
        for image in docker("images", "-q", "--no-trunc", "--filter", "dangling=true", "--filter", f"since={BASE}").split():
            if base_id in docker("history", "-q", "--no-trunc", image, code=None).split():
                docker("rmi", image, code=None)


@pytest.fixture
def context(tmp_path: Path) -> str:
    path = tmp_path / "context"
    path.mkdir()
    make_context(str(path))
    return str(path)


def listed(archive: tarfile.TarFile) -> dict[str, tuple[Any, ...]]:
    found: dict[str, tuple[Any, ...]] = {}
    for member in archive:
        name = member.name.strip("/").removeprefix("./")
        if not name or name == "." or any(name == other or name.startswith(f"{other}/") for other in _OTHERS):
            continue
        if member.isfile():
            stream = archive.extractfile(member)
            assert stream is not None
            content = hashlib.sha256(stream.read()).hexdigest()[:12]
        elif member.islnk():
            content = found[member.linkname.strip("/")][4]
            member.type = tarfile.REGTYPE
        else:
            content = member.linkname
        found[name] = (member.type, oct(member.mode & 0o7777), member.uid, member.gid, content)
    return found


def docker_result(tag: str) -> tuple[dict[str, Any], dict[str, Any]]:
    container = docker("create", tag, "x").strip()
    try:
        with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as process:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                files = listed(archive)
    finally:
        docker("rm", container)
    return files, json.loads(docker("inspect", "--type=image", tag))[0]["Config"]


_BUILT_HERE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}


def our_result(
    mydocker: Mydocker, busybox_tar: str, context: str, name: str, words: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Build the Dockerfile of the context here: once for all that it is compared with."""
    if name not in _BUILT_HERE:
        mydocker("import", busybox_tar, BASE)
        mydocker("build", "-q", "-t", "ours", *words, context)
        mydocker("build", "-q", *words, "-o", f"type=tar,dest={context}/../out.tar", context)
        with tarfile.open(f"{context}/../out.tar") as archive:
            files = listed(archive)
        _BUILT_HERE[name] = files, json.loads(mydocker("inspect", "--type=image", "ours").out)[0]["Config"]
    return _BUILT_HERE[name]


def different(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    return {name: (ours.get(name), theirs.get(name)) for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}


def chosen(config: dict[str, Any]) -> dict[str, Any]:
    return {word: config.get(word) for word in _WORDS if config.get(word)}


@pytest.mark.needs("docker_daemon")
@pytest.mark.parametrize(("name", "text", "words"), CASES, ids=[case[0] for case in CASES])
def test_docker_builds_the_same(
    mydocker: Mydocker, base: str, context: str, busybox_tar: str, name: str, text: str, words: tuple[str, ...]
) -> None:
    Path(context, "Dockerfile").write_text(text.replace("BASE", base))
    tag = f"mydocker-build-peer:{name}"
    docker("build", "-q", "--network=none", "-t", tag, *words, context)
    try:
        their_files, their_config = docker_result(tag)
    finally:
        docker("rmi", "-f", tag, code=None)
    our_files, our_config = our_result(mydocker, busybox_tar, context, name, words)
    assert different(our_files, their_files) == {}
    assert chosen(our_config) == chosen(their_config)


#: Where buildah 1.28 differs from docker, whom we follow: what is another, or None for a Dockerfile that it refuses.
BUILDAH_DIFFERS: dict[str, tuple[str, set[str] | None]] = {
    "shell": ("SHELL is not used for CMD", {"Cmd"}),
    "expose": ("a range of ports is not expanded", {"ExposedPorts"}),
    "volume": ("directories are made for some volumes", {"m1", "m2"}),
    "copy_over_link": ("a link in the destination's place is replaced, not followed", {"name", "target"}),
    "copy_to_nowhere": ("a link to nowhere is replaced, not followed", {"no/where", "no/where/a.txt"}),
    "copy_escaped_glob": ("a bracket cannot be escaped", None),
}


class Buildah:
    """buildah with a storage of its own."""

    def __init__(self, directory: str, base_tar: str) -> None:
        self._directory = directory
        shutil.copy(base_tar, f"{directory}/base.tar")
        Path(directory, "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
        self("bud", "-q", "--identity-label=false", "-t", BASE, directory)

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            ["buildah", "--root", f"{self._directory}/root", "--runroot", f"{self._directory}/run", "--storage-driver", "overlay", *words],
            env={**os.environ, "BUILDAH_ISOLATION": "chroot", "BUILDAH_FORMAT": "docker"}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def build(self, *words: str) -> tuple[dict[str, Any], dict[str, Any]]:
        archive_path = f"{self._directory}/out.tar"
        image = self("bud", "-q", "--layers=false", "--identity-label=false", "--pull=never", "-o", f"type=tar,dest={archive_path}", *words).split()[-1]
        with tarfile.open(archive_path) as archive:
            files = listed(archive)
        return files, json.loads(self("inspect", "--type", "image", image))["Docker"]["config"]


@pytest.fixture(scope="module")
def buildah(busybox_tar: str) -> Iterator[Buildah]:
    directory = tempfile.mkdtemp(prefix="mydocker-buildah-", dir="/var/tmp")
    try:
        yield Buildah(directory, busybox_tar)
    finally:
        # A buildah that was interrupted leaves its container's root mounted.
        subprocess.run(["umount", "-R", f"{directory}/root/overlay"], check=False, capture_output=True)
        shutil.rmtree(directory)


@pytest.mark.needs("buildah")
@pytest.mark.parametrize(("name", "text", "words"), CASES, ids=[case[0] for case in CASES])
def test_buildah_builds_the_same(
    mydocker: Mydocker, buildah: Buildah, context: str, busybox_tar: str, name: str, text: str, words: tuple[str, ...]
) -> None:
    Path(context, "Dockerfile").write_text(text.replace("BASE", BASE))
    _, expected = BUILDAH_DIFFERS.get(name, ("", set()))
    if expected is None:
        with pytest.raises(AssertionError):
            buildah.build(*words, context)
        return
    their_files, their_config = buildah.build(*words, context)
    our_files, our_config = our_result(mydocker, busybox_tar, context, name, words)
    assert {**different(our_files, their_files), **different(chosen(our_config), chosen(their_config))}.keys() == expected


@pytest.mark.needs("docker_daemon")
@pytest.mark.parametrize(("name", "text", "words"), FAILING, ids=[case[0] for case in FAILING])
def test_docker_refuses_the_same(
    mydocker: Mydocker, base: str, context: str, busybox_tar: str, tmp_path: Any, name: str, text: str, words: tuple[str, ...]
) -> None:
    mydocker("import", busybox_tar, BASE)
    Path(context, "Dockerfile").write_text(text.replace("BASE", base))
    given = (*words, context)
    with pytest.raises(AssertionError):
        docker("build", "-q", "--force-rm", "--network=none", *given)
    done = mydocker("build", "--progress=quiet", *given, code=None)
    assert done.code != 0
    assert "Traceback" not in done.err
    assert "internal error" not in done.err
