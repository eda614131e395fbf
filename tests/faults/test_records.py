"""Records that lie or are broken: a pid that is another process's by now, another boot, a cut file."""
from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fault_rig import SLEEP, cgroup_pids, check_ps, remove_all, settle
from harness import ERROR_PREFIX, Mydocker, is_running, until

from mydocker import Engine
from mydocker.base import errors

pytestmark = [pytest.mark.needs("root", "overlay")]


def start_time(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="ascii") as stream:
        return int(stream.read().rpartition(")")[2].split()[19])


def change_record(mydocker: Mydocker, **changes: Any) -> None:
    """Change the record of the container `c`."""
    change_file(f"{mydocker.directory_of('c')}/config.json", **changes)


def change_file(path: str, **changes: Any) -> None:
    """Change some keys of a JSON file."""
    with open(path, encoding="utf-8") as stream:
        record = json.load(stream)
    with open(path, "w", encoding="utf-8") as stream:
        json.dump({**record, **changes}, stream)


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process that no container has to do with; at the end it must live, never have been stopped, and end by our signal."""
    script = "import signal, time; [signal.signal(n, lambda *_: print('signalled', flush=True)) for n in (1, 2, 15)]; print('ready', flush=True)\nwhile True: time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        alive = is_running(process.pid)
        process.kill()
        assert process.stdout.read() == b""
        assert alive


@pytest.fixture(params=["start time", "boot"])
def forged(request: pytest.FixtureRequest, mydocker: Mydocker, busybox: str, victim: subprocess.Popen[bytes]) -> str:
    """A container that has ended without anybody noticing, and whose pid is the victim's now."""
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    pid = mydocker.pid_of("c")
    os.kill(mydocker.monitor_of("c"), 9)
    os.kill(pid, 9)
    until(lambda: not is_running(pid))
    if request.param == "boot":
        change_record(mydocker, pid=str(victim.pid), start_time=start_time(victim.pid), boot_id="00000000-0000-0000-0000-000000000000")
    else:
        change_record(mydocker, pid=str(victim.pid))
    return "c"


