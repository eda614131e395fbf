"""Inside a new container: the ordered steps from a fresh process in fresh namespaces to the last stage.

`run_init` is read from top to bottom; each step is a function. It runs in the child of create.py,
which has imported everything: from the moment the container's root is entered nothing more may be
imported, no codec or user database looked up, because all of these would come from the container.

Source: runtime-spec runtime.md "Lifecycle", config.md, config-linux.md.
"""
from __future__ import annotations

import _socket
import os

from mydocker.base import files, trace
from mydocker.base.errors import Denied, RuntimeFailed
from mydocker.base.record import Record
from mydocker.linux import syscalls as sc
from mydocker.linux.loopback import raise_loopback

from . import sync
from .handover import (
    execute_last_stage,
    find_credentials,
    hide_from_ptrace,
    open_terminal,
    refuse_imports,
    report_and_exit,
    score_for_oom_killer,
    take_stdio,
)
from .mounts import apply_operations
from .plan import (
    DEFAULT_UMASK,
    NO_ATTRIBUTES,
    REAPER_ANNOTATION,
    Attributes,
    Credentials,
    LastStage,
    encode,
)
from .rootfs import Rootfs, mount_root, set_attributes
from .seccomp import NO_FILTER, Filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from mydocker.oci.runtime_spec import Mount, Process, Spec

    from .mounts import Operation

_PROPAGATION = {
    "private": sc.MS_PRIVATE, "rprivate": sc.MS_PRIVATE | sc.MS_REC,
    "slave": sc.MS_SLAVE, "rslave": sc.MS_SLAVE | sc.MS_REC,
    "shared": sc.MS_SHARED, "rshared": sc.MS_SHARED | sc.MS_REC,
    "unbindable": sc.MS_UNBINDABLE, "runbindable": sc.MS_UNBINDABLE | sc.MS_REC,
}


class InitOrder(Record):
    """What the init is told; made before the fork, so that the child only reads it.

    `user` (and `groups` beside its own) is looked up in the container's own files when it is not None, else the
    spec's numbers count. `stdio` are the descriptors that become 0, 1, 2 (without a terminal), None keeps those of the creator.
    `operations` come from `plan_rootfs`. Of the namespaces' flags, `own_namespaces` has those that are not the
    creator's, `new_namespaces` those of them that are not joined by path. `network_fd` is a new network namespace that
    was made ahead, or -1. See create.create for the rest.
    """

    spec: Spec
    root_path: str
    root_mount: Mount | None
    operations: tuple[Operation, ...]
    new_namespaces: int
    own_namespaces: int
    has_helper: bool = False
    has_outside_hooks: bool = False
    maps_mounts: bool = False
    """Whether the creator maps ids of mounts that the init makes (sources.py)."""
    network_fd: int = -1
    lock_fds: tuple[int, ...] = ()
    stdio: tuple[int, int, int] | None = None
    user: str | None = None
    groups: tuple[str, ...] = ()
    seccomp: Filter = NO_FILTER
    start_fd: int = -1
    console_fd: int = -1
    preserve_fds: int = 0
    attributes: Attributes = NO_ATTRIBUTES
    container_id: str = ""
    bundle: str = ""
    agent_fd: int = -1
    keeps_keyring: bool = False
    pivots: bool = True
    pid_namespace_fd: int = -1
    """A pid namespace that the last stage enters (namespaces.py late_pid), and where it reports who is in it."""
    report_fd: int = -1


def run_init(order: InitOrder, channel: _socket.socket) -> NoReturn:
    """Become the container's init: do every step, then execute the last stage. Never returns.

    A failure is reported on `channel` and ends the process.
    """
    try:
        release_locks(order)
        prepare_and_execute(order, channel)
    except BaseException as error:
        report_and_exit(channel, error)


