"""`mydocker-runtime` under its real users: podman (conmon), a second dockerd (containerd's shim), buildah.

Everything is made here, from a static busybox: nothing is pulled. A peer that is not installed is skipped.
"""
from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator

import pytest
from harness import until
from peers import IMAGE, Peer, open_buildah, open_docker, open_podman
from runtime_rig import PROGRAM

pytestmark = [pytest.mark.needs("root", "busybox", "host"), pytest.mark.time_limit(240)]
#: Ends with 5 at SIGTERM.
_OBEDIENT = ("sh", "-c", 'trap "exit 5" TERM; echo up; while :; do sleep 0.1; done')


@pytest.fixture(scope="module")
def podman() -> Iterator[Peer]:
    yield from _open(open_podman)


@pytest.fixture(scope="module")
def docker() -> Iterator[Peer]:
    yield from _open(open_docker)


@pytest.fixture(scope="module")
def buildah() -> Iterator[Peer]:
    yield from _open(open_buildah)


def _open(opener) -> Iterator[Peer]:  # type: ignore[no-untyped-def]
    """Open a peer; afterwards the runtime must have as many containers as before."""
    before = runtime_ids()
    with opener() as peer:
        yield peer
    until(lambda: runtime_ids() <= before, what="for the runtime's containers to be gone")


def runtime_ids() -> set[str]:
    """Return the containers that the runtime has at the root that conmon leaves it to choose."""
    return set(subprocess.run([PROGRAM, "list", "-q"], capture_output=True, text=True, check=True).stdout.split())


@pytest.fixture(params=[
    pytest.param("podman", marks=pytest.mark.needs("podman")),
    pytest.param("docker", marks=pytest.mark.needs("docker", "dockerd", "containerd")),
])
def peer(request: pytest.FixtureRequest) -> Peer:
    """Each engine in turn."""
    opened: Peer = request.getfixturevalue(request.param)
    return opened


