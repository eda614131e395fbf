"""What options come to in the runtime spec. Pure, but for the device files that are looked at."""
from __future__ import annotations

import os
from typing import Any

import pytest

from mydocker.base.errors import InvalidRequest
from mydocker.engine.request import judge
from mydocker.engine.spec import MASKED_PATHS, NETWORK_SYSCTLS, READONLY_PATHS, build_spec
from mydocker.linux import caps


def spec(**options: Any) -> Any:
    return build_spec(judge("image", ["true"], options), {}, container_id="1234567890", directory="/state/c")


def mount(document: Any, where: str) -> Any:
    (found,) = [item for item in document["mounts"] if item["destination"] == where]
    return found


def capabilities(**options: Any) -> set[str]:
    sets = spec(**options)["process"]["capabilities"]
    assert sets["bounding"] == sets["effective"] == sets["permitted"]
    assert not sets.get("inheritable") and not sets.get("ambient")
    return set(sets["bounding"])


def test_the_default_spec_is_dockers() -> None:
    document = spec()
    assert capabilities() == set(caps.DEFAULT)
    assert len(caps.DEFAULT) == 14
    # moby: daemon/pkg/oci/defaults.go
    assert set(document["linux"]["maskedPaths"]) >= {
        "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
        "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"}
    assert set(document["linux"]["readonlyPaths"]) >= {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
    assert {item["type"] for item in document["linux"]["namespaces"]} == {"pid", "mount", "ipc", "uts", "cgroup", "network"}
    assert {"ro", "nosuid", "noexec", "nodev"} <= set(mount(document, "/sys/fs/cgroup")["options"])
    assert "size=65536k" in mount(document, "/dev/shm")["options"]


def test_capabilities_follow_dockers_rules() -> None:
    default = set(caps.DEFAULT)
    assert capabilities(cap_add=["NET_ADMIN"], cap_drop=["CHOWN"]) == default - {"CAP_CHOWN"} | {"CAP_NET_ADMIN"}
    assert capabilities(cap_drop=["ALL"]) == set()
    assert capabilities(cap_drop=["ALL"], cap_add=["CHOWN"]) == {"CAP_CHOWN"}
    bounding = caps.read_bounding()
    every = {name for name, number in caps.NUMBERS.items() if bounding >> number & 1}
    assert capabilities(cap_add=["ALL"]) == every
    assert capabilities(cap_add=["ALL"], cap_drop=["SYS_ADMIN"]) == every - {"CAP_SYS_ADMIN"}
    assert capabilities(privileged=True, cap_drop=["ALL"]) == every


def test_privileged_takes_the_fences_down() -> None:
    linux = spec(privileged=True)["linux"]
    assert linux["maskedPaths"] == linux["readonlyPaths"] == []
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert "/dev/null" in {device["path"] for device in linux["devices"]}
    assert not any(device["path"].startswith(("/dev/pts/", "/dev/shm/")) for device in linux["devices"])
    assert "ro" not in mount(spec(privileged=True), "/sys")["options"]
    assert "ro" not in mount(spec(privileged=True), "/sys/fs/cgroup")["options"]


def test_hidden_paths_can_be_uncovered_one_by_one_by_pattern_or_all() -> None:
    assert "/proc/kcore" not in spec(security_opt=["unmask=/proc/kcore"])["linux"]["maskedPaths"]
    assert spec(security_opt=["unmask=/proc/kcore"])["linux"]["readonlyPaths"] == list(READONLY_PATHS)
    linux = spec(security_opt=["unmask=/proc/*"])["linux"]
    assert linux["readonlyPaths"] == []
    assert set(linux["maskedPaths"]) == {path for path in MASKED_PATHS if not path.startswith("/proc/")}
    linux = spec(security_opt=["unmask=ALL", "mask=/x"])["linux"]
    assert linux["maskedPaths"] == ["/x"]
    assert linux["readonlyPaths"] == []


def test_devices_and_rules_are_added_behind_the_default_list() -> None:
    status = os.stat("/dev/null")
    linux = spec(device=["/dev/null:/dev/x:r"], device_cgroup_rule=["c 42:* rmw"])["linux"]
    assert linux["devices"] == [{
        "path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": status.st_mode & 0o7777,
        "uid": status.st_uid, "gid": status.st_gid}]
    assert linux["resources"]["devices"][-2:] == [
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "r"},
        {"allow": True, "type": "c", "major": 42, "access": "rmw"}]


