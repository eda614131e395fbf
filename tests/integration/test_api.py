"""The Python API, as a program embeds it: with threads, live streams, bytes, timeouts, and errors of one tree."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import Mydocker, is_running, processes, until

from mydocker import (
    AlreadyInState,
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    Engine,
    InvalidRequest,
    MydockerError,
    NotFound,
    Timeout,
)

pytestmark = [pytest.mark.needs("root", "overlay")]

ALL_BYTES = bytes(range(256)) * 4096


def test_run_waits_and_tells_output_and_exit_code(engine: Engine, busybox: str) -> None:
    container = engine.containers.run(busybox, ["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert container.output == (b"out\n", b"err\n")
    assert (container.status, container.exit_code, container.pid) == ("exited", 3, None)
    assert [(line.stream, line.message) for line in container.logs()] == [("stdout", b"out\n"), ("stderr", b"err\n")]
    container.remove()
    assert engine.containers.list() == []


def test_run_with_rm_leaves_only_the_handle(engine: Engine, mydocker: Mydocker, busybox: str) -> None:
    container = engine.containers.run(busybox, ["sh", "-c", "echo out; exit 3"], rm=True)
    assert (container.output, container.exit_code) == ((b"out\n", b""), 3)
    with pytest.raises(NotFound):
        container.refresh()
    engine.close()
    assert mydocker.leftovers() == []


def test_bytes_go_in_and_out_unharmed(engine: Engine, busybox: str) -> None:
    container = engine.containers.run(busybox, ["cat"], stdin=ALL_BYTES, rm=True)
    assert container.output == (ALL_BYTES, b"")
    with engine.containers.run(busybox, ["sleep", "1000"], detach=True) as running:
        result = running.exec(["sh", "-c", "cat; cat /nosuch"], stdin=ALL_BYTES)
        assert (result.exit_code, result.stdout) == (1, ALL_BYTES)
        assert b"No such file" in result.stderr
        assert running.exec(["cat"], stdin=b"").stdout == b""
        assert running.exec(["cat"]).stdout == b""


def test_options_of_python_have_python_types(engine: Engine, busybox: str, scratch: str) -> None:
    container = engine.containers.run(
        busybox, ["sh", "-c", "echo $A $B; id -u; pwd; hostname; cat /data/file"], rm=True, env={"A": "1", "B": "x y"},
        volume={scratch: "/data"}, user=12, workdir="/tmp", hostname="box", memory=64 << 20, pids_limit=50,
        label={"tier": "web"}, stdin=b"", stop_signal=signal.SIGINT, log_opt={"max-size": "1m", "max-file": 2})
    assert container.output is not None
    assert container.output[0] == b"1 x y\n12\n/tmp\nbox\n"
    assert container.labels == {"tier": "web"}
    assert container.record["config"]["memory_bytes"] == 64 << 20


def test_life_of_a_container_in_the_background(engine: Engine, mydocker: Mydocker, busybox: str) -> None:
    container = engine.containers.run(
        busybox, ["sh", "-c", "trap 'exit 4' TERM; echo ready; while :; do sleep 0.05; done"], detach=True, name="box")
    assert (container.name, container.status, container.exit_code) == ("box", "running", None)
    assert container.id == engine.containers.get("bo").id == mydocker.rows()["box"]["ID"]
    assert container.pid == mydocker.pid_of("box")
    for line in container.logs(follow=True):
        assert line.message == b"ready\n"
        break
    container.pause()
    assert container.status == engine.containers.get("box").status == "paused"
    container.unpause()
    container.stop(timeout=5)
    assert (container.status, container.exit_code, container.pid) == ("stopped", 4, None)
    assert container.wait() == 4
    container.start()
    assert container.status == "running"
    container.kill("KILL")
    assert container.wait(timeout=5) == 137
    assert (container.refresh().signal, container.oom_killed) == (9, False)
    digest = container.commit("mine:v1")
    assert engine.images.inspect("mine:v1")["manifest_digest"] == digest
    assert engine.containers.run("mine:v1", ["true"], rm=True).exit_code == 0
    container.remove()
    assert engine.containers.list() == []


def test_exec_session_is_live_both_ways(engine: Engine, busybox: str) -> None:
    script = "echo ready; while read -r line; do echo \"got $line\" >&2; done; exit 7"
    with engine.containers.run(busybox, ["sleep", "1000"], detach=True) as container:
        with container.open_exec(["sh", "-c", script], interactive=True) as session:
            events = session.events()
            assert next(events) == ("stdout", b"ready\n")
            for word in (b"one", b"two"):
                session.write(word + b"\n")
                assert next(events) == ("stderr", b"got " + word + b"\n")
            session.close_stdin()
            kind, _ = next(events)
            assert kind == "exited"
            assert session.finish() == 7
        assert os.listdir(f"{engine.layout.container(container.id)}/exec") == []


def test_opened_container_is_live_too_and_ends_with_finish(engine: Engine, mydocker: Mydocker, busybox: str) -> None:
    with engine.containers.open(busybox, ["sh", "-c", "read -r x; echo \"$x\"; exit 5"], interactive=True, rm=True) as session:
        assert session.container is not None and session.container.status == "running"
        session.write(b"said\n")
        assert next(session.events()) == ("stdout", b"said\n")
        assert session.finish() == 5
    engine.close()
    assert mydocker.leftovers() == []


def test_timeouts_name_the_container_and_end_what_took_too_long(engine: Engine, busybox: str) -> None:
    with pytest.raises(Timeout, match=r"run container slow: .* 0.2 s"):
        engine.containers.run(busybox, ["sleep", "1000"], timeout=0.2, name="slow")
    slow = engine.containers.get("slow")
    assert (slow.status, slow.exit_code) == ("exited", 137)
    slow.remove()
    with engine.containers.run(busybox, ["sleep", "1000"], detach=True, name="box") as container:
        began = time.monotonic()
        with pytest.raises(Timeout, match=r"exec in container box: .* 0.2 s"):
            container.exec(["sh", "-c", "echo begun; exec sleep 999"], timeout=0.2)
        with pytest.raises(Timeout, match="box"):
            container.wait(timeout=0.1)
        assert time.monotonic() - began < 10
        assert b"sleep 999" not in container.exec(["ps"]).stdout
        assert container.refresh().status == "running"


def test_each_error_is_of_the_tree_and_of_its_kind(engine: Engine, mydocker: Mydocker, busybox: str) -> None:
    run = engine.containers.run
    with run(busybox, ["sleep", "1000"], detach=True, name="box") as container:
        for kind, attempt in [
            (NotFound, lambda: run("nosuch", ["true"])),
            (NotFound, lambda: engine.containers.get("nosuch")),
            (Conflict, lambda: run(busybox, ["true"], name="box")),
            (Conflict, container.remove),
            (AlreadyInState, container.start),
            (CommandNotFound, lambda: run(busybox, ["nosuch"])),
            (CommandNotExecutable, lambda: run(busybox, ["/etc/passwd"])),
            (CommandNotFound, lambda: container.exec(["nosuch"])),
            (CommandNotExecutable, lambda: container.exec(["/etc/passwd"])),
            (NotFound, lambda: container.exec(["true"], user="nosuch")),
            (InvalidRequest, lambda: container.exec([])),
            (InvalidRequest, lambda: run(busybox, "true")),
            (InvalidRequest, lambda: run(busybox, ["true"], memory="much")),
            (InvalidRequest, lambda: run(busybox, ["true"], memori=1)),  # type: ignore[call-arg]
            (InvalidRequest, lambda: run(busybox, ["true"], env=["=x"])),
            (InvalidRequest, lambda: container.commit("NOT A NAME")),
        ]:
            with pytest.raises(kind) as caught:
                attempt()
            assert isinstance(caught.value, MydockerError)
            assert "\n" not in caught.value.message and caught.value.message
    assert engine.containers.list() == []


def test_forty_starts_execs_and_ends_from_sixteen_threads(engine: Engine, mydocker: Mydocker, busybox: str) -> None:
    shared = engine.containers.run(busybox, ["sleep", "1000"], detach=True)

    def work(number: int) -> tuple[int, bytes, int | None]:
        mine = shared.exec(["sh", "-c", f"exit {number}"]).exit_code
        with engine.containers.run(busybox, ["sleep", "1000"], detach=True) as container:
            said = container.exec(["echo", str(number)]).stdout
        ended = engine.containers.run(busybox, ["sh", "-c", f"exit {number}"], rm=True)
        return mine, said, ended.exit_code

    with ThreadPoolExecutor(max_workers=16) as pool:
        done = list(pool.map(work, range(40)))
    assert done == [(number, b"%d\n" % number, number) for number in range(40)]
    shared.remove(force=True)
    engine.close()
    assert mydocker.leftovers() == []


def test_locks_held_by_other_threads_do_not_reach_the_container(engine: Engine, busybox: str) -> None:
    """A fork of this process would copy a lock that another thread holds: the start must not depend on it."""
    stop = threading.Event()

    def hold_import_and_io_locks() -> None:
        while not stop.wait(0.0001):
            sys.stderr.flush()
            __import__("json.tool")
    threads = [threading.Thread(target=hold_import_and_io_locks) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            assert engine.containers.run(busybox, ["true"], rm=True).exit_code == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def launchers(parent: int) -> list[int]:
    """Return the launcher of a process (its spare is the launcher's own child)."""
    return [pid for pid, argv in processes() if "monitor.launcher" in argv[-1] and parent_of(pid) == parent]


def parent_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            return int(stream.read().rpartition(b")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def test_containers_outlive_the_engine_and_the_launcher_does_not(mydocker: Mydocker, busybox: str) -> None:
    with Engine(root=mydocker.root) as engine:
        container = engine.containers.run(busybox, ["sleep", "1000"], detach=True, name="box")
        (launcher,) = launchers(os.getpid())
    assert not is_running(launcher)
    assert mydocker.rows()["box"]["STATUS"] == "running"
    with Engine(root=mydocker.root, single_threaded=True) as engine:
        assert engine.containers.get("box").id == container.id
        assert launchers(os.getpid()) == []


def test_program_that_is_killed_leaves_containers_and_no_launcher(mydocker: Mydocker, busybox: str) -> None:
    script = (
        "import sys, time; from mydocker import Engine; engine = Engine()\n"
        f"engine.containers.run({busybox!r}, ['sleep', '1000'], detach=True, name='box'); print('started', flush=True)\n"
        "time.sleep(1000)")
    with subprocess.Popen([sys.executable, "-c", script], env=mydocker.environ(), stdout=subprocess.PIPE) as program:
        try:
            assert program.stdout is not None and program.stdout.readline() == b"started\n"
            (launcher,) = launchers(program.pid)
        finally:
            program.kill()
    until(lambda: not is_running(launcher))
    assert mydocker.rows()["box"]["STATUS"] == "running"


def test_two_engines_on_one_root_see_the_same(mydocker: Mydocker, engine: Engine, busybox: str) -> None:
    with Engine(root=mydocker.root) as other:
        container = engine.containers.run(busybox, ["sleep", "1000"], detach=True)
        assert [found.id for found in other.containers.list()] == [container.id]
        other.containers.get(container.id).remove(force=True)
        with pytest.raises(NotFound):
            container.exec(["true"])


def test_logs_are_lines_with_stream_and_time_and_can_be_narrowed(engine: Engine, busybox: str) -> None:
    began = time.time()
    with engine.containers.run(busybox, ["sh", "-c", "for i in 1 2 3; do echo $i; done; echo e >&2"]) as container:
        lines = list(container.logs())
        assert [line.message for line in lines if line.stream == "stdout"] == [b"1\n", b"2\n", b"3\n"]
        assert [line.message for line in container.logs(tail=1)] == [lines[-1].message]
        assert list(container.logs(until=began - 10)) == []
        assert len(list(container.logs(since=began - 10))) == 4
        with pytest.raises(InvalidRequest):
            list(container.logs(since="yesterday"))
