"""`cp`: states of the container, volumes, what is kept of files, streams, errors. test_cp_peers.py compares its rules with docker's."""
from __future__ import annotations

import io
import os
import re
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from harness import Mydocker

from mydocker import Conflict, Denied, Engine, InvalidRequest, NotFound

pytestmark = pytest.mark.needs("root", "overlay")

SLEEP = ("sleep", "100000")


def start(mydocker: Mydocker, busybox: str, *options: str, script: str = "") -> str:
    """Start a container that sleeps and run a script in it; return its name."""
    mydocker("run", "-d", "--network", "none", "--name", "c", *options, busybox, *SLEEP)
    if script:
        mydocker("exec", "c", "sh", "-c", script)
    return "c"


def tar_of(**files: bytes) -> bytes:
    """Return a tar with files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.gid, info.mode = len(content), 1234, 5678, 0o640
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


@pytest.mark.parametrize("state", ["created", "running", "paused", "exited"])
def test_a_file_goes_into_a_container_and_out_in_every_state(
    mydocker: Mydocker, busybox: str, tmp_path: Path, state: str
) -> None:
    (tmp_path / "in").write_text("words\n")
    mydocker("create" if state == "created" else "run", *(() if state == "created" else ("-d",)), "--network", "none", "--name", "c",
             "-v", f"{tmp_path}:/vol", busybox, *SLEEP)
    if state == "paused":
        mydocker("pause", "c")
    if state == "exited":
        mydocker("stop", "-t", "0", "c")
    mydocker("cp", f"{tmp_path}/in", "c:/etc/words")
    mydocker("cp", f"{tmp_path}/in", "c:/vol/into-volume")
    mydocker("container", "cp", "c:/etc/words", f"{tmp_path}/out")
    assert (tmp_path / "out").read_text() == "words\n"
    assert (tmp_path / "into-volume").read_text() == "words\n"
    assert mydocker("cp", "c:/vol/in", "-").raw_out.startswith(b"in\0")
    if state == "paused":
        mydocker("unpause", "c")
    if state in ("exited", "created"):
        mydocker("start", "c")
    assert mydocker("exec", "c", "cat", "/etc/words").out == "words\n"


def test_an_ended_container_starts_again_and_commits_what_was_copied_into_it(mydocker: Mydocker, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "program").write_text("#!/bin/sh\necho copied\n")
    (tmp_path / "program").chmod(0o755)
    mydocker("run", "--network", "none", "--name", "c", busybox, "true")
    for _ in range(3):  # each mounts the write layer and lets it go again
        mydocker("cp", f"{tmp_path}/program", "c:/program")
    mydocker("commit", "c", "with-program")
    assert mydocker("run", "--rm", "--network", "none", "with-program", "/program").out == "copied\n"
    mydocker("start", "c")
    mydocker("wait", "c")


def test_what_a_copy_keeps_modes_times_links_attributes_holes_devices(mydocker: Mydocker, busybox: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep" / "deeper").mkdir(parents=True)
    (source / "file").write_bytes(b"x" * 5000)
    os.link(source / "file", source / "deep" / "second-name")
    os.symlink("../file", source / "deep" / "link")
    with open(source / "holes", "wb") as stream:
        stream.seek(50_000_000)
        stream.write(b"end")
    os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mkfifo(source / "fifo")
    os.setxattr(source / "file", "user.note", b"kept")
    for name, mode in (("file", 0o4640), ("deep", 0o1770), ("deep/deeper", 0o500), ("fifo", 0o622), ("null", 0o662)):
        os.chmod(source / name, mode)
    for name in ("holes", "deep", "."):
        os.utime(source / name, (10**9, 10**9))
    start(mydocker, busybox)
    mydocker("cp", str(source), "c:/there")
    mydocker("cp", "c:/there", f"{tmp_path}/back")
    for name in ("", "file", "deep", "deep/deeper", "deep/link", "deep/second-name", "holes", "null", "fifo"):
        before, after = os.lstat(source / name), os.lstat(tmp_path / "back" / name)
        assert (before.st_mode, before.st_nlink, before.st_rdev, int(before.st_mtime)) == (
            after.st_mode, after.st_nlink, after.st_rdev, int(after.st_mtime)), name
    back = tmp_path / "back"
    assert os.path.samefile(back / "file", back / "deep" / "second-name")
    assert os.getxattr(back / "file", "user.note") == b"kept"
    assert os.readlink(back / "deep" / "link") == "../file"
    assert (back / "holes").read_bytes() == (source / "holes").read_bytes()
    assert os.stat(back / "holes").st_blocks * 512 < 1_000_000


def test_files_become_roots_inside_and_the_callers_outside_and_keep_their_owners_with_archive(
    mydocker: Mydocker, busybox: str, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text("x")
    os.chown(tmp_path / "in", 1000, 1001)
    os.chmod(tmp_path / "in", 0o6755)
    start(mydocker, busybox, script="echo f > /f; chown 2000:2001 /f; chmod 6755 /f; echo r > /r; chmod 4755 /r")
    mydocker("cp", f"{tmp_path}/in", "c:/plain")
    mydocker("cp", "-a", f"{tmp_path}/in", "c:/archive")
    listed = mydocker("exec", "c", "stat", "-c", "%u:%g %a", "/plain", "/archive").out.split("\n")
    assert listed[:2] == ["0:0 755", "1000:1001 6755"]
    for name, options in (("plain", ()), ("archive", ("-a",))):
        mydocker("cp", *options, "c:/f", f"{tmp_path}/{name}")
    plain, kept = os.stat(tmp_path / "plain"), os.stat(tmp_path / "archive")
    assert (plain.st_uid, plain.st_gid, plain.st_mode & 0o7777) == (0, 0, 0o755)  # no program that makes everybody root
    assert (kept.st_uid, kept.st_gid, kept.st_mode & 0o7777) == (2000, 2001, 0o6755)
    mydocker("cp", "c:/r", f"{tmp_path}/r")
    assert os.stat(tmp_path / "r").st_mode & 0o7777 == 0o4755


def test_a_container_with_users_of_its_own_shows_and_gets_its_own_ids(mydocker: Mydocker, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("x")
    os.chown(tmp_path / "in", 7, 8)
    (tmp_path / "in").chmod(0o4755)  # after the change of owner, which takes the bit away
    start(mydocker, busybox, "--userns", "private", script="echo f > /tmp/f; chown 5:6 /tmp/f")
    mydocker("cp", f"{tmp_path}/in", "c:/tmp/in")
    mydocker("cp", "-a", f"{tmp_path}/in", "c:/tmp/kept")
    assert mydocker("exec", "c", "stat", "-c", "%u:%g %a", "/tmp/in", "/tmp/kept").out == "0:0 755\n7:8 4755\n"
    mydocker("cp", "-a", "c:/tmp/f", f"{tmp_path}/f")
    assert (os.stat(tmp_path / "f").st_uid, os.stat(tmp_path / "f").st_gid) == (5, 6)
    mydocker("stop", "-t", "0", "c")
    mydocker("cp", "-a", f"{tmp_path}/in", "c:/tmp/later")
    mydocker("start", "c")
    assert mydocker("exec", "c", "stat", "-c", "%u:%g", "/tmp/later").out == "7:8\n"


def test_a_read_only_root_and_a_read_only_volume_are_refused_and_a_volume_in_a_read_only_root_is_not(
    mydocker: Mydocker, busybox: str, tmp_path: Path
) -> None:
    for name in ("ro", "rw"):
        (tmp_path / name).mkdir()
    (tmp_path / "in").write_text("x")
    start(mydocker, busybox, "--read-only", "-v", f"{tmp_path}/ro:/ro:ro", "-v", f"{tmp_path}/rw:/rw")
    for _ in range(2):  # running, then ended
        assert "container rootfs of c is marked read-only" in mydocker("cp", f"{tmp_path}/in", "c:/x", code=125).one_error_line()
        assert "mounted volume is marked read-only" in mydocker("cp", f"{tmp_path}/in", "c:/ro/x", code=125).one_error_line()
        mydocker("cp", f"{tmp_path}/in", "c:/rw/x")
        mydocker("stop", "-t", "0", "c")
    assert os.listdir(tmp_path / "ro") == [] and os.listdir(tmp_path / "rw") == ["x"]


def test_the_generated_files_of_etc_and_a_mount_inside_a_mount_are_seen(mydocker: Mydocker, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "f").write_text("inner")
    start(mydocker, busybox, "-v", f"{tmp_path}/outer:/v", "-v", f"{tmp_path}/inner:/v/inner", "--hostname", "hoho")
    mydocker("cp", "c:/etc/hostname", f"{tmp_path}/hostname")
    assert (tmp_path / "hostname").read_text() == "hoho\n"
    mydocker("cp", "c:/v", f"{tmp_path}/v")
    assert (tmp_path / "v" / "inner" / "f").read_text() == "inner"
    assert "busy" in mydocker("cp", f"{tmp_path}/hostname", "c:/etc/hosts", code=125).one_error_line()
    assert "hoho" in mydocker("exec", "c", "cat", "/etc/hosts").out  # and it is still mounted


def test_a_named_volume_is_copied_to_and_from_also_when_its_container_has_ended(
    mydocker: Mydocker, busybox: str, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text("x")
    start(mydocker, busybox, "-v", "data:/data", script="mkdir /data/inside; echo f > /data/inside/f")
    mydocker("run", "-d", "--network", "none", "--name", "part", "--mount", "type=volume,source=data,target=/part,volume-subpath=inside",
             busybox, *SLEEP)
    for name, path in (("c", "/data/inside"), ("part", "/part")):
        for _ in range(2):
            assert b"f\n" in mydocker("cp", f"{name}:{path}/f", "-").raw_out
            mydocker("cp", f"{tmp_path}/in", f"{name}:{path}/of-{name}")
            mydocker("stop", "-t", "0", name)
    mydocker("start", "c")
    assert mydocker("exec", "c", "ls", "/data/inside").out.split() == ["f", "of-c", "of-part"]
    mydocker("rm", "-f", "c", "part")
    mydocker("volume", "rm", "data")


def test_a_tmpfs_of_a_running_container_is_seen_and_the_kernels_file_systems_are_not(
    mydocker: Mydocker, busybox: str, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text("x")
    start(mydocker, busybox, "--tmpfs", "/fast", script="echo f > /fast/f")
    mydocker("cp", "c:/fast/f", f"{tmp_path}/f")
    mydocker("cp", f"{tmp_path}/in", "c:/fast/in")
    assert mydocker("exec", "c", "cat", "/fast/in").out == "x"
    for path in ("/proc/1/environ", "/sys/kernel", "/dev/null"):
        assert "could not find the file" in mydocker("cp", f"c:{path}", f"{tmp_path}/no", code=125).one_error_line()
    mydocker("cp", "c:/", f"{tmp_path}/all")
    assert os.listdir(tmp_path / "all" / "proc") == [] and (tmp_path / "all" / "bin" / "busybox").exists()


def test_a_volume_below_a_link_is_mounted_where_the_link_leads(mydocker: Mydocker, busybox: str, tmp_path: Path) -> None:
    """The regression that a mend of docker's brought: /var/run -> /run with something mounted below it (moby#52653)."""
    (tmp_path / "socket").write_text("words")
    image = "linked"
    mydocker("run", "--name", "maker", "--network", "none", busybox, "sh", "-c", "mkdir -p /run /var; rm -rf /var/run; ln -s /run /var/run")
    mydocker("commit", "maker", image)
    start(mydocker, image, "-v", f"{tmp_path}/socket:/var/run/some.sock")
    for _ in range(2):
        mydocker("cp", "c:/var/run/some.sock", f"{tmp_path}/out")
        assert (tmp_path / "out").read_text() == "words"
        mydocker("cp", f"{tmp_path}/out", "c:/var/run/other")
        mydocker("cp", "c:/run/other", f"{tmp_path}/other")
        mydocker("stop", "-t", "0", "c")


