"""Limits beyond memory, cpu and pids, and what is told of their use, with real groups; each version by what it has."""
from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator

import pytest
from cgroup_rig import KINDS, MIB, Child, directories, file_of, own_path, use_memory

from mydocker.base.errors import Conflict, InvalidRequest, Unsupported
from mydocker.linux.cgroup.group import Cgroup
from mydocker.linux.cgroup.hierarchy import hierarchy
from mydocker.linux.cgroup.paths import read_text
from mydocker.linux.cgroup.usage import page_sizes, read_pressure

pytestmark = [pytest.mark.needs("root")]


@pytest.fixture(params=KINDS)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    yield from own_path(request, monkeypatch)


def disk() -> str:
    """Return major:minor of a whole disk, as throttling wants it."""
    for name in sorted(os.listdir("/sys/block")):
        if int(read_text(f"/sys/block/{name}/size")):
            return read_text(f"/sys/block/{name}/dev").strip()
    pytest.skip("no disk")


def device(number: str, **values: int) -> dict[str, int]:
    major, minor = map(int, number.split(":"))
    return {"major": major, "minor": minor, **values}


@pytest.mark.needs("blkio")
def test_block_throttles_are_in_the_kernel_and_can_be_lifted(path: str) -> None:
    number = disk()
    group = Cgroup.create(path, {"blockIO": {
        "throttleReadBpsDevice": [device(number, rate=1048576)], "throttleWriteBpsDevice": [device(number, rate=2097152)],
        "throttleReadIOPSDevice": [device(number, rate=100)], "throttleWriteIOPSDevice": [device(number, rate=200)],
    }})
    if "blkio" in group.v1:
        kinds = {"read_bps": 1048576, "write_bps": 2097152, "read_iops": 100, "write_iops": 200}
        for kind, rate in kinds.items():
            assert read_text(f"{group.v1['blkio']}/blkio.throttle.{kind}_device").split() == [number, str(rate)]
    else:
        assert read_text(f"{group.v2}/io.max").strip() == f"{number} rbps=1048576 wbps=2097152 riops=100 wiops=200"
    group.apply({"blockIO": {"throttleReadBpsDevice": [device(number, rate=0)]}})
    left = read_text(f"{group.v1['blkio']}/blkio.throttle.read_bps_device" if group.v1 else f"{group.v2}/io.max")
    assert "1048576" not in left


@pytest.mark.needs("blkio")
def test_block_weights_are_in_the_kernel(path: str) -> None:
    try:
        group = Cgroup.create(path, {"blockIO": {"weight": 750}})
    except Unsupported as error:  # neither BFQ nor blk-iocost
        assert "blockIO.weight" in error.message
        return
    directory = group.v1.get("blkio") or group.v2
    found = {name: read_text(f"{directory}/{name}").split()[-1] for name in os.listdir(directory) if name.endswith("weight")}
    assert found.items() & {"blkio.weight": "750", "blkio.bfq.weight": "750", "io.bfq.weight": "750", "io.weight": "7475"}.items()


@pytest.mark.needs("blkio")
def test_a_throttle_of_a_device_that_is_not_there_is_refused_by_name(path: str) -> None:
    with pytest.raises(InvalidRequest, match=r"blockIO\.throttleReadBpsDevice"):
        Cgroup.create(path, {"blockIO": {"throttleReadBpsDevice": [device("240:77", rate=1)]}})
    assert directories(path) == []


@pytest.mark.needs("hugetlb")
def test_huge_page_limits_are_in_the_kernel_for_use_and_reservation(path: str) -> None:
    sizes = page_sizes()
    if not sizes:
        pytest.skip("no huge pages")
    group = Cgroup.create(path, {"hugepageLimits": [{"pageSize": size, "limit": 0} for size in sizes]})
    for size in sizes:
        assert file_of(group, "hugetlb", f"hugetlb.{size}.limit_in_bytes", f"hugetlb.{size}.max") == "0"
        assert file_of(group, "hugetlb", f"hugetlb.{size}.rsvd.limit_in_bytes", f"hugetlb.{size}.rsvd.max") == "0"
        assert group.usage().hugepages[size].usage == 0
    with pytest.raises(Unsupported, match="hugepageLimits"):
        group.apply({"hugepageLimits": [{"pageSize": "7MB", "limit": 0}]})


@pytest.mark.needs("cpu")
def test_realtime_runtime_is_in_the_kernel_or_refused_by_name(path: str) -> None:
    Cgroup.create(path, {"cpu": {"realtimeRuntime": 0}}).remove()  # 0 is nothing to set
    with pytest.raises((InvalidRequest, Unsupported), match=r"cpu\.realtimeRuntime"):
        # No time was given to the group above, so there is none to take; v2 has no such file.
        Cgroup.create(path, {"cpu": {"realtimeRuntime": 900000}})


