"""The root file system of a container as a descriptor, and the ways to mount on it by descriptor only.

`Rootfs` is the mounted, not yet pivoted root. No path of the container is ever joined to a path of the host:
targets are opened with openat2(RESOLVE_IN_ROOT), made below descriptors, and mounted by descriptor (move_mount with
empty paths), so a symbolic link swapped in by another container that shares a volume leads nowhere but inside
(CVE-2021-30465, CVE-2024-45310, CVE-2025-31133, CVE-2025-52565). What is mounted where is decided in mounts.py.

Sources: mount_setattr(2), fsopen(2), open_tree(2), pivot_root(2).
"""
from __future__ import annotations

import errno
import os
import stat

from mydocker.base.errors import Denied, RuntimeFailed
from mydocker.linux import syscalls as sc

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from mydocker.oci.runtime_spec import Mount

#: Between lower directories in our own `lowerdir=` option: a byte that no path of the engine's holds.
LOWER_SEPARATOR = "\n"

_IN_ROOT = sc.RESOLVE_IN_ROOT | sc.RESOLVE_NO_MAGICLINKS
_PATH_DIR = sc.O_PATH | os.O_DIRECTORY
#: How many dangling symbolic links may lead to a mount point.
_MAX_LINKS = 8
#: What one FSCONFIG_SET_STRING takes, its zero byte included (fs/fsopen.c).
MAX_FSCONFIG_BYTES = 256


class Rootfs:
    """The container's root as a descriptor, between its mount and pivot_root.

    `fd` is an O_PATH directory in the container's own mount namespace. `dev_fd` is its /dev, or what the spec mounts there:
    devices are made in that and never where a path leads, for a link of an image's can have another mount cover /dev, which
    may be a directory of the host's. `null_fd` is the container's /dev/null once devices.py made or found it, else -1 (masks
    are taken from it, never looked up by path), `empty_fd` the mount that hides directories once there is one.
    `pid_namespace_fd` is the container's where this process is not in it and its procfs must be made there (procfs.py), else
    -1. `channel` leads to the creator, for what of a mount only that one may do; there is none where a root is only looked at.
    """

    __slots__ = ("channel", "dev_fd", "empty_fd", "fd", "null_fd", "pid_namespace_fd")

    def __init__(self, fd: int, channel: _socket.socket | None = None) -> None:
        self.fd = fd
        self.channel = channel
        self.dev_fd = -1
        self.null_fd = -1
        self.empty_fd = -1
        self.pid_namespace_fd = -1

    def open(self, path: str, flags: int = sc.O_PATH, *, no_symlinks: bool = False) -> int:
        """Open a path as the container would see it. Raises OSError. The caller closes it."""
        return sc.openat2(self.fd, path, flags, 0, _IN_ROOT | (sc.RESOLVE_NO_SYMLINKS if no_symlinks else 0))

    def find_dev(self) -> None:
        """Open the root file system's own /dev, making it where it is missing, before anything is mounted. Raises Denied."""
        try:
            self.dev_fd = self.ensure("/dev", directory=True, no_symlinks=True)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise RuntimeFailed(f"make /dev: {os.strerror(error.errno or 0)}") from error
            raise Denied("make devices: /dev of the root file system must be an ordinary directory") from error

    def go_on_in(self, fd: int) -> None:
        """Take another root, which was mounted over this one, as crun does; what was mounted before is covered. Raises Denied.

        A descriptor looks at what it was opened on, and never at what came on top of that.
        """
        os.close(self.fd)
        os.close(self.dev_fd)
        self.fd = fd
        self.find_dev()

    def ensure_console(self) -> int:
        """Open /dev/console (O_PATH), making it where it is missing; never behind a link. Raises Denied. The caller closes it."""
        try:
            return _make_file_at(self.dev_fd, "console")
        except FileExistsError:
            console = os.open("console", sc.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.dev_fd)
        if stat.S_ISLNK(os.fstat(console).st_mode):
            os.close(console)
            raise Denied("open a terminal: /dev/console of the root file system is a symbolic link")
        return console

    def ensure(self, path: str, *, directory: bool, no_symlinks: bool = False, behind_links: bool = False) -> int:
        """Open a mount target (O_PATH), making it and its parents where missing. The caller closes it.

        With `no_symlinks` a symbolic link anywhere on the way is an error (ELOOP). One that leads to what is not there
        is an error, too, unless `behind_links` lets that be made, inside the root.
        """
        flags = _PATH_DIR if directory else sc.O_PATH
        try:
            return self.open(path, flags, no_symlinks=no_symlinks)
        except FileNotFoundError:
            pass
        names = _split(path)
        if ".." in names or not names:
            raise RuntimeFailed(f"make mount point {path}: '..' in a path that does not exist")
        return self._make(names, directory=directory, no_symlinks=no_symlinks, links=_MAX_LINKS if behind_links else 0)

    def _make(self, names: list[str], *, directory: bool, no_symlinks: bool, links: int) -> int:
        """Open or make each part of a path; each is resolved inside the root by the kernel, whatever is swapped meanwhile.

        `links` is how many dangling links may be followed.
        """
        current = self.open("/", _PATH_DIR)
        try:
            for depth, name in enumerate(names, start=1):
                as_directory = directory or depth < len(names)
                part = "/".join(names[:depth])
                try:
                    following = self.open(part, _PATH_DIR if as_directory else sc.O_PATH, no_symlinks=no_symlinks)
                except FileNotFoundError:
                    try:
                        following = _make_directory_at(current, name) if as_directory else _make_file_at(current, name)
                    except FileExistsError:
                        link = _read_link(current, name)
                        if link is not None and links:  # it dangles: what it leads to is made
                            base = [] if link.startswith("/") else names[:depth - 1]
                            names = [*base, *_split(link), *names[depth:]]
                            return self._make(names, directory=directory, no_symlinks=no_symlinks, links=links - 1)
                        # Somebody was faster, or it is the dangling link, which fails.
                        following = self.open(part, _PATH_DIR if as_directory else sc.O_PATH, no_symlinks=no_symlinks)
                os.close(current)
                current = following
            return os.dup(current)
        finally:
            os.close(current)


