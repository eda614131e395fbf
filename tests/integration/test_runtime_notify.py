"""NOTIFY_SOCKET: the test is the service manager, the command of the container says that it is ready."""
from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator

import pytest
from harness import PATIENCE, until
from runtime_rig import PROGRAM, Runtime, reap, runtime  # noqa: F401

pytestmark = [pytest.mark.needs("root")]


class Manager:
    """The socket of a service manager, and where it is."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(15 * PATIENCE)

    def read(self) -> bytes:
        """Return the next message but for barriers, whose descriptor goes with reading them."""
        while (message := self.socket.recv(4096)) == b"BARRIER=1":
            pass
        return message


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[Manager]:
    with tempfile.TemporaryDirectory() as directory:
        made = Manager(f"{directory}/socket" if request.param == "path" else f"@mydocker-test-{os.getpid()}")
        yield made
        made.socket.close()


@pytest.fixture
def talker(runtime: Runtime) -> str:  # noqa: F811
    """The program `/tell MESSAGE` in the root file system: it sends a datagram to $NOTIFY_SOCKET."""
    source = """
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        #include <sys/socket.h>
        #include <sys/un.h>
        int main(int argc, char **argv) {
            struct sockaddr_un to = {.sun_family = AF_UNIX};
            int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
            strncpy(to.sun_path, getenv("NOTIFY_SOCKET"), sizeof to.sun_path - 1);
            if (sendto(fd, argv[1], strlen(argv[1]), 0, (void *)&to, sizeof to) >= 0)
                return 0;
            perror("sendto");
            return 1;
        }"""
    path = f"{runtime._rootfs}/tell"
    subprocess.run(["gcc", "-static", "-xc", "-", "-o", path], input=source, text=True, check=True)
    return path


SCRIPT = "/tell STATUS=hello; /tell MAINPID=1; sleep 0.3; /tell 'X=1\nREADY=1'; sleep 1000"


@pytest.mark.parametrize("user", [0, 33])
def test_start_waits_until_the_command_is_ready_and_names_its_process(
    runtime: Runtime, talker: str, manager: Manager, user: int,  # noqa: F811
) -> None:
    env = {"NOTIFY_SOCKET": manager.address}
    path = runtime.bundle("sh", "-c", SCRIPT, process={"user": {"uid": user, "gid": user}})
    runtime("create", "--bundle", path, "c", env=env)
    pid = runtime.state("c")["pid"]
    with subprocess.Popen([PROGRAM, "--root", runtime.root, "start", "c"], env=env) as starting:
        assert manager.read() == b"READY=1\nMAINPID=%d\n" % pid
        assert starting.poll() is None, "it waits until what it said is read"
        manager.socket.recv(4096)
        assert starting.wait(15 * PATIENCE) == 0
    assert "Read-only" in runtime("exec", "c", "sh", "-c", "rm /run/notify/notify.sock", code=1).stderr


def test_run_in_the_foreground_is_the_main_process_itself(runtime: Runtime, talker: str, manager: Manager) -> None:  # noqa: F811
    path = runtime.bundle("sh", "-c", SCRIPT)
    words = [PROGRAM, "--root", runtime.root, "run", "--bundle", path, "c"]
    with subprocess.Popen(words, env={"NOTIFY_SOCKET": manager.address}) as running:
        assert manager.read() == b"READY=1\n"
        manager.socket.recv(4096)
        runtime("kill", "c", "KILL")
        assert running.wait(15 * PATIENCE) == 128 + signal.SIGKILL
    assert runtime.ids() == [] and os.listdir(runtime.root) == []


def test_a_command_that_ends_without_a_word_keeps_nobody_waiting(runtime: Runtime, manager: Manager) -> None:  # noqa: F811
    env = {"NOTIFY_SOCKET": manager.address}
    began = time.monotonic()
    pid_file = f"{runtime.directory}/pid"
    runtime("run", "--detach", "--pid-file", pid_file, "--bundle", runtime.bundle("sleep", "0.2"), "c", env=env)
    assert time.monotonic() - began >= 0.2
    with open(pid_file) as stream:
        reap(int(stream.read()))
    runtime("delete", "--force", "c")


def test_who_waits_for_readiness_holds_no_lock(runtime: Runtime, manager: Manager) -> None:  # noqa: F811
    env = {"NOTIFY_SOCKET": manager.address}
    runtime("create", "--bundle", runtime.bundle("sleep", "1000"), "c", env=env)
    pid = runtime.state("c")["pid"]
    with subprocess.Popen([PROGRAM, "--root", runtime.root, "start", "c"], env=env) as starting:
        until(lambda: runtime.status("c") == "running", what="the start")
        runtime("delete", "--force", "c")
        assert starting.wait(15 * PATIENCE) == 0
    reap(pid)


def test_a_spec_that_has_its_own_socket_is_left_alone(runtime: Runtime, manager: Manager) -> None:  # noqa: F811
    path = runtime.bundle("sh", "-c", "echo $NOTIFY_SOCKET; ls /run/notify", process={"env": ["NOTIFY_SOCKET=/x", "PATH=/bin"]})
    assert runtime("run", "--bundle", path, "c", env={"NOTIFY_SOCKET": manager.address}, code=1).stdout == "/x\n"


def test_a_manager_that_is_gone_is_a_warning(runtime: Runtime, talker: str) -> None:  # noqa: F811
    path = runtime.bundle("sh", "-c", "/tell READY=1; echo $NOTIFY_SOCKET; exit 3")
    done = runtime("run", "--bundle", path, "c", env={"NOTIFY_SOCKET": "/nonexistent"}, code=3)
    assert "/nonexistent" in done.stderr and done.stdout == "/run/notify/notify.sock\n"
