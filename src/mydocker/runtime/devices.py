"""Device nodes of a container: the default ones, those that the spec lists, and the links of /dev.

Made below a descriptor of the directory that they are in. In a user namespace mknod(2) is refused; there the host's
nodes are bound. Where the spec binds a /dev of the host's own nothing is made, and nothing of it changed.

Source: runtime-spec config-linux.md "Devices", "Default Devices", "Dev symbolic links".
"""
from __future__ import annotations

import os
import stat

from mydocker.base.errors import Denied, InvalidRequest, RuntimeFailed
from mydocker.base.record import Record
from mydocker.linux import syscalls as sc

from .handover import is_null
from .rootfs import Rootfs, attach, set_attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.oci.runtime_spec import Device, Spec

DEFAULT_DEVICES: tuple[tuple[str, int, int], ...] = (
    ("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0),
)
_LINKS: tuple[tuple[str, str], ...] = (
    ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
)
_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


class Node(Record):
    """One device node: `path` from the root, `mode` with its kind; uid and gid -1 to leave them."""

    path: str
    mode: int
    number: int = 0
    uid: int = -1
    gid: int = -1
    made: str = ""
    """Its name on `MakeDevices.place_fd`, where the creator made it for a user namespace."""


class MakeDevices(Record):
    """Make the nodes and links. `binds` is true where the host's nodes must serve (user namespaces), or those that the
    creator made on `place_fd`, a detached mount."""

    nodes: tuple[Node, ...]
    binds: bool = False
    place_fd: int = -1
    field: str = "linux.devices"

    def apply(self, root: Rootfs) -> None:
        """Make them below descriptors; a rootfs whose /dev, or what is above a node, is a link cannot lead outside."""
        previous = os.umask(0)  # each node's mode is said in full
        dev = root.dev_fd
        try:
            made = self._open_made(dev) if self.place_fd >= 0 else {}
            for node in self.nodes:
                if node.path.startswith("/dev/") and "/" not in node.path[5:]:
                    self._make(dev, node.path[5:], node, made)
                elif node.path.startswith("/dev/"):
                    self._make_nested(Rootfs(dev, root.channel), node.path[4:], node, made)
                else:
                    self._make_nested(root, node.path, node, made)
            _make_links(dev)
            root.null_fd = os.open("null", sc.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dev)
        finally:
            os.umask(previous)
        check_null(root.null_fd)

    def _open_made(self, dev: int) -> dict[str, int]:
        """Return a detached copy of each node that the creator made, by its path.

        Before Linux 6.15 only what is attached is copied (open_tree(2)): for as long as that takes it lies over /dev.
        """
        attach(os.dup(self.place_fd), os.dup(dev))
        try:
            flags = sc.OPEN_TREE_CLONE | sc.OPEN_TREE_CLOEXEC
            return {node.path: sc.open_tree(self.place_fd, node.made, flags) for node in self.nodes if node.made}
        finally:
            sc.umount2(f"/proc/self/fd/{self.place_fd}", sc.MNT_DETACH)

    def _make_nested(self, top: Rootfs, path: str, node: Node, made: dict[str, int]) -> None:
        parent, _, name = path.rpartition("/")
        directory = top.ensure(parent or "/", directory=True, no_symlinks=True)
        try:
            self._make(directory, name, node, made)
        finally:
            os.close(directory)

    def _make(self, directory: int, name: str, node: Node, made: dict[str, int]) -> None:
        if self.binds and not stat.S_ISFIFO(node.mode):
            bind_node(directory, name, node, made.get(node.path, -1))
            return
        try:
            os.mknod(name, node.mode, node.number, dir_fd=directory)
        except FileExistsError:
            _check_existing(directory, name, node)
            return  # a rootfs with nodes of its own: theirs, as they are
        except PermissionError:
            bind_node(directory, name, node)  # this process is in a user namespace itself
            return
        if node.uid >= 0 or node.gid >= 0:
            os.chown(name, node.uid, node.gid, dir_fd=directory, follow_symlinks=False)


def _make_links(dev_fd: int) -> None:
    for name, target in _LINKS:
        try:
            os.symlink(target, name, dir_fd=dev_fd)
        except FileExistsError:
            continue  # a rootfs without a tmpfs on /dev may bring its own
    _link_ptmx(dev_fd)


def _link_ptmx(dev_fd: int) -> None:
    """Make /dev/ptmx lead to the container's own multiplexer, whatever the rootfs has there."""
    try:
        os.symlink("pts/ptmx", "ptmx", dir_fd=dev_fd)
        return
    except FileExistsError:
        pass
    try:
        if os.readlink("ptmx", dir_fd=dev_fd) == "pts/ptmx":
            return
    except OSError:
        pass  # no link: what else it is makes no difference
    os.unlink("ptmx", dir_fd=dev_fd)
    os.symlink("pts/ptmx", "ptmx", dir_fd=dev_fd)


def bind_node(directory: int, name: str, node: Node, made_fd: int = -1) -> None:
    """Show the node that the creator made, and close it, or else the host's of the same path.

    Raises RuntimeFailed for another one, or none.
    """
    source = made_fd if made_fd >= 0 else _open_host_node(node)
    set_attributes(source, sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NOEXEC, 0)  # a device is neither
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=directory))
    except FileExistsError:
        pass
    attach(source, os.open(name, sc.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory))


