"""The finer limits: ulimits, sysctls, and what is in the cgroup. Also run in the guest with cgroup v2."""
from __future__ import annotations

import os

import pytest
from harness import Mydocker

from mydocker.linux.cgroup.hierarchy import hierarchy

pytestmark = [pytest.mark.needs("root", "overlay")]


def cgroup_value(mydocker: Mydocker, name: str, controller: str, on_v1: str, on_v2: str) -> str:
    found = hierarchy()
    container_id = mydocker.directory_of(name).rpartition("/")[2]
    place, file = (found.v1[controller], on_v1) if controller in found.v1 else (found.v2, on_v2)
    with open(f"{place}/mydocker/{container_id}/{file}", encoding="ascii") as stream:
        return stream.read().strip()


def test_ulimits_are_set_soft_and_hard(mydocker: Mydocker, busybox: str) -> None:
    out = mydocker(
        "run", "--rm", "--ulimit", "nofile=10:20", "--ulimit", "core=-1", "--ulimit", "nproc=1000", "--ulimit", "memlock=65536",
        busybox, "cat", "/proc/self/limits").out
    limits = {line[:25].strip(): line[25:].split()[:2] for line in out.splitlines()}
    assert limits["Max open files"] == ["10", "20"]
    assert limits["Max core file size"] == ["unlimited", "unlimited"]
    assert limits["Max processes"] == ["1000", "1000"]
    assert limits["Max locked memory"] == ["65536", "65536"]


def test_ulimits_hold_for_exec_too(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "--name", "c", "--ulimit", "nofile=64:128", busybox, "sleep", "1000")
    assert mydocker("exec", "c", "sh", "-c", "ulimit -n; ulimit -Hn").out.split() == ["64", "128"]


def test_sysctls_of_the_containers_namespaces_only(mydocker: Mydocker, busybox: str) -> None:
    with open("/proc/sys/kernel/msgmax", encoding="ascii") as stream:
        before = stream.read()
    out = mydocker(
        "run", "--rm", "--sysctl", "net.ipv4.ip_local_port_range=2000 3000", "--sysctl", "kernel.msgmax=9000", "--sysctl",
        "net/ipv4/ip_forward=1", busybox, "cat", "/proc/sys/net/ipv4/ip_local_port_range", "/proc/sys/kernel/msgmax",
        "/proc/sys/net/ipv4/ip_forward").out
    assert out.split() == ["2000", "3000", "9000", "1"]
    with open("/proc/sys/kernel/msgmax", encoding="ascii") as stream:
        assert stream.read() == before


@pytest.mark.parametrize("setting", ["kernel.core_pattern=|/x", "vm.swappiness=1", "a=1+kernel.core_pattern=|/x", "foo"])
def test_sysctls_of_the_machine_are_refused(mydocker: Mydocker, busybox: str, setting: str) -> None:
    with open("/proc/sys/kernel/core_pattern", encoding="ascii") as stream:
        before = stream.read()
    mydocker("run", "--rm", "--sysctl", setting, busybox, "true", code=125).one_error_line()
    with open("/proc/sys/kernel/core_pattern", encoding="ascii") as stream:
        assert stream.read() == before


@pytest.mark.needs("memory")
def test_memory_reservation(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "--name", "c", "-m", "64m", "--memory-reservation", "32m", busybox, "sleep", "1000")
    assert cgroup_value(mydocker, "c", "memory", "memory.soft_limit_in_bytes", "memory.low") == str(32 << 20)


@pytest.mark.needs("memory", "cgroup1")
def test_swappiness_and_no_oom_killer(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "--name", "c", "-m", "64m", "--memory-swappiness", "7", "--oom-kill-disable", busybox, "sleep", "1000")
    assert cgroup_value(mydocker, "c", "memory", "memory.swappiness", "") == "7"
    assert "oom_kill_disable 1" in cgroup_value(mydocker, "c", "memory", "memory.oom_control", "")


@pytest.mark.needs("cpu")
def test_cpu_quota_and_period(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "--name", "c", "--cpu-quota", "25000", "--cpu-period", "50000", busybox, "sleep", "1000")
    if "cpu" in hierarchy().v1:
        assert cgroup_value(mydocker, "c", "cpu", "cpu.cfs_quota_us", "") == "25000"
        assert cgroup_value(mydocker, "c", "cpu", "cpu.cfs_period_us", "") == "50000"
    else:
        assert cgroup_value(mydocker, "c", "cpu", "", "cpu.max") == "25000 50000"


@pytest.mark.needs("blkio")
def test_rates_of_a_block_device(mydocker: Mydocker, busybox: str) -> None:
    numbers = os.stat("/dev/loop0").st_rdev
    device = f"{os.major(numbers)}:{os.minor(numbers)}"
    mydocker(
        "run", "-d", "--name", "c", "--device-read-bps", "/dev/loop0:1mb", "--device-write-iops", "/dev/loop0:100", busybox,
        "sleep", "1000")
    if "blkio" in hierarchy().v1:
        assert cgroup_value(mydocker, "c", "blkio", "blkio.throttle.read_bps_device", "") == f"{device} 1048576"
        assert cgroup_value(mydocker, "c", "blkio", "blkio.throttle.write_iops_device", "") == f"{device} 100"
    else:
        assert cgroup_value(mydocker, "c", "io", "", "io.max") == f"{device} rbps=1048576 wbps=max riops=max wiops=100"


def test_seccomp_is_on_by_default_off_on_request_and_a_profile_of_the_users(
    mydocker: Mydocker, busybox: str, scratch: str,
) -> None:
    look = (busybox, "grep", "^Seccomp:", "/proc/self/status")
    assert mydocker("run", "--rm", *look).out.split()[1] == "2"
    assert mydocker("run", "--rm", "--security-opt", "seccomp=builtin", *look).out.split()[1] == "2"
    assert mydocker("run", "--rm", "--security-opt", "seccomp=unconfined", *look).out.split()[1] == "0"
    profile = f"{scratch}/profile.json"
    with open(profile, "w", encoding="ascii") as stream:
        stream.write('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}')
    done = mydocker("run", "--rm", "--security-opt", f"seccomp={profile}", busybox, "mkdir", "/x", code=1)
    assert "Operation not permitted" in done.err
    mydocker("run", "-d", "--name", "c", "--security-opt", f"seccomp={profile}", busybox, "sleep", "1000")
    os.unlink(profile)  # read when the container was made
    mydocker("exec", "c", "mkdir", "/x", code=1)
    mydocker("restart", "-t", "0", "c")
    mydocker("exec", "c", "mkdir", "/x", code=1)
    done = mydocker("run", "--rm", "--security-opt", f"seccomp={profile}", busybox, "true", code=125)
    assert profile in done.one_error_line()
