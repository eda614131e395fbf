"""The agent of `linux.seccomp.listenerPath`: who gets the notification descriptor of a container's filter.

The creator connects, so that an agent that is not there is known before anything is made; the last stage sends
the descriptor with what this module packs (csrc/init/listener.h).

Source: runtime-spec config-linux.md "containerProcessState"; seccomp_unotify(2).
"""
from __future__ import annotations

import _socket
import os

from mydocker.base.errors import NotFound, RuntimeFailed
from mydocker.base.jsontext import dumps
from mydocker.linux.process import pid_of
from mydocker.oci.runtime_spec import SPEC_VERSION

from .hooks import state_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .exec import ExecOrder
    from .init import InitOrder

_DESCRIPTOR_NAME = "seccompFd"


def connect_agent(path: str) -> int:
    """Return a socket connected to the agent, close-on-exec; the caller closes it. Raises RuntimeFailed."""
    agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        # A path of any length, though sun_path has 108 bytes; one that begins with @ is an abstract name.
        agent.connect(f"\0{path[1:]}" if path.startswith("@") else _short(path))
        return agent.detach()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise RuntimeFailed(f"linux.seccomp.listenerPath: failed to connect with seccomp agent {path}: {reason}") from error
    finally:
        agent.close()


def _short(path: str) -> str:
    if len(os.fsencode(path)) < 108:
        return path
    directory, _, name = path.rpartition("/")
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)  # this process is short-lived, and the descriptor close-on-exec
    return f"/proc/self/fd/{fd}/{name}"


def describe_init(order: InitOrder) -> str:
    """Return the ContainerProcessState of a container's init. For the init, while the host's /proc is in view."""
    pid = int(os.readlink("/proc/self"))
    state = state_of(order.spec, container_id=order.container_id, status="creating", pid=pid, bundle=order.bundle)
    return _pack(state, pid, order.seccomp.listener_metadata)


def describe_exec(order: ExecOrder) -> str:
    """Return the ContainerProcessState of an exec'd process. For that process, while the host's /proc is in view."""
    pid = pid_of(order.init_pidfd)
    if pid < 0:
        raise NotFound("enter the container: it has ended")
    state = state_of(
        {"annotations": dict(order.annotations or {})}, container_id=order.container_id, status="running",
        pid=pid, bundle=order.bundle)
    return _pack(state, int(os.readlink("/proc/self")), order.seccomp.listener_metadata)


def _pack(state: Mapping[str, Any], pid: int, metadata: str) -> str:
    return dumps({
        "ociVersion": SPEC_VERSION, "fds": [_DESCRIPTOR_NAME], "pid": pid, "metadata": metadata,
        "state": {**state, "ociVersion": SPEC_VERSION}})
