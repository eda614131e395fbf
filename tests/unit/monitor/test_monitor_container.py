"""The monitor and its container: exit codes, records, signals, standard streams, clean-up."""
from __future__ import annotations

import _socket
import ctypes
import os
import re
import resource
import select
import signal
import threading
import time

import pytest
from monitor_rig import Rig, Run, wait_until

from mydocker.base.errors import AlreadyInState, CommandNotFound, Conflict, Denied, Timeout, Unavailable
from mydocker.monitor import protocol
from mydocker.monitor.attach import Session

PTRACE_SEIZE, WALL = 0x4206, 0x40000000
OUTPUT = protocol.WANTS_STDOUT | protocol.WANTS_STDERR


def sh(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_code_is_recorded_and_told(rig: Rig, code: int) -> None:
    run = rig.run(*sh(f"exit {code}"))
    record = run.session.wait(5)
    assert (record.exit_code, record.signal, record.oom_killed, record.core_dumped) == (code, 0, False, False)
    assert record == run.exit_record()
    run.session.cleaned()
    assert run.end() == 0


def test_signal_becomes_128_plus_its_number(rig: Rig) -> None:
    record = rig.run(*sh("kill -TERM $$")).session.wait(5)
    assert (record.exit_code, record.signal) == (143, 15)


def test_death_of_a_traced_container_is_recorded_when_its_tracer_has_seen_it(rig: Rig) -> None:
    run = rig.run("sleep", "60")
    pid = run.session.wait_started().pid
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.ptrace(PTRACE_SEIZE, pid, None, None) == 0, os.strerror(ctypes.get_errno())
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Timeout):  # it is dead, but its tracer has the first look
        run.session.wait(0.3)
    assert os.waitpid(pid, WALL)[1] == signal.SIGKILL
    record = run.session.wait(5)
    assert (record.exit_code, record.signal) == (137, 9)
    assert not os.path.exists(run.path("monitor.error"))


def test_times_and_cpu_are_recorded(rig: Rig) -> None:
    before_ns = time.time_ns()
    record = rig.run(*sh("i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done")).session.wait(5)
    assert record.started_ns is not None and record.finished_ns is not None and record.cpu_ns is not None
    assert before_ns <= record.started_ns <= record.finished_ns <= time.time_ns()
    assert 0 < record.cpu_ns < 5_000_000_000
    assert record.memory_peak_bytes is None


def test_started_file_names_the_process(rig: Rig) -> None:
    run = rig.run("sleep", "60")
    started = run.session.wait_started()
    with open(f"/proc/{started.pid}/stat") as stream:
        assert int(stream.read().rpartition(")")[2].split()[19]) == started.start_time
    assert protocol.load_started(run.path("started")) == started
    with open(f"/proc/{started.pid}/cmdline") as stream:
        assert stream.read() == "sleep\x0060\0"


def test_start_waits_for_the_message(rig: Rig) -> None:
    run = rig.run(*sh("echo ran"), start=False)
    run.session.ping()
    assert not os.path.exists(run.path("started"))
    run.session.start()
    assert run.session.communicate(timeout=5)[0] == b"ran\n"


def test_second_start_is_refused(rig: Rig) -> None:
    run = rig.run("sleep", "60")
    run.session.wait_started()
    run.session.started = None
    with pytest.raises(AlreadyInState):
        run.session.start()


def test_failed_start_is_reported_with_its_kind(rig: Rig) -> None:
    run = rig.run("x", failure=b"FCommandNotFound\x002\0find command nope: ENOENT\nreally")
    with pytest.raises(CommandNotFound, match="find command nope"):
        run.session.wait_started()
    record = run.session.wait(5)
    assert (record.exit_code, record.error_kind, record.error_errno) == (127, "CommandNotFound", 2)
    assert record.error_message == "find command nope: ENOENT really"
    assert record.started_ns is None and not os.path.exists(run.path("started"))
    assert isinstance(record.error(), CommandNotFound)


@pytest.mark.parametrize("failure", [b"F", b"FDenied", b"FDenied\x001", b"F" + b"x" * 9000, b"F\0\0"])
def test_failure_report_of_any_shape_is_survived(rig: Rig, failure: bytes) -> None:
    run = rig.run("x", failure=failure)
    record = run.session.wait(5)
    assert record.exit_code == 127 and record.error_kind is not None
    run.session.cleaned()
    assert run.end() == 0


