"""The root file system of a container: what is mounted where, decided first, then done in order.

`plan_rootfs` turns a runtime spec into a list of operations, without touching anything. `apply` of
each operation works on a `Rootfs`: the mounted, not yet pivoted root as a descriptor. No operation
joins a path of the container to a path of the host: targets are opened with openat2(RESOLVE_IN_ROOT),
made below descriptors, and mounted by descriptor (move_mount with empty paths), so a symbolic link
swapped in by another container that shares a volume leads nowhere but inside (CVE-2021-30465,
CVE-2024-45310, CVE-2025-31133, CVE-2025-52565).

Sources: runtime-spec config.md "Mounts", config-linux.md "Default Filesystems"; mount_setattr(2), fsopen(2).
"""
from __future__ import annotations

import errno
import os
import stat

from mydocker.base.errors import Denied, RuntimeFailed, Unsupported
from mydocker.base.record import Record
from mydocker.linux import syscalls as sc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.oci.runtime_spec import Device, Mount, Spec

#: Between lower directories in our own `lowerdir=` option: a byte that no path of the engine's holds.
LOWER_SEPARATOR = "\n"

_IN_ROOT = sc.RESOLVE_IN_ROOT | sc.RESOLVE_NO_MAGICLINKS
_PATH_DIR = sc.O_PATH | os.O_DIRECTORY

#: option -> (attributes to set, attributes to clear)
_ATTRIBUTES: dict[str, tuple[int, int]] = {
    "ro": (sc.MOUNT_ATTR_RDONLY, 0), "rw": (0, sc.MOUNT_ATTR_RDONLY),
    "nosuid": (sc.MOUNT_ATTR_NOSUID, 0), "suid": (0, sc.MOUNT_ATTR_NOSUID),
    "nodev": (sc.MOUNT_ATTR_NODEV, 0), "dev": (0, sc.MOUNT_ATTR_NODEV),
    "noexec": (sc.MOUNT_ATTR_NOEXEC, 0), "exec": (0, sc.MOUNT_ATTR_NOEXEC),
    "nodiratime": (sc.MOUNT_ATTR_NODIRATIME, 0), "diratime": (0, sc.MOUNT_ATTR_NODIRATIME),
    "noatime": (sc.MOUNT_ATTR_NOATIME, sc.MOUNT_ATTR__ATIME), "atime": (0, sc.MOUNT_ATTR__ATIME),
    "relatime": (sc.MOUNT_ATTR_RELATIME, sc.MOUNT_ATTR__ATIME), "norelatime": (0, sc.MOUNT_ATTR__ATIME),
    "strictatime": (sc.MOUNT_ATTR_STRICTATIME, sc.MOUNT_ATTR__ATIME), "nostrictatime": (0, sc.MOUNT_ATTR__ATIME),
    "nosymfollow": (sc.MOUNT_ATTR_NOSYMFOLLOW, 0), "symfollow": (0, sc.MOUNT_ATTR_NOSYMFOLLOW),
    "defaults": (0, 0),
}
_PROPAGATION: dict[str, tuple[int, bool]] = {
    "private": (sc.MS_PRIVATE, False), "rprivate": (sc.MS_PRIVATE, True),
    "slave": (sc.MS_SLAVE, False), "rslave": (sc.MS_SLAVE, True),
    "shared": (sc.MS_SHARED, False), "rshared": (sc.MS_SHARED, True),
    "unbindable": (sc.MS_UNBINDABLE, False), "runbindable": (sc.MS_UNBINDABLE, True),
}

#: Every option word that is not handed to the file system.
MOUNT_OPTIONS = (*_ATTRIBUTES, *(f"r{word}" for word in _ATTRIBUTES if word != "defaults"), *_PROPAGATION, "bind", "rbind")

