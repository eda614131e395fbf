"""Limits: what is written into the cgroup, and that it bites. Also run in a guest with cgroup v2 only."""
from __future__ import annotations

import os
import time

import pytest
from harness import Mydocker, until

from mydocker.linux.cgroup.hierarchy import hierarchy

pytestmark = [pytest.mark.needs("root", "overlay")]

MIB = 1 << 20
#: controller -> (file of cgroup v1, file of cgroup v2)
FILES = {
    "memory": ("memory.limit_in_bytes", "memory.max"), "swap": ("memory.memsw.limit_in_bytes", "memory.swap.max"),
    "shares": ("cpu.shares", "cpu.weight"), "cpuset": ("cpuset.cpus", "cpuset.cpus"), "pids": ("pids.max", "pids.max"),
    "quota": ("cpu.cfs_quota_us", "cpu.max"),
}
CONTROLLERS = {"swap": "memory", "shares": "cpu", "quota": "cpu"}


def cgroup_file(mydocker: Mydocker, name: str, limit: str) -> tuple[bool, str]:
    """Return (is it v1, content) of the file that holds a container's limit."""
    found = hierarchy()
    controller = CONTROLLERS.get(limit, limit)
    container_id = mydocker.directory_of(name).rpartition("/")[2]
    is_v1 = controller in found.v1
    place = found.v1[controller] if is_v1 else found.v2
    with open(f"{place}/mydocker/{container_id}/{FILES[limit][0 if is_v1 else 1]}", encoding="ascii") as stream:
        return is_v1, stream.read().strip()


def start(mydocker: Mydocker, busybox: str, *options: str) -> None:
    mydocker("run", "-d", "-name", "c", *options, busybox, "sleep", "1000")


@pytest.mark.needs("memory")
@pytest.mark.parametrize("spelling", [["-m", "64m"], ["--memory=67108864"], ["-memory", "0.0625g"]], ids=" ".join)
def test_memory_limit_is_in_the_cgroup(mydocker: Mydocker, busybox: str, spelling: list[str]) -> None:
    start(mydocker, busybox, *spelling)
    assert cgroup_file(mydocker, "c", "memory")[1] == str(64 * MIB)


@pytest.mark.needs("swap_limit")
@pytest.mark.parametrize(
    ("options", "total_mib"), [(["-m", "64m"], 128), (["-m", "64m", "--memory-swap", "96m"], 96), (["-m", "64m", "--memory-swap", "64m"], 64)],
    ids=["twice by default", "given", "no swap at all"],
)
def test_swap_limit_is_memory_and_swap_together(mydocker: Mydocker, busybox: str, options: list[str], total_mib: int) -> None:
    start(mydocker, busybox, *options)
    is_v1, text = cgroup_file(mydocker, "c", "swap")
    assert int(text) == (total_mib if is_v1 else total_mib - 64) * MIB


@pytest.mark.needs("cpu")
@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (512, 59), (1024, 100), (262144, 10000)])
def test_cpu_shares_are_in_the_cgroup_as_shares_or_weight(mydocker: Mydocker, busybox: str, shares: int, weight: int) -> None:
    start(mydocker, busybox, "-cpushare", str(shares))
    is_v1, text = cgroup_file(mydocker, "c", "shares")
    assert int(text) == (shares if is_v1 else weight)


@pytest.mark.needs("cpu")
def test_cpu_quota_is_in_the_cgroup_and_bites(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "c", "--cpus", "0.2", busybox, "sh", "-c", "while :; do :; done")
    is_v1, text = cgroup_file(mydocker, "c", "quota")
    assert text == ("20000" if is_v1 else "20000 100000")
    began, used = time.monotonic(), mydocker.inspect("c")["resources"]["cpuNs"]
    time.sleep(1.0)  # a span to measure over
    spent_ns = mydocker.inspect("c")["resources"]["cpuNs"] - used
    assert spent_ns / 1e9 / (time.monotonic() - began) < 0.35


@pytest.mark.needs("cpuset")
def test_cpuset_is_in_the_cgroup_and_is_what_the_process_may_use(mydocker: Mydocker, busybox: str) -> None:
    start(mydocker, busybox, "-cpuset", "0")
    assert cgroup_file(mydocker, "c", "cpuset")[1] == "0"
    assert "Cpus_allowed_list:\t0\n" in mydocker("exec", "c", "cat", "/proc/self/status").out


