"""Inside a new container: the ordered steps from a fresh process in fresh namespaces to the last stage.

`run_init` is read from top to bottom; each step is a function. It runs in the child of create.py,
which has imported everything: from the moment the container's root is entered nothing more may be
imported, no codec or user database looked up, because all of these would come from the container.

Source: runtime-spec runtime.md "Lifecycle", config.md, config-linux.md.
"""
from __future__ import annotations

import _socket
import fcntl
import os
import struct

from mydocker.base import files, trace
from mydocker.base.errors import Denied, MydockerError, Unsupported
from mydocker.base.record import Record
from mydocker.linux import syscalls as sc

from . import console, sync
from .plan import Credentials, last_stage_fd, open_sealed, pack_plan
from .rootfs import Operation, Rootfs, mount_root, set_attributes
from .seccomp import Filter
from .users import resolve_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from mydocker.oci.runtime_spec import Mount, Process, Rlimit, Spec

_PROPAGATION = {
    "private": sc.MS_PRIVATE, "rprivate": sc.MS_PRIVATE | sc.MS_REC,
    "slave": sc.MS_SLAVE, "rslave": sc.MS_SLAVE | sc.MS_REC,
    "shared": sc.MS_SHARED, "rshared": sc.MS_SHARED | sc.MS_REC,
    "unbindable": sc.MS_UNBINDABLE, "runbindable": sc.MS_UNBINDABLE | sc.MS_REC,
}
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


class InitOrder(Record):
    """What the init is told; made before the fork, so that the child only reads it.

    `user` (and `groups` beside its own) is looked up in the container's own files when it is not None, else the
    spec's numbers count. `stdio` are the descriptors that become 0, 1, 2 (without a terminal). `operations` come
    from `plan_rootfs`.
    """

    spec: Spec
    root_path: str
    root_mount: Mount | None
    operations: tuple[Operation, ...]
    namespaces: int
    stdio: tuple[int, int, int] | None
    user: str | None = None
    groups: tuple[str, ...] = ()
    start_fd: int = -1
    seccomp: Filter = Filter()


def run_init(order: InitOrder, channel: _socket.socket) -> NoReturn:
    """Become the container's init: do every step, then execute the last stage. Never returns.

    A failure is reported on `channel` and ends the process.
    """
    try:
        prepare_and_execute(order, channel)
    except BaseException as error:
        report_and_exit(channel, error)


def prepare_and_execute(order: InitOrder, channel: _socket.socket) -> NoReturn:
    """The steps, in order. Raises what goes wrong."""
    spec = order.spec
    process = spec["process"]
    trace.point("init began")
    hide_from_ptrace()
    enter_cgroup_namespace(order.namespaces)
    os.setsid()
    name_the_machine(spec, order.namespaces)
    raise_loopback(order.namespaces)
    isolate_mounts(spec, order.namespaces)
    root = Rootfs(mount_root(order.root_path, order.root_mount))
    for operation in order.operations:
        operation.apply(root)
    apply_sysctls(root, spec)
    credentials = find_credentials(root.fd, process, order.user, order.groups)
    make_working_directory(root, process["cwd"])
    set_stdio(root, process, order, credentials, channel)
    seal_root(root, spec)
    trace.point("init made root")
    pivot_into(root)
    set_process_limits(process)
    execute_last_stage(process, credentials, channel.fileno(), order.seccomp, order.start_fd)


def hide_from_ptrace() -> None:
    """Refuse ptrace and /proc/PID/fd to processes of a namespace that is shared (CVE-2016-9962).

    execve of the last stage undoes it, and that program holds nothing of the host's.
    """
    sc.prctl(sc.PR_SET_DUMPABLE, 0)


def enter_cgroup_namespace(namespaces: int) -> None:
    """Make the cgroup that this process is now in the root of its view (cgroup_namespaces(7)).

    Not done by clone3 with the other namespaces: at that time the process may still have been in its creator's (v1).
    """
    if namespaces & sc.CLONE_NEWCGROUP:
        sc.unshare(sc.CLONE_NEWCGROUP)


