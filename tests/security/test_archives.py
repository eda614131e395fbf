"""Hostile archives, staged for real as root: nothing outside is touched, nothing is left, memory stays bounded.

Rows of the attack list: CVE-2026-17106, 2025-47290, 2021-32760 (unpacking escapes), 2025-58183 and bombs,
2021-20291 and 2024-3727 (digests), 2021-41190 (confusion), 2026-53488 (labels that reach the host).
"""
from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import resource
import stat
import struct
import sys
import tarfile
from collections.abc import Iterator

import pytest
import zstandard
from image_rig import (
    digest,
    directory,
    docker_archive,
    image_config,
    images,
    leftovers,
    link,
    member,
    new_container,
    oci_archive,
    oci_files,
    symlink,
    take,
    tar,
    tree,
)

from mydocker.base.errors import Corrupt, Denied, InvalidRequest, NotFound, Unavailable, Unsupported
from mydocker.oci import media_types

pytestmark = pytest.mark.needs("root", "overlay")

REFUSED = (Corrupt, Unsupported, InvalidRequest, Denied)


@pytest.fixture
def canary(scratch: str) -> Iterator[str]:
    """A tree outside the state root that nothing may change, checked afterwards."""
    top = f"{scratch}/outside"
    os.makedirs(f"{top}/dir", mode=0o700)
    for name in ("file", "dir/file"):
        with open(f"{top}/{name}", "w") as file:
            file.write("canary")
        os.utime(f"{top}/{name}", (1, 1))
    os.utime(f"{top}/dir", (1, 1))
    os.utime(top, (1, 1))
    before = fingerprint(top)
    yield top
    assert fingerprint(top) == before


def fingerprint(top: str) -> list[object]:
    found: list[object] = []
    for name in [".", *tree(top)]:
        status = os.lstat(f"{top}/{name}")
        content = hashlib.sha256(open(f"{top}/{name}", "rb").read()).hexdigest() if stat.S_ISREG(status.st_mode) else ""
        found.append((name, status.st_mode, status.st_uid, status.st_mtime_ns, status.st_ctime_ns, status.st_nlink, content))
    return found


def assert_clean(store) -> None:
    """After a refusal there is no image, no layer, no blob, no temporary thing, and the locks are free."""
    assert store.list() == []
    assert [name for name in os.listdir(store.layout.layers) if not name.startswith("host-")] == []
    assert os.listdir(f"{store.layout.image}/blobs/sha256") == []
    assert leftovers(store) == []
    store.import_tar(io.BytesIO(tar(member("ok"))), "after:1")


# --- escapes --------------------------------------------------------------------------------------------


REFUSED_TARS = {
    "dot dot": lambda c: [member("../escaped", b"x")],
    "deep dot dot": lambda c: [directory("a"), member("a/../../escaped", b"x")],
    "absolute with dot dot": lambda c: [member("/../escaped", b"x")],
    "hard link out by dot dot": lambda c: [link("x", "../../../../../../../../etc/passwd")],
    "hard link to an absolute file outside": lambda c: [link("x", f"{c}/file"), member("x", b"overwritten")],
    "hard link via a link": lambda c: [symlink("l", c), link("x", "l/file")],
    "whiteout of dot dot": lambda c: [directory("a"), member("a/.wh...", b"")],
    "whiteout of dot": lambda c: [directory("a"), member("a/.wh..", b"")],
    "whiteout of nothing": lambda c: [member(".wh.", b"")],
    "whiteout through dot dot": lambda c: [member("../.wh.file", b"")],
    "opaque through dot dot": lambda c: [member("../../.wh..wh..opq", b"")],
    "below a file": lambda c: [member("a", b"x"), member("a/b", b"x")],
    "root as a file": lambda c: [member(".", b"x")],
    "root as a link": lambda c: [symlink("./", c)],
    "hard link to the root": lambda c: [link("x", "/")],
    "hard link to a directory": lambda c: [directory("d"), link("x", "d")],
    "hard link to itself": lambda c: [member("a", b"x"), link("a", "a")],
    "long component": lambda c: [member("n" * 300, b"x")],
    "deep path": lambda c: [member("d/" * 10_000 + "f", b"x")],
    "pax path with dot dot": lambda c: [member("a", b"x", pax_headers={"path": "../escaped"})],
    "pax link with dot dot": lambda c: [link("a", "b", pax_headers={"linkpath": "../../escaped"})],
    "device number out of range": lambda c: [member("n", type=tarfile.CHRTYPE, devmajor=70_000, devminor=1)],
    "loop of links": lambda c: [symlink("a", "b"), symlink("b", "a"), member("a/x", b"x")],
}


