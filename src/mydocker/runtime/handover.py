"""From Python to the last stage: the steps that a container's init and a process of exec have in common.

Whoever it is for, they run in the process that is to become the command. Nothing can be imported any more once
`refuse_imports` was called (see init.py).

Source: runtime-spec config.md "Process"; execve(2), fd "close-on-exec"; prctl(2) PR_SET_DUMPABLE.
"""
from __future__ import annotations

import _socket
import errno
import os
import stat
import sys

from mydocker.linux import syscalls as sc

from . import console, sync
from .descriptors import pass_on
from .plan import Credentials, LastStage, execute, open_sealed, pack_plan
from .users import find_home, resolve_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from mydocker.oci.runtime_spec import Process

    from .rootfs import Rootfs


class _Refusal:
    """The only finder of modules of a process that has `refuse_imports` behind it."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        raise ImportError(f"import {name} inside of a container")


def refuse_imports() -> None:
    """See that nothing is imported in this process any more: called just before it enters a root that is a container's.

    The interpreter's directories would be looked up in there, and what an image has at these paths would run with every
    right that this process still has, unfiltered. What is imported already can be imported again.
    """
    sys.meta_path[:] = [_Refusal]


def hide_from_ptrace() -> None:
    """Refuse ptrace and /proc/PID/fd to processes of a namespace that is shared (CVE-2016-9962).

    execve of the last stage undoes it, and that program holds nothing of the host's.
    """
    sc.prctl(sc.PR_SET_DUMPABLE, 0)


def score_for_oom_killer(process: Process, own_namespaces: int) -> None:
    """Set the score for the kernel's out-of-memory killer, by the host's /proc: no path of the container's.

    In a user namespace the creator has done it, who may lower it.
    """
    score = process.get("oomScoreAdj")
    if score is None or own_namespaces & sc.CLONE_NEWUSER:
        return
    from .attributes import set_oom_score  # cold: imported by the creator already when there is a score

    set_oom_score("/proc/self/oom_score_adj", score)


def find_credentials(root_fd: int, process: Process, user: str | None, groups: tuple[str, ...] = ()) -> Credentials:
    """Return whom to run as: the spec's numbers, or a name looked up in the container's files."""
    if user is not None:
        return resolve_user(root_fd, user, groups)
    numbers = process.get("user", {})
    uid = numbers.get("uid", 0)
    return Credentials(
        uid=uid, gid=numbers.get("gid", 0), groups=tuple(numbers.get("additionalGids") or ()),
        home="/" if has_home(process) else find_home(root_fd, uid))


def is_null(fd: int) -> bool:
    """Tell whether a descriptor is of a null device; a closed one is not."""
    try:
        status = os.fstat(fd)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return False
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)


def take_stdio(stdio: tuple[int, int, int] | None, credentials: Credentials, null_fd: int) -> None:
    """Put the descriptors of `stdio`, or those that were inherited, on 0, 1 and 2.

    The container's own null device stands in for the host's, whose owner and mode its root could change.
    """
    for target, fd in enumerate(stdio or (0, 1, 2)):
        if null_fd >= 0 and is_null(fd):
            fd = null_fd
        elif stdio is not None and credentials.uid and is_pipe(fd):
            # The command may open /dev/stdout again under its own user. Only pipes of ours: anything else, and
            # whatever was inherited, is somebody else's.
            give_pipe(fd, credentials.uid)
        if fd != target:
            os.dup2(fd, target)


def give_pipe(fd: int, uid: int) -> None:
    """Make a pipe a user's, as far as this process may: in a user namespace it may belong to an id unknown there."""
    try:
        os.fchown(fd, uid, -1)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL, errno.EROFS):
            raise


def is_pipe(fd: int) -> bool:
    """Tell whether a descriptor is a pipe or FIFO; a closed one is not."""
    try:
        return os.fstat(fd).st_mode & 0o170000 == 0o010000
    except OSError:
        return False


def open_terminal(
    root_fd: int, process: Process, credentials: Credentials, channel: _socket.socket, *, console_fd: int,
    console_in: Rootfs | None, leads_session: bool = True,
) -> None:
    """Open a terminal, send its master to the creator or the console socket, take the slave; show it as /dev/console too.

    Without `leads_session` the slave is stdio only: the last stage takes it, which leads the session then.
    """
    master, slave = console.open_console(root_fd)
    if size := process.get("consoleSize"):
        console.set_size(master, size["height"], size["width"])
    os.fchown(slave, credentials.uid, -1)
    if console_fd >= 0:
        console.send_master(console_fd, master)
    else:
        sync.send(channel, sync.CONSOLE, master)
    os.close(master)
    if console_in is not None:
        from_slave = sc.open_tree(slave, "", sc.OPEN_TREE_CLONE | sc.OPEN_TREE_CLOEXEC | sc.AT_EMPTY_PATH)
        target = console_in.ensure_console()
        sc.move_mount(from_slave, "", target, "", sc.MOVE_MOUNT_F_EMPTY_PATH | sc.MOVE_MOUNT_T_EMPTY_PATH)
        os.close(from_slave)
        os.close(target)
    console.take_terminal(slave, controls=leads_session)


def execute_last_stage(process: Process, credentials: Credentials, last: LastStage) -> NoReturn:
    """Hand over to the last stage (csrc/init/init.c), which becomes the user and then the command."""
    if last.attributes.memory_policy is not None:
        from .attributes import set_memory_policy  # cold: imported by the creator already where there is one

        set_memory_policy(*last.attributes.memory_policy)
    plan_fd = open_sealed("mydocker-plan", pack_plan(with_home(process, credentials), credentials, last))
    for fd in (plan_fd, *last.fds()):
        if fd >= 0:
            os.set_inheritable(fd, True)
    pass_on(last.preserve_fds)
    if os.geteuid():
        from .idmap import keep_capabilities_over_execve  # cold: imported by the creator already where ids are mapped

        keep_capabilities_over_execve()
    execute(lambda program_fd: os.execve(program_fd, ["mydocker-init", str(plan_fd)], {}))


def has_home(process: Process) -> bool:
    """Tell whether the environment says where HOME is."""
    homes = [item for item in process.get("env") or () if item.startswith("HOME=")]
    return bool(homes) and homes[-1] != "HOME="


def with_home(process: Process, credentials: Credentials) -> Process:
    """Return the process with each name once in its environment, the last one's value, as runc has it; and with a HOME.

    That is the user's, where the spec says nothing or nothing else than an empty word.
    """
    env = {item.partition("=")[0]: item for item in process.get("env") or ()}
    if env.get("HOME", "HOME=") == "HOME=":
        env["HOME"] = f"HOME={credentials.home}"
    return {**process, "env": list(env.values())}


def report_and_exit(channel: _socket.socket, error: BaseException) -> NoReturn:
    """Send what went wrong to the creator and end, without running any clean-up of the creator's."""
    try:
        sync.send(channel, sync.pack_failure(error))
    except OSError:
        pass  # the creator is gone, and the process ends in any case
    os._exit(1)
