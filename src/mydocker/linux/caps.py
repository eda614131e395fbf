"""Capability names and numbers (capabilities(7), include/uapi/linux/capability.h)."""
from __future__ import annotations

_NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()

#: `CAP_CHOWN` -> 0, and so on.
NUMBERS: dict[str, int] = {f"CAP_{name}": number for number, name in enumerate(_NAMES)}

#: What a container gets when nothing is asked for: Docker's fourteen.
DEFAULT: tuple[str, ...] = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
)


def mask(names: list[str] | tuple[str, ...]) -> int:
    """Return the bit mask of capability names.

    A name that is none is left out, as runc does: a spec may be of a later kernel's time. Whoever reads a
    spec warns of it (runtime/bundle.py); the user's own words are judged in engine/request.py.
    """
    bits = 0
    for name in names:
        if name in NUMBERS:
            bits |= 1 << NUMBERS[name]
    return bits


def read_bounding() -> int:
    """Return this process's bounding set as a bit mask (proc_pid_status(5)): the most that it can hand on. Raises OSError."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as stream:
        for line in stream:
            if line.startswith("CapBnd:"):
                return int(line.split()[1], 16)
    return 0
