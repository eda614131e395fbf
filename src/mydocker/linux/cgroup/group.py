"""One container's cgroup: entered, frozen, killed, removed, on v1, v2 and the hybrid of both.

Owns the directories `<mount point>/<path>` of every hierarchy that the container needs, and nothing outside them; making.py
makes and limits them. Takes no lock: the caller holds the container's. Which controllers are used where, and the
measurements behind it, are in docs/decisions/0003-cgroup-entry.md; in short:

- A process is never *moved* on the start path. A write to cgroup.procs waits for a grace period of
  the kernel's RCU: 8 ms here, with every fork of the machine blocked in between. It is born inside
  on v2 (`entry_fd`, CLONE_INTO_CGROUP), and on v1 moves itself while it has one thread by way of
  `tasks`, which needs no such lock (`open_entries`, `enter`): 0.05 ms.
- On a hybrid machine the v2 hierarchy, though it has no controllers, gives kill, freeze and the
  processor's bill; of v1 only `memory` is always used, others when a limit asks for them.
"""
from __future__ import annotations

import os
import time

from mydocker.base.errors import InvalidRequest, NotFound, Timeout, Unsupported

from .accounting import open_accounting, read_keyed
from .hierarchy import hierarchy
from .members import kill_tree, read_pids, remove_with_processes, write_freezer
from .paths import check_path, clean_path, read_text, to_error, write_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self

    from .accounting import Accounting
    from .hierarchy import Hierarchy
    from .stats import Stats
    from .usage import Usage

_FREEZE_TIMEOUT_S = 10.0


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
        return os.path.exists(f"{found.v1['memory']}/memory.memsw.limit_in_bytes")
    # v2's root has no limits; /proc/swaps exists when the kernel can swap at all.
    return "memory" in found.v2_controllers and os.path.exists("/proc/swaps")