@pytest.mark.parametrize("name", REFUSED_TARS)
def test_hostile_layer_is_refused_and_leaves_nothing(scratch: str, canary: str, name: str) -> None:
    data = tar(*REFUSED_TARS[name](canary))
    store = images(scratch)
    with pytest.raises(REFUSED):
        store.import_tar(io.BytesIO(data), "rig:1")
    assert store.list() == []
    with pytest.raises(REFUSED):
        take(store, docker_archive(tar(directory("etc")), data))
    with pytest.raises(REFUSED):
        take(store, oci_archive(oci_files(tar(directory("etc")), data)))
    assert_clean(store)
    assert sorted(os.listdir(scratch)) == ["outside", "state"]


CONTAINED_TARS = {
    "absolute name": lambda c: [member(f"{c}/file", b"x")],
    "write through a link to an absolute directory": lambda c: [symlink("l", c), member("l/file", b"x")],
    "write through a link upwards": lambda c: [symlink("l", "../../../../../../../../../.." + c), member("l/dir/file", b"x")],
    "write through a chain of links": lambda c: [symlink("a", "b"), symlink("b", c), member("a/new", b"x")],
    "write to a link itself": lambda c: [symlink("file", f"{c}/file"), member("file", b"x", mode=0o777, uid=99)],
    "directory onto a link": lambda c: [symlink("d", c), directory("d", mode=0o777, uid=99), member("d/file", b"x")],
    "directory metadata through a link": lambda c: [symlink("l", c), directory("l/dir", mode=0o777, uid=99)],
    "directory swapped for a link": lambda c: [
        directory("d", mode=0o777, uid=99), member("d/x"), symlink("d", c), member("d/file", b"x")],
    "swapped parent of a cached handle": lambda c: [
        directory("a/b"), member("a/b/one"), member("a", b""), symlink("a", c), member("a/dir/two", b"x")],
    "whiteout through a link": lambda c: [symlink("l", c), member("l/.wh.file")],
    "opaque through a link": lambda c: [symlink("l", c), member("l/.wh..wh..opq")],
    "hard link to a link": lambda c: [symlink("s", f"{c}/file"), link("h", "s"), member("h", b"x", mode=0o777)],
    "times of a link": lambda c: [symlink("s", f"{c}/file", mtime=99, uid=99)],
    "attribute on a link": lambda c: [symlink("s", f"{c}/file", pax_headers={"SCHILY.xattr.trusted.x": "y"})],
    "link to procfs": lambda c: [symlink("l", "/proc/self/root"), member(f"l{c}/new", b"x")],
    "link to a descriptor": lambda c: [symlink("l", "/proc/self/fd"), member("l/1", b"x")],
    "FIFO in the place of a parent, then a file": lambda c: [member("p", type=tarfile.FIFOTYPE), member("p", b"x")],
    "device in the place of a file": lambda c: [member("n", type=tarfile.BLKTYPE, devmajor=254, devminor=0), member("n", b"x")],
}


