"""kill -9 of a command, or of the monitor stage that it forked, at every named point (base/trace.py)."""
from __future__ import annotations

import itertools
import os
import re
import subprocess

import pytest
from fault_rig import KILLED, SLEEP, cgroup_pids, check_ps, killed_at, remove_all, settle
from harness import IMAGES, Mydocker, until

from mydocker import Engine
from mydocker.base.errors import Unavailable

pytestmark = [pytest.mark.needs("root", "overlay")]

_SOURCES = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "src")

#: Of the command, while it makes a container: nobody else knows of it yet.
BEFORE_FORK = ("made journal entry", "claimed id", "linked name", "claimed name", "recorded creating", "made bundle")
#: Of the stage, before it is the monitor.
IN_STAGE = ("stage began", "listening", "made cgroup", "cloned init", "connected networks", "recorded created")
#: Of the container's init, which cannot kill itself (test_kill_monitors.py makes it sleep there).
IN_INIT = ("init began", "init made root")
AT_END = ("removed cgroup", "renamed to trash", "discarded")
PUBLISH = ("image synced", "image layers named", "image blobs linked")
OTHERS = (
    "forked stage", "heard of the start", "connected to start", "started again", "recorded stop request", "stopped process",
    "killed to remove", "recorded pause", "froze or thawed", "froze to commit", "made exec directory", "exec started",
    "exec stage began", "cloned exec", "image unnamed", "image layers unlinked",
)


def test_every_point_of_the_engine_is_in_these_tests() -> None:
    points = set()
    for directory, _, names in os.walk(_SOURCES):
        for name in names:
            if name.endswith(".py"):
                with open(f"{directory}/{name}", encoding="utf-8") as stream:
                    points |= set(re.findall(r'\bpoint\("([^"]+)"\)', stream.read()))
    points.discard("created record")  # the example in base/trace.py
    here = {*BEFORE_FORK, *IN_STAGE, *IN_INIT, *AT_END, *PUBLISH, *OTHERS}
    assert here <= points
    assert {point for point in points - here if not _is_played_elsewhere(point)} == set()


def _is_played_elsewhere(point: str) -> bool:
    """Tell whether another file of the tests names a point: what is no command on a container has its own."""
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for directory, _, names in os.walk(tests):
        for name in names:
            if name.endswith(".py") and name != os.path.basename(__file__):
                with open(f"{directory}/{name}", encoding="utf-8") as stream:
                    if point in stream.read():
                        return True
    return False


VERBS = {"create": ["create"], "run -d": ["run", "-d"], "run": ["run"], "run --rm": ["run", "--rm"]}


@pytest.mark.parametrize(("verb", "point"), [*zip(["run -d"] * 6, BEFORE_FORK, strict=True), *((verb, "made bundle") for verb in VERBS)])
def test_command_killed_before_it_forked_leaves_nothing(mydocker: Mydocker, busybox: str, verb: str, point: str) -> None:
    killed_at(mydocker, point, *VERBS[verb], "-name", "c", busybox, *SLEEP)
    assert check_ps(mydocker) == {}
    assert mydocker.leftovers() == []
    # The name is free again.
    mydocker("create", "-name", "c", busybox, *SLEEP)
    settle(mydocker, "created")


@pytest.mark.parametrize(("verb", "point"), [*itertools.product(["run -d", "create"], IN_STAGE), ("run --rm", "cloned init")])
def test_stage_killed_is_one_line_and_leaves_nothing(mydocker: Mydocker, busybox: str, verb: str, point: str) -> None:
    killed_at(mydocker, point, *VERBS[verb], "-name", "c", busybox, *SLEEP, code=125).one_error_line()
    assert mydocker.leftovers() == []  # without any other command
    settle(mydocker, "")


