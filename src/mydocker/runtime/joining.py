"""The helper of a container that joins namespaces by path, or whose clocks are moved (namespaces.py says why there is one).

Its order is the kernel's: what the creator's rights reach first, a user namespace, what only that one's rights reach; then
the new ones. It clones the init into all of them, or becomes it where the init is to stay outside of a pid namespace.

Source: setns(2), user_namespaces(7), time_namespaces(7).
"""
from __future__ import annotations

import _socket
import errno
import os

from mydocker.base.errors import InvalidRequest, RuntimeFailed, Unsupported
from mydocker.base.undo import Undo
from mydocker.linux import syscalls as sc
from mydocker.linux.cgroup.group import Cgroup

from . import procfs, sync  # noqa: F401  # what the init needs is here before it is cloned
from .cloning import clone_into, kill_and_reap, receive_entered
from .create import map_ids
from .handover import hide_from_ptrace, refuse_imports, report_and_exit
from .init import InitOrder, ask_for_mapping, become_root, run_init
from .namespaces import Joined, NamespacePlan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


class Entering:
    """The creator's side of an init that stays outside of the pid namespace: the socket on which its clone inside is reported.

    `report` is the end for the last stage. `closing` closes both.
    """

    __slots__ = ("_entered", "report")

    def __init__(self, closing: Undo) -> None:
        self._entered, self.report = sync.open_pair()
        closing.callback(self._entered.close)
        closing.callback(self.report.close)

    def finish(self, pid: int, pidfd: int) -> tuple[int, int]:
        """Wait until the init has become the last stage; return pid and pidfd of the one that is inside.

        Those of the init itself when it failed: then what it has to say, and its end, are their reader's.
        """
        self.report.close()
        found = receive_entered(self._entered)
        if found:
            kill_and_reap(pid, pidfd)
        return found or (pid, pidfd)


def clone_by_helper(
    order: InitOrder, namespaces: NamespacePlan, cgroup: Cgroup, channel: _socket.socket, inner: _socket.socket
) -> tuple[int, int]:
    """Have a helper join the namespaces that exist and clone the init; return the init's pid and pidfd.

    With a pid namespace to join late it becomes the init itself.
    """
    helper, helper_pidfd = clone_into(cgroup, 0)
    if helper == 0:
        channel.close()
        run_helper(order, namespaces, inner)
    if namespaces.late_pid:
        channel.send(sync.GO)
        return helper, helper_pidfd
    try:
        inner.close()
        if namespaces.new & sc.CLONE_NEWUSER:
            map_ids(order.spec, helper, channel)
        text, pidfd = sync.receive_message(channel, sync.CLONED)
        if namespaces.all & sc.CLONE_NEWUSER:
            from .attributes import apply_from_outside  # cold

            apply_from_outside(int(text), order.spec["process"])
        channel.send(sync.GO)
        return int(text), pidfd
    finally:
        kill_and_reap(helper, helper_pidfd)


def run_helper(order: InitOrder, namespaces: NamespacePlan, channel: _socket.socket) -> NoReturn:
    """Join what is to be joined, clone the init as a sibling, and end. A failure is reported on the channel."""
    try:
        offsets_fd = open_time_offsets() if namespaces.time_offsets else -1
        hide_from_ptrace()
        if any(joined.flag == sc.CLONE_NEWNS for joined in namespaces.joined):
            refuse_imports()
        join_all(namespaces)
        new = namespaces.new & ~(sc.CLONE_NEWCGROUP | sc.CLONE_NEWTIME)
        if new & sc.CLONE_NEWUSER:
            sc.unshare(sc.CLONE_NEWUSER)
            ask_for_mapping(channel)
            new &= ~sc.CLONE_NEWUSER
        if namespaces.all & sc.CLONE_NEWUSER:
            become_root(order.spec)
        if namespaces.new & sc.CLONE_NEWTIME:
            enter_time_namespace(namespaces.time_offsets, offsets_fd)
        if namespaces.late_pid:
            sc.unshare(new)
            run_init(order, channel)
        pid, pidfd = sc.clone3(new | sc.CLONE_PARENT)
        if pid == 0:
            run_init(order, channel)
        sync.send(channel, sync.CLONED + str(pid).encode(), pidfd)
    except BaseException as error:
        report_and_exit(channel, error)
    os._exit(0)


def join_all(plan: NamespacePlan) -> None:
    """Join every namespace by path, but for `late_pid`.

    Those that the creator's own rights reach come first; those that only a process of the joined user namespace
    may enter come behind it. Raises RuntimeFailed by field.
    """
    user = [joined for joined in plan.joined if joined.flag == sc.CLONE_NEWUSER]
    others = [joined for joined in plan.joined if joined.flag != sc.CLONE_NEWUSER and joined is not plan.late_pid]
    # The mount namespace last: behind it, another /proc may be in view.
    others.sort(key=lambda joined: joined.flag == sc.CLONE_NEWNS)
    refused = [joined for joined in others if not _join(joined, is_last_try=not user)]
    for joined in user + refused:
        _join(joined, is_last_try=True)


def _join(joined: Joined, *, is_last_try: bool) -> bool:
    try:
        sc.setns(joined.fd, joined.flag)
    except OSError as error:
        if error.errno == errno.EPERM and not is_last_try:
            return False
        raise RuntimeFailed(f"{joined.field}: join the namespace: {os.strerror(error.errno or 0)}") from error
    return True


def open_time_offsets() -> int:
    """Open the file that `enter_time_namespace` writes to; as another user this process could not any more."""
    return os.open("/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)


def enter_time_namespace(offsets: bytes, fd: int) -> None:
    """Make a time namespace for the children of this process, with its clocks moved; closes the descriptor.

    Raises Unsupported, InvalidRequest.
    """
    try:
        sc.unshare(sc.CLONE_NEWTIME)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise Unsupported("linux.namespaces: this kernel has no time namespaces (Linux 5.6, CONFIG_TIME_NS)") from error
    try:
        os.write(fd, offsets)
    except OSError as error:
        raise InvalidRequest(f"linux.timeOffsets: {os.strerror(error.errno or 0)}") from error
    finally:
        os.close(fd)