@pytest.mark.parametrize("name", CONTAINED_TARS)
def test_links_in_a_layer_lead_nowhere_but_inside(scratch: str, canary: str, name: str) -> None:
    data = tar(*CONTAINED_TARS[name](canary))
    store = images(scratch)
    try:
        store.import_tar(io.BytesIO(data), "rig:1")
    except REFUSED:
        assert_clean(store)
    else:
        root = store.lower_dirs(store.resolve("rig:1"))[0]
        assert os.stat(root).st_dev == os.stat(scratch).st_dev
    assert sorted(os.listdir(scratch)) == ["outside", "state"]
    store.remove(store.list()[0].id, force=True)
    assert leftovers(store) == []


def test_overlayfs_attributes_of_an_archive_are_not_taken(scratch: str) -> None:
    store = images(scratch)
    store.import_tar(io.BytesIO(tar(
        directory("d", pax_headers={
            "SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.trusted.overlay.opaque": "y",
            "SCHILY.xattr.user.kept": "1"}),
        member("f", b"", pax_headers={
            "SCHILY.xattr.trusted.overlay.metacopy": "", "SCHILY.xattr.user.overlay.whiteout": "y"}))), "rig:1")
    root = store.lower_dirs(store.resolve("rig:1"))[0]
    assert os.listxattr(f"{root}/d") == ["user.kept"]
    assert os.listxattr(f"{root}/f") == []


def test_state_of_the_engine_is_closed_to_others(scratch: str) -> None:
    store = images(scratch)
    store.import_tar(io.BytesIO(tar(member("suid", b"#!", mode=0o4755))), "rig:1")
    for path in (store.layout.root, store.layout.layers, store.layout.image):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700


# --- bombs ----------------------------------------------------------------------------------------------


