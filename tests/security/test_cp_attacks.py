"""What a hostile container tries with `cp`: links exchanged in time, mount points too, libraries to be loaded, trees that write on the host.

Each canary is a directory of the host whose path the attack knows.
"""
from __future__ import annotations

import io
import os
import subprocess
import sysconfig
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Mydocker, until

from mydocker import Engine, MydockerError

pytestmark = pytest.mark.needs("root", "overlay", "gcc")

SLEEP = ("sleep", "100000")


def snapshot(directory: Path) -> list[tuple[object, ...]]:
    """Return everything below a directory and itself: names, modes, owners, contents."""
    found: list[tuple[object, ...]] = []
    for path in sorted([directory, *directory.rglob("*")]):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found.append((str(path), status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_nlink, content))
    return found


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    path = tmp_path / "canary"
    (path / "vol").mkdir(parents=True)
    (path / "secret").write_text("the host's secret")
    (path / "vol" / "inside").write_text("the host's too")
    return path


# --- links and mount points exchanged in time: CVE-2018-15664, CVE-2019-10152, CVE-2026-42306 (GHSA-vp62-88p7-qqf5, GHSA-rg2x-37c3-w2rh)


@pytest.mark.slow
@pytest.mark.time_limit(400)
@pytest.mark.parametrize("has_volume", [False, True], ids=["rootfs", "bind-mount-target"])
@pytest.mark.parametrize("climbs", [False, True], ids=["absolute", "dots"])
def test_a_link_swapped_in_a_thousand_copies_leads_nowhere_but_inside(
    engine: Engine, busybox: str, tmp_path: Path, canary: Path, attack_directory: str, has_volume: bool, climbs: bool
) -> None:
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "inside").write_text("of the volume")
    (tmp_path / "planted").write_text("planted")
    out = tmp_path / "out"
    out.mkdir()
    volumes = {attack_directory: "/attack:ro", **({str(tmp_path / "shown"): "/w/x/vol"} if has_volume else {})}
    target = "../" * 30 + str(canary).lstrip("/") if climbs else str(canary)
    before, mounts = snapshot(canary), Path("/proc/self/mountinfo").read_bytes().count(os.fsencode(tmp_path))
    with engine.containers.run(busybox, list(SLEEP), detach=True, network="none", volume=volumes) as container:
        container.exec(["sh", "-c", f"mkdir -p /w/x/vol; echo inside > /w/x/secret; echo inside > /w/x/vol/inside; ln -s {target} /w/y"])
        container.exec(["/attack/attack", "swap", "/w/x", "/w/y"], detach=True)
        copies: list[Callable[[int], object]] = [
            lambda n: container.copy_out("/w/x/secret", out / f"s{n}"),
            lambda n: container.copy_in(tmp_path / "planted", "/w/x/planted"),
            lambda n: container.copy_out("/w/x/vol/inside", out / f"v{n}"),
            lambda n: container.copy_in(tmp_path / "planted", "/w/x/vol/secret"),
            lambda n: container.copy_out("/w/x", out / f"t{n}", follow=True),
            lambda n: container.copy_in(tmp_path / "shown", "/w/x/"),
        ]
        worked = 0
        for number in range(1000):
            try:
                copies[number % len(copies)](number)
                worked += 1
            except MydockerError:
                pass  # exchanged at this moment: an error is right, too
    assert worked > 100
    assert snapshot(canary) == before
    assert Path("/proc/self/mountinfo").read_bytes().count(os.fsencode(tmp_path)) == mounts
    texts = {path.read_text() for path in out.rglob("*") if path.is_file() and not path.is_symlink()}
    assert texts <= {"inside\n", "of the volume", "planted"} and texts


