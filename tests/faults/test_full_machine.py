"""A machine without room: no space on the disk, no more processes, no memory. Errors are clear, and nothing is lost."""
from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator

import pytest
from fault_rig import SLEEP, check_ps, remove_all, settle
from harness import IMAGES, Mydocker, until

from mydocker.linux.cgroup.hierarchy import hierarchy

pytestmark = [pytest.mark.needs("root", "overlay"), pytest.mark.counts_links]

MIB = 1 << 20


@pytest.fixture
def small_disk(scratch: str, busybox_tar: str) -> Iterator[Mydocker]:
    """The command with a state root on a file system of its own of 64 MB, with the image `busybox`."""
    image, mount_point = f"{scratch}/disk", f"{scratch}/mounted"
    with open(image, "wb") as stream:
        stream.truncate(64 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", image], check=True)
    os.mkdir(mount_point)
    subprocess.run(["mount", "-o", "loop", image, mount_point], check=True)
    try:
        command = Mydocker(f"{mount_point}/root")
        command("import", busybox_tar, "busybox")
        yield command
        remove_all(command)
    finally:
        # Whatever still uses it: a failed test must not keep a loop device.
        if subprocess.run(["umount", mount_point], check=False).returncode:
            subprocess.run(["umount", "-l", mount_point], check=True)


@contextlib.contextmanager
def full(mydocker: Mydocker) -> Iterator[None]:
    """Leave no block and no inode's worth of space on the state root's file system."""
    path = f"{mydocker.root}/filler"
    with open(path, "wb", buffering=0) as stream:
        for size in (MIB, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    stream.write(b"x" * size)
        os.fsync(stream.fileno())
        yield
    os.unlink(path)


def no_space(done: object) -> None:
    """Check that a command said in one line that the disk is full."""
    line = done.one_error_line().lower()  # type: ignore[attr-defined]
    assert "no space left" in line or "enospc" in line, line


@pytest.mark.needs("mkfs.ext4", "loop")
def test_full_disk_is_said_and_costs_nothing_that_was_there(small_disk: Mydocker, busybox_tar: str) -> None:
    mydocker = small_disk
    mydocker("run", "-name", "ended", "busybox", "sh", "-c", "echo kept >/kept; echo said")
    mydocker("run", "-d", "-name", "c", "busybox", *SLEEP)
    mydocker("run", "-d", "-name", "other", "busybox", *SLEEP)
    images = mydocker("images", "--format", IMAGES).out
    with full(mydocker):
        for words in (["run", "-d", "-name", "new", "busybox", *SLEEP], ["run", "--rm", "busybox", "true"], ["create", "busybox", "true"]):
            no_space(mydocker(*words, code=125))
        no_space(mydocker("import", busybox_tar, "another", code=125))
        no_space(mydocker("commit", "ended", "another", code=125))
        no_space(mydocker("commit", "c", "another", code=125))
        started = mydocker("start", "ended", code=None)  # what its last end left may be room enough
        if started.code:
            no_space(started)
        until(lambda: check_ps(mydocker).get("ended") == "exited")
        no_space(mydocker("exec", "c", "true", code=125))
        assert check_ps(mydocker) == {"ended": "exited", "c": "running", "other": "running"}
        assert mydocker("images", "--format", IMAGES).out == images
        assert mydocker("logs", "ended").out.startswith("said\n")
        # What makes room works.
        mydocker("stop", "-t", "0", "c")
        assert check_ps(mydocker)["c"] in ("stopped", "exited")
        mydocker("rm", "-f", "other")
        assert "other" not in check_ps(mydocker)
    assert check_ps(mydocker)["c"] in ("stopped", "exited")
    assert [name for name in os.listdir(f"{mydocker.root}/layer") if name.startswith(".")] == []
    mydocker("commit", "ended", "another")
    assert mydocker("run", "--rm", "another", "cat", "/kept").out == "kept\n"
    mydocker("start", "c")
    assert mydocker("exec", "c", "echo", "works").out == "works\n"


@pytest.mark.needs("mkfs.ext4", "loop")
def test_full_disk_stops_images_with_a_clear_error_and_costs_none(small_disk: Mydocker, busybox_tar: str, scratch: str) -> None:
    mydocker = small_disk
    place = os.path.dirname(mydocker.root)
    with open(f"{scratch}/big", "wb") as stream:
        stream.write(os.urandom(40 * MIB))
    subprocess.run(["tar", "cf", f"{scratch}/big.tar", "-C", scratch, "big"], check=True)
    mydocker("save", "-o", f"{scratch}/saved.tar", "busybox")
    mydocker("run", "-name", "c", "busybox", "sh", "-c", "echo kept >/kept")
    images = mydocker("images", "--format", IMAGES).out
    # It fits neither as a blob beside its layer (import), nor does anything when the disk is full (load, save, tag of a copy).
    no_space(mydocker("import", f"{scratch}/big.tar", "big", code=125))
    with full(mydocker):
        mydocker("rmi", "-f", "busybox")
        assert mydocker("images", "-q").out == ""
    with full(mydocker):
        no_space(mydocker("load", "-i", f"{scratch}/saved.tar", code=125))
        assert mydocker("images", "-q").out == ""
    mydocker("load", "-i", f"{scratch}/saved.tar")
    assert mydocker("images", "--format", IMAGES).out == images
    with open(f"{place}/precious", "w", encoding="ascii") as stream:
        stream.write("old")
    with full(mydocker):
        no_space(mydocker("save", "-o", f"{place}/precious", "busybox", code=125))
        no_space(mydocker("export", "-o", f"{place}/precious", "c", code=125))
        assert mydocker("image", "verify", code=None).code in (0, 1, 125)
        # What makes room works.
        mydocker("gc")
        mydocker("system", "df")
    with open(f"{place}/precious", encoding="ascii") as stream:
        assert stream.read() == "old"
    assert sorted(os.listdir(place)) == ["lost+found", "precious", "root"]
    assert mydocker("image", "verify").out == "busybox:latest: ok\n"
    assert [name for name in os.listdir(f"{mydocker.root}/layer") if name.startswith(".")] == []
    assert mydocker("run", "--rm", "busybox", "echo", "works").out == "works\n"


@pytest.mark.needs("mkfs.ext4", "loop")
def test_foreground_run_tells_its_exit_code_though_the_disk_is_full(small_disk: Mydocker) -> None:
    mydocker = small_disk
    mydocker("run", "-name", "c", "busybox", "sh", "-c", "cat /dev/zero >/big 2>/dev/null; echo out; exit 3", code=3)
    assert check_ps(mydocker) == {"c": "exited"}
    mydocker("rm", "c")


@pytest.mark.needs("mkfs.ext4", "loop")
def test_exit_code_is_kept_though_the_disk_is_full_and_nobody_listens(small_disk: Mydocker, scratch: str) -> None:
    mydocker = small_disk
    mydocker(
        "run", "-d", "-name", "c", "-v", f"{scratch}:/s", "busybox", "sh", "-c", "while ! [ -e /s/go ]; do sleep 0.05; done; exit 3")
    with full(mydocker):
        os.close(os.open(f"{scratch}/go", os.O_CREAT | os.O_WRONLY))
        until(lambda: check_ps(mydocker).get("c") == "exited")
    assert mydocker.inspect("c")["state"]["exitCode"] == 3


@contextlib.contextmanager
def cgroup(controller: str, file: tuple[str, str], value: str) -> Iterator[Callable[[], None]]:
    """A cgroup of the test's own with one limit; gives what a child calls to enter it."""
    found = hierarchy()
    is_v1 = controller in found.v1
    path = f"{found.v1[controller] if is_v1 else found.v2}/mydocker-test-{os.getpid()}"
    os.mkdir(path)
    try:
        with open(f"{path}/{file[0] if is_v1 else file[1]}", "w", encoding="ascii") as stream:
            stream.write(value)

        def enter() -> None:
            with open(f"{path}/cgroup.procs", "w", encoding="ascii") as stream:
                stream.write("0")
        yield enter
    finally:
        def is_removed() -> bool:
            with contextlib.suppress(OSError):
                os.rmdir(path)
            return not os.path.exists(path)
        until(is_removed)


@pytest.mark.needs("pids")
@pytest.mark.parametrize("verb", ["run -d", "run --rm", "create"])
@pytest.mark.parametrize("limit", [1, 2])
def test_no_more_processes_is_said_and_leaves_nothing(mydocker: Mydocker, busybox: str, verb: str, limit: int) -> None:
    # One: the stage cannot be forked. Two: the container's init cannot.
    with cgroup("pids", ("pids.max", "pids.max"), str(limit)) as enter:
        done = mydocker(*verb.split(), "-name", "c", busybox, *SLEEP, code=125, preexec_fn=enter)
        assert "processes" in done.one_error_line()
    assert mydocker.leftovers() == []
    settle(mydocker, "")


@pytest.mark.needs("pids")
@pytest.mark.parametrize("limit", [1, 2])
def test_no_more_processes_for_exec_is_said(mydocker: Mydocker, busybox: str, limit: int) -> None:
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    with cgroup("pids", ("pids.max", "pids.max"), str(limit)) as enter:
        done = mydocker("exec", "c", "true", code=125, preexec_fn=enter)
        assert "processes" in done.one_error_line()
    mydocker("exec", "c", "true")
    settle(mydocker, "running")


@pytest.mark.needs("memory")
@pytest.mark.parametrize("limit_mib", [2, 4, 6, 8, 12])
def test_commands_that_the_kernel_kills_for_memory_leave_what_ps_says(mydocker: Mydocker, busybox: str, limit_mib: int) -> None:
    with cgroup("memory", ("memory.limit_in_bytes", "memory.max"), str(limit_mib * MIB)) as enter:
        mydocker("run", "-d", "-name", "c", busybox, *SLEEP, code=None, preexec_fn=enter)
        # Whom the kernel kills holds its locks until its memory is given back: a command before that sees it alive.
        until(lambda: check_ps(mydocker) or not mydocker.leftovers(0), what="for a container, or nothing of one")
        remove_all(mydocker)
