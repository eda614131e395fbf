"""Images on a real file system and real overlayfs: taken in, mounted, committed, removed."""
from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import stat
import struct
import subprocess
import sys
import tarfile
import threading

import pytest
import zstandard
from image_rig import (
    digest,
    directory,
    docker_archive,
    image_config,
    images,
    inside,
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

from mydocker.base.errors import Conflict, Corrupt, InvalidRequest, NotFound
from mydocker.image import index
from mydocker.storage.blobs import read_verified

pytestmark = pytest.mark.needs("root", "overlay")

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)  # VFS_CAP_REVISION_2: cap_net_raw+ep


def upper_of(store, name: str) -> str:
    return store.lower_dirs(store.resolve(name))[0]


# --- unpacking ------------------------------------------------------------------------------------------


def test_import_keeps_owners_modes_times_links_devices_and_attributes(scratch: str) -> None:
    store = images(scratch)
    data = tar(
        directory("./", mode=0o751, uid=7, gid=8),
        directory("d", mode=0o2770, uid=1000, gid=2000, mtime=1_600_000_000),
        member("d/file", b"text", mode=0o600, uid=1, gid=2, pax_headers={"mtime": "1650000000.5"}),
        member("suid", b"#!", mode=0o4755, uid=1000, gid=1000),
        member("ping", b"\x7f", mode=0o755, pax_headers={
            "SCHILY.xattr.security.capability": CAPABILITY.decode("utf-8", "surrogateescape"), "SCHILY.xattr.user.a": "b"}),
        link("second", "d/file"), symlink("dangling", "../../nowhere", uid=5, gid=6),
        member("fifo", type=tarfile.FIFOTYPE, mode=0o640),
        member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        member("sda", type=tarfile.BLKTYPE, devmajor=8, devminor=0, mode=0o660, gid=6),
        directory("sticky", mode=0o1777), directory("closed", mode=0o000),
        member("closed/inside", b"x"), member("no/parents/here", b"y"),
    )
    store.import_tar(io.BytesIO(data), "rig:1")
    root = upper_of(store, "rig:1")

    def look(name: str) -> tuple[int, int, int]:
        found = os.lstat(f"{root}/{name}")
        return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid

    assert look(".") == (0o751, 7, 8)
    assert look("d") == (0o2770, 1000, 2000)
    assert look("d/file") == (0o600, 1, 2)
    assert look("suid") == (0o4755, 1000, 1000)
    assert look("sticky")[0] == 0o1777 and look("closed")[0] == 0
    assert look("no") == (0o755, 0, 0)
    assert look("dangling")[1:] == (5, 6) and os.readlink(f"{root}/dangling") == "../../nowhere"
    assert os.stat(f"{root}/d").st_mtime == 1_600_000_000
    assert os.stat(f"{root}/d/file").st_mtime_ns == 1_650_000_000_500_000_000
    assert os.lstat(f"{root}/dangling").st_mtime == 1_700_000_000
    assert os.stat(f"{root}/second").st_ino == os.stat(f"{root}/d/file").st_ino
    assert stat.S_ISFIFO(os.stat(f"{root}/fifo").st_mode)
    assert os.stat(f"{root}/null").st_rdev == os.makedev(1, 3) and look("null")[0] == 0o666
    assert stat.S_ISBLK(os.stat(f"{root}/sda").st_mode)
    assert os.getxattr(f"{root}/ping", "security.capability") == CAPABILITY
    assert os.getxattr(f"{root}/ping", "user.a") == b"b"
    assert leftovers(store) == []


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777])
def test_umask_of_the_caller_changes_no_mode_and_is_not_changed(scratch: str, mask: int) -> None:
    store = images(scratch)
    before = os.umask(mask)
    try:
        store.import_tar(io.BytesIO(tar(directory("d", mode=0o777), member("d/f", mode=0o666))), "rig:1")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    root = upper_of(store, "rig:1")
    assert [stat.S_IMODE(os.stat(f"{root}/{name}").st_mode) for name in (".", "d", "d/f")] == [0o755, 0o777, 0o666]


def test_children_of_an_sgid_directory_keep_their_own_group(scratch: str) -> None:
    store = images(scratch)
    store.import_tar(io.BytesIO(tar(directory("d", mode=0o2755, gid=50), member("d/f"), directory("d/e"))), "rig:1")
    root = upper_of(store, "rig:1")
    assert [os.stat(f"{root}/{name}").st_gid for name in ("d", "d/f", "d/e")] == [50, 0, 0]
    assert stat.S_IMODE(os.stat(f"{root}/d/e").st_mode) == 0o755