def test_a_device_that_is_not_there_or_none_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="device /nonexistent: no such file or directory"):
        spec(device=["/nonexistent"])
    with pytest.raises(InvalidRequest, match="device /etc/passwd: not a device node"):
        spec(device=["/etc/passwd"])
    with pytest.raises(InvalidRequest, match="/dev/null is not a block device"):
        spec(device_read_bps=["/dev/null:1"])


def test_namespaces_of_the_host_are_not_made() -> None:
    kinds = {item["type"] for item in spec(pid="host", ipc="host", uts="host", cgroupns="host")["linux"]["namespaces"]}
    assert kinds == {"mount", "network"}
    assert "hostname" not in spec(uts="host")
    assert mount(spec(ipc="host"), "/dev/shm")["source"] == "/dev/shm"
    assert not [item for item in spec(ipc="none")["mounts"] if item["destination"] == "/dev/shm"]


def test_mounts_of_the_user_take_the_place_of_ours_and_come_by_depth() -> None:
    document = spec(tmpfs=["/a/b/c", "/a"], volume=["/tmp:/a/b"], mount=["type=bind,src=/tmp,dst=/etc/hosts"])
    where = [item["destination"] for item in document["mounts"]]
    assert where[-4:] == ["/a", "/a/b", "/etc/hosts", "/a/b/c"] or where[-4:] == ["/a", "/etc/hosts", "/a/b", "/a/b/c"]
    assert where.count("/etc/hosts") == 1
    assert mount(document, "/a")["options"] == ["noexec", "nosuid", "nodev"]
    where = [item["destination"] for item in spec(volume=["/dev:/dev"])["mounts"]]
    assert [path for path in where if path.startswith("/dev")] == ["/dev"]


def test_bind_mounts_have_the_recursion_that_was_asked_for() -> None:
    for words, options in (
        ("", ["rbind", "rprivate"]), (",ro", ["rbind", "ro", "rprivate", "rro"]), (",bind-nonrecursive", ["bind", "rprivate"]),
        (",ro,bind-recursive=writable", ["rbind", "ro", "rprivate"]), (",bind-propagation=shared", ["rbind", "shared"]),
    ):
        assert mount(spec(mount=[f"type=bind,src=/tmp,dst=/x{words}"]), "/x")["options"] == options


def test_the_rest_lands_in_its_section() -> None:
    document = spec(
        ulimit=["nofile=1:-1"], sysctl=["net.ipv4.ip_forward=1"], oom_score_adj=-5, annotation=["a=b"], domainname="d",
        security_opt=["no-new-privileges", "apparmor=p"], cpu_period=1000, cpu_quota=2000, memory_reservation="1m",
        memory_swappiness=0, blkio_weight=10, shm_size="1m", cgroup_parent="/p", memory="10m", oom_kill_disable=True)
    process, linux = document["process"], document["linux"]
    assert process["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": (1 << 64) - 1}]
    assert process["noNewPrivileges"] is True
    assert process["oomScoreAdj"] == -5
    assert process["apparmorProfile"] == "p"
    assert linux["sysctl"] == {**NETWORK_SYSCTLS, "net.ipv4.ip_forward": "1"}
    assert document["annotations"] == {"a": "b"}
    assert document["domainname"] == "d"
    assert linux["cgroupsPath"] == "/p/1234567890"
    assert linux["resources"]["cpu"] == {"quota": 2000, "period": 1000}
    assert linux["resources"]["memory"] == {"limit": 10 << 20, "reservation": 1 << 20, "swappiness": 0, "disableOOMKiller": True}
    assert linux["resources"]["blockIO"] == {"weight": 10}
    assert mount(document, "/dev/shm")["options"][-1] == "size=1048576"
