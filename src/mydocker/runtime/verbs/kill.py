"""`kill`: a signal to the container's init, or to every process of its cgroup."""
from __future__ import annotations

import os

from mydocker.base.errors import Conflict, InvalidRequest
from mydocker.linux.process import signal_pidfd, signal_process
from mydocker.runtime.cgroups import find_cgroup
from mydocker.runtime.status import find_status, is_frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.linux.cgroup.group import Cgroup
    from mydocker.oci.runtime_spec import Spec
    from mydocker.runtime.cli import Context
    from mydocker.runtime.state import ContainerState

SIGKILL = 9


def run(context: Context) -> int:
    """Send it. Raises Conflict with the words "container not running" when there is nothing to send it to."""
    signum = parse_signal(context.arguments.words[1] if len(context.arguments.words) > 1 else "SIGTERM")
    state = context.root.load(context.id)
    # Without a pid namespace of its own, nobody ends what the init leaves behind.
    if context.arguments["all"] or (signum == SIGKILL and not has_pid_namespace(context.root.load_spec(state.id))):
        signal_all(state, signum)
    elif find_status(context.root, state) == "stopped" or not signal_process(state.init, signum):
        raise Conflict(f"kill container {state.id}: container not running")
    if signum == SIGKILL:
        thaw_on_v1(state)
    return 0


def has_pid_namespace(spec: Spec) -> bool:
    """Tell whether the end of the init is the end of all (pid_namespaces(7))."""
    return any(item.get("type") == "pid" for item in spec.get("linux", {}).get("namespaces") or ())


def signal_all(state: ContainerState, signum: int) -> None:
    """Send a signal to every process of the container; that there is none is fine (the init may have ended first)."""
    group = find_cgroup(state)
    if group is None:
        signal_process(state.init, signum)
    elif signum == SIGKILL:
        group.kill()
    else:
        signal_each(group, signum)


def signal_each(group: Cgroup, signum: int) -> None:
    """Send a signal to the processes that a cgroup has now."""
    pidfds: dict[int, int] = {}
    try:
        for pid in group.pids():
            try:
                pidfds[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
        # Whoever is still listed now is the process that its pidfd holds, and not another one with a recycled pid.
        for pid in group.pids():
            if pid in pidfds:
                signal_pidfd(pidfds[pid], signum)
    finally:
        for fd in pidfds.values():
            os.close(fd)


def thaw_on_v1(state: ContainerState) -> None:
    """Thaw a paused container: on cgroup v1 nothing dies in a frozen cgroup, and its killer waits for that."""
    if is_frozen(state):
        group = find_cgroup(state)
        if group is not None:
            group.thaw()


def parse_signal(text: str) -> int:
    """Return the number of a signal: `9`, `KILL` or `SIGKILL`; 0 asks only whether it is there. Raises InvalidRequest."""
    import signal  # cold: enum

    if text.isascii() and text.isdigit():
        number = int(text)
    else:
        name = text.upper().removeprefix("SIG")
        number = getattr(signal, f"SIG{name}", 0) if name.isalnum() else _parse_real_time(name)
    if not 0 <= number <= signal.SIGRTMAX or (number == 0 and text != "0"):
        raise InvalidRequest(f"unknown signal {text!r}")
    return int(number)


def _parse_real_time(name: str) -> int:
    """Return the number of RTMIN+n or RTMAX-n, 0 for anything else."""
    import signal

    base, sign, offset = name[:5], name[5:6], name[6:]
    limit = {"RTMIN": signal.SIGRTMIN, "RTMAX": signal.SIGRTMAX}.get(base)
    if limit is None or sign not in ("+", "-") or not offset.isdigit():
        return 0
    number = limit + int(sign + offset)
    return number if signal.SIGRTMIN <= number <= signal.SIGRTMAX else 0
