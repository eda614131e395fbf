"""The command line's loop, over real monitors, pipes and terminals; and the terminal's raw mode."""
from __future__ import annotations

import fcntl
import os
import signal
import termios
import threading
import time

import pytest
from monitor_rig import Rig, Run

from mydocker.linux import pty
from mydocker.monitor import protocol
from mydocker.monitor.protocol import ExitRecord
from mydocker.monitor.relay import Detached, DetachKeys, Relay


def sh(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


def relayed(run: Run, data: bytes | None, **options: object) -> tuple[bytes, bytes, ExitRecord | Detached]:
    """Relay with pipes that a thread feeds and another reads."""
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    output: dict[int, bytes] = {}

    def feed() -> None:
        view = memoryview(data or b"")
        while view:
            view = view[os.write(in_write, view):]
        os.close(in_write)

    def collect(fd: int) -> None:
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
        output[fd] = b"".join(chunks)

    threads = [threading.Thread(target=feed), *(threading.Thread(target=collect, args=(fd,)) for fd in (out_read, err_read))]
    for thread in threads:
        thread.start()
    result = run.session.relay(in_read if data is not None else -1, out_write, err_write, **options)  # type: ignore[arg-type]
    os.close(out_write)
    os.close(err_write)
    for thread in threads:
        thread.join(5)
    for fd in (in_read, out_read, err_read):
        os.close(fd)
    return output[out_read], output[err_read], result


def test_output_and_exit_code_come_through(fast_rig: Rig) -> None:
    stdout, stderr, result = relayed(fast_rig.run(*sh("echo out; echo err >&2; exit 4")), None)
    assert (stdout, stderr) == (b"out\n", b"err\n")
    assert isinstance(result, ExitRecord) and result.exit_code == 4


def test_input_comes_through_and_ends(fast_rig: Rig) -> None:
    data = os.urandom(3_000_000)
    stdout, _, result = relayed(fast_rig.run("cat", stdin=True), data)
    assert stdout == data
    assert isinstance(result, ExitRecord) and result.exit_code == 0


def test_slow_container_does_not_lose_input(fast_rig: Rig) -> None:
    data = os.urandom(500_000)
    stdout, _, _ = relayed(fast_rig.run(*sh("sleep 0.1; cat"), stdin=True), data)
    assert stdout == data


def test_end_comes_although_input_goes_on(fast_rig: Rig) -> None:
    run = fast_rig.run(*sh("head -c 5; exit 3"), stdin=True)
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    os.write(in_write, b"12345678")
    result = run.session.relay(in_read, out_write, out_write)
    assert isinstance(result, ExitRecord) and result.exit_code == 3
    assert os.read(out_read, 100) == b"12345"
    for fd in (in_read, in_write, out_read, out_write):
        os.close(fd)


def test_program_that_feeds_and_reads_us_at_once_cannot_lock_us_up(fast_rig: Rig) -> None:
    # Nobody reads our output until all input is written: both pipes, the sockets and cat are full then.
    run = fast_rig.run("cat", stdin=True)
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    data = os.urandom(250_000)  # more than the two pipes hold
    got: list[bytes] = []

    def coprocess() -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(in_write, view):]
        os.close(in_write)
        while chunk := os.read(out_read, 65536):
            got.append(chunk)

    thread = threading.Thread(target=coprocess)
    thread.start()
    run.session.relay(in_read, out_write, out_write)
    os.close(out_write)
    thread.join(5)
    assert b"".join(got) == data
    os.close(in_read)
    os.close(out_read)


@pytest.mark.parametrize("with_input", [False, True])
def test_reader_that_went_away_does_not_stop_the_container(fast_rig: Rig, with_input: bool) -> None:
    run = fast_rig.run(*sh("i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done; exit 6"), stdin=True)
    out_read, out_write = os.pipe()
    os.close(out_read)
    null = os.open(os.devnull, os.O_RDONLY)
    relay = Relay(run.session, null if with_input else -1, out_write, out_write, tty=False, detach_keys=b"")
    result = relay.run((), None)
    assert isinstance(result, ExitRecord) and result.exit_code == 6
    assert isinstance(relay._session.output_error, BrokenPipeError)
    os.close(out_write)
    os.close(null)


def test_closed_input_is_an_end_of_input(fast_rig: Rig) -> None:
    run = fast_rig.run("cat", stdin=True)
    reader, writer = os.pipe()
    os.close(reader)
    result = run.session.relay(reader, writer, writer)
    assert isinstance(result, ExitRecord)
    os.close(writer)


def test_signals_go_to_the_callback_and_handlers_come_back(fast_rig: Rig) -> None:
    run = fast_rig.run(*sh("trap 'echo got; exit 8' USR1; echo ready; while :; do sleep 0.01; done"))
    before = signal.getsignal(signal.SIGUSR1)
    started = run.session.wait_started()
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    stdout, _, result = relayed(run, None, signals=(signal.SIGUSR1,), on_signal=lambda number: os.kill(started.pid, number))
    assert stdout == b"ready\ngot\n"
    assert isinstance(result, ExitRecord) and result.exit_code == 8
    assert signal.getsignal(signal.SIGUSR1) == before


def test_detach_keys_leave_the_container_running(fast_rig: Rig) -> None:
    run = fast_rig.run("cat", tty=True)
    _, _, result = relayed(run, b"typed\n\x10x\x10\x10\x11", tty=True)
    assert isinstance(result, Detached)
    assert protocol.load_exit(run.path("exit")) is None
    with run.connect() as client:
        client.ping()


