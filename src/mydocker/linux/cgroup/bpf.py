"""Device rules of a v2 group as a program of type BPF_PROG_TYPE_CGROUP_DEVICE: made, loaded, attached.

The kernel runs it for every open and mknod of a device by a process of the group: 1 allows, 0 is EPERM. The
programs of the groups above have to allow it, too. A start with the standard rules needs nothing of this but a
program that is loaded already: standard_devices.py.

Source: bpf(2); include/uapi/linux/bpf.h struct bpf_cgroup_dev_ctx; Documentation/bpf/instruction-set.rst.
"""
from __future__ import annotations

import os

from mydocker.linux import syscalls as sc

from .devices import ANY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .devices import AllowList

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_ACCESS = {"m": sc.BPF_DEVCG_ACC_MKNOD, "r": sc.BPF_DEVCG_ACC_READ, "w": sc.BPF_DEVCG_ACC_WRITE}
_TYPES = {"b": sc.BPF_DEVCG_DEV_BLOCK, "c": sc.BPF_DEVCG_DEV_CHAR}

# Registers: r1 is the context at the start and scratch afterwards, r0 the answer.
_R_SCRATCH, _R_TYPE, _R_ACCESS, _R_MAJOR, _R_MINOR = 1, 2, 3, 4, 5
# Instructions, by their names in the kernel's documentation.
_LDX_W, _AND32_K, _AND32_X, _RSH32_K, _MOV32_K, _MOV32_X = 0x61, 0x54, 0x5C, 0x74, 0xB4, 0xBC
_JNE_K, _JNE_X, _JEQ_K, _EXIT = 0x55, 0x5D, 0x15, 0x95


def _instruction(code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """Return one struct bpf_insn, as little-endian machines have it."""
    return bytes((code, target | source << 4)) + offset.to_bytes(2, "little") + (value & 0xFFFFFFFF).to_bytes(4, "little")


def build_program(target: AllowList) -> bytes:
    """Return the program that answers as v1's devices controller would with the same rules."""
    program = [
        # struct bpf_cgroup_dev_ctx { u32 access_type (access << 16 | type), major, minor }
        _instruction(_LDX_W, _R_TYPE, 1, 0),
        _instruction(_AND32_K, _R_TYPE, value=0xFFFF),
        _instruction(_LDX_W, _R_ACCESS, 1, 0),
        _instruction(_RSH32_K, _R_ACCESS, value=16),
        _instruction(_LDX_W, _R_MAJOR, 1, 4),
        _instruction(_LDX_W, _R_MINOR, 1, 8),
    ]
    for (kind, major, minor), access in target.sorted_rules():
        program += _rule(_TYPES[kind], major, minor, access, allow=not target.allows_by_default)
    return b"".join([*program, *_answer(target.allows_by_default)])


def _answer(allow: bool) -> list[bytes]:
    return [_instruction(_MOV32_K, 0, value=int(allow)), _instruction(_EXIT)]


def _rule(kind: int, major: int, minor: int, access: frozenset[str], *, allow: bool) -> list[bytes]:
    """Return the code of one rule: give its answer if everything matches, else go on behind it.

    An allowing rule has to cover the whole access, a denying one any part of it (v1: match_exception,
    match_exception_partial; runc's program lets O_RDWR pass a rule that denies writing).
    """
    mask = sum(_ACCESS[letter] for letter in access)
    tests: list[tuple[int, int, int, int]] = [(_JNE_K, _R_TYPE, 0, kind)]
    if len(access) < len(_ACCESS):
        tests += [(_MOV32_X, _R_SCRATCH, _R_ACCESS, 0), (_AND32_K, _R_SCRATCH, 0, mask)]
        tests.append((_JNE_X, _R_SCRATCH, _R_ACCESS, 0) if allow else (_JEQ_K, _R_SCRATCH, 0, 0))
    if major != ANY:
        tests.append((_JNE_K, _R_MAJOR, 0, major))
    if minor != ANY:
        tests.append((_JNE_K, _R_MINOR, 0, minor))
    answer = _answer(allow)
    code = []
    for index, (operation, target, source, value) in enumerate(tests):
        is_jump = operation in (_JNE_K, _JNE_X, _JEQ_K)
        behind = len(tests) - index - 1 + len(answer)
        code.append(_instruction(operation, target, source, behind if is_jump else 0, value))
    return code + answer


def attach(directory: str, target: AllowList) -> None:
    """Let the rules hold in a v2 group, in place of those that held before. Raises OSError.

    At no moment is more allowed than before or after: the new program takes the old one's place
    (BPF_F_REPLACE, Linux 5.6), or is added before the old ones go, as all have to allow.
    """
    directory_fd = os.open(directory, _DIRECTORY)
    old: list[int] = []
    try:
        old = _open_programs(directory_fd)
        program_fd = load(build_program(target))
        try:
            _replace(directory_fd, program_fd, old)
        finally:
            os.close(program_fd)
    finally:
        for fd in (*old, directory_fd):
            os.close(fd)


def _replace(directory_fd: int, program_fd: int, old: list[int]) -> None:
    if len(old) == 1:
        try:
            sc.bpf_prog_attach(
                directory_fd, program_fd, sc.BPF_CGROUP_DEVICE, sc.BPF_F_ALLOW_MULTI | sc.BPF_F_REPLACE, old[0]
            )
            return
        except OSError:
            pass  # EINVAL before Linux 5.6, or the old one is attached by a link: as with several
    sc.bpf_prog_attach(directory_fd, program_fd, sc.BPF_CGROUP_DEVICE, sc.BPF_F_ALLOW_MULTI)
    for fd in old:
        sc.bpf_prog_detach(directory_fd, fd, sc.BPF_CGROUP_DEVICE)


def detach(directory: str) -> None:
    """Take all device programs off a v2 group: everything is allowed then that is allowed above. Raises OSError."""
    directory_fd = os.open(directory, _DIRECTORY)
    old: list[int] = []
    try:
        old = _open_programs(directory_fd)
        for fd in old:
            sc.bpf_prog_detach(directory_fd, fd, sc.BPF_CGROUP_DEVICE)
    finally:
        for fd in (*old, directory_fd):
            os.close(fd)


def load(program: bytes) -> int:
    """Load a device program and return its descriptor. Raises OSError."""
    try:
        return sc.bpf_prog_load(sc.BPF_PROG_TYPE_CGROUP_DEVICE, program, "Apache")
    except PermissionError:
        # Before Linux 5.11 programs count as locked memory, and the limit of 64 KiB is soon used up.
        import resource  # cold

        before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        try:
            return sc.bpf_prog_load(sc.BPF_PROG_TYPE_CGROUP_DEVICE, program, "Apache")
        finally:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, before)  # the container must not inherit it


def _open_programs(directory_fd: int) -> list[int]:
    """Return descriptors of the device programs of a group; those that may not be touched (an LSM's word) are left out."""
    found: list[int] = []
    try:
        for program_id in sc.bpf_prog_query(directory_fd, sc.BPF_CGROUP_DEVICE):
            try:
                found.append(sc.bpf_prog_get_fd_by_id(program_id))
            except (PermissionError, FileNotFoundError):
                pass
    except BaseException:
        for fd in found:
            os.close(fd)
        raise
    return found
