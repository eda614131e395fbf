"""Creating a container from a bundle: cgroup, namespaces, and an init that is on its way to READY.

`create` returns as soon as the init needs nothing of its creator's any more: usually right after it was
cloned, so that what it does to become the container (mostly mounts) and what its parent does meanwhile
(executing the monitor) go on at the same time; with id mappings, namespaces to join or hooks, once
these are done. What the init has to say then, CONSOLE, READY or FAILED, comes on the channel (sync.py): the
monitor listens to it, or a caller without one does, by `sync.receive`. Nothing is left when `create` raises.

Source: runtime-spec runtime.md "Create"; clone(2), namespaces(7).
"""
from __future__ import annotations

import _socket
import os

from mydocker.base import log, trace
from mydocker.base.undo import Undo
from mydocker.linux import syscalls as sc
from mydocker.linux.cgroup.group import Cgroup

from . import plan, sync
from .cloning import Created, clone_into, kill_and_reap
from .init import InitOrder, run_init
from .mounts import Surroundings, plan_rootfs
from .namespaces import NamespacePlan, plan_namespaces
from .plan import NO_ATTRIBUTES
from .rootfs import MAX_FSCONFIG_BYTES, unmount_root
from .seccomp import Filter, prepare_filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from mydocker.oci.runtime_spec import Linux, Mount, Spec

_OUTSIDE_HOOKS = ("prestart", "createRuntime")


def create(
    spec: Spec, root_path: str, *, root_mount: Mount | None = None, stdio: tuple[int, int, int] | None = None,
    user: str | None = None, groups: tuple[str, ...] = (), start_fd: int = -1, console_fd: int = -1, preserve_fds: int = 0,
    container_id: str = "", bundle: str = "", seccomp_cache: str = "", network_fd: int = -1,
    lock_fds: tuple[int, ...] = (),
    make_cgroup: Callable[[], Cgroup] | None = None, keeps_keyring: bool = False, pivots: bool = True,
) -> Created:
    """Clone the container's init and set it on its way.

    `root_path` is the rootfs directory, `root_mount` what to mount there first. `stdio` are the descriptors
    for 0, 1, 2 unless the process wants a terminal, None leaves the caller's; `console_fd` is a connected socket
    that gets a terminal's master instead of the channel. `user` and further `groups` are looked up in the
    container, None takes the spec's numbers. `start_fd` is a FIFO opened for reading and writing, on which one
    byte means START; without it START comes on the channel. Descriptors 3 to 3 + `preserve_fds` - 1 go to the
    command. `container_id` and `bundle` are what hooks are told; `seccomp_cache` is a directory for compiled
    filters (seccomp.py). `network_fd` is a network namespace that was made ahead, for a container that has a new one.
    `lock_fds` are locks of the caller's, which the init must not hold any longer than the caller does.
    `make_cgroup` is for a caller whose containers may be at any cgroupsPath; without it the path is the container's own,
    and what is there is removed. `keeps_keyring` leaves the caller's session keyring, without `pivots` the root is entered by
    a move and chroot (moveroot.py). The caller must be single-threaded. Raises MydockerError, OSError; then nothing is left.
    """
    linux = spec.get("linux", {})
    plan.last_stage_fd()
    seccomp = prepare_filter(linux.get("seccomp"), seccomp_cache)
    if linux.get("mountLabel") or spec["process"].get("apparmorProfile") or spec["process"].get("selinuxLabel"):
        from .labels import check_process_labels, label_mounts  # cold

        check_process_labels(spec["process"])
        spec = label_mounts(spec)
    if needs_mappings(linux):
        from .idmap import with_own_mappings  # cold

        spec = with_own_mappings(spec)
    with Undo() as undo, Undo() as closing:
        agent_fd = -1
        if seccomp.listener_path:
            from .listener import connect_agent  # cold

            agent_fd = connect_agent(seccomp.listener_path)
            closing.callback(os.close, agent_fd)
        cgroup = make_cgroup() if make_cgroup else Cgroup.create(linux["cgroupsPath"], linux.get("resources", {}))
        undo.callback(cgroup.remove)
        trace.point("made cgroup")
        namespaces = plan_namespaces(spec)
        closing.callback(namespaces.close)
        order = plan_init(
            spec, root_path, namespaces, cgroup, root_mount=root_mount, stdio=stdio, user=user, groups=groups,
            start_fd=start_fd, console_fd=console_fd, preserve_fds=preserve_fds, container_id=container_id, bundle=bundle,
            seccomp=seccomp, network_fd=network_fd, lock_fds=lock_fds, agent_fd=agent_fd, closing=closing)
        if keeps_keyring or not pivots:
            from . import moveroot  # noqa: F401  # cold

            order = order.replace(keeps_keyring=keeps_keyring, pivots=pivots)
        channel, inner = sync.open_pair()
        undo.callback(channel.close)
        closing.callback(inner.close)
        entering = None
        if namespaces.late_pid:
            from .joining import Entering  # cold

            entering = Entering(closing)
            order = order.replace(pid_namespace_fd=namespaces.late_pid.fd, report_fd=entering.report.fileno())
        try:
            pid, pidfd = clone_init(order, namespaces, cgroup, channel, inner)
            if not namespaces.all & sc.CLONE_NEWNS:
                undo.callback(unmount_root, root_path)
            undo.callback(lambda: kill_and_reap(pid, pidfd))
            if not cgroup.settle(pidfd):
                from .lastwords import raise_failure  # cold

                raise_failure(channel)
                raise sync.PeerDied(sync.DIED)
            inner.close()
            log.debug("cloned", container=container_id, pid=pid)
            serve_init(order, pid, channel)
            if entering is not None:
                pid, pidfd = entering.finish(pid, pidfd)
        except (sync.PeerDied, OSError) as error:
            from mydocker.linux.cgroup.outofmemory import blame  # cold

            blame(error, linux.get("resources", {}), cgroup)
            raise
        undo.pop_all()
    return Created(pid=pid, pidfd=pidfd, channel=channel, cgroup=cgroup, network_fd=order.network_fd)