def test_terminal_size_is_followed(fast_rig: Rig) -> None:
    run = fast_rig.run(*sh("trap 'stty size' WINCH; echo ready; while :; do sleep 0.01; done"), tty=True)
    master, slave = os.openpty()
    pty.set_window_size(slave, 11, 22)

    def change() -> None:
        pty.set_window_size(slave, 44, 55)
        os.kill(os.getpid(), signal.SIGWINCH)  # as the kernel does for the foreground process of a terminal
        time.sleep(0.2)
        os.write(master, b"\x10\x11")

    timer = threading.Timer(0.2, change)
    with pty.raw_terminal(slave):
        timer.start()
        assert isinstance(run.session.relay(slave, slave, slave, tty=True), Detached)
    shown = os.read(master, 65536)
    assert b"44 55" in shown
    os.close(master)
    os.close(slave)


def test_hundred_megabytes_come_through_fast(fast_rig: Rig) -> None:
    run = fast_rig.run("dd", "if=/dev/zero", "bs=65536", "count=1600", "status=none", log=False)
    null = os.open(os.devnull, os.O_WRONLY)
    began = time.monotonic()
    result = run.session.relay(-1, null, null)
    os.close(null)
    assert isinstance(result, ExitRecord) and result.exit_code == 0
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(("typed", "passed", "is_detached"), [
    ([b"abc"], b"abc", False),
    ([b"a\x10\x11b"], b"a", True),
    ([b"\x10", b"\x11"], b"", True),
    ([b"\x10", b"x"], b"\x10x", False),
    ([b"\x10\x10", b"\x11"], b"\x10", True),
    ([b"\x10a\x10", b"b\x11"], b"\x10a\x10b\x11", False),
    ([b"\x11\x10"], b"\x11", False),
])
def test_detach_keys_are_found_and_prefixes_passed_on(typed: list[bytes], passed: bytes, is_detached: bool) -> None:
    keys = DetachKeys(b"\x10\x11")
    answers = [keys.feed(data) for data in typed]
    assert b"".join(data for data, _ in answers) == passed
    assert answers[-1][1] == is_detached


def test_longer_detach_keys_and_none() -> None:
    keys = DetachKeys(b"aab")
    assert keys.feed(b"aaab") == (b"a", True)
    assert DetachKeys(b"").feed(b"\x10\x11") == (b"\x10\x11", False)


# --- linux/pty.py -----------------------------------------------------------------------------------


def test_raw_terminal_is_raw_inside_and_as_before_afterwards() -> None:
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    with pytest.raises(SystemExit), pty.raw_terminal(slave):
        inside = termios.tcgetattr(slave)
        assert not inside[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
        assert not inside[1] & termios.OPOST
        os.write(master, b"\x03")
        assert os.read(slave, 10) == b"\x03"
        raise SystemExit
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_raw_terminal_leaves_other_files_and_hung_up_terminals_alone() -> None:
    reader, writer = os.pipe()
    with pty.raw_terminal(reader):
        pass
    master, slave = os.openpty()
    with pty.raw_terminal(slave):
        os.close(master)
    for fd in (reader, writer, slave):
        os.close(fd)


def test_window_size_goes_round() -> None:
    master, slave = os.openpty()
    pty.set_window_size(master, 12, 345)
    assert pty.window_size(slave) == (12, 345)
    assert fcntl.ioctl(slave, termios.TIOCGWINSZ, bytes(8))[:4] == b"\x0c\0\x59\x01"
    os.close(master)
    os.close(slave)
    with pytest.raises(OSError):
        pty.window_size(slave)


# --- protocol.py ------------------------------------------------------------------------------------


def test_exit_record_of_few_words_has_none_for_the_rest() -> None:
    record = protocol.parse_exit(b"exit_code 3\n")
    assert (record.exit_code, record.signal, record.cpu_ns, record.error_kind, record.error()) == (3, 0, None, None, None)


@pytest.mark.parametrize("text", [b"", b"exit_code x\n", b"signal 9\n", b"\xff\xfe", b"exit_code 1\ncpu_ns -\n"])
def test_broken_exit_record_is_corrupt(text: bytes) -> None:
    from mydocker.base.errors import Corrupt

    with pytest.raises(Corrupt):
        protocol.parse_exit(text)


@pytest.mark.parametrize("text", [b"", b"1 2", b"a b c", b"1 2 3 4"])
def test_broken_started_message_is_corrupt(text: bytes) -> None:
    from mydocker.base.errors import Corrupt

    with pytest.raises(Corrupt):
        protocol.parse_started_message(text)
    with pytest.raises(Corrupt):
        protocol.parse_started(text)


def test_failure_of_unknown_kind_is_a_failed_runtime() -> None:
    from mydocker.base.errors import Denied, RuntimeFailed

    assert type(protocol.parse_failure(b"Denied\x001\0mount x")) is Denied
    assert type(protocol.parse_failure(b"Whatever\x001\0text")) is RuntimeFailed
    assert type(protocol.parse_failure(b"")) is RuntimeFailed


def test_number_of_a_failure_becomes_its_reason_and_none_adds_nothing() -> None:
    assert str(protocol.parse_failure(b"Denied\x001\0mount x")) == "mount x: operation not permitted"
    assert str(protocol.parse_failure(b"Denied\x000\0mount x: no reason")) == "mount x: no reason"


def test_missing_records_are_none(tmp_path: os.PathLike[str]) -> None:
    assert protocol.load_exit(f"{os.fspath(tmp_path)}/exit") is None
    assert protocol.load_started(f"{os.fspath(tmp_path)}/started") is None
