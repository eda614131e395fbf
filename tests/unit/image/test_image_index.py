"""Names in index.json, and documents judged at the door."""
from __future__ import annotations

import copy

import pytest

from mydocker.base.errors import Corrupt, Unsupported
from mydocker.image import hostimage, index
from mydocker.oci import image_spec, media_types, platform

A, B = ({"mediaType": media_types.MEDIA_MANIFEST, "digest": f"sha256:{letter * 64}", "size": 1} for letter in "ab")


def names(manifests: list) -> list[tuple[str, str]]:
    return [(entry["digest"][7], index.name_of(entry)) for entry in manifests]


def test_name_moves_to_the_new_image_and_the_old_one_becomes_nameless() -> None:
    manifests: list = []
    index.tag(manifests, A, "x")
    index.tag(manifests, B, "x")
    assert names(manifests) == [("a", ""), ("b", "x")]
    index.tag(manifests, A, "y")
    assert names(manifests) == [("b", "x"), ("a", "y")]


def test_old_image_with_another_name_leaves_no_nameless_entry() -> None:
    manifests: list = []
    index.tag(manifests, A, "x")
    index.tag(manifests, A, "y")
    index.tag(manifests, B, "x")
    assert names(manifests) == [("a", "y"), ("b", "x")]


def test_same_name_twice_is_one_entry() -> None:
    manifests: list = []
    for name in ("x", "x", "", ""):
        index.tag(manifests, A, name)
    assert names(manifests) == [("a", "x")]


CONFIG = {"mediaType": media_types.MEDIA_CONFIG, "digest": "sha256:" + "c" * 64, "size": 3}
LAYER = {"mediaType": media_types.MEDIA_LAYER, "digest": "sha256:" + "d" * 64, "size": 3}
MANIFEST = {"schemaVersion": 2, "mediaType": media_types.MEDIA_MANIFEST, "config": CONFIG, "layers": [LAYER]}


@pytest.mark.parametrize(("change", "kind"), [
    ({"manifests": []}, Corrupt),                                       # CVE-2021-41190
    ({"schemaVersion": 1}, Unsupported),
    ({"schemaVersion": "2"}, Corrupt),
    ({"mediaType": media_types.MEDIA_INDEX}, Corrupt),
    ({"layers": None}, Corrupt),
    ({"layers": [LAYER] * 501}, Unsupported),
    ({"layers": [{**LAYER, "digest": "sha256:../../x"}]}, Corrupt),
    ({"layers": [{**LAYER, "size": -1}]}, Corrupt),
    ({"layers": [{**LAYER, "size": True}]}, Corrupt),
    ({"layers": [{**LAYER, "urls": ["http://elsewhere/"]}]}, Unsupported),
    ({"layers": [{**LAYER, "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}]}, Unsupported),
    ({"layers": [{**LAYER, "mediaType": "application/vnd.in-toto+json"}]}, Unsupported),
    ({"config": [CONFIG]}, Corrupt),
])
def test_manifest_that_could_mean_something_else_is_refused(change: dict, kind: type) -> None:
    image_spec.check_manifest(copy.deepcopy(MANIFEST), media_type=media_types.MEDIA_MANIFEST, what="m")
    with pytest.raises(kind):
        image_spec.check_manifest({**MANIFEST, **change}, media_type=media_types.MEDIA_MANIFEST, what="m")


def test_index_with_layers_is_refused() -> None:
    with pytest.raises(Corrupt):
        image_spec.check_index({"schemaVersion": 2, "manifests": [], "layers": []}, what="i")


@pytest.mark.parametrize("document", [
    [], {"os": "windows", "rootfs": {"diff_ids": []}}, {}, {"rootfs": {"diff_ids": ["sha256:x"]}},
    {"rootfs": {"diff_ids": []}, "config": {"Env": "A=b"}}, {"rootfs": {"diff_ids": []}, "config": {"Cmd": [1]}},
    {"rootfs": {"diff_ids": []}, "config": {"Labels": {"a": 1}}}, {"rootfs": {"diff_ids": []}, "history": {}},
    {"rootfs": {"diff_ids": []}, "config": {"User": 0.5}},
])
def test_malformed_config_is_refused(document: object) -> None:
    with pytest.raises((Corrupt, Unsupported)):
        image_spec.check_config(document, what="c")


def test_platform_of_this_machine_is_chosen_and_attestations_are_not() -> None:
    mine = {"os": "linux", "architecture": platform.host_architecture()}
    attestation = {**A, "platform": mine, "annotations": {platform.ATTESTATION: "attestation-manifest"}}
    other = {**A, "platform": {"os": "linux", "architecture": "pdp11"}}
    right = {**B, "platform": mine}
    assert platform.choose([attestation, other, right]) is right  # type: ignore[list-item]
    assert platform.choose([attestation, other]) is None  # type: ignore[list-item]


def test_shown_path_above_a_hidden_one_unhides_it_but_never_the_engine() -> None:
    hidden = ["/etc/shadow", "/root", "/root/state", "/proc"]
    nodes = hostimage.plan_nodes(hidden, (), "/root/state")
    assert nodes["/root"].kind == "opaque" and "/root/state" not in nodes
    nodes = hostimage.plan_nodes(hidden, ("/root",), "/root/state")
    assert nodes["/root"].kind == "directory" and "/root/state" in nodes
    nodes = hostimage.plan_nodes(hidden, ("/",), "/root/state")
    assert set(nodes) == {"/root", "/root/state"}
    nodes = hostimage.plan_nodes(hidden, ("/etc",), "/root/state")
    assert "/etc/shadow" not in nodes and nodes["/root"].kind == "opaque"


def test_what_is_missing_is_hidden_at_its_highest_missing_parent() -> None:
    nodes = hostimage.plan_nodes(["/etc/no-such-dir/deep/secret"], (), "/none")
    assert nodes["/etc"].kind == "directory"
    assert nodes["/etc/no-such-dir"].kind == "whiteout"
    assert "/etc/no-such-dir/deep" not in nodes