def test_streams_are_tars_as_docker_writes_and_takes_them(mydocker: Mydocker, busybox: str) -> None:
    start(mydocker, busybox, script="mkdir /d; echo f > /d/f; chown 3:4 /d/f; ln -s f /d/l; truncate -s 1M /d/holes")
    for path, names in (("/d", ["d", "d/f", "d/holes", "d/l"]), ("/d/.", [".", "./f", "./holes", "./l"]), ("/d/f", ["f"])):
        with tarfile.open(fileobj=io.BytesIO(mydocker("cp", f"c:{path}", "-").raw_out)) as archive:
            assert archive.getnames() == names
            assert {member.type for member in archive} <= {tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE}
    for packer in ("cat", "gzip", "zstd", "bzip2", "xz"):
        packed = subprocess.run([packer, "-c"] if packer != "cat" else ["cat"], input=tar_of(new=packer.encode()), capture_output=True, check=True)
        mydocker("cp", "-", "c:/tmp", stdin=packed.stdout)
        assert mydocker("exec", "c", "cat", "/tmp/new").out == packer
    assert mydocker("exec", "c", "stat", "-c", "%u:%g %a", "/tmp/new").out == "1234:5678 640\n"
    mydocker("cp", "-", "c:/tmp", stdin=b"")
    mydocker("cp", "-", "c:/tmp", stdin=b"no tar" * 200, code=125).one_error_line()
    mydocker("cp", "-", "c:/tmp", stdin=tar_of(cut=b"x" * 5000)[:2000], code=125).one_error_line()
    assert "cut" not in mydocker("exec", "c", "ls", "-a", "/tmp").out


