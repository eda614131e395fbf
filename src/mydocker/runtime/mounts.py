"""What is mounted where in a container: decided first (`plan_rootfs`, pure), then done in order (`apply` of each).

Sources: runtime-spec config.md "Mounts", config-linux.md "Default Filesystems". What is hidden afterwards: masks.py.
"""
from __future__ import annotations

import errno
import os
import stat

from mydocker.base.errors import Denied, InvalidRequest, RuntimeFailed, Unsupported
from mydocker.base.record import Record
from mydocker.linux import syscalls as sc

from . import sync
from .devices import FindNull, MakeDevices, plan_devices
from .masks import MaskPath, ReadonlyPath
from .mountopts import FORGOTTEN, MountOptions, parse_mount_options
from .rootfs import MAX_FSCONFIG_BYTES, Rootfs, attach, clone_fd, open_bind, open_filesystem, set_attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from mydocker.oci.runtime_spec import Mount, Spec

    from .remount import Remount
    from .sealeddev import MakeConsole, SealDev

_PATH_DIR = sc.O_PATH | os.O_DIRECTORY
#: include/linux/proc_ns.h
_PROC_ROOT_INO = 1
#: What a process in a user namespace may mount only with a namespace of that kind of its own; else the host's is bound.
_HOST_VIEWS = {"proc": "/proc", "sysfs": "/sys", "mqueue": "/dev/mqueue"}
#: What may be mounted inside /proc: files that lxcfs and the like stand in for.
_PROC_FILES = frozenset(f"/proc/{name}" for name in (
    "cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo", "net/dev", "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled",
))


class Surroundings(Record):
    """What of the machine and the container's namespaces decides how mounts are made.

    `cgroups` are the container's own cgroups: (name of the v1 hierarchy or "" for v2, its directory).
    """

    cgroups: tuple[tuple[str, str], ...] = ()
    own_cgroup_namespace: bool = True
    in_user_namespace: bool = False
    bundle: str = ""
    root_path: str = ""

    def inside(self, path: str) -> str:
        """Return what a path of the host's is in the container, where it names something below its root; else ""."""
        prefix = f"{self.root_path}/"
        return path[len(prefix) - 1:] if self.root_path and path.startswith(prefix) else ""


