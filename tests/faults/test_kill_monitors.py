"""kill -9 of monitors and of containers' first processes, at several moments; and inits that fail by themselves."""
from __future__ import annotations

import os
import signal
import subprocess

import pytest
from fault_rig import (
    KILLED,
    SLEEP,
    begun,
    cgroup_pids,
    check_ps,
    error_of,
    only_id,
    remove_all,
    settle,
    sleepers,
    wait_process,
)
from harness import Mydocker, is_running, until

pytestmark = [pytest.mark.needs("root", "overlay")]

MONITOR = ("mydocker-monitor",)


def wait_init(mydocker: Mydocker, container_id: str) -> int:
    """Wait for the first process of a container in the making, in its cgroup, and return its pid."""
    until(lambda: cgroup_pids(container_id), what="for an init")
    (pid,) = cgroup_pids(container_id)
    return pid


@pytest.mark.parametrize("verb", ["run -d", "run --rm", "create"])
@pytest.mark.parametrize("moment", ["init began", "init made root"])
def test_monitor_killed_while_the_container_is_made(mydocker: Mydocker, busybox: str, moment: str, verb: str) -> None:
    with begun(mydocker, f"{moment}=sleep:0.5", *verb.split(), "-name", "c", busybox, *SLEEP) as command:
        monitor = wait_process(only_id(mydocker), *MONITOR)
        assert check_ps(mydocker) == {}
        os.kill(monitor, signal.SIGKILL)
        error_of(command)
    assert mydocker.leftovers() == []
    settle(mydocker, "")


