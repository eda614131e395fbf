"""`linux.netDevices` of runtime-spec 1.3: devices of the machine's that a bundle wants, with what was set on them."""
from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from runtime_rig import Runtime, reap, runtime  # noqa: F401

pytestmark = [pytest.mark.needs("root", "netns", "ip")]
NAMESPACES = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "cgroup")]


def ip(*words: str) -> Any:
    done = subprocess.run(["ip", "-j", *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout or "[]")


@pytest.fixture
def device() -> Iterator[str]:
    """A device of the machine's, up, with addresses for good; its other end keeps it alive nowhere else."""
    name = f"nd{os.getpid()}"[:12]
    ip("link", "add", name, "type", "veth", "peer", "name", f"{name}p")
    try:
        ip("link", "set", name, "mtu", "1420", "address", "02:00:00:00:00:09")
        ip("addr", "add", "198.51.100.7/24", "dev", name)
        ip("addr", "add", "198.51.100.9/32", "dev", name, "scope", "link")
        ip("addr", "add", "2001:db8::7/64", "dev", name, "nodad")
        ip("link", "set", name, "up")
        yield name
    finally:
        subprocess.run(["ip", "link", "del", f"{name}p"], check=False, capture_output=True)


@pytest.fixture
def space() -> Iterator[str]:
    """A named network namespace."""
    name = f"nd-{os.getpid()}"
    ip("netns", "add", name)
    yield name
    ip("netns", "del", name)


def bundle(runtime: Runtime, script: str, devices: dict[str, Any], path: str = "", **linux: Any) -> str:  # noqa: F811
    network = {"type": "network", "path": path} if path else {"type": "network"}
    return runtime.bundle(
        "sh", "-c", script, linux={"namespaces": [*NAMESPACES, network], "netDevices": devices, **linux})


def kept(link: dict[str, Any]) -> set[str]:
    return {f"{entry['local']}/{entry['prefixlen']}" for entry in link["addr_info"] if entry["scope"] == "global"}


def test_a_device_is_inside_as_it_was_under_another_name_and_up(runtime: Runtime, device: str) -> None:  # noqa: F811
    path = bundle(runtime, "ip addr show dev eth7", {device: {"name": "eth7"}}, sysctl={"net.ipv4.conf.eth7.log_martians": "1"})
    out = runtime("run", "--bundle", path, "c").stdout
    assert "02:00:00:00:00:09" in out and "mtu 1420" in out and ",UP" in out
    assert "198.51.100.7/24" in out and "2001:db8::7/64" in out and "198.51.100.9" not in out
    assert device not in {link["ifname"] for link in ip("link")}, "the veth ended with the namespace"


def test_a_device_stays_in_a_namespace_that_others_own(runtime: Runtime, device: str, space: str) -> None:  # noqa: F811
    runtime("run", "--bundle", bundle(runtime, "true", {device: {}}, f"/run/netns/{space}"), "c")
    (link,) = ip("-n", space, "addr", "show", "dev", device)
    assert kept(link) == {"198.51.100.7/24", "2001:db8::7/64"} and "UP" in link["flags"]


def test_a_pattern_is_a_name_that_the_kernel_makes(runtime: Runtime, device: str) -> None:  # noqa: F811
    assert "nd0" in runtime("run", "--bundle", bundle(runtime, "ls /sys/class/net", {device: {"name": "nd%d"}}), "c").stdout


def test_devices_are_back_as_they_were_when_one_of_them_cannot_be_had(
    runtime: Runtime, device: str, space: str,  # noqa: F811
) -> None:
    path = bundle(runtime, "true", {device: {"name": "first"}, "nosuch0": {}}, f"/run/netns/{space}")
    assert "linux.netDevices.nosuch0: find network device nosuch0: no such device" in runtime(
        "run", "--bundle", path, "c", code=1).stderr
    (link,) = ip("addr", "show", "dev", device)
    assert kept(link) == {"198.51.100.7/24", "2001:db8::7/64"} and "UP" in link["flags"] and link["mtu"] == 1420
    assert runtime.ids() == []


def test_a_hook_that_fails_gives_them_back_too(runtime: Runtime, device: str) -> None:  # noqa: F811
    path = bundle(runtime, "true", {device: {"name": "first"}})
    with open(f"{path}/config.json") as stream:
        spec = json.load(stream)
    with open(f"{path}/config.json", "w") as stream:
        json.dump({**spec, "hooks": {"createRuntime": [{"path": "/bin/false"}]}}, stream)
    runtime("run", "--bundle", path, "c", code=1)
    assert kept(ip("addr", "show", "dev", device)[0]) == {"198.51.100.7/24", "2001:db8::7/64"}


def test_a_name_that_is_taken_is_refused_before_anything_is_moved(runtime: Runtime, device: str, space: str) -> None:  # noqa: F811
    ip("-n", space, "link", "add", "taken", "type", "veth", "peer", "name", "other")
    path = bundle(runtime, "true", {device: {"name": "taken"}}, f"/run/netns/{space}")
    assert f"linux.netDevices.{device}: the container's network namespace has a device taken already" in runtime(
        "run", "--bundle", path, "c", code=1).stderr
    assert device in {link["ifname"] for link in ip("link")}


def test_a_user_namespace_gets_its_device(runtime: Runtime, device: str) -> None:  # noqa: F811
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    path = runtime.bundle(
        "sh", "-c", "ip addr show dev u0 && ip link set u0 down", process={"capabilities": {
            kind: ["CAP_NET_ADMIN"] for kind in ("bounding", "effective", "permitted")}},
        linux={"namespaces": [*NAMESPACES, {"type": "network"}, {"type": "user"}], "uidMappings": ids, "gidMappings": ids,
               "netDevices": {device: {"name": "u0"}}})
    os.chmod(os.path.dirname(path), 0o755)
    assert "198.51.100.7/24" in runtime("run", "--bundle", path, "c").stdout