def test_death_before_start_is_an_exit_without_a_start(rig: Rig) -> None:
    run = rig.run("x", start=False)
    run.session.ping()
    os.kill(run.children()[0], signal.SIGKILL)
    with pytest.raises(Unavailable, match="137"):
        run.session.wait_started()
    assert run.session.exit is not None
    assert (run.session.exit.signal, run.session.exit.started_ns) == (9, None)


def test_death_without_reading_start_is_not_a_start(rig: Rig) -> None:
    for delay_s in (0, 0.02):
        run = rig.run("x", before=lambda sync, delay_s=delay_s: (time.sleep(delay_s), os._exit(9)))  # type: ignore[misc]
        with pytest.raises(Unavailable, match="exit code 9 before its command ran"):
            run.session.wait_started()
        assert run.exit_record().started_ns is None
        assert not os.path.exists(run.path("started"))


# --- a monitor that is there before the container is (--making) -----------------------------------


def test_container_in_the_making_is_started_when_ready(rig: Rig) -> None:
    journal = f"{rig.directory_hint()}/0123456789"
    with open(journal, "w"):
        pass
    fd = os.open(rig.directory_hint(), os.O_RDONLY)
    os.set_inheritable(fd, True)
    gate = f"{rig.directory_hint()}/gate"
    os.mkfifo(gate)
    run = rig.run(
        *sh("echo ran"), options=("--making", "--journal", str(fd)),
        before=lambda sync: (os.open(gate, os.O_RDONLY), sync.send(b"R")))
    with pytest.raises(Timeout):
        run.session.wait(0.05)
    assert run.session.started is None and os.path.exists(journal)
    os.close(os.open(gate, os.O_WRONLY))
    run.session.wait_started()
    assert not os.path.exists(journal)
    assert run.session.communicate(timeout=5)[0] == b"ran\n"
    os.close(fd)


def test_ping_and_start_wait_for_the_container_to_be_ready(rig: Rig) -> None:
    run = rig.run(
        *sh("exit 4"), options=("--making",), start=False, before=lambda sync: (time.sleep(0.05), sync.send(b"R")))
    began = time.monotonic()
    run.session.ping()
    assert time.monotonic() - began > 0.03
    run.session.start()
    assert run.session.wait(5).exit_code == 4


def test_terminal_comes_while_the_container_is_made(rig: Rig) -> None:
    def send_console(sync: _socket.socket) -> None:
        master, slave = os.openpty()
        for number in range(3):
            os.dup2(slave, number)
        sync.sendmsg([b"C"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, master.to_bytes(4, "little"))])
        os.close(master)
        os.close(slave)
        sync.send(b"R")

    run = rig.run(*sh("stty size; cat"), options=("--making",), start=False, before=send_console, streams=False)
    run.session.ping()
    run.session.resize(21, 43)
    run.session.ping()
    run.session.start()
    run.session.close_stdin()
    stdout, _, record = run.session.communicate(timeout=5)
    assert (stdout, record.exit_code) == (b"21 43\r\n", 0)


@pytest.mark.parametrize("report", [b"", b"FDenied\x001\0mount x: EPERM"])
def test_container_that_did_not_come_to_be_is_a_failed_start(rig: Rig, report: bytes) -> None:
    run = rig.run("x", options=("--making",), before=lambda sync: (report and sync.send(report), os._exit(1)))
    with pytest.raises(Denied if report else Unavailable):
        run.session.wait_started()
    assert run.exit_record().started_ns is None


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_monitor_ignores_signals_meant_for_others(rig: Rig, signum: int) -> None:
    run = rig.run(*sh("read x; echo $x"), stdin=True)
    run.session.wait_started()
    os.kill(run.monitor_pid, signum)
    stdout, _, record = run.session.communicate(b"alive\n", 5)
    assert (stdout, record.exit_code) == (b"alive\n", 0)