DEFAULT_DEVICES: tuple[tuple[str, int, int], ...] = (
    ("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0),
)
_DEV_LINKS: tuple[tuple[str, str], ...] = (
    ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx"),
)


class MountOptions(Record):
    """A mount's option words, sorted by what consumes them."""

    set: int = 0
    clear: int = 0
    recursive_set: int = 0
    recursive_clear: int = 0
    propagation: tuple[tuple[int, bool], ...] = ()
    bind: bool = False
    recursive: bool = False
    data: tuple[str, ...] = ()


def parse_mount_options(options: list[str] | tuple[str, ...]) -> MountOptions:
    """Sort a runtime spec's mount options; what is not known goes to the file system as data."""
    set_, clear, rset, rclear = 0, 0, 0, 0
    propagation: list[tuple[int, bool]] = []
    data: list[str] = []
    bind = recursive = False
    for word in options:
        if word in _ATTRIBUTES:
            on, off = _ATTRIBUTES[word]
            set_, clear = (set_ & ~off) | on, (clear & ~on) | off
        elif word in ("bind", "rbind"):
            bind, recursive = True, recursive or word == "rbind"
        elif word in _PROPAGATION:
            propagation.append(_PROPAGATION[word])
        elif word[:1] == "r" and word[1:] in _ATTRIBUTES:
            on, off = _ATTRIBUTES[word[1:]]
            rset, rclear = (rset & ~off) | on, (rclear & ~on) | off
        else:
            data.append(word)
    return MountOptions(
        set=set_, clear=clear, recursive_set=rset, recursive_clear=rclear,
        propagation=tuple(propagation), bind=bind, recursive=recursive, data=tuple(data),
    )


class Rootfs:
    """The container's root as a descriptor, between its mount and pivot_root.

    `fd` is an O_PATH directory in the container's own mount namespace; `null_fd` is the container's
    /dev/null once `MakeDevices` made it (masks are taken from it, never looked up by path).
    """

    __slots__ = ("fd", "null_fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.null_fd = -1

    def open(self, path: str, flags: int = sc.O_PATH) -> int:
        """Open a path as the container would see it. Raises OSError. The caller closes it."""
        return sc.openat2(self.fd, path, flags, 0, _IN_ROOT)

    def ensure(self, path: str, *, directory: bool) -> int:
        """Open a mount target (O_PATH), making it and its parents where missing. The caller closes it."""
        try:
            return self.open(path, _PATH_DIR if directory else sc.O_PATH)
        except FileNotFoundError:
            pass
        names = [name for name in path.split("/") if name not in ("", ".")]
        if ".." in names or not names:
            raise RuntimeFailed(f"make mount point {path}: '..' in a path that does not exist")
        parent = self._ensure_parents(names[:-1])
        try:
            if directory:
                return _make_directory_at(parent, names[-1])
            return _make_file_at(parent, names[-1])
        except FileExistsError:
            # A dangling symbolic link, or somebody was faster: resolve it inside the root, or fail.
            return self.open(path, _PATH_DIR if directory else sc.O_PATH)
        finally:
            os.close(parent)

    def _ensure_parents(self, names: list[str]) -> int:
        current = self.open("/", _PATH_DIR)
        for depth, name in enumerate(names, start=1):
            try:
                following = self.open("/".join(names[:depth]), _PATH_DIR)
            except FileNotFoundError:
                try:
                    following = _make_directory_at(current, name)
                except BaseException:
                    os.close(current)
                    raise
            os.close(current)
            current = following
        return current


def _make_directory_at(parent_fd: int, name: str) -> int:
    os.mkdir(name, 0o755, dir_fd=parent_fd)
    return os.open(name, _PATH_DIR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)


def _make_file_at(parent_fd: int, name: str) -> int:
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=parent_fd))
    return os.open(name, sc.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)


def attach(mount_fd: int, target_fd: int) -> None:
    """Attach a detached mount to a target, both by descriptor, and close both."""
    try:
        sc.move_mount(mount_fd, "", target_fd, "", sc.MOVE_MOUNT_F_EMPTY_PATH | sc.MOVE_MOUNT_T_EMPTY_PATH)
    finally:
        os.close(mount_fd)
        os.close(target_fd)


def open_filesystem(fstype: str, source: str, data: tuple[str, ...] | list[str], attributes: int) -> int:
    """Return a detached mount of a new file system instance (fsopen(2)). The caller closes it.

    `data` are the file system's own options, `key` or `key=value`. Raises OSError.
    """
    context = sc.fsopen(fstype, sc.FSOPEN_CLOEXEC)
    try:
        if source:
            sc.fsconfig(context, sc.FSCONFIG_SET_STRING, "source", source, 0)
        for option in data:
            key, equals, value = option.partition("=")
            if equals:
                sc.fsconfig(context, sc.FSCONFIG_SET_STRING, key, value, 0)
            else:
                sc.fsconfig(context, sc.FSCONFIG_SET_FLAG, key, None, 0)
        sc.fsconfig(context, sc.FSCONFIG_CMD_CREATE, None, None, 0)
        return sc.fsmount(context, sc.FSMOUNT_CLOEXEC, attributes)
    except OSError as error:
        raise OSError(error.errno, f"{os.strerror(error.errno or 0)}{_kernel_message(context)}") from error
    finally:
        os.close(context)