@pytest.mark.parametrize("point", IN_STAGE)
def test_launcher_s_stage_killed_is_an_error_and_leaves_nothing(
    mydocker: Mydocker, busybox: str, monkeypatch: pytest.MonkeyPatch, point: str,
) -> None:
    monkeypatch.setenv("MYDOCKER_TRACE", f"{point}=kill")
    with Engine(mydocker.root) as engine:
        for _ in range(2):  # a spare is there again
            with pytest.raises(Unavailable):
                engine.containers.run(busybox, SLEEP, detach=True)
    settle(mydocker, "")


@pytest.mark.parametrize("point", IN_STAGE)
def test_command_and_stage_killed_leave_nothing(mydocker: Mydocker, busybox: str, scratch: str, point: str) -> None:
    killed_at(
        mydocker, f"forked stage=kill,{point}=kill", "run", "-d", "-name", "c", "-v", f"{scratch}:/s", busybox, "touch", "/s/ran")
    settle(mydocker, "")
    assert os.listdir(scratch) == []


@pytest.mark.parametrize(("verb", "state", "wait_at"), [
    *(("run -d", "running", point) for point in (*IN_STAGE, *IN_INIT)),
    ("create", "created", "init began"), ("run", "running", "init began"), ("run --rm", "running", "recorded created"),
])
def test_command_killed_while_it_waits_leaves_the_container_it_asked_for(
    mydocker: Mydocker, busybox: str, verb: str, state: str, wait_at: str,
) -> None:
    killed_at(mydocker, f"forked stage=kill,{wait_at}=sleep:0.1", *VERBS[verb], "-name", "c", busybox, *SLEEP)
    settle(mydocker, state)


@pytest.mark.parametrize("verb", ["run -d", "run", "run --rm"])
def test_command_killed_when_the_container_has_just_started_leaves_it_running(mydocker: Mydocker, busybox: str, verb: str) -> None:
    killed_at(mydocker, "heard of the start", *VERBS[verb], "-name", "c", busybox, *SLEEP)
    assert check_ps(mydocker) == {"c": "running"}
    settle(mydocker, "running")


@pytest.mark.parametrize("verb", ["run -d", "run", "run --rm"])
def test_killed_command_s_container_ends_as_it_would_have(mydocker: Mydocker, busybox: str, verb: str) -> None:
    killed_at(mydocker, "forked stage", *VERBS[verb], "-name", "c", busybox, "sh", "-c", "sleep 0.2; echo said; exit 3")
    if verb == "run --rm":
        settle(mydocker, "")
        return
    until(lambda: check_ps(mydocker).get("c") == "exited")
    assert mydocker.rows()["c"]["EXIT"] == "3"
    assert mydocker("logs", "c").out == "said\n"
    remove_all(mydocker)


@pytest.mark.parametrize("point", AT_END)
@pytest.mark.parametrize("verb", ["run --rm", "run"])
def test_clean_up_killed_is_finished_by_the_next_command(mydocker: Mydocker, busybox: str, verb: str, point: str) -> None:
    # The command is killed there, and the monitor's clean-up, which then has its turn, too.
    reached = verb == "run --rm" or point == "removed cgroup"
    killed_at(mydocker, point, *VERBS[verb], "-name", "c", busybox, "sh", "-c", "exit 3", code=KILLED if reached else 3)
    settle(mydocker, "" if verb == "run --rm" else "exited")


@pytest.mark.parametrize("point", AT_END)
def test_detached_container_s_clean_up_killed_is_finished_by_the_next_command(
    mydocker: Mydocker, busybox: str, point: str,
) -> None:
    killed_at(mydocker, point, "run", "-d", "--rm", "-name", "c", busybox, "sh", "-c", "exit 3", code=0)
    settle(mydocker, "")


@pytest.mark.parametrize(("point", "state"), [("connected to start", "created"), ("started again", "running")])
def test_start_of_a_created_container_killed(mydocker: Mydocker, busybox: str, point: str, state: str) -> None:
    mydocker("create", "-name", "c", busybox, *SLEEP)
    killed_at(mydocker, point, "start", "c")
    until(lambda: check_ps(mydocker) == {"c": state})
    if state == "created":
        mydocker("start", "c")
    settle(mydocker, "running")


