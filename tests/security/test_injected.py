"""What the engine and the runtime bring into a root file system, or take out of a container, against one who waits for it."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from attack_rig import load_image
from harness import PATIENCE, Mydocker, processes, until
from image_rig import symlink
from runtime_rig import PROGRAM, Runtime, runtime  # noqa: F401

pytestmark = [pytest.mark.needs("root")]


@contextmanager
def canaries(directory: str, names: tuple[str, ...]) -> Iterator[None]:
    """Files of the host's that must be as they were, and nothing beside them."""
    os.mkdir(directory)
    for name in names:
        with open(f"{directory}/{name}", "w") as stream:
            stream.write("alive")
    before = {name: os.stat(f"{directory}/{name}") for name in (".", *names)}
    yield
    assert sorted(os.listdir(directory)) == sorted(names)
    for name, was in before.items():
        now = os.stat(f"{directory}/{name}")
        assert (now.st_ino, now.st_mtime_ns, now.st_mode, now.st_uid, now.st_size) == (
            was.st_ino, was.st_mtime_ns, was.st_mode, was.st_uid, was.st_size), name


@pytest.mark.needs("overlay", "netns")
@pytest.mark.parametrize("network", ["bridge", "none", "host"])
def test_no_file_of_the_engines_is_written_through_a_link_of_the_images(
    mydocker: Mydocker, busybox_tar: str, scratch: str, network: str,
) -> None:
    """CVE-2019-18837, 2024-5154, 2024-9341: each place that something is written to or mounted on leads to the host."""
    names = ("hosts", "resolv.conf", "hostname", "mtab", "passwd", "group")
    outside = f"{scratch}/outside"
    with canaries(outside, names):
        image = load_image(
            mydocker, busybox_tar, *(symlink(f"etc/{name}", f"{outside}/{name}") for name in names),
            symlink("work", f"../../../../..{outside}"), symlink("volume", outside), symlink("dev/shm", outside), symlink("run", outside))
        os.mkdir(f"{scratch}/source")
        words = ["--network", network, "-w", "/work/dir", "-v", f"{scratch}/source:/volume/dir", "--tmpfs", "/run/tmpfs", "--shm-size", "1m"]
        mydocker("run", "-d", "--name", "c", "--hostname", "named", *words, image, "sleep", "1000")
        assert mydocker("exec", "c", "cat", "/etc/hostname").out == "named\n"
        assert mydocker("exec", "c", "pwd").out == f"{outside}/dir\n", "the link leads to a place of the container's own"
        mydocker("restart", "-t", "0", "c")
        mydocker("rm", "-f", "c")
        assert os.listdir(f"{scratch}/source") == []


def test_a_user_namespace_without_a_cgroup_namespace_writes_no_cgroup_but_its_own(runtime: Runtime) -> None:  # noqa: F811
    """CVE-2023-25809: who calls is root in a user namespace, as rootless engines are, and owns the host's cgroups by number."""
    path = runtime.bundle("sh", "-c", "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/stray-$0 2>/dev/null; done; cat /proc/1/cgroup")
    with open(f"{path}/config.json") as stream:
        spec = json.load(stream)
    name = f"mydocker-test-{os.getpid()}"
    spec["process"]["args"].append(name)
    del spec["process"]["rlimits"]
    ids = [{"containerID": 0, "hostID": 0, "size": 1}]
    spec["linux"] |= {
        "namespaces": [{"type": kind} for kind in ("pid", "mount", "user")], "uidMappings": ids, "gidMappings": ids, "resources": {}}
    del spec["linux"]["cgroupsPath"], spec["hostname"]
    cgroup = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev"]}
    host = {"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind"]}
    kept = [mount for mount in spec["mounts"] if not mount["destination"].startswith(("/sys", "/dev/"))]
    with open(f"{path}/config.json", "w") as stream:
        json.dump({**spec, "mounts": [*kept, {**host, "options": ["rbind", "rro"]}, cgroup]}, stream)
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", PROGRAM, "--root", runtime.root, "run", "--bundle", path, name],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done
    found = subprocess.run(["find", "/sys/fs/cgroup", "-name", f"stray-{name}"], capture_output=True, text=True, check=False).stdout
    assert found == "" or all(f"/mydocker-{name}/" in line for line in found.split()), found


def resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as stream:
        return int(stream.read().split()[1]) * 4096


def resident_bytes_of_monitors() -> Iterator[int]:
    for pid, argv in processes():
        if argv[0] == "mydocker-monitor":
            try:
                yield resident_bytes(pid)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended, with its session


@pytest.mark.needs("overlay")
@pytest.mark.parametrize("reader", ["stalled", "killed"])
def test_output_that_nobody_reads_fills_no_memory(mydocker: Mydocker, busybox: str, reader: str) -> None:
    """CVE-2022-31030, 2022-1708: a process that writes without end, for clients that stopped reading or are gone."""
    mydocker("run", "-d", "--name", "c", "--log-opt", "max-size=1m", busybox, "sh", "-c", "until [ -e /go ]; do sleep 0.1; done; yes")
    monitor = mydocker.monitor_of("c")
    clients = [mydocker.popen("attach", "--sig-proxy=false", "c", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(3)]
    clients += [mydocker.popen("exec", "c", "yes", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(2)]
    try:
        time.sleep(1)
        for client in clients:
            client.send_signal(signal.SIGSTOP if reader == "stalled" else signal.SIGKILL)
        mydocker("exec", "c", "touch", "/go")
        time.sleep(1)
        before, descriptors = resident_bytes(monitor), len(os.listdir(f"/proc/{monitor}/fd"))
        time.sleep(2 * PATIENCE)
        assert resident_bytes(monitor) <= before + (256 << 10)
        assert len(os.listdir(f"/proc/{monitor}/fd")) <= descriptors + 3  # a log that is being rotated has more for a moment
        assert max(resident_bytes_of_monitors(), default=0) < (16 << 20), "those of exec sessions, too"
    finally:
        for client in clients:
            client.kill()
            client.wait()
            assert client.stdout is not None
            client.stdout.close()
    until(lambda: mydocker("rm", "-f", "c", code=None).code == 0, what="the container to be removed")
