"""Images of other engines run here, and images of ours run there: saved and loaded both ways, equal where digests say so."""
from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest
from harness import Mydocker
from peers import IMAGE, Peer, open_buildah, open_docker, open_podman

pytestmark = [pytest.mark.needs("root", "overlay", "busybox"), pytest.mark.counts_links]

#: A layer with what layers have trouble with: links, owners, bits, devices' kin, deletions, an opaque directory.
_STEPS = (
    "mkdir -p /made/kept /made/gone && echo one >/made/kept/one && ln /made/kept/one /made/kept/two && ln -s one /made/kept/link "
    "&& mkfifo /made/kept/fifo && chown 7:8 /made/kept/one && chmod 4711 /made/kept/one && mkdir -m 1777 /made/sticky",
    "rm -r /made/gone /etc/group && rm -r /made/sticky && mkdir /made/sticky && echo new >/made/sticky/new",
)
_LOOK = (
    "cd / && find etc made | sort && stat -c '%n %a %u:%g %h %F' made/kept/* made/sticky && cat made/kept/two made/sticky/new")


@pytest.fixture(scope="module")
def docker() -> Iterator[Peer]:
    with open_docker() as peer:
        yield peer


@pytest.fixture(scope="module")
def podman() -> Iterator[Peer]:
    with open_podman() as peer:
        yield peer


@pytest.fixture(scope="module")
def buildah() -> Iterator[Peer]:
    with open_buildah() as peer:
        yield peer


def dockerfile(directory: str) -> str:
    path = f"{directory}/Dockerfile"
    with open(path, "w", encoding="ascii") as stream:
        stream.write(f"FROM {IMAGE}\n" + "".join(f"RUN {step}\n" for step in _STEPS) + 'ENV WORD="two words"\nLABEL a=b\nCMD ["sh"]\n')
    return path


def make_here(mydocker: Mydocker, base: str) -> None:
    """Make the same image with our own commits, under the name made:1."""
    name = base
    for number, step in enumerate(_STEPS):
        mydocker("run", "--name", f"step{number}", name, "sh", "-c", step)
        mydocker("commit", "-c", 'CMD ["sh"]', "-c", "LABEL a=b", f"step{number}", "made:1")
        name = "made:1"


def seen_here(mydocker: Mydocker, image: str) -> str:
    return mydocker("run", "--rm", "--network", "none", image, "sh", "-c", _LOOK).out


def check_seen(seen: str) -> None:
    lines = seen.splitlines()
    assert "made/gone" not in lines and "etc/group" not in lines and "made/sticky/new" in lines
    assert "made/kept/one 4711 7:8 2 regular file" in lines and "made/kept/fifo 644 0:0 1 fifo" in lines
    assert "made/kept/link 777 0:0 1 symbolic link" in lines and lines[-2:] == ["one", "new"]


def blobs(mydocker: Mydocker, image: str) -> dict[str, list[str]]:
    found = json.loads(mydocker("image", "inspect", image).out)[0]
    return {"id": [found["Id"]], "diff_ids": found["RootFS"]["Layers"]}


@pytest.mark.needs("dockerd")
@pytest.mark.time_limit(180)
def test_images_go_to_docker_and_come_back(mydocker: Mydocker, busybox: str, docker: Peer, scratch: str) -> None:
    make_here(mydocker, busybox)
    here = seen_here(mydocker, "made:1")
    check_seen(here)
    mydocker("save", "-o", f"{scratch}/ours.tar", "made:1", busybox)
    assert "Loaded image: made:1" in docker("load", "-i", f"{scratch}/ours.tar").stdout
    theirs = json.loads(docker("image", "inspect", "made:1").stdout)[0]
    assert {"id": [theirs["Id"]], "diff_ids": theirs["RootFS"]["Layers"]} == blobs(mydocker, "made:1")
    assert docker.run("made:1", "sh", "-c", _LOOK).stdout.replace("etc/mtab\n", "") == here.replace("etc/mtab\n", "")
    docker("save", "-o", f"{scratch}/theirs.tar", "made:1")
    before = blobs(mydocker, "made:1")
    mydocker("rmi", "-f", "made:1")
    mydocker("load", "-i", f"{scratch}/theirs.tar")
    assert blobs(mydocker, "made:1") == before and seen_here(mydocker, "made:1") == here


@pytest.mark.needs("dockerd")
@pytest.mark.time_limit(180)
def test_images_that_docker_built_run_here(mydocker: Mydocker, docker: Peer, scratch: str) -> None:
    dockerfile(scratch)
    docker.env["DOCKER_BUILDKIT"] = "0"
    docker("build", "--network", "none", "-t", "built:1", scratch)
    docker("save", "-o", f"{scratch}/built.tar", "built:1", IMAGE)
    mydocker("load", "-i", f"{scratch}/built.tar")
    theirs = json.loads(docker("image", "inspect", "built:1").stdout)[0]
    assert {"id": [theirs["Id"]], "diff_ids": theirs["RootFS"]["Layers"]} == blobs(mydocker, "built:1")
    check_seen(seen_here(mydocker, "built:1"))
    assert mydocker("run", "--rm", "built:1", "sh", "-c", "echo $WORD").out == "two words\n"
    assert mydocker("image", "verify", "built:1").out == "built:1: ok\n"
    ours = [line.split()[0] for line in mydocker("history", "--format", "{{.CreatedBy}}", "--no-trunc", "built:1").out.splitlines() if line]
    assert len(ours) == len(theirs_history(docker))


