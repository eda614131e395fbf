"""A container's cgroup as a transient unit of systemd: `--systemd-cgroup`.

systemd owns the tree then: it makes the unit's cgroup, is told the limits, and removes it. A scope wants a process to be
born with, but a container's init is cloned into a cgroup that is there already; so a stand-in, a child that only waits, is
in the scope until the init is (`Cgroup.settle`). Works over the manager's own socket, or the bus.

Source: org.freedesktop.systemd1(5). Why no library, and what was tried: docs/decisions/0015-systemd.md.
"""
from __future__ import annotations

import os
import time

from mydocker.base.errors import Conflict, MydockerError, NotFound, Timeout, Unavailable, Unsupported
from mydocker.linux.dbus import Bus
from mydocker.linux.process import wait_pidfd

from . import units
from .claiming import claim
from .hierarchy import hierarchy
from .outofmemory import refuse
from .resources import parse_resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .group import Cgroup
    from .resources import Resources
    from .units import Property, UnitName

_NAME, _OBJECT, _MANAGER = "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
_JOB_TIMEOUT_S = 30.0
_SIGKILL = 9


def is_running() -> bool:
    """Tell whether systemd is the machine's init: sd_booted(3)."""
    return os.path.isdir("/run/systemd/system")


class Manager:
    """A connection to the service manager: the system's for root, else the user's. Use it in `with`."""

    def __init__(self, *, is_user: bool = False) -> None:
        """Connect. Raises Unsupported where systemd does not run, Denied, Unavailable."""
        self.is_user = is_user
        self._bus = _connect(is_user=is_user)
        if not self._bus.is_direct:
            self._bus.call(
                "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "s",
                (f"type='signal',interface='{_MANAGER}',member='JobRemoved',path='{_OBJECT}'",))
        self._call("Subscribe")

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self._bus.close()

    def _call(self, member: str, signature: str = "", *arguments: object) -> tuple[object, ...]:
        return self._bus.call(_NAME, _OBJECT, _MANAGER, member, signature, arguments)

    def get(self, name: str) -> str:
        """Return a property of the manager that is a text."""
        [(_, value)] = self._bus.call(_NAME, _OBJECT, "org.freedesktop.DBus.Properties", "Get", "ss", (_MANAGER, name))
        return str(value)

    @property
    def version(self) -> int:
        """The number in `252.39-1~deb12u2` or `v245`."""
        digits = self.get("Version").lstrip("v").partition(".")[0].partition("-")[0]
        return int(digits) if digits.isdigit() else 0

    def start(self, unit: str, properties: list[Property]) -> None:
        """Make a transient unit and wait until it is there. Raises Conflict when it is there already, Unavailable, Denied."""
        try:
            job = self._call("StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "replace", properties, [])
        except Conflict:
            # One that failed keeps its name until somebody has looked at it.
            self.forget(unit)
            job = self._call("StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "replace", properties, [])
        result = self._wait(job[0])
        if result != "done":
            self.forget(unit)
            raise Unavailable(f"start unit {unit}: systemd says {result!r}", hint=f"see systemctl status {unit}")

    def stop(self, unit: str) -> None:
        """Stop a unit, which kills what is in it, and wait for it. Missing is fine."""
        try:
            job = self._call("StopUnit", "ss", unit, "replace")
            self._wait(job[0])
        except NotFound:
            pass
        self.forget(unit)

    def forget(self, unit: str) -> None:
        """Let go of a unit that has failed."""
        try:
            self._call("ResetFailedUnit", "s", unit)
        except (NotFound, Unavailable):
            pass  # it has not failed, or is gone: what was wanted

    def set(self, unit: str, properties: list[Property]) -> None:
        """Change properties of a unit, until the next boot."""
        self._call("SetUnitProperties", "sba(sv)", unit, True, properties)

    def _wait(self, job: object) -> str:
        """Return how a job ended: `done`, `failed`, `timeout`..."""
        deadline = time.monotonic() + _JOB_TIMEOUT_S
        while True:
            signal = self._bus.next_signal(deadline)
            if signal.member == "JobRemoved" and signal.body[1] == job:
                return str(signal.body[3])


def _connect(*, is_user: bool) -> Bus:
    if not is_running():
        raise Unsupported(
            "use --systemd-cgroup: systemd does not run here", hint="leave the option out, and let linux.cgroupsPath be a path")
    runtime_dir = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}")
    choices = [("/run/systemd/private", True), ("/run/dbus/system_bus_socket", False)]
    if is_user:
        choices = [(f"{runtime_dir}/systemd/private", True), (f"{runtime_dir}/bus", False)]
    failures = []
    for address, is_direct in choices:
        try:
            return Bus(address, is_direct=is_direct)
        except (OSError, MydockerError) as error:
            failures.append(f"{address}: {error}")
    raise Unavailable(f"connect to systemd: {'; '.join(failures)}")


def claim_unit(
    cgroups_path: str, resources: Mapping[str, object], *, container_id: str, annotations: Mapping[str, str],
    is_user: bool = False,
) -> Cgroup:
    """Make the unit of a bundle with its limits; on failure nothing is left. The caller calls `settle` when the init is in.

    `cgroups_path` is `slice:prefix:name` or "". Raises Unsupported where systemd does not run, InvalidRequest, Conflict.
    """
    name = units.parse_unit(cgroups_path, container_id, is_user=is_user)
    limits = parse_resources(resources)
    with Manager(is_user=is_user) as manager:
        stand_in = _fork_stand_in()
        try:
            properties = [
                *units.plan_unit(name, container_id, stand_in), *_plan_limits(limits, manager),
                *units.plan_annotations(annotations),
            ]
            manager.start(name.unit, properties)
            try:
                group = claim(_path(name, manager), resources, occupants=(stand_in,))
                if _was_killed(stand_in):
                    raise Unavailable(f"start unit {name.unit}: what was in it was killed")
            except BaseException as error:
                was_killed = _was_killed(stand_in)
                manager.stop(name.unit)
                if was_killed and (reason := refuse(resources)) is not None:
                    raise reason from error  # and not that its files are gone
                raise
        except BaseException:
            _end(stand_in)
            raise
    group.unit, group.stand_in = name.unit, stand_in
    return group


def _plan_limits(limits: Resources, manager: Manager) -> list[Property]:
    is_v1 = "memory" in hierarchy().v1
    version = manager.version if limits.cpu_idle or limits.unified else 0
    properties = units.plan_properties(limits, is_v1=is_v1, version=version)
    if version >= 253 and (oom_group := dict(limits.unified).get("memory.oom.group", "").strip()) in ("0", "1"):
        # Not to be changed later, though the kernel would.
        properties.append(("OOMPolicy", ("s", "kill" if oom_group == "1" else "continue")))
    return [*units.plan_devices(limits), *properties]


def _path(name: UnitName, manager: Manager) -> str:
    return (manager.get("ControlGroup") if manager.is_user else "") + name.path


def _fork_stand_in() -> int:
    pid = os.fork()
    if pid == 0:
        try:
            # No longer than its parent, and without what that has open: a pipe would not end.
            from mydocker.linux import syscalls as sc
            sc.prctl(sc.PR_SET_PDEATHSIG, _SIGKILL)
            sc.close_range(0, 0xFFFFFFFF, 0)
            while True:
                time.sleep(3600)
        finally:
            os._exit(0)
    return pid


def _was_killed(pid: int) -> bool:
    """Tell whether somebody else has killed the stand-in: nobody but the kernel would, for want of memory."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return ended is not None and ended.si_status == _SIGKILL


def _end(pid: int) -> None:
    os.kill(pid, _SIGKILL)
    os.waitpid(pid, 0)


def settle(group: Cgroup, pidfd: int, timeout_s: float = 10.0) -> bool:
    """Take the stand-in away once somebody else is in every directory, so that systemd sees the scope live.

    False, with the stand-in, and so the scope, left, when the process of the pidfd has ended before. Raises Timeout.
    """
    from .members import read_pids

    deadline = time.monotonic() + timeout_s
    pid = group.stand_in
    for directory in {*group.v1.values(), *([group.v2] if group.v2 else [])}:
        while not set(read_pids(directory)) - {pid}:
            if wait_pidfd(pidfd, 0):
                return False
            if time.monotonic() > deadline:
                raise Timeout(f"start unit {group.unit}: the container's init does not come")
            time.sleep(0.001)
    group.stand_in = 0
    _end(pid)
    return True


def update_unit(unit: str, limits: Resources, *, is_user: bool = False) -> None:
    """Tell systemd the new limits of a unit in use; the caller writes them into the files as well."""
    is_v1 = "memory" in hierarchy().v1
    with Manager(is_user=is_user) as manager:
        version = manager.version if limits.cpu_idle or limits.unified else 0
        properties = units.plan_properties(limits, is_v1=is_v1, version=version)
        if limits.devices:
            properties += units.plan_devices(limits)
        if properties:
            manager.set(unit, properties)


def stop_unit(group: Cgroup) -> None:
    """Stop the unit of a group, which ends what runs in it. Missing is fine."""
    if group.stand_in:
        _end(group.stand_in)
        group.stand_in = 0
    with Manager(is_user=os.geteuid() != 0) as manager:
        manager.stop(group.unit)
