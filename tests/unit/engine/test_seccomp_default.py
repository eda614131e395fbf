"""The engine's default profile, judged by running its program; docker-format profiles; and both held against each other."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from seccomp_rig import ALLOW, ENOSYS, EPERM, decide, number_of

from mydocker.base.errors import InvalidRequest
from mydocker.engine.seccomp import build_seccomp, evaluate_profile, load_profile
from mydocker.engine.seccomp_default import default_profile
from mydocker.linux import caps
from mydocker.linux.libseccomp import Library
from mydocker.runtime.seccomp import prepare_filter

pytestmark = pytest.mark.needs("libseccomp", "x86_64")

DENIED = (
    "unshare setns mount umount2 pivot_root move_mount open_tree fsopen fsmount fsconfig fspick mount_setattr bpf keyctl add_key "
    "request_key perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register init_module finit_module "
    "delete_module kexec_load kexec_file_load open_by_handle_at reboot swapon swapoff acct settimeofday clock_settime iopl ioperm "
    "quotactl sethostname setdomainname syslog lookup_dcookie kcmp vhangup nfsservctl _sysctl uselib ustat sysfs "
    "move_pages migrate_pages mbind set_mempolicy get_mempolicy process_madvise pidfd_getfd fanotify_init"
).split()


def program(*more: str, machine: str = "x86_64") -> bytes:
    return prepare_filter(default_profile([*caps.DEFAULT, *more], machine)).program


@pytest.mark.parametrize("name", DENIED)
def test_what_a_container_has_no_business_with_is_denied(name: str) -> None:
    assert decide(program(), number_of(name)) == EPERM


@pytest.mark.parametrize("architecture", ["SCMP_ARCH_X86", "SCMP_ARCH_X32"])
def test_the_other_tables_of_the_machine_are_no_way_around(architecture: str) -> None:
    for name in ("unshare", "mount", "keyctl", "bpf", "userfaultfd", "io_uring_setup"):
        assert decide(program(), number_of(name, architecture), architecture=architecture) == EPERM, name
    assert decide(program(), number_of("clone3", architecture), architecture=architecture) == ENOSYS
    assert decide(program(), number_of("read", architecture), architecture=architecture) == ALLOW


def test_clone3_is_said_to_be_missing_and_clone_makes_no_namespace() -> None:
    assert decide(program(), number_of("clone3")) == ENOSYS
    clone = number_of("clone")
    assert decide(program(), clone, (17,)) == ALLOW
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert decide(program(), clone, (flag | 17,)) == EPERM, hex(flag)


def test_sockets_are_denied_for_the_hypervisor_and_the_kernels_crypto_only() -> None:
    families = {family: decide(program(), number_of("socket"), (family,)) for family in range(46)}
    assert {family for family, action in families.items() if action != ALLOW} == {38, 40}


def test_personality_may_only_be_asked_and_set_to_harmless_values() -> None:
    personality = number_of("personality")
    assert decide(program(), personality, (0xFFFFFFFF,)) == ALLOW
    assert decide(program(), personality, (0x0040000,)) == EPERM  # ADDR_NO_RANDOMIZE


@pytest.mark.parametrize("capability, calls", [
    ("CAP_SYS_ADMIN", ("mount", "unshare", "bpf", "clone3", "setns", "fsopen", "perf_event_open")),
    ("CAP_SYS_MODULE", ("init_module",)), ("CAP_SYS_TIME", ("settimeofday", "clock_settime")), ("CAP_BPF", ("bpf",)),
    ("CAP_SYS_PTRACE", ("kcmp", "pidfd_getfd")), ("CAP_SYSLOG", ("syslog",)), ("CAP_PERFMON", ("perf_event_open",)),
    ("CAP_DAC_READ_SEARCH", ("open_by_handle_at",)), ("CAP_SYS_BOOT", ("reboot",)), ("CAP_SYS_NICE", ("mbind",)),
])
def test_a_capability_brings_its_calls(capability: str, calls: tuple[str, ...]) -> None:
    for name in calls:
        assert decide(program(), number_of(name)) != ALLOW
        assert decide(program(capability), number_of(name)) == ALLOW
    assert decide(program(capability), number_of("io_uring_setup")) == EPERM


def test_without_the_capability_for_it_chroot_is_denied() -> None:
    assert decide(program(), number_of("chroot")) == ALLOW
    assert decide(prepare_filter(default_profile((), "x86_64")).program, number_of("chroot")) == EPERM


def test_calls_that_this_profile_does_not_know_yet_are_enosys() -> None:
    assert decide(program(), 5000) == ENOSYS


def test_the_last_stage_needs_nothing_of_any_profile_but_execve_which_the_default_allows() -> None:
    assert decide(program(), number_of("execve")) == ALLOW


@pytest.mark.skipif(not os.path.exists("/usr/share/containers/seccomp.json"), reason="no profile of podman's here to compare with")
def test_nothing_is_allowed_that_podmans_profile_denies_but_what_is_newer() -> None:
    """The profile that podman ships is in Docker's format; Docker's newer one is what ours is modelled on."""
    theirs = load_profile("/usr/share/containers/seccomp.json", caps.DEFAULT)
    assert theirs is not None
    their_program, our_program, library = prepare_filter(theirs).program, program(), Library()
    numbers = {name: library.resolve(name) or -1 for name in _all_names()}
    looser = {
        name for name, number in numbers.items()
        if 0 <= number < 440 and decide(our_program, number) == ALLOW and decide(their_program, number) != ALLOW
    }
    assert looser <= {"vmsplice", "io_pgetevents"}


def _all_names() -> list[str]:
    return [name for rule in default_profile(caps.NUMBERS, "x86_64")["syscalls"] for name in rule["names"]]


def docker_profile(**more: Any) -> dict[str, Any]:
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": None, "comment": "", "includes": {}, "excludes": {}},
            {"name": "write", "action": "SCMP_ACT_ALLOW"},
            {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}},
            {"names": ["both"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF", "CAP_SYS_ADMIN"]}},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390x"]}},
            {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["old"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "4.8"}},
        ], **more}


@pytest.mark.parametrize("held, machine, release, names, architectures", [
    ((), "x86_64", "6.1.0-13-amd64", ["read", "write", "clone", "arch_prctl", "ptrace"], ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]),
    (("CAP_BPF",), "aarch64", "4.7.9", ["read", "write", "bpf", "clone", "old"], ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
    (("CAP_BPF", "CAP_SYS_ADMIN"), "s390x", "10.0-rc1", ["read", "write", "bpf", "both", "ptrace"], None),
])
def test_a_profile_in_dockers_format_is_taken_for_this_machine_and_these_capabilities(
    held: tuple[str, ...], machine: str, release: str, names: list[str], architectures: list[str] | None
) -> None:
    section = evaluate_profile(docker_profile(), held, machine, release)
    assert section is not None
    assert [name for rule in section["syscalls"] for name in rule["names"]] == names
    assert section.get("architectures") == architectures
    assert all(set(rule) <= {"names", "action", "errnoRet", "args"} for rule in section["syscalls"])


@pytest.mark.parametrize("content, words", [
    ("{", "not a JSON document"), ("[]", "not a JSON object"), ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": 5}', "shape"),
    (json.dumps(docker_profile(architectures=["SCMP_ARCH_X86"])), "both architectures and archMap"),
    (json.dumps(docker_profile(syscalls=[{"name": "a", "names": ["b"], "action": "SCMP_ACT_ALLOW"}])), "both name and names"),
    (json.dumps(docker_profile(syscalls=[{"names": ["b"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "x"}}])), "minKernel"),
])
def test_a_file_that_is_no_profile_is_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(content)
    with pytest.raises(InvalidRequest, match=words):
        build_seccomp(str(path), caps.DEFAULT)


def test_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="No such file"):
        build_seccomp("/nonexistent.json", caps.DEFAULT)


def test_unconfined_and_privileged_have_no_filter_but_a_file_counts_for_privileged_too(tmp_path: Path) -> None:
    assert build_seccomp("unconfined", caps.DEFAULT) is None
    assert build_seccomp("", caps.DEFAULT, privileged=True) is None
    (tmp_path / "p.json").write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    assert build_seccomp(str(tmp_path / "p.json"), (), privileged=True) == {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}
    assert build_seccomp("builtin", caps.DEFAULT) == default_profile(caps.DEFAULT, os.uname().machine)