def _split(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _read_link(parent_fd: int, name: str) -> str | None:
    """Return where a symbolic link leads, None for what is none."""
    try:
        return os.readlink(name, dir_fd=parent_fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise
        return None


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


def mount_root(root_path: str, root_mount: Mount | None, *, follows_host: bool = False) -> int:
    """Mount the container's root on `root_path` and return it as an O_PATH descriptor.

    `root_mount` is what the storage says to mount there (overlay), or None for a root file system that
    is a plain directory: pivot_root(2) wants a mount point, so that is bound on itself; with `follows_host`
    it stays a slave of what it is a copy of (linux.rootfsPropagation). Requires a
    mount namespace of one's own with private propagation. Raises OSError, RuntimeFailed.
    """
    if root_mount is None:
        target = os.open(root_path, _PATH_DIR | os.O_CLOEXEC)
        mount = clone_fd(target, recursive=True)
        if not follows_host:  # what the host mounts below the bundle later is not for the container to see
            set_attributes(mount, 0, 0, propagation=sc.MS_PRIVATE)
        attach(mount, target)
    else:
        mount_overlay(root_path, root_mount.get("options", ()))
    return os.open(root_path, _PATH_DIR | os.O_CLOEXEC)


def unmount_root(root_path: str) -> None:
    """Undo `mount_root`, and all that was mounted below, of a container without a mount namespace of its own."""
    try:
        sc.umount2(root_path, sc.MNT_DETACH | sc.UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):  # not mounted, or gone with its directory
            raise


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
                    from .hostmounts import mount_host_view  # cold: the host's root is still in view

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
