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
from harness import Mydocker, until
from image_rig import member, tar
from registry_rig import Answer, Answering, Asked, new_image, random_bytes, serve_image

pytestmark = [pytest.mark.needs("root", "overlay"), pytest.mark.counts_links]

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


BIG = tar(member("big", random_bytes(4_000_000)))
HALF = 2_500_000


class Cutting:
    """Answers of a server with an image of one layer that stalls after HALF of it, once; it knows ranges afterwards."""

    def __init__(self) -> None:
        self.manifest, self.blobs = new_image(BIG)
        self.digest = self.manifest["layers"][0]["digest"]
        self.is_slow = True
        self.ranges: list[str] = []

    def __call__(self, asked: Asked) -> Answer | None:
        if not asked.path.endswith(self.digest):
            return None
        data, wanted = self.blobs[1], asked.headers.get("Range", "")
        self.ranges.append(wanted)
        if self.is_slow:
            return 200, {"Content-Length": str(len(data)), "X-Stall": "10"}, data[:HALF]
        if not wanted:
            return 200, {}, data
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        return 206, {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, data[start:]


def partials(mydocker: Mydocker) -> list[str]:
    try:
        return os.listdir(f"{mydocker.root}/image/partial")
    except FileNotFoundError:
        return []


def kill_half_way(mydocker: Mydocker, cutting: Cutting, name: str) -> str:
    """Kill a pull in the middle of a layer; returns the path of what is left of it."""
    path = f"{mydocker.root}/image/partial/{cutting.digest[7:]}"
    with subprocess.Popen(
        [*mydocker.argv, "pull", name], env=mydocker.environ(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        # The last chunk may still be on its way through the process.
        until(lambda: os.path.exists(path) and os.stat(path).st_size > HALF - (512 << 10), what="for half of the layer")
        process.kill()
    cutting.is_slow = False
    return path


def test_next_pull_goes_on_where_a_killed_one_was(mydocker: Mydocker) -> None:
    cutting, before = Cutting(), names(mydocker)
    with Answering(serve_image(cutting.manifest, cutting.blobs, cutting)) as server:
        name = f"{server.host}/image:1"
        size = os.stat(kill_half_way(mydocker, cutting, name)).st_size
        check(mydocker)
        finish(mydocker, name, before)
        assert cutting.ranges == ["", f"bytes={size}-"]
    assert partials(mydocker) == []


def test_what_is_left_of_a_pull_is_not_believed(mydocker: Mydocker) -> None:
    cutting, before = Cutting(), names(mydocker)
    with Answering(serve_image(cutting.manifest, cutting.blobs, cutting)) as server:
        name = f"{server.host}/image:1"
        with open(kill_half_way(mydocker, cutting, name), "r+b") as file:
            file.seek(1_000_000)
            file.write(bytes(4096))  # as after a power cut
        finish(mydocker, name, before)
        assert len(cutting.ranges) == 3 and cutting.ranges[2] == ""
    assert partials(mydocker) == []


def test_what_is_left_of_a_pull_and_whole_needs_no_download(mydocker: Mydocker) -> None:
    cutting, before = Cutting(), names(mydocker)
    with Answering(serve_image(cutting.manifest, cutting.blobs, cutting)) as server:
        name = f"{server.host}/image:1"
        with open(kill_half_way(mydocker, cutting, name), "wb") as file:
            file.write(cutting.blobs[1])
        finish(mydocker, name, before)
        assert cutting.ranges == [""]
    assert partials(mydocker) == []


@pytest.mark.parametrize("is_here", [False, True], ids=["new image", "image that is here"])
def test_pull_of_another_image_sweeps_what_a_killed_one_left(mydocker: Mydocker, server: Answering, is_here: bool) -> None:
    if is_here:
        mydocker("pull", f"{server.host}/image:1")
    cutting = Cutting()
    with Answering(serve_image(cutting.manifest, cutting.blobs, cutting)) as other:
        kill_half_way(mydocker, cutting, f"{other.host}/image:1")
    assert partials(mydocker) != []
    mydocker("pull", f"{server.host}/image:1")
    assert partials(mydocker) == []
    assert not [entry for entry in os.listdir(f"{mydocker.root}/layer") if entry.startswith(".tmp")]


def test_gc_sweeps_what_a_killed_pull_left(mydocker: Mydocker) -> None:
    cutting = Cutting()
    with Answering(serve_image(cutting.manifest, cutting.blobs, cutting)) as other:
        kill_half_way(mydocker, cutting, f"{other.host}/image:1")
    mydocker("gc")
    assert partials(mydocker) == []


def test_pull_beside_a_living_one_leaves_its_beginning(mydocker: Mydocker, server: Answering) -> None:
    cutting = Cutting()
    with Answering(serve_image(cutting.manifest, cutting.blobs, cutting)) as other:
        name = f"{other.host}/image:1"
        with subprocess.Popen(
            [*mydocker.argv, "pull", name], env=mydocker.environ(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            until(lambda: any(os.stat(f"{mydocker.root}/image/partial/{entry}").st_size for entry in partials(mydocker)), what="for bytes")
            cutting.is_slow = False
            mydocker("pull", f"{server.host}/image:1")
            mydocker("gc")
            assert partials(mydocker) == [cutting.digest[7:]]
            assert process.wait(timeout=30) == 0
        assert mydocker("run", "--rm", name, "x", code=None).code != 0  # it is there; it has no programs
        check(mydocker)
    assert partials(mydocker) == []
    assert cutting.ranges[0] == "" and cutting.ranges[1].startswith("bytes=")


def test_beginning_that_became_a_blob_while_a_sweep_looked_at_it_is_no_beginning(mydocker: Mydocker) -> None:
    cutting = Cutting()
    with Answering(serve_image(cutting.manifest, cutting.blobs, cutting)) as server:
        name = f"{server.host}/image:1"
        kill_half_way(mydocker, cutting, name)
        with subprocess.Popen([*mydocker.argv, "gc"], env={**mydocker.environ(), "MYDOCKER_TRACE": "partial opened=sleep:3"}) as process:
            opened = f"{mydocker.root}/image/partial/{cutting.digest[7:]}"
            until(lambda: opened in links_of(process.pid), what="for gc to open the file")
            mydocker("pull", name)
            assert process.poll() is None
            assert process.wait(timeout=30) == 0
        mydocker("image", "verify")
        check(mydocker)


def links_of(pid: int) -> set[str]:
    """Return the paths of a process's open files."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            pass
    return found


def test_pull_of_all_tags_goes_on_with_what_one_killed_at_the_last_tag_had(mydocker: Mydocker) -> None:
    cutting = Cutting()
    small, small_blobs = new_image(tar(member("small")))
    first, second = serve_image(small, small_blobs), serve_image(cutting.manifest, cutting.blobs, cutting)

    def answer(asked: Asked) -> Answer:
        if asked.path.endswith("/tags/list"):
            return 200, {}, json.dumps({"name": "image", "tags": ["1", "2"]}).encode()
        wanted = first(asked) if not asked.path.endswith("/manifests/2") else second(asked)
        return wanted if wanted[0] != 404 else second(asked)

    with Answering(answer) as server:
        path = f"{mydocker.root}/image/partial/{cutting.digest[7:]}"
        with subprocess.Popen(
            [*mydocker.argv, "pull", "-a", f"{server.host}/image"], env=mydocker.environ(), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            until(lambda: os.path.exists(path) and os.stat(path).st_size > HALF - (512 << 10), what="for half of the layer")
            process.kill()
        cutting.is_slow = False
        size = os.stat(path).st_size
        mydocker("pull", "-a", f"{server.host}/image")
        assert cutting.ranges == ["", f"bytes={size}-"]
    assert partials(mydocker) == []
    check(mydocker)


@pytest.mark.parametrize("point", ["image synced", "image layers named", "image blobs linked"])
@pytest.mark.parametrize("is_here", [False, True], ids=["new image", "image that is here"])
def test_pull_of_another_image_collects_what_one_killed_while_it_gave_names_left(
    mydocker: Mydocker, server: Answering, point: str, is_here: bool
) -> None:
    manifest, blobs = new_image(BIG)
    with Answering(serve_image(manifest, blobs)) as other:
        name = f"{other.host}/image:1"
        mydocker("pull", name)
        kept = names(mydocker)
        if not is_here:
            mydocker("rmi", name)
        done = mydocker("pull", f"{server.host}/image:1", code=None, env={"MYDOCKER_TRACE": f"{point}=kill"})
        assert done.code == -signal.SIGKILL
        mydocker("pull", name)
    assert names(mydocker) == kept
    assert os.listdir(f"{mydocker.root}/image/publishing") == partials(mydocker) == []
    check(mydocker)


def test_no_pull_collects_what_a_living_one_has_just_named(mydocker: Mydocker, server: Answering) -> None:
    manifest, blobs = new_image(BIG)
    with Answering(serve_image(manifest, blobs)) as other, subprocess.Popen(
        [*mydocker.argv, "pull", f"{server.host}/image:1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**mydocker.environ(), "MYDOCKER_TRACE": "image layers named=sleep:3"},
    ) as process:
        until(lambda: len([name for name in names(mydocker) if len(name) == 64]) >= len(LAYERS), what="for the layers' names")
        mydocker("pull", f"{other.host}/image:1")
        assert process.wait(timeout=30) == 0
    mydocker("image", "verify")
    check(mydocker)


def test_blob_killed_between_its_two_names_is_never_written_again(mydocker: Mydocker) -> None:
    cutting, before = Cutting(), names(mydocker)
    cutting.is_slow = False
    with Answering(serve_image(cutting.manifest, cutting.blobs, cutting)) as server:
        name = f"{server.host}/image:1"
        mydocker("pull", name)
        hexadecimal = cutting.digest[7:]
        os.makedirs(f"{mydocker.root}/image/partial", exist_ok=True)
        kept = f"{mydocker.root}/kept"
        os.link(f"{mydocker.root}/image/blobs/sha256/{hexadecimal}", kept)
        mydocker("rmi", name)
        os.link(kept, f"{mydocker.root}/image/partial/{hexadecimal}")
        os.truncate(kept, HALF)
        finish(mydocker, name, before)
        assert os.stat(kept).st_size == HALF
        os.unlink(kept)


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
