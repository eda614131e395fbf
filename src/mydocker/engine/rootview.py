"""A container's files as `cp` shows them: its root file system with what was asked to be mounted in it, by descriptor.

Docker's view: the image and the write layer, binds and volumes, and the generated files of /etc; /proc, /sys and /dev are the
image's. It is the same for a running and for an ended container, but for the tmpfs mounts, which live only as long as
the container does. It is put together in a mount namespace that no process is in: descriptors keep it, so it ends with them,
whatever kills us.

While the container lives its root is mounted already, and a second overlay on the same write layer may not be. Then its mount
is copied, by a thread of ours that visits the container's mount namespace for the copying and nothing else: in there it opens
mounts and directories, runs nothing, reads nothing, looks nothing up (CVE-2019-14271).

Mount points are hostile. They are found below the root's descriptor with links followed inside it, and mounted on by
descriptor: exchanged for a link meanwhile, a mount lands somewhere else in the container, never on the host
(CVE-2026-42306, GHSA-rg2x-37c3-w2rh), and only in the view. All mounts of a view are private, so nothing of it propagates to
where it was copied from, and without devices.
"""
from __future__ import annotations

import errno
import os

from mydocker.base import files, paths, trace
from mydocker.base.errors import Conflict, RuntimeFailed
from mydocker.base.record import Record
from mydocker.base.undo import Undo
from mydocker.linux import beneath
from mydocker.linux import syscalls as sc
from mydocker.linux.private_mounts import in_private_mounts, mount_id_of, open_own_namespace
from mydocker.linux.process import open_pidfd
from mydocker.runtime.mounts import BindMount, Surroundings, open_source, plan_mount
from mydocker.runtime.rootfs import Rootfs, attach, clone_fd, mount_overlay, set_attributes
from mydocker.storage import snapshots
from mydocker.storage.layer_locks import lock_layers

from .lifecycle import ALIVE, CREATING
from .observe import identity_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Literal

    from mydocker.oci.runtime_spec import IdMapping, Mount, Spec
    from mydocker.storage.diff import Owner

    from .store import ContainerRecord, Store

    Side = Literal["hostID", "containerID"]

#: What mounting says where the container has put something else, or nothing, in a mount point's place (`mv /etc /etc2`): what it
#: sees there itself is not the mount either, and it is not for a container to say whether files can be copied out of it.
_NO_PLACE = (errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENOENT)
#: Whose files are that have no id where they are seen (user_namespaces(7), overflowuid).
_NOBODY = 65534
_TMPFS_MAGIC = 0x01021994
#: The engine's own: of the kernel's file systems cp shows nothing, as docker does not.
_KERNELS = ("/proc", "/sys", "/dev")
_SAFE = sc.MOUNT_ATTR_NODEV | sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NOEXEC
_PATH_DIR = sc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class RootView:
    """The root directory, to be opened below with beneath.open_in_root; `close` ends the mounts.

    `mappings` are those of the ids on the files, (uids, gids), where the container has a user namespace; the first is for
    what lies on the root file system itself, the second for what is mounted in it.
    """

    __slots__ = ("_namespace_fd", "fd", "mappings", "mount_id")

    def __init__(self, fd: int, namespace_fd: int, mappings: tuple[Mappings, Mappings]) -> None:
        self.fd = fd
        self._namespace_fd = namespace_fd
        self.mappings = mappings
        self.mount_id = mount_id_of(fd)

    def is_mounted_in(self, fd: int) -> bool:
        """Tell whether a descriptor of the view lies on something that is mounted in the root file system."""
        return mount_id_of(fd) != self.mount_id

    def mappings_at(self, fd: int) -> Mappings:
        """Return the mappings of the ids on files where a descriptor lies."""
        return self.mappings[self.is_mounted_in(fd)]

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)
        os.close(self._namespace_fd)

    def __enter__(self) -> RootView:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Mappings(Record):
    """Which ids of the container's are which on the files; none is all as they are."""

    uids: tuple[IdMapping, ...] = ()
    gids: tuple[IdMapping, ...] = ()


