"""Containers made by another OCI runtime, `--runtime`: what works with ours works with it. Also run in the cgroup v2 guest."""
from __future__ import annotations

import os
import shutil

import pytest
from harness import Mydocker, until

from mydocker import Engine

pytestmark = [pytest.mark.needs("root", "overlay")]

RUNTIMES = [*(pytest.param(name, marks=pytest.mark.needs(name)) for name in ("crun", "runc")), "mydocker-runtime"]


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_command_runs_with_its_output_input_and_code(mydocker: Mydocker, busybox: str, runtime: str) -> None:
    done = mydocker(
        "run", "-i", "--rm", "--runtime", runtime, busybox, "sh", "-c", "cat; echo err >&2; exit 7", stdin=b"in\n", code=7)
    assert (done.out, done.err) == ("in\n", "err\n")


def test_options_reach_the_other_runtime(mydocker: Mydocker, busybox: str, runtime: str, scratch: str) -> None:
    out = mydocker(
        "run", "--rm", "--runtime", runtime, "-u", "daemon", "--group-add", "7", "--cap-drop", "ALL", "--hostname", "h", "-e", "A=b",
        "-w", "/new/dir", "-v", f"{scratch}:/data:ro", "--tmpfs", "/run", "--ulimit", "nofile=100:200", "--read-only", busybox,
        "sh", "-c", "id -u; id -G; hostname; echo $A $HOME; pwd; ulimit -n; touch /data/x; touch /x; grep CapBnd /proc/self/status",
        code=None).out.splitlines()
    assert out[0] == "1"
    assert set(out[1].split()) >= {"1", "7"}
    assert out[2:4] == ["h", f"b {out[3].split()[1]}"]
    assert out[4:6] == ["/new/dir", "100"]
    assert out[-1].split()[1] == "0" * 16


def test_life_of_a_container(mydocker: Mydocker, busybox: str, runtime: str) -> None:
    options = ["--runtime", runtime, "-m", "64m"]
    mydocker("create", "--name", "c", *options, busybox, "sh", "-c", "echo began; sleep 1000")
    assert mydocker.rows()["c"]["STATUS"] == "created"
    mydocker("start", "c")
    until(lambda: mydocker("logs", "c").out == "began\n", what="for the output")
    mydocker("pause", "c")
    assert mydocker.rows()["c"]["STATUS"] == "paused"
    mydocker("unpause", "c")
    mydocker("stop", "-t", "0", "c")
    assert mydocker.inspect("c")["state"]["exitCode"] == 137
    mydocker("start", "c")
    mydocker("restart", "-t", "0", "c")
    assert mydocker.rows()["c"]["STATUS"] == "running"
    mydocker("kill", "c")
    mydocker("rm", "c")


def test_exec(mydocker: Mydocker, busybox: str, runtime: str) -> None:
    mydocker("run", "-d", "--name", "c", "--runtime", runtime, "-e", "A=b", busybox, "sleep", "1000")
    done = mydocker("exec", "-i", "-u", "daemon", "-w", "/etc", "c", "sh", "-c", "cat; id -u; pwd; echo $A; exit 5", stdin=b"in\n", code=5)
    assert done.out == "in\n1\n/etc\nb\n"
    mydocker("exec", "-d", "c", "touch", "/made")
    until(lambda: mydocker("exec", "c", "ls", "/").out.count("made") == 1, what="for the detached command")
    assert "nope" in mydocker("exec", "c", "nope", code=127).one_error_line()
    assert not [name for name in os.listdir(f"{mydocker.directory_of('c')}/runtime") if name.startswith("exec-")]


def test_terminals(mydocker: Mydocker, busybox: str, runtime: str) -> None:
    with mydocker.terminal("run", "-ti", "--runtime", runtime, "--name", "c", busybox, "sh", rows=30, columns=90) as terminal:
        terminal.expect("#")
        terminal.type("stty size; exit 3\n")
        terminal.expect("30 90")
        assert terminal.wait() == 3
    mydocker("run", "-d", "--name", "d", "--runtime", runtime, busybox, "sleep", "1000")
    with mydocker.terminal("exec", "-ti", "d", "sh", "-c", "tty; read x; exit 4") as terminal:
        terminal.expect("/dev/pts/")
        terminal.type("\n")
        assert terminal.wait() == 4


def test_init_of_ours_under_another_runtime(mydocker: Mydocker, busybox: str, runtime: str) -> None:
    mydocker("run", "-d", "--name", "c", "--runtime", runtime, "--init", busybox, "sleep", "1000")
    assert "mydocker-init" in mydocker("exec", "c", "cat", "/proc/1/cmdline").out
    assert mydocker("exec", "c", "ps").out.count("sleep 1000") == 1 + (runtime != "mydocker-runtime")  # in its arguments, too
    mydocker("stop", "-t", "20", "c")
    assert mydocker.inspect("c")["state"]["exitCode"] == 143
    mydocker("run", "--rm", "--runtime", runtime, "--init", busybox, "sh", "-c", "exit 6", code=6)