class MountFilesystem(Record):
    """Mount a new instance of a file system."""

    field: str
    destination: str
    fstype: str
    source: str
    options: MountOptions

    def apply(self, root: Rootfs) -> None:
        """Mount it. The way to /proc and /sys must not be a symbolic link (CVE-2019-19921, CVE-2023-27561)."""
        options = self.options
        data = (*options.data, *self._mode_of_covered(root))
        target = self._open_target(root)
        if self.fstype != "proc":
            _refuse_inside_proc(self, -1, target)
        if any(len(option) >= MAX_FSCONFIG_BYTES for option in data):
            self._mount_long(root, target, data)
            return
        try:
            mount = self._open_new(root, data)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EBUSY) or self.fstype not in _HOST_VIEWS:
                raise
            mount = open_bind(_HOST_VIEWS[self.fstype], recursive=True)
            set_attributes(mount, options.set, 0, recursive=True)  # a new one would have nothing below it that is writable
        if self.fstype == "proc":
            _refuse_inside_proc(self, mount, target)
        self._finish(target, mount)
        _attach_at(root, self.destination, mount, target)

    def _finish(self, target: int, mount: int) -> None:
        """Do what comes after the mounting, before anybody uses it."""
        options = self.options
        if options.copy_up:
            from .copyup import copy_covered  # cold: imported by the creator already where a mount wants it

            copy_covered(target, mount)
            set_attributes(mount, options.set & sc.MOUNT_ATTR_RDONLY, 0)
        set_all_below(mount, options)

    def _mount_long(self, root: Rootfs, target: int, data: tuple[str, ...]) -> None:
        from .longmount import mount_long  # cold: imported by the creator already where an option is long

        mount = mount_long(root, target, self.destination, self.fstype, self.source, self._first().ms_flags(), data)
        try:
            self._finish(target, mount)
            if self.destination == "/dev":
                root.dev_fd = os.dup(mount)
        finally:
            os.close(mount)
            os.close(target)

    def _open_new(self, root: Rootfs, data: tuple[str, ...]) -> int:
        if self.fstype != "proc" or root.pid_namespace_fd < 0:
            return open_filesystem(self.fstype, self.source, data, self._first().set)
        from .procfs import open_procfs_of  # cold: imported by the creator already

        mount = open_procfs_of(root.pid_namespace_fd, (f"source={self.source}", *data))
        set_attributes(mount, self.options.set, 0)
        return mount

    def _first(self) -> MountOptions:
        """Return the options to mount with: what is copied into cannot be read-only before that."""
        options = self.options
        return options.replace(set=options.set & ~sc.MOUNT_ATTR_RDONLY) if options.copy_up else options

    def _open_target(self, root: Rootfs) -> int:
        if self.fstype not in ("proc", "sysfs") and self.destination != "/dev":
            return root.ensure(self.destination, directory=True, behind_links=_may_lead_on(self.destination))
        try:
            return root.ensure(self.destination, directory=True, no_symlinks=True)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            raise Denied(f"{self.field}: mount on {self.destination}: must be mounted on ordinary directory") from error

    def _mode_of_covered(self, root: Rootfs) -> tuple[str, ...]:
        """Return the mode that a tmpfs takes over from the directory that it covers, unless told or there is none, as in runc."""
        if self.fstype != "tmpfs" or any(option.startswith("mode=") for option in self.options.data):
            return ()
        try:
            covered = root.open(self.destination)
        except OSError:
            return ()  # making it as a mount point says what is wrong
        try:
            return (f"mode={stat.S_IMODE(os.fstat(covered).st_mode):o}",)
        finally:
            os.close(covered)


class BindMount(Record):
    """Show a directory or file of the host inside the container.

    `source_fd` is a detached copy that the creator made, or -1: in a user namespace the source may be out of reach,
    and ids are mapped by whoever has the rights.
    """

    field: str
    destination: str
    source: str
    options: MountOptions
    source_fd: int = -1
    keeps_attributes: bool = False
    inside: str = ""
    """The source as a path of the container's, which may lie on what was mounted before."""
    userns_fd: int = -1
    """Whose mappings such a source gets, from the creator: inside nobody has the rights, and outside it is not there."""

    def apply(self, root: Rootfs) -> None:
        """Bind it; attributes are set on the detached copy, so there is no moment without them."""
        options = self.options
        mount = os.dup(self.source_fd) if self.source_fd >= 0 else self._open_inside(root) if self.inside else open_source(self)
        try:
            is_directory = stat.S_ISDIR(os.fstat(mount).st_mode)
            target = root.ensure(
                self.destination, directory=is_directory, behind_links=_may_lead_on(self.destination),
                no_symlinks=self.destination == "/dev")
        except BaseException:
            os.close(mount)
            raise
        _refuse_inside_proc(self, mount, target)
        _refuse_another_kind(mount, target)
        set_attributes(mount, options.set, options.clear | self._forgotten())
        set_all_below(mount, options)
        _attach_at(root, self.destination, mount, target)

    def _forgotten(self) -> int:
        """Return the attributes of the source that the bind does not keep; only one where another user namespace locked them."""
        options = self.options
        if not options.explicit:
            return 0
        if self.keeps_attributes:
            return sc.MOUNT_ATTR_NOSYMFOLLOW & ~options.set  # which the kernel does not lock (mount_namespaces(7))
        # One word on access times takes back all others (mount(2)).
        times = sc.MOUNT_ATTR__ATIME | sc.MOUNT_ATTR_NODIRATIME
        says_times = options.clear & sc.MOUNT_ATTR__ATIME or options.set & sc.MOUNT_ATTR_NODIRATIME
        forgotten = FORGOTTEN | (times if says_times else 0)
        return forgotten & ~(options.set & ~sc.MOUNT_ATTR__ATIME)

    def _open_inside(self, root: Rootfs) -> int:
        fd = root.open(self.inside)
        try:
            mount = clone_fd(fd, recursive=self.options.recursive)
        finally:
            os.close(fd)
        if self.userns_fd >= 0 and root.channel is not None:
            sync.ask(root.channel, sync.MOUNT, mount)
        return mount


