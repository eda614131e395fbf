"""`pull` from a real docker-registry, and `run` of what is not here."""
from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zstandard
from harness import Mydocker
from image_rig import digest, image_config, member, tar
from network_rig import Machine
from registry_rig import (
    PROGRAM,
    Answer,
    Answering,
    Asked,
    Authority,
    Registry,
    Tunnels,
    descriptor,
    new_image,
    packed,
    serve_image,
)

from mydocker.oci import media_types

pytestmark = [
    pytest.mark.needs("root", "overlay"),
    pytest.mark.skipif(not os.path.exists(PROGRAM), reason="docker-registry is not there: make test brings it"),
]


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """A registry without TLS and passwords."""
    directory = tempfile.mkdtemp(prefix="mydocker-registry-")
    found = Registry(directory)
    yield found
    found.close()
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def busybox_tar_bytes(busybox_tar: str) -> bytes:
    with open(busybox_tar, "rb") as file:
        return file.read()


def test_tag_is_pulled_and_run(mydocker: Mydocker, registry: Registry, busybox_tar_bytes: bytes) -> None:
    manifest = registry.put_image("library/app", "1", busybox_tar_bytes, tar(member("greeting", b"hello")))
    name = f"{registry.host}/library/app:1"
    out = mydocker("pull", name).out
    assert f"Digest: {manifest}" in out and f"Status: Downloaded newer image for {name}" in out and out.endswith(f"{name}\n")
    assert mydocker("run", "--rm", name, "cat", "/greeting").out == "hello"
    before = len(registry.requests())
    assert f"Status: Image is up to date for {name}" in mydocker("pull", name).out
    asked = [line.split()[0] for line in registry.requests()[before:] if "/library/app/" in line]
    assert asked == ["HEAD"]  # nothing that Docker Hub would count
    assert mydocker("pull", "-q", name).out == f"{name}\n"
    mydocker("rmi", name)
    assert os.listdir(f"{mydocker.root}/trash") == []


def test_what_is_there_already_is_not_downloaded_again(mydocker: Mydocker, registry: Registry, busybox_tar_bytes: bytes) -> None:
    registry.put_image("again", "1", busybox_tar_bytes)
    registry.put_image("again", "2", busybox_tar_bytes, tar(member("more", b"x" * 1000)))
    mydocker("pull", f"{registry.host}/again:1")
    before = len(registry.requests())
    assert "Already exists" in mydocker("pull", f"{registry.host}/again:2").out
    asked = [line for line in registry.requests()[before:] if "/blobs/" in line]
    assert len(asked) == 2, asked  # the config and the one new layer


def test_digest_says_it_all(mydocker: Mydocker, registry: Registry, busybox_tar_bytes: bytes) -> None:
    found = registry.put_image("by/digest", "1", busybox_tar_bytes)
    registry.put_image("by/digest", "2", busybox_tar_bytes, created="2025-01-01T00:00:00Z")
    name = f"{registry.host}/by/digest@{found}"
    assert f"Digest: {found}" in mydocker("pull", f"{registry.host}/by/digest:2@{found}").out
    assert mydocker("run", "--rm", "--pull", "never", name, "echo", "ran").out == "ran\n"
    before = len(registry.requests())
    assert "up to date" in mydocker("pull", name).out and len(registry.requests()) == before  # it cannot mean anything else
    wrong = f"{registry.host}/by/digest@sha256:{'0' * 64}"
    assert "has no such thing" in mydocker("pull", wrong, code=125).one_error_line()


def test_name_with_a_digest_is_no_tag_for_inspect_and_save(
    mydocker: Mydocker, registry: Registry, busybox_tar_bytes: bytes, tmp_path: Any
) -> None:
    name = f"{registry.host}/no/tag@{registry.put_image('no/tag', '1', busybox_tar_bytes)}"
    mydocker("pull", "-q", name)
    shown = json.loads(mydocker("image", "inspect", name).out)[0]
    assert (shown["RepoTags"], shown["RepoDigests"]) == ([], [name])
    mydocker("save", "-o", str(tmp_path / "saved.tar"), name)
    with tarfile.open(tmp_path / "saved.tar") as archive:
        file = archive.extractfile("manifest.json")
        assert file is not None and json.load(file)[0]["RepoTags"] is None  # docker load refuses others: "invalid tag"


def test_name_with_a_digest_has_a_row_only_where_the_repository_has_no_tag(
    mydocker: Mydocker, registry: Registry, busybox_tar_bytes: bytes
) -> None:
    name = f"{registry.host}/rows"
    manifest = registry.put_image("rows", "1", busybox_tar_bytes)
    mydocker("pull", "-q", f"{name}@{manifest}")
    listed = ("images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}")
    before = set(mydocker(*listed).out.splitlines())
    assert f"{name} <none> {manifest}" in before
    mydocker("pull", "-q", f"{name}:1")
    mydocker("tag", f"{name}:1", "elsewhere:1")
    others = before - {f"{name} <none> {manifest}"}
    assert set(mydocker(*listed).out.splitlines()) - others == {f"{name} 1 {manifest}", f"elsewhere 1 {manifest}"}
    mydocker("rmi", f"{name}:1", "elsewhere:1")
    assert set(mydocker(*listed).out.splitlines()) == before  # it was still there