@pytest.mark.parametrize("format_option", ["gnu", "0.0", "0.1", "1.0"])
def test_sparse_file_of_gnu_tar_keeps_its_holes(scratch: str, format_option: str) -> None:
    os.mkdir(f"{scratch}/in")
    with open(f"{scratch}/in/sparse", "wb") as file:
        for position in (0, 5 << 20, 9 << 20):
            file.seek(position)
            file.write(b"data" * 1024)
        file.truncate(12 << 20)
    options = ["--format=gnu"] if format_option == "gnu" else ["--format=posix", f"--sparse-version={format_option}"]
    subprocess.run(["tar", "-C", f"{scratch}/in", *options, "-Scf", f"{scratch}/in.tar", "."], check=True)
    assert os.path.getsize(f"{scratch}/in.tar") < 1 << 20
    store = images(scratch)
    store.import_tar(f"{scratch}/in.tar", "rig:1")
    place = f"{upper_of(store, 'rig:1')}/sparse"
    with open(place, "rb") as ours, open(f"{scratch}/in/sparse", "rb") as theirs:
        assert ours.read() == theirs.read()
    assert os.stat(place).st_blocks * 512 < 1 << 20


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
def test_import_reads_each_compression_and_stores_the_bytes_as_they_came(scratch: str, pack) -> None:
    store = images(scratch)
    stored = pack(tar(member("f", b"content" * 1000)))
    manifest_digest = store.import_tar(io.BytesIO(stored), "rig:1")
    found = store.inspect("rig:1")
    assert found["manifest_digest"] == manifest_digest
    layer, = found["manifest"]["layers"]
    assert (layer["digest"], layer["size"]) == (digest(stored), len(stored))
    assert read_verified(store.layout, layer["digest"]) == stored
    with open(f"{upper_of(store, 'rig:1')}/f", "rb") as file:
        assert file.read() == b"content" * 1000


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_import_and_load_unpack_what_no_layer_can_be_compressed_with(scratch: str, pack) -> None:
    store = images(scratch)
    plain = tar(member("f", b"content" * 100_000))
    packed = pack(plain)
    pieces = [packed[:3], packed[3:]]

    class Pipe:
        def read(self, _size: int) -> bytes:
            return pieces.pop(0) if pieces else b""

    store.import_tar(Pipe(), "rig:1")
    assert store.inspect("rig:1")["manifest"]["layers"][0]["digest"] == digest(plain)
    archive = docker_archive(plain, tags=("a:1",))
    assert take(store, pack(archive[:5000]) + pack(archive[5000:])) == ["a:1"]  # two streams, one after the other
    with open(f"{scratch}/file", "wb") as stream:
        stream.write(pack(docker_archive(plain, tags=("b:1",))))
    assert store.load(f"{scratch}/file")[0].references == ("b:1",)
    with pytest.raises(Corrupt, match="cut short"):
        store.import_tar(io.BytesIO(packed[:-20]), "rig:2")


def test_import_from_a_pipe_that_gives_little_at_a_time(scratch: str) -> None:
    class Dribble(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 3))

    store = images(scratch)
    store.import_tar(Dribble(gzip.compress(tar(member("f", b"x" * 700)))), "rig:1")
    assert os.path.getsize(f"{upper_of(store, 'rig:1')}/f") == 700


def test_entry_replaces_an_earlier_one_of_another_kind(scratch: str) -> None:
    store = images(scratch)
    store.import_tar(io.BytesIO(tar(
        directory("a"), member("a/x", b"1"), member("a", b"file"),        # directory -> file
        member("b", b"file"), directory("b"), member("b/y", b"2"),        # file -> directory
        member("c", b"old"), symlink("c", "b"),                          # file -> link
        symlink("d", "b"), directory("d"), member("d/z", b"3"),          # link to a directory -> directory
        member("e", b"first"), member("e", b"second"),
        directory("f", mode=0o700), member("f/kept"), directory("f", mode=0o711),
    )), "rig:1")
    root = upper_of(store, "rig:1")
    assert tree(root) == ["a", "b", "b/y", "c", "d", "d/z", "e", "f", "f/kept"]
    assert os.path.islink(f"{root}/c") and not os.path.islink(f"{root}/d")
    assert open(f"{root}/e").read() == "second"
    assert stat.S_IMODE(os.stat(f"{root}/f").st_mode) == 0o711


