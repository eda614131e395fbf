"""Namespaces of other containers, and the small process 1 of --init. Also run in the guest with cgroup v2."""
from __future__ import annotations

import os
import time

import pytest
from harness import Mydocker, until

from mydocker import Engine
from mydocker.base.errors import Conflict

pytestmark = [pytest.mark.needs("root", "overlay")]


def inside(mydocker: Mydocker, name: str, kind: str) -> str:
    return mydocker("exec", name, "readlink", f"/proc/self/ns/{kind}").out.strip()


@pytest.fixture
def donor(mydocker: Mydocker, busybox: str) -> str:
    """A running container that shares."""
    mydocker(
        "run", "-d", "--name", "donor", "--ipc", "shareable", "--shm-size", "1m", busybox,
        "sh", "-c", "echo shared > /dev/shm/x; sleep 1000")
    until(lambda: "x" in mydocker("exec", "donor", "ls", "/dev/shm").out, what="for the shared file")
    return "donor"


@pytest.mark.parametrize(("kind", "option"), [("pid", "--pid"), ("ipc", "--ipc"), ("uts", "--uts"), ("cgroup", "--cgroupns")])
def test_a_namespace_of_another_container_is_shared(mydocker: Mydocker, busybox: str, donor: str, kind: str, option: str) -> None:
    found = mydocker("run", "--rm", option, f"container:{donor}", busybox, "readlink", f"/proc/self/ns/{kind}").out.strip()
    assert found == inside(mydocker, donor, kind)
    assert found != os.readlink(f"/proc/self/ns/{kind}")


def test_processes_host_name_and_shared_memory_of_another_container(mydocker: Mydocker, busybox: str, donor: str) -> None:
    join = [f"--pid=container:{donor}", f"--ipc=container:{donor}", f"--uts=container:{donor}"]
    done = mydocker("run", "--rm", *join, busybox, "sh", "-c", "cat /dev/shm/x; hostname; ps; df /dev/shm; echo mine > /dev/shm/y")
    assert done.out.splitlines()[:2] == ["shared", mydocker.directory_of(donor).rpartition("/")[2]]
    assert "sleep 1000" in done.out
    assert " 1024 " in done.out
    assert mydocker("exec", donor, "cat", "/dev/shm/y").out == "mine\n"


def test_the_spec_says_which_namespace_and_restarts_find_the_new_one(mydocker: Mydocker, busybox: str, donor: str) -> None:
    mydocker("run", "-d", "--name", "c", f"--pid=container:{donor}", busybox, "sleep", "1000")

    def path() -> str:
        (found,) = [item for item in mydocker.inspect("c")["spec"]["linux"]["namespaces"] if item["type"] == "pid"]
        return str(found["path"])

    assert path() == f"/proc/{mydocker.pid_of(donor)}/ns/pid"
    assert mydocker.inspect("c")["config"]["isolation"] == {
        "pid_mode": f"container:{mydocker.directory_of(donor).rpartition('/')[2]}"}
    assert "sleep 1000" in mydocker("exec", "c", "ps").out
    mydocker("stop", "-t", "0", donor)  # its pid namespace ends with it, and so does everything in there
    until(lambda: mydocker.rows()["c"]["STATUS"] == "exited", what="for the end")
    assert "it is stopped" in mydocker("start", "c", code=125).one_error_line()
    mydocker("start", donor, "c")
    assert path() == f"/proc/{mydocker.pid_of(donor)}/ns/pid"


def test_a_container_that_does_not_run_share_or_exist_cannot_be_joined(mydocker: Mydocker, busybox: str, donor: str) -> None:
    mydocker("create", "--name", "idle", busybox, "true")
    mydocker("run", "-d", "--name", "private", busybox, "sleep", "1000")
    for mode, text in (
        ("--pid=container:idle", "join the pid namespace of container idle: it is created"),
        ("--pid=container:nope", "no container nope"),
        ("--ipc=container:private", "non-shareable IPC"),
    ):
        assert text in mydocker("run", "--rm", mode, busybox, "true", code=125).one_error_line()