def raw_header(name: bytes, size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo(name.decode())
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


class Endless(io.RawIOBase):
    """A head, then the same bytes again and again; counts what was taken."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self._head, self._body = head, body
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        data, self._head = self._head or self._body, b""
        self.taken += len(data)
        return data


BLOCKS = bytes(1 << 16)
BOMBS = {
    "pax header of a gigabyte": (raw_header(b"x", 1 << 30, b"x"), b"x" * (1 << 16)),
    "long name of a gigabyte": (raw_header(b"x", 1 << 30, b"L"), b"x" * (1 << 16)),
    "endless pax headers": (b"", (raw_header(b"x", 12, b"x") + b"12 a=bcdefg\n".ljust(512, b"\0")) * 64),
    "endless members": (b"", raw_header(b"same", 0, b"0") * 128),
}


@pytest.mark.parametrize("name", BOMBS)
def test_endless_headers_end_with_an_error_in_bounded_memory(scratch: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mydocker.storage import ingest, tarstream

    # The real limit of a million members takes half a minute to reach; a thousand takes the same way.
    monkeypatch.setattr(ingest, "Limits", lambda: tarstream.Limits(entries=1000))
    store = images(scratch)
    source = Endless(*BOMBS[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Corrupt):
        store.import_tar(source, "rig:1")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    assert source.taken < 100 << 20
    assert_clean(store)


@pytest.mark.parametrize("what", ["attributes", "names", "whiteouts"])
def test_what_is_remembered_of_directories_and_whiteouts_is_bounded(
    scratch: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mydocker.storage import ingest, tarstream

    # 256 MiB in earnest.
    monkeypatch.setattr(ingest, "Limits", lambda: tarstream.Limits(remembered_bytes=4 << 20))
    members = {
        "attributes": lambda n: directory(f"d{n}", pax_headers={"SCHILY.xattr.user.a": "x" * 500_000}),
        "names": lambda n: directory("/".join([f"{n:0>200}"] * 15)),
        "whiteouts": lambda n: member("/".join([f"{n % 9:0>200}"] * 15) + f"/.wh.{n}"),
    }[what]
    store = images(scratch)
    with pytest.raises(Corrupt, match="than any real one"):
        store.import_tar(io.BytesIO(gzip.compress(tar(*(members(number) for number in range(2000 if what != "attributes" else 20))))))
    assert_clean(store)


def old_sparse(pieces: int) -> bytes:
    header = bytearray(raw_header(b"f", 0, b"S"))
    header[257:265] = b"ustar  \0"
    header[482] = 1
    header[483:495] = b"%011o\0" % (1 << 30)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    block = b"".join(b"%011o\0%011o\0" % (0, 0) for _ in range(21)) + b"\1" + bytes(7)
    return bytes(header) + block * (pieces // 21)


SPARSE = {
    "1.0 with a count of 10^9": lambda: tar(member("f", b"1000000000\n".ljust(512, b"\0"), pax_headers={
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "5"})),
    "old format that never ends": lambda: old_sparse(1_000_000),
    "0.1 with too many pieces": lambda: tar(member("f", b"", pax_headers={
        "GNU.sparse.size": "5", "GNU.sparse.map": ",".join(["0"] * 200_000)})),
    "8 EiB": lambda: tar(member("f", b"0\n".ljust(512, b"\0"), pax_headers={
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str((1 << 63) - 1)})),
    "beyond 64 bits": lambda: tar(member("f", b"0\n".ljust(512, b"\0"), pax_headers={
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" * 30})),
}


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_bomb_is_refused_in_bounded_memory(scratch: str, name: str) -> None:
    store = images(scratch)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Corrupt):
        store.import_tar(io.BytesIO(SPARSE[name]()), "rig:1")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    assert_clean(store)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor(level=19).compress], ids=["gzip", "zstd"])
def test_bomb_of_zeros_is_refused_in_bounded_memory(scratch: str, pack, monkeypatch: pytest.MonkeyPatch) -> None:
    from mydocker.storage import inflate

    # From 4 GiB on in earnest; the disk of a test is spared.
    monkeypatch.setattr(inflate, "BOMB_BYTES", 64 << 20)
    size = 200 << 20
    data = pack(raw_header(b"zeros", size, b"0") + bytes(size) + bytes(1024))
    assert len(data) < 300_000
    store = images(scratch)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Corrupt, match="bomb"):
        store.import_tar(io.BytesIO(data), "rig:1")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    assert_clean(store)


def test_zstd_frame_that_wants_gigabytes_of_window_is_refused(scratch: str) -> None:
    # A frame header with the largest window descriptor, by hand: 0xFF = 2^41 and more.
    data = b"\x28\xb5\x2f\xfd" + b"\x00" + b"\xff" + b"\x01\x00\x00"
    store = images(scratch)
    with pytest.raises(Corrupt):
        store.import_tar(io.BytesIO(data), "rig:1")
    assert_clean(store)


def test_full_disk_is_a_clean_error(scratch: str) -> None:
    from mydocker.linux import syscalls

    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer = "died"
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE, None)
            os.mkdir(f"{scratch}/small")
            syscalls.mount("tmpfs", f"{scratch}/small", "tmpfs", 0, "size=3m")
            store = images(f"{scratch}/small")
            store.import_tar(io.BytesIO(tar(member("kept", b"x" * 1000))), "kept:1")
            try:
                store.import_tar(io.BytesIO(gzip.compress(tar(member("zeros", bytes(8 << 20))))), "rig:1")
                answer = "no error"
            except Unavailable:
                names = [image.reference for image in store.list()]
                answer = f"{names} {leftovers(store)} {len(os.listdir(store.layout.layers))}"
        except BaseException as error:
            answer = repr(error)
        finally:
            os.write(writer, answer.encode())
            os._exit(0)
    os.close(writer)
    with open(reader) as stream:
        assert stream.read() == "['kept:1'] [] 1"
    os.waitpid(pid, 0)


def test_deep_tree_is_removed_without_a_descriptor_for_each_level(scratch: str) -> None:
    from mydocker.storage import trash

    os.mkdir(f"{scratch}/deep")
    fd = os.open(f"{scratch}/deep", os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        following = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = following
    os.close(fd)
    os.symlink("/", f"{scratch}/deep/link")
    trash.remove_tree(f"{scratch}/deep")
    assert os.listdir(scratch) == []


# --- digests and documents ------------------------------------------------------------------------------


def changed_oci(change) -> bytes:
    files = oci_files(tar(member("f", b"x")))
    change(files)
    return oci_archive(files)


def edit_index(edit) -> bytes:
    def change(files: dict[str, bytes]) -> None:
        index = json.loads(files["index.json"])
        edit(index)
        files["index.json"] = json.dumps(index).encode()
    return changed_oci(change)


def edit_manifest(edit) -> bytes:
    """Change the manifest and keep its digest and size right."""
    def change(files: dict[str, bytes]) -> None:
        index = json.loads(files["index.json"])
        descriptor = index["manifests"][0]
        manifest = json.loads(files.pop(f"blobs/sha256/{descriptor['digest'][7:]}"))
        edit(manifest)
        data = json.dumps(manifest).encode()
        descriptor["digest"], descriptor["size"] = digest(data), len(data)
        files[f"blobs/sha256/{digest(data)[7:]}"] = data
        files["index.json"] = json.dumps(index).encode()
    return changed_oci(change)


def flip_blob(pick: str):
    def change(files: dict[str, bytes]) -> None:
        for name, data in files.items():
            is_picked = data[:2] == b"\x1f\x8b" if pick == "layer" else b"rootfs" in data
            if name.startswith("blobs") and is_picked:
                files[name] = data[:-1] + bytes((data[-1] ^ 1,))
    return change


DOCUMENTS = {
    "flipped bit in the layer": lambda: changed_oci(flip_blob("layer")),
    "flipped bit in the config": lambda: changed_oci(flip_blob("config")),
    "traversal in the manifest's digest": lambda: edit_index(
        lambda i: i["manifests"][0].update(digest="sha256:../../../../etc/passwd")),
    "md5": lambda: edit_index(lambda i: i["manifests"][0].update(digest="md5:" + "0" * 32)),
    "digest is a number": lambda: edit_index(lambda i: i["manifests"][0].update(digest=5)),
    "wrong size": lambda: edit_index(lambda i: i["manifests"][0].update(size=1)),
    "manifests is an object": lambda: edit_index(lambda i: i.update(manifests={})),
    "index that is a manifest too": lambda: edit_index(lambda i: i.update(layers=[])),
    "manifest that is an index too": lambda: edit_manifest(lambda m: m.update(manifests=[])),
    "manifest of another type": lambda: edit_manifest(lambda m: m.update(mediaType=media_types.MEDIA_INDEX)),
    "schema 1": lambda: edit_manifest(lambda m: m.update(schemaVersion=1)),
    "missing layer": lambda: edit_manifest(lambda m: m["layers"].clear()),
    "duplicate layer": lambda: edit_manifest(lambda m: m["layers"].append(m["layers"][0])),
    "layer that is not there": lambda: edit_manifest(lambda m: m["layers"][0].update(digest="sha256:" + "0" * 64)),
    "traversal in the layer's digest": lambda: edit_manifest(lambda m: m["layers"][0].update(digest="sha256:../../../x")),
    "foreign layer": lambda: edit_manifest(lambda m: m["layers"][0].update(urls=["http://127.0.0.1:1/"])),
    "config is a list": lambda: edit_manifest(lambda m: m.update(config=[])),
    "name with a traversal": lambda: edit_index(
        lambda i: i["manifests"][0]["annotations"].update({media_types.REF_NAME: "../../etc/passwd:x"})),
    "name with a newline": lambda: edit_index(lambda i: i["manifests"][0]["annotations"].update({media_types.REF_NAME: "a\nb"})),
    "index.json is no JSON": lambda: changed_oci(lambda f: f.update({"index.json": b"{"})),
    "index.json is nested 100,000 deep": lambda: changed_oci(lambda f: f.update({"index.json": b"[" * 100_000})),
    "index.json of 20 MB": lambda: changed_oci(lambda f: f.update({"index.json": b" " * (20 << 20)})),
    "docker: wrong diff id": lambda: docker_archive(tar(member("a")), config=image_config(tar(member("b")))),
    "docker: config of another digest": lambda: tar(
        member("0" * 64 + ".json", image_config()), member("manifest.json", json.dumps(
            [{"Config": "0" * 64 + ".json", "RepoTags": [], "Layers": []}]).encode())),
    "docker: layer is missing": lambda: docker_archive(tar(member("a")), Layers=["nowhere/layer.tar"]),
    "docker: layers are numbers": lambda: docker_archive(tar(member("a")), Layers=[1]),
    "docker: layer by traversal": lambda: docker_archive(tar(member("a")), Layers=["../../../../etc/passwd"]),
    "docker: absolute config": lambda: docker_archive(tar(member("a")), Config="/etc/passwd"),
    "docker: config by a link": lambda: tar(symlink("c.json", "/etc/passwd"), member("manifest.json", json.dumps(
        [{"Config": "c.json", "RepoTags": [], "Layers": []}]).encode())),
    "docker: loop of links": lambda: tar(symlink("a", "b"), symlink("b", "a"), member("manifest.json", json.dumps(
        [{"Config": "a", "RepoTags": [], "Layers": []}]).encode())),
    "docker: manifest is an object": lambda: tar(member("manifest.json", b"{}")),
    "docker: bad tag": lambda: docker_archive(tar(member("a")), tags=("x/UPPER:1",)),
    "another system's image": lambda: docker_archive(tar(member("a")), config=image_config(tar(member("a")), os="windows")),
    "nothing in it": lambda: tar(member("readme")),
    "not a tar": lambda: b"#!/bin/sh\n" * 200,
    "compressed with xz": lambda: b"\xfd7zXZ\0" + bytes(1000),
    "cut in the middle": lambda: docker_archive(tar(member("a", b"x" * 5000)))[:4000],
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_archive_whose_documents_lie_is_refused_and_leaves_nothing(scratch: str, name: str) -> None:
    store = images(scratch)
    with pytest.raises((*REFUSED, NotFound)) as caught:
        take(store, DOCUMENTS[name]())
    assert "\n" not in caught.value.message
    assert_clean(store)


def test_good_layers_of_a_bad_archive_do_not_stay(scratch: str) -> None:
    store = images(scratch)
    good, bad = (tar(member(name, os.urandom(100_000))) for name in "ab")
    config = image_config(good, tar(member("other")))
    with pytest.raises(Corrupt, match="digest"):
        take(store, docker_archive(good, bad, config=config))
    assert_clean(store)


@pytest.mark.parametrize("place", ["label", "annotation", "descriptor"])
def test_no_word_in_an_archive_makes_an_image_reach_the_machine(scratch: str, place: str) -> None:
    layer = tar(member("f"))
    key = "io.mydocker.base"
    config = image_config(layer, config={"Labels": {key: "host"}, "Env": [f"{key}=host"]}) if place == "label" else b""
    files = oci_files(layer, config=config, annotations={key: "host"} if place == "descriptor" else None)
    data = oci_archive(files) if place != "annotation" else edit_manifest(lambda m: m.update(annotations={key: "host"}))
    store = images(scratch)
    take(store, data)
    resolved = store.resolve("rig:1")
    assert resolved.base == ""
    assert "/" not in store.lower_dirs(resolved)
    assert store.list()[0].base == ""


def test_links_in_a_layout_directory_are_not_followed(scratch: str) -> None:
    files = oci_files(tar(member("f", b"x")))
    secret = next(name for name, data in files.items() if data[:2] == b"\x1f\x8b")
    for name, data in files.items():
        os.makedirs(os.path.dirname(f"{scratch}/in/{name}"), exist_ok=True)
        if name == secret:
            with open(f"{scratch}/elsewhere", "wb") as file:
                file.write(data)
            os.symlink(f"{scratch}/elsewhere", f"{scratch}/in/{name}")
            continue
        with open(f"{scratch}/in/{name}", "wb") as file:
            file.write(data)
    store = images(scratch)
    with pytest.raises(Corrupt):
        store.load(f"{scratch}/in")
    os.unlink(f"{scratch}/in/{secret}")
    os.mkfifo(f"{scratch}/in/{secret}")
    with pytest.raises(Corrupt):
        store.load(f"{scratch}/in")
    assert_clean(store)


def test_show_is_refused_for_images_that_are_not_the_machine(scratch: str) -> None:
    store = images(scratch)
    store.import_tar(io.BytesIO(tar(member("f"))), "rig:1")
    with pytest.raises(InvalidRequest):
        store.resolve("rig:1", ("/root",))


@pytest.mark.skipif(sys.byteorder != "little", reason="the capability is written for little-endian machines")
def test_hard_link_gives_no_second_chance_to_change_a_file_with_capabilities(scratch: str) -> None:
    capability = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0).decode("utf-8", "surrogateescape")
    store = images(scratch)
    store.import_tar(io.BytesIO(tar(
        member("ping", b"good", mode=0o755, pax_headers={"SCHILY.xattr.security.capability": capability}),
        link("other", "ping"), member("other", b"evil", mode=0o755))), "rig:1")
    root = store.lower_dirs(store.resolve("rig:1"))[0]
    assert open(f"{root}/ping").read() == "good"
    assert "security.capability" not in os.listxattr(f"{root}/other")



# --- what a container left, and what runs here ------------------------------------------------------------


def in_child(act) -> str:
    """Run something in a forked child; returns what it returns, or its error."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = act()
        except BaseException as error:
            answer = repr(error)
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as stream:
        answer = stream.read()
    os.waitpid(pid, 0)
    return answer


_SPAWNING = frozenset(("subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.fork", "os.forkpty"))
_TROJANS = ("tar", "xz", "gzip", "unpigz", "zstd", "git", "sh", "nsenter", "ps")


def test_no_program_is_run_for_an_archive_whatever_is_in_it(scratch: str) -> None:
    """CVE-2026-41567, 2019-14271: helpers found in the image, or run with its environment."""
    trojans = tar(*(member(f"bin/{name}", b"#!/bin/sh\ntouch /pwned\n", mode=0o755) for name in _TROJANS))
    config = image_config(trojans, config={"Env": ["PATH=/bin", "LD_PRELOAD=/bin/sh", "PYTHONPATH=/bin"]})

    def act() -> str:
        spawned: list[str] = []
        sys.addaudithook(lambda event, _: spawned.append(event) if event in _SPAWNING else None)
        store = images(scratch)
        take(store, docker_archive(trojans, config=config))
        take(store, oci_archive(oci_files(trojans, name="rig:2", config=config)))
        store.import_tar(io.BytesIO(gzip.compress(trojans)), "rig:3")
        store.import_tar(io.BytesIO(zstandard.compress(trojans)), "rig:4")
        container, _ = new_container(store, "rig:1")
        with open(f"{container}/upper/new", "w") as stream:
            stream.write("x")
        store.commit(f"{container}/upper", "rig:5", manifest_digest=store.inspect("rig:1")["manifest_digest"])
        store.save(["rig"], f"{scratch}/saved.tar")
        assert not [image.faults for image in store.verify() if image.faults]
        for number in range(1, 6):
            store.remove(f"rig:{number}", force=True)
        store.collect()
        return repr(spawned)

    assert in_child(act) == "[]"
    assert not os.path.exists("/pwned")


@pytest.mark.parametrize("reader", ["commit", "export"])
def test_what_a_container_swaps_while_it_is_read_leads_nowhere_but_inside(scratch: str, canary: str, reader: str) -> None:
    """CVE-2018-15664 and its kin, for commit and export: directories and files become links and back all the time."""
    from mydocker.storage.diff import read_diff, read_tree

    upper = f"{scratch}/upper"
    os.makedirs(f"{upper}/a/dir")
    for name in ("a/dir/file", "a/file"):
        with open(f"{upper}/{name}", "w") as stream:
            stream.write("mine")
    for name, target in (("a/dir-link", canary + "/dir"), ("a/file-link", canary + "/file")):
        os.symlink(target, f"{upper}/{name}")
    pid = os.fork()
    if pid == 0:
        try:
            while True:
                for name in ("a/dir", "a/file"):
                    os.rename(f"{upper}/{name}", f"{upper}/{name}-kept")
                    os.rename(f"{upper}/{name}-link", f"{upper}/{name}")
                    os.rename(f"{upper}/{name}", f"{upper}/{name}-link")
                    os.rename(f"{upper}/{name}-kept", f"{upper}/{name}")
        finally:
            os._exit(0)
    try:
        for _ in range(200):
            read = read_diff(upper) if reader == "commit" else read_tree(os.open(upper, os.O_RDONLY | os.O_DIRECTORY))
            data = b"".join(iter(read, b""))
            assert b"canary" not in data
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                archive.getmembers()
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_measuring_follows_no_link_of_a_container(scratch: str, canary: str) -> None:
    from mydocker.storage.usage import DiskUsage

    os.mkdir(f"{scratch}/upper")
    with open(f"{canary}/../large", "wb") as stream:
        stream.write(bytes(5 << 20))
    os.symlink(os.path.dirname(canary), f"{scratch}/upper/link")
    assert DiskUsage().measure(f"{scratch}/upper") < 1 << 20
    os.unlink(f"{scratch}/large")


def test_saved_archive_is_closed_to_others_and_replaces_a_link_instead_of_following_it(scratch: str, canary: str) -> None:
    store = images(scratch)
    take(store, docker_archive(tar(member("secret", b"x"))))
    os.mkdir(f"{scratch}/out")
    os.symlink(f"{canary}/file", f"{scratch}/out/saved.tar")
    store.save(["rig:1"], f"{scratch}/out/saved.tar")
    status = os.lstat(f"{scratch}/out/saved.tar")
    assert stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o600


# --- texts and documents -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["\ud800", "x\0y"])
def test_name_that_no_file_can_have_is_not_in_the_archive(scratch: str, bad: str) -> None:
    store = images(scratch)
    layer = tar(member("file"))
    for entry in ({"Config": bad}, {"Layers": [bad]}):
        with pytest.raises(Corrupt, match="is not in the archive"):
            store.load(io.BytesIO(docker_archive(layer, **entry)))
    assert_clean(store)


@pytest.mark.parametrize("inner", [
    {"User": "\ud800"}, {"WorkingDir": "/\udc00"}, {"Env": ["A=\ud800"]}, {"Volumes": {"/\ud800": {}}}, {"Healthcheck": {"Test": ["\ud800"]}},
])
def test_half_of_a_surrogate_pair_in_an_image_config_is_refused(scratch: str, inner: dict[str, object]) -> None:
    store = images(scratch)
    layer = tar(member("file"))
    config = {**json.loads(image_config(layer)), "config": inner}
    with pytest.raises(Corrupt, match="half of a surrogate pair"):
        store.load(io.BytesIO(docker_archive(layer, config=json.dumps(config).encode())))
    assert_clean(store)


def test_large_document_of_many_images_is_not_kept_for_each(scratch: str) -> None:
    store = images(scratch)
    layer = tar(member("file"))
    config = image_config(layer)[:-1] + b" " * (7 << 20) + b"}"
    name = f"{digest(config)[7:]}.json"
    entries = json.dumps([{"Config": name, "RepoTags": [], "Layers": ["layer.tar"]}] * 100).encode()
    archive = tar(member(name, config), member("layer.tar", layer), member("manifest.json", entries))
    with pytest.raises(Corrupt, match="documents of its images have more than"):
        store.load(io.BytesIO(archive))
    assert_clean(store)
