"""Becoming a monitor: what the stages of containers and of exec sessions have in common.

A stage is a forked child, single-threaded Python with everything imported already. It leads a session of its own,
starts a process, and executes the C monitor in place: same pid, still the parent, now small.
"""
from __future__ import annotations

import _socket
import os
from _signal import SIG_DFL, SIGCHLD, SIGHUP, SIGTERM  # type: ignore[import-not-found]
from _signal import signal as set_signal

from mydocker.base import log, trace
from mydocker.base.record import Record
from mydocker.linux import syscalls as sc
from mydocker.runtime import sync
from mydocker.runtime.plan import program_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from mydocker.runtime.cloning import Created

#: What a clean-up started by the monitor inherits; never the caller's environment, which may hold secrets.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **trace.environment()}


def become_monitor(title: str) -> None:
    """Leave the caller's session, adopt orphans, let go of its terminal and of whatever it inherited.

    `title` is the process's name from now on: by it a forced removal knows a stage that stands still (standstill.py).
    """
    sc.set_name(title)
    os.setsid()
    # The launcher lets the kernel reap its children; here each end must be seen.
    set_signal(SIGCHLD, SIG_DFL)
    for signum in (SIGHUP, SIGTERM):  # the command undoes its own
        set_signal(signum, SIG_DFL)
    sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)
    sc.close_range(3, 0xFFFFFFFF, 4)  # CLOSE_RANGE_CLOEXEC: descriptors of the caller's caller, too
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1) if log.is_enabled() else (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    os.chdir("/")


class Stdio(Record):
    """The monitor's ends of a process's stdio; -1 where there is none."""

    stdin: int = -1
    stdout: int = -1
    stderr: int = -1


def open_stdio(*, tty: bool, interactive: bool) -> tuple[Stdio, tuple[int, int, int] | None]:
    """Return the monitor's ends and the process's; a terminal is made inside, later."""
    if tty:
        return Stdio(), None
    if interactive:
        in_read, in_write = os.pipe2(os.O_CLOEXEC)
    else:
        in_read, in_write = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), -1
    out_read, out_write = os.pipe2(os.O_CLOEXEC)
    err_read, err_write = os.pipe2(os.O_CLOEXEC)
    return Stdio(stdin=in_write, stdout=out_read, stderr=err_read), (in_read, out_write, err_write)


def keep(fd: int) -> int:
    """Let a descriptor pass the execution of the monitor; return it."""
    os.set_inheritable(fd, True)
    return fd


def execute_monitor(
    created: Created, directory_fd: int, container_id: str, outside: Stdio, client: _socket.socket, client_flags: int,
    arguments: list[str], clean_up: list[str], *, accounting: bool = True,
) -> NoReturn:
    """Execute the C monitor of a process (csrc/monitor/main.c has the options). Raises OSError when it cannot be."""
    argv = [
        "mydocker-monitor", "--dir", str(keep(directory_fd)), "--pid", str(created.pid),
        "--pid-fd", str(keep(created.pidfd)), "--sync", str(keep(created.channel.fileno())), "--id", container_id,
        "--client", str(keep(client.fileno())), "--client-flags", str(client_flags), "--making", *arguments,
    ]
    for option, fd in (("--stdin", outside.stdin), ("--stdout", outside.stdout), ("--stderr", outside.stderr)):
        if fd >= 0:
            argv += [option, str(keep(fd))]
    if accounting:
        bill = created.cgroup.open_accounting()
        for option, fd in (
            ("--cgroup-cpu", bill.cpu_fd), ("--cgroup-memory-peak", bill.memory_peak_fd), ("--cgroup-oom", bill.oom_fd),
        ):
            if fd >= 0:
                argv += [option, str(keep(fd))]
        if bill.memory_peak_fd >= 0 and bill.peak_reset:
            argv += ["--peak-reset", bill.peak_reset]
    if clean_up:
        argv += ["--", *clean_up]
    os.execve(program_path("mydocker-monitor"), argv, ENVIRONMENT)


def sync_failure(client: _socket.socket, error: BaseException) -> NoReturn:
    """Tell the client what went wrong and end; everything made was undone on the way here."""
    if log.is_enabled():
        import traceback  # cold
        from contextlib import suppress  # cold

        with suppress(OSError):  # nobody reads it
            traceback.print_exception(error)  # now: the client has the last word
    try:
        sync.send(client, sync.pack_failure(error))
    except OSError:
        pass  # the client was killed: the journal entry tells the next command what to remove
    os._exit(1)