#: What the engine sets in every network namespace that it makes; there is nothing to judge about these.
_OF_ANY_NEW_NETWORK = frozenset(("net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range"))


def plan_init(
    spec: Spec, root_path: str, namespaces: NamespacePlan, cgroup: Cgroup, *, root_mount: Mount | None,
    stdio: tuple[int, int, int] | None, user: str | None, groups: tuple[str, ...], start_fd: int, console_fd: int,
    preserve_fds: int, container_id: str, bundle: str, seccomp: Filter, network_fd: int, lock_fds: tuple[int, ...],
    agent_fd: int, closing: Undo,
) -> InitOrder:
    """Decide everything that can be decided before the fork; `closing` gets what is to be closed behind it."""
    hooks = spec.get("hooks", {})
    if hooks or namespaces.all & sc.CLONE_NEWUSER:
        from . import hooks as _hooks  # noqa: F401  # cold: the init must not import once it is inside
        from . import idmap  # noqa: F401
    if spec.get("linux", {}).get("rootfsPropagation", "").endswith("shared"):
        from . import hostmounts  # noqa: F401  # cold: as root of a user namespace the init may not read our files
    if spec.get("linux", {}).get("netDevices"):
        from . import netdevices  # noqa: F401  # cold
    attributes = NO_ATTRIBUTES
    if needs_attributes(spec):
        from .attributes import plan_attributes  # cold

        attributes = plan_attributes(spec["process"], spec.get("linux", {}))
    sysctls = spec.get("linux", {}).get("sysctl")
    if sysctls and not (namespaces.new & sc.CLONE_NEWNET and sysctls.keys() <= _OF_ANY_NEW_NETWORK):
        from .sysctls import check_sysctls  # cold

        check_sysctls(spec, namespaces)
    maps_mounts = False
    operations = plan_rootfs(spec, describe_surroundings(namespaces, cgroup, bundle, root_path))
    if namespaces.all & sc.CLONE_NEWUSER or any(wants_mapping(mount) for mount in spec.get("mounts") or ()):
        from .sources import make_nodes, open_sources  # cold

        operations = make_nodes(open_sources(operations, spec, namespaces, closing), spec, closing)
        maps_mounts = any(getattr(operation, "userns_fd", -1) >= 0 for operation in operations)
    import_rare(spec.get("mounts") or ())
    return InitOrder(
        spec=spec, root_path=root_path, root_mount=root_mount,
        operations=tuple(operations), maps_mounts=maps_mounts,
        new_namespaces=namespaces.new, own_namespaces=namespaces.all, has_helper=namespaces.needs_helper,
        has_outside_hooks=any(hooks.get(kind) for kind in _OUTSIDE_HOOKS),
        network_fd=network_fd if can_use_network(namespaces) else -1, lock_fds=lock_fds,
        stdio=stdio, user=user, groups=groups, seccomp=seccomp, start_fd=start_fd, console_fd=console_fd,
        preserve_fds=preserve_fds, attributes=attributes, container_id=container_id, bundle=bundle, agent_fd=agent_fd,
    )



def import_rare(mounts: list[Mount] | tuple[Mount, ...]) -> None:
    """Import what few mounts need, before the init that makes them is cloned from us."""
    for mount in mounts:
        options = mount.get("options") or ()
        if "tmpcopyup" in options:
            from . import copyup  # noqa: F401
        if any(len(option) >= MAX_FSCONFIG_BYTES for option in options):
            from . import longmount  # noqa: F401


def needs_mappings(linux: Linux) -> bool:
    """Tell whether there is a new user namespace, and not a word on its ids."""
    return not (linux.get("uidMappings") or linux.get("gidMappings")) and any(
        item.get("type") == "user" and not item.get("path") for item in linux.get("namespaces") or ())


