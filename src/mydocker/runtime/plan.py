"""The plan that the last stage reads: `struct plan` of csrc/init/init.c, in a sealed memfd.

Owns both memfds of the last stage: its plan and its program. The program's is made once a process
and shared, and again where somebody has it open for writing (`execute`): sealed, nobody can write it,
not even through /proc/PID/exe (memfd_create(2), fcntl(2) "File Sealing").
"""
from __future__ import annotations

import errno
import fcntl
import os
import struct

from mydocker.base import files
from mydocker.base.errors import InvalidRequest
from mydocker.base.record import Record
from mydocker.linux import caps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from mydocker.oci.runtime_spec import Hook, Process

    _Result = TypeVar("_Result")

_HEADER = struct.Struct("=8s4I4I2I4I6iQ5Q56s")
_HOOK = struct.Struct("=4I")
_LIMIT_BYTES = 24
_MAX_TIMEOUT_MS = 0xFFFFFFFF
_NO_NEW_PRIVS, _SECCOMP, _SCHEDULER, _PERSONALITY, _REAPER, _TERMINAL, _ALL_CPUS, _OLD_KEYRING, _CPUSET = (
    1, 2, 4, 8, 16, 32, 64, 128, 256)
#: The name of our own runtime as a program of its own.
OWN_PROGRAM = "mydocker-runtime"
#: An annotation of the spec that asks for a small process 1 before the command (`--init`); `true` is its only meaning.
REAPER_ANNOTATION = "mydocker.init"
_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE
_MFD_CLOEXEC, _MFD_ALLOW_SEALING = 1, 2


class Credentials(Record):
    """Whom the command runs as: numbers only, names were looked up in the container's own files."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


class Attributes(Record):
    """What few specs have, as the last stage takes it (runtime/attributes.py): `struct limit[]`, `struct sched_attr`."""

    limits: bytes = b""
    scheduler: bytes = b""
    has_cpuset: bool = False
    """Whether the container is bound to some processors, which a scheduler may not go with."""
    io_priority: int = 0
    personality: int | None = None
    memory_policy: tuple[int, int] | None = None
    """Mode and nodes of set_mempolicy(2), which the interpreter sets: execve keeps it."""


NO_ATTRIBUTES = Attributes()
#: What a process gets when `process.user.umask` is silent, as with runc.
DEFAULT_UMASK = 0o022


class LastStage(Record):
    """What the last stage gets beside the process: descriptors, -1 where there is none, and what to run first.

    `start_fd` is a FIFO to wait on in place of the sync socket. `hooks` are the startContainer hooks; they
    read the state from `hook_input_fd` and write to `hook_output_fd`. `filters` is an array of struct sock_filter.
    """

    sync_fd: int
    start_fd: int = -1
    preserve_fds: int = 0
    hooks: tuple[Hook, ...] = ()
    hook_input_fd: int = -1
    hook_output_fd: int = -1
    filters: bytes = b""
    filter_flags: int = 0
    attributes: Attributes = NO_ATTRIBUTES
    reaper: bool = False
    """Whether a small process 1 stays before the command (csrc/init/reap.c)."""
    keeps_keyring: bool = False
    """Whether the session keyring stays the caller's."""
    agent_fd: int = -1
    listener_state: str = ""
    """The socket and the message for the agent of the filter's notifications (csrc/init/listener.h)."""
    entered_fd: int = -1
    """Where the process is reported that is cloned into the pid namespace to enter (csrc/init/entering.h)."""

    def fds(self) -> tuple[int, ...]:
        """Return the descriptors in the order of the enumeration in init.c."""
        return (self.sync_fd, self.start_fd, self.hook_input_fd, self.hook_output_fd, self.agent_fd, self.entered_fd)