def test_namespaces_and_shared_memory_of_another_container(mydocker: Mydocker, busybox: str, runtime: str) -> None:
    mydocker("run", "-d", "--name", "a", "--ipc", "shareable", busybox, "sh", "-c", "echo x > /dev/shm/f; sleep 1000")
    until(lambda: "f" in mydocker("exec", "a", "ls", "/dev/shm").out, what="for the shared file")
    out = mydocker(
        "run", "--rm", "--runtime", runtime, "--pid=container:a", "--ipc=container:a", busybox, "sh", "-c", "cat /dev/shm/f; ps").out
    assert out.startswith("x\n")
    assert "sleep 1000" in out


def test_failures_have_the_codes_and_words_of_the_same_failure_with_ours(mydocker: Mydocker, busybox: str, runtime: str) -> None:
    assert "nope" in mydocker("run", "--rm", "--runtime", runtime, busybox, "nope", code=127).one_error_line()
    mydocker("run", "--rm", "--runtime", runtime, busybox, "/etc/passwd", code=126)
    assert "nouser" in mydocker("run", "--rm", "--runtime", runtime, "-u", "nouser", busybox, "true", code=125).one_error_line()
    assert "unknown runtime nope" in mydocker("run", "--rm", "--runtime", "nope", busybox, "true", code=125).one_error_line()


def test_nothing_is_mounted_on_the_host_and_nothing_is_left(mydocker: Mydocker, busybox: str, runtime: str) -> None:
    mydocker("run", "-d", "--name", "c", "--runtime", runtime, busybox, "sleep", "1000")
    with open("/proc/self/mountinfo", encoding="utf-8") as stream:
        assert mydocker.root not in stream.read()
    assert os.path.isdir(f"{mydocker.directory_of('c')}/runtime/state/{mydocker.directory_of('c').rpartition('/')[2]}")
    mydocker("rm", "-f", "c")
    mydocker("run", "--name", "d", "--runtime", runtime, busybox, "true")
    assert mydocker.directory_of("d").rpartition("/")[2] not in os.listdir(f"{mydocker.directory_of('d')}/runtime/state")


@pytest.mark.needs("crun")
@pytest.mark.parametrize("point", ["listening", "cloned init", "recorded created"])
def test_a_stage_that_is_killed_leaves_nothing(mydocker: Mydocker, busybox: str, point: str) -> None:
    done = mydocker(
        "run", "-d", "--runtime", "crun", busybox, "sleep", "1000", code=125,
        env={"MYDOCKER_TRACE": f"{point}=kill"})
    done.one_error_line()

    def is_swept() -> bool:
        mydocker("ps")  # the killed stage may hold its lock for a moment after its client has heard of its end
        return mydocker.container_ids() == []

    until(is_swept, what="for the next command to remove what was left")
    until(lambda: not mydocker.processes(), what="for the runtime and the proxy to end")


@pytest.mark.needs("crun")
def test_the_environment_chooses_and_a_path_is_a_runtime_too(mydocker: Mydocker, busybox: str, engine: Engine) -> None:
    mydocker("create", "--name", "c", busybox, "true", env={"MYDOCKER_RUNTIME": "crun"})
    assert mydocker.inspect("c")["config"]["runtime"] == shutil.which("crun")
    mydocker("create", "--name", "d", "--runtime", "mydocker", busybox, "true", env={"MYDOCKER_RUNTIME": "crun"})
    assert mydocker.inspect("d")["config"]["runtime"] == ""
    container = engine.containers.run(busybox, ["echo", "api"], runtime=str(shutil.which("crun")), rm=True)
    assert container.output == (b"api\n", b"")


@pytest.mark.needs("crun")
def test_a_runtime_that_is_gone_does_not_hinder_removal(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    program = shutil.copy(str(shutil.which("crun")), f"{scratch}/crun")
    mydocker("run", "-d", "--name", "c", "--runtime", program, busybox, "sleep", "1000")
    os.unlink(program)
    mydocker("rm", "-f", "c")


@pytest.mark.needs("crun")
def test_the_environment_of_the_caller_does_not_reach_the_other_runtime(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    wrapper = f"{scratch}/wrapper"
    with open(wrapper, "w", encoding="ascii") as stream:
        stream.write(f"#!/bin/sh\nenv >> {scratch}/env\nexec {shutil.which('crun')} \"$@\"\n")
    os.chmod(wrapper, 0o755)
    mydocker("run", "--rm", "--runtime", wrapper, busybox, "true", env={"SECRET": "word"})
    with open(f"{scratch}/env", encoding="ascii") as stream:
        text = stream.read()
    assert "PATH=" in text
    assert "SECRET" not in text


def test_the_null_device_of_the_host_keeps_its_owner(mydocker: Mydocker, busybox: str, runtime: str) -> None:
    """Some runtimes give their stdio to the user inside: where that is the host's /dev/null, the host would lose it."""
    before = os.stat(os.devnull)
    mydocker("run", "--rm", "--runtime", runtime, "--userns", "private", busybox, "sh", "-c", "cat; echo x >/dev/null")
    mydocker("run", "-d", "-name", "c", "--runtime", runtime, "--userns", "private", "-u", "1000", busybox, "sleep", "1000")
    mydocker("exec", "-d", "c", "true")
    after = os.stat(os.devnull)
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
