"""A further process in a running container: the same last stage, behind setns(2).

`enter` is the counterpart of create.create. The process that calls it stays outside; its child joins
the container's namespaces by a pidfd, so a recycled pid is never entered, and becomes the last stage. Only
that goes into the pid namespace, by a clone of its own (csrc/init/entering.h): the interpreter, and the host's
root that it begins with, are never to be seen there, not by a process that may trace everything either.

Source: setns(2), pidfd_open(2); runc's exec for what a process spec means here.
"""
from __future__ import annotations

import _socket
import errno
import os

from mydocker.base import log, trace
from mydocker.base.errors import Conflict, NotFound, RuntimeFailed
from mydocker.base.record import Record
from mydocker.base.undo import Undo
from mydocker.linux import syscalls as sc
from mydocker.linux.cgroup.group import Cgroup
from mydocker.linux.process import pid_of

from . import plan, sync
from .cloning import Created, clone_into, kill_and_reap, receive_entered
from .handover import (
    execute_last_stage,
    find_credentials,
    hide_from_ptrace,
    is_null,
    open_terminal,
    refuse_imports,
    report_and_exit,
    score_for_oom_killer,
    take_stdio,
)
from .plan import NO_ATTRIBUTES, Attributes, LastStage
from .seccomp import NO_FILTER, Filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from mydocker.oci.runtime_spec import Linux, Process


class ExecOrder(Record):
    """What the entering process is told; see InitOrder and create.create."""

    process: Process
    namespaces: int
    init_pidfd: int
    stdio: tuple[int, int, int] | None
    user: str | None = None
    groups: tuple[str, ...] = ()
    seccomp: Filter = NO_FILTER
    console_fd: int = -1
    preserve_fds: int = 0
    attributes: Attributes = NO_ATTRIBUTES
    agent_fd: int = -1
    container_id: str = ""
    bundle: str = ""
    annotations: Mapping[str, str] | None = None
    """What the agent of the filter's notifications is told of the container."""
    linux: Linux | None = None
    """The container's, for what of it is each process' own: personality and memory policy."""
    is_cgroup_chosen: bool = False
    """Whether the caller named the cgroup (`exec --cgroup`): then no other one does."""


def enter(order: ExecOrder, cgroup: Cgroup) -> Created:
    """Clone a process into a container and set it on its way; see create.create.

    `order.namespaces` are the CLONE_NEW* flags of the namespaces that the container does not share with
    the host. The caller must be single-threaded. Raises NotFound when the container ended, MydockerError, OSError.
    """
    plan.last_stage_fd()
    order = with_attributes(order)
    if order.namespaces & sc.CLONE_NEWUSER:
        from . import idmap  # noqa: F401  # cold: where no root is mapped the handover wants it, inside
    if order.process.get("apparmorProfile") or order.process.get("selinuxLabel"):
        from .labels import check_process_labels  # cold

        check_process_labels(order.process)
    with Undo() as undo, Undo() as closing:
        if order.seccomp.listener_path:
            from .listener import connect_agent  # cold

            order = order.replace(agent_fd=connect_agent(order.seccomp.listener_path))
            closing.callback(os.close, order.agent_fd)
        channel, inner = sync.open_pair()
        undo.callback(channel.close)
        entered, report = sync.open_pair()
        closing.callback(entered.close)
        cpus = os.sched_getaffinity(0) if order.process.get("execCPUAffinity") else None
        bind_to_cpus(order.process, "initial")
        try:
            pid, pidfd = clone_beside_init(cgroup, -1 if order.is_cgroup_chosen else order.init_pidfd)
            if pid == 0:
                channel.close()
                entered.close()
                run_exec(order, inner, report)
        finally:
            if cpus is not None:
                os.sched_setaffinity(0, cpus)
        undo.callback(kill_and_reap, pid, pidfd)
        inner.close()
        report.close()
        if order.namespaces & sc.CLONE_NEWPID and (found := receive_entered(entered)):
            kill_and_reap(pid, pidfd)
            pid, pidfd = found
        log.debug("exec cloned", pid=pid)
        undo.pop_all()
    return Created(pid=pid, pidfd=pidfd, channel=channel, cgroup=cgroup)


def clone_beside_init(cgroup: Cgroup, init_pidfd: int) -> tuple[int, int]:
    """Clone a process into the container's cgroup, or where its init is when that takes none (Cgroup.around).

    With an `init_pidfd` of -1 it is that cgroup or Conflict.
    """
    caller = os.getpid()
    try:
        return clone_into(cgroup, 0)
    except OSError as error:
        if error.errno != errno.EBUSY or os.getpid() != caller:
            raise
        if init_pidfd < 0:
            raise Conflict(f"exec: adding pid of the command to cgroups: {cgroup.path}: device or resource busy",
                           hint="on cgroup v2 a group that hands controllers down takes no processes") from error
        return clone_into(cgroup.around(pid_of(init_pidfd)), 0)