@pytest.mark.needs("pids")
def test_pids_limit_is_in_the_cgroup_and_bites(mydocker: Mydocker, busybox: str) -> None:
    start(mydocker, busybox, "--pids-limit", "8")
    assert cgroup_file(mydocker, "c", "pids")[1] == "8"
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 100 & done; wait"
    failed = mydocker("exec", "c", "sh", "-c", script, code=None)
    assert failed.code != 0
    assert "fork" in failed.err


@pytest.mark.needs("memory")
def test_exceeded_memory_limit_is_told_apart_from_a_kill(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-name", "oom", "-m", "16m", "--memory-swap", "16m", busybox, "tail", "/dev/zero", code=137)
    mydocker("run", "-d", "-name", "killed", "-m", "16m", busybox, "sleep", "1000")
    mydocker("kill", "killed")
    rows = mydocker.rows()
    assert (rows["oom"]["EXIT"], rows["killed"]["EXIT"]) == ("137 (out of memory)", "137 (SIGKILL)")
    assert mydocker.inspect("oom")["state"]["oomKilled"] is True
    assert mydocker.inspect("killed")["state"]["oomKilled"] is False
    assert mydocker.inspect("oom")["resources"]["memoryPeakBytes"] > 14 * MIB


@pytest.mark.needs("memory")
def test_memory_limit_that_is_kept_lets_the_command_live(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "--rm", "-m", "64m", busybox, "dd", "if=/dev/zero", "of=/dev/null", "bs=16M", "count=4")


def test_limits_hold_again_after_a_restart(mydocker: Mydocker, busybox: str) -> None:
    start(mydocker, busybox, "-m", "64m", "-cpushare", "512")
    before = [cgroup_file(mydocker, "c", limit) for limit in ("memory", "shares")]
    mydocker("restart", "-t", "0", "c")
    assert [cgroup_file(mydocker, "c", limit) for limit in ("memory", "shares")] == before


def test_cgroup_has_the_containers_processes_only_and_goes_with_it(mydocker: Mydocker, busybox: str) -> None:
    start(mydocker, busybox)
    mydocker("exec", "-d", "c", "sleep", "999")
    found = hierarchy()
    container_id = mydocker.directory_of("c").rpartition("/")[2]
    places = [f"{place}/mydocker/{container_id}" for place in {*found.v1.values(), found.v2} if place]
    mine = [place for place in places if os.path.isdir(place)]
    assert mine
    for place in mine:
        with open(f"{place}/cgroup.procs", encoding="ascii") as stream:
            pids = stream.read().split()
        assert str(mydocker.pid_of("c")) in pids
        assert str(mydocker.monitor_of("c")) not in pids
        assert str(os.getpid()) not in pids
    mydocker("stop", "-t", "0", "c")
    until(lambda: not any(os.path.isdir(place) for place in mine))


def test_cgroup_is_read_only_inside(mydocker: Mydocker, busybox: str) -> None:
    script = "find /sys/fs/cgroup -name cgroup.procs | while read f; do echo 1 2>/dev/null >$f && echo wrote $f; done; mkdir /sys/fs/cgroup/x 2>&1"
    shown = mydocker("run", "--rm", busybox, "sh", "-c", script, code=None)
    assert "wrote" not in shown.out
    assert "Read-only" in shown.out


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["-m", "1m"], "memory"), (["-m", "lots"], "memory"), (["-m", "-5"], "memory"), (["--memory-swap", "64m"], "memory_swap"),
        (["-m", "64m", "--memory-swap", "32m"], "memory_swap"), (["-cpushare", "x"], "cpu_shares"), (["-cpuset", "abc"], "cpuset"),
        (["-cpuset", "999"], "cpuset"), (["--cpus", "0.001"], "cpus"), (["--cpus", "10000"], "cpus"), (["--pids-limit", "x"], "pids_limit"),
        (["-cpuset", "1-0"], "cpuset"), (["--cpuset-mems", "99"], "cpuset"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_impossible_limit_is_refused_in_one_line_and_nothing_is_left(
    mydocker: Mydocker, busybox: str, options: list[str], named: str,
) -> None:
    line = mydocker("run", *options, busybox, "true", code=125).one_error_line()
    assert named in line.replace("-", "_")
    assert mydocker.leftovers() == []