def test_output_reaches_client_and_log_apart(rig: Rig) -> None:
    run = rig.run(*sh("echo out; echo err >&2; printf rest"))
    stdout, stderr, _ = run.session.communicate(timeout=5)
    assert (stdout, stderr) == (b"out\nrest", b"err\n")
    pattern = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) ([FP]) (.*)\n"
    records = re.findall(pattern, run.read("container.log"))
    assert [r for r in records if r[0] == b"stdout"] == [(b"stdout", b"F", b"out"), (b"stdout", b"P", b"rest")]
    assert [r for r in records if r[0] == b"stderr"] == [(b"stderr", b"F", b"err")]


def test_process_that_keeps_the_pipe_does_not_hold_up_the_end(rig: Rig) -> None:
    run = rig.run(*sh("sleep 30 & echo $!; echo last"))
    stdout, _, record = run.session.communicate(timeout=5)
    pid, last = stdout.split()
    assert (last, record.exit_code) == (b"last", 0)
    os.kill(int(pid), signal.SIGKILL)


def test_process_that_writes_for_ever_does_not_hold_up_the_end(rig: Rig) -> None:
    run = rig.run(*sh("yes & sleep 0.05; exit 3"), options=("--log-max-size", "100000", "--log-max-files", "1"))
    assert run.session.communicate(timeout=10)[2].exit_code == 3


def test_orphans_are_reaped(rig: Rig) -> None:
    run = rig.run(*sh("(sleep 0.01 & echo $!); sleep 60"))
    orphan = next(payload for kind, payload in run.session.events() if kind == "stdout")
    assert isinstance(orphan, bytes)
    wait_until(lambda: not os.path.exists(f"/proc/{orphan.decode().strip()}"))


def test_input_reaches_the_container_and_ends(rig: Rig) -> None:
    data = os.urandom(300_000)
    run = rig.run("cat", stdin=True)
    stdout, _, record = run.session.communicate(data, 10)
    assert (stdout == data, record.exit_code) == (True, 0)


def test_input_is_held_back_while_the_container_does_not_read(fast_rig: Rig) -> None:
    run = fast_rig.run("sleep", "60", stdin=True)
    run.session.wait_started()
    sent = 0
    with pytest.raises(AssertionError):
        wait_until(lambda: not run.session.send_now(protocol.MSG_STDIN + bytes(65536)) and False, 0.2)
    while run.session.send_now(protocol.MSG_STDIN + bytes(65536)):
        sent += 1
    assert sent < 8
    assert run.memory_kib("Rss") < 400


def test_input_left_over_at_the_end_does_no_harm(rig: Rig) -> None:
    run = rig.run(*sh("sleep 0.1; exit 7"), stdin=True)
    stdout, _, record = run.session.communicate(bytes(2_000_000), 10)
    assert (stdout, record.exit_code) == (b"", 7)
    run.session.cleaned()
    assert run.end() == 0


def test_input_of_a_container_that_closed_it_is_thrown_away(rig: Rig) -> None:
    run = rig.run(*sh("exec 0<&-; sleep 0.2; echo done"), stdin=True)
    assert run.session.communicate(bytes(1_000_000), 10)[0] == b"done\n"


def test_input_without_permission_is_refused(rig: Rig) -> None:
    run = rig.run("cat", stdin=True, flags=OUTPUT)
    run.session.write(b"x")
    with pytest.raises(Conflict, match="not attached to standard input"):
        run.session.wait(5)


def test_terminal_echoes_resizes_and_ends(rig: Rig) -> None:
    run = rig.run(*sh("read line; stty size; cat; echo over"), tty=True)
    run.session.resize(33, 77)
    run.session.write(b"go\n")
    run.session.write(b"text\n")
    run.session.close_stdin()
    stdout, _, record = run.session.communicate(timeout=5)
    # The terminal echoes what is typed whenever it is typed.
    lines = stdout.replace(b"\r\n", b"\n").split(b"\n")
    assert lines[0] == b"go" and b"33 77" in lines and lines[-2:] == [b"over", b""] and b"text" in lines, stdout
    assert record.exit_code == 0
    assert b" stdout F over\r\n" in run.read("container.log")


def test_resize_without_terminal_is_refused(rig: Rig) -> None:
    run = rig.run("sleep", "60", stdin=True)
    run.session.resize(10, 10)
    with pytest.raises(Conflict, match="no terminal"):
        run.session.wait(5)


