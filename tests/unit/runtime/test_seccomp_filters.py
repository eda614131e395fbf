"""`linux.seccomp` -> BPF, judged by running the program; and the cache of programs. No root, no kernel."""
from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from seccomp_rig import ALLOW, ENOSYS, EPERM, decide, errno_action, number_of

from mydocker.base.errors import InvalidRequest, Unsupported
from mydocker.linux import libseccomp
from mydocker.runtime import seccomp, seccomp_compiler
from mydocker.runtime.seccomp import prepare_filter

pytestmark = pytest.mark.needs("libseccomp", "x86_64")

GETCWD, CHDIR, SOCKET, READ = 79, 80, 41, 0


def section(*rules: dict[str, Any], default: str = "SCMP_ACT_ALLOW", **more: Any) -> Any:
    return {"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": list(rules), **more}


def rule(name: str, action: str = "SCMP_ACT_ERRNO", **more: Any) -> dict[str, Any]:
    return {"names": [name], "action": action, **more}


def argument(index: int, operator: str, value: int, value_two: int = 0) -> dict[str, Any]:
    return {"index": index, "op": operator, "value": value, "valueTwo": value_two}


@pytest.mark.parametrize("action, value", [
    ("SCMP_ACT_KILL", 0), ("SCMP_ACT_KILL_THREAD", 0), ("SCMP_ACT_KILL_PROCESS", 0x80000000), ("SCMP_ACT_TRAP", 0x30000),
    ("SCMP_ACT_ERRNO", EPERM), ("SCMP_ACT_TRACE", 0x7FF00001), ("SCMP_ACT_LOG", 0x7FFC0000), ("SCMP_ACT_NOTIFY", 0x7FC00000),
])
def test_every_action_becomes_the_kernels(action: str, value: int) -> None:
    program = prepare_filter(section(rule("getcwd", action), listenerPath="/x" if action == "SCMP_ACT_NOTIFY" else "")).program
    assert decide(program, GETCWD) == value
    assert decide(program, CHDIR) == ALLOW


@pytest.mark.parametrize("operator, value, value_two, matching, others", [
    ("SCMP_CMP_NE", 5, 0, (4, 1 << 40), (5,)), ("SCMP_CMP_LT", 5, 0, (0, 4), (5, 1 << 33)),
    ("SCMP_CMP_LE", 5, 0, (4, 5), (6,)), ("SCMP_CMP_EQ", 1 << 33, 0, (1 << 33,), (0, 1)),
    ("SCMP_CMP_GE", 5, 0, (5, 1 << 60), (4,)), ("SCMP_CMP_GT", 5, 0, (6,), (5, 0)),
    ("SCMP_CMP_MASKED_EQ", 0xF0, 0x20, (0x2F, 0x20, 0x120), (0x30, 0)),
])
def test_every_operator_looks_at_all_64_bits(
    operator: str, value: int, value_two: int, matching: tuple[int, ...], others: tuple[int, ...]
) -> None:
    program = prepare_filter(section(rule("getcwd", args=[argument(1, operator, value, value_two)]))).program
    assert [decide(program, GETCWD, (0, word)) for word in matching] == [EPERM] * len(matching)
    assert [decide(program, GETCWD, (0, word)) for word in others] == [ALLOW] * len(others)


def test_conditions_on_several_arguments_must_all_hold_and_two_on_one_argument_are_alternatives() -> None:
    both = prepare_filter(section(
        rule("getcwd", args=[argument(0, "SCMP_CMP_EQ", 1), argument(1, "SCMP_CMP_EQ", 2)]))).program
    assert decide(both, GETCWD, (1, 2)) == EPERM
    assert decide(both, GETCWD, (1, 3)) == ALLOW
    either = prepare_filter(section(
        rule("getcwd", args=[argument(0, "SCMP_CMP_EQ", 1), argument(0, "SCMP_CMP_EQ", 2)]))).program
    assert [decide(either, GETCWD, (value,)) for value in (1, 2, 3)] == [EPERM, EPERM, ALLOW]


def test_error_numbers_of_rules_and_of_the_default_are_those_of_the_section() -> None:
    program = prepare_filter(section(
        rule("getcwd", errnoRet=errno.ENOTTY), rule("read", "SCMP_ACT_ALLOW"), rule("socket", "SCMP_ACT_ALLOW"),
        default="SCMP_ACT_ERRNO", defaultErrnoRet=errno.ENXIO)).program
    assert decide(program, GETCWD) == errno_action(errno.ENOTTY)
    assert decide(program, 3) == errno_action(errno.ENXIO)
    assert decide(program, READ) == ALLOW


