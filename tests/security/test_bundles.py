"""What a hostile root file system, or a container that shares a volume, tries while another one is made.

Each with the defence in runtime/: targets by descriptor, /proc and /sys no links, devices below a descriptor, the
terminal by its master. Canaries are on the host; races swap a directory and a link by renameat2(RENAME_EXCHANGE).
"""
from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from runtime_rig import PROGRAM, Runtime, receive_terminal

pytestmark = pytest.mark.needs("root")

_CORE_PATTERN = "/proc/sys/kernel/core_pattern"
_SWAPPER = """
import os, sys
from mydocker.linux import syscalls
directory = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
sys.stdout.write("up\\n"), sys.stdout.flush()
while True:
    syscalls.renameat2(directory, sys.argv[2], directory, "link", syscalls.RENAME_EXCHANGE)
"""


@pytest.fixture
def rootfs(runtime: Runtime) -> str:
    """The root file system of the test's bundles, to be spoiled."""
    return f"{runtime.directory}/rootfs"


@pytest.fixture
def outside(runtime: Runtime) -> Iterator[str]:
    """A directory of the host beside the root file system with a canary; it must be as it was afterwards."""
    path = f"{runtime.directory}/outside"
    os.mkdir(path)
    with open(f"{path}/canary", "w") as stream:
        stream.write("alive")
    before = os.stat(f"{path}/canary")
    yield path
    assert os.listdir(path) == ["canary"]
    after = os.stat(f"{path}/canary")
    assert (before.st_mtime_ns, before.st_mode, before.st_uid) == (after.st_mtime_ns, after.st_mode, after.st_uid)