@pytest.mark.parametrize("compress", [zstandard.ZstdCompressor(3).compress, bytes], ids=["zstd", "uncompressed"])
def test_layers_may_be_compressed_otherwise_or_not(
    mydocker: Mydocker, registry: Registry, busybox_tar_bytes: bytes, compress: Callable[[bytes], bytes]
) -> None:
    registry.put_image("layers", "1", busybox_tar_bytes, compress=compress)
    assert mydocker("run", "--rm", f"{registry.host}/layers:1", "echo", "ran").out == "ran\n"


@pytest.mark.parametrize("kind", [media_types.MEDIA_INDEX, media_types.DOCKER_INDEX])
def test_index_gives_the_image_of_the_platform(mydocker: Mydocker, registry: Registry, busybox_tar_bytes: bytes, kind: str) -> None:
    def put(architecture: str, **more: Any) -> dict[str, Any]:
        layers = (busybox_tar_bytes, tar(member("which", architecture.encode())))
        manifest, blobs = new_image(*layers, architecture=architecture)
        for data in blobs:
            registry.put_blob("many", data)
        registry.put_manifest("many", digest(json.dumps(manifest).encode()), manifest)
        platform = {"os": "linux", "architecture": architecture}
        return descriptor(json.dumps(manifest).encode(), media_types.MEDIA_MANIFEST, platform=platform, **more)

    attestation = put("unknown", annotations={"vnd.docker.reference.type": "attestation-manifest"})
    entries = [attestation, put("s390x"), put("amd64")]
    index = registry.put_manifest("many", "1", {"schemaVersion": 2, "mediaType": kind, "manifests": entries})
    name = f"{registry.host}/many:1"
    assert f"Digest: {index}" in mydocker("pull", name).out
    assert mydocker("run", "--rm", name, "cat", "/which").out == "amd64"
    mydocker("pull", "--platform", "linux/s390x", name)
    assert json.loads(mydocker("inspect", "--type=image", name).out)
    assert mydocker("run", "--rm", "--platform", "amd64", name, "cat", "/which").out == "amd64"
    error = mydocker("pull", "--platform", "linux/riscv64", name, code=125).one_error_line()
    assert "no image for linux/riscv64" in error and "linux/amd64, linux/s390x" in error
    by_digest = f"{registry.host}/many@{index}"
    assert mydocker("run", "--rm", by_digest, "cat", "/which").out == "amd64"


def test_all_tags_come_in(mydocker: Mydocker, registry: Registry, busybox_tar_bytes: bytes) -> None:
    for tag in ("a", "b", "c"):
        registry.put_image("tags", tag, busybox_tar_bytes, created=f"2025-01-0{ord(tag) - 96}T00:00:00Z")
    mydocker("pull", "--all-tags", f"{registry.host}/tags")
    listed = mydocker("images", "--format", "{{.Repository}}:{{.Tag}}").out
    assert all(f"{registry.host}/tags:{tag}" in listed for tag in "abc")
    assert "a tag cannot be given" in mydocker("pull", "-a", f"{registry.host}/tags:a", code=125).one_error_line()


def test_run_and_create_pull_as_they_are_told(mydocker: Mydocker, registry: Registry, busybox_tar_bytes: bytes) -> None:
    name = f"{registry.host}/told:latest"
    old, new = (tar(member("version", text)) for text in (b"old", b"new"))
    registry.put_image("told", "latest", busybox_tar_bytes, old)
    assert "no image" in mydocker("run", "--pull", "never", name, "true", code=125).one_error_line()
    done = mydocker("run", "--rm", name, "cat", "/version")
    assert done.out == "old" and "Unable to find image" in done.err and "Pull complete" in done.err
    registry.put_image("told", "latest", busybox_tar_bytes, new)
    assert mydocker("run", "--rm", name, "cat", "/version").out == "old"
    assert mydocker("run", "--rm", "--pull=always", name, "cat", "/version").out == "new"
    identity = mydocker("create", "--pull=always", name, "true").out.strip()
    mydocker("rm", identity)


def test_what_no_registry_has_is_one_clear_error(mydocker: Mydocker, registry: Registry) -> None:
    assert "has no such thing" in mydocker("pull", f"{registry.host}/nothing:1", code=125).one_error_line().split("\n")[-1]
    done = mydocker("run", f"{registry.host}/nothing:1", "true", code=125)
    assert "no image" in done.err and "cannot be pulled" in done.err
    gone = mydocker("pull", "127.0.0.1:1/gone:1", code=125).err
    assert "connection refused" in gone
    assert "cannot be resolved" in mydocker("pull", "registry.invalid/a:1", code=125).err


