"""The launcher of embedding programs: its spares, what it deletes for them, and that nothing of it outlives them."""
from __future__ import annotations

import os
import signal
import threading

import pytest
from harness import Mydocker, processes, until

from mydocker import Engine

pytestmark = [pytest.mark.needs("root", "overlay")]


def launchers() -> list[int]:
    """Return the pids of launchers and their spares that this process has."""
    return [pid for pid, argv in processes() if "-c" in argv and "monitor.launcher" in argv[-1] and is_below(pid, os.getpid())]


def is_below(pid: int, ancestor: int) -> bool:
    while pid > 1:
        pid = parent_of(pid)
        if pid == ancestor:
            return True
    return False


def parent_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            return int(stream.read().rpartition(b")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def has_let_go(pid: int) -> bool:
    """Tell whether a killed process has no files any more: it is gone, or a zombie of ours until its place is taken."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            return stream.read().rpartition(b")")[2].split()[0] == b"Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def spare_of_the_launcher() -> int:
    (spare,) = [pid for pid in launchers() if parent_of(pid) != os.getpid()]
    return spare


def test_one_launcher_and_one_spare_wait_and_both_go_with_the_engine(mydocker: Mydocker, busybox: str) -> None:
    with Engine(mydocker.root) as engine:
        assert engine.containers.run(busybox, ["true"], rm=True).exit_code == 0
        until(lambda: len(launchers()) == 2)
    until(lambda: launchers() == [])


def test_spare_that_is_killed_is_replaced(engine: Engine, busybox: str) -> None:
    engine.containers.run(busybox, ["true"], rm=True)
    for _ in range(3):
        until(lambda: len(launchers()) == 2)
        spare = spare_of_the_launcher()
        os.kill(spare, signal.SIGKILL)
        until(lambda: not os.path.exists(f"/proc/{spare}"))  # dying, it might still take an order with it  # noqa: B023
        assert engine.containers.run(busybox, ["echo", "hi"], rm=True).output == (b"hi\n", b"")


def test_launcher_that_is_killed_is_replaced(engine: Engine, mydocker: Mydocker, busybox: str) -> None:
    engine.containers.run(busybox, ["true"], rm=True)
    until(lambda: len(launchers()) == 2)
    killed = launchers()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    until(lambda: all(has_let_go(pid) for pid in killed))  # dying, one might still take an order with it
    assert engine.containers.run(busybox, ["echo", "hi"], rm=True).output == (b"hi\n", b"")
    mydocker("ps")  # any command deletes what the dead one had been asked to
    assert mydocker.leftovers() == []


def test_many_orders_at_once_are_all_run(engine: Engine, busybox: str) -> None:
    codes: list[int | None] = []

    def start(number: int) -> None:
        codes.append(engine.containers.run(busybox, ["sh", "-c", f"exit {number}"], rm=True).exit_code)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(code for code in codes if code is not None) == list(range(24))


def test_trash_is_empty_when_the_engine_is_closed(mydocker: Mydocker, busybox: str) -> None:
    with Engine(mydocker.root) as engine:
        for _ in range(5):
            engine.containers.run(busybox, ["sh", "-c", "mkdir -p /a/b/c; echo x >/a/b/c/d"], rm=True)
    assert os.listdir(f"{mydocker.root}/trash") == []


def test_start_does_not_wait_until_a_huge_container_is_deleted(mydocker: Mydocker, busybox: str) -> None:
    with Engine(mydocker.root) as engine:
        huge = engine.containers.create(busybox, ["true"])
        upper = f"{mydocker.root}/container/{huge.id}/upper"
        for number in range(60_000):
            os.mknod(f"{upper}/{number}")
        engine.containers.run(busybox, ["true"], rm=True)
        until(lambda: len(launchers()) == 2)
        before = set(launchers())
        huge.remove()
        until(lambda: set(launchers()) - before, what="for a process that does nothing but delete")
        (deleting,) = set(launchers()) - before
        os.kill(deleting, signal.SIGSTOP)
        try:
            for _ in range(3):  # the first takes the spare that waits
                assert engine.containers.run(busybox, ["true"], rm=True).exit_code == 0
        finally:
            os.kill(deleting, signal.SIGCONT)
    assert os.listdir(f"{mydocker.root}/trash") == []
    until(lambda: launchers() == [])


def test_program_that_dies_leaves_neither_launcher_nor_spare(mydocker: Mydocker, busybox: str) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            engine = Engine(mydocker.root)
            engine.containers.run(busybox, ["true"], rm=True)
            until(lambda: len(launchers()) == 2)
            os.write(writer, " ".join(map(str, launchers())).encode())
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    os.close(writer)
    with open(reader, encoding="ascii") as stream:
        pids = [int(word) for word in stream.read().split()]
    os.waitpid(pid, 0)
    assert len(pids) == 2
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))


def test_engine_of_a_program_that_ignores_its_children_is_closed(mydocker: Mydocker, busybox: str) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with Engine(mydocker.root) as engine:
            engine.containers.run(busybox, ["true"], rm=True)
        until(lambda: launchers() == [])
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_engine_is_closed_while_a_fork_of_the_program_lives_on(mydocker: Mydocker, busybox: str) -> None:
    with Engine(mydocker.root) as engine:
        engine.containers.run(busybox, ["true"], rm=True)
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
    try:
        until(lambda: launchers() == [])
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