def release_locks(order: InitOrder) -> None:
    """Let go of the creator's locks, which came with the clone: when the creator is killed, this half-made container is garbage.

    Whoever sweeps it then ends this process by its cgroup; it would find it locked otherwise, for as long as this goes on.
    """
    for fd in order.lock_fds:
        os.close(fd)


def prepare_and_execute(order: InitOrder, channel: _socket.socket) -> NoReturn:
    """The steps, in order. Raises what goes wrong."""
    spec = order.spec
    process = spec["process"]
    trace.point("init began")
    if order.has_helper or not order.new_namespaces & sc.CLONE_NEWUSER:
        hide_from_ptrace()  # else become_root does: an ordinary user's creator could not open our uid_map before
    enter_user_namespace(order, channel)
    score_for_oom_killer(process, order.own_namespaces)
    enter_cgroup_namespace(order.new_namespaces)
    os.setsid()
    os.umask(DEFAULT_UMASK)
    name_the_machine(spec, order.own_namespaces)
    enter_network_namespace(order)
    if spec.get("linux", {}).get("netDevices"):  # before the sysctls, which may be about them
        from .netdevices import ask_for_devices  # cold: imported by the creator already

        ask_for_devices(channel)
    apply_sysctls(spec)
    isolate_mounts(order)
    follows_host = spec.get("linux", {}).get("rootfsPropagation") in ("slave", "rslave")
    root = Rootfs(mount_root(order.root_path, order.root_mount, follows_host=follows_host), channel)
    root.pid_namespace_fd = order.pid_namespace_fd
    apply_operations(root, order.operations)
    run_create_hooks(order, root, channel)
    listener_state = describe_listener(order)
    credentials = find_credentials(root.fd, process, order.user, order.groups)
    make_working_directory(root, process["cwd"])
    set_stdio(root, process, order, credentials, channel)
    seal_root(root, spec)
    trace.point("init made root")
    refuse_imports()
    enter_root(root, order)
    trace.point("init entered root")
    propagate_root(spec, order.own_namespaces)
    if order.pid_namespace_fd >= 0:
        sc.setns(order.pid_namespace_fd, sc.CLONE_NEWPID)  # for children only: the last stage's clone
    execute_last_stage(process, credentials, plan_last_stage(order, channel.fileno(), listener_state))


def enter_user_namespace(order: InitOrder, channel: _socket.socket) -> None:
    """Wait for the id mappings, and become root of the user namespace, which until now this process is not.

    Where a helper joined namespaces, it has done so already; then wait until the creator knows this process.
    """
    if order.has_helper:
        sync.receive(channel, sync.GO)
    elif order.new_namespaces & sc.CLONE_NEWUSER:
        ask_for_mapping(channel)
    if order.own_namespaces & sc.CLONE_NEWUSER:
        become_root(order.spec)


def ask_for_mapping(channel: _socket.socket) -> None:
    """Have the creator map the ids of the user namespace that this process is the first one in.

    The files of an undumpable process belong to root, and the creator may be an ordinary user: for as long as
    that takes it is dumpable, as in runc. Nobody else is in the namespace yet.
    """
    sc.prctl(sc.PR_SET_DUMPABLE, 1)
    sync.ask(channel, sync.MAPPING)
    sc.prctl(sc.PR_SET_DUMPABLE, 0)


def become_root(spec: Spec) -> None:
    """Become the user that owns the container's files: its root, or its first id where it has no root."""
    from .idmap import root_of  # cold: imported by the creator already where there are id mappings

    linux = spec["linux"]
    try:
        os.setgroups(())
    except PermissionError:
        pass  # setgroups is denied to a user namespace that an ordinary user mapped for itself: there is none to drop
    uid, gid = root_of(linux.get("uidMappings", ())), root_of(linux.get("gidMappings", ()))
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    # A change of user makes a process undumpable and root's: not ours to read /proc/self any more.
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


