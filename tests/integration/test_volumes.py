"""Volumes: made, filled from the image, shared, listed, removed; with the command and from Python."""
from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from harness import Mydocker, until
from image_rig import directory, member, symlink, tar
from volume_rig import CONTENT, data_of, facts, load_image, mounts, names

from mydocker import Conflict, Engine, InvalidRequest, NotFound

pytestmark = [pytest.mark.needs("root", "overlay")]

RUN = ("run", "--rm", "--network", "none")


@pytest.fixture(autouse=True)
def _no_volume_stays(mydocker: Mydocker) -> Iterator[None]:
    yield
    mydocker.destroy()
    mydocker("volume", "prune", "-a", "-f")


def content_of(mydocker: Mydocker, image: str) -> str:
    """Return the image's /data on disk: the second layer of rig images."""
    chain = mydocker.inspect(image)["layers"][1]
    return f"{mydocker.root}/layer/{(chain if isinstance(chain, str) else chain['chainId']).removeprefix('sha256:')}/diff/data"


def test_a_volume_lives_from_create_to_rm(mydocker: Mydocker, busybox: str) -> None:
    assert mydocker("volume", "create", "--label", "a=b", "data").out == "data\n"
    assert mydocker("volume", "create", "data").out == "data\n"  # docker: the one that is there
    (document,) = json.loads(mydocker("volume", "inspect", "data").out)
    assert document.pop("CreatedAt").startswith("20")
    assert document == {
        "Driver": "local", "Labels": {"a": "b"}, "Mountpoint": data_of(mydocker, "data"), "Name": "data", "Options": None,
        "Scope": "local"}
    assert mydocker("volume", "ls").out.splitlines() == ["DRIVER   VOLUME NAME", "local    data"]
    mydocker("run", "-d", "--name", "c", "-v", "data:/x", busybox, "sh", "-c", "echo hello > /x/f; sleep 1000")
    until(lambda: os.path.exists(f"{data_of(mydocker, 'data')}/f"))
    assert mydocker(*RUN, "-v", "data:/y:ro", busybox, "cat", "/y/f").out == "hello\n"
    assert "in use by c" in mydocker("volume", "rm", "data", code=125).one_error_line()
    mydocker("rm", "-f", "-v", "c")
    assert mydocker("volume", "rm", "data").out == "data\n"
    assert "no volume data" in mydocker("volume", "rm", "data", code=125).one_error_line()
    assert mydocker("volume", "rm", "-f", "data").out == "data\n"  # docker says so, too
    assert "no volume data" in mydocker("volume", "inspect", "data", code=125).err


def test_a_volume_is_made_when_it_is_first_mounted_and_outlives_its_containers(mydocker: Mydocker, busybox: str) -> None:
    mydocker(*RUN, "-v", "data:/x", busybox, "sh", "-c", "echo 1 > /x/f")
    mydocker(*RUN, "--mount", "src=data,dst=/y", busybox, "sh", "-c", "echo 2 >> /y/f")
    assert names(mydocker) == ["data"]
    assert mydocker(*RUN, "-v", "data:/z", busybox, "cat", "/z/f").out == "1\n2\n"


def test_read_only_and_nested_volumes(mydocker: Mydocker, busybox: str) -> None:
    script = "touch /a/b/in; touch /a/out 2>&1; touch /c 2>/dev/null || echo root; ls /a"
    mydocker(*RUN, "-v", "outer:/a", busybox, "mkdir", "-p", "/a/b")
    out = mydocker(*RUN, "--read-only", "-v", "inner:/a/b", "-v", "outer:/a:ro", busybox, "sh", "-c", script).out
    assert "Read-only file system" in out and "root" in out and out.endswith("b\n")
    assert os.listdir(data_of(mydocker, "inner")) == ["in"]


def test_an_empty_volume_gets_the_images_content_as_it_is(mydocker: Mydocker, busybox_tar: str) -> None:
    image = load_image(mydocker, busybox_tar, *CONTENT)
    mydocker(*RUN, "-v", "data:/data", image, "true")
    there, here = facts(content_of(mydocker, image)), facts(data_of(mydocker, "data"))
    assert here == there
    assert len(here) == 8 and here["sub/deep"][-1] == {"user.note": b"kept"} and here["program"][0] == "0o104755"
    assert os.path.samefile(f"{data_of(mydocker, 'data')}/file", f"{data_of(mydocker, 'data')}/again")
    assert set(os.listdir(f"{mydocker.root}/volume/data")) == {"_data", "volume.json"}