def test_command_and_monitor_killed_while_the_container_is_made(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    with begun(
        mydocker, "init began=sleep:0.5", "run", "-d", "-name", "c", "-v", f"{scratch}:/s", busybox, "touch", "/s/ran",
    ) as command:
        monitor = wait_process(only_id(mydocker), *MONITOR)
        command.kill()
        os.kill(monitor, signal.SIGKILL)
    settle(mydocker, "")
    assert os.listdir(scratch) == []


def test_init_lives_no_longer_than_its_killed_stage(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    # Nobody is there to say START when it has made its root.
    with begun(
        mydocker, "forked stage=kill,cloned init=kill,init began=sleep:0.5", "run", "-d", "-name", "c", "-v", f"{scratch}:/s",
        busybox, "sh", "-c", f"touch /s/ran; exec sleep {SLEEP[1]}",
    ) as command:
        init = wait_init(mydocker, only_id(mydocker))
        assert command.wait(10) == KILLED
        assert check_ps(mydocker) == {}  # its lock is still held by the init, but it is no container
    until(lambda: not is_running(init))
    settle(mydocker, "")
    assert os.listdir(scratch) == []


@pytest.mark.parametrize("verb", ["run -d", "run", "create"])
@pytest.mark.parametrize("moment", ["init began", "init made root"])
def test_init_killed_while_it_makes_the_container(mydocker: Mydocker, busybox: str, moment: str, verb: str) -> None:
    with begun(mydocker, f"{moment}=sleep:2", *verb.split(), "-name", "c", busybox, *SLEEP) as command:
        container_id = only_id(mydocker)
        init = wait_init(mydocker, container_id)
        wait_process(container_id, *MONITOR)
        os.kill(init, signal.SIGKILL)
        assert "ended with exit code 137 before its command ran" in error_of(command)
    assert mydocker.leftovers() == []
    settle(mydocker, "")


def test_command_and_init_killed_while_the_container_is_made(mydocker: Mydocker, busybox: str) -> None:
    with begun(mydocker, "init began=sleep:2", "run", "-d", "-name", "c", busybox, *SLEEP) as command:
        container_id = only_id(mydocker)
        init = wait_init(mydocker, container_id)
        wait_process(container_id, *MONITOR)
        command.kill()
        os.kill(init, signal.SIGKILL)
    settle(mydocker, "")


def test_monitor_of_a_created_container_killed_ends_it(mydocker: Mydocker, busybox: str) -> None:
    mydocker("create", "-name", "c", busybox, "sh", "-c", "test -e /again || exit 0; exec sleep 1000")
    pid = mydocker.pid_of("c")
    os.kill(mydocker.monitor_of("c"), signal.SIGKILL)
    until(lambda: not is_running(pid))
    assert mydocker.rows()["c"]["STATUS"] == "exited"
    assert "not seen" in mydocker.inspect("c")["state"]["error"]
    mydocker("start", "c")
    until(lambda: check_ps(mydocker) == {"c": "exited"} and mydocker.rows()["c"]["EXIT"] == "0")
    remove_all(mydocker)


def test_init_of_a_created_container_killed_ends_it(mydocker: Mydocker, busybox: str) -> None:
    mydocker("create", "-name", "c", busybox, *SLEEP)
    os.kill(mydocker.pid_of("c"), signal.SIGKILL)
    until(lambda: check_ps(mydocker) == {"c": "exited"})
    mydocker("start", "c")
    settle(mydocker, "running")


def test_monitor_of_a_running_container_killed_lets_it_run_on(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    pid = mydocker.pid_of("c")
    os.kill(mydocker.monitor_of("c"), signal.SIGKILL)
    until(lambda: not any(argv[0] == "mydocker-monitor" for _, argv in sleepers()))
    assert mydocker.pid_of("c") == pid
    assert mydocker("exec", "c", "echo", "works").out == "works\n"
    mydocker("stop", "-t", "0", "c")
    assert not is_running(pid)
    settle(mydocker, "stopped")


@pytest.mark.parametrize("verb", ["rm -f", "kill", "restart -t 0"])
def test_container_without_a_monitor_obeys(mydocker: Mydocker, busybox: str, verb: str) -> None:
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    pid = mydocker.pid_of("c")
    os.kill(mydocker.monitor_of("c"), signal.SIGKILL)
    mydocker(*verb.split(), "c")
    assert not is_running(pid)
    settle(mydocker, {"rm -f": "", "kill": "exited", "restart -t 0": "running"}[verb])


@pytest.mark.parametrize("options", [[], ["--rm"]], ids=["kept", "rm"])
def test_end_that_no_monitor_saw_is_told_as_unknown(mydocker: Mydocker, busybox: str, options: list[str]) -> None:
    mydocker("run", "-d", "-name", "c", *options, busybox, *SLEEP)
    pid = mydocker.pid_of("c")
    os.kill(mydocker.monitor_of("c"), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_running(pid))
    if not options:
        assert mydocker("wait", "c").out == "255\n"
        assert mydocker.rows()["c"]["EXIT"] == "255"
    settle(mydocker, "" if options else "exited")


def test_owner_of_a_foreground_run_is_told_that_the_monitor_is_gone(mydocker: Mydocker, busybox: str) -> None:
    with begun(mydocker, "", "run", "-name", "c", busybox, *SLEEP) as command:
        until(lambda: check_ps(mydocker) == {"c": "running"})
        os.kill(mydocker.monitor_of("c"), signal.SIGKILL)
        error_of(command)
    settle(mydocker, "running")


def test_monitor_killed_when_its_container_has_just_ended(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    monitor, pid = mydocker.monitor_of("c"), mydocker.pid_of("c")
    os.kill(monitor, signal.SIGSTOP)  # so that it does not see the end
    os.kill(pid, signal.SIGKILL)
    os.kill(monitor, signal.SIGKILL)
    until(lambda: not is_running(monitor) and not is_running(pid))
    assert check_ps(mydocker) == {"c": "exited"}
    settle(mydocker, "exited")


def test_container_killed_is_told_with_its_signal(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    os.kill(mydocker.pid_of("c"), signal.SIGKILL)
    until(lambda: check_ps(mydocker) == {"c": "exited"})
    assert mydocker.rows()["c"]["EXIT"] == "137 (SIGKILL)"
    settle(mydocker, "exited")


def sessions(container_id: str, first: int) -> set[int]:
    """Return the pids of the commands that were executed in a container."""
    commands = {pid for pid, argv in sleepers() if argv[0] == "sleep"}
    return (cgroup_pids(container_id) & commands) - {first}


@pytest.mark.parametrize("killed", ["monitor", "process"])
def test_exec_session_killed_leaves_the_container(mydocker: Mydocker, busybox: str, killed: str) -> None:
    mydocker("run", "-d", "-name", "c", busybox, "sleep", "1000")
    (container_id,) = mydocker.container_ids()
    first = mydocker.pid_of("c")
    with begun(mydocker, "", "exec", "c", *SLEEP) as command:
        # The process that enters is there for a moment, too, before the command is.
        until(lambda: sessions(container_id, first))
        (pid,) = sessions(container_id, first)
        with open(f"/proc/{pid}/stat", encoding="ascii") as stream:
            monitor = int(stream.read().rpartition(")")[2].split()[1])
        os.kill(monitor if killed == "monitor" else pid, signal.SIGKILL)
        if killed == "monitor":
            error_of(command)
        else:
            assert command.wait(10) == 137
    assert check_ps(mydocker) == {"c": "running"}
    settle(mydocker, "running")


@pytest.mark.parametrize("verb", ["run -d", "run", "run --rm", "create"])
@pytest.mark.parametrize(("options", "argv", "code"), [
    (["-v", "/etc/passwd:/etc"], SLEEP, 125), (["-u", "nobody-there"], SLEEP, 125), ([], ("missing-command",), 127),
    ([], ("/etc",), 126),
], ids=["mount", "user", "missing", "directory"])
def test_init_that_fails_is_one_line_and_leaves_nothing(
    mydocker: Mydocker, busybox: str, verb: str, options: list[str], argv: tuple[str, ...], code: int,
) -> None:
    done = mydocker(*verb.split(), "-name", "c", *options, busybox, *argv, code=code)
    done.one_error_line()
    assert mydocker.leftovers() == []
    settle(mydocker, "")


def is_settled(mydocker: Mydocker) -> bool:
    """Tell whether nothing is in the making: the stage of a killed command goes on to where the container is `created`."""
    states = check_ps(mydocker).values()
    return not os.listdir(f"{mydocker.root}/creating") and all(state in ("created", "running", "exited") for state in states)


@pytest.mark.time_limit(120)
@pytest.mark.parametrize("whole_family", [False, True], ids=["command", "command and monitor"])
@pytest.mark.parametrize("verb", ["run -d", "run --rm", "create"])
def test_kills_at_any_moment_leave_what_ps_says(mydocker: Mydocker, busybox: str, verb: str, whole_family: bool) -> None:
    for delay_ms in range(2 if whole_family else 0, 62, 5):
        command = mydocker.popen(
            *verb.split(), "-name", "c", busybox, *SLEEP, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        try:
            command.wait(delay_ms / 1000)
        except subprocess.TimeoutExpired:
            pass
        command.kill()
        if whole_family:
            for pid in [pid for pid, argv in sleepers() if argv[0] != "sleep"] + monitors(mydocker):
                kill(pid)
        command.wait()
        check_ps(mydocker)
        until(lambda: is_settled(mydocker), 5, what="for the stage to be done, or what it began to be undone")
        remove_all(mydocker)


def monitors(mydocker: Mydocker) -> list[int]:
    return [int(line.split()[1]) for line in mydocker.processes() if "mydocker-monitor" in line]


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def test_container_whose_monitor_stands_still_can_be_removed(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    monitor = mydocker.monitor_of("c")
    os.kill(monitor, signal.SIGSTOP)
    try:
        mydocker("rm", "-f", "c")
        assert check_ps(mydocker) == {}
    finally:
        os.kill(monitor, signal.SIGCONT)
    until(lambda: not is_running(monitor))
    assert mydocker.container_ids() == []
