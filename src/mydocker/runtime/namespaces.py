"""The namespaces of a container: which are new, which are joined by path, and in which order.

Usually all are new and one clone3(2) makes them. A namespace to join, or a time offset (which must be written
before the first process is in the namespace), takes a *helper*: a process that joins, and then clones the init as
its own sibling (CLONE_PARENT), so that the init is the creator's child all the same.

Source: namespaces(7), setns(2), user_namespaces(7), time_namespaces(7); runtime-spec config-linux.md "Namespaces".
"""
from __future__ import annotations

import fcntl
import os

from mydocker.base.errors import InvalidRequest, NotFound, RuntimeFailed
from mydocker.base.record import Record
from mydocker.linux import syscalls as sc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.oci.runtime_spec import Spec

FLAGS = {
    "pid": sc.CLONE_NEWPID, "network": sc.CLONE_NEWNET, "mount": sc.CLONE_NEWNS, "ipc": sc.CLONE_NEWIPC,
    "uts": sc.CLONE_NEWUTS, "cgroup": sc.CLONE_NEWCGROUP, "user": sc.CLONE_NEWUSER, "time": sc.CLONE_NEWTIME,
}
#: Names of namespaces below /proc/PID/ns.
FILES = {
    "pid": "pid", "network": "net", "mount": "mnt", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup", "user": "user",
    "time": "time",
}
_NS_GET_NSTYPE = 0xB703


class Joined(Record):
    """A namespace to join: an open descriptor of it, and where the spec says so."""

    flag: int
    fd: int
    field: str


class NamespacePlan(Record):
    """What `plan_namespaces` decided. `new` and `all` are CLONE_NEW* flags; `all` has the joined ones, too."""

    new: int = 0
    all: int = 0
    joined: tuple[Joined, ...] = ()
    time_offsets: bytes = b""

    @property
    def needs_helper(self) -> bool:
        """Tell whether one clone3(2) is not enough."""
        return bool(self.joined or self.time_offsets)

    @property
    def late_pid(self) -> Joined | None:
        """The pid namespace to join, where the init stays outside of it until it is the last stage.

        In there whoever may trace everything would see an interpreter with the host's root (/proc/PID/root, exe). With a
        user namespace of its own an init could not join it as late as that.
        """
        if self.all & sc.CLONE_NEWUSER:
            return None
        return next((joined for joined in self.joined if joined.flag == sc.CLONE_NEWPID), None)

    def close(self) -> None:
        """Close the descriptors of what is to be joined."""
        for joined in self.joined:
            os.close(joined.fd)


def plan_namespaces(spec: Spec) -> NamespacePlan:
    """Return the plan for a spec; the caller closes it. Raises InvalidRequest, NotFound, Unsupported by field."""
    new, joined = 0, []
    linux = spec.get("linux", {})
    try:
        for index, namespace in enumerate(linux.get("namespaces", ())):
            kind, path = namespace.get("type", ""), namespace.get("path", "")
            field = f"linux.namespaces[{index}]"
            if kind not in FLAGS:
                raise InvalidRequest(f"{field}.type: {kind!r} is no kind of namespace")
            if path:
                joined.append(Joined(flag=FLAGS[kind], fd=open_namespace(path, kind, field), field=field))
            else:
                new |= FLAGS[kind]
        offsets = format_time_offsets(spec) if new & sc.CLONE_NEWTIME else b""
    except BaseException:
        for item in joined:
            os.close(item.fd)
        raise
    together = new
    for item in joined:
        together |= item.flag
    return NamespacePlan(new=new, all=together, joined=tuple(joined), time_offsets=offsets)


def open_namespace(path: str, kind: str, field: str) -> int:
    """Open a namespace by its path, and see that it is one of this kind. The caller closes it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        raise NotFound(f"{field}.path: open {path}: no such file or directory") from None
    except OSError as error:
        raise RuntimeFailed(f"{field}.path: open {path}: {os.strerror(error.errno or 0)}") from error
    try:
        actual = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError:
        actual = 0
    if actual != FLAGS[kind]:
        os.close(fd)
        raise InvalidRequest(f"{field}.path: {path} is no {kind} namespace")
    return fd


def format_time_offsets(spec: Spec) -> bytes:
    """Return the text for /proc/self/timens_offsets (time_namespaces(7)), b"" without offsets."""
    lines = [
        f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}\n"
        for clock, offset in (spec.get("linux", {}).get("timeOffsets") or {}).items()
    ]
    return "".join(lines).encode()
