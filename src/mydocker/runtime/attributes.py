"""Attributes of a process that only some specs have: limits, scheduling, personality, memory policy, the memory killer's score.

Turns their words into the numbers that the last stage sets (csrc/init/init.c), and sets from outside what a
process in a user namespace may not set for itself. Imported only where a spec has any of them.

Source: runtime-spec config.md "Process", config-linux.md "Personality"; getrlimit(2), sched_setattr(2), ioprio_set(2),
personality(2), set_mempolicy(2), proc_pid_oom_score_adj(5).
"""
from __future__ import annotations

import errno
import os
import struct

from mydocker.base.errors import Denied, InvalidRequest
from mydocker.linux import syscalls as sc

from .plan import Attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.oci.runtime_spec import IOPriority, Linux, MemoryPolicy, Personality, Process, Rlimit, Scheduler

RLIMITS = {
    f"RLIMIT_{name}": number for number, name in enumerate(
        "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME".split())
}
POLICIES = {
    "SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_ISO": 4, "SCHED_IDLE": 5, "SCHED_DEADLINE": 6,
}
SCHEDULER_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01, "SCHED_FLAG_RECLAIM": 0x02, "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08, "SCHED_FLAG_KEEP_PARAMS": 0x10, "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
PERSONALITIES = {"LINUX": 0x0000, "LINUX32": 0x0008}
#: Modes of set_mempolicy(2) -> number, and the least and most nodes that one takes.
MEMORY_MODES = {
    "MPOL_DEFAULT": (0, 0, 0), "MPOL_PREFERRED": (1, 0, 64), "MPOL_BIND": (2, 1, 64), "MPOL_INTERLEAVE": (3, 1, 64),
    "MPOL_LOCAL": (4, 0, 0), "MPOL_PREFERRED_MANY": (5, 1, 64), "MPOL_WEIGHTED_INTERLEAVE": (6, 1, 64),
}
MEMORY_FLAGS = {"MPOL_F_STATIC_NODES": 1 << 15, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_NUMA_BALANCING": 1 << 13}

_INFINITY = (1 << 64) - 1
#: struct sched_attr of Linux 5.3: size, policy, flags, nice, priority, runtime, deadline, period, util_min, util_max
_SCHED_ATTR = struct.Struct("=IIQiIQQQII")
_LIMIT = struct.Struct("=3Q")


def plan_attributes(process: Process, linux: Linux) -> Attributes:
    """Return what the last stage sets. Raises InvalidRequest, with the field, for a word or number that is none."""
    personality, policy = linux.get("personality"), linux.get("memoryPolicy")
    for key, text in process.get("execCPUAffinity", {}).items():  # exec sets it; what is wrong is told where it is written
        if text:
            parse_numbers(str(text), f"process.execCPUAffinity.{key}")
    return Attributes(
        limits=b"".join(pack_limit(limit) for limit in process.get("rlimits", ())),
        scheduler=pack_scheduler(process["scheduler"]) if process.get("scheduler") else b"",
        has_cpuset=bool(((linux.get("resources") or {}).get("cpu") or {}).get("cpus")),
        io_priority=parse_io_priority(process["ioPriority"]) if process.get("ioPriority") else 0,
        personality=None if personality is None else parse_personality(personality),
        memory_policy=None if policy is None else parse_memory_policy(policy),
    )


def pack_limit(limit: Rlimit) -> bytes:
    """Return `struct limit`; -1 means no limit, as the spec's unsigned numbers do where they are that large."""
    try:
        number = RLIMITS[limit["type"]]
    except KeyError:
        raise InvalidRequest(f"process.rlimits: {limit.get('type')!r} is no resource limit") from None
    soft, hard = (limit[key] & _INFINITY for key in ("soft", "hard"))
    if soft > hard:
        raise InvalidRequest(f"process.rlimits: {limit['type']}: soft {limit['soft']} is above hard {limit['hard']}")
    return _LIMIT.pack(number, soft, hard)


def pack_scheduler(scheduler: Scheduler) -> bytes:
    """Return `struct sched_attr`."""
    policy = scheduler.get("policy", "")
    if policy not in POLICIES:
        raise InvalidRequest(f"process.scheduler.policy: {policy!r} is no scheduling policy")
    flags = 0
    for flag in scheduler.get("flags") or ():
        if flag not in SCHEDULER_FLAGS:
            raise InvalidRequest(f"process.scheduler.flags: {flag!r} is no flag of a scheduler")
        flags |= SCHEDULER_FLAGS[flag]
    if scheduler.get("priority") and policy not in ("SCHED_FIFO", "SCHED_RR"):
        raise InvalidRequest(f"process.scheduler.priority: {policy} has none", hint="only SCHED_FIFO and SCHED_RR have")
    times = tuple(int(scheduler.get(key, 0)) for key in ("runtime", "deadline", "period"))  # type: ignore[call-overload]
    if any(times) and policy != "SCHED_DEADLINE":
        raise InvalidRequest(f"process.scheduler: runtime, deadline and period are for SCHED_DEADLINE, not for {policy}")
    if policy == "SCHED_DEADLINE":
        check_deadline(scheduler, *times)
    try:
        return _SCHED_ATTR.pack(
            _SCHED_ATTR.size, POLICIES[policy], flags, scheduler.get("nice", 0), scheduler.get("priority", 0), *times, 0, 0)
    except struct.error:
        raise InvalidRequest("process.scheduler: a number is out of range") from None


def check_deadline(scheduler: Scheduler, runtime: int, deadline: int, period: int) -> None:
    """See that the times of SCHED_DEADLINE fit each other: the kernel has EINVAL for all of it (sched(7))."""
    what = "process.scheduler: sched_setattr: `SCHED_DEADLINE`"
    for key in ("runtime", "deadline"):
        if key not in scheduler:
            raise InvalidRequest(f"{what} requires `{key}`")
        if not scheduler[key]:
            raise InvalidRequest(f"{what} {key} must be greater than 0")
    for less, more in (("runtime", deadline), ("deadline", period)):
        if more and scheduler[less] > more:  # type: ignore[literal-required]
            over = "deadline" if less == "runtime" else "period"
            raise InvalidRequest(f"{what} {less} ({scheduler[less]}) must be <= {over} ({more})")  # type: ignore[literal-required]
    for key, value in (("runtime", runtime), ("deadline", deadline), ("period", period)):
        if (value or key != "period") and not 1024 <= value < 1 << 63:
            raise InvalidRequest(f"{what} {key} ({value}) must be between 1024 and {(1 << 63) - 1}")


def parse_io_priority(priority: IOPriority) -> int:
    """Return the number of ioprio_set(2)."""
    name, level = str(priority.get("class", "")), priority.get("priority", 0)
    if name not in IO_CLASSES:
        raise InvalidRequest(f"process.ioPriority.class: {name!r} is no class", hint="one of " + ", ".join(IO_CLASSES))
    if not 0 <= level <= 7:
        raise InvalidRequest(f"process.ioPriority.priority: {level} is not one of 0 to 7")
    return IO_CLASSES[name] << 13 | level


def parse_personality(personality: Personality) -> int:
    """Return the number of personality(2)."""
    domain = personality.get("domain", "")
    if domain not in PERSONALITIES:
        raise InvalidRequest(f"linux.personality.domain: {domain!r} is none", hint="LINUX or LINUX32")
    if personality.get("flags"):
        raise InvalidRequest("linux.personality.flags: the specification knows none")
    return PERSONALITIES[domain]


def parse_memory_policy(policy: MemoryPolicy) -> tuple[int, int]:
    """Return mode and nodes for set_mempolicy(2). What the kernel alone can judge is left to it."""
    where, name = "linux.memoryPolicy", policy.get("mode", "")
    if name not in MEMORY_MODES:
        raise InvalidRequest(f"{where}.mode: {name!r}: invalid memory policy mode", hint="one of " + ", ".join(MEMORY_MODES))
    mode, least, most = MEMORY_MODES[name]
    for flag in policy.get("flags") or ():
        if flag not in MEMORY_FLAGS:
            raise InvalidRequest(f"{where}.flags: {flag!r}: invalid memory policy flag", hint="one of " + ", ".join(MEMORY_FLAGS))
        mode |= MEMORY_FLAGS[flag]
    text = policy.get("nodes", "")
    nodes = parse_numbers(text, f"{where}.nodes: invalid memory policy nodes") if text else set()
    if not least <= len(nodes) <= most:
        wanted = "0" if most == 0 else f"at least {least}"
        raise InvalidRequest(f"{where}.nodes: {name} mode requires {wanted} nodes but got {len(nodes)}")
    if max(nodes, default=0) > 63:
        raise InvalidRequest(f"{where}.nodes: {text!r}: invalid memory policy node", hint="0 to 63 can be chosen")
    return mode, sum(1 << node for node in nodes)


def set_memory_policy(mode: int, nodes: int) -> None:
    """Set the policy of the calling process, for what it executes as well. Raises InvalidRequest."""
    try:
        sc.set_mempolicy(mode, nodes)
    except OSError as error:
        raise InvalidRequest(f"linux.memoryPolicy: set_mempolicy: {os.strerror(error.errno or 0)}") from error


def parse_numbers(text: str, field: str) -> set[int]:
    """Return the numbers of a list such as `0-3,7`. Raises InvalidRequest."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or int(last or first) - int(first) not in range(4096):
            raise InvalidRequest(f"{field}: {text!r} is no list of numbers", hint="such as 0-3,7")
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers


def set_affinity(text: str, field: str) -> None:
    """Bind the calling process to the processors of a list. Raises InvalidRequest when none of them is there."""
    try:
        os.sched_setaffinity(0, parse_numbers(text, field))
    except OSError as error:
        raise InvalidRequest(f"{field}: {text!r}: {os.strerror(error.errno or 0)}") from error


def apply_from_outside(pid: int, process: Process) -> None:
    """Do for a child in a user namespace what only its creator may: lower its score, raise its hard limits.

    `pid` is a child that was not reaped. The limits themselves are the last stage's to set.
    """
    if process.get("oomScoreAdj") is not None:
        set_oom_score(f"/proc/{pid}/oom_score_adj", process["oomScoreAdj"])
    if not process.get("rlimits"):
        return
    import resource  # cold

    for limit in process["rlimits"]:
        number = RLIMITS[limit["type"]]
        soft, hard = resource.prlimit(pid, number)
        wanted = limit["hard"] if limit["hard"] < 1 << 63 else resource.RLIM_INFINITY
        if hard != resource.RLIM_INFINITY and (wanted == resource.RLIM_INFINITY or wanted > hard):
            try:
                resource.prlimit(pid, number, (soft, wanted))
            except (PermissionError, ValueError) as error:  # it is ValueError that `resource` makes of EPERM
                raise Denied(
                    f"process.rlimits: {limit['type']}: raise the hard limit to {wanted}: operation not permitted") from error


def set_oom_score(path: str, score: int) -> None:
    """Write a score to a file of the host's /proc. Raises Denied, InvalidRequest, with the field."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        if sc.fstatfs_type(fd) != sc.PROC_SUPER_MAGIC:
            raise Denied(f"process.oomScoreAdj: {path} is not on procfs")
        os.write(fd, str(score).encode())
    except OSError as error:
        kind = Denied if error.errno == errno.EACCES else InvalidRequest
        raise kind(f"process.oomScoreAdj: {score}: {os.strerror(error.errno or 0)}") from error
    finally:
        os.close(fd)