@contextmanager
def swapping(directory: str, target: str, name: str = "x") -> Iterator[None]:
    """Exchange `name`, a directory unless it is there, and `link`, a link to `target`, as fast as possible."""
    if not os.path.exists(f"{directory}/{name}"):
        os.makedirs(f"{directory}/{name}")
    os.symlink(target, f"{directory}/link")
    with subprocess.Popen([sys.executable, "-c", _SWAPPER, directory, name], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def mounted(directory: str) -> list[str]:
    """The host's mounts below a directory of the test's; others may come and go."""
    with open("/proc/self/mountinfo") as stream:
        return [line for line in stream if directory in line]


def mounts_of(runtime: Runtime, *more: dict[str, Any], without: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    with open(f"{runtime.bundle('true')}/config.json") as stream:
        return [mount for mount in json.load(stream)["mounts"] if not mount["destination"].startswith(without or "-")] + list(more)


@pytest.mark.parametrize("name", ["proc", "sys"])
@pytest.mark.parametrize("target", ["/bad", "../outside", "/"])
def test_a_link_in_place_of_proc_or_sys_is_refused(
    runtime: Runtime, rootfs: str, outside: str, name: str, target: str
) -> None:
    """CVE-2019-19921, CVE-2023-27561, CVE-2023-28642."""
    assert outside
    if os.path.isdir(f"{rootfs}/{name}"):
        os.rmdir(f"{rootfs}/{name}")
    os.makedirs(f"{rootfs}/bad")
    os.symlink(target, f"{rootfs}/{name}")
    done = runtime("run", "--bundle", runtime.bundle("true"), "c", code=1)
    assert f"mount on /{name}: must be mounted on ordinary directory" in done.stderr
    assert os.listdir(f"{rootfs}/bad") == []


@pytest.mark.parametrize("has_tmpfs", [True, False])
def test_a_link_in_place_of_dev_makes_nothing_outside(
    runtime: Runtime, rootfs: str, outside: str, has_tmpfs: bool
) -> None:
    """CVE-2026-41579 (runc), CVE-2026-47766 (crun)."""
    subprocess.run(["rm", "-rf", f"{rootfs}/dev"], check=True)
    os.symlink("../outside", f"{rootfs}/dev")
    bundle = runtime.bundle("true", mounts=mounts_of(runtime, without=() if has_tmpfs else ("/dev",)))
    runtime("run", "--bundle", bundle, "c", code=1)
    assert os.listdir(outside) == ["canary"] and mounted(runtime.directory) == []


@pytest.mark.parametrize(("link", "target"), [("dev", "vol"), ("dev", "/vol"), ("data", "/dev"), ("nodes", "/vol")])
@pytest.mark.parametrize("has_tmpfs", [True, False])
def test_a_link_in_the_root_file_system_makes_no_device_in_a_volume(
    runtime: Runtime, rootfs: str, link: str, target: str, has_tmpfs: bool
) -> None:
    """A link has a volume mounted on /dev, or /dev be a volume: nodes, links and the terminal's file were made in the host's directory,
    and what was there under the name ptmx was removed. Defence: Rootfs.dev_fd, found before anything is mounted.
    """
    volume = f"{runtime.directory}/volume"
    os.makedirs(f"{volume}/sub")
    with open(f"{volume}/ptmx", "w") as stream:
        stream.write("of the host")
    subprocess.run(["rm", "-rf", f"{rootfs}/{link}"], check=True)
    os.makedirs(f"{rootfs}/vol", exist_ok=True)
    os.symlink(target, f"{rootfs}/{link}")
    devices = [{"path": path, "type": "c", "major": 1, "minor": 3} for path in ("/dev/new", "/dev/sub/new", "/nodes/new")]
    pts = {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]}
    where = "/data" if link == "data" else "/vol"
    mounts = mounts_of(runtime, *([] if has_tmpfs else [pts]), {"destination": where, "type": "bind", "source": volume},
                       without=() if has_tmpfs else ("/dev",))
    bundle = runtime.bundle("true", mounts=mounts, process={"terminal": True}, linux={"devices": devices})
    runtime("run", "--bundle", bundle, "c", code=None)
    assert sorted(os.listdir(volume)) == ["ptmx", "sub"] and os.listdir(f"{volume}/sub") == []
    assert open(f"{volume}/ptmx").read() == "of the host"


@pytest.mark.parametrize("destination", ["/dev", "dev", "//dev/."])
def test_nothing_is_made_in_a_directory_that_is_bound_on_dev(runtime: Runtime, destination: str) -> None:
    """However the bundle spells it: the host's /dev/ptmx would be replaced by a link."""
    volume = f"{runtime.directory}/volume"
    os.makedirs(volume)
    os.mknod(f"{volume}/null", 0o20666, os.makedev(1, 3))
    trick = {"destination": destination, "type": "bind", "source": volume, "options": ["rbind"]}
    runtime("run", "--bundle", runtime.bundle("true", mounts=mounts_of(runtime, trick, without=("/dev",))), "c")
    assert os.listdir(volume) == ["null"]


def test_a_link_in_place_of_the_null_device_masks_nothing_and_is_not_written(runtime: Runtime, rootfs: str) -> None:
    """CVE-2025-31133, with the rootfs's own /dev."""
    os.makedirs(f"{rootfs}/dev", exist_ok=True)
    os.symlink(_CORE_PATTERN, f"{rootfs}/dev/null")
    with open(_CORE_PATTERN) as stream:
        before = stream.read()
    done = runtime(
        "run", "--bundle", runtime.bundle("sh", "-c", f"echo x >{_CORE_PATTERN}", mounts=mounts_of(runtime, without=("/dev",))), "c",
        code=1)
    assert "/dev/null" in done.stderr
    with open(_CORE_PATTERN) as stream:
        assert stream.read() == before


@pytest.mark.parametrize("name", ["console", "pts/0", "pts/ptmx"])
def test_a_link_in_place_of_the_terminal_gives_ours_or_none(
    runtime: Runtime, rootfs: str, outside: str, name: str
) -> None:
    """CVE-2025-52565: what is bound on /dev/console is the slave of the very master that was opened."""
    os.makedirs(f"{rootfs}/dev/pts", exist_ok=True)
    os.symlink("/../../outside/canary", f"{rootfs}/dev/{name}")
    mounts = mounts_of(runtime, without=("/dev",))
    if name == "console":
        mounts.append({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]})
    bundle = runtime.bundle("sh", "-c", "test /dev/console -ef /dev/pts/0; sleep 100", process={"terminal": True}, mounts=mounts)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{bundle}/console")
        listener.listen()
        done = runtime("create", "--bundle", bundle, "--console-socket", f"{bundle}/console", "c", code=None)
        if done.returncode == 0:
            os.close(receive_terminal(listener))
            pid = runtime.state("c")["pid"]
            console = os.stat(f"/proc/{pid}/root/dev/console")
            assert os.major(console.st_rdev) == 136
    with open(f"{outside}/canary") as stream:
        assert stream.read() == "alive"


@pytest.mark.parametrize("destination", ["/proc", "/proc/self/attr", "/proc/sys", "/proc/1", "/x"])
def test_nothing_is_mounted_inside_of_proc(runtime: Runtime, rootfs: str, destination: str) -> None:
    """CVE-2025-52881, CVE-2019-16884: what writes to /proc later must find the kernel's files there."""
    os.symlink("/proc/sys", f"{rootfs}/x")
    trick = {"destination": destination, "type": "tmpfs", "source": "tmpfs"}
    reason = "is not of type proc" if destination == "/proc" else "is inside of /proc"
    assert reason in runtime("run", "--bundle", runtime.bundle("true", mounts=mounts_of(runtime, trick)), "c", code=1).stderr