def test_a_filled_volume_is_never_copied_over(mydocker: Mydocker, busybox_tar: str) -> None:
    """CVE-2020-1726."""
    image = load_image(mydocker, busybox_tar, *CONTENT)
    mydocker("volume", "create", "data")
    os.chown(data_of(mydocker, "data"), 11, 12)
    with open(f"{data_of(mydocker, 'data')}/file", "w") as stream:
        stream.write("mine")
    before = facts(data_of(mydocker, "data"))
    for words in (["-v", "data:/data"], ["--mount", "src=data,dst=/data"]):
        assert mydocker(*RUN, *words, image, "cat", "/data/file").out == "mine"
    assert facts(data_of(mydocker, "data")) == before


@pytest.mark.parametrize("words", [["-v", "data:/data:nocopy"], ["--mount", "src=data,dst=/data,volume-nocopy"], ["-v", "data:/nowhere"]])
def test_what_is_not_to_be_copied_is_not(mydocker: Mydocker, busybox_tar: str, words: list[str]) -> None:
    image = load_image(mydocker, busybox_tar, *CONTENT)
    mydocker(*RUN, *words, image, "true")
    assert os.listdir(data_of(mydocker, "data")) == []


def test_an_empty_directory_of_the_image_gives_its_owner_and_mode(mydocker: Mydocker, busybox_tar: str) -> None:
    image = load_image(mydocker, busybox_tar, directory("data", uid=7, gid=8, mode=0o1770))
    assert mydocker(*RUN, "-v", "data:/data", image, "stat", "-c", "%u %g %a", "/data").out == "7 8 1770\n"
    assert mydocker(*RUN, "-v", "other:/new/place", image, "stat", "-c", "%u %g %a", "/new/place").out == "0 0 755\n"


def test_layers_are_seen_as_one_tree_and_links_lead_inside(mydocker: Mydocker, busybox_tar: str) -> None:
    image = load_image(
        mydocker, busybox_tar, directory("srv"), directory("srv/real"), member("srv/real/old", b""), member("srv/real/gone", b""),
        symlink("data", "/srv/real"), symlink("up", "../../../../../srv"),
        more=(tar(member("srv/real/.wh.gone"), member("srv/real/new", b"")),))
    assert mydocker(*RUN, "-v", "one:/data", image, "ls", "/srv/real").out == "new\nold\n"
    assert sorted(os.listdir(data_of(mydocker, "one"))) == ["new", "old"]
    mydocker(*RUN, "-v", "two:/up/real", image, "true")
    assert sorted(os.listdir(data_of(mydocker, "two"))) == ["new", "old"]


def test_a_volume_on_a_file_is_refused_and_leaves_nothing(mydocker: Mydocker, busybox: str) -> None:
    assert "/etc/passwd is no directory" in mydocker(
        "run", "--name", "c", "-v", "/anonymous", "-v", "data:/etc/passwd", busybox, "true", code=125).one_error_line()
    assert mydocker.rows() == {} and names(mydocker) == ["data"]


def test_two_containers_that_come_at_once_see_the_same_whole_content(mydocker: Mydocker, busybox_tar: str) -> None:
    members = [member(f"data/{number}", str(number).encode()) for number in range(300)]
    image = load_image(mydocker, busybox_tar, directory("data"), *members)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: mydocker(*RUN, "-v", "data:/data", image, "sh", "-c", "ls /data | wc -l").out, range(6)))
    assert found == ["300\n"] * 6
    assert len(os.listdir(data_of(mydocker, "data"))) == 300


def test_a_container_that_has_the_empty_volume_sees_it_fill(mydocker: Mydocker, busybox_tar: str) -> None:
    """The directory that is mounted is never replaced, and what such a container made stays."""
    image = load_image(mydocker, busybox_tar, *CONTENT)
    mydocker("run", "-d", "--name", "c", "--network", "none", "-v", "data:/x", image, "sleep", "1000")
    mydocker(*RUN, "-v", "data:/data", image, "true")
    assert mydocker("exec", "c", "cat", "/x/file").out == "of the image"
    mydocker("exec", "c", "sh", "-c", "echo more > /x/more")
    assert mydocker(*RUN, "-v", "data:/data", image, "cat", "/data/more").out == "more\n"