# --- layers ---------------------------------------------------------------------------------------------


LOWER = tar(
    directory("etc"), member("etc/kept", b"1"), member("etc/gone", b"1"), directory("opaque"), member("opaque/old", b"1"),
    directory("dir"), member("dir/old", b"1"), directory("dir2"), member("dir2/old"), member("file", b"lower"),
    directory("became-file"), member("became-file/x"), directory("usr/lib"), symlink("lib", "usr/lib"), member("usr/lib/a"),
)
UPPER = tar(
    member("etc/.wh.gone"), member("etc/new", b"2"), directory("opaque"), member("opaque/.wh..wh..opq"),
    member("opaque/new", b"2"), member(".wh.dir"), directory("dir"), member("dir/new", b"2"), directory("dir2"),
    member(".wh.dir2"), member("file", b"upper"), member("became-file", b"now"), directory(".wh..wh.plnk"),
)
MERGED = [
    "became-file", "dir", "dir/new", "dir2", "etc", "etc/kept", "etc/new", "file", "lib", "opaque", "opaque/new",
    "usr", "usr/lib", "usr/lib/a",
]


@pytest.mark.parametrize("kind", ["docker", "oci"])
def test_whiteouts_and_opaque_directories_hide_the_layers_below(scratch: str, kind: str) -> None:
    store = images(scratch)
    data = docker_archive(LOWER, UPPER) if kind == "docker" else oci_archive(oci_files(LOWER, UPPER))
    assert take(store, data) == ["rig:1"]
    container, lower_dirs = new_container(store, "rig:1")
    assert len(lower_dirs) == 2
    assert inside(container, lower_dirs, tree) == MERGED
    assert inside(container, lower_dirs, lambda root: open(f"{root}/file").read()) == "upper"


def test_layers_are_shared_by_images_and_taken_in_once(scratch: str) -> None:
    store = images(scratch)
    take(store, docker_archive(LOWER, UPPER, tags=("a:1",)))
    before = sorted(os.listdir(store.layout.layers))
    inode = os.stat(f"{store.layout.layers}/{before[0]}").st_ino
    take(store, docker_archive(LOWER, UPPER, tags=("b:1", "b:2")))
    take(store, oci_archive(oci_files(LOWER, UPPER, name="c:1")))
    assert sorted(os.listdir(store.layout.layers)) == before
    assert os.stat(f"{store.layout.layers}/{before[0]}").st_ino == inode
    assert {image.reference for image in store.list()} == {"a:1", "b:1", "b:2", "c:1"}


def test_equal_layers_in_one_image_are_two_directories(scratch: str) -> None:
    store = images(scratch)
    take(store, docker_archive(LOWER, LOWER, UPPER))
    assert len(store.resolve("rig:1").chain_ids) == 3
    take(store, oci_archive(oci_files(UPPER, UPPER, name="two:1")))
    assert len(os.listdir(store.layout.layers)) == 5


def test_parallel_loads_of_the_same_image_agree(scratch: str) -> None:
    store = images(scratch)
    data = docker_archive(LOWER, UPPER, tar(*(member(f"many/{n}", b"x" * n) for n in range(500))))
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            take(store, data.replace(b'"rig:1"', b'"rig:%d"' % number))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(store.list()) == 6 and len(os.listdir(store.layout.layers)) == 3
    assert leftovers(store) == []


def test_oci_layout_directory_is_loaded(scratch: str) -> None:
    for name, data in oci_files(LOWER, name="localhost/from/dir:v2").items():
        os.makedirs(os.path.dirname(f"{scratch}/in/{name}"), exist_ok=True)
        with open(f"{scratch}/in/{name}", "wb") as file:
            file.write(data)
    store = images(scratch)
    loaded, = store.load(f"{scratch}/in")
    assert loaded.references == ("localhost/from/dir:v2",)
    assert loaded.id == digest(image_config(LOWER))


def test_own_image_directory_is_an_oci_layout_that_loads_elsewhere(scratch: str) -> None:
    first = images(f"{scratch}/first")
    take(first, docker_archive(LOWER, UPPER, tags=("a:1", "b:1")))
    second = images(f"{scratch}/second")
    loaded, = second.load(first.layout.image)
    assert sorted(loaded.references) == ["a:1", "b:1"]
    assert second.inspect("a:1")["id"] == first.inspect("a:1")["id"]


def test_compressed_archive_and_pipe_are_loaded(scratch: str) -> None:
    store = images(scratch)
    assert take(store, gzip.compress(docker_archive(LOWER))) == ["rig:1"]