def test_nothing_stands_in_for_proc(runtime: Runtime) -> None:
    """CVE-2019-16884: of an image's `VOLUME /proc` docker and podman make a volume in place of the procfs, which runc refuses."""
    os.makedirs(f"{runtime.directory}/volume/self/attr")
    volume = {"destination": "/proc", "type": "bind", "source": f"{runtime.directory}/volume", "options": ["rbind"]}
    mounts = mounts_of(runtime, volume, without=("/proc",))
    done = runtime("run", "--bundle", runtime.bundle("true", mounts=mounts), "c", code=1)
    assert "mount on /proc: it is not of type proc" in done.stderr


def test_parameters_are_written_whatever_the_root_file_system_calls_proc(runtime: Runtime, rootfs: str, outside: str) -> None:
    """CVE-2025-52881: linux.sysctl never goes through a path of the container's."""
    os.makedirs(f"{rootfs}/proc/sys/net/ipv4", exist_ok=True)
    os.symlink("../../../../../outside/canary", f"{rootfs}/proc/sys/net/ipv4/ip_forward")
    bundle = runtime.bundle(
        "true", mounts=mounts_of(runtime, without=("/proc",)), process={"oomScoreAdj": 3},
        linux={"sysctl": {"net.ipv4.ip_forward": "1"}, "maskedPaths": [], "readonlyPaths": []})
    runtime("run", "--bundle", bundle, "c")
    with open(f"{outside}/canary") as stream:
        assert stream.read() == "alive"


@pytest.mark.parametrize("inner", ["x/a/b/c", "x"])
@pytest.mark.parametrize("kind", ["bind", "tmpfs", "file"])
def test_a_mount_target_that_is_swapped_for_a_link_stays_inside(
    runtime: Runtime, outside: str, inner: str, kind: str
) -> None:
    """CVE-2021-30465, CVE-2024-45310: two containers share a volume, one swaps a directory while the other is made."""
    shared, source = f"{runtime.directory}/shared", f"{runtime.directory}/source"
    os.mkdir(source)
    with open(f"{source}/file", "w"):
        pass
    trick: dict[str, Any] = {"destination": f"/shared/{inner}{'/name' if kind == 'file' else ''}", "type": "tmpfs", "source": "tmpfs"}
    if kind != "tmpfs":
        trick.update(type="bind", source=f"{source}/file" if kind == "file" else source, options=["bind"])
    mounts = mounts_of(
        runtime, {"destination": "/shared", "type": "bind", "source": shared, "options": ["rbind"]}, trick)
    bundle = runtime.bundle("true", mounts=mounts)
    names = set(os.listdir("/"))
    with swapping(shared, outside):
        for number in range(25):
            runtime("run", "--bundle", bundle, f"c{number}", code=None)
    assert mounted(runtime.directory) == [] and set(os.listdir("/")) == names


@pytest.mark.time_limit(120)
def test_a_null_device_that_is_swapped_for_a_link_hides_what_is_masked_or_nothing_starts(runtime: Runtime, rootfs: str) -> None:
    """CVE-2025-31133, raced: two containers on one root file system with a /dev of its own, one swaps /dev/null."""
    os.makedirs(f"{rootfs}/dev", exist_ok=True)
    os.mknod(f"{rootfs}/dev/null", 0o20666, os.makedev(1, 3))
    with open(_CORE_PATTERN) as stream:
        before = stream.read()
    script = f"echo x >{_CORE_PATTERN}; stat -c %t:%T /proc/keys; grep -c core_pattern /proc/self/mountinfo"
    pts = {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]}
    bundle = runtime.bundle(
        "sh", "-c", script, mounts=mounts_of(runtime, pts, without=("/dev",)),
        linux={"maskedPaths": ["/proc/keys"], "readonlyPaths": ["/proc/sys"]})
    started = 0
    with swapping(f"{rootfs}/dev", _CORE_PATTERN, "null"):
        for number in range(25):
            done = runtime("run", "--bundle", bundle, f"c{number}", code=None)
            assert done.stdout in ("", "1:3\n0\n"), done
            started += bool(done.stdout)
            with open(_CORE_PATTERN) as stream:
                assert stream.read() == before
    assert started, "now and then the device was there"