def test_one_container_streams_into_another(mydocker: Mydocker, busybox: str) -> None:
    start(mydocker, busybox, script="mkdir /d; echo f > /d/f")
    mydocker("create", "--network", "none", "--name", "other", busybox, "true")
    mydocker("cp", "-", "other:/tmp", stdin=mydocker("cp", "c:/d", "-").raw_out)
    assert b"f\n" in mydocker("cp", "other:/tmp/d/f", "-").raw_out


def test_on_a_terminal_it_tells_what_was_done_in_dockers_words_unless_quiet(mydocker: Mydocker, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("x\n")
    start(mydocker, busybox)

    def on_terminal(*words: str) -> str:
        line = " ".join([*mydocker.argv, "cp", *words])
        return subprocess.run(
            ["script", "-qec", line, "/dev/null"], env=mydocker.environ(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=True).stdout.replace("\r", "")

    assert on_terminal(f"{tmp_path}/in", "c:/in").endswith("Successfully copied 2.05kB to c:/in\n")
    assert on_terminal("c:/in", f"{tmp_path}/out").endswith(f"Successfully copied 2.05kB to {tmp_path}/out\n")
    assert on_terminal("-q", "c:/in", f"{tmp_path}/out") == ""
    assert mydocker("cp", "c:/in", f"{tmp_path}/out").err == ""


@pytest.mark.parametrize(("words", "message"), [
    (("c:", "o"), "path cannot be empty"), (("/etc/passwd", "c:"), "path cannot be empty"), (("", "c:/"), "source can not be empty"),
    (("c:/etc", ""), "destination can not be empty"), (("x", "y"), "at least one container source"),
    (("c:/a", "c:/b"), "copying between containers is not supported"), (("nobody:/a", "b"), "nobody"), (("c:/etc",), "missing"),
])
def test_words_that_mean_no_copy_are_told_in_one_line(
    mydocker: Mydocker, busybox: str, words: tuple[str, ...], message: str
) -> None:
    mydocker("create", "--network", "none", "--name", "c", busybox, "true")
    assert message in mydocker("cp", *words, code=125).one_error_line()


def test_a_file_is_replaced_whole_and_who_has_it_open_keeps_the_old_one(mydocker: Mydocker, busybox: str, tmp_path: Path) -> None:
    start(mydocker, busybox, script="echo new > /f")
    (tmp_path / "out").write_text("old")
    with open(tmp_path / "out", encoding="ascii") as held:
        mydocker("cp", "c:/f", f"{tmp_path}/out")
        assert held.read() == "old"
    assert (tmp_path / "out").read_text() == "new\n"
    assert sorted(os.listdir(tmp_path)) == ["out"]


def test_nothing_is_mounted_on_the_host_and_an_ended_container_can_be_removed_at_once(
    mydocker: Mydocker, busybox: str, tmp_path: Path
) -> None:
    mydocker("run", "--network", "none", "--name", "c", busybox, "true")
    before = Path("/proc/self/mountinfo").read_text()
    mydocker("cp", "c:/etc", f"{tmp_path}/etc")
    mydocker("cp", f"{tmp_path}/etc", "c:/more")
    after = Path("/proc/self/mountinfo").read_text()
    ours = re.compile(re.escape(mydocker.root))
    assert [line for line in after.splitlines() if ours.search(line)] == [line for line in before.splitlines() if ours.search(line)]
    mydocker("rm", "c")


# --- from Python ----------------------------------------------------------------------------------------


def test_the_python_api_copies_streams_and_looks(engine: Engine, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("words")
    with engine.containers.run(busybox, ["sleep", "100000"], detach=True, network="none") as container:
        copied = container.copy_in(tmp_path / "in", "/tmp/")
        assert (copied.path, copied.entries, copied.size_bytes, copied.tar_bytes) == ("/tmp/", 1, 5, 2048)
        assert container.exec(["cat", "/tmp/in"]).stdout == b"words"
        found = container.stat("/tmp/in")
        assert (found.name, found.size_bytes, stat.S_IMODE(found.mode), found.uid, found.link_target) == ("in", 5, 0o644, 0, "")
        container.exec(["sh", "-c", "ln -s in /tmp/link; ln -s link /tmp/further"])
        assert container.stat("/tmp/further").link_target == "/tmp/in"
        with container.get_archive("/tmp/in") as archive:
            assert archive.stat.name == "in"
            data = b"".join(archive)
        assert container.put_archive("/", data).entries == 1
        assert container.exec(["cat", "/in"]).stdout == b"words"
        assert container.put_archive("/tmp", io.BytesIO(tar_of(other=b"1")), archive=False).size_bytes == 1
        assert container.exec(["stat", "-c", "%u", "/tmp/other"]).stdout == b"0\n"
        seen: list[int] = []
        assert container.copy_out("/tmp", tmp_path / "out", on_bytes=seen.append).tar_bytes == seen[-1]
        assert (tmp_path / "out" / "in").read_text() == "words"
        with pytest.raises(NotFound):
            container.stat("/nope")
        with pytest.raises(InvalidRequest):
            container.put_archive("/in", data)
        with pytest.raises(NotFound):
            container.copy_in(tmp_path / "gone", "/")
        with pytest.raises(Conflict):
            container.copy_in(tmp_path / "in", "/etc/hosts")
    with engine.containers.create(busybox, ["true"], network="none", read_only=True) as container, pytest.raises(Denied):
        container.copy_in(tmp_path / "in", "/")
