"""SIGKILL at random moments of what changes images: whole images or none, every byte right, and nothing left after `collect`.

Each command runs in a forked child with the real code, so that the moments fall into the work and not into the start of an
interpreter. The engine's named points are in test_kill_commands.py.
"""
from __future__ import annotations

import contextlib
import os
import random
import signal
import tarfile
import time
from collections.abc import Callable, Iterator

import pytest
from image_rig import directory, docker_archive, images, member, new_container, symlink, tar, tree

from mydocker.base.errors import MydockerError
from mydocker.image.store import Images

pytestmark = [pytest.mark.needs("root", "overlay"), pytest.mark.time_limit(60)]

_MOMENTS = 20
_CHANCE = random.Random(4)
#: Enough files that a command is long against a fork, few enough that 120 of them are not long for people.
_LAYERS = [
    tar(*(entry for number in range(25) for entry in (
        directory(f"l{layer}/d{number}"), member(f"l{layer}/d{number}/f", _CHANCE.randbytes(3000)),
        symlink(f"l{layer}/d{number}/s", "f"))))
    for layer in range(3)
]
_ARCHIVE = docker_archive(*_LAYERS, tags=("new:1", "new:2"))


@pytest.fixture
def store(scratch: str) -> Iterator[Images]:
    """Images with `kept:1`, which has a layer in common with what comes and goes."""
    found = images(scratch)
    with open(f"{scratch}/archive.tar", "wb") as stream:
        stream.write(_ARCHIVE)
    with open(f"{scratch}/kept.tar", "wb") as stream:
        stream.write(docker_archive(_LAYERS[0], tags=("kept:1",)))
    with open(f"{scratch}/root.tar", "wb") as stream:
        stream.write(_LAYERS[1])
    found.load(f"{scratch}/kept.tar")
    yield found


def in_child(act: Callable[[], object]) -> int:
    """Start something in a forked child; returns its pid."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return pid


def killed_at_random(act: Callable[[], object], prepare: Callable[[], object], check: Callable[[], object]) -> tuple[int, int]:
    """Kill `act` at random moments of its usual duration; returns how often it was killed and how often it was done before."""
    prepare()
    begin = time.monotonic()
    assert os.waitpid(in_child(act), 0)[1] == 0
    duration = time.monotonic() - begin
    check()
    killed = done = 0
    for _ in range(_MOMENTS):
        prepare()
        pid = in_child(act)
        time.sleep(_CHANCE.random() * duration)
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        killed, done = (killed + 1, done) if os.WIFSIGNALED(status) else (killed, done + 1)
        check()
    assert killed, "it was never caught at work"
    return killed, done


def forget(store: Images, *names: str) -> None:
    for name in names:
        with contextlib.suppress(MydockerError):
            store.remove(name, force=True)


def state(store: Images) -> tuple[list[str], list[str]]:
    """All that lies below the store, names only."""
    return tree(store.layout.image), sorted(os.listdir(store.layout.layers)) + os.listdir(store.layout.trash)


def check_whole(store: Images) -> None:
    """What has a name is there whole, down to its layers' directories."""
    found = store.list()
    assert "kept:1" in [image.reference for image in found]
    for image in found:
        for chain_id in store.inspect(image.manifest_digest)["layers"]:
            assert os.path.isfile(f"{store.layout.layer(chain_id)}/layer.json")


def check_bytes(store: Images) -> None:
    """Every byte of every image is right."""
    assert [image.faults for image in store.verify() if image.faults] == []


@pytest.mark.parametrize("verb", ["load", "import", "commit", "rmi", "gc"])
def test_killed_at_any_moment_leaves_whole_images_and_nothing_after_a_collection(store: Images, scratch: str, verb: str) -> None:
    store.collect()
    names = ("new:1", "new:2")

    def leave_garbage() -> None:
        """What killed commands leave: layers and blobs that nothing names."""
        for number in range(30):
            os.makedirs(f"{store.layout.layers}/{number:064}/diff/a/b", exist_ok=True)
            with open(f"{store.layout.image}/blobs/sha256/{number:064}", "wb") as blob:
                blob.write(b"x" * 10_000)

    if verb == "commit":
        container, _ = new_container(store, "kept:1")
        with tarfile.open(f"{scratch}/root.tar") as stream:
            stream.extractall(f"{container}/upper", filter="fully_trusted")
        store.collect()
    before = state(store)
    digest = store.inspect("kept:1")["manifest_digest"]
    act, prepare = {
        "load": (lambda: store.load(f"{scratch}/archive.tar"), lambda: forget(store, *names)),
        "import": (lambda: store.import_tar(f"{scratch}/root.tar", "new:1"), lambda: forget(store, *names)),
        "commit": (lambda: store.commit(f"{store.layout.container('1234567890')}/upper", "new:1", manifest_digest=digest),
                   lambda: forget(store, *names)),
        "rmi": (lambda: store.remove("new:1") and store.remove("new:2"), lambda: store.load(f"{scratch}/archive.tar")),
        "gc": (store.collect, leave_garbage),
    }[verb]
    killed_at_random(act, prepare, lambda: check_whole(store))
    check_bytes(store)
    forget(store, *names)
    store.collect()
    assert state(store) == before
    # What was killed works the next time.
    store.load(f"{scratch}/archive.tar")
    check_bytes(store)
    assert {"new:1", "new:2"} <= {image.reference for image in store.list()}


def test_save_killed_leaves_the_old_file_or_the_new_and_no_other(store: Images, scratch: str) -> None:
    store.load(f"{scratch}/archive.tar")
    before = state(store)
    os.mkdir(f"{scratch}/out")
    place = f"{scratch}/out/file.tar"

    def check() -> None:
        with open(place, "rb") as stream:
            assert stream.read() in (b"old", whole)
        # linkat(2) replaces nothing: between it and the rename there is one name more.
        assert len(os.listdir(f"{scratch}/out")) <= 1 + len(lost())

    def lost() -> list[str]:
        return [name for name in os.listdir(f"{scratch}/out") if name.startswith(".file.tar.")]

    def prepare() -> None:
        with open(place, "wb") as stream:
            stream.write(b"old")

    store.save(["new", "kept"], place)
    with open(place, "rb") as stream:
        whole = stream.read()
    killed_at_random(lambda: store.save(["new", "kept"], place), prepare, check)
    assert state(store) == before and len(lost()) <= 1