def _open_host_node(node: Node) -> int:
    try:
        source = sc.open_tree(sc.AT_FDCWD, node.path, sc.OPEN_TREE_CLONE | sc.OPEN_TREE_CLOEXEC | sc.AT_SYMLINK_NOFOLLOW)
    except OSError as error:
        raise RuntimeFailed(f"linux.devices: bind {node.path} of the host: {os.strerror(error.errno or 0)}") from error
    status = os.fstat(source)
    if stat.S_IFMT(status.st_mode) != stat.S_IFMT(node.mode) or status.st_rdev != node.number:
        os.close(source)
        raise RuntimeFailed(f"linux.devices: bind {node.path} of the host: it is another device there")
    return source


def _check_existing(directory: int, name: str, node: Node) -> None:
    """Refuse what is no such device where the spec wants one (runtime-spec: "MUST generate an error")."""
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_IFMT(status.st_mode) != stat.S_IFMT(node.mode) or (
            not stat.S_ISFIFO(node.mode) and status.st_rdev != node.number):
        raise RuntimeFailed(f"linux.devices: make {node.path}: something else is there in the root file system")


class FindNull(Record):
    """Take masks from the /dev/null of the host's /dev that the spec binds; nothing is made there."""

    field: str = "linux.maskedPaths"

    def apply(self, root: Rootfs) -> None:
        """Open it without following a link, and see that it is the null device."""
        try:
            root.null_fd = os.open("null", sc.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root.dev_fd)
        except FileNotFoundError:
            return  # whoever masks a file will miss it
        check_null(root.null_fd)


def check_null(fd: int) -> None:
    """Refuse a /dev/null that is not the device 1:3 (CVE-2025-31133)."""
    if not is_null(fd):
        raise Denied("mask paths: the container's /dev/null is not the null device")


def plan_devices(spec: Spec, *, binds: bool) -> MakeDevices:
    """Return how /dev is filled. Pure. Raises InvalidRequest by field."""
    nodes = {
        f"/dev/{name}": Node(path=f"/dev/{name}", mode=stat.S_IFCHR | 0o666, number=os.makedev(major, minor))
        for name, major, minor in DEFAULT_DEVICES
    }
    for index, device in enumerate(spec.get("linux", {}).get("devices") or ()):
        node = plan_node(device, f"linux.devices[{index}]")
        # The host's multiplexer, which privileged containers list: `_link_ptmx` has the container's own there, as runc's.
        if node.path != "/dev/ptmx":
            nodes[node.path] = node
    return MakeDevices(nodes=tuple(nodes.values()), binds=binds)


def plan_node(device: Device, field: str) -> Node:
    """Return the node for one entry of the spec. Raises InvalidRequest."""
    path = "/" + "/".join(part for part in device.get("path", "").split("/") if part not in ("", "."))
    kind = device.get("type", "")
    if kind not in _KINDS:
        raise InvalidRequest(f"{field}.type: {kind!r} is no kind of device", hint="c, u, b or p")
    if path == "/" or ".." in path.split("/"):
        raise InvalidRequest(f"{field}.path: {device.get('path')!r} cannot be a device")
    number = 0 if kind == "p" else os.makedev(device.get("major", 0), device.get("minor", 0))
    mode = device.get("fileMode")
    return Node(
        path=path, mode=_KINDS[kind] | (0o666 if mode is None else mode & 0o7777), number=number,
        uid=device.get("uid", 0), gid=device.get("gid", 0))