def with_attributes(order: ExecOrder) -> ExecOrder:
    """Return the order with what only some processes have. Raises InvalidRequest by field."""
    process, linux = order.process, order.linux or {}
    if not any(process.get(key) for key in ("rlimits", "scheduler", "ioPriority", "execCPUAffinity")) and not any(
            value is not None for value in (process.get("oomScoreAdj"), linux.get("personality"), linux.get("memoryPolicy"))):
        return order
    from .attributes import plan_attributes  # cold: and so that the child need not import it inside

    return order.replace(attributes=plan_attributes(process, linux))


def run_exec(order: ExecOrder, channel: _socket.socket, report: _socket.socket) -> NoReturn:
    """Join the container and execute the last stage: the steps, in order. Never returns."""
    process = order.process
    try:
        hide_from_ptrace()
        score_for_oom_killer(process, 0)  # before a user namespace is joined in which it may not
        new_pid_namespace = bool(order.namespaces & sc.CLONE_NEWPID)
        if not new_pid_namespace:
            os.setsid()  # otherwise the process in there does it
        listener_state = describe_listener(order)
        refuse_imports()
        join_namespaces(order)
        trace.point("exec entered root")
        bind_to_cpus(process, "final")
        os.umask(plan.DEFAULT_UMASK)
        root_fd = os.open("/", sc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        credentials = find_credentials(root_fd, process, order.user, order.groups)
        if process.get("terminal"):
            open_terminal(root_fd, process, credentials, channel, console_fd=order.console_fd, console_in=None,
                          leads_session=not new_pid_namespace)
        else:
            take_stdio(order.stdio, credentials, find_own_null(root_fd))
        execute_last_stage(process, credentials, LastStage(
            sync_fd=channel.fileno(), preserve_fds=order.preserve_fds, attributes=order.attributes,
            filters=order.seccomp.program, filter_flags=order.seccomp.flags, agent_fd=order.agent_fd,
            listener_state=listener_state, entered_fd=report.fileno() if new_pid_namespace else -1))
    except BaseException as error:
        report_and_exit(channel, error)


def describe_listener(order: ExecOrder) -> str:
    """Return what the agent of the filter's notifications is told; "" when there is none."""
    if order.agent_fd < 0:
        return ""
    from .listener import describe_exec  # cold: imported by the creator already where there is an agent

    return describe_exec(order)


def find_own_null(root_fd: int) -> int:
    """Open the container's null device, -1 when its /dev/null is something else or gone."""
    try:
        fd = sc.openat2(
            root_fd, "/dev/null", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK, 0, sc.RESOLVE_IN_ROOT | sc.RESOLVE_NO_SYMLINKS)
    except OSError:
        return -1
    if is_null(fd):
        return fd
    os.close(fd)
    return -1


def bind_to_cpus(process: Process, when: str) -> None:
    """Set process.execCPUAffinity: `initial` before the container's cgroup is entered, `final` behind it."""
    cpus = process.get("execCPUAffinity", {}).get(when)
    if cpus:
        from .attributes import set_affinity  # cold: imported by the creator already where there is one

        set_affinity(str(cpus), f"process.execCPUAffinity.{when}")


def join_namespaces(order: ExecOrder) -> None:
    """Enter the container's namespaces in one call; its mount namespace brings its root with it."""
    flags = order.namespaces  # of the pid namespace it joins for its children only: the last stage's clone
    # A container without a mount namespace is in a mere chroot; its root is asked for while the host's /proc is in view.
    root_fd = -1 if flags & sc.CLONE_NEWNS else open_root_of(order.init_pidfd)
    try:
        if flags:
            sc.setns(order.init_pidfd, flags)
        if root_fd >= 0:
            os.fchdir(root_fd)
            os.chroot(".")
            os.close(root_fd)
        if flags & sc.CLONE_NEWUSER:
            become_root_of_namespace()
    except ProcessLookupError:
        raise NotFound("enter the container: it has ended") from None
    except OSError as error:
        raise RuntimeFailed(f"enter the container's namespaces: {os.strerror(error.errno or 0)}") from error


def open_root_of(pidfd: int) -> int:
    """Open the root directory of a pidfd's process. The caller closes it. Raises NotFound when it has ended."""
    pid = pid_of(pidfd)
    try:
        fd = os.open(f"/proc/{pid}/root", sc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound("enter the container: it has ended") from None
    if pid_of(pidfd) != pid:  # it ended, and the pid may be another's by now
        os.close(fd)
        raise NotFound("enter the container: it has ended")
    return fd


def become_root_of_namespace() -> None:
    """Become root of the user namespace that was joined, where it has one: until the last stage this process works as that."""
    try:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    except OSError:
        return  # id 0 is not mapped there
    sc.prctl(sc.PR_SET_DUMPABLE, 0)