def name_the_machine(spec: Spec, namespaces: int) -> None:
    """Set host and domain name, in a UTS namespace of the container's own."""
    if namespaces & sc.CLONE_NEWUTS:
        if hostname := spec.get("hostname"):
            sc.sethostname(hostname)
        if domainname := spec.get("domainname"):
            sc.setdomainname(domainname)


def raise_loopback(namespaces: int) -> None:
    """Bring up `lo` of a new network namespace (netdevice(7)); its address comes with that."""
    if not namespaces & sc.CLONE_NEWNET:
        return
    control = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        answer = fcntl.ioctl(control.fileno(), _SIOCGIFFLAGS, struct.pack("16sH22x", b"lo", 0))
        flags = struct.unpack_from("H", answer, 16)[0] | _IFF_UP
        fcntl.ioctl(control.fileno(), _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags))
    finally:
        control.close()


def isolate_mounts(spec: Spec, namespaces: int) -> None:
    """Cut the mount namespace's propagation, so that no mount made below appears on the host.

    pivot_root(2) wants the parent of the new root not shared, too; that is the reason for private as the default.
    """
    if not namespaces & sc.CLONE_NEWNS:
        raise Unsupported("linux.namespaces: a container without a mount namespace of its own is not supported")
    word = spec.get("linux", {}).get("rootfsPropagation", "") or "rprivate"
    sc.mount(None, "/", None, _PROPAGATION[word] if word in ("rslave", "slave") else sc.MS_PRIVATE | sc.MS_REC, None)


def apply_sysctls(root: Rootfs, spec: Spec) -> None:
    """Write linux.sysctl through the container's own procfs, checked to be one (CVE-2025-52881)."""
    for key, value in spec.get("linux", {}).get("sysctl", {}).items():
        write_procfs(root, "/proc/sys/" + key.replace(".", "/"), value)


def write_procfs(root: Rootfs, path: str, value: str) -> None:
    """Write to a file of the container's /proc. Raises Denied when the path does not lead to procfs."""
    fd = root.open(path, os.O_WRONLY)
    try:
        if sc.fstatfs_type(fd) != sc.PROC_SUPER_MAGIC:
            raise Denied(f"write {path}: it is not on procfs")
        files.write_all(fd, value.encode())
    finally:
        os.close(fd)


def find_credentials(root_fd: int, process: Process, user: str | None, groups: tuple[str, ...] = ()) -> Credentials:
    """Return whom to run as: the spec's numbers, or a name looked up in the container's files."""
    if user is not None:
        return resolve_user(root_fd, user, groups)
    numbers = process.get("user", {})
    return Credentials(
        uid=numbers.get("uid", 0), gid=numbers.get("gid", 0), groups=tuple(numbers.get("additionalGids", ())))


def make_working_directory(root: Rootfs, cwd: str) -> None:
    """Make the working directory where it is missing, as Docker does for WORKDIR."""
    try:
        os.close(root.ensure(cwd, directory=True))
    except OSError as error:
        raise Denied(f"make working directory {cwd}: {os.strerror(error.errno or 0)}") from error


def set_stdio(root: Rootfs, process: Process, order: InitOrder, credentials: Credentials, channel: _socket.socket) -> None:
    """Put the pipes, or a new terminal of the container's own, on descriptors 0, 1 and 2."""
    if process.get("terminal"):
        open_terminal(root.fd, process, credentials, channel, console_in=root)
        return
    for target, fd in enumerate(order.stdio or ()):
        # The command may open /dev/stdout again under its own user. Only pipes: anything else is
        # somebody else's file, and /dev/null is the host's.
        if credentials.uid and is_pipe(fd):
            os.fchown(fd, credentials.uid, credentials.gid)
        os.dup2(fd, target)


def is_pipe(fd: int) -> bool:
    """Tell whether a descriptor is a pipe or FIFO."""
    return os.fstat(fd).st_mode & 0o170000 == 0o010000


