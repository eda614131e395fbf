"""The same small Dockerfiles built here and by docker's classic builder: the same files, modes, owners and image config.

Slow (three minutes): it is kept out of the guest, and skipped where docker is not installed.
"""
from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from build_cases import CASES, FAILING, make_context
from harness import Mydocker

pytestmark = [pytest.mark.slow, pytest.mark.needs("root", "docker_daemon"), pytest.mark.time_limit(120)]

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


def our_result(mydocker: Mydocker, words: tuple[str, ...], tag: str, tmp_path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    mydocker("build", *words, "-o", f"type=tar,dest={tmp_path}/out.tar")
    with tarfile.open(f"{tmp_path}/out.tar") as archive:
        files = listed(archive)
    return files, json.loads(mydocker("inspect", "--type=image", tag).out)[0]["Config"]


def different(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    return {name: (ours.get(name), theirs.get(name)) for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}


def chosen(config: dict[str, Any]) -> dict[str, Any]:
    return {word: config.get(word) for word in _WORDS if config.get(word)}


@pytest.mark.parametrize(("name", "text", "words"), CASES, ids=[case[0] for case in CASES])
def test_docker_builds_the_same(
    mydocker: Mydocker, base: str, context: str, busybox_tar: str, tmp_path: Any, name: str, text: str, words: tuple[str, ...]
) -> None:
    mydocker("import", busybox_tar, BASE)
    Path(context, "Dockerfile").write_text(text.replace("BASE", base))
    tag = f"mydocker-build-peer:{name}"
    given = ("-t", tag, *words, context)
    docker("build", "-q", "--network=none", *given)
    try:
        their_files, their_config = docker_result(tag)
    finally:
        docker("rmi", "-f", tag, code=None)
    mydocker("build", "-q", *given)
    our_files, our_config = our_result(mydocker, given, tag, str(tmp_path))
    assert different(our_files, their_files) == {}
    assert chosen(our_config) == chosen(their_config)


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
