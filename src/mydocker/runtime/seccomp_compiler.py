"""Compiling `linux.seccomp` into a BPF program with libseccomp; imported only for a filter that is not in the cache.

The program is libseccomp's behind a prelude of ours: a system call with a number above all that the profile
knows gets ENOSYS, not the default error. A C library that tries a new call first falls back to an old one
on ENOSYS and on nothing else, so without it a profile of yesterday breaks programs of tomorrow. runc does
the same, crun does not.

Source: runtime-spec config-linux.md "Seccomp", seccomp(2), linux/audit.h, linux/filter.h.
"""
from __future__ import annotations

import errno
import struct

from mydocker.base.errors import InvalidRequest, Unsupported
from mydocker.linux.libseccomp import Library

from .seccomp import NOTIFY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from mydocker.linux.libseccomp import FilterBuilder
    from mydocker.oci.runtime_spec import Seccomp, SeccompArg, SeccompRule

#: `linux.seccomp.defaultAction` and `syscalls[].action`: SECCOMP_RET_* of the kernel. Data may go into the low 16 bits.
ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000, "SCMP_ACT_KILL_THREAD": 0x00000000, "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000, "SCMP_ACT_ERRNO": 0x00050000, NOTIFY: 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000, "SCMP_ACT_LOG": 0x7FFC0000, "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_WITH_DATA = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")

