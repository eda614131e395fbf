"""Which cgroup hierarchies this machine has, and where they are mounted.

Owns the reading of /proc/self/mountinfo; knows nothing of containers or limits. What is mounted is
the only truth: a directory such as /sys/fs/cgroup/memory may exist without a hierarchy behind it,
and the distributions disagree on the places. Source: cgroups(7), proc_pid_mountinfo(5),
Documentation/admin-guide/cgroup-v2.rst.
"""
from __future__ import annotations

import os

from mydocker.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

#: The hierarchy without controllers in which systemd keeps its units on v1; runc has its containers there, too.
NAMED = "name=systemd"
#: The v1 controllers that something here may ask for, and systemd's tree; a mount's other options
#: (`clone_children`, `xattr`) are not controllers.
V1_CONTROLLERS = frozenset((
    "blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "misc", "net_cls",
    "net_prio", "perf_event", "pids", "rdma", NAMED,
))


class Hierarchy(Record):
    """The mounted hierarchies: `v1` maps a controller to its mount point, `v2` is a mount point or "".

    A controller is bound to one hierarchy only, so one that is in `v1` is not in `v2_controllers`.
    """

    v1: dict[str, str]
    v2: str
    v2_controllers: tuple[str, ...]

    @property
    def kind(self) -> Literal["v1", "v2", "hybrid", "none"]:
        """How the two versions share this machine: `hybrid` has controllers on v1 and a v2 hierarchy beside."""
        if self.v1.keys() - {NAMED}:
            return "hybrid" if self.v2 else "v1"
        return "v2" if self.v2 else "none"


_found: Hierarchy | None = None
_watch_fd = -1


def follow() -> None:
    """Look the hierarchies up again if anything was mounted since the last call: for processes that live long.

    A poll of an open mountinfo tells of changes (proc_pid_mountinfo(5)), also in a process that was forked since.
    """
    import select  # cold: a command looks once and goes

    global _watch_fd
    if _watch_fd < 0:
        _watch_fd = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        hierarchy(refresh=True)
        return
    watch = select.poll()
    watch.register(_watch_fd, select.POLLPRI)
    if watch.poll(0):
        hierarchy(refresh=True)


def hierarchy(*, refresh: bool = False) -> Hierarchy:
    """Return the machine's hierarchies, looked up once a process. Raises OSError when /proc is missing."""
    global _found
    if _found is None or refresh:
        v1, v2 = parse_mountinfo(_read("/proc/self/mountinfo").decode("utf-8", "surrogateescape"))
        _found = Hierarchy(v1=v1, v2=v2, v2_controllers=_read_controllers(v2))
    return _found


def parse_mountinfo(text: str) -> tuple[dict[str, str], str]:
    """Return the v1 mount points by controller and the v2 mount point ("" when there is none).

    A hierarchy that is mounted more than once (bind mounts of it, mostly) is taken where it is
    writable, else where it was mounted first. What a later mount covers cannot be reached and does
    not count.
    """
    visible: dict[str, tuple[str, list[str]]] = {}
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        place = left.split(" ")[4]
        if visible:
            for covered in [point for point in visible if point == place or point.startswith(place + "/")]:
                del visible[covered]
        if right.startswith("cgroup"):
            visible[place] = (left.split(" ")[5], right.split(" "))
    v1: dict[str, str] = {}
    v2 = ""
    # A stable sort: the writable ones first, each kind in the order of mounting.
    for place, (_, (fstype, *_, options)) in sorted(visible.items(), key=lambda item: _is_read_only(item[1][0])):
        path = _unescape(place)
        if fstype == "cgroup2":
            v2 = v2 or path
        elif fstype == "cgroup":
            for controller in V1_CONTROLLERS.intersection(options.split(",")):
                v1.setdefault(controller, path)
    return v1, v2


def _is_read_only(flags: str) -> bool:
    return "ro" in flags.split(",")


def _unescape(field: str) -> str:
    """Return a mountinfo field with its octal escapes (blank, tab, newline, backslash) undone."""
    if "\\" not in field:
        return field
    head, *rest = field.split("\\")
    return head + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def _read_controllers(v2: str) -> tuple[str, ...]:
    if not v2:
        return ()
    try:
        return tuple(_read(f"{v2}/cgroup.controllers").decode().split())
    except OSError:
        return ()  # mounted and not readable to us: as good as none, and what needs one says so


def _read(path: str) -> bytes:
    # Not files.read_bytes: its limit is for documents, and a machine may have a lot of mounts.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(fd, 1 << 16):
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)