def enter_network_namespace(order: InitOrder) -> None:
    """Bring up `lo` of a new network namespace, or join the one that was made ahead, where it is up."""
    if order.network_fd >= 0:
        sc.setns(order.network_fd, sc.CLONE_NEWNET)
    elif order.new_namespaces & sc.CLONE_NEWNET:
        raise_loopback()


def sysctl_name(key: str) -> str:
    """Return the path below /proc/sys; `/` and `.` change places where the first of them is a `.` (sysctl(8))."""
    dot, slash = key.find("."), key.find("/")
    return key.translate({0x2E: "/", 0x2F: "."}) if slash < 0 or 0 <= dot < slash else key


def apply_sysctls(spec: Spec) -> None:
    """Write linux.sysctl: through the host's /proc, still in view, where no container can have put anything else.

    /proc/sys shows every process the values of its own namespaces, whose procfs it may be (CVE-2025-52881).
    """
    sysctls = spec.get("linux", {}).get("sysctl")
    if not sysctls:
        return
    for key, value in sysctls.items():
        path = f"/proc/sys/{sysctl_name(key)}"
        try:
            fd = sc.openat2(
                sc.AT_FDCWD, path, os.O_WRONLY, 0, sc.RESOLVE_NO_SYMLINKS | sc.RESOLVE_NO_MAGICLINKS)
            try:
                if sc.fstatfs_type(fd) != sc.PROC_SUPER_MAGIC:
                    raise Denied(f"linux.sysctl: {key}: {path} is not on procfs")
                files.write_all(fd, value.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise RuntimeFailed(f"linux.sysctl: {key}={value}: {os.strerror(error.errno or 0)}") from error


def isolate_mounts(order: InitOrder) -> None:
    """Cut the mount namespace's propagation to the host, so that no mount made below appears there.

    The default still lets the host's mounts in, for binds that ask for it (rslave). `shared` is the spec's own wish.
    """
    if not order.own_namespaces & sc.CLONE_NEWNS:
        return  # the spec has no mount namespace: its mounts are the host's, on the root file system only
    word = order.spec.get("linux", {}).get("rootfsPropagation", "") or "rslave"
    flags = {"shared": sc.MS_SHARED, "private": sc.MS_PRIVATE}.get(word.removeprefix("r"), sc.MS_SLAVE)
    sc.mount(None, "/", None, flags | sc.MS_REC, None)
    if flags == sc.MS_SHARED:
        from .hostmounts import find_mount_point  # cold: imported by the creator already

        # pivot_root(2) wants no shared parent, and what is bound from a shared mount would be its peer: what is
        # mounted on the container's root would appear on the host.
        sc.mount(None, find_mount_point(os.path.realpath(order.root_path)), None, sc.MS_PRIVATE, None)


def run_create_hooks(order: InitOrder, root: Rootfs, channel: _socket.socket) -> None:
    """Have the creator run its hooks, then run those of createContainer: inside the namespaces, outside the root."""
    hooks = order.spec.get("hooks")
    if not hooks:
        return
    if order.has_outside_hooks:
        sync.ask(channel, sync.HOOKS)
    if hooks.get("createContainer"):
        from .hooks import run_hooks, state_of  # cold: imported by the creator already where there are hooks

        # The host's procfs knows this process by the pid that the hook's author means.
        pid = int(os.readlink("/proc/self"))
        state = state_of(order.spec, container_id=order.container_id, status="creating", pid=pid, bundle=order.bundle)
        os.fchdir(root.fd)  # as runc: a hook may name what is inside by relative paths
        run_hooks(hooks["createContainer"], state, kind="createContainer")


def make_working_directory(root: Rootfs, cwd: str) -> None:
    """Make the working directory where it is missing, as Docker does for WORKDIR."""
    encode(cwd, "process.cwd")  # an image's may be anything
    try:
        os.close(root.ensure(cwd, directory=True))
    except OSError as error:
        raise Denied(f"make working directory {cwd}: {os.strerror(error.errno or 0)}") from error


def set_stdio(root: Rootfs, process: Process, order: InitOrder, credentials: Credentials, channel: _socket.socket) -> None:
    """Put the pipes, or a new terminal of the container's own, on descriptors 0, 1 and 2."""
    if process.get("terminal"):
        open_terminal(root.fd, process, credentials, channel, console_fd=order.console_fd, console_in=root,
                      leads_session=order.pid_namespace_fd < 0)
    else:
        take_stdio(order.stdio, credentials, open_own_null(root))


def open_own_null(root: Rootfs) -> int:
    """Open the container's own null device, by the descriptor that was checked; -1 when it has none."""
    return -1 if root.null_fd < 0 else os.open(f"/proc/self/fd/{root.null_fd}", os.O_RDWR | os.O_CLOEXEC)


def seal_root(root: Rootfs, spec: Spec) -> None:
    """Make the root read-only, last of all mounts."""
    if spec.get("root", {}).get("readonly"):
        set_attributes(root.fd, sc.MOUNT_ATTR_RDONLY, 0)


def enter_root(root: Rootfs, order: InitOrder) -> None:
    """Make the new root the root, and let go of the host's (pivot_root(2), "pivot_root(".", ".")")."""
    os.fchdir(root.fd)
    if not order.own_namespaces & sc.CLONE_NEWNS:
        os.chroot(".")
        return
    if not order.pivots:
        from .moveroot import move_root  # cold: imported by the creator already

        move_root()
        return
    # The spec wanted shared mounts, see `isolate_mounts`.
    shares = order.spec.get("linux", {}).get("rootfsPropagation") in ("shared", "rshared")
    old_root = os.open("/", sc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if shares else -1
    sc.pivot_root(".", ".")
    if shares:
        # The host's mounts are peers: undone here, they would be undone there, too. By its descriptor, as "." is the new root,
        # whose mounts keep what they were made.
        os.fchdir(old_root)
        sc.mount(None, ".", None, sc.MS_SLAVE | sc.MS_REC, None)
        os.close(old_root)
    # The old root now lies on top of the new one; detached, nothing leads to the host any more.
    sc.umount2(".", sc.MNT_DETACH)
    os.chdir("/")


def propagate_root(spec: Spec, own_namespaces: int) -> None:
    """Set the propagation of the container's root, which is private as it is (spec: linux.rootfsPropagation).

    Behind pivot_root, so that it is this one mount's and never that of a mount of the host's.
    """
    word = spec.get("linux", {}).get("rootfsPropagation", "")
    if word not in ("", "private", "rprivate") and own_namespaces & sc.CLONE_NEWNS:
        sc.mount(None, "/", None, _PROPAGATION[word], None)


def describe_listener(order: InitOrder) -> str:
    """Return what the agent of the filter's notifications is told; "" when there is none."""
    if order.agent_fd < 0:
        return ""
    from .listener import describe_init  # cold: imported by the creator already where there is an agent

    return describe_init(order)


def plan_last_stage(order: InitOrder, sync_fd: int, listener_state: str) -> LastStage:
    """Return what the last stage is told beside the process."""
    hooks = tuple(order.spec.get("hooks", {}).get("startContainer") or ())
    hook_input_fd = hook_output_fd = -1
    if hooks:
        from .hooks import open_hook_files  # cold: imported by the creator already where there are hooks

        hook_input_fd, hook_output_fd = open_hook_files(order)
    return LastStage(
        sync_fd=sync_fd, start_fd=order.start_fd, preserve_fds=order.preserve_fds, hooks=hooks, hook_input_fd=hook_input_fd,
        hook_output_fd=hook_output_fd, attributes=order.attributes, filters=order.seccomp.program,
        filter_flags=order.seccomp.flags, agent_fd=order.agent_fd, listener_state=listener_state,
        keeps_keyring=order.keeps_keyring, entered_fd=order.report_fd,
        reaper=order.spec.get("annotations", {}).get(REAPER_ANNOTATION) == "true")