def map_mount(bind: BindMount, fd: int, userns: int) -> None:
    """Map the ids of a detached mount. Raises Unsupported, Denied, with the field."""
    flags = sc.AT_EMPTY_PATH | (sc.AT_RECURSIVE if bind.options.recursive_idmap else 0)
    try:
        sc.mount_setattr(fd, "", flags, sc.MOUNT_ATTR_IDMAP, 0, 0, userns)
    except OSError as error:
        message = f"{bind.field}.uidMappings: map the ids of {bind.source}: {os.strerror(error.errno or 0)}"
        if error.errno == errno.EPERM:
            raise Denied(message) from error
        raise Unsupported(message, hint="the kernel (Linux 5.12) or this file system cannot; or it is mapped already") from error


def open_source(bind: BindMount) -> int:
    """Return a detached copy of a bind's source. Raises RuntimeFailed with the field. The caller closes it."""
    try:
        return open_bind(bind.source, recursive=bind.options.recursive)
    except OSError as error:
        raise RuntimeFailed(
            f"{bind.field}: bind source path {bind.source}: {(error.strerror or str(error)).lower()}") from error


class MountCgroup(Record):
    """Show the container's cgroups: v2, or one tmpfs with each v1 hierarchy that it has a cgroup of its own in.

    In a cgroup namespace of its own each hierarchy is mounted and begins at the container; without one, its
    directories of v1 are bound, and v2 is shown from where the namespace begins.
    """

    field: str
    destination: str
    options: MountOptions
    cgroups: tuple[tuple[str, str], ...] = ()
    is_namespaced: bool = True

    def apply(self, root: Rootfs) -> None:
        """Mount it, read-only when the options say so."""
        target = root.ensure(self.destination, directory=True)
        _refuse_inside_proc(self, -1, target)
        v1 = [(name, directory) for name, directory in self.cgroups if name]
        if not v1:
            attach(self._open_v2(self.options.data), target)
            return
        attach(open_filesystem("tmpfs", "tmpfs", ("mode=755",), self.options.set & ~sc.MOUNT_ATTR_RDONLY), target)
        for name, directory in v1:
            self._attach(root, name.removeprefix("name="), self._open_v1(name, directory))
        if len(v1) < len(self.cgroups):
            self._attach(root, "unified", self._open_v2() if self.is_namespaced else self._open_v1("", self.cgroups[-1][1]))
        fd = root.open(self.destination, _PATH_DIR)
        try:
            _link_controllers(fd, v1)
            if self.options.set & sc.MOUNT_ATTR_RDONLY:
                set_attributes(fd, sc.MOUNT_ATTR_RDONLY, 0)
        finally:
            os.close(fd)

    def _attach(self, root: Rootfs, name: str, mount: int) -> None:
        _propagate(mount, self.options)
        attach(mount, root.ensure(f"{self.destination}/{name}", directory=True))

    def _open_v1(self, name: str, directory: str) -> int:
        if self.is_namespaced:
            data = ("none", name) if name.startswith("name=") else tuple(name.split(","))
            return open_filesystem("cgroup", "cgroup", data, self.options.set)
        mount = open_bind(directory, recursive=False)
        set_attributes(mount, self.options.set, 0)
        return mount

    def _open_v2(self, data: tuple[str, ...] = ()) -> int:
        try:
            return open_filesystem("cgroup2", "cgroup", data, self.options.set)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EBUSY):
                raise
        # In a user namespace without a cgroup namespace of its own: the host's view, never writable (CVE-2023-25809).
        mount = open_bind("/sys/fs/cgroup", recursive=True)
        set_attributes(mount, self.options.set | sc.MOUNT_ATTR_RDONLY, 0, recursive=True)
        return mount


