"""runtime/mountopts.py, mounts.py, devices.py and attributes.py without a kernel: words as plans."""
from __future__ import annotations

import os
import stat
import struct
from typing import Any

import pytest

from mydocker.base.errors import InvalidRequest
from mydocker.linux import syscalls as sc
from mydocker.runtime.attributes import pack_limit, pack_scheduler, parse_io_priority, parse_numbers, parse_personality
from mydocker.runtime.devices import FindNull, MakeDevices, plan_devices
from mydocker.runtime.hostmounts import find_mount_point
from mydocker.runtime.idmap import format_map, root_of
from mydocker.runtime.mountopts import MountOptions, parse_mount_options
from mydocker.runtime.mounts import BindMount, MountCgroup, MountFilesystem, Surroundings, plan_rootfs
from mydocker.runtime.namespaces import format_time_offsets
from mydocker.runtime.remount import Remount
from mydocker.runtime.sealeddev import SealDev


@pytest.mark.parametrize(("words", "expected"), [
    (["ro", "nosuid"], MountOptions(explicit=True, set=sc.MOUNT_ATTR_RDONLY | sc.MOUNT_ATTR_NOSUID)),
    (["ro", "rw"], MountOptions(explicit=True, clear=sc.MOUNT_ATTR_RDONLY)),
    (["noatime", "strictatime"], MountOptions(explicit=True, set=sc.MOUNT_ATTR_STRICTATIME, clear=sc.MOUNT_ATTR__ATIME)),
    (["rro", "rnoexec"], MountOptions(recursive_set=sc.MOUNT_ATTR_RDONLY | sc.MOUNT_ATTR_NOEXEC)),
    (["rsuid"], MountOptions(recursive_clear=sc.MOUNT_ATTR_NOSUID)),
    (["relatime"], MountOptions(explicit=True, clear=sc.MOUNT_ATTR__ATIME)),
    (["norelatime"], MountOptions(explicit=True)),
    (["rrelatime"], MountOptions(recursive_clear=sc.MOUNT_ATTR__ATIME)),
    (["rbind", "rslave"], MountOptions(bind=True, recursive=True, propagation=((sc.MS_SLAVE, True),))),
    (["bind", "remount", "ro"], MountOptions(explicit=True, bind=True, remount=True, set=sc.MOUNT_ATTR_RDONLY)),
    (["tmpcopyup", "size=1m,mode=700", "defaults", "async"], MountOptions(copy_up=True, data=("size=1m", "mode=700"))),
    (["ridmap"], MountOptions(recursive_idmap=True)),
    (["idmap=uids=0-1-1;gids=0-1-1"], MountOptions()),
    (['context="a:b:c1,c2"'], MountOptions(data=('context="a:b:c1,c2"',))),
])
def test_option_words_go_to_what_consumes_them(words: list[str], expected: MountOptions) -> None:
    assert parse_mount_options(words) == expected


def test_attributes_are_flags_of_mount_too() -> None:
    assert parse_mount_options(["ro", "nodev", "noatime"]).ms_flags() == sc.MS_RDONLY | sc.MS_NODEV | sc.MS_NOATIME


def plan(*mounts: dict[str, Any], **around: Any) -> list[Any]:
    return plan_rootfs({"mounts": list(mounts)}, Surroundings(**around))  # type: ignore[typeddict-item]


