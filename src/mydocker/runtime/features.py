"""What this runtime supports, as documents: `--version`, and `features` (runtime-spec features.md, features-linux.md)."""
from __future__ import annotations

from mydocker.base.version import VERSION
from mydocker.oci.runtime_spec import SPEC_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The newest version of the specification that a bundle may be of; what we write is SPEC_VERSION's, for older readers.
_NEWEST = "1.3.0"
HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
_ACTIONS = ("ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "KILL_THREAD", "LOG", "NOTIFY", "TRACE", "TRAP")
_OPERATORS = ("EQ", "GE", "GT", "LE", "LT", "MASKED_EQ", "NE")
_ARCHITECTURES = (
    "AARCH64", "ARM", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32", "PPC", "PPC64", "PPC64LE", "RISCV64",
    "S390", "S390X", "X32", "X86", "X86_64",
)
_FLAGS = ("SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
          "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")


def version_text() -> str:
    """Return what `--version` prints; callers take the first line's last word."""
    return f"mydocker-runtime version {VERSION}\nspec: {SPEC_VERSION}"


def document() -> dict[str, Any]:
    """Return the features document: what the program implements, whatever this kernel lacks of it."""
    from mydocker.linux.caps import NUMBERS

    from .attributes import MEMORY_FLAGS, MEMORY_MODES
    from .mountopts import MOUNT_OPTIONS
    from .namespaces import FLAGS

    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": _NEWEST,
        "hooks": list(HOOKS),
        "mountOptions": sorted(MOUNT_OPTIONS),
        "linux": {
            "namespaces": sorted(FLAGS),
            "capabilities": list(NUMBERS),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": False, "rdma": True},
            "seccomp": {
                "enabled": True,
                "actions": [f"SCMP_ACT_{name}" for name in _ACTIONS],
                "operators": [f"SCMP_CMP_{name}" for name in _OPERATORS],
                "archs": [f"SCMP_ARCH_{name}" for name in _ARCHITECTURES],
                "knownFlags": list(_FLAGS),
                "supportedFlags": list(_FLAGS),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
            "memoryPolicy": {"modes": list(MEMORY_MODES), "flags": list(MEMORY_FLAGS)},
            "netDevices": {"enabled": True},
        },
        "annotations": {
            "io.github.mydocker.runtime.version": VERSION,
            "org.opencontainers.runc.checkpoint.enabled": "false",
        },
        "potentiallyUnsafeConfigAnnotations": [],
    }
