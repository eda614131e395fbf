"""Namespaces of other containers: `--pid container:NAME` and the like.

A name is pinned to an id when the container is made, because names may move. With each start the stage looks the
other container up again, makes sure of its process by pid, start time and boot, and opens the namespaces of exactly
that process; the runtime gets the descriptors. The spec on disk says where they came from.

Source: setns(2), pidfd_open(2), open_tree(2).
"""
from __future__ import annotations

import _socket
import os

from mydocker.base import files, paths
from mydocker.base.errors import Conflict, RuntimeFailed, Unsupported
from mydocker.linux import syscalls as sc
from mydocker.linux.process import open_pidfd, wait_pidfd
from mydocker.runtime.namespaces import FILES

from .ending import current
from .lifecycle import PAUSED, RUNNING
from .observe import identity_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.oci.runtime_spec import Linux, Mount, Namespace, Spec

    from .request import ContainerConfig
    from .store import ContainerRecord, Store

_CONTAINER = "container:"
#: Kind of namespace -> field of Isolation.
_FIELDS = {
    "pid": "pid_mode", "ipc": "ipc_mode", "uts": "uts_mode", "user": "user_mode", "cgroup": "cgroup_mode",
    "network": "network_mode",
}
_SHM = "/dev/shm"
_TMPFS_MAGIC = 0x01021994


def pin_names(store: Store, config: ContainerConfig) -> ContainerConfig:
    """Return the configuration with ids of other containers in place of their names. Raises NotFound, Conflict (ambiguous)."""
    isolation = config.isolation
    if isolation is None:
        return config
    pinned = {
        field: _CONTAINER + store.find(mode.removeprefix(_CONTAINER))
        for field in _FIELDS.values() if (mode := getattr(isolation, field)).startswith(_CONTAINER)
    }
    return config.replace(isolation=isolation.replace(**pinned)) if pinned else config


def join_others(store: Store, record: ContainerRecord, spec: Spec) -> Spec:
    """Return the spec with the namespaces of running containers in it, as `/proc/self/fd/N` of this process.

    The container's spec on disk gets their paths below /proc/PID. The descriptors stay open for the runtime, which is
    called next. Raises Conflict when another container does not run or does not share, NotFound when it is gone.
    """
    shown: dict[str, str] = {}
    opened: dict[str, int] = {}
    shm_fd = -1
    for kind, field in _FIELDS.items():
        mode = record.isolation.get(field, "")
        if not mode.startswith(_CONTAINER):
            continue
        other = _running(store, mode.removeprefix(_CONTAINER), record, kind)
        pid, opened[kind], shared = _open_namespace(other, kind, wants_shm=kind == "ipc")
        shown[kind] = f"/proc/{pid}/ns/{FILES[kind]}"
        shm_fd = shared if shared >= 0 else shm_fd
    # The same as ours is the host's: that is not to be joined (and setns(2) refuses one's own user namespace).
    hosts = {kind for kind, fd in opened.items() if os.fstat(fd).st_ino == os.stat(f"/proc/self/ns/{FILES[kind]}").st_ino}
    if "user" in opened.keys() - hosts:
        raise Unsupported("userns: the user ids of that container are its own, and the files of this one are not theirs")
    shown_spec = _with_namespaces(spec, shown, hosts)
    files.save_json(f"{store.layout.container(record.id)}/{paths.BUNDLE}/{paths.RECORD}", shown_spec)
    joined = _with_namespaces(spec, {kind: f"/proc/self/fd/{fd}" for kind, fd in opened.items()}, hosts)
    if shm_fd >= 0:
        joined = {**joined, "mounts": [_with_shm(mount, f"/proc/self/fd/{shm_fd}") for mount in spec.get("mounts", ())]}
    return joined


def _running(store: Store, container_id: str, record: ContainerRecord, kind: str) -> ContainerRecord:
    other = current(store, container_id)
    if other.status not in (RUNNING, PAUSED):
        raise Conflict(
            f"join the {kind} namespace of container {other.name}: it is {other.status}", hint=f"start {other.name} first")
    if other.id == record.id:
        raise Conflict(f"join the {kind} namespace of container {other.name}: it is the same container")
    mode = other.isolation.get("ipc_mode", "")
    if kind == "ipc" and mode not in ("shareable", "host") and not mode.startswith(_CONTAINER):
        raise Conflict(
            f"join the ipc namespace of container {other.name}: non-shareable IPC", hint=f"run {other.name} with --ipc shareable")
    return other


def _open_namespace(other: ContainerRecord, kind: str, *, wants_shm: bool) -> tuple[int, int, int]:
    """Return (pid, descriptor of the namespace, descriptor of a copy of its /dev/shm or -1)."""
    identity = identity_of(other)
    pidfd = open_pidfd(identity) if identity else None
    if identity is None or pidfd is None:
        raise Conflict(f"join the {kind} namespace of container {other.name}: it has just ended")
    shm_fd = -1
    try:
        try:
            fd = os.open(f"/proc/{identity.pid}/ns/{FILES[kind]}", os.O_RDONLY | os.O_CLOEXEC)
            if wants_shm:
                mounts_fd = os.open(f"/proc/{identity.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
                shm_fd = _borrow_shm(mounts_fd)
                os.close(mounts_fd)
        except (FileNotFoundError, ProcessLookupError):
            fd = -1
        # Alive after the opening: then the pid was this container's all the time.
        if fd < 0 or wait_pidfd(pidfd, 0):
            raise Conflict(f"join the {kind} namespace of container {other.name}: it has just ended")
        return identity.pid, fd, shm_fd
    finally:
        os.close(pidfd)


def _borrow_shm(mounts_fd: int) -> int:
    """Return a detached copy of the /dev/shm mount in another mount namespace, -1 when there is none.

    Only a process in that namespace may copy a mount of it, so a child goes there. What it opens is the other
    container's: no link is followed, and only a tmpfs counts.
    """
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            sc.setns(mounts_fd, sc.CLONE_NEWNS)
            place = sc.openat2(sc.AT_FDCWD, _SHM, sc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, 0, sc.RESOLVE_NO_SYMLINKS)
            if sc.fstatfs_type(place) == _TMPFS_MAGIC:
                copy = sc.open_tree(place, "", sc.OPEN_TREE_CLONE | sc.OPEN_TREE_CLOEXEC | sc.AT_EMPTY_PATH)
                theirs.sendmsg([b"M"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, copy.to_bytes(4, "little"))])
        finally:
            os._exit(0)
    theirs.close()
    try:
        _, ancillary, _, _ = ours.recvmsg(1, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
    except OSError as error:
        raise RuntimeFailed(f"share /dev/shm: {os.strerror(error.errno or 0)}") from error
    finally:
        ours.close()
        os.waitpid(pid, 0)
    return int.from_bytes(ancillary[0][2][:4], "little") if ancillary else -1


def _with_namespaces(spec: Spec, where: dict[str, str], hosts: set[str]) -> Spec:
    """Return the spec with paths of namespaces; those of `hosts` are left out."""
    linux = spec["linux"]
    found: list[Namespace] = [
        {"type": namespace["type"]} for namespace in linux["namespaces"] if namespace["type"] not in where]
    found += [{"type": kind, "path": path} for kind, path in where.items() if kind not in hosts]
    changed: Linux = {**linux, "namespaces": found}
    return {**spec, "linux": changed}


def _with_shm(mount: Mount, source: str) -> Mount:
    if mount["destination"] != _SHM:
        return mount
    return {"destination": _SHM, "type": "bind", "source": source, "options": ["bind", "rprivate", "nosuid", "nodev", "noexec"]}
