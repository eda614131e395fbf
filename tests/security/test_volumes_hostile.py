"""What images, and containers that share a volume, try with volumes. Canaries are on the host."""
from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from harness import Mydocker, until
from image_rig import directory, member, symlink
from volume_rig import CONTENT, data_of, facts, load_image, names

from mydocker import Engine, InvalidRequest, NotFound

pytestmark = [pytest.mark.needs("root", "overlay")]

RUN = ("run", "--rm", "--network", "none")
_SWAPPER = """
import os, sys
from mydocker.linux import syscalls
directory = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
sys.stdout.write("up\\n"), sys.stdout.flush()
while True:
    syscalls.renameat2(directory, "x", directory, "link", syscalls.RENAME_EXCHANGE)
"""


@pytest.fixture(autouse=True)
def _no_volume_stays(mydocker: Mydocker) -> Iterator[None]:
    yield
    mydocker.destroy()
    mydocker("volume", "prune", "-a", "-f")


@pytest.fixture
def outside(scratch: str) -> Iterator[str]:
    """A directory of the host with canaries; it must be as it was afterwards."""
    path = f"{scratch}/outside"
    os.makedirs(f"{path}/a/b")
    for name in ("file", "a/b/file"):
        with open(f"{path}/{name}", "w") as stream:
            stream.write("the host's")
    before = facts(path)
    yield path
    assert facts(path) == before


