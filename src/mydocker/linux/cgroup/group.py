"""One container's cgroup: made, limited, entered, frozen, killed, removed, on v1, v2 and the hybrid of both.

Owns the directories `<mount point>/mydocker/<id>` of every hierarchy that the container needs, and
nothing outside them but the existence (and on v2 the subtree_control) of their parents. Takes no
lock: the caller holds the container's. Which controllers are used where, and the measurements
behind it, are in docs/decisions/0003-cgroup-entry.md; in short:

- A process is never *moved* on the start path. A write to cgroup.procs waits for a grace period of
  the kernel's RCU: 8 ms here, with every fork of the machine blocked in between. It is born inside
  on v2 (`entry_fd`, CLONE_INTO_CGROUP), and on v1 moves itself while it has one thread by way of
  `tasks`, which needs no such lock (`open_entries`, `enter`): 0.05 ms.
- On a hybrid machine the v2 hierarchy, though it has no controllers, gives kill, freeze and the
  processor's bill; of v1 only `memory` is always used, others when a limit asks for them.
"""
from __future__ import annotations

import errno
import os
import time

from mydocker.base.errors import Conflict, NotFound, Timeout, Unavailable, Unsupported

from . import v1, v2
from .hierarchy import hierarchy
from .members import kill_tree, read_pids, remove_with_processes, write_freezer
from .paths import check_path, ensure_directory, read_text, to_error, write_text
from .resources import parse_resources
from .stats import open_accounting, read_keyed, read_number, read_stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import NoReturn, Self

    from .hierarchy import Hierarchy
    from .resources import Resources, Write
    from .stats import Accounting, Stats

#: Controllers that a container has on v2 where the machine has them; others are handed down when a limit asks.
_V2_CONTROLLERS = ("cpu", "memory", "pids")
_FREEZE_TIMEOUT_S = 10.0
_JOIN_ROUNDS = 100


def enter(entry_fds: Iterable[int]) -> None:
    """Move the calling process into the v1 groups of `Cgroup.open_entries`, and close the descriptors.

    The process must have one thread only (else just that thread would move). "0" is the writer
    itself, whatever its pid namespace. Raises OSError.
    """
    for fd in entry_fds:
        try:
            os.write(fd, b"0")
        finally:
            os.close(fd)


def can_limit_swap() -> bool:
    """Tell whether `memory.swap` can be applied, for callers that would add it by default."""
    found = hierarchy()
    if "memory" in found.v1:
        return os.path.exists(f"{found.v1['memory']}/{v1.MEMORY_AND_SWAP}")
    # v2's root has no limits; /proc/swaps exists when the kernel can swap at all.
    return "memory" in found.v2_controllers and os.path.exists("/proc/swaps")


