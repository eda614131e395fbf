"""`linux.seccomp` of a bundle with real kernels: actions, order, notifications to an agent."""
from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from harness import PATIENCE
from runtime_rig import Runtime

from mydocker.linux import caps

pytestmark = pytest.mark.needs("root", "libseccomp", "x86_64")

_NOTIF_RECV, _NOTIF_SEND = 0xC0502100, 0xC0182101  # seccomp_unotify(2): struct seccomp_notif of 80 bytes, _resp of 24
_CONTINUE = 1
MKDIR = ["mkdir", "mkdirat"]


def seccomp(*names: str, action: str = "SCMP_ACT_ERRNO", default: str = "SCMP_ACT_ALLOW", **more: Any) -> dict[str, Any]:
    """A section with one rule; `errnoRet` and `args` belong to the rule."""
    rule = {"names": list(names), "action": action, **{key: more.pop(key) for key in ("errnoRet", "args") if key in more}}
    return {"seccomp": {"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [rule], **more}}


class Agent:
    """A seccomp agent: it answers every notification with an error, or lets the call go on when that is 0."""

    def __init__(self, path: str, error: int) -> None:
        self.path = path
        self.error = error
        self.states: list[dict[str, Any]] = []
        self.seen: list[int] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(8)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            text, fds, _, _ = socket.recv_fds(connection, 65536, 4)
            connection.close()
            self.states.append(json.loads(text))
            assert len(fds) == 1
            threading.Thread(target=self._answer, args=(fds[0],), daemon=True).start()

    def _answer(self, fd: int) -> None:
        while True:
            notice = bytearray(80)
            try:
                fcntl.ioctl(fd, _NOTIF_RECV, notice)
            except OSError:
                os.close(fd)
                return
            identity, _, _, number = struct.unpack_from("=QIIi", notice)
            self.seen.append(number)
            answer = struct.pack("=QqiI", identity, 0, -self.error, 0 if self.error else _CONTINUE)
            try:
                fcntl.ioctl(fd, _NOTIF_SEND, bytearray(answer))
            except OSError:
                continue  # the process was killed meanwhile

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def agent(runtime: Runtime) -> Iterator[Agent]:
    opened = Agent(f"{runtime.directory}/agent.sock", errno.ENOMEDIUM)
    yield opened
    opened.close()


def run(runtime: Runtime, *args: str, code: int | None = 0, **changes: Any) -> Any:
    return runtime("run", "--bundle", runtime.bundle(*args, **changes), "c", code=code)


@pytest.mark.parametrize("locked", [True, False])
def test_a_rule_counts_for_the_command_with_and_without_no_new_privileges(runtime: Runtime, locked: bool) -> None:
    done = run(
        runtime, "mkdir", "/tmp/x", code=1, process={"noNewPrivileges": locked},
        linux=seccomp(*MKDIR, errnoRet=errno.ENOTBLK))
    assert "Block device required" in done.stderr


@pytest.mark.parametrize("locked", [True, False])
@pytest.mark.parametrize("action", ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"])
def test_actions_that_kill_do(runtime: Runtime, action: str, locked: bool) -> None:
    run(runtime, "mkdir", "/tmp/x", code=128 + 31, process={"noNewPrivileges": locked}, linux=seccomp(*MKDIR, action=action))


@pytest.mark.parametrize("locked", [True, False])
def test_only_execve_of_the_runtimes_own_calls_is_subject_to_the_filter(runtime: Runtime, locked: bool) -> None:
    """What dropping privileges takes may be denied; in runc such a profile fails without no_new_privs."""
    denied = (
        "capset capget prctl setuid setresuid setgid setresgid setgroups close close_range fcntl openat openat2 write sendto sendmsg "
        "rt_sigaction rt_sigprocmask exit futex nanosleep"
    ).split()
    done = run(
        runtime, "true", code=None, process={"noNewPrivileges": locked, "user": {"uid": 1000, "gid": 1000, "additionalGids": [5]}},
        linux=seccomp(*denied, action="SCMP_ACT_ERRNO"))
    assert done.returncode in (0, 1) and "runtime" not in done.stderr, "the command ran, whatever it made of that"


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("ambient", [[], ["CAP_NET_RAW"]])
def test_the_commands_capabilities_are_the_specs_with_a_filter_as_without(runtime: Runtime, uid: int, ambient: list[str]) -> None:
    wanted = ["CAP_NET_RAW", "CAP_KILL", "CAP_CHOWN"]
    sets = {"bounding": wanted, "effective": wanted, "permitted": wanted, "inheritable": ambient, "ambient": ambient}
    told = []
    for locked in (True, False):
        for linux in ({}, seccomp(*MKDIR)):
            process = {"capabilities": sets, "user": {"uid": uid, "gid": 0}, "noNewPrivileges": locked}
            status = run(runtime, "grep", "^Cap", "/proc/self/status", process=process, linux=linux).stdout
            told.append({line.split()[0]: int(line.split()[1], 16) for line in status.splitlines()})
    assert told.count(told[0]) == 4, told
    assert told[0]["CapBnd:"] == caps.mask(wanted)
    assert told[0]["CapPrm:"] == (caps.mask(ambient) if uid else caps.mask(wanted))


@pytest.mark.parametrize("locked", [True, False])
@pytest.mark.parametrize("names", [["mkdir"], ["mkdir", "execve", "openat", "open", "read", "close", "fcntl", "sendmsg", "futex"]])
def test_an_agent_decides_on_the_calls_of_a_container(runtime: Runtime, agent: Agent, locked: bool, names: list[str]) -> None:
    """The descriptor is with the agent before the first call that it is asked about: the command's execve, at the earliest."""
    agent.error = errno.ENOMEDIUM if names == ["mkdir"] else 0
    linux = seccomp(*names, action="SCMP_ACT_NOTIFY", listenerPath=agent.path, listenerMetadata="some words")
    done = run(
        runtime, "mkdir", "/tmp/x", code=1 if agent.error else 0, process={"noNewPrivileges": locked}, linux=linux,
        annotations={"a": "b"})
    assert ("No medium found" in done.stderr) == bool(agent.error)
    [state] = agent.states
    assert state["metadata"] == "some words" and state["fds"] == ["seccompFd"]
    assert state["state"] == {**state["state"], "id": "c", "status": "creating", "pid": state["pid"], "annotations": {"a": "b"}}
    assert agent.seen[0] == (83 if agent.error else 59), "mkdir, execve"


def test_an_execd_process_has_a_notification_descriptor_of_its_own(runtime: Runtime, agent: Agent) -> None:
    linux = seccomp("mkdir", action="SCMP_ACT_NOTIFY", listenerPath=agent.path)
    runtime("create", "--bundle", runtime.bundle("sleep", "1000", linux=linux), "c")
    runtime("start", "c")
    done = runtime("exec", "c", "mkdir", "/tmp/x", code=1)
    assert "No medium found" in done.stderr
    first, second = agent.states
    assert second["pid"] != first["pid"] == second["state"]["pid"]
    assert second["state"]["status"] == "running"
    assert runtime.state("c")["pid"] == first["pid"]


def test_an_agent_that_is_not_there_is_an_error_before_anything_is_made(runtime: Runtime) -> None:
    for path in ("/nonexistent.sock", "@nonexistent", f"/{'x' * 200}/agent"):
        done = run(runtime, "true", code=1, linux=seccomp("mkdir", action="SCMP_ACT_NOTIFY", listenerPath=path))
        assert "failed to connect with seccomp agent" in done.stderr
        assert runtime.ids() == []


def test_without_an_agent_any_more_the_calls_are_not_there(runtime: Runtime) -> None:
    path = f"{runtime.directory}/{'long' * 30}"
    os.mkdir(path)
    with socket.socket(socket.AF_UNIX) as listener:
        handle = os.open(path, os.O_PATH)
        listener.bind(f"/proc/self/fd/{handle}/agent")
        os.close(handle)
        listener.listen(1)

        def take_and_go() -> None:
            connection, _ = listener.accept()
            for fd in socket.recv_fds(connection, 4096, 1)[1]:
                os.close(fd)
            connection.close()

        thread = threading.Thread(target=take_and_go, daemon=True)
        thread.start()
        done = run(
            runtime, "sh", "-c", "sleep 0.3; mkdir /tmp/x", code=1,
            linux=seccomp("mkdir", action="SCMP_ACT_NOTIFY", listenerPath=f"{path}/agent"))
        thread.join(10 * PATIENCE)
    assert "Function not implemented" in done.stderr


@pytest.mark.parametrize("flags", [[], ["SECCOMP_FILTER_FLAG_LOG"], ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"], ["SECCOMP_FILTER_FLAG_TSYNC"],
                                   ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]])
def test_flags_are_taken_by_the_kernel(runtime: Runtime, agent: Agent, flags: list[str]) -> None:
    agent.error = 0
    notify = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" in flags
    section = seccomp(*MKDIR, action="SCMP_ACT_NOTIFY" if notify else "SCMP_ACT_LOG", flags=flags, listenerPath=agent.path)
    run(runtime, "mkdir", "/tmp/y", linux=section)
    assert len(agent.states) == (1 if notify else 0)


def test_errors_name_their_field(runtime: Runtime) -> None:
    done = run(runtime, "true", code=1, linux=seccomp("mkdir", action="SCMP_ACT_WHATEVER"))
    assert "linux.seccomp.syscalls.action" in done.stderr
    done = run(runtime, "true", code=1, linux=seccomp("write", action="SCMP_ACT_NOTIFY", listenerPath="/x"))
    assert "SCMP_ACT_NOTIFY cannot be used for the write syscall" in done.stderr