class Cgroup:
    """The directories of one cgroup: `v1` by controller, `v2` or "". Both are empty where nothing could be made.

        <v1 mount point><path>/     one for each v1 hierarchy in use; controllers may share one
        <v2 mount point><path>/

    `joined` are those of them that were there before: not ours to remove. `found` are the machine's hierarchies.
    `unit` is systemd's name for it, or ""; `stand_in` the pid of a child that keeps the unit until `settle`, or 0.
    """

    __slots__ = ("found", "joined", "path", "stand_in", "unit", "v1", "v2")

    def __init__(
        self, cgroups_path: str, found: Hierarchy, v1_directories: dict[str, str], v2_directory: str,
        joined: tuple[str, ...] = (), unit: str = "",
    ) -> None:
        self.path = cgroups_path
        self.found = found
        self.v1 = v1_directories
        self.v2 = v2_directory
        self.joined = joined
        self.unit = unit
        self.stand_in = 0

    @staticmethod
    def create(cgroups_path: str, resources: Mapping[str, object]) -> Cgroup:
        """Make a cgroup of the engine's with these limits: making.create."""
        from .making import create  # cold: `ps` makes none

        return create(cgroups_path, resources)

    @staticmethod
    def claim(cgroups_path: str, resources: Mapping[str, object], *, may_lack: bool = False, is_rootless: bool = False) -> Cgroup:
        """Make or join the cgroup of a bundle: claiming.claim."""
        from .claiming import claim  # cold

        return claim(cgroups_path, resources, may_lack=may_lack, is_rootless=is_rootless)

    @classmethod
    def open(cls, cgroups_path: str, joined: Iterable[str] = (), unit: str = "") -> Self:
        """Return an existing cgroup; `joined` and `unit` are what the maker's had. Raises NotFound when no hierarchy has it."""
        found = hierarchy()
        group = cls(clean_path(cgroups_path), found, {}, "", tuple(joined), unit)
        for controller, mount_point in found.v1.items():
            if os.path.isdir(mount_point + group.path):
                group.v1[controller] = mount_point + group.path
        if found.v2 and os.path.isdir(found.v2 + group.path):
            group.v2 = found.v2 + group.path
        if not group.v1 and not group.v2 and not unit:  # a unit that has failed is there without a cgroup
            raise NotFound(f"open cgroup {cgroups_path}: it is not there")
        return group

    @classmethod
    def of_process(cls, pid: int) -> Self:
        """Return the cgroups that a process is in, for another one to enter; `remove` leaves them.

        Raises OSError when it has ended.
        """
        found, v2 = hierarchy(), ""
        v1: dict[str, str] = {}
        for line in read_text(f"/proc/{pid}/cgroup").splitlines():
            _, names, path = line.split(":", 2)
            if "/../" in f"{path}/":
                continue  # above what this process may see
            if not names:
                v2 = found.v2 and found.v2 + path.rstrip("/")
            v1 |= {name: found.v1[name] + path.rstrip("/") for name in names.split(",") if name in found.v1}
        return cls("", found, v1, v2)

    def below(self, subgroup: str, controllers: Iterable[str] = ()) -> Cgroup:
        """Return a cgroup below this one for `exec --cgroup`: of the named controllers only, the others as here.

        Raises InvalidRequest for `..`, NotFound when it is not there.
        """
        if ".." in subgroup.split("/"):
            raise InvalidRequest(f"bad sub cgroup path {subgroup!r}: `..` components are not allowed")
        suffix = "".join(f"/{part}" for part in subgroup.split("/") if part not in ("", "."))
        names = set(controllers)
        unknown = sorted(names.difference(self.v1)) if self.v1 else []
        if unknown:
            known = ", ".join(sorted(self.v1))
            raise InvalidRequest(f"exec: unknown controller {unknown[0]} in --cgroup", hint=f"one of {known}")
        chosen = {name: directory + suffix if not names or name in names else directory for name, directory in self.v1.items()}
        v2_directory = self.v2 + suffix if self.v2 and (not names or not self.v1) else self.v2
        missing = [directory for directory in (*chosen.values(), v2_directory) if directory and not os.path.isdir(directory)]
        if missing:
            # runc's words, but for the pid.
            raise NotFound(f"exec: adding pid of the command to cgroups: {missing[0]}: no such file or directory")
        return Cgroup(self.path + suffix, self.found, chosen, v2_directory)

    def around(self, pid: int) -> Cgroup:
        """Return this cgroup with, on v2, the one below it that a process of the container's is in.

        Once a container hands controllers down inside, its own v2 group takes no processes any more ("no internal
        processes", cgroup-v2.rst), and who enters it goes where its init went. Raises OSError when the process has ended.
        """
        for line in read_text(f"/proc/{pid}/cgroup").splitlines():
            path = line[3:]
            if line.startswith("0::") and f"{path}/".startswith(f"{self.path}/") and "/../" not in f"{path}/":
                return Cgroup(self.path, self.found, self.v1, self.found.v2 + path)
        return self

    def delegate(self, uid: int) -> None:
        """Give the v2 group to a user of the container's user namespace, as far as that is safe (cgroups(7), "Delegation").

        Nothing on v1, where it is not. Raises OSError.
        """
        if not self.v2:
            return
        try:
            names = read_text("/sys/kernel/cgroup/delegate").split()
        except FileNotFoundError:
            names = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]  # before Linux 4.15
        os.chown(self.v2, uid, -1)
        for name in names:
            try:
                os.chown(f"{self.v2}/{name}", uid, -1, follow_symlinks=False)
            except FileNotFoundError:
                pass  # of a controller that is not here

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

    def apply(self, resources: Mapping[str, object]) -> None:
        """Change the limits of a cgroup in use: limits.apply."""
        from .limits import apply  # cold

        apply(self, resources)

    def settle(self, pidfd: int) -> bool:
        """Tell that the container's init is, or will be in a moment, in the cgroup; False when it has ended on the way.

        Raises Timeout when it does not come.
        """
        if not self.stand_in:
            return True
        from .systemd import settle  # cold

        return settle(self, pidfd)

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
        return sorted(set(read_pids(self._main_directory()))) if self._directories() else []

    def kill(self) -> None:
        """Send SIGKILL to every process in it, frozen ones included. Does not wait for their end. Raises OSError."""
        if not self._directories():
            return  # a unit of systemd's whose cgroup went with its last process
        main = self._main_directory()
        kill_tree(main)
        if "freezer" in self.v1 and self.v1["freezer"] != main:
            # Nothing dies in a frozen v1 group. Killed first and thawed then, nobody gets to run.
            write_freezer(self.v1["freezer"], frozen=False)

    def take_back(self, pid: int) -> None:
        """Move a process that somebody froze in another v1 group into this one, which is thawed: there it dies of its SIGKILL.

        Others in that group stay as they are. Nothing without the freezer controller. Raises Denied, Unavailable.
        """
        freezer = self.v1.get("freezer")
        if not freezer:
            return
        try:
            write_text(f"{freezer}/cgroup.procs", str(pid))
        except ProcessLookupError:
            pass  # it has ended
        except OSError as error:
            raise to_error(f"move process {pid} into cgroup {freezer}", error) from error

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
        """Let the processes go on, whoever stopped them by whichever freezer. Raises Unsupported."""
        freezer = self._freezer()
        for directory in dict.fromkeys((freezer, self.v1.get("freezer", freezer))):
            write_freezer(directory, frozen=False)

    def is_frozen(self) -> bool:
        """Tell whether every process in it is stopped, by `freeze` or by somebody else. Raises Unsupported."""
        freezer = self._freezer()
        if freezer == self.v2 and read_keyed(f"{freezer}/cgroup.events").get("frozen") == 1:
            return True
        v1_freezer = self.v1.get("freezer")
        return bool(v1_freezer) and read_text(f"{v1_freezer}/freezer.state").strip() == "FROZEN"

    def can_freeze(self) -> bool:
        """Tell whether `freeze` is possible here."""
        return bool(self.v2 and os.access(f"{self.v2}/cgroup.freeze", os.F_OK)) or "freezer" in self.v1

    def _freezer(self) -> str:
        if self.v2 and os.access(f"{self.v2}/cgroup.freeze", os.F_OK):
            return self.v2
        if "freezer" in self.v1:
            return self.v1["freezer"]
        raise Unsupported(f"freeze cgroup {self.path}: the kernel has neither cgroup.freeze nor the freezer controller")

    # ---- looking

    def stats(self) -> Stats:
        """Return the few numbers of what it uses now that are always wanted."""
        from .stats import read_stats  # cold: a start looks at none of it

        return read_stats(self.v1, self.v2, len(self.pids()))

    def usage(self) -> Usage:
        """Return all that is known of what it uses now."""
        from .usage import read_usage  # cold

        return read_usage(self)

    def open_accounting(self) -> Accounting:
        """Return open files for the monitor's bill; the caller closes them."""
        return open_accounting(self.v1, self.v2)

    # ---- the end

    def remove(self) -> None:
        """Remove it wherever it was not joined, killing what still runs in it. Missing is fine.

        Raises Timeout when a process does not die (uninterruptible in the kernel), Denied.
        """
        if not self.path:
            return  # it is nowhere, and the root of a hierarchy is not it
        found = self.found
        if self.unit:
            from .systemd import stop_unit  # cold

            stop_unit(self)
        # The freezer first, which thaws: a frozen v1 process could not be killed in any other one.
        first = [found.v2, *([found.v1["freezer"]] if "freezer" in found.v1 else [])]
        for mount_point in dict.fromkeys((*first, *found.v1.values())):
            if mount_point and mount_point + self.path not in self.joined:
                remove_with_processes(mount_point + self.path)
        self.v1, self.v2 = {}, ""


def remove(cgroups_path: str) -> None:
    """Remove a cgroup that may exist in any, all or no hierarchy (see `Cgroup.remove`)."""
    Cgroup(check_path(cgroups_path), hierarchy(), {}, "").remove()