@pytest.mark.parametrize("message", [b"?", b"A", b"A\xff", b"W12", b"Z" * 70_000, b"C", b"I" + b"x" * 70_000])
def test_senseless_messages_are_refused(rig: Rig, message: bytes) -> None:
    run = rig.run("sleep", "60", stdin=True)
    client = run.connect()
    client.attach(protocol.WANTS_STDIN)
    client.send_now(message)
    with pytest.raises(Conflict):
        client.wait(5)
    client.ping()
    client.close()


# --- clean-up -----------------------------------------------------------------------------------


def test_clean_up_runs_in_place_when_no_owner_is_there(rig: Rig) -> None:
    # A shell blocks all signals while it forks: what it becomes by exec has the inherited mask.
    script = 'exec > "$2/cleaned"; echo "$$ $1"; ls -l /proc/$$/fd; exec grep -E "SigBlk|SigIgn" /proc/self/status'
    run = rig.run(*sh("exit 5"), flags=OUTPUT, clean_up=("/bin/sh", "-c", script, "sh", "word", rig.directory_hint()))
    wait_until(run.is_over)
    text = rig.take_hint("cleaned")
    assert text.startswith(f"{run.monitor_pid} word\n")
    assert "SigBlk:\t0000000000000000\n" in text
    # What the monitor ignores for itself; whoever started us may ignore others, which is not its affair.
    ignored = int(text.partition("SigIgn:\t")[2].split()[0], 16)
    own = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ)
    assert [number for number in own if ignored >> (number - 1) & 1] == []
    assert text.count("/dev/null") >= 2 and "socket:" not in text and "anon_inode" not in text
    assert run.end() == 0


def test_clean_up_is_left_to_an_owner_that_says_so(rig: Rig) -> None:
    run = rig.run("true", clean_up=("/bin/sh", "-c", f"touch {rig.directory_hint()}/cleaned"))
    run.session.wait(5)
    run.session.cleaned()
    assert run.end() == 0
    assert rig.take_hint("cleaned") == ""


def test_clean_up_runs_when_the_owner_dies(rig: Rig) -> None:
    run = rig.run(*sh("sleep 0.1"), clean_up=("/bin/sh", "-c", f"echo yes > {rig.directory_hint()}/cleaned"))
    run.session.wait(5)
    time.sleep(0.05)
    assert not run.is_over()
    assert run.end() == 0
    assert rig.take_hint("cleaned") == "yes\n"


def test_missing_clean_up_command_is_reported(rig: Rig) -> None:
    run = rig.run("true", flags=0, clean_up=("/no/such/program",))
    assert run.end() == 127
    assert b"execute clean-up command: errno 2" in run.read("monitor.error")


# --- more clients ---------------------------------------------------------------------------------


def test_late_client_hears_what_happened(rig: Rig) -> None:
    run = rig.run(*sh("exit 9"))
    run.session.wait(5)
    with run.connect() as client:
        assert client.wait(5).exit_code == 9
        assert client.started is not None