def test_anonymous_volumes_go_with_rm_and_with_rm_v_only(mydocker: Mydocker, busybox: str) -> None:
    mydocker(*RUN, "-v", "/a", "-v", "data:/d", "--mount", "dst=/b", busybox, "touch", "/a/f", "/b/f", "/d/f")
    assert names(mydocker) == ["data"]
    for flags, kept in (([], 2), (["-v"], 0)):
        mydocker("run", "-d", "--name", "c", "--network", "none", "-v", "/a", "-v", "data:/d", "--mount", "dst=/b", busybox, "true")
        mydocker("wait", "c")
        assert len(names(mydocker)) == 3
        mydocker("rm", *flags, "c")
        assert len(names(mydocker)) == 1 + kept
        assert len(mydocker("volume", "ls", "-qf", "dangling=true").out.split()) == 1 + kept
        out = mydocker("volume", "prune", "-f").out
        assert out.count("\n") == (kept + 3 if kept else 1) and out.endswith(" 24.6kB\n" if kept else " 0B\n"), out
    assert names(mydocker) == ["data"]
    assert "data" in mydocker("volume", "prune", "-a").out and names(mydocker) == []


def test_detached_rm_takes_its_anonymous_volumes_with_it(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "--rm", "--network", "none", "-v", "/a", busybox, "true")
    until(lambda: names(mydocker) == [])


def test_volumes_of_an_image(mydocker: Mydocker, busybox_tar: str, scratch: str) -> None:
    image = load_image(mydocker, busybox_tar, *CONTENT, volumes=("/data", "/new/place", "rel"))
    mydocker("run", "-d", "--name", "c", "--network", "none", image, "sh", "-c", "echo $(cat /data/file); touch /new/place/f; sleep 1000")
    until(lambda: mydocker("logs", "c").out == "of the image\n")
    found = mounts(mydocker, "c")
    assert found.keys() == {"/data", "/new/place", "/rel"}
    assert all(mount["Type"] == "volume" and len(mount["Name"]) == 64 and mount["RW"] for mount in found.values())
    assert mydocker("exec", "c", "ls", "/new/place").out == "f\n"
    mydocker("rm", "-fv", "c")
    assert names(mydocker) == []
    # What the user mounts there is in their place.
    words = ["-v", "data:/data", "-v", f"{scratch}:/new/place", "--tmpfs", "/rel"]
    mydocker("run", "-d", "--name", "c", "--network", "none", *words, image, "sleep", "1000")
    assert {mount["Source"] for mount in mounts(mydocker, "c").values()} == {data_of(mydocker, "data"), scratch}
    assert names(mydocker) == ["data"]


