"""Linux security modules: which there are, and which labels of a process can be honoured.

Knows where the kernel tells; writing a label for the next execve is the last stage's (csrc/init/labels.h), because
it must be its own last execve's.

Source: apparmor(7), selinuxfs; runtime-spec config.md "apparmorProfile", "selinuxLabel".
"""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest, Unsupported

_APPARMOR_ENABLED = "/sys/module/apparmor/parameters/enabled"
_APPARMOR_PROFILES = "/sys/kernel/security/apparmor/policy/profiles"
_SELINUX_MOUNT = "/sys/fs/selinux"
_MAX_LABEL_BYTES = 4000  # the kernel takes a page


def is_apparmor_enabled() -> bool:
    """Tell whether the kernel enforces AppArmor profiles."""
    try:
        fd = os.open(_APPARMOR_ENABLED, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False  # no such module
    try:
        return os.read(fd, 1) == b"Y"
    finally:
        os.close(fd)


def is_selinux_enabled() -> bool:
    """Tell whether SELinux runs with a policy: only then is its file system mounted."""
    return os.path.exists(f"{_SELINUX_MOUNT}/enforce")


def is_profile_loaded(name: str) -> bool:
    """Tell whether the kernel has an AppArmor profile of this name. Raises OSError where profiles cannot be listed."""
    # The directory's entries are the names, `/` replaced in them, with a number behind.
    return any(entry.rpartition(".")[0] == name for entry in os.listdir(_APPARMOR_PROFILES))


def judge_labels(apparmor_profile: str, selinux_label: str) -> tuple[str, str]:
    """Return the profile and label to set ("" for none). Raises Unsupported, InvalidRequest by field."""
    for field, text in (("apparmorProfile", apparmor_profile), ("selinuxLabel", selinux_label)):
        if "\0" in text or "\n" in text or len(text) > _MAX_LABEL_BYTES:
            raise InvalidRequest(f"process.{field}: {text[:80]!r} is not a label")
    if apparmor_profile and not is_apparmor_enabled():
        raise Unsupported(f"process.apparmorProfile: {apparmor_profile}: AppArmor is not enabled on this machine")
    if selinux_label and not is_selinux_enabled():
        raise Unsupported(f"process.selinuxLabel: {selinux_label}: SELinux is not enabled on this machine")
    return apparmor_profile, selinux_label
