"""Monitors, and the stages that become them, that somebody stops (SIGSTOP) or that die on the way past them.

What ends containers by force gets it done, every other command says in seconds who is in the way, and nothing is left or lost.
"""
from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from fault_rig import KILLED, SLEEP, begun, cgroup_pids, cgroups_of, check_ps, error_of, only_id, remove_all, settle
from harness import PATIENCE, Done, Mydocker, is_running, until

from mydocker import Engine, Timeout
from mydocker.base.locks import lock_directory
from mydocker.linux.holders import find_named, find_stopped

pytestmark = [pytest.mark.needs("root", "overlay")]

#: Before there is an init, with one, and when the record says so.
MOMENTS = ["stage began", "listening", "made cgroup", "cloned init", "recorded created"]
#: Seconds in which a command is through, or has told why not, on a machine with other work to do.
BOUND_S = 12
#: Longer than anybody may take to find out who stands still.
LOOKS_S = 2.5 * PATIENCE
MONITOR = "mydocker-monito"


def timely(mydocker: Mydocker, *words: str, code: int | None = 0) -> Done:
    """Run a command that must not take long, whoever stands still."""
    return mydocker(*words, code=code, timeout_s=BOUND_S)


def wait_stopped(mydocker: Mydocker, container_id: str) -> int:
    """Wait for the one process with the container in its hands that stands still, and return its pid."""
    directory = f"{mydocker.root}/container/{container_id}"

    def stopped() -> list[int]:
        return [holder.pid for holder in find_stopped(directory)]

    until(stopped, what="for a process that stands still")
    (pid,) = stopped()
    return pid