# --- made by others -------------------------------------------------------------------------------------


@pytest.fixture
def busybox_tar(scratch: str) -> str:
    """A root file system with busybox as every command's program."""
    root = f"{scratch}/busybox"
    os.makedirs(f"{root}/bin")
    subprocess.run(["cp", "-L", "/bin/busybox", f"{root}/bin/busybox"], check=True)
    os.symlink("busybox", f"{root}/bin/sh")
    os.setxattr(f"{root}/bin/busybox", "security.capability", CAPABILITY)
    subprocess.run(["tar", "--xattrs", "--xattrs-include=*", "-C", root, "-cf", f"{scratch}/busybox.tar", "."], check=True)
    return f"{scratch}/busybox.tar"


def podman(scratch: str) -> list[str]:
    return ["podman", "--root", f"{scratch}/podman", "--runroot", f"{scratch}/podman-run"]


@pytest.mark.needs("podman", "busybox")
@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive", "oci-dir", "docker-dir"])
def test_image_saved_by_podman_is_loaded(scratch: str, busybox_tar: str, kind: str) -> None:
    call = podman(scratch)
    subprocess.run([*call, "import", "-q", "-c", "CMD [\"sh\"]", busybox_tar, "localhost/pod:1"], check=True, capture_output=True)
    saved = f"{scratch}/saved"
    subprocess.run([*call, "save", "-q", "--format", kind, "-o", saved, "localhost/pod:1"], check=True, capture_output=True)
    store = images(scratch)
    if kind == "docker-dir":
        with pytest.raises(Corrupt):
            store.load(saved)
        return
    loaded, = store.load(saved)
    assert loaded.references == ("localhost/pod:1",)
    found = store.resolve(loaded.id)
    assert found.config["config"]["Cmd"] == ["sh"]
    assert os.path.samefile(f"{store.lower_dirs(found)[0]}/bin/sh", f"{store.lower_dirs(found)[0]}/bin/busybox")


@pytest.mark.needs("skopeo", "podman", "busybox")
def test_layout_copied_by_skopeo_from_ours_and_back_keeps_every_digest(scratch: str, busybox_tar: str) -> None:
    store = images(scratch)
    store.import_tar(busybox_tar, "me/skopeo:1")
    mine = store.inspect("me/skopeo:1")
    subprocess.run([
        "skopeo", "copy", "-q", f"oci:{store.layout.image}:docker.io/me/skopeo:1", f"oci-archive:{scratch}/out.tar:me/skopeo:1",
    ], check=True, capture_output=True)
    other = images(f"{scratch}/other")
    loaded, = other.load(f"{scratch}/out.tar")
    assert loaded.references == ("me/skopeo:1",)
    assert loaded.id == mine["id"]
    subprocess.run([
        "skopeo", "copy", "-q", f"oci:{store.layout.image}:docker.io/me/skopeo:1",
        f"docker-archive:{scratch}/docker.tar:me/skopeo:2",
    ], check=True, capture_output=True)
    loaded, = other.load(f"{scratch}/docker.tar")
    assert loaded.references == ("me/skopeo:2",)
    root = other.lower_dirs(other.resolve("me/skopeo:2"))[0]
    assert os.getxattr(f"{root}/bin/busybox", "security.capability") == CAPABILITY


@pytest.mark.needs("docker_daemon", "busybox")
def test_image_saved_by_docker_is_loaded(scratch: str, busybox_tar: str) -> None:
    try:
        subprocess.run(
            ["docker", "import", "-c", "CMD [\"sh\"]", busybox_tar, "mydocker-test/saved:1"], check=True, capture_output=True)
        subprocess.run(["docker", "tag", "mydocker-test/saved:1", "mydocker-test/saved:2"], check=True)
        subprocess.run([
            "docker", "save", "-o", f"{scratch}/saved.tar", "mydocker-test/saved:1", "mydocker-test/saved:2"], check=True)
        docker_id = subprocess.run(
            ["docker", "image", "inspect", "-f", "{{.Id}}", "mydocker-test/saved:1"], check=True, capture_output=True, text=True)
    finally:
        subprocess.run(["docker", "rmi", "mydocker-test/saved:1", "mydocker-test/saved:2"], capture_output=True, check=False)
    store = images(scratch)
    loaded, = store.load(f"{scratch}/saved.tar")
    assert sorted(loaded.references) == ["mydocker-test/saved:1", "mydocker-test/saved:2"]
    assert loaded.id == docker_id.stdout.strip()


