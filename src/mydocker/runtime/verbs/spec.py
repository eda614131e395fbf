"""`spec`: a config.json to start from."""
from __future__ import annotations

import os

from mydocker.base.errors import Conflict
from mydocker.oci.runtime_spec import SPEC_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mydocker.runtime.cli import Context

_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
_NO_PROGRAMS = ["nosuid", "noexec", "nodev"]
_MASKED = [
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/interrupts", "/sys/firmware", "/sys/devices/virtual/powercap",
]
_READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def run(context: Context) -> int:
    """Write it into the bundle. Raises Conflict when there is one."""
    import json  # cold: indented

    path = os.path.join(context.arguments["bundle"] or ".", "config.json")
    spec = for_rootless(example()) if context.arguments["rootless"] else example()
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise Conflict(f"file {path} exists", hint="remove it first") from None
    with open(fd, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(spec, indent=2) + "\n")
    return 0


def example() -> dict[str, Any]:
    """Return a spec that runs `sh` on a terminal, with nothing that a shell can do without."""
    return {
        "ociVersion": SPEC_VERSION,
        "process": {
            "terminal": True, "user": {"uid": 0, "gid": 0}, "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"], "cwd": "/",
            "capabilities": {"bounding": _CAPABILITIES, "effective": _CAPABILITIES, "permitted": _CAPABILITIES},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}], "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "mydocker",
        "mounts": [
            _mount("/proc", "proc"),
            _mount("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
            _mount("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            _mount("/dev/shm", "tmpfs", [*_NO_PROGRAMS, "mode=1777", "size=65536k"], source="shm"),
            _mount("/dev/mqueue", "mqueue", _NO_PROGRAMS),
            _mount("/sys", "sysfs", [*_NO_PROGRAMS, "ro"]),
            _mount("/sys/fs/cgroup", "cgroup", [*_NO_PROGRAMS, "relatime", "ro"]),
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in _namespaces()],
            "maskedPaths": _MASKED,
            "readonlyPaths": _READ_ONLY,
        },
    }


def _namespaces() -> tuple[str, ...]:
    """As runc: on cgroup v1 a container sees the host's names of its cgroups, and callers add the namespace themselves."""
    from mydocker.linux.cgroup.hierarchy import hierarchy  # cold

    own = ("pid", "network", "ipc", "uts", "mount")
    return (*own, "cgroup") if hierarchy().kind == "v2" else own


def _mount(destination: str, fstype: str, options: list[str] | None = None, *, source: str = "") -> dict[str, Any]:
    entry: dict[str, Any] = {"destination": destination, "type": fstype, "source": source or fstype}
    return {**entry, "options": options} if options else entry


def for_rootless(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a spec for who calls: root inside is the caller, the network is the host's, and nothing needs the host's root."""
    mounts = []
    for mount in spec["mounts"]:
        options = [option for option in mount.get("options", ()) if not option.startswith("gid=")]  # 5 is not mapped
        if mount["destination"] == "/sys":
            # sysfs belongs to a network namespace, and this one is not the container's.
            mount = {**mount, "type": "none", "source": "/sys"}
            options = ["rbind", *options]
        mounts.append({**mount, "options": options} if options else mount)
    namespaces = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "cgroup", "user")]
    linux = {key: value for key, value in spec["linux"].items() if key != "resources"}
    return {**spec, "mounts": mounts, "linux": {
        **linux, "namespaces": namespaces,
        "uidMappings": [{"containerID": 0, "hostID": os.geteuid(), "size": 1}],
        "gidMappings": [{"containerID": 0, "hostID": os.getegid(), "size": 1}],
    }}
