"""What becomes of a container from its creation to its removal, beyond the rows of the seed."""
from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import time

import pytest
from harness import Mydocker, is_running, processes, until

from mydocker import Engine

pytestmark = [pytest.mark.needs("root", "overlay")]


def test_created_container_has_run_nothing_yet(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    mydocker("create", "-name", "c", "-v", f"{scratch}:/s", busybox, "touch", "/s/ran")
    assert os.listdir(scratch) == []
    mydocker("start", "c")
    until(lambda: os.listdir(scratch) == ["ran"])


def test_ended_container_starts_again_with_its_files_and_environment(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-name", "c", "-e", "A=1", busybox, "sh", "-c", 'echo "$A" >>/count; wc -l </count; exit 3', code=3)
    for _ in range(2):
        mydocker("start", "c")
        until(lambda: mydocker.rows()["c"]["STATUS"] == "exited")
    assert mydocker("logs", "c").out.split() == ["1", "2", "3"]
    assert mydocker("start", "-a", "c", code=3).out == "4\n"


def test_start_of_a_running_container_changes_nothing(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "c", busybox, "sleep", "1000")
    pid = mydocker.pid_of("c")
    assert mydocker("start", "c").out == "c\n"
    assert mydocker.pid_of("c") == pid


def test_restart_gives_a_new_process(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "c", busybox, "sleep", "1000")
    pid = mydocker.pid_of("c")
    mydocker("restart", "-t", "0", "c")
    assert mydocker.pid_of("c") != pid
    assert not is_running(pid)
    assert mydocker.rows()["c"]["STATUS"] == "running"


@pytest.mark.parametrize(("words", "code"), [(["stop", "-t", "1"], 137), (["kill"], 137), (["rm", "-f"], 0)])
def test_container_whose_first_thread_has_ended_is_alive_and_obeys(
    mydocker: Mydocker, busybox: str, scratch: str, words: list[str], code: int
) -> None:
    source = """
        #include <pthread.h>
        #include <unistd.h>
        static void *stay(void *nothing) { for (;;) pause(); return nothing; }
        int main(void) { pthread_t thread; pthread_create(&thread, NULL, stay, NULL); pthread_exit(NULL); }
    """
    subprocess.run(["gcc", "-static", "-pthread", "-xc", "-", "-o", f"{scratch}/program"], input=source, text=True, check=True)
    mydocker("run", "-d", "-name", "c", "-v", f"{scratch}:/s", busybox, "/s/program")
    pid = mydocker.pid_of("c")
    until(lambda: b") Z " in pathlib.Path(f"/proc/{pid}/stat").read_bytes())
    assert mydocker.rows()["c"]["STATUS"] == "running"
    started_s = time.monotonic()
    mydocker(*words, "c")
    assert time.monotonic() - started_s < 20
    assert not os.path.exists(f"/proc/{pid}")
    if code:
        assert mydocker("wait", "c").out == f"{code}\n"


def test_paused_processes_stand_still_and_go_on(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "c", busybox, "sh", "-c", "while :; do echo x >>/n; done")
    until(lambda: mydocker("exec", "c", "sh", "-c", "cat /n 2>/dev/null; true").out)
    mydocker("pause", "c")
    path = f"{mydocker.directory_of('c')}/upper/n"

    def read() -> bytes:
        with open(path, "rb") as stream:
            return stream.read()
    before = read()
    time.sleep(0.2)  # the proof that nothing happens takes time
    assert read() == before
    assert "paused" in mydocker("pause", "c", code=125).one_error_line()
    mydocker("unpause", "c")
    until(lambda: read() != before)
    assert "running" in mydocker("unpause", "c", code=125).one_error_line()


@pytest.mark.parametrize("verb", ["kill", "stop", "rm -f", "restart"])
def test_paused_container_can_be_ended(mydocker: Mydocker, busybox: str, verb: str) -> None:
    mydocker("run", "-d", "-name", "c", busybox, "sleep", "1000")
    pid = mydocker.pid_of("c")
    mydocker("pause", "c")
    mydocker(*verb.split(), *(["-t", "0"] if verb in ("stop", "restart") else []), "c")
    until(lambda: not is_running(pid))


@pytest.mark.parametrize(
    ("word", "number"), [("USR1", 10), ("SIGUSR1", 10), ("10", 10), ("sigusr1", 10), ("RTMIN+3", 37)],
)
def test_kill_sends_the_signal_that_is_named(mydocker: Mydocker, busybox: str, word: str, number: int) -> None:
    script = f"trap 'echo got {number}; exit 0' {number}; echo ready; while :; do sleep 0.05; done"
    mydocker("run", "-d", "-name", "c", busybox, "sh", "-c", script)
    until(lambda: "ready" in mydocker("logs", "c").out)
    mydocker("kill", "-s", word, "c")
    until(lambda: f"got {number}" in mydocker("logs", "c").out)


def test_stop_signal_and_time_of_the_container_are_used(mydocker: Mydocker, busybox: str) -> None:
    script = "trap 'echo int; exit 0' INT; trap '' TERM; echo ready; while :; do sleep 0.05; done"
    mydocker("run", "-d", "-name", "c", "--stop-signal", "INT", "--stop-timeout", "5", busybox, "sh", "-c", script)
    until(lambda: "ready" in mydocker("logs", "c").out)
    mydocker("stop", "c")
    assert mydocker.rows()["c"]["EXIT"] == "0"
    mydocker("run", "-d", "-name", "d", "--stop-timeout", "1", busybox, "sleep", "1000")
    began = time.monotonic()
    mydocker("stop", "d")
    assert time.monotonic() - began < 5


def test_wait_gives_the_exit_code_of_running_and_ended_containers(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "c", busybox, "sh", "-c", "sleep 0.3; exit 6")
    mydocker("run", "-name", "d", busybox, "sh", "-c", "exit 2", code=2)
    assert mydocker("wait", "c", "d").out.split() == ["6", "2"]


def test_wait_of_a_container_that_removes_itself(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "--rm", "-name", "c", busybox, "sh", "-c", "sleep 0.5; exit 6")
    assert mydocker("wait", "c").out.split() == ["6"]
    assert mydocker.leftovers() == []


def test_detached_container_with_rm_goes_with_its_end(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "--rm", "-name", "c", busybox, "sleep", "0.2")
    until(lambda: mydocker.rows() == {})
    assert mydocker.leftovers() == []


def test_names_and_ids_are_known_by_unique_prefix(mydocker: Mydocker, busybox: str) -> None:
    first = mydocker("create", "-name", "alpha-one", busybox, "true").out.strip()
    mydocker("create", "-name", "alpha-two", busybox, "true")
    assert mydocker("inspect", "-f", "{{.name}}", "alpha-o").out == "alpha-one\n"
    assert mydocker("inspect", "-f", "{{.name}}", first[:8]).out == "alpha-one\n"
    ambiguous = mydocker("inspect", "alpha", code=125).one_error_line()
    assert "ambiguous" in ambiguous
    mydocker("create", "-name", "alpha", busybox, "true")
    assert mydocker("inspect", "-f", "{{.name}}", "alpha").out == "alpha\n"


def test_inspect_tells_state_bill_config_and_spec(mydocker: Mydocker, busybox: str) -> None:
    script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 4"
    mydocker("run", "-name", "c", "-l", "a=b", "-e", "K=V", busybox, "sh", "-c", script, code=4)
    document = mydocker.inspect("c")
    state = document["state"]
    assert (state["status"], state["exitCode"], state["oomKilled"], state["signal"]) == ("exited", 4, False, None)
    assert state["createdAt"] <= state["startedAt"] < state["finishedAt"]
    assert document["resources"]["cpuNs"] > 1_000_000
    assert document["resources"]["memoryPeakBytes"] > 0
    assert document["config"]["labels"] == {"a": "b"}
    assert document["spec"]["process"]["args"] == ["sh", "-c", script]
    assert "K=V" in document["spec"]["process"]["env"]
    assert os.path.exists(document["paths"]["log"])


def test_bill_is_kept_until_rm_and_is_about_right(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-name", "c", busybox, "sh", "-c", "dd if=/dev/zero of=/dev/null bs=50M count=10 2>/dev/null")
    first = mydocker.inspect("c")["resources"]
    assert first["memoryPeakBytes"] > 45 << 20
    assert 10_000_000 < first["cpuNs"] < 20_000_000_000
    assert mydocker.inspect("c")["resources"] == first


def test_inspect_of_several_and_of_unknown_ones(mydocker: Mydocker, busybox: str) -> None:
    mydocker("create", "-name", "a", busybox, "true")
    done = mydocker("inspect", "a", "nobody", busybox, code=125)
    assert "nobody" in done.one_error_line()
    assert len(json.loads(done.out)) == 2


def test_orphan_in_the_container_is_killed_with_it(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "c", busybox, "sh", "-c", "setsid sleep 999 & setsid sleep 998 & wait")
    until(lambda: "sleep 998" in mydocker("exec", "c", "ps").out)
    mydocker("kill", "c")
    mydocker("rm", "c")
    assert mydocker.leftovers() == []


def test_version_and_info(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", busybox, "sleep", "1000")
    assert json.loads(mydocker("version", "-f", "json").out)["version"] in mydocker("--version").out
    info = json.loads(mydocker("info", "-f", "json").out)
    assert info["root"] == mydocker.root
    assert info["containers"] == {"total": 1, "running": 1}
    assert info["images"] == 1
    assert info["cgroup"]["kind"] in ("v1", "v2", "hybrid")
    assert "cgroup:" in mydocker("info").out


def test_restart_keeps_a_container_that_goes_with_its_end_and_the_next_end_takes_it(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "--rm", "-name", "c", busybox, "sh", "-c", "echo again >>/count; exec sleep 1000")
    for _ in range(2):
        mydocker("restart", "-t", "0", "c")
    until(lambda: mydocker("exec", "c", "cat", "/count").out == "again\n" * 3)
    mydocker("stop", "-t", "0", "c")
    assert mydocker.leftovers() == []


def test_restart_sends_the_signal_that_is_named(mydocker: Mydocker, busybox: str) -> None:
    script = "trap 'echo usr1; exit 0' USR1; echo ready; while :; do sleep 0.05; done"
    mydocker("run", "-d", "-name", "c", busybox, "sh", "-c", script)
    until(lambda: "ready" in mydocker("logs", "c").out)
    mydocker("restart", "-s", "USR1", "-t", "10", "c")
    until(lambda: mydocker("logs", "c").out == "ready\nusr1\nready\n")


def test_reader_that_stands_still_holds_up_neither_stop_nor_wait(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "loud", busybox, "yes")
    with mydocker.popen("attach", "loud", stdin=subprocess.DEVNULL) as reader:
        assert reader.stdout is not None
        assert reader.stdout.read(2) == b"y\n"
        reader.send_signal(signal.SIGSTOP)
        mydocker("stop", "-t", "0", "loud", timeout_s=10)
        assert mydocker("wait", "loud", timeout_s=10).out == "137\n"
        mydocker("rm", "loud", timeout_s=10)
        reader.kill()


def test_bytes_that_are_no_utf8_reach_the_command_and_the_record(mydocker: Mydocker, busybox: str) -> None:
    odd = os.fsdecode(b"caf\xe9")
    mydocker("run", "-name", "odd", "-e", f"E={odd}", "-l", f"l={odd}", busybox, "sh", "-c", 'printf "%s %s\n" "$E" "$1"', "sh", odd)
    mydocker("start", "-a", "odd")
    assert mydocker("logs", "odd").raw_out == b"caf\xe9 caf\xe9\n" * 2
    assert mydocker.inspect("odd")["config"]["env"].count(f"E={odd}") == 1
    mydocker("commit", "odd", "odd")
    assert mydocker("run", "--rm", "odd", "sh", "-c", 'echo "$E"').raw_out == b"caf\xe9\n"


def test_output_that_cannot_be_written_is_told_and_the_container_comes_to_its_end(mydocker: Mydocker, busybox: str) -> None:
    with open("/dev/full", "wb") as full:
        for words, code in (("echo a; exit 3", 3), ("echo a", 125)):
            ended = subprocess.run(
                [*mydocker.argv, "run", "--rm", busybox, "sh", "-c", words], env=mydocker.environ(), stdout=full,
                stderr=subprocess.PIPE, check=False)
            assert ended.stderr == b"mydocker: write the container's output: no space left on device\n"
            assert ended.returncode == code


def test_arguments_beyond_the_kernels_limit_are_called_so(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    with open(f"{scratch}/env", "w", encoding="ascii") as stream:
        stream.write(f"LARGE={'x' * (1 << 17)}\n")
    done = mydocker("run", "--rm", "--env-file", f"{scratch}/env", busybox, "true", code=126)
    assert "argument list too long; arguments and environment are more than the kernel takes" in done.one_error_line()


def test_init_that_fails_while_its_networks_are_made_says_why(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    with open(f"{scratch}/file", "wb"):
        pass
    done = mydocker(
        "run", "--network", "bridge", "-v", f"{scratch}/file:/tmp", busybox, "true", code=125,
        env={"MYDOCKER_TRACE": "cloned init=sleep:0.3"})
    assert "/tmp" in done.one_error_line()
    assert mydocker.container_ids() == []


def test_state_root_may_have_any_name(mydocker: Mydocker, busybox_tar: str, scratch: str) -> None:
    odd = Mydocker(os.fsdecode(f"{scratch}/a b:c,d\\".encode() + b"\xff"))
    try:
        odd("import", busybox_tar, "busybox")
        odd("run", "-d", "-name", "box", "busybox", "sh", "-c", "echo up; exec sleep 1000")
        with odd.popen("logs", "-f", "box") as follower:
            assert follower.stdout is not None
            assert follower.stdout.readline() == b"up\n"
            assert odd("exec", "box", "echo", "inside").out == "inside\n"
            odd("commit", "box", "again")
            assert odd("run", "--rm", "again", "echo", "again").out == "again\n"
            odd("stop", "-t", "0", "box")
            follower.communicate(timeout=20)
        odd("rm", "box")
    finally:
        odd.destroy()


def test_more_commands_than_a_monitor_serves_wait_for_one_container(mydocker: Mydocker, engine: Engine, busybox: str) -> None:
    mydocker("run", "-d", "-name", "wanted", busybox, "sleep", "1000")
    box = engine.containers.get("wanted")
    sessions = [box.attach() for _ in range(32)]  # MAX_CLIENTS of csrc/monitor
    with mydocker.popen("wait", "wanted") as waiting:
        mydocker("exec", "wanted", "true")
        mydocker("stop", "-t", "0", "wanted")
        assert waiting.communicate(timeout=20) == (b"137\n", b"")
    for session in sessions:
        session.close()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(("words", "point"), [
    (["run"], "made bundle"), (["run", "-d"], "forked stage"), (["run", "--rm"], "heard of the start"),
])
def test_command_that_a_signal_ends_while_it_starts_a_container_undoes_it(
    mydocker: Mydocker, busybox: str, words: list[str], point: str, signum: int,
) -> None:
    with mydocker.popen(*words, busybox, "sleep", "1000", env={"MYDOCKER_TRACE": f"{point}=sleep:20"}) as process:
        until(lambda: mydocker.container_ids() and os.path.isdir(f"{mydocker.root}/container/{mydocker.container_ids()[0]}/bundle"))
        until(lambda: point == "made bundle" or any(row["STATUS"] == "running" for row in mydocker.rows().values()))
        process.send_signal(signum)
        assert process.wait(20) == 128 + signum
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert mydocker.container_ids() == []


def test_restarts_of_one_container_at_the_same_time_leave_it_running(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "busy", busybox, "sleep", "1000")
    running = [mydocker.popen("restart", "-t", "0", "busy") for _ in range(6)]
    for process in running:
        assert (*process.communicate(timeout=30), process.returncode) == (b"busy\n", b"", 0)
    assert mydocker.rows()["busy"]["STATUS"] == "running"


def test_a_stop_does_not_wait_for_the_end_of_a_run_that_began_meanwhile(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "--name", "busy", busybox, "sleep", "1000")
    with mydocker.popen("stop", "-t", "0", "busy", env={"MYDOCKER_TRACE": "stopped process=sleep:3"}) as stopping:
        until(lambda: mydocker.rows()["busy"]["STATUS"] == "stopped")
        mydocker("start", "busy")
        began_s = time.monotonic()
        assert (*stopping.communicate(timeout=60), stopping.returncode) == (b"busy\n", b"", 0)
        assert time.monotonic() - began_s < 20  # it waited for 30 s, and said that the monitor does not record the end
    assert mydocker.rows()["busy"]["STATUS"] == "running"


def test_start_of_a_created_container_that_somebody_ends_at_this_moment_starts_it_again(mydocker: Mydocker, busybox: str) -> None:
    mydocker("create", "--name", "busy", busybox, "sleep", "1000")
    pid, monitor = mydocker.pid_of("busy"), mydocker.monitor_of("busy")
    with mydocker.popen("start", "busy", env={"MYDOCKER_TRACE": "found created=stop"}) as starting:
        until(lambda: is_stopped(starting.pid))
        os.kill(pid, signal.SIGKILL)
        until(lambda: os.path.exists(f"{mydocker.directory_of('busy')}/exit") and "mydocker-monitor" not in argv_of(monitor))
        starting.send_signal(signal.SIGCONT)
        assert (*starting.communicate(timeout=30), starting.returncode) == (b"busy\n", b"", 0)
    assert mydocker.rows()["busy"]["STATUS"] == "running"


def test_exec_whose_container_is_restarted_meanwhile_says_that_it_has_ended(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "--name", "busy", busybox, "sleep", "1000")
    directory = mydocker.directory_of("busy")
    with mydocker.popen("exec", "busy", "true", env={"MYDOCKER_TRACE": "exec stage began=sleep:3"}) as entering:
        until(lambda: os.path.isdir(f"{directory}/exec") and os.listdir(f"{directory}/exec"))
        time.sleep(0.5)  # it has the container's process by now
        mydocker("restart", "-t", "0", "busy")
        assert entering.communicate(timeout=30)[1] == b"mydocker: exec in container busy: it has just ended\n"


def test_inspect_shows_a_container_in_the_making_and_fails_for_one_that_is_gone(mydocker: Mydocker, busybox: str) -> None:
    trace = {"MYDOCKER_TRACE": "recorded creating=stop"}
    with mydocker.popen("run", "-d", "--name", "busy", busybox, "sleep", "1000", env=trace) as running:
        until(lambda: is_stopped(running.pid))
        shown = mydocker.inspect("busy")
        assert (shown["status"], shown["spec"]) == ("creating", None)
        running.send_signal(signal.SIGCONT)
        assert running.wait(30) == 0
    assert mydocker.inspect("busy")["spec"]["process"]["args"] == ["sleep", "1000"]


def is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", "rb") as stream:
        return stream.read().rpartition(b")")[2].split()[0] == b"T"


def argv_of(pid: int) -> list[str]:
    return dict(processes()).get(pid, [""])