OPERATORS = {
    "SCMP_CMP_NE": 1, "SCMP_CMP_LT": 2, "SCMP_CMP_LE": 3, "SCMP_CMP_EQ": 4, "SCMP_CMP_GE": 5, "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_MASKED_EQ = OPERATORS["SCMP_CMP_MASKED_EQ"]

_X86_64, _X32, _AUDIT_64BIT = 0xC000003E, 0x4000003E, 0x80000000
#: libseccomp's tokens: the kernel's AUDIT_ARCH_*, but for x32, which the kernel tells by a bit of the call's number.
ARCHITECTURES = {
    "SCMP_ARCH_X86": 0x40000003, "SCMP_ARCH_X86_64": _X86_64, "SCMP_ARCH_X32": _X32,
    "SCMP_ARCH_ARM": 0x40000028, "SCMP_ARCH_AARCH64": 0xC00000B7,
    "SCMP_ARCH_MIPS": 0x00000008, "SCMP_ARCH_MIPS64": 0x80000008, "SCMP_ARCH_MIPS64N32": 0xA0000008,
    "SCMP_ARCH_MIPSEL": 0x40000008, "SCMP_ARCH_MIPSEL64": 0xC0000008, "SCMP_ARCH_MIPSEL64N32": 0xE0000008,
    "SCMP_ARCH_PPC": 0x00000014, "SCMP_ARCH_PPC64": 0x80000015, "SCMP_ARCH_PPC64LE": 0xC0000015,
    "SCMP_ARCH_S390": 0x00000016, "SCMP_ARCH_S390X": 0x80000016, "SCMP_ARCH_RISCV64": 0xC00000F3,
    "SCMP_ARCH_LOONGARCH64": 0xC0000102, "SCMP_ARCH_PARISC": 0x0000000F, "SCMP_ARCH_PARISC64": 0x8000000F,
    "SCMP_ARCH_M68K": 0x00000004, "SCMP_ARCH_SH": 0x4000002A, "SCMP_ARCH_SHEB": 0x0000002A,
}
_S390 = (ARCHITECTURES["SCMP_ARCH_S390"], ARCHITECTURES["SCMP_ARCH_S390X"])
_X32_BIT = 1 << 30
_ARGUMENTS = 6
_MAX_DATA = 0xFFFF
_MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS
#: Beyond this number of rules a search in a row costs more than the tree (libseccomp 2.5 before .5 fails with an empty one).
_TREE_FROM = 32


def compile_section(section: Seccomp) -> tuple[bytes, str]:
    """Return the program, an array of struct sock_filter, and the path of the library that made it.

    Raises InvalidRequest and Unsupported, which name the field.
    """
    library = Library()
    action = section.get("defaultAction", "")
    if action == NOTIFY:
        raise InvalidRequest(f"linux.seccomp.defaultAction: {NOTIFY} cannot be used as default action")
    default = _action(action, section.get("defaultErrnoRet"), "defaultAction", "defaultErrnoRet")
    rules = list(section.get("syscalls") or ())
    with library.new_filter(default) as builder:
        architectures = _add_architectures(builder, section.get("architectures") or ())
        if sum(len(rule.get("names", ())) for rule in rules) > _TREE_FROM:
            builder.use_binary_tree()
        for rule in rules:
            _add_rule(builder, library, rule, default)
        program = builder.export()
    if action not in _PERMISSIVE and default != ACTIONS["SCMP_ACT_ERRNO"] | errno.ENOSYS:
        program = _prelude(library, {library.native_arch, *architectures}, rules) + program
    if len(program) // 8 > _MAX_INSTRUCTIONS:
        raise Unsupported(f"linux.seccomp.syscalls: the filter has {len(program) // 8} instructions, the kernel takes 4096")
    return program, library.file_path()


def _action(name: str, data: int | None, name_field: str, data_field: str) -> int:
    if name not in ACTIONS:
        raise InvalidRequest(f"linux.seccomp.{name_field}: {name!r} is not an action")
    if name not in _WITH_DATA:
        return ACTIONS[name]
    if data is None:
        data = errno.EPERM
    if not 0 <= data <= _MAX_DATA:
        raise InvalidRequest(f"linux.seccomp.{data_field}: {data} is not an error number")
    return ACTIONS[name] | data


def _add_architectures(builder: FilterBuilder, names: list[str] | tuple[str, ...]) -> list[int]:
    tokens = []
    for name in names:
        if name not in ARCHITECTURES:
            raise InvalidRequest(f"linux.seccomp.architectures: {name!r} is not an architecture")
        try:
            builder.add_arch(ARCHITECTURES[name])
        except OSError as error:
            raise Unsupported(
                f"linux.seccomp.architectures: {name} cannot be added: {error.strerror}",
                hint="libseccomp is too old for it, or its byte order is not this machine's") from error
        tokens.append(ARCHITECTURES[name])
    return tokens


def _add_rule(builder: FilterBuilder, library: Library, rule: SeccompRule, default: int) -> None:
    action = _action(rule.get("action", ""), rule.get("errnoRet"), "syscalls.action", "syscalls.errnoRet")
    if not rule.get("names"):
        raise InvalidRequest("linux.seccomp.syscalls.names: a rule names no system call")
    conditions = [_condition(condition) for condition in rule.get("args") or ()]
    for name in rule["names"]:
        if not name:
            raise InvalidRequest("linux.seccomp.syscalls.names: an empty name")
        if rule["action"] == NOTIFY and name == "write":
            # As in runc, so that profiles mean the same: there the message about the listener is written under the filter.
            raise InvalidRequest(f"linux.seccomp.syscalls: {NOTIFY} cannot be used for the write syscall")
        number = library.resolve(name)
        # A call that the library does not know is not in this kernel or too new: as in runc, the default action serves.
        if number is None or action == default:
            continue
        for together in _alternatives(conditions):
            try:
                builder.add_rule(action, number, together)
            except OSError as error:
                raise InvalidRequest(f"linux.seccomp.syscalls: rule for {name}: {error.strerror}") from error


def _condition(condition: SeccompArg) -> tuple[int, int, int, int]:
    operator, index = OPERATORS.get(condition.get("op", "")), condition.get("index", -1)
    if operator is None:
        raise InvalidRequest(f"linux.seccomp.syscalls.args.op: {condition.get('op', '')!r} is not an operator")
    if not 0 <= index < _ARGUMENTS:
        raise InvalidRequest(f"linux.seccomp.syscalls.args.index: {index} is not from 0 to 5")
    value = condition.get("value", 0)
    return (index, operator, value, condition.get("valueTwo", 0) if operator == _MASKED_EQ else 0)


def _alternatives(conditions: list[tuple[int, int, int, int]]) -> list[list[tuple[int, int, int, int]]]:
    """Return the conditions of each rule to add: all together, or one by one where two are about the same argument.

    libseccomp takes one condition an argument; that two of them mean "or" is what docker's profiles have always meant.
    """
    indices = [condition[0] for condition in conditions]
    return [conditions] if len(set(indices)) == len(indices) else [[condition] for condition in conditions]


_LD_W_ABS, _RET, _JA, _JEQ, _JGT, _JSET = 0x20, 0x06, 0x05, 0x15, 0x25, 0x45


def _instruction(code: int, k: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, jump_true, jump_false, k)


def _prelude(library: Library, architectures: set[int], rules: list[SeccompRule]) -> bytes:
    """Return the instructions that answer ENOSYS to numbers above the highest of the profile, and else fall through."""
    names = {name for rule in rules for name in rule.get("names", ())}
    highest = {arch: max((library.resolve_for(arch, name) for name in names), default=0) for arch in architectures}
    return b"".join(_sections({arch: number for arch, number in highest.items() if number > 0}))


def _sections(highest: dict[int, int]) -> Iterator[bytes]:
    refuse = _instruction(_RET, ACTIONS["SCMP_ACT_ERRNO"] | errno.ENOSYS)
    x32 = highest.pop(_X32, None)
    if x32 is not None:
        highest.setdefault(_X86_64, _X32_BIT - 1)
    for arch, number in sorted(highest.items()):
        if arch == _X86_64:  # two tables, told apart by a bit
            body = _instruction(_JSET, _X32_BIT, 3) + _instruction(_JGT, number, 0, 1) + refuse + _instruction(_JA, 2)
            body += (_instruction(_JGT, x32, 0, 1) if x32 is not None else _instruction(_JA, 1)) + refuse
        else:
            body = _instruction(_JGT, number, 0, 1) + refuse
        if arch in _S390:  # 0 is how that kernel shows a large number which it does not know
            body = _instruction(_JEQ, 0, 0, 1) + refuse + body
        body = _instruction(_LD_W_ABS, 0) + body
        yield _instruction(_LD_W_ABS, 4) + _instruction(_JEQ, arch, 0, len(body) // 8) + body