@pytest.mark.time_limit(120)
def test_a_console_that_is_swapped_for_a_link_is_our_terminal_or_nothing_starts(runtime: Runtime, rootfs: str) -> None:
    """CVE-2025-52565, raced: what is mounted on /dev/console is the slave of the master that the caller gets, on no other file."""
    os.makedirs(f"{rootfs}/dev", exist_ok=True)
    with open(f"{rootfs}/dev/console", "w"):
        pass
    pts = {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]}
    bundle = runtime.bundle("sleep", "100", process={"terminal": True}, mounts=mounts_of(runtime, pts, without=("/dev",)))
    with socket.socket(socket.AF_UNIX) as listener, swapping(f"{rootfs}/dev", "/proc/sys/kernel/core_pattern", "console"):
        listener.bind(f"{bundle}/console")
        listener.listen()
        for number in range(10):
            done = runtime("create", "--bundle", bundle, "--console-socket", f"{bundle}/console", f"c{number}", code=None)
            if done.returncode:
                assert "/dev/console" in done.stderr or "mount" in done.stderr, done
                continue
            master = receive_terminal(listener)
            pid = runtime.state(f"c{number}")["pid"]
            with open(f"/proc/{pid}/mountinfo") as stream:
                terminals = [line.split()[4] for line in stream if " - devpts " in line]
            os.close(master)
            runtime("delete", "--force", f"c{number}")
            assert sorted(terminals) in (["/dev/console", "/dev/pts"], ["/dev/link", "/dev/pts"]), terminals


@pytest.mark.parametrize("target", ["/proc/self/attr", "/proc/sys/kernel", "/proc"])
def test_a_mount_target_that_is_swapped_for_a_link_into_proc_is_never_there(runtime: Runtime, target: str) -> None:
    """CVE-2025-52881: with a tmpfs over a directory of procfs, labels and parameters are written to what is in it."""
    shared = f"{runtime.directory}/shared"
    trick = {"destination": "/shared/x", "type": "tmpfs", "source": "trick"}
    mounts = mounts_of(runtime, {"destination": "/shared", "type": "bind", "source": shared, "options": ["rbind"]}, trick)
    bundle = runtime.bundle("cat", "/proc/self/mountinfo", mounts=mounts)
    with swapping(shared, target):
        for number in range(10):
            done = runtime("run", "--bundle", bundle, f"c{number}", code=None)
            places = [line.split()[4] for line in done.stdout.splitlines() if line.split()[-2:-1] == ["trick"]]
            assert all(place.startswith("/shared/") for place in places), done


@pytest.mark.parametrize("path", ["etc", "tmp", "run/lock", "mnt"])
def test_a_target_behind_links_out_of_the_root_is_made_inside(runtime: Runtime, rootfs: str, outside: str, path: str) -> None:
    """CVE-2019-18837, CVE-2024-45310: absolute and climbing links lead to the container's own root."""
    subprocess.run(["rm", "-rf", f"{rootfs}/{path}"], check=True)
    os.makedirs(os.path.dirname(f"{rootfs}/{path}"), exist_ok=True)
    os.symlink("../../../../../../.." + outside, f"{rootfs}/{path}")
    source = f"{runtime.directory}/file"
    with open(source, "w"):
        pass
    trick = {"destination": f"/{path}/new", "type": "bind", "source": source, "options": ["bind"]}
    runtime("run", "--bundle", runtime.bundle("true", mounts=mounts_of(runtime, trick)), "c", code=None)
    assert os.listdir(outside) == ["canary"]


@pytest.mark.parametrize("way", ["run", "exec"])
def test_the_hosts_null_device_keeps_its_mode_and_owner(runtime: Runtime, way: str) -> None:
    """Root inside is root of the device's inode: standard input must be a null device of the container's own."""
    before = os.stat("/dev/null")
    attack = "chmod 0 /proc/self/fd/0 /dev/stdin; chown 7 /proc/self/fd/0; true"
    if way == "run":
        runtime("run", "--bundle", runtime.bundle("sh", "-c", attack, process={"user": {"uid": 0, "gid": 0}}), "c")
    else:
        runtime("run", "-d", "--bundle", runtime.bundle("sleep", "100"), "c")
        runtime("exec", "c", "sh", "-c", attack)
    after = os.stat("/dev/null")
    assert (before.st_mode, before.st_uid, before.st_gid) == (after.st_mode, after.st_uid, after.st_gid)


def test_exec_opens_no_null_device_that_the_container_replaced(runtime: Runtime, rootfs: str, outside: str) -> None:
    """The container's /dev/null is hostile by the time of exec."""
    runtime("run", "-d", "--bundle", runtime.bundle("sh", "-c", f"rm /dev/null; ln -s {outside}/canary /dev/null; sleep 100"), "c")
    assert runtime("exec", "c", "readlink", "/proc/self/fd/0").stdout.strip().startswith("/dev/null")
    assert rootfs