def test_every_subscriber_gets_all_output(rig: Rig) -> None:
    run = rig.run(*sh("i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done"), start=False)
    clients = [run.connect() for _ in range(5)]
    for client in clients:
        client.attach(OUTPUT)
        client.ping()
    run.session.start()
    expected = b"".join(b"line %d\n" % number for number in range(2000))
    # All at once: who does not read holds up the others.
    got: list[bytes] = []
    threads = [
        threading.Thread(target=lambda client=client: got.append(client.communicate(timeout=10)[0]))
        for client in [*clients, run.session]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [expected] * 6
    for client in clients:
        client.close()


def test_subscription_can_be_changed(rig: Rig) -> None:
    run = rig.run(*sh("read x; echo out; echo err >&2"), stdin=True)
    run.session.attach(protocol.WANTS_STDERR | protocol.WANTS_STDIN)
    stdout, stderr, _ = run.session.communicate(b"\n", 5)
    assert (stdout, stderr) == (b"", b"err\n")


def test_too_many_clients_are_turned_away(rig: Rig) -> None:
    run = rig.run("sleep", "60")
    clients = [run.connect() for _ in range(31)]
    for client in clients:
        client.ping()
    with run.connect() as extra, pytest.raises(Conflict, match="too many clients"):
        extra.wait(5)
    clients.pop().close()
    clients[0].ping()
    clients[0].ping()  # a round of events later the monitor has seen the other go
    with run.connect() as another:
        another.ping()
    for client in clients:
        client.close()


def test_clients_are_let_in_again_when_there_are_descriptors_however_much_is_written(rig: Rig) -> None:
    run = rig.run(*sh("while :; do echo x; sleep 0.1; done"), flags=0)
    run.session.wait_started()
    used = {int(name) for name in os.listdir(f"/proc/{run.monitor_pid}/fd")}
    before = resource.prlimit(run.monitor_pid, resource.RLIMIT_NOFILE)
    resource.prlimit(run.monitor_pid, resource.RLIMIT_NOFILE, (min(set(range(100)) - used), before[1]))
    with run.connect() as session:
        time.sleep(0.3)  # it has tried; without a descriptor it cannot even complain
        resource.prlimit(run.monitor_pid, resource.RLIMIT_NOFILE, before)
        session.attach(protocol.WANTS_STDOUT)
        assert select.select([session.fd], [], [], 5)[0]


def test_stalled_client_stops_the_container_not_the_memory(fast_rig: Rig) -> None:
    run = fast_rig.run("dd", "if=/dev/zero", "bs=65536", "count=400", "status=none", log=False)
    run.session.wait_started()
    time.sleep(0.3)
    assert not os.path.exists(run.path("exit"))
    assert run.memory_kib("Rss") < 400
    stdout, _, record = run.session.communicate(timeout=5)
    assert (len(stdout), record.exit_code) == (65536 * 400, 0)


def test_death_of_a_stalled_client_lets_the_container_go_on(rig: Rig) -> None:
    run = rig.run("dd", "if=/dev/zero", "bs=65536", "count=200", "status=none", log=False, flags=protocol.IS_OWNER)
    clients = [run.connect() for _ in range(3)]
    for client in clients:
        client.attach(OUTPUT)
    time.sleep(0.05)
    for client in clients:
        client.close()
    assert run.session.wait(5).exit_code == 0


def test_stalled_client_does_not_hide_the_exit(rig: Rig) -> None:
    run = rig.run("dd", "if=/dev/zero", "bs=65536", "count=8", "status=none", log=False)
    stalled = run.session
    wait_until(lambda: stalled.send_now(protocol.MSG_PING))
    with run.connect() as waiting:
        _kill_child_when_blocked(run)
        assert waiting.wait(5).signal in (0, 9)
    with run.connect() as late:
        assert late.wait(5).signal in (0, 9)
    assert run.exit_record().signal in (0, 9)
    stdout, _, record = stalled.communicate(timeout=5)  # who takes output hears of the end after all of it
    assert stdout
    assert record.signal in (0, 9)


def _kill_child_when_blocked(run: Run) -> None:
    """Kill the `dd` of a container once it sleeps, which it does only in a write to a full pipe."""
    wait_until(lambda: any(_is_blocked(pid) for pid in run.children()), 20)
    for pid in run.children():
        os.kill(pid, signal.SIGKILL)


def _is_blocked(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", "rb") as stream:
        head, _, tail = stream.read().rpartition(b")")
    return head.endswith(b"(dd") and tail.split()[0] == b"S"


def test_wait_may_be_told_to_last_longer_than_poll_can(rig: Rig) -> None:
    assert rig.run("true").session.wait(1e11).exit_code == 0


def test_wait_times_out(rig: Rig) -> None:
    run = rig.run("sleep", "60")
    with pytest.raises(Timeout):
        run.session.wait(0.02)
    with pytest.raises(Timeout):
        run.session.communicate(timeout=0.02)


def test_death_of_the_monitor_is_an_error(rig: Rig) -> None:
    run = rig.run("sleep", "1")
    run.session.wait_started()
    os.kill(run.monitor_pid, signal.SIGKILL)
    with pytest.raises(Unavailable):
        run.session.wait(5)
    wait_until(run.is_over)


def test_control_socket_of_no_monitor_is_unavailable(rig: Rig) -> None:
    run = rig.run("true")
    run.session.wait(5)
    run.session.cleaned()
    run.end()
    with pytest.raises(Unavailable, match="ECONNREFUSED"):
        run.connect()
    with pytest.raises(Unavailable, match="ENOENT"):
        Session.connect(run.path("nothing"))


def test_long_path_of_a_control_socket_works(fast_rig: Rig, tmp_path: os.PathLike[str]) -> None:
    run = fast_rig.run("sleep", "60")
    deep = f"{os.fspath(tmp_path)}/{'d' * 120}"
    os.symlink(run.directory, deep)
    with Session.connect(f"{deep}/control") as client:
        client.ping()


# --- numbers of the cgroup --------------------------------------------------------------------------


@pytest.mark.parametrize(("cpu", "oom"), [
    ("123456789\n", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
    ("usage_usec 123456\nuser_usec 9\n", "low 0\nhigh 0\noom 2\noom_kill 1\noom_group_kill 0\n"),
])
def test_cgroup_files_of_both_versions_are_read(rig: Rig, tmp_path: os.PathLike[str], cpu: str, oom: str) -> None:
    options = []
    for option, text in (("--cgroup-cpu", cpu), ("--cgroup-memory-peak", "777216\n"), ("--cgroup-oom", oom)):
        path = f"{os.fspath(tmp_path)}/{option}"
        with open(path, "w") as stream:
            stream.write(text)
        fd = os.open(path, os.O_RDWR)
        os.set_inheritable(fd, True)
        options += [option, str(fd)]
    record = rig.run("true", options=(*options, "--peak-reset", "5")).session.wait(5)
    for fd in options[1::2]:
        os.close(int(fd))
    assert record.cpu_ns in (123456789, 123456000)
    assert (record.memory_peak_bytes, record.oom_killed) == (577216, True)


def test_lock_is_released_when_the_start_is_recorded(rig: Rig) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    run = rig.run("sleep", "60", options=("--lock", str(writer)))
    os.close(writer)
    run.session.wait_started()
    os.read(reader, 1)  # comes back at the end of the last holder only
    os.close(reader)


def test_bad_arguments_are_refused(rig: Rig) -> None:
    for options in (("--no-such", "1"), ("--lock", "x"), ("--log-max-size", ""), ("--client-flags", "99"), ("--lock",)):
        assert rig.run("true", options=options, limit=_silence).end() == 125


def _silence(_: str) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def test_idle_monitor_is_small(fast_rig: Rig) -> None:
    run = fast_rig.run(*sh("echo hi; sleep 60"), stdin=True)
    next(run.session.events())
    assert run.memory_kib("Pss") < 150


def test_memory_of_a_burst_is_given_back(fast_rig: Rig) -> None:
    run = fast_rig.run(*sh("head -c 5000000 /dev/zero | tr '\\0' a; sleep 60"), flags=0)
    wait_until(lambda: run.memory_kib("Rss") > 150)
    wait_until(lambda: run.memory_kib("Pss") < 150, 4)


def test_log_error_drops_records_and_spares_the_container(rig: Rig) -> None:
    def limit(_: str) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    # Clients get everything; the log keeps whole records up to the limit.
    run = rig.run("head", "-c", "200000", "/dev/zero", limit=limit)
    stdout, _, record = run.session.communicate(timeout=5)
    assert (len(stdout), record.exit_code) == (200_000, 0)
    assert record.log_dropped_bytes > 190_000


def test_torn_record_is_cut_off(rig: Rig) -> None:
    def limit(_: str) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))

    run = rig.run(*sh("i=0; while [ $i -lt 200 ]; do echo line $i is here; i=$((i+1)); done"), limit=limit)
    record = run.session.wait(5)
    log = run.read("container.log")
    assert log.endswith(b" is here\n") and 4_900 < len(log) <= 5_000
    assert record.log_dropped_bytes > 0


def test_start_that_ran_out_of_memory_says_so() -> None:
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    with Session(ours) as session:
        theirs.send(b"Xexit_code 137\nsignal 9\noom_killed 1\n")
        with pytest.raises(Unavailable, match="OOM-killed"):
            session.wait_started()
    theirs.close()
