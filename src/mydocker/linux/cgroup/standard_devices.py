"""The device rules of a container without rules of its own, on v2: a program that is loaded once a boot.

Loading a program costs half a millisecond (verifier, compiler), attaching it a twentieth. So a cgroup without
processes, `<v2>/mydocker-devices-<digest>`, holds the program, and a start only looks it up there and attaches it. Root alone
can change what hangs there. docs/decisions/0014-cgroup-devices.md has the measurements; devices.py has the rules.
"""
from __future__ import annotations

import os

from mydocker.linux import syscalls as sc

#: The first 64 bits of the SHA-256 of the program; a test holds it against the rules. It is part of the group's name,
#: so versions with other rules do not take each other's.
STANDARD_DIGEST = "b2c0b2c5432dcbd0"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def attach_standard(mount_point: str, directory: str) -> None:
    """Let the standard rules hold in a new v2 group: as `attach`, with the program that is loaded already.

    `mount_point` is the v2 hierarchy's. Raises OSError.
    """
    directory_fd = os.open(directory, _DIRECTORY)
    try:
        program_fd = _open_standard(mount_point)
        try:
            sc.bpf_prog_attach(directory_fd, program_fd, sc.BPF_CGROUP_DEVICE, sc.BPF_F_ALLOW_MULTI)
        finally:
            os.close(program_fd)
    finally:
        os.close(directory_fd)


def _open_standard(mount_point: str) -> int:
    """Return a descriptor of the standard program, loaded now if nobody has since the boot."""
    holder = f"{mount_point}/mydocker-devices-{STANDARD_DIGEST}"
    try:
        holder_fd = os.open(holder, _DIRECTORY)
    except FileNotFoundError:
        program_fd = _load()
        _keep(holder, program_fd)
        return program_fd
    try:
        for program_id in sc.bpf_prog_query(holder_fd, sc.BPF_CGROUP_DEVICE):
            return sc.bpf_prog_get_fd_by_id(program_id)
    finally:
        os.close(holder_fd)
    # Made by a command that was killed before it attached the program, or is about to.
    program_fd = _load()
    _keep(holder, program_fd)
    return program_fd


def _keep(holder: str, program_fd: int) -> None:
    """Have a group hold the program, where that can be: it only saves time.

    Two commands at once attach one each, which is one too many and does no harm.
    """
    try:
        try:
            os.mkdir(holder, 0o755)
        except FileExistsError:
            pass
        holder_fd = os.open(holder, _DIRECTORY)
        try:
            sc.bpf_prog_attach(holder_fd, program_fd, sc.BPF_CGROUP_DEVICE, sc.BPF_F_ALLOW_MULTI)
        finally:
            os.close(holder_fd)
    except OSError:
        pass  # cgroup.max.descendants, a read-only mount: the next start loads it again


def _load() -> int:
    from .bpf import build_program, load  # cold: once a boot
    from .devices import STANDARD

    return load(build_program(STANDARD))