def test_schema_1_artifacts_and_foreign_layers_are_refused_by_name(mydocker: Mydocker, registry: Registry) -> None:
    layer = tar(member("x"))
    manifest, blobs = new_image(layer)
    for data in blobs:
        registry.put_blob("odd", data)
    registry.put_blob("odd", b"{}")
    chart = {**manifest, "config": descriptor(b"{}", "application/vnd.cncf.helm.config.v1+json")}
    registry.put_manifest("odd", "chart", chart)
    assert "no container image, but 'application/vnd.cncf.helm" in mydocker("pull", f"{registry.host}/odd:chart", code=125).err
    assert image_config(layer)


def test_tar_is_imported_from_a_web_server(mydocker: Mydocker, busybox_tar_bytes: bytes) -> None:
    def answer(asked: Asked) -> Answer:
        found = {
            "/root.tar.gz": (200, {}, packed(busybox_tar_bytes)), "/cut": (200, {"Content-Length": "99999999"}, busybox_tar_bytes),
            "/moved": (302, {"Location": "/root.tar.gz"}, b""), "/away": (302, {"Location": "file:///etc/shadow"}, b"")}
        return found.get(asked.path, (404, {}, b"none"))

    with Answering(answer) as server:
        for path in ("root.tar.gz", "moved"):
            mydocker("import", f"http://{server.host}/{path}", "fetched")
            assert mydocker("run", "--rm", "fetched", "echo", "here").out == "here\n"
        assert json.loads(mydocker("image", "inspect", "fetched").out)[0]["Comment"] == "Imported from moved"
        for path, told in (("cut", "broke off"), ("away", "no web address"), ("none", "404")):
            assert told in mydocker("import", f"http://{server.host}/{path}", "bad", code=125).one_error_line()
    assert "no image bad" in mydocker("run", "--pull=never", "bad", code=125).err


def test_registry_with_tls_is_reached_by_a_proxy_that_wants_a_password(
    mydocker: Mydocker, busybox_tar_bytes: bytes, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(str(tmp_path))
    registry = Registry(str(tmp_path / "registry"), tls=authority)
    try:
        registry.put_image("far", "1", busybox_tar_bytes)
        host = f"registry.test:{registry.host.partition(':')[2]}"  # only the proxy knows the way
        with Tunnels(registry.host, "me:p@ss") as proxy, authority.trusted_for(host):
            monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.host}")
            told = mydocker("pull", f"{host}/far:1", code=125).one_error_line()
            assert f"by the proxy {proxy.host}: it answers 407" in told and "HTTPS_PROXY=http://USER:PASSWORD@" in told
            monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%40ss@{proxy.host}")
            mydocker("pull", f"{host}/far:1")
            assert set(proxy.asked) == {host}
            assert mydocker("run", "--rm", f"{host}/far:1", "echo", "here").out == "here\n"
            monkeypatch.setenv("NO_PROXY", "localhost,.test")
            assert "cannot be resolved" in mydocker("pull", f"{host}/far:1", "--platform", "linux/arm64", code=125).one_error_line()
    finally:
        registry.close()


@pytest.mark.needs("netns", "ip", "nsenter")
def test_registry_without_tls_may_be_at_the_web_s_own_port(
    mydocker: Mydocker, machine: Machine, busybox_tar_bytes: bytes
) -> None:
    """On a machine of its own, where nobody else has port 80, and nobody port 443."""
    with machine.entered():
        server = Answering(serve_image(*new_image(busybox_tar_bytes)), port=80)
    with server:
        mydocker("pull", "127.0.0.1/plain:1")
    assert any(asked.path.startswith("/v2/plain/blobs/") for asked in server.asked)


def test_run_create_and_build_take_a_registry_as_insecure_where_they_are_told(
    mydocker: Mydocker, busybox_tar_bytes: bytes, tmp_path: Any
) -> None:
    registry = Registry(str(tmp_path / "registry"), tls=Authority(str(tmp_path)))
    try:
        for tag in ("run", "create", "build"):
            registry.put_image("own", tag, busybox_tar_bytes, created=f"2024-01-0{len(tag)}T00:00:00Z")
        name, insecure = f"{registry.host}/own", f"--insecure-registry={registry.host}"
        told = mydocker("run", "--rm", f"{name}:run", "true", code=125).one_error_line()
        assert "not to be trusted" in told and "/etc/docker/certs.d" in told
        assert mydocker("run", "-q", "--rm", insecure, f"{name}:run", "echo", "ran").out == "ran\n"
        mydocker("create", "--name", "made", insecure, f"{name}:create")
        dockerfile = f"FROM {name}:build\n".encode()
        assert "not to be trusted" in mydocker("build", "-", stdin=dockerfile, code=125).err
        mydocker("build", insecure, "-t", f"{name}:again", "--push", "-", stdin=dockerfile)
        assert registry.ask("HEAD", "/v2/own/manifests/again", headers={"Accept": media_types.MEDIA_MANIFEST})[0] == 200
    finally:
        registry.close()


def test_quiet_run_says_nothing_of_its_pull(mydocker: Mydocker, registry: Registry, busybox_tar_bytes: bytes) -> None:
    registry.put_image("hush", "1", busybox_tar_bytes)
    assert mydocker("run", "-q", "--rm", f"{registry.host}/hush:1", "true").err == ""