def _kernel_message(context_fd: int) -> str:
    """Return what the kernel says about a failed fsconfig (it queues messages on the descriptor), or ''."""
    try:
        text = os.read(context_fd, 1024).decode("utf-8", "replace").strip()
    except OSError:
        return ""  # ENODATA: it has nothing to say
    return f" ({text[2:]})" if text else ""


def open_bind(source: str, *, recursive: bool) -> int:
    """Return a detached copy of the mount at a host path. The caller closes it. Raises OSError.

    A path `/proc/self/fd/N` may name a detached mount, which the kernel does not copy for every process: then it is
    the mount itself that is returned, to be attached once.
    """
    flags = sc.OPEN_TREE_CLONE | sc.OPEN_TREE_CLOEXEC | (sc.AT_RECURSIVE if recursive else 0)
    try:
        return sc.open_tree(sc.AT_FDCWD, source, flags)
    except OSError as error:
        if error.errno != errno.EINVAL or not source.startswith("/proc/self/fd/"):
            raise
        return os.dup(int(source.removeprefix("/proc/self/fd/")))


def clone_fd(fd: int, *, recursive: bool = False) -> int:
    """Return a detached copy of the mount that a descriptor is on, rooted at the descriptor."""
    flags = sc.OPEN_TREE_CLONE | sc.OPEN_TREE_CLOEXEC | sc.AT_EMPTY_PATH | (sc.AT_RECURSIVE if recursive else 0)
    return sc.open_tree(fd, "", flags)


def set_attributes(fd: int, set_: int, clear: int, *, recursive: bool = False, propagation: int = 0) -> None:
    """mount_setattr(2) on a descriptor; nothing to set is no call."""
    if set_ or clear or propagation:
        flags = sc.AT_EMPTY_PATH | (sc.AT_RECURSIVE if recursive else 0)
        sc.mount_setattr(fd, "", flags, set_, clear, propagation, 0)


class MountFilesystem(Record):
    """Mount a new instance of a file system."""

    destination: str
    fstype: str
    source: str
    options: MountOptions

    def apply(self, root: Rootfs) -> None:
        """Mount it. /proc and /sys must not be symbolic links (CVE-2019-19921, CVE-2023-27561)."""
        target = root.ensure(self.destination, directory=True)
        if self.fstype in ("proc", "sysfs"):
            _refuse_symlink(root, self.destination)
        mount = open_filesystem(self.fstype, self.source, self.options.data, self.options.set)
        _propagate(mount, self.options)
        attach(mount, target)


class BindMount(Record):
    """Show a directory or file of the host inside the container."""

    destination: str
    source: str
    options: MountOptions

    def apply(self, root: Rootfs) -> None:
        """Bind it; attributes are set on the detached copy, so there is no moment without them."""
        options = self.options
        mount = open_bind(self.source, recursive=options.recursive)
        try:
            is_directory = stat.S_ISDIR(os.fstat(mount).st_mode)
            target = root.ensure(self.destination, directory=is_directory)
        except BaseException:
            os.close(mount)
            raise
        set_attributes(mount, options.set, options.clear)
        set_attributes(mount, options.recursive_set, options.recursive_clear, recursive=True)
        _propagate(mount, options)
        attach(mount, target)