def test_mounts_become_operations_in_their_order() -> None:
    operations = plan(
        {"destination": "proc/", "type": "proc"},
        {"destination": "/a//b", "type": "bind", "source": "vol", "options": ["bind"]},
        {"destination": "/c", "options": ["remount", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup"}, bundle="/bundle", cgroups=(("cpu", "/x"),), own_cgroup_namespace=False)
    first, second, third, fourth, devices = operations
    assert isinstance(first, MountFilesystem) and (first.destination, first.source) == ("/proc", "proc")
    assert isinstance(second, BindMount) and (second.destination, second.source) == ("/a/b", "/bundle/vol")
    assert isinstance(third, Remount)
    assert isinstance(fourth, MountCgroup) and (fourth.cgroups, fourth.is_namespaced) == ((("cpu", "/x"),), False)
    assert isinstance(devices, MakeDevices) and not devices.binds


def test_a_read_only_dev_is_sealed_last() -> None:
    operations = plan({"destination": "/dev", "type": "tmpfs", "options": ["ro", "nosuid"]})
    assert operations[0].options.set == sc.MOUNT_ATTR_NOSUID
    assert isinstance(operations[-1], SealDev)


@pytest.mark.parametrize(("mount", "field"), [
    ({"destination": "/a"}, "mounts[0].type"),
    ({"destination": "/a", "options": ["rbind"]}, "mounts[0].source"),
    ({"destination": "/a", "type": "proc", "options": ["tmpcopyup"]}, "mounts[0].options"),
])
def test_a_mount_that_makes_no_sense_is_refused_by_field(mount: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        plan(mount)
    assert caught.value.message.startswith(field)


def test_devices_of_the_spec_take_the_place_of_the_defaults() -> None:
    device = {"path": "/dev//null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 7}
    operation = plan_devices({"linux": {"devices": [device]}}, binds=True)  # type: ignore[typeddict-item, list-item]
    assert isinstance(operation, MakeDevices) and operation.binds
    node = next(node for node in operation.nodes if node.path == "/dev/null")
    assert (node.mode, node.number, node.uid, node.gid) == (stat.S_IFCHR | 0o600, os.makedev(1, 3), 7, 0)


@pytest.mark.parametrize("mount", [
    {"destination": "/dev/", "type": "none", "source": "/dev", "options": ["rbind"]},
    {"destination": "dev", "type": "bind", "source": "/dev"}, {"destination": "//./dev", "type": "bind", "source": "/dev"},
    {"destination": "/dev", "type": "devtmpfs"},
])
def test_nothing_is_made_in_a_dev_of_the_hosts(mount: dict[str, Any]) -> None:
    assert isinstance(plan(mount)[-1], FindNull)


@pytest.mark.parametrize("path", ["/", "/dev/../../x", "//"])
def test_a_device_in_no_place_is_refused(path: str) -> None:
    spec: Any = {"linux": {"devices": [{"path": path, "type": "c", "major": 1, "minor": 3}]}}
    with pytest.raises(InvalidRequest, match=r"linux.devices\[0\].path"):
        plan_devices(spec, binds=False)


def test_attributes_become_the_kernels_numbers() -> None:
    assert struct.unpack("=3Q", pack_limit({"type": "RLIMIT_NOFILE", "soft": 5, "hard": -1})) == (7, 5, (1 << 64) - 1)
    fields = struct.unpack("=IIQiIQQQII", pack_scheduler(
        {"policy": "SCHED_FIFO", "priority": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}))
    assert fields == (56, 1, 1, 0, 3, 0, 0, 0, 0, 0)
    assert parse_io_priority({"class": "IOPRIO_CLASS_RT", "priority": 4}) == 1 << 13 | 4  # type: ignore[typeddict-unknown-key]
    assert parse_personality({"domain": "LINUX32"}) == 8
    assert parse_numbers("0-2,5", "f") == {0, 1, 2, 5}


@pytest.mark.parametrize("call", [
    lambda: pack_limit({"type": "RLIMIT_X", "soft": 1, "hard": 1}), lambda: pack_limit({"type": "RLIMIT_CPU", "soft": 2, "hard": 1}),
    lambda: pack_scheduler({"policy": "SCHED_X"}), lambda: pack_scheduler({"policy": "SCHED_OTHER", "priority": 1}),
    lambda: pack_scheduler({"policy": "SCHED_FIFO", "runtime": 1}), lambda: pack_scheduler({"policy": "SCHED_OTHER", "nice": 1 << 40}),
    lambda: parse_io_priority({"priority": 1}),
    lambda: parse_personality({"domain": "BSD"}), lambda: parse_numbers("2-1", "f"), lambda: parse_numbers("x", "f"),
    lambda: parse_numbers("0-99999999", "f"), lambda: format_map([{"containerID": 0, "hostID": 0, "size": 1}] * 341, "f"),
])
def test_what_the_kernel_could_not_take_is_refused(call: Any) -> None:
    with pytest.raises(InvalidRequest):
        call()


def test_maps_and_offsets_are_written_as_the_kernel_reads_them() -> None:
    assert format_map([{"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 5000, "size": 9}], "f") == (
        b"0 1000 1\n1 5000 9\n")
    assert root_of([{"containerID": 5, "hostID": 0, "size": 1}]) == 5
    assert format_time_offsets({"linux": {"timeOffsets": {"monotonic": {"secs": -3, "nanosecs": 7}}}}) == b"monotonic -3 7\n"


def test_the_mount_point_of_a_path_is_found() -> None:
    assert find_mount_point("/proc/self") == "/proc"
    assert find_mount_point("/no/such/path") == "/"
