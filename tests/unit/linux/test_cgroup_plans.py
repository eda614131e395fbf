"""linux/cgroup without a kernel: mountinfo, and limits as lists of writes."""
from __future__ import annotations

import pytest

from mydocker.base.errors import InvalidRequest, Unsupported
from mydocker.linux.cgroup import v1, v2
from mydocker.linux.cgroup.hierarchy import Hierarchy, parse_mountinfo
from mydocker.linux.cgroup.resources import Resources, Write, parse_resources

HYBRID = """\
23 1 254:0 / / rw,relatime - ext4 /dev/root rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
"""


def pairs(writes: list[Write]) -> list[tuple[str, str]]:
    return [(write.file, write.value) for write in writes]


def test_hybrid_mounts_are_found_by_controller() -> None:
    found_v1, found_v2 = parse_mountinfo(HYBRID)
    assert found_v1 == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct", "memory": "/sys/fs/cgroup/memory",
    }
    assert found_v2 == "/sys/fs/cgroup/unified"
    assert Hierarchy(v1=found_v1, v2=found_v2, v2_controllers=()).kind == "hybrid"


def test_pure_kinds_are_told_apart() -> None:
    assert parse_mountinfo("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n") == ({}, "/sys/fs/cgroup")
    assert Hierarchy(v1={}, v2="/x", v2_controllers=("memory",)).kind == "v2"
    assert Hierarchy(v1={"memory": "/x"}, v2="", v2_controllers=()).kind == "v1"
    assert Hierarchy(v1={}, v2="", v2_controllers=()).kind == "none"


def test_a_mount_that_a_later_one_covers_does_not_count() -> None:
    assert parse_mountinfo(HYBRID + "50 31 0:50 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n") == ({}, "")
    assert parse_mountinfo(HYBRID + "50 31 0:50 / /sys/fs/cgroup-not rw - tmpfs tmpfs rw\n")[1] != ""


def test_the_writable_one_of_two_mounts_is_taken_and_escapes_are_undone() -> None:
    text = (
        "30 23 0:26 / /ro ro,nosuid - cgroup2 cgroup2 rw\n"
        "31 23 0:26 / /with\\040blank rw,nosuid - cgroup2 cgroup2 rw\n"
        "32 23 0:26 / /later rw,nosuid - cgroup2 cgroup2 rw\n"
    )
    assert parse_mountinfo(text)[1] == "/with blank"


def test_resources_of_a_spec_become_numbers() -> None:
    assert parse_resources({
        "memory": {"limit": 1, "swap": -1, "kernel": 5, "disableOOMKiller": False}, "cpu": {"cpus": "0-1"}, "devices": [],
        "pids": {"limit": 7}, "unified": {"memory.high": "9"},
    }) == Resources(memory_limit=1, memory_swap=-1, cpus="0-1", pids_limit=7, unified=(("memory.high", "9"),))


@pytest.mark.parametrize(("resources", "name"), [
    ({"blockIO": {"weight": 10}}, "blockIO"), ({"devices": [{"allow": False}]}, "devices"),
    ({"memory": {"disableOOMKiller": True}}, "memory.disableOOMKiller"), ({"cpu": {"realtimeRuntime": 5}}, "cpu.realtimeRuntime"),
])
def test_a_limit_that_cannot_be_applied_is_refused_by_name(resources: dict[str, object], name: str) -> None:
    with pytest.raises(Unsupported, match=name):
        parse_resources(resources)


@pytest.mark.parametrize("resources", [
    {"memory": {"limit": "64m"}}, {"cpu": {"cpus": 1}}, {"pids": {"limit": True}}, {"unified": {"../x.y": "1"}},
    {"unified": {"cgroup.procs": "1"}}, {"unified": {"nodot": "1"}},
])
def test_a_value_of_a_wrong_type_is_refused(resources: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        parse_resources(resources)


@pytest.mark.parametrize(("shares", "weight"), [
    (0, 1), (2, 1), (3, 2), (256, 35), (512, 59), (1024, 100), (2048, 174), (262143, 10000), (262144, 10000), (1 << 40, 10000),
])
def test_shares_become_the_weight_that_runc_makes_of_them(shares: int, weight: int) -> None:
    assert v2.convert_shares_to_weight(shares) == weight


@pytest.mark.parametrize(("limit", "swap", "expected"), [
    (100, 100, "0"), (100, 300, "200"), (100, -1, "max"), (-1, None, "max"), (-1, 50, "50"), (100, None, None), (None, -1, "max"),
])
def test_v2_counts_swap_alone(limit: int | None, swap: int | None, expected: str | None) -> None:
    files = dict(pairs(v2.plan_writes(Resources(memory_limit=limit, memory_swap=swap))))
    assert files.get("memory.swap.max") == expected


@pytest.mark.parametrize(("limit", "swap"), [(None, 5), (100, 50)])
def test_v2_refuses_swap_that_means_nothing(limit: int | None, swap: int) -> None:
    with pytest.raises(InvalidRequest, match="swap"):
        v2.plan_writes(Resources(memory_limit=limit, memory_swap=swap))


def test_v2_writes() -> None:
    limits = Resources(
        memory_limit=-1, memory_reservation=5, cpu_shares=1024, cpu_quota=50, cpu_period=100, cpus="1", mems="0", pids_limit=-1,
        unified=(("io.max", "x"),),
    )
    assert pairs(v2.plan_writes(limits) + v2.plan_unified(limits)) == [
        ("memory.swap.max", "max"), ("memory.max", "max"), ("memory.low", "5"), ("cpu.weight", "100"), ("cpu.max", "50 100"),
        ("cpuset.cpus", "1"), ("cpuset.mems", "0"), ("pids.max", "max"), ("io.max", "x"),
    ]
    assert pairs(v2.plan_writes(Resources(cpu_quota=50))) == [("cpu.max", "50")]
    assert pairs(v2.plan_writes(Resources(cpu_period=50))) == [("cpu.max", "max 50")]
    assert v2.plan_writes(Resources()) == []


def test_v1_writes() -> None:
    limits = Resources(memory_swappiness=0, cpu_shares=5, cpu_quota=-1, cpu_period=100, cpus="1", pids_limit=0)
    assert pairs(v1.plan_writes(limits)) == [
        ("memory.swappiness", "0"), ("cpu.shares", "5"), ("cpu.cfs_period_us", "100"), ("cpu.cfs_quota_us", "-1"),
        ("cpuset.cpus", "1"), ("pids.max", "max"),
    ]
    assert v1.plan_writes(Resources()) == []


@pytest.mark.parametrize(("limit", "swap", "current", "order"), [
    (10, 20, 1 << 60, ["memory", "memsw"]),  # a new group: unlimited before
    (10, 20, 15, ["memsw", "memory"]),
    (10, 20, 30, ["memory", "memsw"]),
    (10, -1, 30, ["memsw", "memory"]),
    (-1, None, 30, ["memsw", "memory"]),
    (-1, None, None, ["memory"]),
    (10, None, 30, ["memory"]),
])
def test_v1_raises_and_lowers_memory_in_the_order_that_the_kernel_accepts(
    limit: int, swap: int | None, current: int | None, order: list[str],
) -> None:
    files = [write.file for write in v1.plan_writes(Resources(memory_limit=limit, memory_swap=swap), current)]
    assert ["memsw" if "memsw" in file else "memory" for file in files] == order
