"""A further process in a running container: the same last stage, behind setns(2).

`enter` is the counterpart of create.create. The process that calls it stays outside; its child joins
the container's namespaces by a pidfd, so a recycled pid is never entered, and becomes the last stage.

Source: setns(2), pidfd_open(2); runc's exec for what a process spec means here.
"""
from __future__ import annotations

import _socket
import os
from contextlib import ExitStack

from mydocker.base import log
from mydocker.base.errors import NotFound, RuntimeFailed
from mydocker.base.record import Record
from mydocker.linux import syscalls as sc
from mydocker.linux.cgroup.group import Cgroup

from . import plan, sync
from .create import Created, clone_into, kill_and_reap
from .init import (
    execute_last_stage,
    find_credentials,
    hide_from_ptrace,
    is_pipe,
    open_terminal,
    report_and_exit,
    set_process_limits,
)
from .seccomp import Filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from mydocker.oci.runtime_spec import Process


class ExecOrder(Record):
    """What the entering process is told; see InitOrder."""

    process: Process
    namespaces: int
    init_pidfd: int
    stdio: tuple[int, int, int] | None
    user: str | None = None
    groups: tuple[str, ...] = ()
    seccomp: Filter = Filter()


def enter(order: ExecOrder, cgroup: Cgroup) -> Created:
    """Clone a process into a container and set it on its way; see create.create.

    `order.namespaces` are the CLONE_NEW* flags of the namespaces that the container does not share with
    the host. The caller must be single-threaded; afterwards its own children are born in the
    container's pid namespace. Raises NotFound when the container ended, MydockerError, OSError.
    """
    plan.last_stage_fd()
    with ExitStack() as undo:
        channel, inner = sync.open_pair()
        undo.callback(channel.close)
        if order.namespaces & sc.CLONE_NEWPID:
            try:
                sc.setns(order.init_pidfd, sc.CLONE_NEWPID)
            except ProcessLookupError:
                raise NotFound("enter the container: it has ended") from None
        pid, pidfd = clone_into(cgroup, 0)
        if pid == 0:
            channel.close()
            run_exec(order, inner)
        undo.callback(kill_and_reap, pid, pidfd)
        inner.close()
        log.debug("exec cloned", pid=pid)
        undo.pop_all()
    return Created(pid=pid, pidfd=pidfd, channel=channel, cgroup=cgroup)


def run_exec(order: ExecOrder, channel: _socket.socket) -> NoReturn:
    """Join the container and execute the last stage: the steps, in order. Never returns."""
    try:
        hide_from_ptrace()
        os.setsid()
        join_namespaces(order)
        root_fd = os.open("/", sc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        credentials = find_credentials(root_fd, order.process, order.user, order.groups)
        if order.process.get("terminal"):
            open_terminal(root_fd, order.process, credentials, channel, console_in=None)
        for target, fd in enumerate(order.stdio or ()):
            if credentials.uid and is_pipe(fd):
                os.fchown(fd, credentials.uid, credentials.gid)
            os.dup2(fd, target)
        set_process_limits(order.process)
        execute_last_stage(order.process, credentials, channel.fileno(), order.seccomp)
    except BaseException as error:
        report_and_exit(channel, error)


def join_namespaces(order: ExecOrder) -> None:
    """Enter the container's namespaces in one call; its mount namespace brings its root with it."""
    flags = order.namespaces & ~sc.CLONE_NEWPID
    try:
        if flags:
            sc.setns(order.init_pidfd, flags)
    except OSError as error:
        raise RuntimeFailed(f"enter the container's namespaces: {os.strerror(error.errno or 0)}") from error