@pytest.mark.parametrize(("words", "code", "state"), [
    (["ps"], 0, "exited"), (["stop", "c"], 0, "exited"), (["kill", "c"], 125, "exited"), (["rm", "-f", "c"], 0, ""), (["rm", "c"], 0, ""),
    (["pause", "c"], 125, "exited"), (["unpause", "c"], 125, "exited"), (["exec", "c", "true"], 125, "exited"), (["attach", "c"], 125, "exited"),
    (["restart", "-t", "0", "c"], 0, "running"), (["start", "c"], 0, "running"), (["wait", "c"], 0, "exited"), (["logs", "-f", "c"], 0, "exited"),
    (["inspect", "c"], 0, "exited"), (["commit", "c", "made"], 0, "exited"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_recycled_pid_is_never_signalled(mydocker: Mydocker, forged: str, words: list[str], code: int, state: str) -> None:
    mydocker(*words, code=code)
    settle(mydocker, state)


def test_recycled_pid_of_a_paused_and_of_a_created_container(mydocker: Mydocker, forged: str) -> None:
    for status in ("paused", "created"):
        change_record(mydocker, status=status, is_recorded_end=False)
        assert check_ps(mydocker) == {"c": "exited"}
    settle(mydocker, "exited")


def test_running_container_is_left_alone_when_its_record_names_another(
    mydocker: Mydocker, busybox: str, victim: subprocess.Popen[bytes],
) -> None:
    # Even with everything right but the pid's owner, what is killed is what is in the container's cgroup.
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    pid = mydocker.pid_of("c")
    change_record(mydocker, pid=str(victim.pid))
    mydocker("rm", "-f", "c")
    assert not is_running(pid)
    settle(mydocker, "")


def test_after_a_reboot_any_command_puts_the_links_back(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    mydocker("run", "-name", "d", busybox, "sh", "-c", "exit 3", code=3)
    mydocker("create", "--rm", "-name", "e", busybox, *SLEEP)
    processes = [mydocker.pid_of("c"), mydocker.pid_of("e"), mydocker.monitor_of("c"), mydocker.monitor_of("e")]
    ids = mydocker.container_ids()
    for name in ("c", "e"):
        os.kill(mydocker.monitor_of(name), 9)
    for container_id in ids:
        for pid in cgroup_pids(container_id):
            os.kill(pid, 9)
    until(lambda: not any(map(is_running, processes)))
    for name in ("c", "e"):
        path = f"{mydocker.directory_of(name)}/config.json"
        with open(path, encoding="utf-8") as stream:
            record = json.load(stream)
        with open(path, "w", encoding="utf-8") as stream:
            json.dump({**record, "boot_id": "00000000-0000-0000-0000-000000000000"}, stream)
    shutil.rmtree(mydocker.run_dir)

    assert mydocker("logs", "d").out == ""
    assert {"c", "d"} <= set(os.listdir(mydocker.run_dir))
    assert os.path.exists(f"{mydocker.run_dir}/d/config.json")
    rows = mydocker.rows()
    # One that was to go with its end has gone with the machine's.
    assert {name: (row["STATUS"], row["EXIT"]) for name, row in rows.items()} == {"c": ("exited", "255"), "d": ("exited", "3")}
    assert sorted(os.listdir(mydocker.run_dir)) == ["c", "d"]
    mydocker("start", "c")
    settle(mydocker, "running")


def test_links_that_lead_nowhere_go_and_what_is_not_ours_stays(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    mydocker("create", "-name", "c", busybox, *SLEEP)
    os.symlink(f"{mydocker.root}/container/0000000000", f"{mydocker.run_dir}/gone")
    os.symlink(scratch, f"{mydocker.run_dir}/other")
    mydocker("ps")
    assert sorted(os.listdir(mydocker.run_dir)) == ["c", "other"]
    os.unlink(f"{mydocker.run_dir}/other")
    settle(mydocker, "created")


def test_what_cannot_be_removed_keeps_nothing_else_from_being_tidied(mydocker: Mydocker, busybox: str) -> None:
    mydocker("create", "-name", "c", busybox, *SLEEP)
    stuck = [f"{mydocker.root}/trash/{name}" for name in ("0", "container@1@n@0", "container@odd", "zz")]
    for directory in stuck:
        os.makedirs(f"{directory}/diff")
        os.close(os.open(f"{directory}/diff/file", os.O_CREAT))
        subprocess.run(["chattr", "+i", f"{directory}/diff/file"], check=True)  # as a container with CAP_LINUX_IMMUTABLE can
    try:
        os.makedirs(f"{mydocker.root}/trash/x/y")
        os.unlink(f"{mydocker.run_dir}/c")
        mydocker("ps")
        assert sorted(os.listdir(f"{mydocker.root}/trash")) == sorted(os.path.basename(path) for path in stuck)
        assert os.listdir(mydocker.run_dir) == ["c"]
        assert "EPERM" in mydocker("gc").err
    finally:
        for directory in stuck:
            subprocess.run(["chattr", "-i", f"{directory}/diff/file"], check=True)
    mydocker("ps")
    assert os.listdir(f"{mydocker.root}/trash") == []
    settle(mydocker, "created")


def test_container_that_is_removed_while_it_is_looked_at_has_no_unknown_end(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    waiting = mydocker.popen("wait", "c", env={"MYDOCKER_TRACE": "read record=stop"})
    for looks in (1, 2):  # one finds the container, one asks how it is
        os.waitid(os.P_PID, waiting.pid, os.WSTOPPED)
        if looks == 2:
            mydocker("rm", "-f", "c")
        os.kill(waiting.pid, signal.SIGCONT)
    out, error = waiting.communicate(timeout=20)
    assert out == b"" and b"no container" in error


def test_container_named_like_another_s_id_does_not_stand_in_for_it(mydocker: Mydocker, busybox: str) -> None:
    mydocker("create", "-name", "c", busybox, *SLEEP)
    container_id = mydocker.inspect("c")["id"]
    mydocker("create", "-name", container_id, busybox, *SLEEP)
    mydocker("rm", container_id)
    assert list(mydocker.rows("-a")) == [container_id]
    mydocker("rm", container_id)


def cut(path: str) -> None:
    with open(path, "r+b") as stream:
        stream.truncate(os.path.getsize(path) // 2)


def empty(path: str) -> None:
    with open(path, "wb"):
        pass


def no_record(path: str) -> None:
    with open(path, "w", encoding="ascii") as stream:
        stream.write('{"id": "1"}')


def no_object(path: str) -> None:
    with open(path, "w", encoding="ascii") as stream:
        stream.write("[]")


def other_version(path: str) -> None:
    change_file(path, version=2)


def other_kind(path: str) -> None:
    change_file(path, created_ns="yesterday")


def no_config(path: str) -> None:
    change_file(path, config={})


def unknown_state(path: str) -> None:
    change_file(path, status="asleep")


def other_container(path: str) -> None:
    change_file(path, id="../elsewhere")


@pytest.mark.parametrize(
    "breaking",
    [cut, empty, no_record, no_object, other_version, other_kind, no_config, unknown_state, other_container],
    ids=lambda act: act.__name__)
@pytest.mark.parametrize("is_running_now", [True, False], ids=["running", "ended"])
def test_broken_record_hides_no_other_container_and_goes_by_force(
    mydocker: Mydocker, busybox: str, is_running_now: bool, breaking: Callable[[str], None],
) -> None:
    mydocker("run", "-d", "-name", "other", busybox, "sleep", "1000")
    mydocker("run", "-d", "-name", "c", busybox, *(SLEEP if is_running_now else ["true"]))
    if not is_running_now:
        until(lambda: mydocker.rows()["c"]["STATUS"] == "exited")
    path = f"{mydocker.directory_of('c')}/config.json"
    container_id = path.split("/")[-2]
    path = f"{mydocker.root}/container/{container_id}/config.json"
    breaking(path)
    listed = mydocker("ps", code=125)
    assert path in listed.one_error_line()
    assert "rm -f" in listed.err
    assert "other" in listed.out
    for words in (["inspect", "c"], ["stop", "c"], ["exec", "c", "true"], ["start", "c"], ["logs", "c"], ["rm", "c"]):
        assert path in mydocker(*words, code=125).one_error_line()
    if breaking in (cut, empty, no_object):  # what it stands on can be told of the others
        mydocker("commit", "other", "unused")
        assert path in mydocker("rmi", "unused", code=125).one_error_line()
    assert "unreadable" in mydocker("info").out
    with pytest.raises(errors.Corrupt), Engine(mydocker.root) as engine:
        engine.containers.list()
    mydocker("rm", "-f", "c")
    assert not cgroup_pids(container_id)
    assert check_ps(mydocker) == {"other": "running"}
    remove_all(mydocker)


@pytest.mark.parametrize("breaking", [cut, empty], ids=lambda act: act.__name__)
def test_broken_exit_record_is_named_and_goes_by_force(mydocker: Mydocker, busybox: str, breaking: Callable[[str], None]) -> None:
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    os.kill(mydocker.monitor_of("c"), 9)
    path = f"{mydocker.root}/container/{mydocker.container_ids()[0]}/exit"
    with open(path, "w", encoding="ascii") as stream:
        stream.write("exit_code 1")
    if breaking is cut:
        cut(path)
    else:
        empty(path)
    assert mydocker("ps", code=125).one_error_line().startswith(f"read {path}: ")
    assert ERROR_PREFIX in mydocker("stop", "c", code=125).err
    mydocker("rm", "-f", "c")
    settle(mydocker, "")


def test_directory_without_a_record_is_no_container_and_goes_by_force(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    os.unlink(f"{mydocker.directory_of('c')}/config.json")
    assert check_ps(mydocker) == {}
    mydocker("rm", "-f", "c")
    settle(mydocker, "")


def test_broken_bundle_is_one_line(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-name", "c", busybox, "true")
    path = f"{mydocker.directory_of('c')}/bundle/config.json"
    path = f"{mydocker.root}/container/{mydocker.container_ids()[0]}/bundle/config.json"
    cut(path)
    assert path in mydocker("start", "c", code=125).one_error_line()
    assert check_ps(mydocker) == {"c": "exited"}
    settle(mydocker, "exited")