@pytest.mark.parametrize("state", ["running", "exited"])
def test_links_that_stand_still_lead_nowhere_but_inside(
    mydocker: Mydocker, busybox: str, tmp_path: Path, canary: Path, state: str
) -> None:
    (tmp_path / "in").write_text("planted")
    mydocker("run", "-d", "--network", "none", "--name", "c", busybox, *SLEEP)
    dots = "../" * 30
    mydocker("exec", "c", "sh", "-c", f"""
        mkdir -p {canary}; echo inside > {canary}/secret; ln -s {canary} /absolute; ln -s {dots}{canary} /dots; ln -s /proc/1/root /magic
        ln -s {canary}/new /dangling; mkdir /d; ln -s {canary}/secret /d/link""")
    if state == "exited":
        mydocker("stop", "-t", "0", "c")
    before = snapshot(canary)
    for path in ("/absolute/secret", "/dots/secret"):
        mydocker("cp", f"c:{path}", f"{tmp_path}/out")
        assert (tmp_path / "out").read_text() == "inside\n"
    mydocker("cp", "-L", "c:/d/link", f"{tmp_path}/out")
    assert (tmp_path / "out").read_text() == "inside\n"
    mydocker("cp", f"c:/magic{canary}/secret", f"{tmp_path}/none", code=125)
    for path in ("/absolute/planted", "/dots/", "/dangling", "/absolute/secret", "/d/link"):
        mydocker("cp", f"{tmp_path}/in", f"c:{path}")
    assert snapshot(canary) == before
    assert mydocker("cp", f"c:{canary}/new", "-").raw_out[512:519] == b"planted"


def test_what_is_bound_below_a_link_is_mounted_inside_for_an_ended_container_too(
    mydocker: Mydocker, busybox: str, tmp_path: Path, canary: Path
) -> None:
    (tmp_path / "shown").mkdir()
    mydocker("run", "-d", "--network", "none", "--name", "c", "-v", f"{tmp_path}/shown:/w/vol", busybox, *SLEEP)
    mydocker("exec", "c", "sh", "-c", f"mv /w /v; ln -s {canary} /w")
    before, mounts = snapshot(canary), Path("/proc/self/mountinfo").read_text()
    (tmp_path / "in").write_text("x")
    for _ in range(2):
        mydocker("cp", f"{tmp_path}/in", "c:/w/vol/x")
        mydocker("cp", "c:/w/vol/x", f"{tmp_path}/out")
        mydocker("stop", "-t", "0", "c")
    assert snapshot(canary) == before
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text().replace(mounts, "")


def test_a_container_that_moves_its_mount_points_away_can_still_be_copied_from(mydocker: Mydocker, busybox: str, tmp_path: Path) -> None:
    mydocker("run", "-d", "--network", "none", "--name", "c", "-v", f"{tmp_path}:/data/vol", busybox, *SLEEP)
    mydocker("exec", "c", "sh", "-c", "mv /etc /etc2; mkdir -p /etc/hosts; ln -s hostname /etc/hostname; mv /data /data2; echo x > /data; echo y > /y")
    for _ in range(2):  # running, then ended
        assert b"y\n" in mydocker("cp", "c:/y", "-").raw_out
        assert mydocker("cp", "c:/etc", "-").code == 0
        mydocker("stop", "-t", "0", "c")


# --- modes of the host's directories: CVE-2021-41089 ------------------------------------------------------


