"""Creating a container from a bundle: cgroup, namespaces, and an init that is on its way to READY.

`create` returns as soon as the init was cloned: what it does to become the container (mostly mounts) and
what its parent does meanwhile (executing the monitor) take about as long as each other, and go on at
the same time. What the init has to say, CONSOLE, READY or FAILED, comes on the channel (sync.py); the
monitor listens to it. Nothing is left when `create` raises.

Source: runtime-spec runtime.md "Create"; clone(2), namespaces(7).
"""
from __future__ import annotations

import _socket
import os
from contextlib import ExitStack

from mydocker.base import log, trace
from mydocker.base.errors import Unsupported
from mydocker.base.record import Record
from mydocker.linux import syscalls as sc
from mydocker.linux.cgroup.group import Cgroup
from mydocker.linux.cgroup.group import enter as enter_cgroup
from mydocker.linux.process import signal_pidfd

from . import plan, sync
from .init import InitOrder, run_init
from .rootfs import plan_rootfs
from .seccomp import Filter, prepare_filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.oci.runtime_spec import Mount, Spec

NAMESPACES = {
    "pid": sc.CLONE_NEWPID, "network": sc.CLONE_NEWNET, "mount": sc.CLONE_NEWNS, "ipc": sc.CLONE_NEWIPC,
    "uts": sc.CLONE_NEWUTS, "cgroup": sc.CLONE_NEWCGROUP, "user": sc.CLONE_NEWUSER, "time": sc.CLONE_NEWTIME,
}


class Created(Record):
    """An init in the making: `channel` is the sync socket. The holder closes `pidfd` and `channel`."""

    pid: int
    pidfd: int
    channel: _socket.socket
    cgroup: Cgroup


def create(
    spec: Spec, root_path: str, *, root_mount: Mount | None = None, stdio: tuple[int, int, int] | None = None,
    user: str | None = None, groups: tuple[str, ...] = (), start_fd: int = -1, container_id: str = "", seccomp_cache: str = "",
) -> Created:
    """Clone the container's init and set it on its way.

    `root_path` is the rootfs directory, `root_mount` what to mount there first; `stdio` are the
    descriptors for 0, 1, 2 unless the process wants a terminal; `user` and further `groups` are looked up
    in the container; `seccomp_cache` is a directory for compiled filters (seccomp.py).
    The caller must be single-threaded. Raises MydockerError, OSError; then nothing is left.
    """
    linux = spec.get("linux", {})
    plan.last_stage_fd()
    seccomp = prepare_filter(linux.get("seccomp"), seccomp_cache)
    with ExitStack() as undo:
        cgroup = Cgroup.create(linux.get("cgroupsPath", f"/mydocker/{container_id}"), linux.get("resources", {}))
        undo.callback(cgroup.remove)
        trace.point("made cgroup")
        order = plan_init(spec, root_path, root_mount, stdio, user, groups, start_fd, cgroup, seccomp)
        channel, inner = sync.open_pair()
        undo.callback(channel.close)
        # The cgroup namespace is left to the init: see `enter_cgroup_namespace`.
        pid, pidfd = clone_into(cgroup, order.namespaces & ~sc.CLONE_NEWCGROUP)
        if pid == 0:
            channel.close()
            run_init(order, inner)
        undo.callback(kill_and_reap, pid, pidfd)
        inner.close()
        log.debug("cloned", container=container_id, pid=pid)
        undo.pop_all()
    return Created(pid=pid, pidfd=pidfd, channel=channel, cgroup=cgroup)


def plan_init(
    spec: Spec, root_path: str, root_mount: Mount | None, stdio: tuple[int, int, int] | None, user: str | None,
    groups: tuple[str, ...], start_fd: int, cgroup: Cgroup, seccomp: Filter,
) -> InitOrder:
    """Decide everything that can be decided before the fork.

    Only hierarchies in which the container has a cgroup of its own are shown inside: in any other
    one its view would begin at the engine's.
    """
    if spec["process"].get("rlimits"):
        import resource  # noqa: F401  # cold: so that the init need not import inside the container
    shared: dict[str, list[str]] = {}
    for controller, directory in cgroup.v1.items():
        shared.setdefault(directory, []).append(controller)
    v1_hierarchies = tuple(",".join(controllers) for controllers in shared.values())
    return InitOrder(
        spec=spec, root_path=root_path, root_mount=root_mount,
        operations=tuple(plan_rootfs(spec, v1_hierarchies=v1_hierarchies, has_v2=bool(cgroup.v2))),
        namespaces=_namespace_flags(spec), stdio=stdio, user=user, groups=groups, start_fd=start_fd, seccomp=seccomp,
    )


def _namespace_flags(spec: Spec) -> int:
    flags = 0
    for namespace in spec.get("linux", {}).get("namespaces", ()):
        kind = namespace.get("type", "")
        if kind not in NAMESPACES or namespace.get("path"):
            raise Unsupported(f"linux.namespaces: {kind} {namespace.get('path', '')} cannot be used")
        flags |= NAMESPACES[kind]
    return flags


def clone_into(cgroup: Cgroup, namespaces: int) -> tuple[int, int]:
    """Clone a child that is in the cgroup before it does anything else; return (pid, pidfd), (0, -1) in the child.

    On v2 it is born there (CLONE_INTO_CGROUP), on v1 it moves itself: see linux/cgroup/group.py.
    """
    entries = cgroup.open_entries()
    entry_fd = cgroup.entry_fd()
    try:
        pid, pidfd = sc.clone3(namespaces, entry_fd)
        if pid == 0:
            enter_cgroup(entries)
            entries = []
        return pid, pidfd
    finally:
        for fd in [*entries, *([entry_fd] if entry_fd >= 0 else [])]:
            os.close(fd)


def kill_and_reap(pid: int, pidfd: int) -> None:
    """End and reap an init that never got to run its command."""
    signal_pidfd(pidfd, 9)
    os.close(pidfd)
    os.waitpid(pid, 0)