def test_calls_newer_than_the_profile_are_enosys_under_a_strict_default_and_only_there() -> None:
    strict = section(rule("getcwd", "SCMP_ACT_ALLOW"), default="SCMP_ACT_ERRNO")
    assert decide(prepare_filter(strict).program, GETCWD + 1) == ENOSYS
    assert decide(prepare_filter(strict).program, GETCWD - 1) == EPERM
    assert decide(prepare_filter(section(rule("getcwd"))).program, 5000) == ALLOW
    kill = prepare_filter(section(rule("getcwd", "SCMP_ACT_ALLOW"), default="SCMP_ACT_KILL_PROCESS")).program
    assert decide(kill, 5000) == ENOSYS
    assert decide(kill, 1) == 0x80000000


def test_every_architecture_has_its_own_table_and_its_own_last_call() -> None:
    everything = section(rule("getcwd", "SCMP_ACT_ALLOW"), rule("writev", "SCMP_ACT_ALLOW"), default="SCMP_ACT_ERRNO")
    everything["architectures"] = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"]
    program = prepare_filter(everything).program
    for architecture in everything["architectures"]:
        last = max(number_of(name, architecture) for name in ("getcwd", "writev"))
        assert decide(program, number_of("getcwd", architecture), architecture=architecture) == ALLOW
        assert decide(program, last + 1, architecture=architecture) == ENOSYS, architecture
        assert decide(program, number_of("close", architecture), architecture=architecture) == EPERM
    # An architecture that is not in the list is killed, whatever it calls.
    assert decide(program, 0, architecture="SCMP_ARCH_RISCV64") == 0


def test_unknown_calls_are_skipped_and_rules_that_say_the_default_are_no_error() -> None:
    program = prepare_filter(section(
        rule("no_such_call"), rule("arm_fadvise64_64"), rule("getcwd", "SCMP_ACT_ALLOW"), rule("chdir"))).program
    assert decide(program, CHDIR) == EPERM
    assert decide(program, GETCWD) == ALLOW