def test_parents_and_the_destination_keep_mode_owner_and_what_else_is_in_them(mydocker: Mydocker, busybox: str, tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    existing = parent / "existing"
    existing.mkdir(parents=True)
    os.chmod(parent, 0o711)
    os.chmod(existing, 0o750)
    os.chown(existing, 12, 34)
    (existing / "other").write_text("other")
    mydocker("run", "-d", "--network", "none", "--name", "c", busybox, *SLEEP)
    mydocker("exec", "c", "sh", "-c", "mkdir -p /d/sub; chmod 1777 /d /; chown 99:99 /d; echo f > /d/f")

    def facts() -> list[tuple[int, int, int]]:
        return [(status.st_mode, status.st_uid, status.st_gid) for status in map(
            os.stat, (*reversed(tmp_path.parents), tmp_path, parent, existing, existing / "other"))]

    before = facts()
    for source in ("/d", "/d/.", "/d/f", "/"):
        for options in ((), ("-a",)):
            mydocker("cp", *options, f"c:{source}", str(existing))
            assert facts() == before, source


# --- nothing of the container's is loaded or run: CVE-2019-14271, CVE-2026-41567 --------------------------

_TROJAN = """
#include <fcntl.h>
#include <unistd.h>
__attribute__((constructor)) static void loaded(void) { close(open(CANARY, O_CREAT | O_WRONLY, 0600)); }
int main(void) { return 0; }
"""


def test_no_library_no_module_and_no_program_of_the_containers_is_loaded(mydocker: Mydocker, busybox: str, tmp_path: Path) -> None:
    canary = tmp_path / "loaded"
    trojans = tmp_path / "trojans"
    library, program = tmp_path / "trojan.so", tmp_path / "trojan"
    for path, flags in ((library, ["-shared", "-fPIC"]), (program, ["-static"])):
        subprocess.run(["gcc", "-x", "c", *flags, f"-DCANARY=\"{canary}\"", "-o", str(path), "-"], input=_TROJAN.encode(), check=True)
    for directory in ("lib", "usr/lib", "lib64", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"):
        (trojans / directory).mkdir(parents=True, exist_ok=True)
        for name in ("libnss_files.so.2", "libnss_dns.so.2", "libnss_compat.so.2", "libc.so.6", "libz.so.1", "libcrypto.so.3"):
            (trojans / directory / name).write_bytes(library.read_bytes())
    for name in ("tar", "gzip", "unpigz", "xz", "zstd", "nsenter", "cp", "python3"):
        for directory in ("usr/bin", "usr/local/bin", "usr/sbin"):
            (trojans / directory).mkdir(parents=True, exist_ok=True)
            (trojans / directory / name).write_bytes(program.read_bytes())
            (trojans / directory / name).chmod(0o755)
    modules = trojans / sysconfig.get_path("stdlib").lstrip("/")
    (modules / "encodings").mkdir(parents=True)
    for name in ("traceback", "bz2", "lzma", "zlib", "threading", "encodings/__init__", "encodings/idna", "linecache"):
        (modules / f"{name}.py").write_text(f"open({str(canary)!r}, 'w')")
    mydocker("run", "-d", "--network", "none", "--name", "c", busybox, *SLEEP)
    for _ in range(2):  # running, then ended
        mydocker("cp", f"{trojans}/.", "c:/")
        mydocker("cp", "c:/usr", f"{tmp_path}/out")
        mydocker("cp", "c:/usr", "-")
        mydocker("cp", "c:/nope", f"{tmp_path}/none", code=125)
        mydocker("cp", f"{tmp_path}/out", "c:/etc/hosts", code=125)
        for packer in ("gzip", "xz", "zstd", "bzip2"):
            packed = subprocess.run([packer, "-c"], input=_tar(("f", b"x")), capture_output=True, check=True).stdout
            mydocker("cp", "-", "c:/tmp", stdin=packed)
        mydocker("stop", "-t", "0", "c")
    assert not canary.exists()


# --- hostile trees and tars -------------------------------------------------------------------------------


def _tar(*files: tuple[str, bytes | tuple[bytes, str]]) -> bytes:
    """Return a tar of (name, content), or (name, (kind, link name)) for links and devices."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                info.type, info.linkname = content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def test_a_hostile_tar_on_standard_input_writes_nowhere_but_below_the_directory_it_is_put_into(
    mydocker: Mydocker, busybox: str, canary: Path
) -> None:
    mydocker("run", "-d", "--network", "none", "--name", "c", busybox, *SLEEP)
    mydocker("exec", "c", "sh", "-c", "mkdir -p /w/dest; cp /etc/passwd /w/passwd")
    before = snapshot(canary)
    listed = mydocker("exec", "c", "sh", "-c", "find / -xdev -path /w/dest -prune -o -type f -exec md5sum {} +").out
    tars = {
        "dots": [("../escaped", b"x")], "more dots": [("a/../../escaped", b"x")], "absolute": [("/etc/passwd", b"x")],
        "through a link": [("l", (tarfile.SYMTYPE, str(canary))), ("l/planted", b"x")],
        "through dots": [("m", (tarfile.SYMTYPE, "../../../../../.." + str(canary))), ("m/planted", b"x")],
        "over a link": [("n", (tarfile.SYMTYPE, "/w/passwd")), ("n", b"x")],
        "hard link out": [("h", (tarfile.LNKTYPE, "../passwd"))], "absolute hard link": [("i", (tarfile.LNKTYPE, "/w/passwd"))],
        "hard link behind a link": [("j", (tarfile.SYMTYPE, "/w")), ("k", (tarfile.LNKTYPE, "j/passwd")), ("k", b"x")],
        "the root": [(".", b"x")], "a device": [("dev", (tarfile.BLKTYPE, ""))],
    }
    for name, files in tars.items():
        done = mydocker("cp", "-", "c:/w/dest", stdin=_tar(*files), code=None)
        assert done.code in (0, 125) and "internal" not in done.err, (name, done)
    assert snapshot(canary) == before
    assert mydocker("exec", "c", "sh", "-c", "find / -xdev -path /w/dest -prune -o -type f -exec md5sum {} +").out == listed


def test_a_tree_copied_out_twice_does_not_write_through_the_links_of_the_first_time(
    mydocker: Mydocker, busybox: str, tmp_path: Path, canary: Path
) -> None:
    mydocker("run", "-d", "--network", "none", "--name", "c", busybox, *SLEEP)
    mydocker("exec", "c", "sh", "-c", f"mkdir /d; ln -s {canary} /d/dir; ln -s {canary}/secret /d/file; ln -s {canary}/new /d/dangling")
    before = snapshot(canary)
    mydocker("cp", "c:/d", f"{tmp_path}/out")
    mydocker("exec", "c", "sh", "-c", "cd /d; rm *; mkdir dir; for f in dir/secret file dangling; do echo planted > $f; done")
    assert "cannot overwrite non-directory" in mydocker("cp", "c:/d/.", f"{tmp_path}/out", code=125).one_error_line()
    mydocker("exec", "c", "rm", "-r", "/d/dir")
    mydocker("cp", "c:/d/.", f"{tmp_path}/out")
    assert (tmp_path / "out" / "file").read_text() == "planted\n"
    assert snapshot(canary) == before


def test_a_pipe_or_a_device_in_a_files_place_is_neither_waited_for_nor_opened(mydocker: Mydocker, busybox: str, tmp_path: Path) -> None:
    mydocker("run", "-d", "--network", "none", "--name", "c", busybox, *SLEEP)
    mydocker("exec", "c", "sh", "-c", "mkdir /d; mkfifo /d/pipe; mknod /d/tty c 5 0")
    mydocker("cp", "c:/d", f"{tmp_path}/d")
    mydocker("cp", "c:/d/pipe", f"{tmp_path}/pipe")
    assert (tmp_path / "d" / "tty").is_char_device() and (tmp_path / "pipe").is_fifo()
    (tmp_path / "in").write_text("x")
    mydocker("cp", f"{tmp_path}/in", "c:/d/pipe")
    assert mydocker("exec", "c", "cat", "/d/pipe").out == "x"


def test_a_tree_that_grows_and_shrinks_is_copied_without_an_error_of_the_engines(
    mydocker: Mydocker, busybox: str, tmp_path: Path
) -> None:
    mydocker("run", "-d", "--network", "none", "--name", "c", busybox, "sh", "-c", """
        mkdir /d; while true; do mkdir -p /d/a/b; echo x > /d/a/b/f; ln -s / /d/a/l; head -c 99999 /dev/zero > /d/big; echo > /d/big; rm -r /d/a
        done""")
    until(lambda: mydocker("exec", "c", "test", "-e", "/d/big", code=None).code == 0)
    for number in range(20):
        done = mydocker("cp", "c:/d", f"{tmp_path}/out{number}", code=None)
        assert done.code == 0 or "meanwhile" in done.err, done