def test_volumes_from_another_container(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    mydocker("create", "--name", "one", "-v", "data:/d", "-v", "/anonymous", "-v", f"{scratch}:/host", busybox, "true")
    mydocker("run", "-d", "--name", "two", "--network", "none", "--volumes-from", "one", "-v", "other:/d", busybox, "sh", "-c",
             "echo 1 > /d/f; echo 2 > /anonymous/f; echo 3 > /host/f; sleep 1000")
    until(lambda: os.path.exists(f"{scratch}/f"))
    assert os.listdir(data_of(mydocker, "data")) == [] and os.listdir(data_of(mydocker, "other")) == ["f"]
    script = "cat /d/f /anonymous/f /host/f; touch /d/f /anonymous/f /host/f"
    done = mydocker("run", "--rm", "--network", "none", "--volumes-from", "two:ro", busybox, "sh", "-c", script, code=None)
    assert done.out == "1\n2\n3\n" and done.err.count("Read-only file system") == 3
    # The anonymous one stays while somebody has it.
    assert len(names(mydocker)) == 3
    mydocker("rm", "-v", "one")
    assert len(names(mydocker)) == 3
    mydocker("rm", "-fv", "two")
    assert names(mydocker) == ["data", "other"]
    assert "no container one" in mydocker(*RUN, "--volumes-from", "one", busybox, "true", code=125).one_error_line()


def test_a_restarted_container_has_its_volumes_again(mydocker: Mydocker, busybox: str) -> None:
    script = "cat /a/f /d/f 2>/dev/null; echo again > /a/f; echo more > /d/f"
    mydocker("run", "--name", "c", "--network", "none", "-v", "/a", "-v", "data:/d", busybox, "sh", "-c", script)
    assert mydocker("start", "-a", "c").out == "again\nmore\n"


def test_inspect_shows_mounts_in_dockers_form(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    mydocker("create", "--name", "c", "-v", "data:/d:ro", "-v", "plain:/p", "-v", "/a", "-v", f"{scratch}:/h:rslave", "--tmpfs", "/t", busybox, "true")
    found = mounts(mydocker, "c")
    name = found["/a"]["Name"]
    assert found == {
        "/d": {"Type": "volume", "Name": "data", "Source": data_of(mydocker, "data"), "Destination": "/d", "Driver": "local",
               "Mode": "ro", "RW": False, "Propagation": ""},
        "/p": {"Type": "volume", "Name": "plain", "Source": data_of(mydocker, "plain"), "Destination": "/p", "Driver": "local",
               "Mode": "z", "RW": True, "Propagation": ""},
        "/a": {"Type": "volume", "Name": name, "Source": data_of(mydocker, name), "Destination": "/a", "Driver": "local",
               "Mode": "", "RW": True, "Propagation": ""},
        "/h": {"Type": "bind", "Source": scratch, "Destination": "/h", "Mode": "", "RW": True, "Propagation": "rslave"},
    }
    mydocker("rm", "-v", "c")


def test_volume_ls_filters_and_formats(mydocker: Mydocker, busybox: str) -> None:
    for name, labels in (("one", ["--label", "a=1"]), ("two", ["--label", "a=2", "--label", "b"]), ("used", [])):
        mydocker("volume", "create", *labels, name)
    mydocker("create", "--name", "c", "-v", "used:/x", busybox, "true")

    def listed(*words: str) -> list[str]:
        return mydocker("volume", "ls", "-q", *[part for word in words for part in ("-f", word)]).out.split()

    assert listed("dangling=true") == ["one", "two"] and listed("dangling=false") == ["used"]
    assert listed("label=a") == ["one", "two"] and listed("label=a=2", "label=b") == ["two"] and listed("name=o") == ["one", "two"]
    assert listed("driver=local", "name=used") == ["used"] and listed("driver=nfs") == []
    assert mydocker("volume", "ls", "--format", '{{.Name}}:{{.Driver}}:{{.Label "a"}}').out.split() == [
        "one:local:1", "two:local:2", "used:local:"]
    assert json.loads(mydocker("volume", "ls", "-f", "name=one", "--format", "json").out)["Mountpoint"] == data_of(mydocker, "one")
    assert mydocker("volume", "inspect", "-f", "{{.Name}} {{.Labels.a}}", "one", "two").out == "one 1\ntwo 2\n"
    assert "filter 'foo=1' is not known" in mydocker("volume", "ls", "-f", "foo=1", code=125).one_error_line()
    assert mydocker("inspect", "--type", "volume", "-f", "{{.Name}}", "one").out == "one\n"
    assert mydocker("inspect", "-f", "{{.Name}}", "one").out == "one\n"
    assert mydocker("volume", "prune", "-a", "--filter", "label!=b").out.startswith("Deleted Volumes:\none\n\nTotal")
    assert names(mydocker) == ["two", "used"]


def test_usage_counts_volumes_and_system_prune_takes_the_anonymous_ones(mydocker: Mydocker, busybox: str) -> None:
    mydocker("create", "--name", "c", "-v", "used:/x", busybox, "true")
    mydocker("volume", "create", "idle")
    mydocker("volume", "create")
    with open(f"{data_of(mydocker, 'idle')}/f", "wb") as stream:
        stream.write(bytes(100_000))
    items = [json.loads(line) for line in mydocker("system", "df", "--format", "json").out.splitlines()]
    (line,) = [item for item in items if item["Type"] == "Local Volumes"]
    assert (line["TotalCount"], line["Active"]) == ("3", "1") and line["Reclaimable"].startswith("1") and "kB" in line["Reclaimable"]
    assert "Local Volumes space usage:" in mydocker("system", "df", "-v").out
    assert "Deleted Volumes" not in mydocker("system", "prune", "-f").out
    assert "Deleted Volumes" in mydocker("system", "prune", "-f", "--volumes").out
    assert names(mydocker) == ["idle", "used"]


def test_a_volume_that_is_a_tmpfs(mydocker: Mydocker, busybox_tar: str) -> None:
    image = load_image(mydocker, busybox_tar, *CONTENT)
    mydocker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=7", "ram")
    out = mydocker(*RUN, "-v", "ram:/data", image, "sh", "-c", "df -k /data | tail -1; cat /data/file; ls -ldn /data").out
    assert out.startswith("tmpfs") and " 1024 " in out and "of the image" in out
    assert os.listdir(data_of(mydocker, "ram")) == []


def test_a_volume_that_is_a_directory_of_the_machine(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    options = ["-o", "type=none", "-o", "o=bind", "-o", f"device={scratch}/there"]
    mydocker("volume", "create", *options, "bound")
    assert "is not there" in mydocker(*RUN, "-v", "bound:/x", busybox, "true", code=125).one_error_line()
    os.mkdir(f"{scratch}/there")
    mydocker(*RUN, "-v", "bound:/x", busybox, "touch", "/x/f")
    assert os.listdir(f"{scratch}/there") == ["f"]
    assert json.loads(mydocker("volume", "inspect", "bound").out)[0]["Mountpoint"] == f"{scratch}/there"
    mydocker("volume", "rm", "bound")
    assert os.listdir(f"{scratch}/there") == ["f"]


def test_an_empty_directory_of_the_machine_is_filled_and_a_filled_one_is_not(mydocker: Mydocker, busybox_tar: str, scratch: str) -> None:
    image = load_image(mydocker, busybox_tar, *CONTENT)
    for name, content in (("empty", []), ("filled", ["mine"])):
        os.mkdir(f"{scratch}/{name}")
        for file in content:
            os.mkdir(f"{scratch}/{name}/{file}")
        mydocker("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={scratch}/{name}", name)
        mydocker(*RUN, "-v", f"{name}:/data", image, "true")
    assert facts(f"{scratch}/empty") == facts(content_of(mydocker, image))
    assert os.listdir(f"{scratch}/filled") == ["mine"]


def test_a_part_of_a_volume(mydocker: Mydocker, busybox: str) -> None:
    mydocker(*RUN, "-v", "data:/d", busybox, "sh", "-c", "mkdir -p /d/a/b; echo in > /d/a/b/f; ln -s a /d/link; echo out > /d/f")
    for runtime in ("mydocker", "mydocker-runtime"):
        words = ["--runtime", runtime, "--mount", "src=data,dst=/x,volume-subpath=a/b"]
        assert mydocker(*RUN, *words, busybox, "ls", "/x").out == "f\n"
    mydocker("run", "--name", "c", "--network", "none", "--mount", "src=data,dst=/x,ro,volume-subpath=a/b/f", busybox, "cat", "/x")
    assert mydocker("start", "-a", "c").out == "in\n"
    for subpath, text in (("nowhere", "no such file"), ("link/b", "symbolic links")):
        done = mydocker(*RUN, "--mount", f"src=data,dst=/x,volume-subpath={subpath}", busybox, "true", code=125)
        assert text in done.one_error_line()


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_other_runtimes_mount_volumes(mydocker: Mydocker, busybox_tar: str, runtime: str) -> None:
    if subprocess.run(["which", runtime], capture_output=True, check=False).returncode:
        pytest.skip(f"no {runtime} here")
    image = load_image(mydocker, busybox_tar, *CONTENT, volumes=("/data",))
    words = ["--runtime", runtime, "-v", "named:/n", "--mount", "src=named,dst=/s,volume-subpath=sub"]
    mydocker(*RUN, "-v", "named:/n", image, "mkdir", "/n/sub")
    assert mydocker(*RUN, *words, image, "sh", "-c", "cat /data/file; touch /s/f; ls /n/sub").out == "of the imagef\n"


def test_a_container_with_users_of_its_own_keeps_the_ids_of_the_volume(mydocker: Mydocker, busybox_tar: str) -> None:
    image = load_image(mydocker, busybox_tar, *CONTENT)
    script = "stat -c %u:%g /data /data/file; touch /data/new; chown 5 /data/new; stat -c %u /data/new"
    out = mydocker(*RUN, "--userns", "private", "-v", "data:/data", image, "sh", "-c", script).out
    assert out.split() == ["7:8", "5:6", "5"]
    assert os.stat(f"{data_of(mydocker, 'data')}/new").st_uid == 5


def test_volumes_with_the_image_host(mydocker: Mydocker) -> None:
    assert mydocker(*RUN, "-v", "data:/etc/init.d", "host", "ls", "/etc/init.d").out
    assert sorted(os.listdir(data_of(mydocker, "data"))) == sorted(os.listdir("/etc/init.d"))


def test_names_are_resolved_with_a_volume_at_etc(mydocker: Mydocker, busybox: str) -> None:
    assert "localhost" in mydocker(*RUN, "-v", "conf:/etc", busybox, "cat", "/etc/hosts").out


def test_a_build_does_not_lose_what_it_writes_to_a_volume_of_its_base(mydocker: Mydocker, busybox_tar: str, scratch: str) -> None:
    image = load_image(mydocker, busybox_tar, *CONTENT, volumes=("/data",))
    with open(f"{scratch}/Dockerfile", "w", encoding="utf-8") as stream:
        stream.write(f"FROM {image}\nRUN echo built > /data/built\n")
    mydocker("build", "-q", "-t", "built", scratch)
    assert mydocker(*RUN, "built", "cat", "/data/built").out == "built\n"
    assert names(mydocker) == []


def test_volumes_from_python(engine: Engine, mydocker: Mydocker) -> None:
    volume = engine.volumes.create("data", label={"a": "b"})
    assert (volume.name, dict(volume.labels), volume.anonymous) == ("data", {"a": "b"}, False)
    with engine.containers.run("busybox", ["sleep", "1000"], detach=True, volume={"data": "/x"}, network="none", name="c") as container:
        assert container.exec(["sh", "-c", "echo 1 > /x/f"]).exit_code == 0
        assert engine.volumes.users() == {"data": ["c"]}
        with pytest.raises(Conflict, match="in use by c"):
            engine.volumes.remove("data")
    with open(f"{engine.volumes.mountpoint(volume)}/f") as stream:
        assert stream.read() == "1\n"
    options: dict[str, Any] = {"network": "none", "rm": True}
    done = engine.containers.run("busybox", ["cat", "/x/f"], mount={"type": "volume", "source": "data", "target": "/x"}, **options)
    assert done.output == (b"1\n", b"")
    assert [each.name for each in engine.volumes.list()] == ["data"]
    assert [each.name for each in engine.volumes.prune(all=True)] == ["data"]
    with pytest.raises(NotFound):
        engine.volumes.get("data")
    with pytest.raises(InvalidRequest):
        engine.volumes.create("no/name")


def test_a_hundred_containers_share_a_volume(mydocker: Mydocker, busybox: str, engine: Engine) -> None:
    def run(number: int) -> None:
        engine.containers.run("busybox", ["touch", f"/x/{number}"], volume=["data:/x", "/anonymous"], network="none", rm=True)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(40)))
    assert len(os.listdir(data_of(mydocker, "data"))) == 40
    until(lambda: names(mydocker) == ["data"])


def test_ps_shows_and_filters_mounts(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    mydocker("create", "--name", "one", "-v", "a-volume-of-a-long-name:/d", "-v", f"{scratch}:/h", busybox, "true")
    mydocker("create", "--name", "two", "-v", "data:/e", busybox, "true")
    assert mydocker("ps", "-f", "name=one", "--format", "{{.Mounts}} {{.LocalVolumes}}", "--no-trunc").out == (
        f"a-volume-of-a-long-name,{scratch} 1\n")
    assert mydocker("ps", "-f", "name=two", "--format", "{{.Mounts}}").out == "data\n"
    for value, expected in (("data", "two"), ("/d", "one"), (scratch, "one"), ("/nowhere", "")):
        assert mydocker("ps", "-f", f"volume={value}", "--format", "{{.Name}}").out.strip() == expected
