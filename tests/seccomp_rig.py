"""What a seccomp program decides: an interpreter of the classic BPF that the kernel runs, and names of system calls."""
from __future__ import annotations

import errno
import struct
from collections.abc import Sequence

from mydocker.linux.libseccomp import Library
from mydocker.runtime.seccomp_compiler import ACTIONS, ARCHITECTURES

ALLOW, KILL_THREAD = ACTIONS["SCMP_ACT_ALLOW"], ACTIONS["SCMP_ACT_KILL_THREAD"]


def errno_action(number: int) -> int:
    """Return SECCOMP_RET_ERRNO with an error number."""
    return ACTIONS["SCMP_ACT_ERRNO"] | number


EPERM, ENOSYS = errno_action(errno.EPERM), errno_action(errno.ENOSYS)


def number_of(name: str, architecture: str = "SCMP_ARCH_X86_64") -> int:
    """Return a system call's number on an architecture; it must have one."""
    number = Library().resolve_for(ARCHITECTURES[architecture], name)
    assert number >= 0, f"{architecture} has no {name}"
    return number


def decide(program: bytes, number: int, arguments: Sequence[int] = (), *, architecture: str = "SCMP_ARCH_X86_64") -> int:
    """Run a program on one system call, as the kernel does (struct seccomp_data), and return its SECCOMP_RET_* value."""
    token = ARCHITECTURES[architecture]
    if architecture == "SCMP_ARCH_X32":
        token = ARCHITECTURES["SCMP_ARCH_X86_64"]
    data = struct.pack("=iIQ6Q", number, token, 0, *[*arguments, *[0] * (6 - len(arguments))])
    instructions = list(struct.iter_unpack("=HBBI", program))
    at, accumulator, memory, index = 0, 0, [0] * 16, 0
    while True:
        code, jump_true, jump_false, k = instructions[at]
        at += 1
        if code == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            accumulator = struct.unpack_from("=I", data, k)[0]
        elif code == 0x06:  # BPF_RET | BPF_K
            return int(k)
        elif code == 0x05:  # BPF_JA
            at += k
        elif code in (0x15, 0x25, 0x35, 0x45):  # BPF_JEQ, JGT, JGE, JSET
            taken = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}[code]
            at += jump_true if taken else jump_false
        elif code == 0x54:  # BPF_ALU | BPF_AND | BPF_K
            accumulator &= k
        elif code == 0x02:  # BPF_ST
            memory[k] = accumulator
        elif code == 0x60:  # BPF_LD | BPF_MEM
            accumulator = memory[k]
        elif code == 0x07:  # BPF_MISC | BPF_TAX
            index = accumulator
        elif code == 0x87:  # BPF_MISC | BPF_TXA
            accumulator = index
        else:
            raise AssertionError(f"an instruction that libseccomp does not make: {code:#x}")