def pack_plan(process: Process, credentials: Credentials, last: LastStage) -> bytes:
    """Return the plan's bytes for a process of a runtime spec."""
    sets = process.get("capabilities", {})
    attributes = last.attributes
    args = [encode(arg, "process.args") for arg in process["args"]]
    env = [encode(item, "process.env") for item in process.get("env") or ()]
    groups = struct.pack(f"={len(credentials.groups)}I", *credentials.groups)
    hooks, hook_strings = pack_hooks(last.hooks, process.get("env") or ())
    flags = (
        (_NO_NEW_PRIVS if process.get("noNewPrivileges") else 0)
        | (_SECCOMP if last.filters else 0)
        | (_SCHEDULER if attributes.scheduler else 0)
        | (_PERSONALITY if attributes.personality is not None else 0)
        | (_REAPER if last.reaper else 0)
        | (0 if process.get("execCPUAffinity") else _ALL_CPUS)
        | (_TERMINAL if process.get("terminal") else 0)
        | (_OLD_KEYRING if last.keeps_keyring else 0)
        | (_CPUSET if attributes.has_cpuset else 0)
    )
    middle = b"".join((attributes.limits, hooks, groups, last.filters))
    header = _HEADER.pack(
        b"mydinit2", flags, credentials.uid, credentials.gid, process.get("user", {}).get("umask", DEFAULT_UMASK),
        len(credentials.groups), len(args), len(env), len(last.filters) // 8,
        last.filter_flags, _HEADER.size + len(middle),
        last.preserve_fds, len(attributes.limits) // _LIMIT_BYTES, len(last.hooks), attributes.io_priority,
        *last.fds(), attributes.personality or 0,
        caps.mask(sets.get("bounding") or ()), caps.mask(sets.get("effective") or ()),
        caps.mask(sets.get("inheritable") or ()), caps.mask(sets.get("permitted") or ()), caps.mask(sets.get("ambient") or ()),
        attributes.scheduler,
    )
    labels = (
        encode(last.listener_state, "linux.seccomp"), encode(process.get("apparmorProfile", ""), "process.apparmorProfile"),
        encode(process.get("selinuxLabel", ""), "process.selinuxLabel"))
    strings = b"\0".join((encode(process["cwd"], "process.cwd"), *args, *env, *labels, *hook_strings))
    return b"".join((header, middle, strings, b"\0"))


def encode(text: str, field: str) -> bytes:
    """Return a string as the plan holds it. Raises InvalidRequest.

    With a NUL in it each string behind would be taken for its neighbour: the rest of a HOME that an image's /etc/passwd
    says, for the AppArmor profile.
    """
    try:
        data = os.fsencode(text)
    except UnicodeEncodeError:
        data = b"\0"  # half of a surrogate pair, which JSON can say
    if b"\0" in data:
        raise InvalidRequest(f"{field}: {text[:80]!r} cannot be passed to a program")
    return data


def pack_hooks(hooks: tuple[Hook, ...], process_env: Sequence[str]) -> tuple[bytes, list[bytes]]:
    """Return `struct hook[]`, and the strings that go with it. A hook without a list for its environment has the command's."""
    heads, strings = [], []
    for hook in hooks:
        args = hook.get("args") or [hook["path"]]
        listed = hook.get("env")
        env = process_env if listed is None else listed
        heads.append(_HOOK.pack(len(args), len(env), min((hook.get("timeout") or 0) * 1000, _MAX_TIMEOUT_MS), 0))
        strings += [encode(text, "hooks.startContainer") for text in (hook["path"], *args, *env)]
    return b"".join(heads), strings


def open_sealed(name: str, content: bytes) -> int:
    """Return a sealed memfd with this content, close-on-exec. The caller closes it."""
    fd = os.memfd_create(name, _MFD_CLOEXEC | _MFD_ALLOW_SEALING)
    try:
        files.write_all(fd, content)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


_program_fd = -1
#: How often who sees this process come, and may open what it executes, has to be faster than it.
_MAX_COPIES = 20


def last_stage_fd() -> int:
    """Return this process's sealed copy of the last stage (csrc/init); it stays open."""
    global _program_fd
    if _program_fd < 0:
        program = files.read_bytes(program_path("mydocker-init"))
        _program_fd = open_sealed("mydocker-init", program)
    return _program_fd


def execute(program: Callable[[int], _Result]) -> _Result:
    """Call `program` with the descriptor of the last stage to execute it, with that of a new copy where it is ETXTBSY.

    The seals keep everybody from writing it, not from opening it for writing, and as long as a container has it open so
    (/proc/PID/exe of what entered it), execve(2) refuses it: one container could keep all others from being started.
    """
    global _program_fd
    for _ in range(_MAX_COPIES):
        try:
            return program(last_stage_fd())
        except OSError as error:
            if error.errno != errno.ETXTBSY:
                raise
            _program_fd = open_sealed("mydocker-init", os.pread(_program_fd, os.fstat(_program_fd).st_size, 0))
    return program(_program_fd)


def program_path(name: str) -> str:
    """Return the installed path of one of the C programs."""
    return f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/libexec/{name}"