def _link_controllers(fd: int, v1: list[tuple[str, str]]) -> None:
    """Make `cpu` lead to `cpu,cpuacct`, and so on."""
    for name, _ in v1:
        for controller in name.split(",") if "," in name else ():
            os.symlink(name, controller, dir_fd=fd)


def _may_lead_on(destination: str) -> bool:
    """Tell whether a dangling link may be in a mount point's place: not where devices are made (CVE-2026-41579)."""
    return destination.split("/", 2)[1] != "dev"


def _refuse_inside_proc(operation: MountFilesystem | BindMount | MountCgroup, mount: int, target: int) -> None:
    """Refuse to mount below /proc, by the target's file system and not by its name, but for files that are made for it.

    What writes to /proc later (labels, this runtime) would write to what was mounted there (CVE-2019-16884). On /proc
    itself nothing but a whole procfs may lie, be it the second: a root file system may come with one mounted. `mount` is
    what is to be mounted, or -1; both are closed by a refusal.
    """
    is_below = sc.fstatfs_type(target) == sc.PROC_SUPER_MAGIC and operation.destination not in _PROC_FILES
    if not is_below and operation.destination != "/proc":
        return
    if operation.destination == "/proc" and mount >= 0 and _is_procfs_root(mount) and (not is_below or _is_procfs_root(target)):
        return
    os.close(target)
    if mount >= 0:
        os.close(mount)
    reason = "it is not of type proc" if operation.destination == "/proc" else "it is inside of /proc"
    raise Denied(f"{operation.field}: mount on {operation.destination}: {reason}")


def _is_procfs_root(fd: int) -> bool:
    return sc.fstatfs_type(fd) == sc.PROC_SUPER_MAGIC and os.fstat(fd).st_ino == _PROC_ROOT_INO


def _refuse_another_kind(mount: int, target: int) -> None:
    """Refuse a file on a directory as mount(2) does; move_mount(2) would only say EINVAL. Both are closed by a refusal."""
    if stat.S_ISDIR(os.fstat(target).st_mode) and not stat.S_ISDIR(os.fstat(mount).st_mode):
        os.close(target)
        os.close(mount)
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def _attach_at(root: Rootfs, destination: str, mount: int, target: int) -> None:
    if destination == "/":
        kept = os.dup(mount)
        attach(mount, target)
        root.go_on_in(kept)
        return
    if destination == "/dev":
        root.dev_fd = os.dup(mount)
    attach(mount, target)


def set_all_below(mount_fd: int, options: MountOptions) -> None:
    """Set the recursive attributes, and the propagation."""
    set_attributes(mount_fd, options.recursive_set, options.recursive_clear, recursive=True)
    _propagate(mount_fd, options)


def _propagate(mount_fd: int, options: MountOptions) -> None:
    for propagation, recursive in options.propagation:
        set_attributes(mount_fd, 0, 0, recursive=recursive, propagation=propagation)


if TYPE_CHECKING:
    Operation: TypeAlias = (
        MountFilesystem | BindMount | Remount | MountCgroup | MakeConsole | SealDev | MakeDevices | FindNull | MaskPath
        | ReadonlyPath
    )