def test_a_terminal_of_exec_is_of_the_containers_own_multiplexer(runtime: Runtime, rootfs: str) -> None:
    """A file bound over /dev/pts/ptmx is not the multiplexer, and is not opened."""
    caps = ["CAP_SYS_ADMIN", "CAP_CHOWN"]
    bundle = runtime.bundle(
        "sh", "-c", "touch /fake && mount -o bind /fake /dev/pts/ptmx && touch /ready; sleep 100",
        process={"capabilities": {"bounding": caps, "permitted": caps, "effective": caps}})
    runtime("run", "-d", "--bundle", bundle, "c")
    for _ in range(500):
        if os.path.exists(f"{rootfs}/ready"):
            break
        subprocess.run(["sleep", "0.01"], check=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{bundle}/console")
        listener.listen()
        done = runtime("exec", "-d", "-t", "--console-socket", f"{bundle}/console", "c", "true", code=None)
    assert done.returncode != 0 and "is not the terminal multiplexer" in done.stderr


def test_no_descriptor_of_the_callers_reaches_hooks_or_the_command(runtime: Runtime) -> None:
    """CVE-2024-21626: a directory of the host's, left open by whoever calls."""
    look = "ls -l /proc/self/fd"
    hooks = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"{look} >> {'/' if kind == 'startContainer' else runtime.directory + '/'}seen"],
                     "env": ["PATH=/bin:/usr/bin"]}] for kind in ("createRuntime", "createContainer", "startContainer")}
    bundle = runtime.bundle("sh", "-c", f"{look}; pwd", hooks=hooks)
    done = subprocess.run(
        ["sh", "-c", 'exec 9</ && exec "$@"', "sh", PROGRAM, "--root", runtime.root, "run", "--bundle", bundle, "c"],
        text=True, stdout=subprocess.PIPE, check=True)
    text = done.stdout + open(f"{runtime.directory}/seen").read() + open(f"{runtime.directory}/rootfs/seen").read()
    assert " 9 -> " not in text and "-> /\n" not in text and runtime.root not in text


@pytest.mark.parametrize("number", [*range(3, 16), 63])
def test_a_working_directory_behind_any_descriptor_is_refused(runtime: Runtime, number: int) -> None:
    """CVE-2024-21626."""
    bundle = runtime.bundle("pwd", process={"cwd": f"/proc/self/fd/{number}"})
    done = subprocess.run(
        ["sh", "-c", 'exec 9</ && exec "$@"', "sh", PROGRAM, "--root", runtime.root, "run", "--bundle", bundle, "c"],
        text=True, capture_output=True, check=False)
    assert done.returncode != 0 and done.stdout == ""


def test_the_containers_environment_reaches_no_hook(runtime: Runtime) -> None:
    """NVIDIA CVE-2025-23266: LD_PRELOAD and PYTHONPATH of an image in a program of the host's."""
    hooks = {kind: [{"path": "/usr/bin/env", "args": ["sh", "-c", f"env > {runtime.directory}/{kind}"], "env": ["PATH=/bin:/usr/bin"]}]
             for kind in ("createRuntime", "createContainer", "poststart", "poststop")}
    hooks = {kind: [{**row[0], "path": "/bin/sh"}] for kind, row in hooks.items()}
    env = ["PATH=/bin", "LD_PRELOAD=/evil.so", "PYTHONPATH=/evil", "SECRET=x"]
    runtime("run", "--bundle", runtime.bundle("true", process={"env": env}, hooks=hooks), "c")
    for kind in hooks:
        text = open(f"{runtime.directory}/{kind}").read()
        assert "evil" not in text and "SECRET" not in text


def test_what_a_tmpfs_copies_up_is_the_containers_own(runtime: Runtime, rootfs: str, outside: str) -> None:
    """tmpcopyup reads a hostile tree: links are copied as links, a FIFO is not waited for."""
    os.makedirs(f"{rootfs}/tree/sub")
    os.symlink(f"{outside}/canary", f"{rootfs}/tree/link")
    os.symlink(outside, f"{rootfs}/tree/sub/dir")
    os.mkfifo(f"{rootfs}/tree/fifo")
    mounts = mounts_of(runtime, {"destination": "/tree", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]})
    script = "readlink /tree/link; readlink /tree/sub/dir; stat -c %F /tree/fifo"
    out = runtime("run", "--bundle", runtime.bundle("sh", "-c", script, mounts=mounts), "c")
    assert out.stdout.split() == [f"{outside}/canary", outside, "fifo"]