def owner_inside(mappings: Mappings) -> Owner | None:
    """Return what turns the ids on files into the container's; an id that it has none for is nobody's."""
    if not mappings.uids:
        return None
    return lambda uid, gid: (
        _mapped(uid, mappings.uids, "hostID", "containerID"), _mapped(gid, mappings.gids, "hostID", "containerID"))


def owner_stored(mappings: Mappings) -> Owner | None:
    """Return what turns the container's ids into those on files."""
    if not mappings.uids:
        return None
    return lambda uid, gid: (
        _mapped(uid, mappings.uids, "containerID", "hostID"), _mapped(gid, mappings.gids, "containerID", "hostID"))


def _mapped(number: int, mappings: tuple[IdMapping, ...], given: Side, wanted: Side) -> int:
    for mapping in mappings:
        if mapping[given] <= number < mapping[given] + mapping["size"]:
            return number - mapping[given] + mapping[wanted]
    return _NOBODY


class _Parts(Record):
    """What is needed to put a view together, found before anything is mounted."""

    directory: str
    lower_dirs: tuple[str, ...]
    binds: tuple[BindMount, ...]
    tmpfs: tuple[str, ...]
    pidfd: int
    is_writable: bool


def open_view(store: Store, record: ContainerRecord, *, writable: bool) -> RootView:
    """Open the view of a container's files; the caller closes it, and holds the container's lock for a writable one of an
    ended container, which must not start meanwhile.

    Raises Conflict (it has just ended), NotFound, RuntimeFailed (a bind's source is gone), OSError.
    """
    if record.status == CREATING:
        raise Conflict(f"cp: container {record.name} is still being made")
    directory = store.layout.container(record.id)
    spec: Spec = files.load_json(f"{directory}/{paths.BUNDLE}/{paths.RECORD}")
    is_alive = record.status in ALIVE
    with Undo() as undo:
        spec = _open_subpaths(record, spec, undo)
        pidfd = _open_process(record) if is_alive else -1
        if pidfd >= 0:
            undo.callback(os.close, pidfd)
        parts = _Parts(
            directory=directory, lower_dirs=tuple(record.config["lower_dirs"]), binds=tuple(_plan_binds(spec)),
            tmpfs=tuple(_tmpfs_places(spec)) if is_alive else (), pidfd=pidfd, is_writable=writable)
        with lock_layers(store.layout, () if is_alive else record.layers):
            fd, namespace_fd = in_private_mounts(lambda: _assemble(parts))
            trace.point("opened view")
    linux = spec.get("linux", {})
    inside = Mappings(uids=tuple(linux.get("uidMappings") or ()), gids=tuple(linux.get("gidMappings") or ()))
    # Of an ended container the layers are seen as they are stored, with the image's ids.
    return RootView(fd, namespace_fd, (inside if is_alive else Mappings(), inside))


def _open_subpaths(record: ContainerRecord, spec: Spec, undo: Undo) -> Spec:
    """Return the spec with descriptors for what is mounted of the inside of volumes; `undo` closes them."""
    if not record.config.get("volumes"):
        return spec
    from .volume_mounts import open_subpaths  # cold: many mount nothing

    opened = open_subpaths(record, spec)
    for mount, before in zip(opened.get("mounts", ()), spec.get("mounts", ()), strict=True):
        if mount is not before:
            undo.callback(os.close, int(mount["source"].rpartition("/")[2]))
    return opened


def _open_process(record: ContainerRecord) -> int:
    identity = identity_of(record)
    pidfd = open_pidfd(identity) if identity else None
    if pidfd is None:
        raise Conflict(f"cp: container {record.name} has just ended", hint="try again")
    return pidfd


def _plan_binds(spec: Spec) -> Iterator[BindMount]:
    """Yield the binds of a container, in order, as they are mounted here: private, whatever they are inside."""
    for index, mount in enumerate(spec.get("mounts") or ()):
        if _is_kernels(mount["destination"]):
            continue
        operation = plan_mount(mount, f"mounts[{index}]", Surroundings())
        if isinstance(operation, BindMount):
            yield operation.replace(options=operation.options.replace(propagation=((sc.MS_PRIVATE, True),)))


def _tmpfs_places(spec: Spec) -> Iterator[str]:
    for mount in spec.get("mounts") or ():
        if mount.get("type") == "tmpfs" and not _is_kernels(mount["destination"]):
            yield mount["destination"]


