"""linux/cgroup with real processes and the kernel's own numbers, on whichever hierarchies the machine has.

`make test` runs this file twice: here, and in a guest whose only hierarchy is cgroup v2.
"""
from __future__ import annotations

import ctypes
import errno
import os
import pathlib
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from cgroup_rig import KINDS, MIB, Child, directories, file_of, own_path, until, use_memory
from harness import PATIENCE

from mydocker.base.errors import Conflict, InvalidRequest, NotFound, Unsupported
from mydocker.base.paths import Layout
from mydocker.engine.ending import kill_whole
from mydocker.engine.store import ContainerRecord, Store
from mydocker.linux.cgroup.group import Cgroup, remove
from mydocker.linux.cgroup.paths import read_text, write_text
from mydocker.linux.process import boot_id, read_start_time

pytestmark = [pytest.mark.needs("root")]


@pytest.fixture(params=KINDS)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    yield from own_path(request, monkeypatch)


def test_a_new_cgroup_exists_and_removal_leaves_nothing(path: str) -> None:
    group = Cgroup.create(path, {})
    assert directories(path)
    group.remove()
    assert directories(path) == []
    group.remove()  # again is fine


def test_open_of_a_missing_cgroup_is_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        Cgroup.open(path)


@pytest.mark.parametrize("bad", ["", "/", "/mydocker", "mydocker/x", "/mydocker/../x", "/mydocker//x", "/mydocker/x/"])
def test_a_path_that_could_reach_outside_is_refused(bad: str) -> None:
    with pytest.raises(InvalidRequest):
        Cgroup.create(bad, {})
    with pytest.raises(InvalidRequest):
        remove(bad)


def test_a_child_is_in_every_hierarchy_of_the_group(path: str) -> None:
    group = Cgroup.create(path, {"pids": {"limit": 50}, "cpu": {"shares": 512}})
    child = Child(group)
    places = directories(path)
    until(lambda: all(str(child.pid) in read_text(f"{place}/cgroup.procs").split() for place in places))
    assert group.pids() == [child.pid]
    assert Cgroup.open(path).pids() == [child.pid]
    group.kill()
    assert child.wait() == -signal.SIGKILL


def test_a_running_process_can_be_added(path: str) -> None:
    group = Cgroup.create(path, {})
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    group.add(pid)
    assert group.pids() == [pid]
    group.kill()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        group.add(pid)


