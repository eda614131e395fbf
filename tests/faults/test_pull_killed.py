"""kill -9 in the middle of a pull: what is stored is whole, and the next pull or removal leaves nothing of it."""
from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
from harness import Mydocker
from image_rig import member, tar
from registry_rig import Answer, Answering, Asked, new_image, random_bytes, serve_image

pytestmark = pytest.mark.needs("root", "overlay")

LAYERS = [tar(*(member(f"dir{number}/file{k}", random_bytes(3000) + bytes([number])) for k in range(150))) for number in range(5)]


@pytest.fixture(scope="module")
def server() -> Iterator[Answering]:
    """A server with an image of five layers."""
    manifest, blobs = new_image(*LAYERS)
    with Answering(serve_image(manifest, blobs)) as found:
        yield found


def check(mydocker: Mydocker) -> None:
    """Nothing that has a name is broken: blobs are what they are called, the index names what is there."""
    image = f"{mydocker.root}/image"
    blobs = os.listdir(f"{image}/blobs/sha256")
    for name in blobs:
        with open(f"{image}/blobs/sha256/{name}", "rb") as file:
            assert hashlib.sha256(file.read()).hexdigest() == name
    with open(f"{image}/index.json") as file:
        for entry in json.load(file)["manifests"]:
            with open(f"{image}/blobs/sha256/{entry['digest'][7:]}") as manifest_file:
                manifest = json.load(manifest_file)
            assert {blob["digest"][7:] for blob in (manifest["config"], *manifest["layers"])} <= set(blobs)


def names(mydocker: Mydocker) -> set[str]:
    """What is in the store, by name; hide layers and mount points belong to no image."""
    root = mydocker.root
    layers = {name for name in os.listdir(f"{root}/layer") if not name.startswith(("host-", "mountpoints"))}
    return layers | set(os.listdir(f"{root}/trash")) | set(os.listdir(f"{root}/image/blobs/sha256"))


def finish(mydocker: Mydocker, name: str, before: set[str]) -> None:
    check(mydocker)
    mydocker("pull", "-q", name)
    check(mydocker)
    assert not [entry for entry in os.listdir(f"{mydocker.root}/layer") if entry.startswith(".tmp")]
    mydocker("rmi", name)
    assert names(mydocker) == before


@pytest.mark.parametrize("point", [
    "layer pulled", "image pulled", "image synced", "image layers named", "image blobs linked",
])
def test_killed_at_a_step(mydocker: Mydocker, server: Answering, point: str) -> None:
    before, name = names(mydocker), f"{server.host}/image:1"
    done = mydocker("pull", name, code=None, env={"MYDOCKER_TRACE": f"{point}=kill"})
    assert done.code == -signal.SIGKILL
    finish(mydocker, name, before)


@pytest.mark.slow
@pytest.mark.time_limit(120)
def test_killed_at_twenty_random_moments(mydocker: Mydocker, server: Answering) -> None:
    before, name = names(mydocker), f"{server.host}/image:1"
    started = time.monotonic()
    mydocker("pull", name)
    whole_s = time.monotonic() - started
    mydocker("rmi", name)
    seed = random.randrange(1 << 30)
    moments = random.Random(seed)
    for number in range(20):
        process = subprocess.Popen(
            [*mydocker.argv, "pull", name], env=mydocker.environ(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.05, whole_s))
        process.kill()
        process.wait()
        check(mydocker)
        if number % 10 == 9:
            finish(mydocker, name, before)


@pytest.mark.parametrize("has_begun", [True, False], ids=["in a layer", "before its first byte"])
def test_interrupted_by_ctrl_c_ends_at_once(mydocker: Mydocker, has_begun: bool) -> None:
    manifest, blobs = new_image(tar(member("big", random_bytes(2_000_000))))
    before = names(mydocker)
    asked_for_layer = threading.Event()
    is_slow = True

    def slow(asked: Asked) -> Answer | None:
        if not is_slow or not asked.path.endswith(manifest["layers"][0]["digest"]):
            return None
        asked_for_layer.set()
        if not has_begun:
            time.sleep(10)
        return 200, {"Content-Length": str(len(blobs[1])), "X-Stall": "10"}, blobs[1][:500_000]

    with Answering(serve_image(manifest, blobs, slow)) as server:
        process = subprocess.Popen(
            [*mydocker.argv, "pull", f"{server.host}/image:1"], env=mydocker.environ(), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        assert asked_for_layer.wait(20)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        assert process.wait(timeout=20) == 130
        assert time.monotonic() - started < 5
        assert names(mydocker) == before or not has_begun
        is_slow = False
        finish(mydocker, f"{server.host}/image:1", before)


def test_full_disk_is_told_and_loses_nothing(mydocker: Mydocker, server: Answering, tmp_path: object) -> None:
    image, place = f"{tmp_path}/disk", f"{tmp_path}/mounted"
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    os.mkdir(place)
    small = tar(member("small"))
    manifest, blobs = new_image(small)
    big = new_image(tar(member("big", random_bytes(24 << 20))))
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    try:
        there = Mydocker(f"{place}/root")
        with Answering(serve_image(manifest, blobs)) as first, Answering(serve_image(*big)) as second:
            there("pull", f"{first.host}/image:1")
            kept = names(there)
            error = there("pull", f"{second.host}/image:1", code=125).one_error_line()
            assert "no space left" in error.lower() or "enospc" in error.lower()
            assert names(there) == kept
            check(there)
            there("pull", f"{first.host}/image:1")
    finally:
        subprocess.run(["umount", place], check=True)