@pytest.mark.parametrize("point", [*IN_STAGE, "started again"])
def test_start_of_an_ended_container_killed(mydocker: Mydocker, busybox: str, point: str) -> None:
    mydocker("run", "-name", "c", busybox, "sh", "-c", "test -e /second || exec touch /second; exec sleep 1000")
    done = killed_at(mydocker, point, "start", "c", code=None)
    if point == "started again":
        assert done.code == KILLED
    else:
        done.one_error_line()
        until(lambda: check_ps(mydocker) == {"c": "exited"})
        # What was written is there, and it starts again.
        mydocker("start", "c")
    until(lambda: check_ps(mydocker) == {"c": "running"})
    settle(mydocker, "running")


@pytest.mark.parametrize(("point", "state"), [("recorded stop request", "running"), ("stopped process", "stopped"), ("removed cgroup", "stopped")])
def test_stop_killed(mydocker: Mydocker, busybox: str, point: str, state: str) -> None:
    mydocker("run", "-d", "-name", "c", busybox, "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.01; done")
    killed_at(mydocker, point, "stop", "c", code=None)  # the monitor's clean-up may have removed the cgroup first
    until(lambda: check_ps(mydocker) == {"c": state})
    if state == "running":
        mydocker("stop", "c")
        assert check_ps(mydocker) == {"c": "stopped"}
    remove_all(mydocker)


@pytest.mark.parametrize("point", ["renamed to trash", "discarded"])
def test_rm_killed(mydocker: Mydocker, busybox: str, point: str) -> None:
    mydocker("run", "-name", "c", busybox, "true")
    killed_at(mydocker, point, "rm", "c")
    settle(mydocker, "")


@pytest.mark.parametrize(
    ("point", "state"), [("killed to remove", "exited"), ("renamed to trash", ""), ("discarded", "")])
@pytest.mark.parametrize("made_by", ["run -d", "create"])
def test_rm_by_force_killed(mydocker: Mydocker, busybox: str, made_by: str, point: str, state: str) -> None:
    mydocker(*made_by.split(), "-name", "c", busybox, *SLEEP)
    killed_at(mydocker, point, "rm", "-f", "c")
    until(lambda: check_ps(mydocker).get("c", "") == state)
    settle(mydocker, state)


@pytest.mark.parametrize(("verb", "point", "state"), [
    ("pause", "recorded pause", "running"), ("pause", "froze or thawed", "paused"),
    ("unpause", "recorded pause", "paused"), ("unpause", "froze or thawed", "running"),
])
def test_pause_and_unpause_killed(mydocker: Mydocker, busybox: str, verb: str, point: str, state: str) -> None:
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    if verb == "unpause":
        mydocker("pause", "c")
    killed_at(mydocker, point, verb, "c")
    assert check_ps(mydocker) == {"c": state}
    if state == "paused":
        mydocker("unpause", "c")
    assert mydocker("exec", "c", "echo", "awake").out == "awake\n"
    mydocker("stop", "-t", "0", "c")
    settle(mydocker, "stopped")


@pytest.mark.parametrize("point", ["froze to commit", *PUBLISH])
def test_commit_killed_leaves_a_container_that_can_go_on(mydocker: Mydocker, busybox: str, point: str) -> None:
    mydocker("run", "-d", "-name", "c", busybox, "sh", "-c", "echo kept >/kept; exec sleep 1000")
    until(lambda: mydocker("exec", "c", "cat", "/kept", code=None).out == "kept\n")
    images = mydocker("images", "-q").out
    killed_at(mydocker, point, "commit", "c", "made")
    assert check_ps(mydocker) == {"c": "paused"}
    assert mydocker("images", "-q").out == images
    mydocker("unpause", "c")
    mydocker("commit", "c", "made")
    assert temporary_layers(mydocker) == []
    assert mydocker("run", "--rm", "made", "cat", "/kept").out == "kept\n"
    settle(mydocker, "running")