@pytest.mark.needs("memory")
def test_memory_limit_is_in_the_kernel(path: str) -> None:
    group = Cgroup.create(path, {"memory": {"limit": 64 * MIB, "reservation": 32 * MIB}})
    assert file_of(group, "memory", "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    assert file_of(group, "memory", "memory.soft_limit_in_bytes", "memory.low") == str(32 * MIB)
    assert group.stats().memory_limit_bytes == 64 * MIB


@pytest.mark.needs("memory", "swap_limit")
def test_memory_with_swap_can_be_set_raised_and_lowered(path: str) -> None:
    group = Cgroup.create(path, {"memory": {"limit": 64 * MIB, "swap": 96 * MIB}})
    for limit, swap in ((64, 96), (256, 512), (16, 16), (32, 64)):
        group.apply({"memory": {"limit": limit * MIB, "swap": swap * MIB}})
        expected = swap if group.v1 else swap - limit  # v2 counts swap alone
        assert file_of(group, "memory", "memory.limit_in_bytes", "memory.max") == str(limit * MIB)
        assert file_of(group, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max") == str(expected * MIB)
    group.apply({"memory": {"limit": -1}})
    assert group.stats().memory_limit_bytes is None


@pytest.mark.needs("cpu")
def test_cpu_limits_are_in_the_kernel(path: str) -> None:
    group = Cgroup.create(path, {"cpu": {"shares": 2048, "quota": 150000, "period": 50000}})
    assert file_of(group, "cpu", "cpu.shares", "cpu.weight") == ("2048" if group.v1 else "174")
    if group.v1:
        assert file_of(group, "cpu", "cpu.cfs_quota_us", "") == "150000"
        assert file_of(group, "cpu", "cpu.cfs_period_us", "") == "50000"
    else:
        assert file_of(group, "cpu", "", "cpu.max") == "150000 50000"


@pytest.mark.needs("cpu")
def test_cpu_quota_slows_a_busy_process(path: str) -> None:
    group = Cgroup.create(path, {"cpu": {"quota": 20000, "period": 100000}})

    def burn() -> None:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            pass

    assert Child(group, burn).wait() == 0
    used_ns = group.stats().cpu_ns
    assert used_ns is not None
    assert 50_000_000 < used_ns < 600_000_000  # a fifth of a second, on a machine that may be busy


@pytest.mark.needs("cpuset")
def test_cpuset_binds_the_process(path: str) -> None:
    cpu = max(os.sched_getaffinity(0))
    group = Cgroup.create(path, {"cpu": {"cpus": str(cpu)}})
    reader, writer = os.pipe()
    assert Child(group, lambda: os.write(writer, repr(sorted(os.sched_getaffinity(0))).encode())).wait() == 0
    assert os.read(reader, 100).decode() == f"[{cpu}]"
    os.close(reader)
    os.close(writer)
    assert file_of(group, "cpuset", "cpuset.cpus", "cpuset.cpus") == str(cpu)


@pytest.mark.needs("cpuset")
@pytest.mark.parametrize("cpus", ["4000", "x", "1-"])
def test_a_cpuset_that_the_machine_lacks_is_refused_by_name_and_undone(path: str, cpus: str) -> None:
    with pytest.raises(InvalidRequest, match=r"resources\.cpu\.cpus"):
        Cgroup.create(path, {"cpu": {"cpus": cpus}})
    assert directories(path) == []


@pytest.mark.needs("cgroup2")
def test_a_limit_without_its_controller_is_unsupported_by_name(path: str) -> None:
    with pytest.raises(Unsupported, match=r"resources\.unified\.nosuch\.max: .* controller nosuch"):
        Cgroup.create(path, {"unified": {"nosuch.max": "1"}})
    assert directories(path) == []


@pytest.mark.needs("pids")
def test_pids_limit_stops_forks(path: str) -> None:
    group = Cgroup.create(path, {"pids": {"limit": 3}})

    def fork_until_refused() -> None:
        children = []
        try:
            for _ in range(10):
                pid = os.fork()
                if pid == 0:
                    signal.pause()
                children.append(pid)
        except BlockingIOError:
            pass
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        assert len(children) == 2

    assert Child(group, fork_until_refused).wait() == 0
    assert group.stats().pids_limit == 3
    group.apply({"pids": {"limit": -1}})
    assert group.stats().pids_limit is None


@pytest.mark.needs("memory")
def test_exceeded_memory_is_killed_and_counted(path: str) -> None:
    group = Cgroup.create(path, {"memory": {"limit": 16 * MIB, **({"swap": 16 * MIB} if swap_is_limited() else {})}})
    accounting = group.open_accounting()
    assert b"oom_kill 0" in os.pread(accounting.oom_fd, 4096, 0)
    assert Child(group, lambda: use_memory(64 * MIB)).wait() == -signal.SIGKILL
    assert group.stats().oom_kills == 1
    assert b"oom_kill 1" in os.pread(accounting.oom_fd, 4096, 0)
    accounting.close()


def swap_is_limited() -> bool:
    from mydocker.linux.cgroup.group import can_limit_swap

    return can_limit_swap()


@pytest.mark.needs("memory")
def test_a_kill_is_not_counted_as_exceeded_memory(path: str) -> None:
    group = Cgroup.create(path, {"memory": {"limit": 64 * MIB}})
    child = Child(group)
    group.kill()
    assert child.wait() == -signal.SIGKILL
    assert group.stats().oom_kills == 0


@pytest.mark.needs("memory")
def test_the_bill_holds_cpu_time_and_peak_memory(path: str) -> None:
    group = Cgroup.create(path, {})
    accounting = group.open_accounting()
    os.write(accounting.memory_peak_fd, accounting.peak_reset.encode()) if group.v1 else None

    def work() -> None:
        use_memory(24 * MIB)
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass

    assert Child(group, work).wait() == 0
    peak_bytes = int(os.pread(accounting.memory_peak_fd, 4096, 0))
    assert 24 * MIB <= peak_bytes < 200 * MIB
    assert b"usage_usec" in os.pread(accounting.cpu_fd, 4096, 0) or group.v2 == ""
    used = group.stats()
    assert used.cpu_ns is not None
    assert used.cpu_ns > 90_000_000
    assert used.memory_peak_bytes is not None
    accounting.close()


def test_a_frozen_process_stands_still_and_goes_on(path: str) -> None:
    group = Cgroup.create(path, {})
    reader, writer = os.pipe2(os.O_NONBLOCK)

    def tick() -> None:
        while True:
            os.write(writer, b".")
            time.sleep(0.002)

    child = Child(group, tick)
    until(lambda: drain(reader) > 0)
    group.freeze()
    assert group.is_frozen()
    assert Cgroup.open(path).is_frozen()
    drain(reader)
    time.sleep(0.05)
    assert drain(reader) == 0
    group.thaw()
    until(lambda: drain(reader) > 0)
    assert not group.is_frozen()
    group.kill()
    assert child.wait() == -signal.SIGKILL
    os.close(reader)
    os.close(writer)


def drain(fd: int) -> int:
    try:
        return len(os.read(fd, 1 << 16))
    except BlockingIOError:
        return 0


def test_a_frozen_process_can_be_killed_and_removed(path: str) -> None:
    group = Cgroup.create(path, {})
    children = [Child(group), Child(group)]
    until(lambda: len(group.pids()) == 2)
    group.freeze()
    group.remove()
    assert [child.wait() for child in children] == [-signal.SIGKILL] * 2
    assert directories(path) == []


def test_removal_takes_leftover_processes_and_nested_cgroups_along(path: str) -> None:
    group = Cgroup.create(path, {})
    child = Child(group)
    until(lambda: group.pids() == [child.pid])
    for place in directories(path):
        deep = place
        for _ in range(20):
            deep += "/" + "n" * 250  # in the end longer than PATH_MAX, as a container could make it
            try:
                os.mkdir(deep)
            except OSError as error:
                assert error.errno in (errno.ENAMETOOLONG, errno.EAGAIN)
                break
        os.mkdir(f"{place}/beside")
    inner = os.fork()
    if inner == 0:
        signal.pause()
    for place in directories(path):
        write_text(f"{place}/beside/cgroup.procs", str(inner))
    assert group.pids() == sorted([child.pid, inner])
    group.remove()
    assert directories(path) == []
    assert child.wait() == -signal.SIGKILL
    assert os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]) == -signal.SIGKILL