class MountCgroup(Record):
    """Mount the cgroup view of the container's cgroup namespace: v2, or one tmpfs with each v1 hierarchy."""

    destination: str
    options: MountOptions
    v1_hierarchies: tuple[str, ...] = ()
    has_v2: bool = True

    def apply(self, root: Rootfs) -> None:
        """Mount it, read-only when the options say so."""
        if not self.v1_hierarchies:
            target = root.ensure(self.destination, directory=True)
            attach(open_filesystem("cgroup2", "cgroup", (), self.options.set), target)
            return
        outside = self.options.set & ~sc.MOUNT_ATTR_RDONLY
        target = root.ensure(self.destination, directory=True)
        attach(open_filesystem("tmpfs", "tmpfs", ("mode=755",), outside), target)
        for name in self.v1_hierarchies:
            target = root.ensure(f"{self.destination}/{name.removeprefix('name=')}", directory=True)
            data = ("none", name) if name.startswith("name=") else tuple(name.split(","))
            attach(open_filesystem("cgroup", "cgroup", data, self.options.set), target)
        if self.has_v2:
            target = root.ensure(f"{self.destination}/unified", directory=True)
            attach(open_filesystem("cgroup2", "cgroup", (), self.options.set), target)
        if self.options.set & sc.MOUNT_ATTR_RDONLY:
            fd = root.open(self.destination, _PATH_DIR)
            set_attributes(fd, sc.MOUNT_ATTR_RDONLY, 0)
            os.close(fd)


class MakeDevices(Record):
    """Make the default devices and links in /dev, and those that the spec lists."""

    devices: tuple[Device, ...] = ()

    def apply(self, root: Rootfs) -> None:
        """Make them below a descriptor of /dev; a rootfs whose /dev is a link cannot lead outside."""
        dev = root.ensure("/dev", directory=True)
        try:
            for name, major, minor in DEFAULT_DEVICES:
                _make_device(dev, name, stat.S_IFCHR | 0o666, major, minor)
            for name, target in _DEV_LINKS:
                try:
                    os.symlink(target, name, dir_fd=dev)
                except FileExistsError:
                    continue  # a rootfs without a tmpfs on /dev may bring its own
            root.null_fd = os.open("null", sc.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dev)
        finally:
            os.close(dev)
        _check_null(root.null_fd)


def _make_device(dev_fd: int, name: str, mode: int, major: int, minor: int) -> None:
    try:
        os.mknod(name, mode, os.makedev(major, minor), dir_fd=dev_fd)
    except FileExistsError:
        return
    os.chmod(name, stat.S_IMODE(mode), dir_fd=dev_fd)  # mknod minded the umask


def _check_null(fd: int) -> None:
    """Refuse a /dev/null that is not the device 1:3 (CVE-2025-31133)."""
    status = os.fstat(fd)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(1, 3):
        raise Denied("mask paths: the container's /dev/null is not the null device")


