"""The engine's AppArmor profile: which container gets it, its text, and that the kernel has it.

Imported only on a machine whose kernel has AppArmor. The profile is kept as tight as Docker's (moby/profiles,
apparmor/template.go, June 2026) and is loaded with apparmor_parser when the kernel has not got it yet, once after
each boot. A machine without that program has no default profile, as with Docker.
"""
from __future__ import annotations

import os

from mydocker.base import files, log
from mydocker.base.errors import Unavailable
from mydocker.linux.lsm import is_apparmor_enabled, is_profile_loaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.oci.runtime_spec import Process

    from .isolation import Isolation

DEFAULT_PROFILE = "mydocker-default"
UNCONFINED = "unconfined"

_PARSERS = ("/usr/sbin/apparmor_parser", "/sbin/apparmor_parser")
_ABI = "abi/3.0"
_POLICY_DIRECTORY = "/etc/apparmor.d"

#: `@@NAME@@` is the profile, `@@ENGINE@@` what the engine itself is confined by.
_TEXT = """
@{PROC}=/proc/

profile "@@NAME@@" flags=(attach_disconnected,mediate_deleted) {
  # What capabilities, the network and files are, other fences decide; AF_ALG and mounts are none of a container's.
  capability,
  file,
  network,
  deny network alg,
  umount,
  deny mount,

  # The engine may signal what runs in a container, whatever confines the engine; containers only their own kind.
  signal (receive) peer=unconfined,
  signal (receive) peer="@@ENGINE@@",
  signal (send, receive) peer="@@NAME@@",
  ptrace (trace, tracedby, read, readby) peer="@@NAME@@",

  # /proc: files at its top, and whatever is neither a process nor below sys; of sys only kernel/shm*.
  deny @{PROC}/* w,
  deny @{PROC}/{[^1-9/],[^1-9/][^0-9/],[^1-9s/][^0-9y/][^0-9s/],[^1-9/][^0-9/][^0-9/][^0-9/]*}/** w,
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/kcore rwklx,

  # /sys: nothing but cgroups is written, firmware, power meters and security modules are not even read.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
"""


def choose_default(isolation: Isolation | None) -> str:
    """Return the profile of a container that was not given one: ours, or "" for none. Raises Unavailable."""
    if isolation is not None and (isolation.apparmor or isolation.privileged):
        return ""
    if not is_apparmor_enabled() or not find_parser():
        return ""
    ensure_loaded()
    return DEFAULT_PROFILE


def ensure_profile_of(process: Process) -> None:
    """Have the kernel know our profile when a process is to run under it: a boot forgets. Raises Unavailable."""
    if process.get("apparmorProfile") == DEFAULT_PROFILE and is_apparmor_enabled():
        ensure_loaded()


def find_parser() -> str:
    """Return the path of apparmor_parser, "" when it is not installed."""
    return next((path for path in _PARSERS if os.access(path, os.X_OK)), "")


def ensure_loaded() -> None:
    """Load the profile unless the kernel has it. Two at the same time load the same. Raises Unavailable."""
    try:
        if is_profile_loaded(DEFAULT_PROFILE):
            return
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise Unavailable(f"list AppArmor profiles: {reason}", hint="mount securityfs on /sys/kernel/security") from error
    import subprocess  # cold: once after each boot

    # -K: no cache of the parser's own; the environment is not the user's.
    done = subprocess.run(
        [find_parser(), "-Kr"], input=profile_text().encode(), capture_output=True, check=False, env={"PATH": "/usr/sbin:/sbin"})
    log.debug("loaded the AppArmor profile", code=done.returncode)
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().replace("\n", "; ")
        raise Unavailable(
            f"load the AppArmor profile {DEFAULT_PROFILE}: {reason}",
            hint="run with --security-opt apparmor=unconfined to do without")


def profile_text() -> str:
    """Return the profile as apparmor_parser reads it."""
    own = files.read_bytes("/proc/self/attr/current").decode("utf-8", "replace").rstrip("\0\n").rpartition(" (")[0] or UNCONFINED
    text = _TEXT.replace("@@NAME@@", DEFAULT_PROFILE).replace("@@ENGINE@@", own.replace('"', ""))
    # Newer rules would not be what the text means; a parser from before there were versions has no such file.
    return (f"abi <{_ABI}>,\n" if os.path.exists(f"{_POLICY_DIRECTORY}/{_ABI}") else "") + text