@pytest.mark.needs("skopeo")
def test_own_image_directory_is_read_by_skopeo(scratch: str) -> None:
    store = images(scratch)
    take(store, docker_archive(LOWER, UPPER))
    shown = subprocess.run(
        ["skopeo", "inspect", f"oci:{store.layout.image}:docker.io/library/rig:1"], check=True, capture_output=True, text=True)
    assert json.loads(shown.stdout)["Digest"] == store.inspect("rig:1")["manifest_digest"]


# --- names and removal ----------------------------------------------------------------------------------


def test_image_is_found_by_name_id_prefix_and_digest(scratch: str) -> None:
    store = images(scratch)
    take(store, docker_archive(LOWER, tags=("a:1",)))
    found = store.inspect("a:1")
    hexadecimal = found["id"][7:]
    for name in ("a:1", "docker.io/library/a:1", found["id"], hexadecimal, hexadecimal[:12], f"a@{found['manifest_digest']}",
                 found["manifest_digest"][7:19]):
        assert store.resolve(name).manifest_digest == found["manifest_digest"], name
    for name in ("a", "b:1", "0" * 12 if not hexadecimal.startswith("0" * 12) else "f" * 12, f"b@{found['manifest_digest']}"):
        with pytest.raises(NotFound, match="no image"):
            store.resolve(name)


def test_last_name_takes_the_image_along_and_others_only_themselves(scratch: str) -> None:
    store = images(scratch)
    take(store, docker_archive(LOWER, UPPER, tags=("a:1", "a:2")))
    take(store, docker_archive(LOWER, tags=("b:1",)))
    assert store.remove("a:1").deleted == ()
    assert len(os.listdir(store.layout.layers)) == 2
    removed = store.remove("a:2")
    assert removed.untagged == ("a:2",) and len(removed.deleted) == 1
    assert len(os.listdir(store.layout.layers)) == 1           # b:1 still has the lower one
    store.remove(store.inspect("b:1")["id"])
    assert os.listdir(store.layout.layers) == []
    assert os.listdir(f"{store.layout.image}/blobs/sha256") == []
    assert store.list() == [] and leftovers(store) == []


def test_image_with_several_names_is_not_removed_by_id_unless_forced(scratch: str) -> None:
    store = images(scratch)
    take(store, docker_archive(LOWER, tags=("a:1", "a:2")))
    name = store.inspect("a:1")["id"]
    with pytest.raises(Conflict, match="several names: a:1, a:2"):
        store.remove(name)
    assert set(store.remove(name, force=True).untagged) == {"a:1", "a:2"}
    assert os.listdir(store.layout.layers) == []


def test_image_in_use_stays_and_its_layers_outlive_a_forced_removal(scratch: str) -> None:
    store = images(scratch)
    take(store, docker_archive(LOWER, UPPER))
    container, lower_dirs = new_container(store, "rig:1")
    with pytest.raises(Conflict, match="container 1234567890 uses it"):
        store.remove("rig:1")
    store.remove("rig:1", force=True)
    assert inside(container, lower_dirs, tree) == MERGED
    store.collect()
    assert inside(container, lower_dirs, tree) == MERGED
    subprocess.run(["rm", "-r", container], check=True)
    store.collect()
    assert [name for name in os.listdir(store.layout.layers) if not name.startswith("host-")] == []


def test_layers_held_for_a_record_in_the_making_are_not_removed(scratch: str) -> None:
    store = images(scratch)
    take(store, docker_archive(LOWER))
    resolved = store.resolve("rig:1")
    with store.hold(resolved) as lower_dirs:
        store.remove("rig:1")
        assert os.path.isdir(lower_dirs[0])
    store.collect()
    with pytest.raises(NotFound, match="removed at this moment"):
        store.hold(resolved)


def test_reimport_under_one_name_leaves_the_old_image_nameless(scratch: str) -> None:
    store = images(scratch)
    store.import_tar(io.BytesIO(LOWER), "a")
    old = store.inspect("a")["id"]
    store.import_tar(io.BytesIO(UPPER), "a")
    assert sorted(image.reference for image in store.list()) == ["", "a:latest"]
    assert store.resolve(old).reference == old
    store.remove(old)
    assert [image.reference for image in store.list()] == ["a:latest"]


def test_name_of_the_built_in_image_is_refused(scratch: str) -> None:
    store = images(scratch)
    with pytest.raises(InvalidRequest, match="built-in"):
        store.import_tar(io.BytesIO(LOWER), "host")
    with pytest.raises(InvalidRequest, match="built-in"):
        take(store, docker_archive(LOWER, tags=("host:latest",)))
    with pytest.raises(Conflict):
        store.remove("host")


