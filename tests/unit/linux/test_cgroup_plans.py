"""linux/cgroup without a kernel: mountinfo, and limits as lists of writes."""
from __future__ import annotations

import pytest

from mydocker.base.errors import InvalidRequest, Unsupported
from mydocker.linux.cgroup import v1, v2
from mydocker.linux.cgroup.hierarchy import Hierarchy, parse_mountinfo
from mydocker.linux.cgroup.paths import clean_path
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
        "name=systemd": "/sys/fs/cgroup/systemd",
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
    }) == Resources(
        memory_limit=1, memory_swap=-1, memory_kernel=5, cpus="0-1", pids_limit=7, unified=(("memory.high", "9"),), devices=(),
    )


@pytest.mark.parametrize(("resources", "name"), [
    ({"blockIO": {"weigh": 10}}, "blockIO.weigh"), ({"intelRdt": {"closID": "x"}}, "intelRdt"),
    ({"memory": {"disableOOM": True}}, "memory.disableOOM"), ({"cpu": {"realtime": 5}}, "cpu.realtime"),
])
def test_a_limit_that_cannot_be_applied_is_refused_by_name(resources: dict[str, object], name: str) -> None:
    with pytest.raises(Unsupported, match=name):
        parse_resources(resources)


@pytest.mark.parametrize("resources", [
    {"memory": {"limit": "64m"}}, {"cpu": {"cpus": 1}}, {"pids": {"limit": True}}, {"unified": {"../x.y": "1"}},
    {"unified": {"cgroup.procs": "1"}}, {"unified": {"nodot": "1"}}, {"unified": {"cgroup.kill": "1"}}, {"unified": {"a.b": []}},
    {"memory": 5}, {"memory": {"disableOOMKiller": 1}}, {"hugepageLimits": [{"pageSize": "../MB", "limit": 1}]},
    {"hugepageLimits": [{"pageSize": "2MB"}]}, {"hugepageLimits": {}, "rdma": {"a b": {"hcaHandles": 1}}},
    {"rdma": {"mlx5_1": {}}}, {"network": {"priorities": [{"name": "eth0\n", "priority": 1}]}},
    {"blockIO": {"weightDevice": [{"major": 8, "minor": 0}]}}, {"blockIO": {"throttleReadBpsDevice": [{"major": -1, "minor": 0, "rate": 1}]}},
    {"blockIO": {"throttleReadBpsDevice": [{"major": 1, "minor": 0}]}},
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
    (None, 0, "0"), (100, 0, None), (-1, 0, "max"),
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
        ("cpuset.cpus", "1"), ("pids.max", "1"),  # 0 as systemd and runc have it
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


EVERYTHING = {
    "memory": {"limit": 1, "swap": 2, "reservation": 3, "kernel": 4, "kernelTCP": 5, "swappiness": 6, "disableOOMKiller": True,
               "useHierarchy": True, "checkBeforeUpdate": True},
    "cpu": {"shares": 1024, "quota": 10, "period": 20, "burst": 5, "realtimeRuntime": 7, "realtimePeriod": 8, "cpus": "0", "mems": "0",
            "idle": 0},
    "pids": {"limit": 9},
    "blockIO": {
        "weight": 750, "leafWeight": 11, "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}], "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 601}],
        "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 602}], "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}],
    },
    "hugepageLimits": [{"pageSize": "2MB", "limit": 12}, {"pagesize": "1GB", "limit": 13}],
    "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
    "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "mlx4_0": {"hcaObjects": 1000}},
}


