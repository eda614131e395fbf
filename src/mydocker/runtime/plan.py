"""The plan that the last stage reads: `struct plan` of csrc/init/init.c, in a sealed memfd.

Owns both memfds of the last stage: its plan and its program. The program's is made once a process
and shared: sealed, nobody can write it, not even through /proc/PID/exe (memfd_create(2), fcntl(2)
"File Sealing").
"""
from __future__ import annotations

import fcntl
import os
import struct

from mydocker.base import files
from mydocker.base.record import Record
from mydocker.linux import caps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.oci.runtime_spec import Process

_HEADER = struct.Struct("=8s4I4I2I2i2I5Q")
_NO_NEW_PRIVS, _SECCOMP, _SET_UMASK = 1, 2, 4
_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE
_MFD_CLOEXEC, _MFD_ALLOW_SEALING = 1, 2


class Credentials(Record):
    """Whom the command runs as: numbers only, names were looked up in the container's own files."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


def pack_plan(
    process: Process, credentials: Credentials, *, sync_fd: int, start_fd: int = -1, filters: bytes = b"", filter_flags: int = 0,
    preserve_fds: int = 0,
) -> bytes:
    """Return the plan's bytes for a process of a runtime spec. `filters` is an array of struct sock_filter."""
    sets = process.get("capabilities", {})
    umask = process.get("user", {}).get("umask")
    args = [os.fsencode(arg) for arg in process["args"]]
    env = [os.fsencode(item) for item in process.get("env", ())]
    groups = struct.pack(f"={len(credentials.groups)}I", *credentials.groups)
    flags = (
        (_NO_NEW_PRIVS if process.get("noNewPrivileges") else 0)
        | (_SECCOMP if filters else 0)
        | (_SET_UMASK if umask is not None else 0)
    )
    header = _HEADER.pack(
        b"mydinit1", flags, credentials.uid, credentials.gid, umask or 0,
        len(credentials.groups), len(args), len(env), len(filters) // 8,
        filter_flags, _HEADER.size + len(groups) + len(filters),
        sync_fd, start_fd, preserve_fds, 0,
        caps.mask(sets.get("bounding", ())), caps.mask(sets.get("effective", ())),
        caps.mask(sets.get("inheritable", ())), caps.mask(sets.get("permitted", ())), caps.mask(sets.get("ambient", ())),
    )
    strings = b"\0".join((os.fsencode(process["cwd"]), *args, *env))
    return b"".join((header, groups, filters, strings, b"\0"))


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


def last_stage_fd() -> int:
    """Return this process's sealed copy of the last stage (csrc/init); it stays open."""
    global _program_fd
    if _program_fd < 0:
        program = files.read_bytes(program_path("mydocker-init"))
        _program_fd = open_sealed("mydocker-init", program)
    return _program_fd


def program_path(name: str) -> str:
    """Return the installed path of one of the C programs."""
    return f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/libexec/{name}"