@contextmanager
def swapping(path: str, target: str) -> Iterator[None]:
    """Exchange `x`, a directory, and `link`, a link to `target`, as fast as possible, as a container with the volume could."""
    os.makedirs(f"{path}/x/a/b")
    os.symlink(target, f"{path}/link")
    with subprocess.Popen([sys.executable, "-c", _SWAPPER, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def host_mounts(mydocker: Mydocker) -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8") as stream:
        return [line for line in stream if mydocker.root in line]


@pytest.mark.parametrize("path", ["/proc", "/sys", "/", "/../../etc", "../../../../etc", "/proc/self/attr", "/sys/kernel", "/dev", "data/.."])
def test_an_image_that_declares_a_volume_where_none_may_be_is_refused(mydocker: Mydocker, busybox_tar: str, path: str) -> None:
    """CVE-2019-16884 (a procfs of the image's making), CVE-2022-23648 (a volume's path that climbs)."""
    image = load_image(mydocker, busybox_tar, *CONTENT, volumes=("/data", path))
    for words in ([image, "true"], ["--read-only", "--user", "7", image, "true"]):
        assert "is no place for a volume" in mydocker(*RUN, *words, code=125).one_error_line()
    assert mydocker.rows() == {} and names(mydocker) == []


@pytest.mark.parametrize("way", ["VOLUME", "-v"])
def test_the_copy_into_a_volume_follows_links_inside_the_image_only(
    mydocker: Mydocker, busybox_tar: str, outside: str, way: str
) -> None:
    """CVE-2022-23648: `/data` of the image is a link to a directory of the host, absolute or climbing."""
    climbing = f"../../../../../../../..{outside}"
    image = load_image(
        mydocker, busybox_tar, symlink("absolute", outside), symlink("climbing", climbing), symlink("half", "/absolute/a"),
        directory("inner"), symlink("inner/sub", outside), member("inner/file", b"image's"),
        volumes=("/absolute", "/climbing", "/half/b", "/inner") if way == "VOLUME" else ())
    words = [] if way == "VOLUME" else ["-v", "/absolute", "-v", "/climbing", "-v", "/half/b", "-v", "/inner"]
    mydocker("create", "--name", "c", *words, image, "true")
    assert len(names(mydocker)) == 4
    found = {path: fact for name in names(mydocker) for path, fact in facts(data_of(mydocker, name)).items() if path != "."}
    # Made inside: the link to `/absolute/a/b` leads into the volume at /absolute, where a place for the other one was missing.
    assert found.keys() == {"file", "sub", "a", "a/b"}
    assert found["file"][4] == (b"image's", 1) and found["sub"][4] == outside


def test_a_volume_mounted_below_a_shared_one_stays_inside_under_a_swap(mydocker: Mydocker, busybox: str, outside: str) -> None:
    """CVE-2021-30465, CVE-2024-45310: one container of a shared volume swaps a directory while another is made."""
    mydocker("volume", "create", "shared")
    mydocker("volume", "create", "inner")
    with open(f"{data_of(mydocker, 'inner')}/mark", "w"):
        pass
    top, mounts = set(os.listdir("/")), host_mounts(mydocker)
    with swapping(data_of(mydocker, "shared"), outside):
        for number in range(25):
            target = ("/shared/x/new/place", "/shared/x/a/b", "/shared/x")[number % 3]
            mydocker(*RUN, "-v", "shared:/shared", "-v", f"inner:{target}", "--tmpfs", f"{target}/deeper", busybox, "true", code=None)
    assert host_mounts(mydocker) == mounts and set(os.listdir("/")) == top
    assert set(os.listdir(data_of(mydocker, "inner"))) <= {"mark", "deeper"}


@pytest.mark.parametrize("runtime", ["mydocker", "mydocker-runtime"])
def test_a_part_of_a_volume_is_never_what_a_link_leads_to(mydocker: Mydocker, busybox: str, outside: str, runtime: str) -> None:
    """CVE-2017-1002101's kind: the subpath is swapped for a link to the host while a container with it is made."""
    mydocker("volume", "create", "shared")
    seen = set()
    with swapping(data_of(mydocker, "shared"), outside):
        for number in range(20):
            subpath = ("x/a/b", "x", "x/a")[number % 3]
            done = mydocker(
                *RUN, "--runtime", runtime, "--mount", f"src=shared,dst=/y,volume-subpath={subpath}", busybox, "sh", "-c",
                "ls -R /y; echo changed > /y/file; echo ok", code=None)
            assert "the host's" not in done.out and done.code in (0, 125), done
            seen.add(done.code)
            if done.code:
                assert "symbolic links" in done.err or "no such file" in done.err, done
    assert 0 in seen


@pytest.mark.parametrize("subpath", ["link", "link/a", "x/../link", "absolute/a/b"])
def test_a_subpath_with_a_link_in_it_is_refused(mydocker: Mydocker, busybox: str, outside: str, subpath: str) -> None:
    mydocker("volume", "create", "shared")
    os.mkdir(f"{data_of(mydocker, 'shared')}/x")
    os.symlink("../" * 20 + outside[1:], f"{data_of(mydocker, 'shared')}/link")
    os.symlink(outside, f"{data_of(mydocker, 'shared')}/absolute")
    mydocker(*RUN, "--mount", f"src=shared,dst=/y,volume-subpath={subpath}", busybox, "cat", "/y/file", code=125).one_error_line()


def test_the_copy_into_a_volume_goes_around_what_a_container_makes_there(mydocker: Mydocker, busybox_tar: str, outside: str) -> None:
    """CVE-2020-1726, and links: a container has the volume already, and fills it with traps while an image is copied in."""
    members = [member(f"data/{number}", b"image's", mode=0o4777) for number in range(200)]
    image = load_image(mydocker, busybox_tar, directory("data", mode=0o777), *members)
    mydocker("run", "-d", "--name", "trap", "--network", "none", "-v", "data:/x", image, "sleep", "1000")
    making = mydocker.popen("create", "-v", "data:/data", image, "true", env={"MYDOCKER_TRACE": "volume copy whole=sleep:2"})
    until(lambda: os.path.exists(f"{mydocker.root}/volume/data/.fill"))
    mydocker("exec", "trap", "sh", "-c", f"for n in $(seq 0 99); do ln -s {outside}/file /x/$n; done; ln -s {outside} /x/new")
    assert making.wait(30) == 0, making.communicate()
    making.communicate()
    found = facts(data_of(mydocker, "data"))
    assert len(found) == 202 and all(found[str(number)][4] == f"{outside}/file" for number in range(100))
    assert all(found[str(number)][4] == (b"image's", 1) for number in range(100, 200))


def test_a_filled_volume_survives_the_image_that_has_the_same_names(mydocker: Mydocker, busybox_tar: str) -> None:
    """CVE-2020-1726."""
    image = load_image(mydocker, busybox_tar, *CONTENT, volumes=("/data",))
    mydocker("volume", "create", "data")
    with open(f"{data_of(mydocker, 'data')}/.hidden", "w") as stream:
        stream.write("mine")
    before = facts(data_of(mydocker, "data"))
    for _ in range(3):
        mydocker(*RUN, "-v", "data:/data", image, "true")
    assert facts(data_of(mydocker, "data")) == before


def test_looking_at_and_removing_a_volume_leaves_what_its_links_lead_to(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    """CVE-2023-0778's kind: what works on a volume from outside, while a container changes it."""
    mydocker("volume", "create", "shared")
    data = data_of(mydocker, "shared")
    with open(f"{scratch}/big", "wb") as stream:
        stream.write(bytes(3_000_000))
    with swapping(data, scratch):
        for _ in range(5):
            line = mydocker("system", "df", "--format", "{{.Type}}={{.Size}}").out
            assert "Local Volumes=" in line and "MB" not in line.partition("Local Volumes=")[2].splitlines()[0], line
        mydocker("volume", "rm", "shared")
    assert names(mydocker) == [] and os.path.getsize(f"{scratch}/big") == 3_000_000


@pytest.mark.parametrize("name", ["..", "../container", "../../etc", "/etc", "data/../../image", ".", "", "-f", "a\nb", "data/", ".data", "x" * 256])
def test_a_name_of_a_volume_is_no_path(mydocker: Mydocker, engine: Engine, busybox: str, name: str) -> None:
    mydocker("volume", "create", "data")
    layout = sorted(os.listdir(mydocker.root))
    for act in (engine.volumes.remove, engine.volumes.get):
        with pytest.raises(NotFound):
            act(name)
    if name:
        with pytest.raises(InvalidRequest):
            engine.volumes.create(name)
        with pytest.raises(InvalidRequest):
            engine.containers.create(busybox, ["true"], mount={"type": "volume", "source": name, "target": "/x"})
    assert sorted(os.listdir(mydocker.root)) == layout and names(mydocker) == ["data"]


def test_a_hostile_image_cannot_ask_for_volumes_without_end(mydocker: Mydocker, busybox_tar: str) -> None:
    image = load_image(mydocker, busybox_tar, *CONTENT, volumes=tuple(f"/data/{number}" for number in range(2000)))
    assert "2000 of them" in mydocker(*RUN, image, "true", code=125).one_error_line()
    deep = load_image(mydocker, busybox_tar, *(directory("data" + "/d" * depth) for depth in range(300)), name="deep:1")
    assert "directories deep" in mydocker(*RUN, "-v", "/data", deep, "true", code=125).one_error_line()
    assert mydocker.rows() == {} and names(mydocker) == []


def test_devices_of_an_image_in_a_volume_open_nothing(mydocker: Mydocker, busybox_tar: str) -> None:
    """The copy makes the nodes as the image has them; the container may not use them."""
    node = member("data/disk", type=tarfile.BLKTYPE, devmajor=os.major(os.stat("/").st_dev), devminor=os.minor(os.stat("/").st_dev), mode=0o666)
    image = load_image(mydocker, busybox_tar, directory("data"), node, volumes=("/data",))
    done = mydocker(*RUN, image, "head", "-c", "1", "/data/disk", code=None)
    assert done.code != 0 and "permitted" in done.err
