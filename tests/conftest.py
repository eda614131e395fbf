"""Capability marks for every test: `@pytest.mark.needs("root", "cgroup2")` skips, saying why, where one is missing.

A capability is probed by trying the very thing, in a forked child where it would leave traces,
never by a version number or a name.
"""
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mydocker.base.errors import Unsupported
from mydocker.linux import netlink, syscalls
from mydocker.linux.cgroup.group import can_limit_swap
from mydocker.linux.cgroup.hierarchy import hierarchy
from mydocker.linux.libseccomp import Library
from mydocker.linux.lsm import is_apparmor_enabled
from mydocker.runtime.idmap import open_mapped_userns

# What they assert is shown like what tests assert.
pytest.register_assert_rewrite(
    "attack_rig", "cgroup_rig", "fault_rig", "fixtures", "harness", "image_rig", "network_rig", "registry_rig", "runtime_rig", "seccomp_rig", "volume_rig")

#: Where tests keep state: a real file system, because overlayfs takes no upper directory on some others.
SCRATCH = os.environ.get("MYDOCKER_TEST_DIR", "/var/tmp")


def pytest_configure(config: pytest.Config) -> None:
    # A shell without job control starts what is behind an & with SIGINT ignored, nohup all with SIGHUP; commands under test would
    # inherit that, and honour it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    config.addinivalue_line("markers", "needs(*capabilities): skip where this machine lacks one of them")
    config.addinivalue_line("markers", "counts_links: the state root's files have the hard links of their layer, no other's: `image verify`, `df`")
    config.addinivalue_line("markers", "slow: takes longer than ten seconds")
    config.addinivalue_line("markers", "time_limit(seconds): how long the test may take, instead of 60 s")


@pytest.fixture(autouse=True)
def _time_limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """End a test that hangs, with the traceback of where: `@pytest.mark.time_limit(seconds)` changes the 60."""
    mark = request.node.get_closest_marker("time_limit")
    limit_s = mark.args[0] if mark else 60
    # A guest without virtualization support is several times slower.
    limit_s *= 4 if os.environ.get("MYDOCKER_TEST_GUEST") else 1

    def stop(*_: object) -> None:
        raise TimeoutError(f"the test took more than {limit_s} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(limit_s)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            reason = missing(name)
            if reason:
                pytest.skip(f"needs {name}: {reason}")


_answers: dict[str, str] = {}


def missing(name: str) -> str:
    """Return why this machine lacks a capability, "" when it has it. An unknown name is an error in the test."""
    if name not in _answers:
        probe = _PROBES.get(name)
        _answers[name] = probe() if probe else _find_program(name)
    return _answers[name]


def _probe_root() -> str:
    return "" if os.geteuid() == 0 else "this is not root"


def _probe_cgroup(kinds: tuple[str, ...]) -> Callable[[], str]:
    def probe() -> str:
        kind = hierarchy().kind
        return "" if kind in kinds else f"this machine has cgroup {kind}"
    return probe


def _probe_controller(name: str) -> Callable[[], str]:
    def probe() -> str:
        found = hierarchy()
        return "" if name in found.v1 or name in found.v2_controllers else f"no cgroup controller {name}"
    return probe


def _probe_swap_limit() -> str:
    return "" if can_limit_swap() else "the kernel keeps no account of swap"


def _probe_device_programs() -> str:
    found = hierarchy()
    if not found.v2:
        return "no cgroup v2"
    from mydocker.linux.cgroup import bpf, devices  # not for the tests that need no more than a mark

    try:
        os.close(bpf.load(bpf.build_program(devices.STANDARD)))
    except OSError as error:
        return f"bpf: {error}"
    return ""


def _probe_docker_daemon() -> str:
    if shutil.which("docker") is None:
        return "no program docker"
    return "" if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0 else "no docker daemon is running"


def _probe_host() -> str:
    return "this is the cgroup v2 guest" if os.environ.get("MYDOCKER_TEST_GUEST") else ""


def _probe_cpus() -> str:
    return "" if len(os.sched_getaffinity(0)) > 1 else "there is one cpu only"


def _probe_overlay(lower: str = "lower") -> str:
    base = tempfile.mkdtemp(prefix="mydocker-probe-", dir=SCRATCH)
    try:
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(f"{base}/{name}")

        def attempt() -> None:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE, None)
            lower_dir = os.path.join(base, lower)
            options = f"lowerdir={lower_dir},upperdir={base}/upper,workdir={base}/work"
            syscalls.mount("overlay", f"{base}/merged", "overlay", 0, options)

        return try_in_child(attempt)
    finally:
        shutil.rmtree(base)


def _probe_idmapped_layers() -> str:
    # overlayfs takes id-mapped layers since Linux 5.19; whether a file system can be mapped is its own affair.
    from mydocker.runtime.idmap import open_mapped_userns

    base = tempfile.mkdtemp(prefix="mydocker-probe-", dir=SCRATCH)
    mappings: Any = [{"containerID": 0, "hostID": 1 << 17, "size": 1 << 16}]

    def attempt() -> None:
        userns = open_mapped_userns(mappings, mappings, field="")
        clone = syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC
        mount = syscalls.open_tree(syscalls.AT_FDCWD, base, clone)
        syscalls.mount_setattr(mount, "", syscalls.AT_EMPTY_PATH, syscalls.MOUNT_ATTR_IDMAP, 0, 0, userns)

    try:
        release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
        return try_in_child(attempt) or ("" if release >= (5, 19) else "this kernel's overlayfs takes no id-mapped layers")
    finally:
        os.rmdir(base)