@pytest.fixture
def up(peer: Peer, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a container that runs, with a memory limit."""
    name = "up"
    peer.start(name, "--memory", "64m", IMAGE, *_OBEDIENT)
    until(lambda: "up" in peer("logs", name).stdout)
    yield name
    peer("rm", "-f", name)


def test_output_input_and_exit_code_pass(peer: Peer) -> None:
    done = peer.run("-i", IMAGE, "sh", "-c", "cat; echo err >&2; exit 7", code=7, stdin="from outside\n")
    assert done.stdout == "from outside\n"
    assert done.stderr == "err\n"


@pytest.mark.parametrize(("command", "code"), [
    ("nonexistent", 127), ("/nonexistent", 127), ("/etc/passwd", 126), ("/etc", 126),
])
def test_a_command_that_cannot_run_is_126_or_127(peer: Peer, command: str, code: int) -> None:
    peer.run(IMAGE, command, code=code)


def test_what_the_engine_itself_refuses_is_125(peer: Peer) -> None:
    peer.run("--no-such-option", IMAGE, "true", code=125)


@pytest.mark.needs("script")
def test_run_on_a_terminal(peer: Peer) -> None:
    assert "24 80" in peer.on_terminal(*peer.terminal_options(), IMAGE, "sh", "-c", "sleep 0.5; stty size")
    assert "/dev/" in peer.on_terminal(*peer.terminal_options(), IMAGE, "tty")


def test_exec_in_a_running_container(peer: Peer, up: str) -> None:
    assert "PID" in peer("exec", up, "ps").stdout
    assert peer("exec", "-i", up, "cat", stdin="word\n").stdout == "word\n"
    assert peer("exec", "-u", "1000", up, "id", "-u").stdout == "1000\n"
    assert peer("exec", "-e", "A=b", "-w", "/etc", up, "sh", "-c", "echo $A $PWD").stdout == "b /etc\n"
    peer("exec", up, "sh", "-c", "exit 9", code=9)
    done = peer("exec", up, "nonexistent", code=None)
    assert done.returncode in (126, 127), "dockers before 23 have 126 for both"
    assert "executable file not found in $PATH" in done.stdout + done.stderr
    assert peer("exec", up, "/etc/passwd", code=126)


@pytest.mark.needs("script")
def test_exec_on_a_terminal(peer: Peer, up: str) -> None:
    assert "/dev/pts/" in peer.on_terminal("exec", "-t", up, "tty")


def test_exec_in_the_background_is_seen_by_top(peer: Peer, up: str) -> None:
    peer("exec", "-d", up, "sleep", "777")
    until(lambda: "sleep 777" in peer("top", up).stdout)


def test_pause_and_unpause(peer: Peer, up: str) -> None:
    peer("pause", up)
    assert "Paused" in peer("ps", "--format", "{{.Status}}").stdout or "paused" in peer("inspect", up).stdout
    peer("unpause", up)
    peer("exec", up, "true")


def test_a_paused_container_can_be_removed(peer: Peer) -> None:
    peer.start("frozen", IMAGE, "sleep", "777")
    peer("pause", "frozen")
    peer("rm", "-f", "frozen")


def test_stop_start_restart_and_kill(peer: Peer, up: str) -> None:
    peer("stop", up)
    (document,) = json.loads(peer("inspect", up).stdout)
    assert document["State"]["ExitCode"] == 5
    peer("start", up)
    assert peer("exec", up, "echo", "again").stdout == "again\n"
    peer("restart", "-t", "1", up)
    peer("kill", up)
    until(lambda: json.loads(peer("inspect", up).stdout)[0]["State"]["ExitCode"] == 137)


def test_limits_and_what_is_used_are_seen_from_both_sides(peer: Peer, up: str) -> None:
    expected = 64 << 20
    if peer("update", "--help", code=None).returncode == 0:  # podman 4.3
        pids = ("--pids-limit", "50") if peer.before_verb == ["docker"] else ()
        peer("update", "--memory", "48m", "--memory-swap", "48m", "--cpu-shares", "512", *pids, up)
        expected = 48 << 20
    text = peer("exec", up, "sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max").stdout
    assert int(text) == expected
    stats = peer("stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", up).stdout.split()
    assert int(stats[-1]) >= 1
    assert not stats[0].startswith(("0B", "--"))


def test_an_oom_kill_is_told(peer: Peer) -> None:
    peer.start("greedy", "--memory", "16m", "--memory-swap", "16m", IMAGE, "sh", "-c", "tail /dev/zero; exit 137")
    until(lambda: json.loads(peer("inspect", "greedy").stdout)[0]["State"]["Status"] == "exited")
    (document,) = json.loads(peer("inspect", "greedy").stdout)
    peer("rm", "greedy")
    assert document["State"]["ExitCode"] == 137
    # conmon looks at the time of the end, and may be late for a cgroup that is gone, with whatever runtime.
    assert document["State"]["OOMKilled"] is True or peer.before_verb != ["docker"]


def test_privileges_and_mounts_are_as_asked(peer: Peer, tmp_path: object) -> None:
    done = peer.run("--read-only", "--tmpfs", "/t", "-v", f"{tmp_path}:/v:ro", IMAGE, "sh", "-c",
                    "touch /x /v/x; touch /t/x && grep CapEff /proc/self/status", code=0)
    assert "Read-only file system" in done.stderr
    privileged = peer.run("--privileged", IMAGE, "grep", "CapEff", "/proc/self/status").stdout
    assert privileged != done.stdout
    assert peer.run("--cap-drop", "ALL", IMAGE, "grep", "CapEff", "/proc/self/status").stdout.endswith("0000000000000000\n")
    assert peer.run("--pid", "host", "--ipc", "host", "--uts", "host", IMAGE, "hostname").stdout == os.uname().nodename + "\n"


def test_a_namespace_of_another_container_is_joined(peer: Peer, up: str) -> None:
    inside = peer.run("--pid", f"container:{up}", IMAGE, "readlink", "/proc/self/ns/pid").stdout
    assert inside == peer("exec", up, "readlink", "/proc/self/ns/pid").stdout


def test_many_at_a_time(peer: Peer) -> None:
    argv = [*peer.before_verb, "run", "--rm", *peer.run_options, IMAGE, "echo", "done"]
    running = [subprocess.Popen(argv, cwd=peer.directory, env=peer.env, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    assert [process.communicate(timeout=120)[0] for process in running] == ["done\n"] * 8


@pytest.mark.needs("podman")
def test_podman_health_check_is_an_exec(podman: Peer) -> None:
    podman.start("healthy", "--health-cmd", "test -e /etc/passwd", "--health-interval", "disable", IMAGE, *_OBEDIENT)
    podman("healthcheck", "run", "healthy")
    podman("rm", "-f", "-t", "0", "healthy")


@pytest.mark.needs("docker", "dockerd", "containerd")
def test_docker_init_reaps_and_passes_signals(docker: Peer) -> None:
    assert "docker-init" in docker.run("--init", IMAGE, "ps").stdout


@pytest.mark.needs("docker", "dockerd", "containerd")
def test_docker_events_tell_the_life_of_a_container(docker: Peer) -> None:
    since = str(int(time.time()))
    docker.run("--name", "eventful", IMAGE, "true")
    expected = ["create", "start", "die", "destroy"]

    def told() -> list[str]:
        words = ("events", "--since", since, "--until", "0s", "--filter", "container=eventful", "--format", "{{.Action}}")
        return [word for word in docker(*words).stdout.split() if word in expected]

    until(lambda: told() == expected)


@pytest.mark.needs("buildah")
def test_buildah_bud_and_run(buildah: Peer, tmp_path: object) -> None:
    from peers import runtime_path

    with open(f"{tmp_path}/Dockerfile", "w") as stream:
        stream.write(f"FROM {IMAGE}\nRUN echo built > /built && id -u >> /built\nUSER 1000\nRUN id -u > /tmp/user\n")
    buildah("bud", "--runtime", runtime_path(), "--network", "none", "-t", "built", str(tmp_path))
    name = buildah("from", "built").stdout.strip()
    run = ("run", "--runtime", runtime_path(), "--network", "none", name, "--")
    assert buildah(*run, "cat", "/built", "/tmp/user").stdout == "built\n0\n1000\n"
    buildah(*run, "sh", "-c", "exit 6", code=6)
    done = buildah(*run, "nonexistent", code=None)
    assert done.returncode != 0
    assert "executable file not found in $PATH" in done.stderr
