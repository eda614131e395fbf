"""`--security-opt seccomp=...` -> the `linux.seccomp` section: the engine's default, none, or a profile of the user's.

A file may hold a section of the runtime spec, or a profile in Docker's format, whose rules also say for which
capabilities, architectures and kernels they are (moby/profiles, seccomp/seccomp.go: includes, excludes, archMap).
"""
from __future__ import annotations

import os

from mydocker.base import files
from mydocker.base.errors import Corrupt, InvalidRequest

from .seccomp_default import ARCHITECTURES, default_profile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from mydocker.oci.runtime_spec import Seccomp, SeccompRule

UNCONFINED = "unconfined"
#: Docker's words for the default, and ours.
_DEFAULT = ("", "builtin", "default")

#: uname(2)'s machine -> Go's word, which Docker's profiles use.
_GO_ARCHITECTURES = {
    "x86_64": "amd64", "aarch64": "arm64", "i686": "x86", "armv7l": "arm", "mips64": "mips64", "ppc64le": "ppc64le",
    "s390x": "s390x", "riscv64": "riscv64", "loongarch64": "loongarch64",
}
_RULE_FIELDS = ("names", "action", "errnoRet", "args")
_SECTION_FIELDS = ("defaultAction", "defaultErrnoRet", "architectures", "flags", "listenerPath", "listenerMetadata")


def build_seccomp(choice: str, capabilities: Collection[str], *, privileged: bool = False) -> Seccomp | None:
    """Return the section for `choice`: '' (the default), `unconfined` or a file's path; None is no filter.

    `capabilities` are those of the bounding set. A privileged container has no filter unless it was asked for,
    as in Docker. Raises InvalidRequest.
    """
    if choice == UNCONFINED or (privileged and choice in _DEFAULT):
        return None
    if choice in _DEFAULT:
        return default_profile(capabilities, os.uname().machine)
    return load_profile(choice, capabilities)


def load_profile(path: str, capabilities: Collection[str]) -> Seccomp | None:
    """Return the section that a profile file stands for, here and with these capabilities. Raises InvalidRequest."""
    try:
        profile = files.load_json(path)
        if not isinstance(profile, dict):
            raise Corrupt(f"read {path}: not a JSON object")
    except OSError as error:
        raise InvalidRequest(f"read the seccomp profile {path}: {os.strerror(error.errno or 0)}") from error
    except Corrupt as error:
        raise InvalidRequest(f"seccomp profile: {error.message}") from error
    uname = os.uname()
    try:
        return evaluate_profile(profile, capabilities, uname.machine, uname.release)
    except (TypeError, AttributeError, KeyError) as error:
        raise InvalidRequest(f"seccomp profile {path}: it is not of the shape of a profile") from error


def evaluate_profile(
    profile: Mapping[str, Any], capabilities: Collection[str], machine: str, release: str
) -> Seccomp | None:
    """Return the section that a profile stands for with these capabilities, on this machine and kernel. Pure.

    Raises InvalidRequest where it contradicts itself.
    """
    if not profile.get("defaultAction") and not profile.get("syscalls"):
        return None
    if profile.get("architectures") and profile.get("archMap"):
        raise InvalidRequest("seccomp profile: both architectures and archMap")
    section: Any = {field: profile[field] for field in _SECTION_FIELDS if profile.get(field) is not None}
    native = ARCHITECTURES.get(machine, ("",))[0]
    for entry in profile.get("archMap") or ():
        if entry["architecture"] == native:
            section["architectures"] = [native, *(entry.get("subArchitectures") or ())]
    section["syscalls"] = [
        _rule(rule) for rule in profile.get("syscalls") or () if _counts(rule, capabilities, machine, release)]
    result: Seccomp = section
    return result


def _rule(rule: Mapping[str, Any]) -> SeccompRule:
    if rule.get("name") and rule.get("names"):
        raise InvalidRequest("seccomp profile: a rule with both name and names")
    result: Any = {field: rule[field] for field in _RULE_FIELDS if rule.get(field) is not None}
    if rule.get("name"):
        result["names"] = [rule["name"]]
    plain: SeccompRule = result
    return plain


def _counts(rule: Mapping[str, Any], capabilities: Collection[str], machine: str, release: str) -> bool:
    """Tell whether a rule is for these circumstances: all that it includes hold, none that it excludes does."""
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    architecture = _GO_ARCHITECTURES.get(machine, machine)
    if architecture in (excludes.get("arches") or ()) or any(cap in capabilities for cap in excludes.get("caps") or ()):
        return False
    if excludes.get("minKernel") and _is_at_least(release, excludes["minKernel"]):
        return False
    if includes.get("arches") and architecture not in includes["arches"]:
        return False
    if includes.get("minKernel") and not _is_at_least(release, includes["minKernel"]):
        return False
    return all(cap in capabilities for cap in includes.get("caps") or ())


def _is_at_least(release: str, wanted: str) -> bool:
    """Compare `major.minor` of a kernel's release with that of a profile. Raises InvalidRequest."""
    try:
        major, minor = (int(part) for part in wanted.split("."))
        own = release.replace("-", ".").split(".")
        return (int(own[0]), int(own[1])) >= (major, minor)
    except (ValueError, IndexError):
        raise InvalidRequest(f"seccomp profile: minKernel {wanted!r} is not MAJOR.MINOR") from None