def theirs_history(docker: Peer) -> list[str]:
    return [line for line in docker("history", "--format", "{{.CreatedBy}}", "--no-trunc", "built:1").stdout.splitlines() if line]


@pytest.mark.needs("podman", "skopeo")
@pytest.mark.time_limit(180)
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_images_go_to_podman_and_come_back(mydocker: Mydocker, busybox: str, podman: Peer, scratch: str, form: str) -> None:
    make_here(mydocker, busybox)
    here = seen_here(mydocker, "made:1")
    mydocker("save", "--format", form, "-o", f"{scratch}/ours.tar", "made:1")
    try:
        podman("load", "-i", f"{scratch}/ours.tar")
        name = podman("images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "reference=made").stdout.split()[0]
        theirs = json.loads(podman("image", "inspect", name).stdout)[0]
        assert {"id": [f"sha256:{theirs['Id']}"], "diff_ids": theirs["RootFS"]["Layers"]} == blobs(mydocker, "made:1")
        assert podman.run(name, "sh", "-c", _LOOK).stdout.replace("etc/mtab\n", "") == here.replace("etc/mtab\n", "")
        podman("save", "--format", form, "-o", f"{scratch}/theirs.tar", name)
    finally:
        podman("rmi", "-f", "made:1", code=None)
    before = blobs(mydocker, "made:1")
    mydocker("rmi", "-f", "made:1")
    loaded = mydocker("load", "-q", "-i", f"{scratch}/theirs.tar").out.strip()
    assert blobs(mydocker, loaded) == before and seen_here(mydocker, loaded) == here


@pytest.mark.needs("buildah", "skopeo")
@pytest.mark.time_limit(180)
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_images_that_buildah_pushed_as_a_layout_run_here_and_skopeo_reads_ours(
    mydocker: Mydocker, buildah: Peer, scratch: str, compression: str
) -> None:
    dockerfile(scratch)
    buildah("bud", "--network", "none", "-t", "built:1", "-f", f"{scratch}/Dockerfile", scratch)
    buildah("push", "built:1", f"oci:{scratch}/layout:built:1")
    source = f"oci:{scratch}/layout:built:1"
    if compression == "zstd":
        subprocess.run([
            "skopeo", "copy", "-q", "--dest-compress-format", "zstd", source, f"oci:{scratch}/zstd:built:1"], check=True)
        source = f"oci:{scratch}/zstd:built:1"
    manifest = subprocess.run(["skopeo", "inspect", "--raw", source], check=True, capture_output=True).stdout
    mydocker("load", "-i", f"{scratch}/{'zstd' if compression == 'zstd' else 'layout'}")
    found = json.loads(mydocker("image", "inspect", "built:1").out)[0]
    check_seen(seen_here(mydocker, "built:1"))
    mydocker("save", "--format", "oci-dir", "-o", f"{scratch}/ours", "built:1")
    ours = subprocess.run(["skopeo", "inspect", "--raw", f"oci:{scratch}/ours"], check=True, capture_output=True).stdout
    assert ours == manifest
    assert found["manifest"] == json.loads(manifest)
    shown = json.loads(subprocess.run(["skopeo", "inspect", f"oci:{scratch}/ours"], check=True, capture_output=True).stdout)
    assert shown["Digest"] == found["manifest_digest"] and shown["Labels"]["a"] == "b"
    assert sorted(os.listdir(f"{scratch}/ours")) == ["blobs", "index.json", "oci-layout"]


@pytest.mark.needs("skopeo")
def test_skopeo_reads_every_format_and_the_engine_s_own_store(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    digest = json.loads(mydocker("image", "inspect", busybox).out)[0]["manifest_digest"]
    mydocker("save", "-o", f"{scratch}/docker.tar", busybox)
    mydocker("save", "--format", "oci-archive", "-o", f"{scratch}/oci.tar", busybox)
    name = "docker.io/library/busybox:latest"
    for source in (f"oci-archive:{scratch}/oci.tar", f"oci:{mydocker.root}/image:{name}", f"oci-archive:{scratch}/docker.tar"):
        shown = json.loads(subprocess.run(["skopeo", "inspect", source], check=True, capture_output=True).stdout)
        assert shown["Digest"] == digest
    subprocess.run(
        ["skopeo", "copy", "-q", f"docker-archive:{scratch}/docker.tar:busybox:latest", f"oci:{scratch}/copied:{name}"], check=True)
    mydocker("load", "-i", f"{scratch}/copied")
    assert mydocker("run", "--rm", busybox, "echo", "works").out == "works\n"
