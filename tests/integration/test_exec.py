"""`exec`: further processes in a running container, with its namespaces, cgroup, root and environment."""
from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from harness import Mydocker, is_running, until

from mydocker.engine.execs import _make_directory

pytestmark = [pytest.mark.needs("root", "overlay")]


@pytest.fixture
def box(mydocker: Mydocker, busybox: str) -> str:
    """The name of a running container."""
    mydocker("run", "-d", "-name", "box", "-e", "A=1", "-w", "/tmp", busybox, "sleep", "1000")
    return "box"


def test_process_is_in_every_namespace_and_cgroup_of_the_container(mydocker: Mydocker, box: str) -> None:
    pid = mydocker.pid_of(box)
    script = "for k in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$k; done; cat /proc/self/cgroup"
    shown = mydocker("exec", box, "sh", "-c", script).out.splitlines()
    assert shown[:6] == [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("cgroup", "ipc", "mnt", "net", "pid", "uts")]
    inside = [line.split(":", 2) for line in shown[6:]]
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as stream:
        outside = [line.rstrip("\n").split(":", 2) for line in stream]
    ours = {controllers for _, controllers, path in outside if path.startswith("/mydocker/")}
    assert ours
    # The namespace's root is the container's cgroup, so being in it shows as /.
    assert {controllers for _, controllers, path in inside if path == "/"} >= ours


def test_root_working_directory_and_environment_are_the_containers(mydocker: Mydocker, box: str) -> None:
    mydocker("exec", box, "sh", "-c", "echo made >/made")
    assert mydocker("exec", box, "sh", "-c", 'cat /made; pwd; echo "$A"').out == "made\n/tmp\n1\n"


def test_exit_code_and_both_streams_are_passed_on(mydocker: Mydocker, box: str) -> None:
    done = mydocker("exec", box, "sh", "-c", "echo out; echo err >&2; exit 9", code=9)
    assert (done.out, done.err) == ("out\n", "err\n")
    mydocker("exec", box, "sh", "-c", "kill -9 $$", code=137)


def test_output_of_exec_is_not_in_the_log(mydocker: Mydocker, box: str) -> None:
    mydocker("exec", box, "echo", "hidden")
    assert mydocker("logs", box).out == ""


@pytest.mark.parametrize(
    ("words", "command", "shown"),
    [
        (["-e", "A=2", "-e", "B=3"], 'echo "$A$B"', "23"),
        (["-w", "/etc"], "pwd", "/etc"),
        (["-u", "12:34"], "id -u; id -g", "12\n34"),
        (["-u", "daemon"], "id -un", "daemon"),
        (["-user=nobody", "-workdir=/"], "id -u; pwd", "65534\n/"),
        (["--env=A=x"], 'echo "$A"', "x"),
    ],
)
def test_option_changes_what_it_says(mydocker: Mydocker, box: str, words: list[str], command: str, shown: str) -> None:
    assert mydocker("exec", *words, box, "sh", "-c", command).out.strip() == shown


def test_standard_input_reaches_the_command_with_i_only(mydocker: Mydocker, box: str) -> None:
    data = os.urandom(3_000_000)
    assert mydocker("exec", "-i", box, "cat", stdin=data).raw_out == data
    assert mydocker("exec", box, "cat", stdin=b"given").out == ""


def test_detached_command_goes_on_after_we_have_returned(mydocker: Mydocker, box: str) -> None:
    mydocker("exec", "-d", box, "sh", "-c", "echo begun >/begun; sleep 500")
    until(lambda: mydocker("exec", box, "sh", "-c", "cat /begun 2>/dev/null; true").out == "begun\n")
    assert "sleep 500" in mydocker("exec", box, "ps").out
    mydocker("rm", "-f", box)
    assert mydocker.leftovers() == []