def open_terminal(
    root_fd: int, process: Process, credentials: Credentials, channel: _socket.socket, *, console_in: Rootfs | None
) -> None:
    """Open a terminal, send its master to the creator, take the slave; show it as /dev/console too."""
    master, slave = console.open_console(root_fd)
    if size := process.get("consoleSize"):
        console.set_size(master, size["height"], size["width"])
    os.fchown(slave, credentials.uid, -1)
    sync.send(channel, sync.CONSOLE, master)
    os.close(master)
    if console_in is not None:
        from_slave = sc.open_tree(slave, "", sc.OPEN_TREE_CLONE | sc.OPEN_TREE_CLOEXEC | sc.AT_EMPTY_PATH)
        target = console_in.ensure("/dev/console", directory=False)
        sc.move_mount(from_slave, "", target, "", sc.MOVE_MOUNT_F_EMPTY_PATH | sc.MOVE_MOUNT_T_EMPTY_PATH)
        os.close(from_slave)
        os.close(target)
    console.take_terminal(slave)


def seal_root(root: Rootfs, spec: Spec) -> None:
    """Make the root read-only, last of all mounts, and set its propagation."""
    if spec.get("root", {}).get("readonly"):
        set_attributes(root.fd, sc.MOUNT_ATTR_RDONLY, 0)


def pivot_into(root: Rootfs) -> None:
    """Make the new root the root, and let go of the host's (pivot_root(2), "pivot_root(".", ".")")."""
    os.fchdir(root.fd)
    sc.pivot_root(".", ".")
    # The old root now lies on top of the new one; detached, nothing leads to the host any more.
    sc.umount2(".", sc.MNT_DETACH)
    os.chdir("/")


def set_process_limits(process: Process) -> None:
    """Set resource limits and the score for the kernel's out-of-memory killer."""
    for limit in process.get("rlimits", ()):
        set_rlimit(limit)
    score = process.get("oomScoreAdj")
    if score is not None:
        files_fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            if sc.fstatfs_type(files_fd) != sc.PROC_SUPER_MAGIC:
                raise Denied("write /proc/self/oom_score_adj: it is not on procfs")
            files.write_all(files_fd, str(score).encode())
        finally:
            os.close(files_fd)


def set_rlimit(limit: Rlimit) -> None:
    """Set one limit of setrlimit(2) by its spec name, such as RLIMIT_NOFILE. Raises OSError."""
    import resource  # cold: imported by the creator already when the spec has limits

    resource.setrlimit(getattr(resource, limit["type"]), (limit["soft"], limit["hard"]))


def execute_last_stage(
    process: Process, credentials: Credentials, sync_fd: int, seccomp: Filter, start_fd: int = -1
) -> NoReturn:
    """Hand over to the last stage (csrc/init/init.c), which becomes the user and then the command."""
    plan_fd = open_sealed("mydocker-plan", pack_plan(
        with_home(process, credentials), credentials, sync_fd=sync_fd, start_fd=start_fd,
        filters=seccomp.program, filter_flags=seccomp.flags))
    for fd in (plan_fd, sync_fd, start_fd):
        if fd >= 0:
            os.set_inheritable(fd, True)
    os.execve(last_stage_fd(), ["mydocker-init", str(plan_fd)], {})


def with_home(process: Process, credentials: Credentials) -> Process:
    """Return the process with HOME in its environment: the user's, when the image and user say nothing."""
    env = process.get("env", [])
    if any(item.startswith("HOME=") for item in env):
        return process
    return {**process, "env": [*env, f"HOME={credentials.home}"]}


def report_and_exit(channel: _socket.socket, error: BaseException) -> NoReturn:
    """Send what went wrong to the creator and end, without running any clean-up of the creator's."""
    try:
        sync.send(channel, sync.pack_failure(error))
    except OSError:
        pass  # the creator is gone, and the process ends in any case
    if not isinstance(error, (MydockerError, OSError)):
        import traceback  # cold: a bug of ours, on its way out

        traceback.print_exception(error)
    os._exit(1)