@pytest.mark.needs("cpu")
def test_idle_comes_and_goes_with_the_shares(path: str) -> None:
    group = Cgroup.create(path, {"cpu": {"idle": 1, "shares": 512}})
    assert file_of(group, "cpu", "cpu.idle", "cpu.idle") == "1"
    group.apply({"cpu": {"idle": 0, "shares": 512}})
    assert file_of(group, "cpu", "cpu.idle", "cpu.idle") == "0"
    assert file_of(group, "cpu", "cpu.shares", "cpu.weight") == ("512" if group.v1 else "59")


@pytest.mark.needs("cpu")
def test_a_quota_a_period_and_a_burst_can_be_changed_in_any_direction(path: str) -> None:
    group = Cgroup.create(path, {})
    for quota, period, burst in ((50000, 100000, 20000), (1000, 1000, 1000), (900000, 1000000, 0), (-1, 100000, 0), (20000, 50000, 20000)):
        group.apply({"cpu": {"quota": quota, "period": period, "burst": burst}})
        amount = "max" if quota == -1 else quota
        assert file_of(group, "cpu", "cpu.cfs_quota_us", "cpu.max") == (str(quota) if group.v1 else f"{amount} {period}")
        assert file_of(group, "cpu", "cpu.cfs_burst_us", "cpu.max.burst") == str(burst)
    group.apply({"cpu": {"period": 60000}})
    assert file_of(group, "cpu", "cpu.cfs_quota_us", "cpu.max") == ("20000" if group.v1 else "20000 60000")


@pytest.mark.needs("memory")
def test_memory_settings_beyond_limits_are_in_the_kernel_or_refused_by_name(path: str) -> None:
    group = Cgroup.create(path, {"memory": {"limit": 64 * MIB, "useHierarchy": True}})
    settings = {"swappiness": 10, "disableOOMKiller": True, "kernelTCP": 32 * MIB}
    if "memory" in group.v1:
        group.apply({"memory": {**settings, "kernel": 32 * MIB}})
        assert file_of(group, "memory", "memory.swappiness", "") == "10"
        assert file_of(group, "memory", "memory.kmem.tcp.limit_in_bytes", "") == str(32 * MIB)
        assert "oom_kill_disable 1" in file_of(group, "memory", "memory.oom_control", "")
        return
    for name, value in settings.items():
        with pytest.raises(Unsupported, match=f"memory.{name}"):
            group.apply({"memory": {name: value}})


@pytest.mark.needs("cgroup2", "memory")
def test_memory_in_use_is_not_cut_off_when_that_is_asked(path: str) -> None:
    group = Cgroup.create(path, {})
    reader, writer = os.pipe()
    go_on, told = os.pipe()

    def work() -> None:
        block = use_memory(16 * MIB)
        os.write(writer, b".")
        os.read(go_on, 1)
        assert block

    child = Child(group, work)
    os.read(reader, 1)
    with pytest.raises(Conflict, match="rejecting memory limit"):
        group.apply({"memory": {"limit": 8 * MIB, "checkBeforeUpdate": True}})
    os.write(told, b".")
    assert child.wait() == 0
    for fd in (reader, writer, go_on, told):
        os.close(fd)


@pytest.mark.needs("cgroup2", "memory", "swap_limit")
def test_swap_alone_can_be_changed_below_a_memory_limit(path: str) -> None:
    group = Cgroup.create(path, {"memory": {"limit": 64 * MIB, "swap": 64 * MIB}})
    group.apply({"memory": {"swap": 96 * MIB}})
    assert read_text(f"{group.v2}/memory.swap.max").strip() == str(32 * MIB)


@pytest.mark.parametrize(("resources", "name"), [
    ({"network": {"classID": 1048577}}, "network.classID"), ({"network": {"priorities": [{"name": "lo", "priority": 5}]}}, "network.priorities"),
    ({"rdma": {"mlx5_1": {"hcaHandles": 3}}}, "rdma.mlx5_1"),
])
def test_what_the_machine_lacks_is_refused_by_name(path: str, resources: dict[str, object], name: str) -> None:
    section = "rdma" if "rdma" in resources else "net_cls" if "classID" in name else "net_prio"
    found = hierarchy()
    if section in found.v1 or section in found.v2_controllers:
        if section == "rdma":  # the controller is there, the device is not
            with pytest.raises((InvalidRequest, Unsupported), match=name):
                Cgroup.create(path, resources)
            return
        group = Cgroup.create(path, resources)
        assert read_text(f"{group.v1[section]}/{'net_cls.classid' if section == 'net_cls' else 'net_prio.ifpriomap'}")
        return
    with pytest.raises(Unsupported, match=f"{name}.*no cgroup controller {section}"):
        Cgroup.create(path, resources)
    assert directories(path) == []