class MaskPath(Record):
    """Hide a path: an empty read-only directory over a directory, /dev/null over anything else."""

    path: str

    def apply(self, root: Rootfs) -> None:
        """Hide it; what does not exist needs no hiding."""
        try:
            target = root.open(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISDIR(os.fstat(target).st_mode):
            mount = open_filesystem("tmpfs", "tmpfs", ("size=0k", "nr_inodes=2", "mode=755"), sc.MOUNT_ATTR_RDONLY)
        else:
            mount = clone_fd(root.null_fd)
            # Read-only: otherwise chmod of the masked path would change the container's /dev/null.
            set_attributes(mount, sc.MOUNT_ATTR_RDONLY, 0)
        attach(mount, target)


class ReadonlyPath(Record):
    """Make a path read-only by a bind of itself."""

    path: str

    def apply(self, root: Rootfs) -> None:
        """Bind it read-only; what does not exist is left alone."""
        try:
            target = root.open(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return
        mount = clone_fd(target, recursive=True)
        set_attributes(mount, sc.MOUNT_ATTR_RDONLY, 0, recursive=True)
        attach(mount, target)


def _refuse_symlink(root: Rootfs, path: str) -> None:
    try:
        os.close(sc.openat2(root.fd, path, _PATH_DIR, 0, _IN_ROOT | sc.RESOLVE_NO_SYMLINKS))
    except OSError as error:
        raise Denied(f"mount on {path}: it is a symbolic link in the root file system") from error


def _propagate(mount_fd: int, options: MountOptions) -> None:
    for propagation, recursive in options.propagation:
        set_attributes(mount_fd, 0, 0, recursive=recursive, propagation=propagation)


Operation = MountFilesystem | BindMount | MountCgroup | MakeDevices | MaskPath | ReadonlyPath


def plan_rootfs(spec: Spec, *, v1_hierarchies: tuple[str, ...] = (), has_v2: bool = True) -> list[Operation]:
    """Return the operations that fill a container's mounted root, in order. Pure.

    `v1_hierarchies` are the cgroup v1 hierarchies of this machine by their mount options. Raises
    Unsupported for a mount that cannot be made here.
    """
    operations: list[Operation] = [
        plan_mount(mount, v1_hierarchies, has_v2) for mount in spec.get("mounts", ())
    ]
    linux = spec.get("linux", {})
    operations.append(MakeDevices(devices=tuple(linux.get("devices", ()))))
    operations += [ReadonlyPath(path=path) for path in linux.get("readonlyPaths", ())]
    operations += [MaskPath(path=path) for path in linux.get("maskedPaths", ())]
    return operations


def plan_mount(mount: Mount, v1_hierarchies: tuple[str, ...] = (), has_v2: bool = True) -> Operation:
    """Return the operation for one entry of the spec's `mounts`. Raises Unsupported."""
    destination = mount["destination"]
    options = parse_mount_options(mount.get("options", ()))
    fstype = mount.get("type", "")
    if options.bind or fstype in ("bind", "rbind"):
        return BindMount(destination=destination, source=mount.get("source", ""), options=options)
    if fstype in ("cgroup", "cgroup2"):
        return MountCgroup(destination=destination, options=options, v1_hierarchies=v1_hierarchies, has_v2=has_v2)
    if not fstype:
        raise Unsupported(f"mount on {destination}: it has neither a type nor bind among its options")
    return MountFilesystem(destination=destination, fstype=fstype, source=mount.get("source", fstype), options=options)


def mount_root(root_path: str, root_mount: Mount | None) -> int:
    """Mount the container's root on `root_path` and return it as an O_PATH descriptor.

    `root_mount` is what the storage says to mount there (overlay), or None for a root file system that
    is a plain directory: pivot_root(2) wants a mount point, so that is bound on itself. Requires a
    mount namespace of one's own with private propagation. Raises OSError, RuntimeFailed.
    """
    if root_mount is None:
        target = os.open(root_path, _PATH_DIR | os.O_CLOEXEC)
        attach(clone_fd(target, recursive=True), target)
    else:
        mount_overlay(root_path, root_mount.get("options", ()))
    return os.open(root_path, _PATH_DIR | os.O_CLOEXEC)


def mount_overlay(target: str, options: list[str] | tuple[str, ...]) -> None:
    """Mount overlayfs with directories named through descriptors.

    mount(2) takes one page of options, which 40 layers named in full would fill; `/proc/self/fd/N` is
    short, needs no escaping of `:` and `,`, and keeps host paths out of the container's mountinfo. The
    names are resolved while mounting. Raises RuntimeFailed with the way out.
    """
    fds: list[int] = []

    def short(path: str) -> str:
        fds.append(os.open(path, _PATH_DIR | os.O_CLOEXEC))
        return f"/proc/self/fd/{fds[-1]}"

    words = []
    try:
        for option in options:
            key, _, value = option.partition("=")
            if key in ("lowerdir", "upperdir", "workdir"):
                places = value.split(LOWER_SEPARATOR)
                if key == "lowerdir" and places[-1] == "/":
                    places[-1] = mount_host_view(target)
                option = f"{key}={':'.join(short(path) for path in places)}"
            words.append(option)
        sc.mount("overlay", target, "overlay", 0, ",".join(words))
    except OSError as error:
        raise RuntimeFailed(
            f"mount the root file system (overlay) on {target}: {os.strerror(error.errno or 0)}",
            hint="the state directory must be on a file system that can hold an overlay's upper directory, such as ext4 or xfs",
        ) from error
    finally:
        for fd in fds:
            os.close(fd)


def mount_host_view(target: str) -> str:
    """Mount a read-only view of the machine's own root below `target`, and return its path.

    overlayfs refuses a lower directory that lies below another (ELOOP), and every directory of the engine's
    lies below `/`. Seen through an overlay of its own, `/` is another file system to it. That overlay wants
    two lower directories, the second one not below `/` either: both places are made in a tmpfs, which the
    container's root then covers. Raises OSError.
    """
    place = os.open(target, _PATH_DIR | os.O_CLOEXEC)
    attach(open_filesystem("tmpfs", "tmpfs", ("mode=700",), 0), place)
    for name in ("nothing", "view"):
        os.mkdir(f"{target}/{name}", 0o755)
    sc.mount("overlay", f"{target}/view", "overlay", sc.MS_RDONLY, f"lowerdir=/:{target}/nothing")
    return f"{target}/view"