@pytest.mark.parametrize("detach", [[], ["-d"]], ids=["foreground", "detached"])
@pytest.mark.parametrize("point", ["made exec directory", "exec stage began", "cloned exec", "exec started"])
def test_exec_killed_leaves_the_container_as_it_was(mydocker: Mydocker, busybox: str, point: str, detach: list[str]) -> None:
    mydocker("run", "-d", "-name", "c", busybox, *SLEEP)
    (container_id,) = mydocker.container_ids()
    before = cgroup_pids(container_id)
    done = killed_at(mydocker, point, "exec", *detach, "c", "sleep", "2000", code=None)
    if point in ("made exec directory", "exec started"):
        assert done.code == KILLED
    else:
        done.one_error_line()
    assert check_ps(mydocker) == {"c": "running"}
    # As with docker exec: what runs inside runs on. What never came to run is gone.
    until(lambda: len(cgroup_pids(container_id) - before) == (point == "exec started"), what=f"{cgroup_pids(container_id)}")
    assert mydocker("exec", "c", "echo", "works").out == "works\n"
    settle(mydocker, "running")


def temporary_layers(mydocker: Mydocker) -> list[str]:
    return [name for name in os.listdir(f"{mydocker.root}/layer") if name.startswith(".")]


def layers(mydocker: Mydocker) -> set[str]:
    return set(os.listdir(f"{mydocker.root}/layer"))


@pytest.mark.parametrize("point", PUBLISH)
def test_import_killed_leaves_the_images_as_they_were(mydocker: Mydocker, busybox: str, scratch: str, point: str) -> None:
    small = f"{scratch}/small.tar"
    with open(f"{scratch}/file", "w", encoding="ascii") as stream:
        stream.write("content")
    subprocess.run(["tar", "cf", small, "-C", scratch, "file"], check=True)
    images, before = mydocker("images", "--format", IMAGES).out, layers(mydocker)
    killed_at(mydocker, point, "import", small, "new")
    assert mydocker("images", "--format", IMAGES).out == images
    mydocker("import", small, "new")
    assert temporary_layers(mydocker) == []
    mydocker("rmi", "new")
    assert layers(mydocker) == before
    mydocker("run", "--rm", busybox, "true")


def test_layer_of_a_killed_import_goes_with_the_next_rmi(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    before = layers(mydocker)
    for name in ("one", "two"):
        with open(f"{scratch}/{name}", "w", encoding="ascii") as stream:
            stream.write(name)
        subprocess.run(["tar", "cf", f"{scratch}/{name}.tar", "-C", scratch, name], check=True)
    killed_at(mydocker, "image layers named", "import", f"{scratch}/one.tar", "one")
    assert len(layers(mydocker)) == len(before) + 1
    mydocker("import", f"{scratch}/two.tar", "two")
    mydocker("rmi", "two")
    assert layers(mydocker) == before
    mydocker("run", "--rm", busybox, "true")


@pytest.mark.parametrize("point", ["image unnamed", "image layers unlinked"])
def test_rmi_killed_has_removed_the_image(mydocker: Mydocker, busybox: str, scratch: str, point: str) -> None:
    with open(f"{scratch}/file", "w", encoding="ascii") as stream:
        stream.write("content")
    subprocess.run(["tar", "cf", f"{scratch}/new.tar", "-C", scratch, "file"], check=True)
    before = layers(mydocker)
    mydocker("import", f"{scratch}/new.tar", "new")
    killed_at(mydocker, point, "rmi", "new")
    assert "new" not in mydocker("images").out
    # What it did not come to remove goes with the next one.
    mydocker("import", f"{scratch}/new.tar", "again")
    mydocker("rmi", "again")
    assert layers(mydocker) == before
    assert mydocker.leftovers() == []
    mydocker("run", "--rm", busybox, "true")