def _probe_idmap() -> str:
    """Try to map the ids of a bind mount of the scratch directory."""
    def attempt() -> None:
        fd = syscalls.open_tree(syscalls.AT_FDCWD, SCRATCH, syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC)
        mapping = [{"containerID": 0, "hostID": 1000, "size": 1}]
        userns = open_mapped_userns(mapping, mapping, field="")  # type: ignore[arg-type]
        syscalls.mount_setattr(fd, "", syscalls.AT_EMPTY_PATH, syscalls.MOUNT_ATTR_IDMAP, 0, 0, userns)

    return try_in_child(attempt)


def _probe_netns() -> str:
    return try_in_child(lambda: syscalls.unshare(syscalls.CLONE_NEWNET))


def _probe_link_kind(kind: str) -> Callable[[], str]:
    """A probe that makes a device of a kind in a network namespace of its own."""
    def attempt() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        with netlink.Route() as route:
            route.request(netlink.new_bridge("probe") if kind == "bridge" else netlink.new_veth("probe", master=0, peer="probe2"))
            if kind in ("macvlan", "ipvlan"):
                route.request(netlink.new_virtual("probe3", kind=kind, parent=netlink.device_index("probe")))

    return lambda: try_in_child(attempt)


def _find_program(name: str) -> str:
    if name not in _PROGRAMS:
        raise ValueError(f"needs({name!r}): no such capability")
    return "" if shutil.which(name) else f"no program {name}"


def _probe_root_is_plain() -> str:
    # The view of `/` and the container on top of it are two overlays; the kernel stacks no third.
    fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        return "the root of this machine is an overlay itself" if syscalls.fstatfs_type(fd) == 0x794C7630 else ""
    finally:
        os.close(fd)


def _probe_libseccomp() -> str:
    try:
        Library()
    except Unsupported as error:
        return error.message
    return ""


_PROBES: dict[str, Callable[[], str]] = {
    "root": _probe_root,
    "cgroup1": _probe_cgroup(("v1", "hybrid")),
    "hybrid": _probe_cgroup(("hybrid",)),
    "cgroup2": _probe_cgroup(("v2",)),
    "memory": _probe_controller("memory"),
    "pids": _probe_controller("pids"),
    "cpu": _probe_controller("cpu"),
    "cpuset": _probe_controller("cpuset"),
    "hugetlb": _probe_controller("hugetlb"),
    "systemd": lambda: "" if os.access("/lib/systemd/systemd", os.X_OK) else "no /lib/systemd/systemd",
    "blkio": lambda: _probe_controller("blkio")() and _probe_controller("io")(),
    "loop": lambda: "" if os.path.exists("/dev/loop-control") else "no loop devices",
    "fuse": lambda: "" if os.path.exists("/dev/fuse") else "no /dev/fuse",
    "bpf_devices": _probe_device_programs,
    "device_rules": lambda: "" if "devices" in hierarchy().v1 else _probe_device_programs(),
    "swap_limit": _probe_swap_limit,
    "two_cpus": _probe_cpus,
    "overlay": _probe_overlay,
    # The root file system as a lower directory: file systems can be stacked two deep only.
    "host_image": lambda: _probe_root_is_plain() or _probe_overlay("/"),
    "netns": _probe_netns,
    "bridges": lambda: _probe_link_kind("bridge")() or _probe_link_kind("veth")(),
    "macvlan": _probe_link_kind("macvlan"),
    "ipvlan": _probe_link_kind("ipvlan"),
    "timens": lambda: "" if os.path.exists("/proc/self/ns/time") else "the kernel has no time namespaces",
    "keyring": lambda: "" if os.path.exists("/proc/keys") else "the kernel has no keyrings",
    "idmap": _probe_idmap,
    "idmapped_layers": _probe_idmapped_layers,
    "host": _probe_host,
    "docker_daemon": _probe_docker_daemon,
    "apparmor": lambda: "" if is_apparmor_enabled() else "the kernel has no AppArmor",
    "no_apparmor": lambda: "the kernel has AppArmor" if is_apparmor_enabled() else "",
    "libseccomp": _probe_libseccomp,
    "x86_64": lambda: "" if os.uname().machine == "x86_64" else f"this machine is {os.uname().machine}",
}
_PROGRAMS = (
    "busybox", "nft", "ip", "docker", "dockerd", "containerd", "podman", "buildah", "crun", "runc", "skopeo", "umoci", "gcc",
    "nsenter", "iptables", "strace", "git", "mkfs.ext4", "script", "apparmor_parser", "busctl",
    "newuidmap",
)


def try_in_child(attempt: Callable[[], object]) -> str:
    """Run something in a forked child; return "" when it went well, else what it raised."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            attempt()
            code = 0
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(code)
    os.close(writer)
    with open(reader, "rb") as stream:
        text = stream.read().decode("utf-8", "replace")
    return "" if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 else text or "the child died"


@pytest.fixture
def scratch() -> Iterator[str]:
    """A fresh directory on a real file system (not tmpfs), gone afterwards."""
    path = tempfile.mkdtemp(prefix="mydocker-test-", dir=SCRATCH)
    yield path
    shutil.rmtree(path)