def can_use_network(namespaces: NamespacePlan) -> bool:
    """Tell whether a network namespace that was made ahead may take the place of a new one.

    It belongs to the creator's user namespace: a container with one of its own could not do anything in it.
    """
    return bool(namespaces.new & sc.CLONE_NEWNET) and not namespaces.all & sc.CLONE_NEWUSER and not namespaces.needs_helper


def describe_surroundings(namespaces: NamespacePlan, cgroup: Cgroup, bundle: str, root_path: str) -> Surroundings:
    """Return what decides how the mounts are made.

    Only hierarchies in which the container has a cgroup of its own are shown inside: in any other
    one its view would begin at the engine's.
    """
    shared: dict[str, list[str]] = {}
    for controller, directory in cgroup.v1.items():
        shared.setdefault(directory, []).append(controller)
    cgroups = [(",".join(controllers), directory) for directory, controllers in shared.items()]
    if cgroup.v2:
        cgroups.append(("", cgroup.v2))
    return Surroundings(
        cgroups=tuple(cgroups), own_cgroup_namespace=bool(namespaces.all & sc.CLONE_NEWCGROUP),
        in_user_namespace=bool(namespaces.all & sc.CLONE_NEWUSER), bundle=bundle, root_path=root_path)


def wants_mapping(mount: Mount) -> bool:
    """Tell whether a mount's ids are to be mapped."""
    return bool(mount.get("uidMappings") or mount.get("gidMappings") or any(
        option.partition("=")[0] in ("idmap", "ridmap") for option in mount.get("options") or ()))


def needs_attributes(spec: Spec) -> bool:
    """Tell whether a spec has any of what runtime/attributes.py is for."""
    process = spec["process"]
    return bool(
        process.get("rlimits") or process.get("oomScoreAdj") is not None or process.get("scheduler")
        or process.get("ioPriority") or process.get("execCPUAffinity") or spec.get("linux", {}).get("personality")
        or spec.get("linux", {}).get("memoryPolicy") is not None)


def clone_init(
    order: InitOrder, namespaces: NamespacePlan, cgroup: Cgroup, channel: _socket.socket, inner: _socket.socket
) -> tuple[int, int]:
    """Clone the init and give it its id mappings; return its pid and pidfd."""
    if namespaces.needs_helper:
        from .joining import clone_by_helper  # cold

        return clone_by_helper(order, namespaces, cgroup, channel, inner)
    # The cgroup namespace is left to the init: see `enter_cgroup_namespace`.
    flags = namespaces.new & ~sc.CLONE_NEWCGROUP
    if order.network_fd >= 0:
        flags &= ~sc.CLONE_NEWNET
    pid, pidfd = clone_into(cgroup, flags)
    if pid == 0:
        channel.close()
        run_init(order, inner)
    try:
        if namespaces.new & sc.CLONE_NEWUSER:
            inner.close()
            map_ids(order.spec, pid, channel)
    except BaseException:
        kill_and_reap(pid, pidfd)
        raise
    return pid, pidfd


def map_ids(spec: Spec, pid: int, channel: _socket.socket) -> None:
    """Write the id mappings for whoever is first in the new user namespace, and do what it may not do for itself there."""
    from .attributes import apply_from_outside  # cold
    from .idmap import write_mappings  # cold

    sync.receive(channel, sync.MAPPING)
    linux = spec["linux"]
    write_mappings(pid, linux.get("uidMappings", ()), linux.get("gidMappings", ()))
    apply_from_outside(pid, spec["process"])
    channel.send(sync.GO)


def serve_init(order: InitOrder, pid: int, channel: _socket.socket) -> None:
    """Do what the init waits for: its network devices, ids of its mounts, and the hooks outside, once these are made."""
    if devices := order.spec.get("linux", {}).get("netDevices"):
        from .netdevices import lend_devices  # cold

        with lend_devices(devices, channel):
            serve_root(order, pid, channel)
    else:
        serve_root(order, pid, channel)


def serve_root(order: InitOrder, pid: int, channel: _socket.socket) -> None:
    """Do what the init waits for while it makes the container's root."""
    if order.maps_mounts:
        from .sources import serve_mounts  # cold

        serve_mounts(order.operations, channel)
    run_outside_hooks(order, pid, channel)


def run_outside_hooks(order: InitOrder, pid: int, channel: _socket.socket) -> None:
    """Run the hooks of the creator's namespaces, when the init says that its mounts are made."""
    if not order.has_outside_hooks:
        return
    from .hooks import run_hooks, state_of  # cold

    sync.receive(channel, sync.HOOKS)
    state = state_of(order.spec, container_id=order.container_id, status="creating", pid=pid, bundle=order.bundle)
    for kind in _OUTSIDE_HOOKS:
        # prestart is of a time when it ran after `start`: the container had been created.
        state["status"] = "created" if kind == "prestart" else "creating"
        run_hooks(order.spec["hooks"].get(kind, ()), state, kind=kind)  # type: ignore[arg-type]
    channel.send(sync.GO)