def test_dead_temporary_layer_is_swept_and_a_living_one_is_not(scratch: str) -> None:
    from mydocker.storage import layers

    store = images(scratch)
    store.import_tar(io.BytesIO(LOWER), "a")
    os.makedirs(f"{store.layout.layers}/.tmp-dead/diff/x")
    living = layers.NewLayer(store.layout)
    store.collect()
    assert [name for name in os.listdir(store.layout.layers) if name.startswith(".tmp")] == [os.path.basename(living.path)]
    living.close()
    store.collect()
    assert leftovers(store) == []


@pytest.mark.parametrize("step", ["image synced", "image layers named", "image blobs linked"])
def test_load_killed_at_a_step_is_all_or_nothing_and_leaves_nothing_after_collect(scratch: str, step: str) -> None:
    with open(f"{scratch}/in.tar", "wb") as file:
        file.write(docker_archive(LOWER, UPPER))
    program = (
        "import sys; from mydocker.base.paths import Layout; from mydocker.image.store import Images;"
        "Images(Layout(sys.argv[1])).load(sys.argv[2])")
    ended = subprocess.run(
        [sys.executable, "-c", program, f"{scratch}/state", f"{scratch}/in.tar"],
        env={**os.environ, "MYDOCKER_TRACE": f"{step}=kill", "PYTHONPATH": ":".join(sys.path)}, check=False)
    assert ended.returncode == -9
    store = images(scratch)
    assert store.list() == []
    os.utime(store.layout.image)
    for name in os.listdir(f"{store.layout.image}/blobs/sha256"):
        os.utime(f"{store.layout.image}/blobs/sha256/{name}", (0, 0))
    store.collect()
    assert [name for name in os.listdir(store.layout.layers) if not name.startswith("host-")] == []
    assert os.listdir(f"{store.layout.image}/blobs/sha256") == []
    assert leftovers(store) == []
    assert store.load(f"{scratch}/in.tar")[0].references == ("rig:1",)


# --- commit ---------------------------------------------------------------------------------------------