@pytest.mark.needs("cgroup2", "memory")
def test_unified_takes_several_lines_and_the_cores_own_limits(path: str) -> None:
    group = Cgroup.create(path, {"unified": {"cgroup.max.depth": "3", "memory.min": "4096\n", "memory.high": "max"}})
    assert read_text(f"{group.v2}/cgroup.max.depth").strip() == "3"
    assert read_text(f"{group.v2}/memory.min").strip() == "4096"


# ---- use

def test_the_whole_of_what_is_known_of_a_groups_use(path: str) -> None:
    group = Cgroup.claim(path, {})

    def work() -> None:
        block = use_memory(8 * MIB)
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass
        assert block

    child = Child(group, work)
    assert child.wait() == 0
    usage = group.usage()
    assert usage.cpu_ns is not None
    assert usage.cpu_ns >= 40_000_000
    assert usage.cpu_user_ns is not None
    if "cpuacct" in group.v1:
        assert abs(sum(usage.percpu_ns) - usage.cpu_ns) < 20_000_000
        assert len(usage.percpu_user_ns) == len(usage.percpu_ns)
    if "cpuset" in group.v1:
        assert usage.cpuset["mems"] == "0"
    if "memory" in group.v1 or "memory" in hierarchy().v2_controllers:
        assert usage.memory.usage is not None
        assert usage.memory.limit is None
        assert usage.memory_stat
        assert usage.memory.peak is None or usage.memory.peak >= 8 * MIB
    assert usage.pids.usage == 0
    assert (usage.rdma, usage.pids.limit) == ((), None)
    if group.v2 and os.path.exists(f"{group.v2}/cpu.pressure"):
        assert usage.cpu_pressure == read_pressure(f"{group.v2}/cpu.pressure")
    group.remove()


@pytest.mark.needs("cpu")
def test_throttling_is_counted(path: str) -> None:
    group = Cgroup.create(path, {"cpu": {"quota": 5000, "period": 50000}})

    def work() -> None:
        end = time.monotonic() + 0.4
        while time.monotonic() < end:
            pass

    assert Child(group, work).wait() == 0
    usage = group.usage()
    assert (usage.periods or 0) > 1
    assert (usage.throttled_periods or 0) > 0
    assert (usage.throttled_ns or 0) > 1_000_000


@pytest.mark.needs("blkio")
def test_block_io_is_counted(path: str, scratch: str) -> None:
    group = Cgroup.claim(path, {})

    def work() -> None:
        fd = os.open(f"{scratch}/file", os.O_CREAT | os.O_RDWR)
        os.write(fd, b"x" * MIB)
        os.fsync(fd)
        os.close(fd)

    assert Child(group, work).wait() == 0
    rows = group.usage().block.service_bytes
    if not rows and "io.stat" in os.listdir(group.v2 or "/"):
        pytest.skip("the scratch directory is not on a disk of this kernel")
    assert any(row.operation == "Write" and row.value > 0 for row in rows) or "blkio" in group.v1, rows
    group.remove()


def test_a_groups_limits_are_not_those_of_its_neighbour(path: str) -> None:
    first, second = Cgroup.create(path, {"pids": {"limit": 5}}), Cgroup.create(f"{path}-2", {})
    assert (first.stats().pids_limit, second.stats().pids_limit) == (5, None)
    second.remove()
    with pytest.raises(OSError) as raised:
        read_text(f"{hierarchy().v2 or hierarchy().v1['memory']}{path}-2/cgroup.procs")
    assert raised.value.errno == errno.ENOENT


@pytest.mark.needs("hybrid", "swap_limit")
def test_swap_alone_can_be_changed_on_v1_whatever_v2_thinks_of_it(path: str) -> None:
    group = Cgroup.create(path, {"memory": {"limit": 64 * MIB, "swap": 64 * MIB}})
    group.apply({"memory": {"swap": 96 * MIB}})
    assert file_of(group, "memory", "memory.memsw.limit_in_bytes", "") == str(96 * MIB)


@pytest.mark.needs("pids")
def test_sections_are_known_in_any_case_and_no_process_more_is_one(path: str) -> None:
    group = Cgroup.create(path, {"Pids": {"limit": 0}, "CPU": {"Shares": 512}})
    assert group.stats().pids_limit == 1
    assert file_of(group, "cpu", "cpu.shares", "cpu.weight") == ("512" if group.v1 else "59")