class Cgroup:
    """The directories of one cgroup: `v1` by controller, `v2` or "".

        <v1 mount point>/mydocker/<id>/     one for each v1 hierarchy in use; controllers may share one
        <v2 mount point>/mydocker/<id>/
    """

    __slots__ = ("_hierarchy", "path", "v1", "v2")

    def __init__(self, cgroups_path: str, found: Hierarchy, v1_directories: dict[str, str], v2_directory: str) -> None:
        self.path = cgroups_path
        self._hierarchy = found
        self.v1 = v1_directories
        self.v2 = v2_directory

    @classmethod
    def create(cls, cgroups_path: str, resources: Mapping[str, object]) -> Self:
        """Make the cgroup and apply the `linux.resources` of a runtime spec; on failure nothing is left.

        Whatever is at the path is removed first, with the processes in it: it can only be what a
        killed start or a killed removal left, as the caller holds the container's lock and knows
        that it does not run.
        Raises Unsupported (a limit whose controller or file is missing), InvalidRequest (a value the
        kernel refuses), Denied, Unavailable.
        """
        limits = parse_resources(resources)
        group = cls(check_path(cgroups_path), hierarchy(), {}, "")
        try:
            try:
                group._make(limits)
            except FileExistsError:
                group.remove()
                group._make(limits)
        except BaseException:
            group.remove()
            raise
        return group

    def _make(self, limits: Resources) -> None:
        self._make_v2()
        for controller in self._base_controllers():
            self._make_v1(controller)
        self._apply(limits)

    @classmethod
    def open(cls, cgroups_path: str) -> Self:
        """Return an existing cgroup. Raises NotFound when no hierarchy has it."""
        found = hierarchy()
        group = cls(check_path(cgroups_path), found, {}, "")
        for controller, mount_point in found.v1.items():
            if os.path.isdir(mount_point + cgroups_path):
                group.v1[controller] = mount_point + cgroups_path
        if found.v2 and os.path.isdir(found.v2 + cgroups_path):
            group.v2 = found.v2 + cgroups_path
        if not group.v1 and not group.v2:
            raise NotFound(f"open cgroup {cgroups_path}: it is not there")
        return group

    # ---- entering

    def entry_fd(self) -> int:
        """Return a descriptor for CLONE_INTO_CGROUP, which the caller closes; -1 without a v2 hierarchy."""
        return os.open(self.v2, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if self.v2 else -1

    def open_entries(self) -> list[int]:
        """Return descriptors for `enter`, which the child calls right after it was cloned; [] on v2.

        The kernel judges the opener's rights, so the child needs none. Raises OSError.
        """
        fds: list[int] = []
        try:
            for directory in self._v1_directories():
                fds.append(os.open(f"{directory}/tasks", os.O_WRONLY | os.O_CLOEXEC))
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        return fds

    def add(self, pid: int) -> None:
        """Move a process with all its threads in, from outside: slow (see the module), but always possible.

        Raises ProcessLookupError when it has ended, Denied, Unavailable.
        """
        for directory in self._directories():
            try:
                write_text(f"{directory}/cgroup.procs", str(pid))
            except ProcessLookupError:
                raise
            except OSError as error:
                raise to_error(f"move process {pid} into cgroup {directory}", error) from error

    # ---- limits

    def apply(self, resources: Mapping[str, object]) -> None:
        """Change the limits of a cgroup in use. Raises as `create` does; Conflict when more is in use than allowed."""
        self._join(self._apply(parse_resources(resources)))

    def _apply(self, limits: Resources) -> list[str]:
        """Write the limits; return the v1 directories that were made for them."""
        fresh: list[str] = []
        for version, write in self._plan(limits):
            if version == 1 and write.controller not in self.v1:
                fresh += self._make_v1(write.controller)
            self._write(self.v1[write.controller] if version == 1 else self.v2, write)
        return fresh

    def _plan(self, limits: Resources) -> list[tuple[int, Write]]:
        """Return the writes, each with the version of the hierarchy that has its controller."""
        found = self._hierarchy
        memsw_bytes = None
        if "memory" in self.v1 and (limits.memory_limit or limits.memory_swap):
            memsw_bytes = read_number(f"{self.v1['memory']}/{v1.MEMORY_AND_SWAP}")
        on_v1 = [write for write in v1.plan_writes(limits, memsw_bytes) if write.controller in found.v1]
        on_v2 = [write for write in v2.plan_writes(limits) if write.controller not in found.v1]
        on_v2 += v2.plan_unified(limits)
        for write in on_v2:
            if write.controller not in found.v2_controllers:
                raise Unsupported(
                    f"apply resources.{write.field}: this machine has no cgroup controller {write.controller}"
                    f"{' on v2' if found.v1 else ''}",
                    hint="leave this limit out; /proc/cgroups lists what the kernel has",
                )
        needed = {write.controller for write in on_v2}
        if not needed.issubset(_V2_CONTROLLERS):
            self._hand_down(needed)
        return [*((1, write) for write in on_v1), *((2, write) for write in on_v2)]

    def _write(self, directory: str, write: Write) -> None:
        try:
            write_text(f"{directory}/{write.file}", write.value)
        except OSError as error:
            _raise_refused(directory, write, error)

    # ---- making

    def _base_controllers(self) -> tuple[str, ...]:
        """Return the v1 controllers that every container has here: what v2 does not give beside them."""
        wanted = ["memory"]
        if not self.v2:
            wanted += ["freezer", "cpuacct"]
        elif not os.access(f"{self.v2}/cgroup.freeze", os.F_OK):
            wanted.append("freezer")  # before Linux 5.2
        return tuple(name for name in wanted if name in self._hierarchy.v1)

    def _make_v2(self) -> None:
        found = self._hierarchy
        if not found.v2:
            return
        ensure_directory(found.v2, self.path)
        self.v2 = found.v2 + self.path
        self._hand_down(set(_V2_CONTROLLERS))

    def _make_v1(self, controller: str) -> list[str]:
        """Make the group of one more v1 controller; return its directory, [] when another one's serves both."""
        mount_point = self._hierarchy.v1[controller]
        directory = mount_point + self.path
        is_new = directory not in self.v1.values()
        if is_new:
            parents = ensure_directory(mount_point, self.path)
            if controller == "memory":
                _make_memory_hierarchical(parents)
        self.v1[controller] = directory
        if controller == "cpuset":
            _fill_cpuset(mount_point, self.path)
        return [directory] if is_new else []

    def _hand_down(self, controllers: set[str]) -> None:
        """Enable v2 controllers for this cgroup in all its parents, where they are not.

        What cannot be enabled is left: a limit that needs it fails by name in `_write`.
        """
        wanted = controllers.intersection(self._hierarchy.v2_controllers)
        if not wanted:
            return
        parent = self._hierarchy.v2
        for part in self.path.split("/")[1:]:
            control = f"{parent}/cgroup.subtree_control"
            missing = wanted.difference(read_text(control).split())
            # One write each: the kernel takes all of a line or nothing.
            for controller in sorted(missing):
                try:
                    write_text(control, f"+{controller}")
                except OSError:
                    pass  # EBUSY: the parent holds processes itself; EACCES: not ours; the docstring says what follows
            parent = f"{parent}/{part}"

    def _join(self, fresh: list[str]) -> None:
        """Move the processes of a running container into groups that were just made for a new limit.

        Processes may be born outside while this goes on, so until nobody new turns up.
        """
        for directory in fresh:
            for _ in range(_JOIN_ROUNDS):
                missing = set(self.pids()).difference(read_pids(directory))
                if not missing:
                    break
                for pid in missing:
                    try:
                        write_text(f"{directory}/cgroup.procs", str(pid))
                    except ProcessLookupError:
                        pass  # it has ended
                    except OSError as error:
                        raise to_error(f"move process {pid} into cgroup {directory}", error) from error
            else:
                raise Unavailable(f"move the processes of cgroup {self.path} into {directory}: they fork faster")

    # ---- processes

    def _v1_directories(self) -> list[str]:
        return list(dict.fromkeys(self.v1.values()))

    def _directories(self) -> list[str]:
        return [*self._v1_directories(), *([self.v2] if self.v2 else [])]

    def _main_directory(self) -> str:
        """Return the directory that answers for the whole: v2's, or the v1 group that every container has."""
        directory = self.v2 or self.v1.get("freezer") or self.v1.get("memory")
        if not directory:
            raise Unsupported(f"use cgroup {self.path}: this machine has no cgroup v2, freezer or memory controller")
        return directory

    def pids(self) -> list[int]:
        """Return the pids of all processes in it and in cgroups below it; a pid may have ended since."""
        return sorted(set(read_pids(self._main_directory())))

    def kill(self) -> None:
        """Send SIGKILL to every process in it, frozen ones included. Does not wait for their end. Raises OSError."""
        kill_tree(self._main_directory())

    def freeze(self) -> None:
        """Stop every process in it until `thaw`. Raises Timeout (and thaws), Unsupported."""
        deadline = time.monotonic() + _FREEZE_TIMEOUT_S
        freezer = self._freezer()
        delay_s = 0.0002
        while True:
            # v1 has to be asked again and again: a process that was forked meanwhile keeps the state
            # at FREEZING (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst).
            write_freezer(freezer, frozen=True)
            if self.is_frozen():
                return
            if time.monotonic() > deadline:
                self.thaw()
                raise Timeout(f"freeze cgroup {self.path}: a process did not stop in {_FREEZE_TIMEOUT_S:.0f} s")
            time.sleep(delay_s)
            delay_s = min(delay_s * 2, 0.05)

    def thaw(self) -> None:
        """Let the processes go on. Raises Unsupported."""
        write_freezer(self._freezer(), frozen=False)

    def is_frozen(self) -> bool:
        """Tell whether every process in it is stopped by `freeze`. Raises Unsupported."""
        freezer = self._freezer()
        if freezer == self.v2:
            return read_keyed(f"{freezer}/cgroup.events").get("frozen") == 1
        return read_text(f"{freezer}/freezer.state").strip() == "FROZEN"

    def _freezer(self) -> str:
        if self.v2 and os.access(f"{self.v2}/cgroup.freeze", os.F_OK):
            return self.v2
        if "freezer" in self.v1:
            return self.v1["freezer"]
        raise Unsupported(f"freeze cgroup {self.path}: the kernel has neither cgroup.freeze nor the freezer controller")

    # ---- looking

    def stats(self) -> Stats:
        """Return what it uses now."""
        return read_stats(self.v1, self.v2, len(self.pids()))

    def open_accounting(self) -> Accounting:
        """Return open files for the monitor's bill; the caller closes them."""
        return open_accounting(self.v1, self.v2)

    # ---- the end

    def remove(self) -> None:
        """Remove it everywhere, killing what still runs in it. Missing is fine.

        Raises Timeout when a process does not die (uninterruptible in the kernel), Denied.
        """
        found = self._hierarchy
        # The freezer first, which thaws: a frozen v1 process could not be killed in any other one.
        first = [found.v2, *([found.v1["freezer"]] if "freezer" in found.v1 else [])]
        for mount_point in dict.fromkeys((*first, *found.v1.values())):
            if mount_point:
                remove_with_processes(mount_point + self.path)
        self.v1, self.v2 = {}, ""


def remove(cgroups_path: str) -> None:
    """Remove a cgroup that may exist in any, all or no hierarchy (see `Cgroup.remove`)."""
    Cgroup(check_path(cgroups_path), hierarchy(), {}, "").remove()


def _make_memory_hierarchical(parents: list[str]) -> None:
    """Have memory accounted for as a tree below new parents: the only way since Linux 5.11, a choice before."""
    for parent in parents:
        path = f"{parent}/memory.use_hierarchy"
        if read_number(path) == 0:
            try:
                write_text(path, "1")
            except OSError:
                pass  # a limit on the parent would not hold for us, ours still does


def _fill_cpuset(mount_point: str, cgroups_path: str) -> None:
    """Copy cpus and memory nodes down from the root where they are empty: v1 lets no process into an empty set."""
    parent = mount_point
    for part in cgroups_path.split("/")[1:]:
        directory = f"{parent}/{part}"
        for file in ("cpuset.cpus", "cpuset.mems"):
            try:
                if not read_text(f"{directory}/{file}").strip():
                    write_text(f"{directory}/{file}", read_text(f"{parent}/{file}").strip())
            except OSError as error:
                raise to_error(f"prepare {directory}/{file}", error) from error
        parent = directory


def _raise_refused(directory: str, write: Write, error: OSError) -> NoReturn:
    action = f"apply resources.{write.field}: write {write.value!r} to {directory}/{write.file}"
    if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
        if write.field == "memory.swap":
            hint = "the kernel keeps no account of swap; leave the swap limit out, or boot with swapaccount=1"
        else:
            hint = f"the kernel lacks this setting, or controller {write.controller} could not be handed down to here"
        raise Unsupported(f"{action}: ENOENT", hint=hint) from error
    if error.errno == errno.EBUSY:
        raise Conflict(f"{action}: EBUSY", hint="more than that is in use now") from error
    if error.errno in (errno.EACCES, errno.ENOSPC, errno.ENODEV) and write.controller == "cpuset":
        # "Not a subset of what the parent has" is EACCES or ENOSPC in the kernel's words.
        error = OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    raise to_error(action, error) from error