@pytest.mark.parametrize("flags, value", [
    (None, 4), ([], 0), (["SECCOMP_FILTER_FLAG_TSYNC"], 0), (["SECCOMP_FILTER_FLAG_LOG"], 2),
    (["SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG"], 6), (["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], 0),
])
def test_flags_become_the_kernels(flags: list[str] | None, value: int) -> None:
    wanted = section(rule("getcwd"))
    if flags is not None:
        wanted["flags"] = flags
    assert prepare_filter(wanted).flags == value


def test_a_listener_that_no_rule_has_a_use_for_is_ignored() -> None:
    made = prepare_filter(section(rule("getcwd"), listenerPath="/agent"))
    assert (made.flags, made.listener_path) == (4, "")


def test_a_rule_that_notifies_asks_for_a_listener() -> None:
    wanted = section(rule("getcwd", "SCMP_ACT_NOTIFY"), listenerPath="/agent", listenerMetadata="m", flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])
    made = prepare_filter(wanted)
    assert (made.flags, made.listener_path, made.listener_metadata) == (8 | 32, "/agent", "m")


@pytest.mark.parametrize("wrong, field", [
    (section(rule("getcwd", "SCMP_ACT_NO")), "linux.seccomp.syscalls.action"),
    (section(default="SCMP_ACT_NO"), "linux.seccomp.defaultAction"),
    (section(default="SCMP_ACT_NOTIFY"), "linux.seccomp.defaultAction"),
    (section(rule("getcwd", errnoRet=70000)), "linux.seccomp.syscalls.errnoRet"),
    (section(default="SCMP_ACT_ERRNO", defaultErrnoRet=-1), "linux.seccomp.defaultErrnoRet"),
    (section(rule("getcwd", args=[argument(6, "SCMP_CMP_EQ", 0)])), "linux.seccomp.syscalls.args.index"),
    (section(rule("getcwd", args=[argument(0, "SCMP_CMP_XX", 0)])), "linux.seccomp.syscalls.args.op"),
    (section(rule("")), "linux.seccomp.syscalls.names"),
    (section({"names": [], "action": "SCMP_ACT_ERRNO"}), "linux.seccomp.syscalls.names"),
    (section(rule("getcwd"), flags=["SECCOMP_FILTER_FLAG_NO"]), "linux.seccomp.flags"),
    (section(rule("getcwd"), architectures=["SCMP_ARCH_VAX"]), "linux.seccomp.architectures"),
    (section(rule("getcwd", "SCMP_ACT_NOTIFY")), "linux.seccomp.listenerPath"),
    (section(rule("write", "SCMP_ACT_NOTIFY"), listenerPath="/agent"), "linux.seccomp.syscalls"),
])
def test_an_error_names_its_field(wrong: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        prepare_filter(wrong)
    assert caught.value.message.startswith(f"{field}:")


def test_a_machine_without_the_library_gives_an_error_that_names_the_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libseccomp, "LIBRARY", "libseccomp-that-is-not-there.so.2")
    with pytest.raises(Unsupported, match=r"linux\.seccomp: libseccomp-that-is-not-there\.so\.2") as caught:
        prepare_filter(section(rule("getcwd")))
    assert caught.value.hint


def test_no_section_and_one_that_says_nothing_are_no_filter() -> None:
    assert prepare_filter(None).program == b""
    assert prepare_filter({}).program == b""
    assert prepare_filter({"architectures": ["SCMP_ARCH_X86"]}).program == b""


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Count what is really compiled."""
    calls: list[Any] = []
    compile_section = seccomp_compiler.compile_section

    def counted(wanted: Any) -> tuple[bytes, str]:
        calls.append(wanted)
        return compile_section(wanted)

    monkeypatch.setattr(seccomp_compiler, "compile_section", counted)
    yield calls


def test_a_section_is_compiled_once_and_then_comes_from_the_cache(tmp_path: Path, compiled: list[Any]) -> None:
    cache = str(tmp_path / "seccomp")
    first = prepare_filter(section(rule("getcwd")), cache)
    assert prepare_filter(section(rule("getcwd")), cache) == first
    assert len(compiled) == 1
    assert prepare_filter(section(rule("chdir")), cache) != first
    assert len(compiled) == 2
    assert os.stat(cache).st_mode & 0o777 == 0o700
    assert {os.stat(f"{cache}/{name}").st_mode & 0o777 for name in os.listdir(cache)} == {0o600}


@pytest.mark.parametrize("damage", [
    lambda content: b"", lambda content: content[:-3], lambda content: content[:-8],
    lambda content: content[:-1] + bytes([content[-1] ^ 1]), lambda content: content[:20], lambda content: content + b"\0" * 8, lambda content: content * 1000,
], ids=["empty", "torn", "an instruction short", "a bit flipped", "header cut", "longer", "huge"])
def test_a_spoiled_entry_is_never_used_but_made_anew(tmp_path: Path, compiled: list[Any], damage: Any) -> None:
    cache = str(tmp_path)
    first = prepare_filter(section(rule("getcwd")), cache)
    [name] = os.listdir(cache)
    entry = tmp_path / name
    good = entry.read_bytes()
    entry.write_bytes(damage(good))
    assert prepare_filter(section(rule("getcwd")), cache) == first
    assert len(compiled) == 2
    assert entry.read_bytes() == good


def test_an_entry_of_another_library_is_made_anew(tmp_path: Path, compiled: list[Any]) -> None:
    prepare_filter(section(rule("getcwd")), str(tmp_path))
    [name] = os.listdir(tmp_path)
    content = (tmp_path / name).read_bytes()[seccomp._DIGEST_BYTES:].replace(b" ", b" 9", 1)
    (tmp_path / name).write_bytes(seccomp._digest(content) + content)
    prepare_filter(section(rule("getcwd")), str(tmp_path))
    assert len(compiled) == 2


def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path: Path, compiled: list[Any]) -> None:
    (tmp_path / "file").write_text("")
    first = prepare_filter(section(rule("getcwd")), str(tmp_path / "file" / "seccomp"))
    assert first.program
    assert prepare_filter(section(rule("getcwd")), str(tmp_path / "file" / "seccomp")) == first
    assert len(compiled) == 2


def test_the_cache_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "_MAX_ENTRIES", 3)
    for number in range(7):
        prepare_filter(section(rule("getcwd", errnoRet=number + 1)), str(tmp_path))
        assert len(os.listdir(tmp_path)) <= 3