def change(root: str) -> None:
    os.unlink(f"{root}/etc/kept")
    subprocess.run(["rm", "-r", f"{root}/opaque"], check=True)
    os.mkdir(f"{root}/opaque")
    with open(f"{root}/opaque/fresh", "w") as file:
        file.write("fresh")
    os.chmod(f"{root}/opaque/fresh", 0o4711)
    os.chown(f"{root}/opaque/fresh", 12, 34)
    os.setxattr(f"{root}/opaque/fresh", "user.note", b"hello")
    os.link(f"{root}/opaque/fresh", f"{root}/opaque/again")
    os.mkdir(f"{root}/" + "n" * 120)
    os.symlink("t" * 150, f"{root}/" + "n" * 120 + "/link")
    os.mkfifo(f"{root}/fifo")
    os.mknod(f"{root}/node", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    with open(f"{root}/\u00fc\n.bin", "wb") as file:
        file.write(b"\0" * 100_000)


def picture(root: str) -> list[list[object]]:
    found = []
    for name in tree(root):
        status = os.lstat(f"{root}/{name}")
        keys = [] if stat.S_ISLNK(status.st_mode) else os.listxattr(f"{root}/{name}")
        attributes = {key: os.getxattr(f"{root}/{name}", key).hex() for key in keys if not key.startswith("trusted.")}
        size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        links = status.st_nlink if stat.S_ISREG(status.st_mode) else 0
        found.append([name, status.st_mode, status.st_uid, status.st_gid, status.st_rdev, size, links, attributes])
    return found


def test_committed_image_shows_what_the_container_showed(scratch: str) -> None:
    store = images(scratch)
    take(store, docker_archive(LOWER, UPPER))
    container, lower_dirs = new_container(store, "rig:1")

    def look(root: str) -> list[list[object]]:
        change(root)
        return picture(root)

    before = inside(container, lower_dirs, look)
    resolved = store.resolve("rig:1")
    committed = store.commit(
        f"{container}/upper", "made:1", manifest_digest=resolved.manifest_digest, author="me", message="why",
        command="sh -c x", overrides={"Cmd": ["other"], "Env": ["A=b"]})
    again, again_dirs = new_container(store, "made:1", "1234567891")
    assert inside(again, again_dirs, picture) == before
    found = store.inspect("made:1")
    assert found["manifest_digest"] == committed
    assert found["config"]["config"]["Cmd"] == ["other"]
    assert found["config"]["history"][-1]["comment"] == "why" and found["config"]["author"] == "me"
    assert len(found["manifest"]["layers"]) == 3
    # The blob is as good as the directory: elsewhere it unpacks to the same.
    other = images(f"{scratch}/other")
    other.load(store.layout.image)
    third, third_dirs = new_container(other, "made:1")
    assert inside(third, third_dirs, picture) == before


def test_equal_changes_give_an_equal_layer(scratch: str) -> None:
    store = images(scratch)
    take(store, docker_archive(LOWER, UPPER))
    resolved = store.resolve("rig:1")
    digests = set()
    for number in range(2):
        container, _ = new_container(store, "rig:1", f"123456789{number}")
        for name in ("b", "a") if number else ("a", "b"):
            path = f"{container}/upper/{name}"
            open(path, "w").close()
            os.utime(path, (1, 1))
        os.utime(f"{container}/upper", (1, 1))
        store.commit(f"{container}/upper", f"made:{number}", manifest_digest=resolved.manifest_digest)
        digests.add(store.inspect(f"made:{number}")["manifest"]["layers"][-1]["digest"])
    assert len(digests) == 1


def test_commit_without_changes_and_after_the_image_went(scratch: str) -> None:
    store = images(scratch)
    take(store, docker_archive(LOWER))
    container, _ = new_container(store, "rig:1")
    resolved = store.resolve("rig:1")
    store.commit(f"{container}/upper", "made:1", manifest_digest=resolved.manifest_digest)
    again, dirs = new_container(store, "made:1", "1234567891")
    assert "etc/kept" in inside(again, dirs, tree)
    store.remove("made:1", force=True)
    store.remove("rig:1", force=True)
    with pytest.raises(Conflict, match="was removed"):
        store.commit(f"{container}/upper", "made:2", manifest_digest=resolved.manifest_digest)


# --- the image host -------------------------------------------------------------------------------------


@pytest.mark.needs("host_image")
def test_host_shows_the_machine_without_its_secrets(scratch: str) -> None:
    store = images(scratch)
    container, lower_dirs = new_container(store, "host")

    def look(root: str) -> dict[str, object]:
        with open(f"{root}/etc/created-inside", "w") as file:
            file.write("mine")
        with open(f"{root}/tmp/created-inside", "w") as file:
            file.write("mine")
        return {
            "empty": [os.listdir(f"{root}/{name}") for name in ("proc", "sys", "dev", "run", "root", "home", "var/tmp")],
            "tmp": os.listdir(f"{root}/tmp"),
            "tmp_mode": stat.S_IMODE(os.stat(f"{root}/tmp").st_mode),
            "root_mode": stat.S_IMODE(os.stat(f"{root}/root").st_mode),
            "hidden": [os.path.lexists(f"{root}{name}") for name in ("/etc/shadow", "/etc/shadow-", "/etc/gshadow")],
            "state": os.path.exists(root + store.layout.root),
            "passwd": open(f"{root}/etc/passwd").read() == open("/etc/passwd").read(),
            "etc": [os.stat(f"{root}/etc").st_mode, os.stat(f"{root}/etc").st_uid],
        }

    found = inside(container, lower_dirs, look)
    assert found["empty"] == [[]] * 7
    assert found["tmp"] == ["created-inside"] and found["tmp_mode"] == 0o1777
    assert found["root_mode"] == stat.S_IMODE(os.stat("/root").st_mode)
    assert found["hidden"] == [False] * 3
    assert not found["state"]
    assert found["passwd"]
    assert found["etc"] == [os.stat("/etc").st_mode, os.stat("/etc").st_uid]
    assert not os.path.exists("/etc/created-inside") and not os.path.exists("/tmp/created-inside")


@pytest.fixture
def home(scratch: str) -> str:
    """A directory of the test's own below /root, a hidden place."""
    path = f"/root/{os.path.basename(scratch)}"
    os.makedirs(f"{path}/shown/deep")
    for name in ("secret", "shown/file", "shown/deep/file"):
        with open(f"{path}/{name}", "w") as file:
            file.write(name)
    yield path
    subprocess.run(["rm", "-r", path], check=True)


@pytest.mark.needs("host_image")
def test_shown_directory_below_a_hidden_one_is_seen_alone_and_live(scratch: str, home: str) -> None:
    store = images(scratch)
    container, lower_dirs = new_container(store, "host", show=(f"{home}/shown",))
    with open(f"{home}/later-secret", "w") as file:
        file.write("x")
    with open(f"{home}/shown/later", "w") as file:
        file.write("x")

    def look(root: str) -> list[object]:
        with open(f"{root}{home}/shown/deep/written", "w") as file:
            file.write("inside")
        return [tree(f"{root}{home}"), os.listdir(f"{root}/root"), open(f"{root}{home}/shown/deep/file").read()]

    names, root_names, text = inside(container, lower_dirs, look)
    assert names == ["shown", "shown/deep", "shown/deep/file", "shown/deep/written", "shown/file", "shown/later"]
    assert root_names == [os.path.basename(home)]
    assert text == "shown/deep/file"
    assert not os.path.exists(f"{home}/shown/deep/written")


@pytest.mark.needs("host_image")
def test_shown_file_and_shown_parent(scratch: str, home: str) -> None:
    store = images(scratch)
    container, lower_dirs = new_container(store, "host", show=(f"{home}/secret",))
    assert inside(container, lower_dirs, lambda root: tree(f"{root}{home}")) == ["secret"]
    with open(f"{home}/secret", "w") as file:
        file.write("changed since")
    container, lower_dirs = new_container(store, "host", "1234567891", show=(f"{home}/secret",))
    assert inside(container, lower_dirs, lambda root: open(f"{root}{home}/secret").read()) == "changed since"
    container, lower_dirs = new_container(store, "host", "1234567892", show=("/root", "/etc/shadow"))
    names = (f"{home}/secret", "/etc/shadow")
    assert inside(container, lower_dirs, lambda root: [os.path.exists(root + name) for name in names]) == [
        True, os.path.exists("/etc/shadow")]


@pytest.mark.needs("host_image")
def test_state_of_the_engine_is_never_shown(scratch: str) -> None:
    store = images(scratch)
    for path in (store.layout.root, f"{store.layout.root}/image"):
        with pytest.raises(InvalidRequest, match="never shown"):
            store.resolve("host", (path,))
    with pytest.raises(InvalidRequest, match="absolute"):
        store.resolve("host", ("root",))
    with pytest.raises(NotFound):
        store.resolve("host", ("/no/such/path",))
    container, lower_dirs = new_container(store, "host", show=("/",))
    names = ("/etc/passwd", f"{store.layout.root}/image")
    assert inside(container, lower_dirs, lambda root: [os.path.lexists(root + name) for name in names]) == [True, False]


@pytest.mark.needs("host_image")
def test_commit_on_host_holds_only_the_changes_and_stays_on_host(scratch: str) -> None:
    store = images(scratch)
    container, lower_dirs = new_container(store, "host")
    marker = f"mydocker-test-{os.path.basename(scratch)}"

    def write(root: str) -> None:
        with open(f"{root}/etc/{marker}", "w") as file:
            file.write("x")
        os.unlink(f"{root}/etc/passwd")

    inside(container, lower_dirs, write)
    store.commit(f"{container}/upper", "made:1", manifest_digest="", base="host")
    found = store.inspect("made:1")
    layer, = found["manifest"]["layers"]
    with tarfile.open(fileobj=io.BytesIO(read_verified(store.layout, layer["digest"]))) as archive:
        assert sorted(archive.getnames()) == ["etc", "etc/.wh.passwd", f"etc/{marker}"]
    again, dirs = new_container(store, "made:1", "1234567891")
    assert dirs[-1] == "/" and len(dirs) == 3

    def look(root: str) -> list[bool]:
        return [os.path.exists(f"{root}/{name}") for name in (f"etc/{marker}", "etc/passwd", "etc/shadow", "usr/bin/env")]

    assert inside(again, dirs, look) == [True, False, False, True]
    # And one more on top of that.
    resolved = store.resolve("made:1")
    store.commit(f"{again}/upper", "made:2", manifest_digest=resolved.manifest_digest, base=resolved.base)
    third, third_dirs = new_container(store, "made:2", "1234567892")
    assert len(third_dirs) == 4
    assert inside(third, third_dirs, look) == [True, False, False, True]
    # The base is known to this machine's index only: elsewhere the image is its changes and no more.
    other = images(f"{scratch}/other")
    other.load(store.layout.image)
    assert other.resolve("made:1").base == ""
    assert "/" not in other.lower_dirs(other.resolve("made:1"))
    assert all(index.base_of(entry) == "" for entry in index.load(other.layout))
