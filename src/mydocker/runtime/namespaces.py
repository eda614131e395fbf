"""The namespaces of a container: which are new, which are joined by path, and in which order.

Usually all are new and one clone3(2) makes them. A namespace to join, or a time offset (which must be written
before the first process is in the namespace), takes a *helper*: a process that joins, and then clones the init as
its own sibling (CLONE_PARENT), so that the init is the creator's child all the same.

Source: namespaces(7), setns(2), user_namespaces(7), time_namespaces(7); runtime-spec config-linux.md "Namespaces".
"""
from __future__ import annotations

import errno
import fcntl
import os

from mydocker.base.errors import InvalidRequest, NotFound, RuntimeFailed, Unsupported
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


def join_all(plan: NamespacePlan) -> None:
    """Join every namespace by path.

    Those that the creator's own rights reach come first; those that only a process of the joined user namespace
    may enter come behind it. Raises RuntimeFailed by field.
    """
    user = [joined for joined in plan.joined if joined.flag == sc.CLONE_NEWUSER]
    others = [joined for joined in plan.joined if joined.flag != sc.CLONE_NEWUSER]
    # The mount namespace last: behind it, another /proc may be in view.
    others.sort(key=lambda joined: joined.flag == sc.CLONE_NEWNS)
    refused = [joined for joined in others if not _join(joined, is_last_try=not user)]
    for joined in user + refused:
        _join(joined, is_last_try=True)


def _join(joined: Joined, *, is_last_try: bool) -> bool:
    try:
        sc.setns(joined.fd, joined.flag)
    except OSError as error:
        if error.errno == errno.EPERM and not is_last_try:
            return False
        raise RuntimeFailed(f"{joined.field}: join the namespace: {os.strerror(error.errno or 0)}") from error
    return True


def open_time_offsets() -> int:
    """Open the file that `enter_time_namespace` writes to; as another user this process could not any more."""
    return os.open("/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)


def enter_time_namespace(offsets: bytes, fd: int) -> None:
    """Make a time namespace for the children of this process, with its clocks moved; closes the descriptor.

    Raises Unsupported, InvalidRequest.
    """
    try:
        sc.unshare(sc.CLONE_NEWTIME)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise Unsupported("linux.namespaces: this kernel has no time namespaces (Linux 5.6, CONFIG_TIME_NS)") from error
    try:
        os.write(fd, offsets)
    except OSError as error:
        raise InvalidRequest(f"linux.timeOffsets: {os.strerror(error.errno or 0)}") from error
    finally:
        os.close(fd)