def test_every_field_of_the_spec_has_its_file_on_v1() -> None:
    assert pairs(v1.plan_writes(parse_resources(EVERYTHING), 1)) == [
        ("memory.memsw.limit_in_bytes", "2"), ("memory.limit_in_bytes", "1"), ("memory.soft_limit_in_bytes", "3"),
        ("memory.swappiness", "6"), ("memory.kmem.tcp.limit_in_bytes", "5"), ("memory.oom_control", "1"),
        ("cpu.idle", "0"), ("cpu.shares", "1024"), ("cpu.cfs_period_us", "20"), ("cpu.cfs_burst_us", "5"), ("cpu.cfs_quota_us", "10"),
        ("cpu.rt_period_us", "8"), ("cpu.rt_runtime_us", "7"), ("cpuset.cpus", "0"), ("cpuset.mems", "0"), ("pids.max", "9"),
        ("net_cls.classid", "1048577"), ("memory.kmem.limit_in_bytes", "4"), ("blkio.weight", "750"), ("blkio.leaf_weight", "11"),
        ("blkio.weight_device", "8:0 500"), ("blkio.leaf_weight_device", "8:0 300"), ("blkio.throttle.read_bps_device", "8:0 600"),
        ("blkio.throttle.write_bps_device", "8:0 601"), ("blkio.throttle.read_iops_device", "8:0 602"),
        ("blkio.throttle.write_iops_device", "8:0 0"), ("hugetlb.2MB.limit_in_bytes", "12"), ("hugetlb.2MB.rsvd.limit_in_bytes", "12"),
        ("hugetlb.1GB.limit_in_bytes", "13"), ("hugetlb.1GB.rsvd.limit_in_bytes", "13"), ("net_prio.ifpriomap", "eth0 500"),
        ("rdma.max", "mlx5_1 hca_handle=3 hca_object=10000"), ("rdma.max", "mlx4_0 hca_object=1000"),
    ]


def test_every_field_of_the_spec_has_its_file_on_v2_or_one_that_does_not_exist() -> None:
    assert pairs(v2.plan_writes(parse_resources(EVERYTHING))) == [
        ("memory.swap.max", "1"), ("memory.max", "1"), ("memory.low", "3"),
        ("memory.swappiness", "6"), ("memory.oom_control", "1"), ("memory.kmem.limit_in_bytes", "4"),
        ("memory.kmem.tcp.limit_in_bytes", "5"), ("cpu.idle", "0"), ("cpu.weight", "100"), ("cpu.max.burst", "5"), ("cpu.max", "10 20"),
        ("cpu.rt_period_us", "8"), ("cpu.rt_runtime_us", "7"), ("cpuset.cpus", "0"), ("cpuset.mems", "0"), ("pids.max", "9"),
        ("net_cls.classid", "1048577"), ("net_prio.ifpriomap", "eth0 500"), ("io.bfq.weight", "750"), ("blkio.leaf_weight", "11"),
        ("io.bfq.weight", "8:0 500"), ("blkio.leaf_weight_device", "8:0 300"), ("io.max", "8:0 rbps=600"), ("io.max", "8:0 wbps=601"),
        ("io.max", "8:0 riops=602"), ("io.max", "8:0 wiops=max"), ("hugetlb.2MB.max", "12"), ("hugetlb.2MB.rsvd.max", "12"),
        ("hugetlb.1GB.max", "13"), ("hugetlb.1GB.rsvd.max", "13"), ("rdma.max", "mlx5_1 hca_handle=3 hca_object=10000"),
        ("rdma.max", "mlx4_0 hca_object=1000"),
    ]


@pytest.mark.parametrize(("weight", "expected"), [(10, 1), (500, 4950), (750, 7475), (1000, 10000)])
def test_block_weights_become_those_that_runc_makes_of_them(weight: int, expected: int) -> None:
    [write] = v2.plan_writes(Resources(block_weight=weight))
    assert write.instead == (("io.weight", str(expected)),)


def test_an_idle_group_gets_no_weight_and_a_new_period_keeps_the_quota() -> None:
    assert pairs(v2.plan_writes(Resources(cpu_idle=1, cpu_shares=5))) == [("cpu.idle", "1")]
    assert pairs(v1.plan_writes(Resources(cpu_idle=1, cpu_shares=5))) == [("cpu.idle", "1")]
    assert pairs(v2.plan_writes(Resources(cpu_period=50), "7")) == [("cpu.max", "7 50")]


def test_unified_values_of_several_lines_are_several_writes() -> None:
    assert pairs(v2.plan_unified(Resources(unified=(("io.max", "8:0 riops=1\n8:16 riops=2\n"),)))) == [
        ("io.max", "8:0 riops=1"), ("io.max", "8:16 riops=2"),
    ]


@pytest.mark.parametrize(("given", "cleaned"), [
    ("/a/b", "/a/b"), ("a", "/a"), ("../../a", "/a"), ("/a/./b//c/", "/a/b/c"), ("/a/../../b", "/b"),
])
def test_a_bundles_path_is_cleaned(given: str, cleaned: str) -> None:
    assert clean_path(given) == cleaned


@pytest.mark.parametrize("given", ["", "/", "..", "/a/..", "a\0b", "a\nb"])
def test_a_bundles_path_is_never_the_root(given: str) -> None:
    with pytest.raises(InvalidRequest):
        clean_path(given)