def let_go(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[int]:
    """Stop a process; it goes on at the end of the test, if it is still there."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        let_go(pid)


@pytest.mark.parametrize(("moment", "verb"), [*((moment, "rm -f") for moment in MOMENTS), ("made cgroup", "kill")])
def test_first_start_whose_stage_stands_still_is_ended(mydocker: Mydocker, busybox: str, moment: str, verb: str) -> None:
    with begun(mydocker, f"{moment}=stop", "run", "-d", "-name", "c", busybox, *SLEEP) as command:
        stage = wait_stopped(mydocker, only_id(mydocker))
        assert check_ps(mydocker) == {}
        timely(mydocker, *verb.split(), "c")
        assert not is_running(stage)
        error_of(command)
    assert mydocker.leftovers() == []
    settle(mydocker, "")


@pytest.mark.parametrize(("moment", "verb"), [*((moment, "kill") for moment in MOMENTS), ("cloned init", "rm -f")])
def test_start_that_stands_still_after_its_command_was_killed_is_ended(
    mydocker: Mydocker, busybox: str, moment: str, verb: str,
) -> None:
    with begun(mydocker, f"forked stage=kill,{moment}=stop", "run", "-d", "-name", "c", busybox, *SLEEP) as command:
        stage = wait_stopped(mydocker, only_id(mydocker))
        assert command.wait(10) == KILLED
        timely(mydocker, *verb.split(), "c")
        assert not is_running(stage)
    assert mydocker.leftovers() == []
    settle(mydocker, "")


@pytest.mark.parametrize("verb", ["rm -f", "kill"])
@pytest.mark.parametrize("moment", ["init began", "init made root"])
def test_monitor_that_stands_still_while_the_container_is_made_is_ended(
    mydocker: Mydocker, busybox: str, moment: str, verb: str,
) -> None:
    with begun(mydocker, f"{moment}=sleep:{5 * PATIENCE}", "run", "-d", "-name", "c", busybox, *SLEEP) as command:
        container_id = only_id(mydocker)
        until(lambda: find_named((MONITOR,), f"{mydocker.root}/container/{container_id}"))
        with stopped(mydocker.monitor_of("c")) as monitor:
            timely(mydocker, *verb.split(), "c")
            assert not is_running(monitor)
        error_of(command)
    assert mydocker.leftovers() == []
    settle(mydocker, "")


@pytest.mark.parametrize(("points", "verb"), [("recorded pause=sleep:600", "pause"), ("forked stage=sleep:600", "run")])
def test_monitor_that_stands_still_while_another_has_the_lock_is_let_go_on_and_tells_the_end(
    mydocker: Mydocker, busybox: str, points: str, verb: str,
) -> None:
    """Who started a container has its lock until the monitor, which has let go of it, says STARTED; others have their reasons."""
    words = ["-d", "-name", "c", busybox, *SLEEP]
    if verb == "pause":
        mydocker("run", *words)
        words = ["c"]
    with begun(mydocker, points, verb, *words) as command:
        only_id(mydocker)
        until(lambda: check_ps(mydocker).get("c") in ("running", "paused") and is_locked(mydocker))
        with stopped(mydocker.monitor_of("c")) as monitor:
            with begun(mydocker, "", "unpause", "c") as waiting:
                time.sleep(LOOKS_S)
                assert waiting.poll() is None  # it waits for the command
            assert state_of(monitor) == "T"
            with begun(mydocker, "", "kill", "c") as killing:
                until(lambda: state_of(monitor) != "T")
                command.kill()
                assert killing.wait(20) == 0
    assert mydocker.rows()["c"]["EXIT"] == "137 (SIGKILL)"
    settle(mydocker, "exited")


def is_locked(mydocker: Mydocker) -> bool:
    lock = lock_directory(mydocker.directory_of("c"), wait=False)
    if lock is not None:
        lock.close()
    return lock is None


@pytest.mark.parametrize(("moment", "verb"), [
    ("stage began", "rm -f"), ("made cgroup", "kill"), ("cloned init", "rm -f"), ("recorded created", "kill")])
def test_another_start_that_stands_still_is_ended(mydocker: Mydocker, busybox: str, moment: str, verb: str) -> None:
    mydocker("run", "-name", "c", busybox, "true")
    with begun(mydocker, f"{moment}=stop", "start", "c") as command:
        container_id = only_id(mydocker)
        stage = wait_stopped(mydocker, container_id)
        timely(mydocker, *verb.split(), "c")
        assert not is_running(stage)
        error_of(command)
    assert cgroups_of(container_id) == []
    settle(mydocker, "" if verb == "rm -f" else "exited")


def test_another_start_waits_for_a_stage_that_stands_still(mydocker: Mydocker, busybox: str) -> None:
    """As a first start does. One that gave up would fail, and the command run later all the same."""
    mydocker("create", "-name", "c", busybox, *SLEEP)
    mydocker("stop", "c")
    with begun(mydocker, "cloned init=stop", "start", "c") as command:
        stage = wait_stopped(mydocker, only_id(mydocker))
        time.sleep(LOOKS_S)
        assert command.poll() is None
        let_go(stage)
        assert command.wait(20) == 0
    settle(mydocker, "running")


def test_signal_for_a_container_in_the_making_that_fails_says_that_there_is_none(mydocker: Mydocker, busybox: str) -> None:
    with begun(mydocker, "made cgroup=sleep:600", "run", "-d", "-name", "c", busybox, *SLEEP) as command:
        container_id = only_id(mydocker)
        until(lambda: cgroups_of(container_id))
        with begun(mydocker, "", "kill", "-s", "HUP", "c") as killing:
            time.sleep(0.5 * PATIENCE)  # it waits for the lock
            (stage,) = find_named((f"mydocker {container_id}"[:15],), f"{mydocker.root}/container/{container_id}")
            os.kill(stage.pid, signal.SIGKILL)
            assert f"no container {container_id}" in error_of(killing)
        error_of(command)
    settle(mydocker, "")


def test_other_commands_name_the_stage_that_stands_still_and_nothing_is_lost(mydocker: Mydocker, busybox: str) -> None:
    with begun(mydocker, "recorded created=stop", "run", "-d", "-name", "c", busybox, *SLEEP) as command:
        container_id = only_id(mydocker)
        stage = wait_stopped(mydocker, container_id)
        for verb in ("stop", "start", "restart", "pause", "rm", "kill -s TERM"):
            told = timely(mydocker, *verb.split(), "c", code=125).one_error_line()
            assert f"wait for container {container_id}: process {stage} (mydocker " in told, verb
            assert f"kill -CONT {stage}" in told
            assert f"mydocker rm -f {container_id}" in told
        let_go(stage)
        assert command.wait(20) == 0
    settle(mydocker, "running")


def test_suspended_command_that_holds_the_lock_is_named_and_not_killed(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    with begun(mydocker, "recorded pause=stop", "pause", "c") as command:
        container_id = only_id(mydocker)
        pid = wait_stopped(mydocker, container_id)
        for verb in ("stop", "kill", "rm -f"):
            told = timely(mydocker, *verb.split(), "c", code=125).one_error_line()
            assert f"process {pid} " in told
            assert f"kill -CONT {pid}" in told
            assert "rm -f" not in told
        assert is_running(pid)
        let_go(command.pid)
        command.wait(20)
    remove_all(mydocker)


def test_path_too_long_to_be_told_of_somebody_else_is_in_nobodys_way(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    fd = os.open(scratch, os.O_RDONLY)
    for _ in range(30):  # 6000 bytes: /proc shows a page
        os.mkdir("d" * 200, dir_fd=fd)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    with stopped(mydocker.monitor_of("c")) as monitor:
        timely(mydocker, "rm", "-f", "c")
        until(lambda: not is_running(monitor))
    os.close(fd)
    settle(mydocker, "")


@pytest.mark.needs("fuse")
def test_directory_of_a_server_that_is_gone_is_in_nobodys_way(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    """It has the name of the container's, so it is looked at; fstat(2) of it is ENOTCONN."""
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    place = f"{scratch}/{only_id(mydocker)}"
    os.mkdir(place)
    server = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0"
    subprocess.run(["mount", "-i", "-t", "fuse", "-o", options, "none", place], check=True, pass_fds=[server])
    try:
        fd = os.open(place, os.O_PATH)
        os.close(server)
        with subprocess.Popen(["sleep", "600"], pass_fds=[fd]) as program:
            os.close(fd)
            with stopped(program.pid), stopped(mydocker.monitor_of("c")) as monitor:
                timely(mydocker, "rm", "-f", "c")
                until(lambda: not is_running(monitor))
            program.kill()
    finally:
        subprocess.run(["umount", "-l", place], check=True)
    settle(mydocker, "")


@pytest.mark.parametrize("is_in_container", [True, False], ids=["stopped in a container", "running"])
def test_open_files_of_others_cost_a_look_nothing(scratch: str, is_in_container: bool) -> None:
    act = "os.kill(os.getpid(), signal.SIGSTOP)" if is_in_container else "signal.pause()"
    script = ("import os, resource, signal\n"
              "resource.setrlimit(resource.RLIMIT_NOFILE, (9999, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
              f"for _ in range(9900): os.open({scratch!r}, os.O_RDONLY)\n"
              f"for _ in range(20): os.fork() or {act}\n"
              "print('here', flush=True)\n"
              "signal.pause()\n")
    words = [*(["unshare", "--pid", "--fork", "--kill-child"] if is_in_container else []), sys.executable, "-c", script]
    with subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == b"here\n"
            before_s = time.process_time()
            assert find_stopped(scratch) == []
            assert time.process_time() - before_s < 0.3 * PATIENCE  # the files of one of the twenty cost 0.05 s
        finally:
            os.killpg(program.pid, signal.SIGKILL)


def test_suspended_program_whose_name_is_like_ours_is_not_killed(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    mydocker("create", "-name", "c", busybox, *SLEEP)
    directory = mydocker.directory_of("c")
    script = f"{scratch}/mydocker-app"
    with open(script, "w") as stream:
        stream.write(f"#!{sys.executable}\nimport os\nfrom mydocker.base.locks import lock_directory\n"
                     f"lock = lock_directory({directory!r})\nos.kill(os.getpid(), {signal.SIGSTOP:d})\n")
    os.chmod(script, 0o755)
    with subprocess.Popen([script]) as program:
        assert wait_stopped(mydocker, only_id(mydocker)) == program.pid
        told = timely(mydocker, "rm", "-f", "c", code=125).one_error_line()
        assert f"process {program.pid} (mydocker-app)" in told
        let_go(program.pid)
        assert program.wait(10) == 0
    settle(mydocker, "exited")


@pytest.mark.parametrize(("verb", "state"), [("rm -f", ""), ("kill", "exited"), ("stop -t 0", "stopped")])
def test_running_container_whose_monitor_stands_still_ends_with_its_code(
    mydocker: Mydocker, busybox: str, verb: str, state: str,
) -> None:
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    container_id, pid = only_id(mydocker), mydocker.pid_of("c")
    with stopped(mydocker.monitor_of("c")) as monitor:
        timely(mydocker, *verb.split(), "c")
        assert not is_running(pid)
        until(lambda: not is_running(monitor))  # it was let go on, and has recorded the end
        assert cgroup_pids(container_id) == set()
    if state:
        assert mydocker.rows()["c"]["EXIT"] == "137 (SIGKILL)"
    settle(mydocker, state)


@pytest.mark.parametrize(("verb", "state"), [("rm -f", ""), ("kill", "exited"), ("stop -t 0", "stopped")])
def test_monitor_that_a_debugger_holds_is_killed(mydocker: Mydocker, busybox: str, verb: str, state: str) -> None:
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    pid, monitor = mydocker.pid_of("c"), mydocker.monitor_of("c")
    tracer = hold_as_debugger(monitor)
    try:
        timely(mydocker, *verb.split(), "c")
        assert not is_running(pid)
        assert not is_running(monitor)
    finally:
        os.kill(tracer, signal.SIGKILL)
        os.waitpid(tracer, 0)
    settle(mydocker, state)


def hold_as_debugger(pid: int) -> int:
    """Have a child of ours hold a process in a ptrace-stop, which SIGCONT does not end; return the child's pid."""
    import ctypes

    tracer = os.fork()
    if tracer == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        ptrace_attach = 16
        if libc.ptrace(ptrace_attach, pid, None, None) < 0:
            os._exit(1)
        signal.pause()
    until(lambda: state_of(pid) == "t", what="for the debugger")
    return tracer


def state_of(pid: int) -> str:
    with open(f"/proc/{pid}/stat", encoding="ascii") as stream:
        return stream.read().rpartition(")")[2].split()[0]


def fill_backlog(mydocker: Mydocker) -> list[socket.socket]:
    """Connect to the monitor, which does not accept, until no more clients may wait."""
    clients = []
    while True:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        clients.append(client)
        try:
            client.connect(f"{mydocker.directory_of('c')}/control")
        except BlockingIOError:
            return clients


@pytest.mark.parametrize("is_full", [False, True], ids=["backlog", "full backlog"])
def test_commands_that_talk_to_a_monitor_that_stands_still_say_so(mydocker: Mydocker, busybox: str, is_full: bool) -> None:
    mydocker("create", "-name", "c", busybox, *SLEEP)
    with stopped(mydocker.monitor_of("c")) as monitor:
        clients = fill_backlog(mydocker) if is_full else []
        assert check_ps(mydocker) == {"c": "created"}
        for verb in ("start", "attach"):
            told = timely(mydocker, verb, "c", code=125).one_error_line()
            assert "takes no clients" in told if is_full else f"process {monitor} (mydocker-monito)" in told
            assert "mydocker rm -f" in told
        timely(mydocker, "rm", "-f", "c")
        for client in clients:
            client.close()
    until(lambda: not is_running(monitor))
    settle(mydocker, "")


@pytest.mark.parametrize("is_full", [False, True], ids=["backlog", "full backlog"])
def test_wait_for_an_end_that_a_stopped_monitor_does_not_tell_says_so(mydocker: Mydocker, busybox: str, is_full: bool) -> None:
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    pid = mydocker.pid_of("c")
    with stopped(mydocker.monitor_of("c")) as monitor:
        clients = fill_backlog(mydocker) if is_full else []
        os.kill(pid, signal.SIGKILL)
        assert f"process {monitor} (mydocker-monito)" in timely(mydocker, "wait", "c", code=125).one_error_line()
        let_go(monitor)
        for client in clients:
            client.close()
    assert timely(mydocker, "wait", "c").out == "137\n"
    settle(mydocker, "exited")


def test_start_that_gave_up_waiting_for_a_stopped_monitor_starts_nothing_later(mydocker: Mydocker, busybox: str) -> None:
    mydocker("create", "-name", "c", busybox, *SLEEP)
    with stopped(mydocker.monitor_of("c")):
        timely(mydocker, "start", "c", code=125)
    time.sleep(0.3 * PATIENCE)
    assert check_ps(mydocker) == {"c": "created"}
    mydocker("start", "c")
    settle(mydocker, "running")


def test_wait_keeps_its_time_though_the_monitor_takes_no_clients(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    pid = mydocker.pid_of("c")
    with Engine(mydocker.root) as engine, stopped(mydocker.monitor_of("c")):
        container, clients = engine.containers.get("c"), fill_backlog(mydocker)
        os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises(Timeout, match="did not end in the time given"):
            container.wait(1)
        assert time.monotonic() - began < 2.5 * PATIENCE
        for client in clients:
            client.close()
    settle(mydocker, "exited")


def test_exec_works_and_lock_is_free_while_the_monitor_of_a_running_container_stands_still(
    mydocker: Mydocker, busybox: str,
) -> None:
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    with stopped(mydocker.monitor_of("c")):
        began = time.monotonic()
        assert mydocker("exec", "c", "echo", "works").out == "works\n"
        mydocker("pause", "c")
        mydocker("unpause", "c")
        assert time.monotonic() - began < 5 * PATIENCE
    settle(mydocker, "running")


@pytest.mark.parametrize("killed_after_s", [0.2, 1.1, 1.3])
def test_forced_removal_that_is_killed_leaves_what_the_next_one_ends(
    mydocker: Mydocker, busybox: str, killed_after_s: float,
) -> None:
    with begun(mydocker, "cloned init=stop", "run", "-d", "-name", "c", busybox, *SLEEP) as command:
        stage = wait_stopped(mydocker, only_id(mydocker))
        with begun(mydocker, "", "rm", "-f", "c") as removal:
            time.sleep(killed_after_s)
            removal.kill()
        check_ps(mydocker)
        timely(mydocker, "rm", "-f", "c", code=None)  # there may be none any more
        assert not is_running(stage)
        error_of(command)
    assert mydocker.leftovers() == []
    settle(mydocker, "")


@pytest.mark.parametrize("moment", ["cloned exec", ""], ids=["stage", "monitor"])
@pytest.mark.parametrize(("verb", "state"), [("rm -f", ""), ("kill", "exited"), ("stop -t 0", "stopped")])
def test_container_ends_though_nobody_reaps_a_session_in_it(
    mydocker: Mydocker, busybox: str, moment: str, verb: str, state: str,
) -> None:
    """The first process of a pid namespace is not dead before all others are reaped, here by a parent that stands still."""
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    pid, sessions = mydocker.pid_of("c"), f"{mydocker.directory_of('c')}/exec"
    with begun(mydocker, f"{moment}=stop" if moment else "", "exec", "c", *SLEEP) as command:
        until(lambda: os.path.isdir(sessions) and os.listdir(sessions))
        (session,) = (f"{sessions}/{name}" for name in os.listdir(sessions))
        if moment:
            until(lambda: find_stopped(session), what="for the stage")
        else:
            until(lambda: os.path.exists(f"{session}/started"))
        (monitor,) = (holder.pid for holder in find_named((MONITOR, "mydocker exec"), session))
        with stopped(monitor):
            timely(mydocker, *verb.split(), "c")
            assert not is_running(pid)
        command.wait(20)
    settle(mydocker, state)