def _is_kernels(destination: str) -> bool:
    return any(destination == top or destination.startswith(f"{top}/") for top in _KERNELS)


def _assemble(parts: _Parts) -> tuple[int, int]:
    """Mount everything; in a private mount namespace. Returns descriptors of the root and of the namespace."""
    bundle_fd = os.open(f"{parts.directory}/{paths.BUNDLE}", _PATH_DIR)
    held = [bundle_fd]
    try:
        sources = [open_source(bind) for bind in parts.binds]
        held += sources
        if parts.pidfd >= 0:
            mount, tmpfs = _borrow(parts.pidfd, parts.tmpfs)
            held += [fd for _, fd in tmpfs]
            set_attributes(mount, _SAFE, 0, propagation=sc.MS_PRIVATE)
            attach(mount, os.open("rootfs", _PATH_DIR, dir_fd=bundle_fd))
        else:
            tmpfs = []
            mount_overlay(f"{parts.directory}/{paths.BUNDLE}/rootfs", _overlay_options(parts))
        root_fd = os.open("rootfs", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=bundle_fd)
        try:
            root = Rootfs(root_fd)
            for place, fd in tmpfs:
                set_attributes(fd, 0, 0, propagation=sc.MS_PRIVATE)
                _attach_copy(root, place, fd)
            for bind, source in zip(parts.binds, sources, strict=True):
                _attach_bind(root, bind.replace(source_fd=source))
            set_attributes(root_fd, _SAFE, 0, recursive=True)
            return root_fd, open_own_namespace()
        except BaseException:
            os.close(root_fd)
            raise
    finally:
        for fd in held:
            os.close(fd)


def _overlay_options(parts: _Parts) -> list[str]:
    if not parts.is_writable:
        return snapshots.reading_options(parts.directory, parts.lower_dirs)
    # Left out of every sync, as a container that goes with its end is: the unmounting would wait for all of the disk.
    snapshots.allow_second_mount(parts.directory)
    mount: Mount = snapshots.overlay_mount(parts.lower_dirs, parts.directory, volatile=True)
    return mount["options"]


def _borrow(pidfd: int, tmpfs: Sequence[str]) -> tuple[int, list[tuple[str, int]]]:
    """Return copies of a container's root mount and of its tmpfs mounts, taken in its mount namespace.

    Only a thread in a namespace may copy a mount of it. There, the calling thread makes these calls and no other.
    """
    home_fd = open_own_namespace()
    copies: list[tuple[str, int]] = []
    try:
        # By the pidfd, so it is this very container's; and the namespace's own root, wherever its process has its root now.
        sc.setns(pidfd, sc.CLONE_NEWNS)
        try:
            root_fd = os.open("/", _PATH_DIR)
            mount = clone_fd(root_fd)
            for place in tmpfs:
                fd = _borrow_tmpfs(root_fd, place)
                if fd >= 0:
                    copies.append((place, fd))
            os.close(root_fd)
        finally:
            sc.setns(home_fd, sc.CLONE_NEWNS)
    except ProcessLookupError as error:
        raise Conflict("cp: the container has just ended", hint="try again") from error
    finally:
        os.close(home_fd)
    return mount, copies


def _borrow_tmpfs(root_fd: int, place: str) -> int:
    """Return a copy of the mount at a place, -1 when no tmpfs is there any more: nothing that the container mounted counts."""
    try:
        fd = beneath.open_in_root(root_fd, place, _PATH_DIR)
    except OSError:
        return -1
    try:
        return clone_fd(fd) if sc.fstatfs_type(fd) == _TMPFS_MAGIC else -1
    except OSError:
        return -1
    finally:
        os.close(fd)


def _attach_copy(root: Rootfs, place: str, fd: int) -> None:
    try:
        target = root.open(place, _PATH_DIR)
    except OSError:
        return  # the container took its mount point away: cp would find nothing there either
    attach(os.dup(fd), target)


def _attach_bind(root: Rootfs, bind: BindMount) -> None:
    try:
        bind.apply(root)
    except OSError as error:
        if error.errno in _NO_PLACE:
            return
        raise RuntimeFailed(f"cp: mount {bind.destination}: {(error.strerror or str(error)).lower()}") from error