def plan_rootfs(spec: Spec, around: Surroundings) -> list[Operation]:
    """Return the operations that fill a container's mounted root, in order. Pure. Raises InvalidRequest by field."""
    operations: list[Operation] = []
    seals: list[Operation] = []
    for index, mount in enumerate(spec.get("mounts") or ()):
        operation = plan_mount(mount, f"mounts[{index}]", around)
        options = operation.options
        if operation.destination == "/dev" and isinstance(operation, MountFilesystem) and options.set & sc.MOUNT_ATTR_RDONLY:
            # Read-only from the start, nothing could be made in it.
            from .sealeddev import MakeConsole, SealDev  # cold: few specs have it

            seals = [MakeConsole(field=operation.field)] if spec.get("process", {}).get("terminal") else []
            seals.append(SealDev(field=operation.field))
            operation = operation.replace(options=options.replace(set=options.set & ~sc.MOUNT_ATTR_RDONLY))
        operations.append(operation)
    linux = spec.get("linux", {})
    operations.append(FindNull() if any(map(shows_host_dev, operations)) else plan_devices(spec, binds=around.in_user_namespace))
    readonly, masked = dict.fromkeys(linux.get("readonlyPaths") or ()), dict.fromkeys(linux.get("maskedPaths") or ())
    operations += [ReadonlyPath(field="linux.readonlyPaths", path=path) for path in readonly]
    operations += [MaskPath(field="linux.maskedPaths", path=path) for path in masked]
    return operations + seals


def shows_host_dev(operation: Operation) -> bool:
    """Tell whether a mount makes /dev somebody else's, to stay as it is: a bind, or the one instance that devtmpfs has."""
    return isinstance(operation, (BindMount, MountFilesystem)) and operation.destination == "/dev" and (
        isinstance(operation, BindMount) or operation.fstype == "devtmpfs")


def clean_path(path: str) -> str:
    """Return an absolute path without empty parts, `.` and `..`, by its words alone, as Go's filepath.Clean has it."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def plan_mount(
    mount: Mount, field: str, around: Surroundings
) -> MountFilesystem | BindMount | Remount | MountCgroup:
    """Return the operation for one entry of the spec's `mounts`. Raises InvalidRequest by field."""
    # "Runtimes SHOULD NOT" take a relative one, but runc does, from the root.
    # One that begins with the root's own path on the host is taken from there, as runc does.
    destination = around.inside(mount["destination"]) or mount["destination"]
    destination = clean_path(destination)
    options = parse_mount_options(mount.get("options") or ())
    fstype, source = mount.get("type") or "", mount.get("source") or ""
    if options.remount:
        from .remount import Remount  # cold: few specs have one; here, in the creator, and so for the init, too

        return Remount(field=field, destination=destination, options=options)
    if options.bind or fstype in ("bind", "rbind"):
        if not source:
            raise InvalidRequest(f"{field}.source: missing")
        if not source.startswith("/") and around.bundle:
            source = f"{around.bundle}/{source}"
        recursive = options.recursive or fstype == "rbind"
        return BindMount(
            field=field, destination=destination, source=source, options=options.replace(recursive=recursive),
            keeps_attributes=around.in_user_namespace, inside=around.inside(source))
    # Beside v1 hierarchies cgroup2 is one file system among others.
    if fstype == "cgroup" or (fstype == "cgroup2" and not any(name for name, _ in around.cgroups)):
        return MountCgroup(
            field=field, destination=destination, options=options, cgroups=around.cgroups,
            is_namespaced=around.own_cgroup_namespace)
    if not fstype or fstype == "none":
        raise InvalidRequest(f"{field}.type: missing, and neither bind nor remount is among the options")
    if options.copy_up and fstype != "tmpfs":
        raise InvalidRequest(f"{field}.options: tmpcopyup is for tmpfs, not for {fstype}")
    return MountFilesystem(field=field, destination=destination, fstype=fstype, source=source or fstype, options=options)


def apply_operations(root: Rootfs, operations: tuple[Operation, ...]) -> None:
    """Do what was planned, in order. Raises RuntimeFailed with the field, and the path, of what failed."""
    root.find_dev()
    for operation in operations:
        try:
            operation.apply(root)
        except OSError as error:
            path = getattr(operation, "destination", "") or getattr(operation, "path", "") or "/dev"
            what = f"mount {operation.source} on" if isinstance(operation, BindMount) else "mount on"
            raise RuntimeFailed(f"{operation.field}: {what} {path}: {error.strerror or error}") from error
