"""linux/process: who a process is, told by more than its pid."""
from __future__ import annotations

import ctypes
import os
import pathlib
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from mydocker.linux import process
from mydocker.linux.process import ProcessIdentity


@pytest.fixture
def child() -> Iterator[int]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with open("/proc/self/comm", "w") as file:
            file.write(") R 1 (")
        os.write(writer, b".")
        signal.pause()
        os._exit(0)
    os.read(reader, 1)
    os.close(reader)
    os.close(writer)
    yield pid
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass  # the test has reaped it


def test_a_running_process_is_alive_and_gets_signals(child: int) -> None:
    identity = ProcessIdentity.of(child)
    assert identity is not None
    assert process.is_alive(identity)
    assert process.signal_process(identity, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    assert not process.is_alive(identity)
    assert not process.signal_process(identity, signal.SIGTERM)


def test_a_zombie_is_dead(child: int) -> None:
    identity = ProcessIdentity.of(child)
    assert identity is not None
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert not process.is_alive(identity)
    assert process.open_pidfd(identity) is None
    assert ProcessIdentity.of(child) is None
    os.waitpid(child, 0)


def test_a_process_whose_first_thread_has_ended_is_alive() -> None:
    pid = os.fork()
    if pid == 0:
        threading.Thread(target=time.sleep, args=(60,)).start()
        ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)  # exit(2), of the calling thread
    try:
        while b") Z " not in pathlib.Path(f"/proc/{pid}/stat").read_bytes():
            time.sleep(0.01)
        identity = ProcessIdentity.of(pid)
        assert identity is not None and process.is_alive(identity)
        assert process.signal_process(identity, signal.SIGTERM)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert not process.is_alive(identity)


@pytest.mark.parametrize("change", [{"start_time": 1}, {"boot_id": "another"}])
def test_a_recycled_pid_is_never_signalled(child: int, change: dict[str, object]) -> None:
    identity = ProcessIdentity.of(child)
    assert identity is not None
    forged = identity.replace(**change)
    assert not process.is_alive(forged)
    assert process.open_pidfd(forged) is None
    assert not process.signal_process(forged, signal.SIGKILL)
    assert process.is_alive(identity)


def test_a_name_with_parentheses_does_not_confuse_the_start_time(child: int) -> None:
    with open(f"/proc/{child}/comm") as file:
        assert file.read() == ") R 1 (\n"
    mine, its = process.read_start_time(os.getpid()), process.read_start_time(child)
    assert mine is not None
    assert its is not None
    assert mine <= its < mine + 100 * 3600


def test_waiting_ends_with_the_process_or_the_time(child: int) -> None:
    fd = os.pidfd_open(child)
    assert not process.wait_pidfd(fd, 0.01)
    assert not process.wait_pidfd(fd, -1)
    os.kill(child, signal.SIGKILL)
    assert process.wait_pidfd(fd, 5)
    assert process.wait_pidfd(fd)
    os.waitpid(child, 0)
    assert not process.signal_pidfd(fd, signal.SIGKILL)
    os.close(fd)


def test_a_pid_that_nobody_has_is_nobody() -> None:
    assert ProcessIdentity.of(2**22 + 1) is None
    assert process.open_pidfd(ProcessIdentity(pid=2**22 + 1, start_time=1, boot_id=process.boot_id())) is None


def test_waiting_longer_than_poll_can_is_waiting_for_ever() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    fd = os.pidfd_open(child)
    assert process.wait_pidfd(fd, 1e11)
    os.close(fd)
    os.waitpid(child, 0)