def test_removal_kills_a_process_whose_first_thread_has_ended(path: str) -> None:
    group = Cgroup.create(path, {})
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.sigwait({signal.SIGUSR1})
        threading.Thread(target=time.sleep, args=(60,)).start()
        ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)  # exit(2), of the calling thread
    group.add(pid)
    until(lambda: read_text(f"/proc/{pid}/wchan") not in ("", "0"))
    os.kill(pid, signal.SIGUSR1)
    until(lambda: ") Z " in read_text(f"/proc/{pid}/stat"))
    group.remove()
    assert directories(path) == []
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_creation_clears_what_a_killed_start_left(path: str) -> None:
    old = Child(Cgroup.create(path, {"pids": {"limit": 5}}))
    group = Cgroup.create(path, {})
    assert old.wait() == -signal.SIGKILL
    assert group.pids() == []
    assert group.stats().pids_limit is None


def test_a_limit_can_be_added_to_a_running_group(path: str) -> None:
    group = Cgroup.create(path, {})
    children = [Child(group) for _ in range(3)]
    until(lambda: len(group.pids()) == 3)
    Cgroup.open(path).apply({"cpu": {"shares": 256}})
    group = Cgroup.open(path)
    assert file_of(group, "cpu", "cpu.shares", "cpu.weight") == ("256" if group.v1 else "35")
    if group.v1:
        assert sorted(map(int, read_text(f"{group.v1['cpu']}/cgroup.procs").split())) == group.pids()
    group.kill()
    assert [child.wait() for child in children] == [-signal.SIGKILL] * 3


@pytest.mark.needs("cgroup1", "memory")
def test_a_limit_below_what_is_in_use_is_a_conflict(path: str) -> None:
    group = Cgroup.create(path, {"memory": {"limit": 64 * MIB}})
    reader, writer = os.pipe()

    def hold() -> None:
        block = use_memory(32 * MIB)
        os.write(writer, b".")
        assert block
        signal.pause()

    child = Child(group, hold)
    os.close(writer)
    assert os.read(reader, 1) == b"."
    with pytest.raises(Conflict, match=r"memory\.limit"):
        group.apply({"memory": {"limit": 1 * MIB}})
    group.kill()
    child.wait()
    os.close(reader)


@pytest.mark.needs("cgroup2", "memory")
def test_unified_settings_reach_their_files(path: str) -> None:
    group = Cgroup.create(path, {"unified": {"memory.high": "33554432"}})
    assert read_text(f"{group.v2}/memory.high").strip() == "33554432"


@pytest.mark.needs("hybrid")
def test_a_controller_that_is_on_v1_is_not_promised_on_v2(path: str) -> None:
    with pytest.raises(Unsupported, match=r"controller memory"):
        Cgroup.create(path, {"unified": {"memory.high": "1"}})
    assert directories(path) == []


def test_concurrent_creation_and_removal_do_not_disturb_each_other(path: str) -> None:
    workers = []
    for number in range(8):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for turn in range(10):
                    group = Cgroup.create(f"{path}-{number}-{turn}", {"pids": {"limit": 9}})
                    assert Child(group, lambda: None).wait() == 0
                    group.remove()
                code = 0
            finally:
                os._exit(code)
        workers.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in workers] == [0] * 8


def test_container_that_is_paused_after_its_record_was_read_is_killed(path: str, tmp_path: pathlib.Path) -> None:
    """With v1's freezer a frozen process keeps its SIGKILL to itself: who kills learns of the `pause` only by that."""
    parent, _, container_id = path.rpartition("/")
    group = Cgroup.create(path, {})
    child = Child(group)
    record = ContainerRecord(
        id=container_id, name="c", command="", created_ns=0, status="running", config={"cgroup_parent": parent}, pid=child.pid,
        start_time=read_start_time(child.pid), boot_id=boot_id())
    group.freeze()
    began = time.monotonic()
    assert kill_whole(Store(Layout(str(tmp_path))), record)
    assert time.monotonic() - began < 5 * PATIENCE
    assert child.wait() == -signal.SIGKILL
