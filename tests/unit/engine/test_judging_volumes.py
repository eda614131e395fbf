"""What `-v`, `--mount type=volume`, `--volumes-from` and `volume create` come to, and what is refused."""
from __future__ import annotations

from typing import Any

import pytest

from mydocker.base.errors import InvalidRequest, Unsupported
from mydocker.engine.request import Volume, judge
from mydocker.engine.volume_mounts import from_document, image_volumes
from mydocker.engine.volume_request import VolumeMount, judge_settings, plan_settings
from mydocker.image.store import ResolvedImage


def judged(**options: Any) -> tuple[Volume, ...]:
    return judge("image", [], options).volumes


def refused(**options: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        judge("image", [], options)
    return caught.value.message


def test_a_name_is_a_volume_and_a_path_is_a_directory() -> None:
    assert judged(volume=["data:/x:ro", "/y", "/tmp:/a", "./here:/b", "da.ta_2-x:/z:nocopy,rw"]) == (
        VolumeMount(source="", target="/x", options=("ro",), volume="data"),
        VolumeMount(source="", target="/y", anonymous=True),
        Volume(source="/tmp", target="/a"),
        judged(volume=["./here:/b"])[0],
        VolumeMount(source="", target="/z", options=("rw",), volume="da.ta_2-x", nocopy=True))
    assert judged(volume=["./here:/b"])[0].source.startswith("/")
    assert judged(volume={"data": "/x:ro"}) == judged(volume=["data:/x:ro"])


@pytest.mark.parametrize(("word", "text"), [
    ("x@:/b", "is not the name of a volume"), ("-x:/b", "is not the name of a volume"), ("a:/b", "too short"),
    ("data:/", "must be absolute and not /"), ("data:b", "must be absolute"), ("rel", "must be absolute"), ("/", "not /"),
    ("data:/a/../..", "must be absolute and not /"), ("data:/x:foo", "unknown option foo"), ("data:/x:rshared", "unknown option rshared"),
    ("a:/b:ro:x", "is not [HOST|NAME:]CONTAINER"), (":/b", "is not [HOST|NAME:]"), ("", "is not [HOST|NAME:]"),
    ("data:/proc", "not of type proc"), ("/proc/", "not of type proc"), ("d" * 256 + ":/x", "is not the name"), ("da\0ta:/x", "is not"),
])
def test_a_volume_that_cannot_be_is_refused(word: str, text: str) -> None:
    assert text in refused(volume=[word])


def test_mounts_of_volumes() -> None:
    assert judged(mount=[
        "dst=/a", "type=volume,src=data,target=/b,readonly,volume-nocopy", "src=data,dst=/c,volume-subpath=sub/dir",
        "src=new,dst=/d,volume-label=a=1,volume-label=b,volume-opt=type=tmpfs,volume-opt=o=size=1m,volume-driver=local",
    ]) == (
        VolumeMount(source="", target="/a", anonymous=True),
        VolumeMount(source="", target="/b", options=("ro",), volume="data", nocopy=True),
        VolumeMount(source="", target="/c", volume="data", subpath="sub/dir"),
        VolumeMount(source="", target="/d", volume="new", labels=(("a", "1"), ("b", "")), settings=(("type", "tmpfs"), ("o", "size=1m"))))


@pytest.mark.parametrize(("word", "text"), [
    ("type=volume,src=/abs,dst=/x", "is not the name of a volume"), ("src=data", "target is required"),
    ("src=data,dst=/x,volume-subpath=../y", "volume-subpath"), ("src=data,dst=/x,volume-subpath=/y", "volume-subpath"),
    ("src=data,dst=/x,volume-opt=foo=1", 'invalid option: "foo"'), ("src=data,dst=/x,tmpfs-size=1", "cannot mix 'tmpfs-size'"),
    ("src=data,dst=/x,bind-propagation=shared", "cannot mix 'bind-propagation'"), ("dst=/proc", "not of type proc"),
    ("src=data,dst=/", "invalid mount path"), ("src=data,dst=/x,volume-nocopy=maybe", "invalid value for volume-nocopy"),
])
def test_a_mount_of_a_volume_that_cannot_be_is_refused(word: str, text: str) -> None:
    assert text in refused(mount=[word])


def test_another_driver_is_refused() -> None:
    with pytest.raises(Unsupported, match="no such driver"):
        judge("image", [], {"mount": ["src=data,dst=/x,volume-driver=nfs"]})
    with pytest.raises(Unsupported, match="no such driver"):
        judge("image", [], {"volume_driver": "nfs"})
    assert judge("image", [], {"volume_driver": "local"}).volumes == ()


def test_two_volumes_at_one_place_are_refused() -> None:
    assert "two of them would be at /x" in refused(volume=["data:/x", "/x"])
    assert "two of them would be at /x" in refused(volume=["data:/x"], mount=["dst=/x/"])


def test_volumes_of_another_container() -> None:
    assert judge("image", [], {"volumes_from": ["a", "b:ro"]}).volumes_from == (("a", ""), ("b", "ro"))
    assert "is not CONTAINER[:ro]" in refused(volumes_from=["a:foo"])
    assert "is not CONTAINER[:ro]" in refused(volumes_from=[":ro"])


def test_options_of_the_local_driver() -> None:
    assert plan_settings(judge_settings({"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1"}, "x"), "x") == (
        "tmpfs", "", ("size=1m", "uid=1"))
    assert plan_settings(judge_settings({"type": "none", "o": "bind,ro", "device": "/srv//data/"}, "x"), "x") == (
        "bind", "/srv/data", ("ro",))
    assert judge_settings({}, "x") == ()


@pytest.mark.parametrize(("settings", "text"), [
    ({"foo": "1"}, 'invalid option: "foo"'), ({"type": "ext4"}, 'missing required option: "device"'),
    ({"o": "size=10m"}, 'missing required option: "device"'), ({"type": "none", "o": "bind"}, 'missing required option: "device"'),
    ({"type": "none", "o": "bind", "device": "rel"}, "not an absolute path"), ({"type": "tmpfs", "o": "foo"}, "invalid tmpfs option"),
    ({"type": "none", "o": "bind,foo", "device": "/x"}, 'invalid option "foo" of a bind'),
])
def test_options_of_the_local_driver_that_cannot_be(settings: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        judge_settings(settings, "create volume x")
    assert text in caught.value.message


def test_file_systems_that_the_engine_does_not_mount_are_refused_with_the_way_out() -> None:
    with pytest.raises(Unsupported, match="type nfs") as caught:
        judge_settings({"type": "nfs", "o": "addr=10.0.0.1", "device": ":/x"}, "create volume x")
    assert "o=bind" in caught.value.hint


def image_with(*paths: str) -> ResolvedImage:
    return ResolvedImage(
        reference="evil:1", manifest_digest="", chain_ids=(), config={"config": {"Volumes": {path: {} for path in paths}}})  # type: ignore[typeddict-item]


@pytest.mark.parametrize("path", [
    "/", "//", ".", "", "/proc", "/proc/", "//proc", "/proc/sys", "/./proc", "/sys", "/sys/kernel", "/dev", "/dev/pts", "proc",
    "/../../etc", "..", "../../etc", "/data/../../etc", "/a/..", "/a\0b", "/a\nb", "/" + "a" * 4096,
])
def test_an_image_cannot_have_a_volume_everywhere(path: str) -> None:
    """CVE-2019-16884, CVE-2022-23648."""
    with pytest.raises(InvalidRequest, match="VOLUME"):
        image_volumes(image_with("/data", path))


def test_volumes_of_an_image() -> None:
    assert image_volumes(image_with("/data", "rel/", "/data/", "/sys/fs/cgroup", "/dev/shm")) == [
        "/data", "/rel", "/sys/fs/cgroup", "/dev/shm"]
    assert image_volumes(image_with()) == []
    with pytest.raises(InvalidRequest, match="1000 of them"):
        image_volumes(image_with(*(f"/{number}" for number in range(1000))))


def test_a_mount_survives_its_way_through_the_record() -> None:
    config = judge("image", [], {"volume": ["/tmp:/a:ro"], "mount": ["src=new,dst=/d,volume-label=a=1,volume-opt=type=tmpfs"]})
    documents = config.to_document()["volumes"]
    assert documents[0] == {"source": "/tmp", "target": "/a", "options": ("ro",)}
    assert tuple(from_document(item) for item in documents) == config.volumes
