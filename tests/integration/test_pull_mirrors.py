"""`pull` by mirrors: what is theirs to answer, and what becomes of it where they, or the registry itself, cannot."""
from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness import Mydocker
from image_rig import member, tar
from registry_rig import Answer, Answering, Asked, new_image, random_bytes, serve_image

pytestmark = pytest.mark.needs("root", "overlay")

#: A registry without a way to it: nobody listens there.
FAR = "127.0.0.1:1"
#: Runs a command on a machine whose /etc has what is in a directory, too.
_WITH_ETC = 'mount -t overlay -o "lowerdir=$0:/etc" overlay /etc && exec "$@"'
LAYER = tar(member("big", random_bytes(2_000_000)))


def pull(mydocker: Mydocker, directory: Path, registry: str, mirror: Answering, *, code: int = 0) -> str:
    """Pull from a registry that has a mirror; returns what was said on standard error."""
    place = directory / "etc" / "mydocker"
    place.mkdir(parents=True)
    (place / "registries.json").write_text(json.dumps({"mirrors": {registry: [f"http://{mirror.host}"]}}))
    plain = mydocker.argv
    mydocker.argv = ["unshare", "--mount", "sh", "-c", _WITH_ETC, str(directory / "etc"), *plain]
    try:
        return mydocker("pull", f"{registry}/image:1", code=code).err
    finally:
        mydocker.argv = plain


class FailsOnce:
    """Answers the first request for each thing of some kind otherwise than the others."""

    def __init__(self, kind: str, answer: Answer) -> None:
        self._kind = kind
        self._answer = answer
        self._seen: set[str] = set()

    def __call__(self, asked: Asked) -> Answer | None:
        if self._kind not in asked.path or asked.path in self._seen:
            return None
        self._seen.add(asked.path)
        return self._answer


@pytest.mark.parametrize("kind", ["/manifests/", "/blobs/"])
@pytest.mark.parametrize("answer", [(503, {}, b""), (200, {"Content-Length": "2000000"}, b"")], ids=["busy", "breaks off"])
def test_only_a_mirror_can_be_reached_and_fails_once(mydocker: Mydocker, tmp_path: Path, kind: str, answer: Answer) -> None:
    with Answering(serve_image(*new_image(LAYER), FailsOnce(kind, answer))) as mirror:
        pull(mydocker, tmp_path, FAR, mirror)
    assert f"{FAR}/image" in mydocker("images").out


def test_neither_the_mirror_nor_the_registry_can_be_asked_and_both_are_named(mydocker: Mydocker, tmp_path: Path) -> None:
    with Answering(lambda _: (503, {"Retry-After": "300"}, b"")) as mirror:
        told = pull(mydocker, tmp_path, FAR, mirror, code=125)
    assert f"{FAR}: connection refused" in told and f"its mirror: {mirror.host}/image:1: {mirror.host} answers 503" in told


def test_mirror_that_is_busy_for_blobs_only_is_passed_over_at_once(mydocker: Mydocker, tmp_path: Path) -> None:
    def busy(asked: Asked) -> Answer | None:
        return (503, {"Retry-After": "30"}, b"") if "/blobs/" in asked.path else None  # the test has no 30 seconds

    image = new_image(LAYER)
    with Answering(serve_image(*image, busy)) as mirror, Answering(serve_image(*image)) as registry:
        assert "trying again" not in pull(mydocker, tmp_path, registry.host, mirror)
    assert [sum("/blobs/" in asked.path for asked in server.asked) for server in (mirror, registry)] == [2, 2]
    assert not any("/manifests/" in asked.path for asked in registry.asked)


def test_mirror_that_refuses_a_layer_is_passed_over(mydocker: Mydocker, tmp_path: Path) -> None:
    image = new_image(LAYER)
    layer = image[0]["layers"][0]["digest"]
    refuses = FailsOnce(layer, (418, {}, b""))
    with Answering(serve_image(*image, refuses)) as mirror, Answering(serve_image(*image)) as registry:
        pull(mydocker, tmp_path, registry.host, mirror)
    assert [asked.path for asked in registry.asked if "/image/" in asked.path] == [f"/v2/image/blobs/{layer}"]
