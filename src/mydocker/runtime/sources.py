"""Sources of bind mounts that the creator opens, before the container is cloned.

In a user namespace a source may be out of the container's reach, and mapping the ids of a mount takes rights
over its file system; the creator has both. What is opened here is a detached copy of the mount, which the
init only has to attach.

Source: open_tree(2), mount_setattr(2) "ID-mapped mounts"; runtime-spec config.md "POSIX-platform Mounts".
"""
from __future__ import annotations

import os
import stat

from mydocker.base.errors import InvalidRequest
from mydocker.base.undo import Undo
from mydocker.linux import syscalls as sc

from . import sync
from .devices import MakeDevices, Node, plan_node
from .idmap import map_id, open_mapped_userns, parse_mount_mappings
from .mounts import BindMount, map_mount, open_source
from .rootfs import open_filesystem, set_attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from mydocker.oci.runtime_spec import IdMapping, Linux, Mount, Spec

    from .mounts import Operation
    from .namespaces import NamespacePlan


def open_sources(operations: list[Operation], spec: Spec, namespaces: NamespacePlan, closing: Undo) -> list[Operation]:
    """Return the operations with their sources open, where that is for the creator to do; `closing` closes them."""
    result = list(operations)
    for index, mount in enumerate(spec.get("mounts") or ()):
        operation = result[index]  # mounts come first, in their order
        mappings = find_mappings(mount, spec, f"mounts[{index}]")
        if not isinstance(operation, BindMount):
            if mappings is not None:
                raise InvalidRequest(f"mounts[{index}].uidMappings: ids are mapped for bind mounts only")
            continue
        # An ordinary user opens nothing here: its rights begin in the container's user namespace.
        if mappings is None and (operation.inside or not (namespaces.all & sc.CLONE_NEWUSER and os.geteuid() == 0)):
            continue
        userns = -1
        if mappings is not None:
            userns = open_userns(operation.field, mappings, namespaces)
            closing.callback(os.close, userns)
            if operation.inside:
                result[index] = operation.replace(userns_fd=userns)
                continue
        fd = open_source(operation)
        closing.callback(os.close, fd)
        if spec.get("linux", {}).get("rootfsPropagation") not in ("shared", "rshared"):
            # A copy made out here is a peer of the host's mount: what is mounted on it inside, by whoever, would appear there.
            # The init's own copies are slaves (init.py isolate_mounts).
            set_attributes(fd, 0, 0, recursive=True, propagation=sc.MS_SLAVE)
        if userns >= 0:
            map_mount(operation, fd, userns)
        result[index] = operation.replace(source_fd=fd)
    return result


def serve_mounts(operations: tuple[Operation, ...], channel: _socket.socket) -> None:
    """Map the ids of the mounts whose sources are the container's own, as the init comes to each in turn."""
    for operation in operations:
        if isinstance(operation, BindMount) and operation.userns_fd >= 0:
            mount = sync.receive(channel, sync.MOUNT)
            try:
                map_mount(operation, mount, operation.userns_fd)
            finally:
                os.close(mount)
            channel.send(sync.GO)


def find_mappings(mount: Mount, spec: Spec, field: str) -> tuple[list[IdMapping], list[IdMapping]] | None:
    """Return a mount's own mappings, or the container's where it only says idmap; None when ids are not mapped."""
    uids, gids = mount.get("uidMappings") or [], mount.get("gidMappings") or []
    options = mount.get("options") or ()
    if not uids and not gids:
        words = [word for word in options if word.partition("=")[0] in ("idmap", "ridmap")]
        if not words:
            return None
        if "=" in words[-1]:
            return parse_mount_mappings(words[-1], spec.get("linux", {}), f"{field}.options")
        linux = spec.get("linux", {})
        uids, gids = linux.get("uidMappings") or [], linux.get("gidMappings") or []
        joins = any(item.get("type") == "user" and item.get("path") for item in linux.get("namespaces") or ())
        if not uids and not gids and joins:
            return [], []  # those of the user namespace that is joined
    if not uids or not gids:
        raise InvalidRequest(f"{field}.uidMappings: both uidMappings and gidMappings are needed")
    return uids, gids


def open_userns(field: str, mappings: tuple[list[IdMapping], list[IdMapping]], namespaces: NamespacePlan) -> int:
    """Return a user namespace with the mappings; without any it is the one that the container joins. The caller closes it."""
    if mappings == ([], []):
        return next(os.dup(joined.fd) for joined in namespaces.joined if joined.flag == sc.CLONE_NEWUSER)
    return open_mapped_userns(*mappings, field=f"{field}.")


def make_nodes(operations: list[Operation], spec: Spec, closing: Undo) -> list[Operation]:
    """Return the operations with the spec's device nodes made, for a user namespace, in which nobody may: on a tmpfs of
    the creator's, from where each is bound. An ordinary user may not either, and binds the host's.
    """
    linux = spec.get("linux", {})
    listed = {node.path: node for node in (plan_node(item, "linux.devices") for item in linux.get("devices") or ())}
    if not listed or os.geteuid() != 0:
        return operations
    place = open_filesystem("tmpfs", "devices", ("mode=711",), 0)  # which the init, another user, must find names in
    closing.callback(os.close, place)
    result = list(operations)
    for index, operation in enumerate(operations):
        if isinstance(operation, MakeDevices) and operation.binds:
            nodes = (_make_node(place, str(at), node, linux) if node.path in listed else node
                     for at, node in enumerate(operation.nodes))
            result[index] = operation.replace(nodes=tuple(nodes), place_fd=place)
    return result


def _make_node(place: int, name: str, node: Node, linux: Linux) -> Node:
    if stat.S_ISFIFO(node.mode):
        return node  # which everybody may make
    uid, gid = map_id(max(node.uid, 0), linux.get("uidMappings") or ()), map_id(max(node.gid, 0), linux.get("gidMappings") or ())
    try:
        os.mknod(name, node.mode, node.number, dir_fd=place)
    except PermissionError:
        return node  # the creator is in a user namespace itself
    os.chmod(name, stat.S_IMODE(node.mode), dir_fd=place)  # whatever the umask
    os.chown(name, -1 if uid is None else uid, -1 if gid is None else gid, dir_fd=place)
    return node.replace(made=name)