def test_terminal_of_exec_is_the_containers_own(mydocker: Mydocker, box: str) -> None:
    with mydocker.terminal("exec", "-ti", box, "sh") as session:
        session.type("stty size; tty; exit 6\n")
        assert session.wait() == 6
        assert "24 80" in session.text and "/dev/pts/" in session.text
        assert session.attributes() == session.before


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [(["nosuch"], 127, "nosuch"), (["/etc"], 126, "/etc"), (["/etc/passwd"], 126, "/etc/passwd"), (["/no/such"], 127, "/no/such")],
    ids=["unknown", "directory", "not-executable", "no-such-file"],
)
def test_command_that_cannot_run_is_one_line(mydocker: Mydocker, box: str, command: list[str], code: int, said: str) -> None:
    assert said in mydocker("exec", box, *command, code=code).one_error_line()
    execs = f"{mydocker.directory_of(box)}/exec"
    assert os.listdir(execs) == []


def test_unknown_user_directory_and_relative_workdir_are_refused(mydocker: Mydocker, box: str) -> None:
    assert "nobodyknows" in mydocker("exec", "-u", "nobodyknows", box, "true", code=125).one_error_line()
    assert "/no/dir" in mydocker("exec", "-w", "/no/dir", box, "true", code=125).one_error_line()
    assert "workdir" in mydocker("exec", "-w", "dir", box, "true", code=125).one_error_line()


@pytest.mark.parametrize("state", ["created", "paused", "exited"])
def test_exec_in_a_container_that_does_not_run_names_its_state(mydocker: Mydocker, busybox: str, state: str) -> None:
    mydocker("create", "-name", "idle", busybox, "sleep", "1000")
    if state != "created":
        mydocker("start", "idle")
    if state == "paused":
        mydocker("pause", "idle")
    if state == "exited":
        mydocker("kill", "idle")
    assert state in mydocker("exec", "idle", "true", code=125).one_error_line()


def test_end_of_the_container_ends_its_exec_sessions(mydocker: Mydocker, box: str) -> None:
    with mydocker.popen("exec", box, "sh", "-c", "echo ready; sleep 1000") as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        mydocker("stop", "-t", "0", box)
        assert process.wait(15) == 137


def test_killed_client_of_exec_does_not_hurt_the_container(mydocker: Mydocker, box: str) -> None:
    with mydocker.popen("exec", box, "sh", "-c", "echo $$; exec sleep 1000") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert is_running(mydocker.pid_of(box))
    mydocker("exec", box, "true")


def test_twenty_sessions_at_once(mydocker: Mydocker, box: str) -> None:
    running = [mydocker.popen("exec", "-i", box, "sh", "-c", f"cat; exit {number}") for number in range(20)]
    for number, process in enumerate(running):
        out, err = process.communicate(f"{number}\n".encode(), timeout=60)
        assert (out, err, process.returncode) == (f"{number}\n".encode(), b"", number)
    execs = f"{mydocker.directory_of(box)}/exec"
    until(lambda: os.listdir(execs) == [])


@pytest.mark.parametrize("point", ["made exec directory", "exec stage began"])
def test_exec_in_a_container_that_is_removed_meanwhile_says_so_and_leaves_nothing(
    mydocker: Mydocker, box: str, point: str
) -> None:
    execs = f"{mydocker.directory_of(box)}/exec"
    with mydocker.popen(
        "exec", box, "true", env={"MYDOCKER_TRACE": f"{point}=sleep:1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        until(lambda: os.path.isdir(execs) and os.listdir(execs))
        mydocker("rm", "-f", box)
        _, err = process.communicate(timeout=20)
    assert (err.decode(), process.returncode) == (f"mydocker: exec in container {box}: it has just ended\n", 125)
    assert mydocker.container_ids() == []


def test_detached_sessions_that_have_ended_leave_nothing_behind(mydocker: Mydocker, box: str) -> None:
    execs = f"{mydocker.directory_of(box)}/exec"
    for _ in range(3):
        mydocker("exec", "-d", box, "true")
        until(lambda: all(os.path.exists(f"{execs}/{name}/exit") for name in os.listdir(execs)))
    assert len(os.listdir(execs)) == 1
    mydocker("exec", "-d", box, "sleep", "1000")
    mydocker("exec", box, "true")
    assert len(os.listdir(execs)) == 1


def test_directory_of_a_session_does_not_bring_a_removed_container_back(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _make_directory(f"{tmp_path}/removed/exec")
    assert os.listdir(tmp_path) == []