def test_a_recycled_pid_in_the_record_is_not_joined(engine: Engine, busybox: str) -> None:
    donor = engine.containers.run(busybox, ["sleep", "1000"], name="donor", detach=True)
    record = engine.store.load(donor.id)
    try:
        with engine.store.lock(donor.id):
            engine.store.save(record.replace(pid=os.getpid()))
        with pytest.raises(Conflict, match="donor"):
            engine.containers.run(busybox, ["true"], pid="container:donor", rm=True)
    finally:
        with engine.store.lock(donor.id):
            engine.store.save(record)


def test_init_is_process_1_reaps_orphans_and_passes_the_code_on(mydocker: Mydocker, busybox: str) -> None:
    done = mydocker("run", "--rm", "--init", busybox, "sh", "-c", "cat /proc/1/comm; echo $$; grep CapPrm /proc/*/status; exit 7", code=7)
    assert done.out.splitlines()[1] == "2"
    assert len({line.split()[1] for line in done.out.splitlines()[2:]}) == 1  # process 1 has no more rights than the command
    mydocker("run", "-d", "--name", "c", "--init", busybox, "sh", "-c", "(sh -c 'sleep 0.1 & echo' &); sleep 1000")
    time.sleep(0.5)
    assert "Z" not in {line.split()[1] for line in mydocker("exec", "c", "ps", "-o", "pid,stat").out.splitlines()[1:]}


def test_init_passes_signals_on_to_a_command_that_handles_none(mydocker: Mydocker, busybox: str) -> None:
    # As process 1 itself it would not feel them.
    mydocker("run", "-d", "--name", "c", "--init", busybox, "sleep", "1000")
    began = time.monotonic()
    mydocker("stop", "-t", "20", "c")
    assert time.monotonic() - began < 15
    assert mydocker.inspect("c")["state"]["exitCode"] == 143
    mydocker("run", "-d", "--name", "d", "--init", busybox, "sh", "-c", "trap 'echo got; exit 3' USR1; while :; do sleep 0.05; done")
    time.sleep(0.3)
    mydocker("kill", "-s", "USR1", "d")
    assert mydocker("wait", "d").out == "3\n"
    assert mydocker("logs", "d").out == "got\n"


def test_init_ends_with_the_command_though_others_run_on(mydocker: Mydocker, busybox: str) -> None:
    began = time.monotonic()
    mydocker("run", "--rm", "--init", busybox, "sh", "-c", "sleep 1000 & exit 4", code=4)
    assert time.monotonic() - began < 20


def test_init_reports_a_command_that_is_not_there_or_killed(mydocker: Mydocker, busybox: str) -> None:
    assert "nope" in mydocker("run", "--rm", "--init", busybox, "nope", code=127).one_error_line()
    mydocker("run", "--rm", "--init", busybox, "/etc/passwd", code=126)
    mydocker("run", "--rm", "--init", busybox, "sh", "-c", "kill -9 $$", code=137)


def test_init_leaves_the_terminal_to_the_command(mydocker: Mydocker, busybox: str) -> None:
    with mydocker.terminal("run", "-ti", "--init", busybox, "sh", "-c", "echo ready; cat; echo after") as terminal:
        terminal.expect("ready")
        terminal.type("word\n")
        terminal.expect("word\r\nword")
        terminal.type("\x03")
        assert terminal.wait() == 130


def test_init_with_another_user_and_the_filter_in_force(mydocker: Mydocker, busybox: str) -> None:
    out = mydocker(
        "run", "--rm", "--init", "-u", "1000", "--security-opt", "no-new-privileges", busybox,
        "sh", "-c", "grep -h -e ^Uid -e ^NoNew -e ^Seccomp: -e ^CapPrm /proc/1/status /proc/self/status").out
    assert out.count("CapPrm:\t0000000000000000") == 2
    assert out.count("Uid:\t1000\t1000") == 2
    assert out.count("NoNewPrivs:\t1") == 2
    assert out.count("Seccomp:\t2") == 2
