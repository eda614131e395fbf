"""The stage of an exec session: see stage.py, its counterpart for containers.

It has no lock and no journal entry: what a kill leaves is a directory below the container's, which goes with it.
"""
from __future__ import annotations

import _socket
import os

from mydocker.base import paths, trace
from mydocker.base.record import Record
from mydocker.linux.cgroup.group import Cgroup
from mydocker.runtime.exec import ExecOrder, enter
from mydocker.runtime.seccomp import prepare_filter

from .becoming import become_monitor, execute_monitor, open_stdio, sync_failure
from .lifecycle import EXEC_STAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from mydocker.oci.runtime_spec import Process, Seccomp
    from mydocker.runtime.cloning import Created


class ExecStage(Record):
    """A further process in a running container; `directory` is exec/<id> of the container's."""

    container_id: str
    directory: str
    cgroups_path: str
    process: Process
    namespaces: int
    init_pidfd: int
    user: str
    groups: tuple[str, ...]
    interactive: bool
    client: _socket.socket
    client_flags: int
    seccomp: Seccomp | None = None
    seccomp_cache: str = ""
    runtime: str = ""


def run_exec_stage(order: ExecStage) -> NoReturn:
    """Start the process and become its monitor. Never returns; failures go to the client."""
    try:
        become_monitor(EXEC_STAGE)
        trace.point("exec stage began")
        _make_exec(order)
    except BaseException as error:
        sync_failure(order.client, error)


def _make_exec(order: ExecStage) -> NoReturn:
    outside, inside = open_stdio(tty=order.process.get("terminal", False), interactive=order.interactive)
    directory_fd = os.open(order.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    container_dir = os.path.dirname(os.path.dirname(order.directory))
    created = enter_own(order, container_dir, inside) if not order.runtime else enter_foreign(order, container_dir, inside)
    trace.point("cloned exec")
    execute_monitor(
        created, directory_fd, order.container_id, outside, order.client, order.client_flags, ["--start"], [],
        accounting=False)


def enter_own(order: ExecStage, container_dir: str, stdio: tuple[int, int, int] | None) -> Created:
    """Clone the process into the container."""
    return enter(ExecOrder(
        process=order.process, namespaces=order.namespaces, init_pidfd=order.init_pidfd, stdio=stdio, user=order.user,
        groups=order.groups, seccomp=prepare_filter(order.seccomp, order.seccomp_cache), container_id=order.container_id,
        bundle=f"{container_dir}/{paths.BUNDLE}"), Cgroup.open(order.cgroups_path))


def enter_foreign(order: ExecStage, container_dir: str, stdio: tuple[int, int, int] | None) -> Created:
    """Have the runtime that made the container start the process."""
    from mydocker.runtime.foreign import ForeignRuntime  # cold

    runtime = ForeignRuntime(
        program=order.runtime, directory=f"{container_dir}/{paths.RUNTIME}", container_id=order.container_id)
    return runtime.enter(
        order.process, cgroups_path=order.cgroups_path, namespaces=order.namespaces, init_pidfd=order.init_pidfd, stdio=stdio,
        user=order.user, groups=order.groups, seccomp=order.seccomp)
