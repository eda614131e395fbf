"""ContainerConfig and image -> OCI runtime spec: one small function for each section. Pure.

The engine's defaults are Docker's (moby daemon/pkg/oci/defaults.go): mounts, masks, capabilities.
Source: runtime-spec 1.2 config.md, config-linux.md.
"""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest
from mydocker.linux import caps
from mydocker.oci.runtime_spec import SPEC_VERSION

from .process_spec import merge_env, set_console_size
from .request import CPU_PERIOD_US, ContainerConfig
from .seccomp import build_seccomp
from .store import cgroups_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mydocker.oci.runtime_spec import Linux, Mount, Process, Resources, Spec

_APPARMOR = "/sys/module/apparmor"
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

MASKED_PATHS = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
    "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
)
_PROCESSORS = "/sys/devices/system/cpu"
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_STANDARD_MOUNTS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
    ("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    ("/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")),
    ("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", "ro")),
    ("/sys/fs/cgroup", "cgroup", "cgroup", ("ro", "nosuid", "noexec", "nodev")),
    ("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
    ("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777", "size=65536k")),
)
#: Files of the container's directory that are bound into it.
ETC_FILES = ("hostname", "hosts", "resolv.conf")
#: /etc/hosts, with room for names of the loopback address.
STANDARD_HOSTS = (
    "127.0.0.1\tlocalhost{}\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n"
    "ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")


#: In a network of its own any user may serve on port 80 and ping, as with docker: ports below 1024 are no mark of trust there.
NETWORK_SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}


def build_spec(config: ContainerConfig, image_config: dict[str, Any], *, container_id: str, directory: str) -> Spec:
    """Return the runtime spec of a container whose files are in `directory`.

    `image_config` is the `config` object of an OCI image configuration ({} when it has none).
    Raises InvalidRequest when neither user nor image says what to run.
    """
    spec: Spec = {
        "ociVersion": SPEC_VERSION,
        "process": build_process(config, image_config, hostname=hostname_of(config, container_id)),
        "root": {"path": "rootfs", "readonly": config.read_only},
        "mounts": build_mounts(config, directory),
        "linux": build_linux(config, container_id),
    }
    if config.network != "host":
        spec["hostname"] = hostname_of(config, container_id)
    if os.path.exists(_APPARMOR):
        from .apparmor import choose_default  # cold: only where the kernel has AppArmor

        if profile := choose_default(config.isolation):
            spec["process"]["apparmorProfile"] = profile
    if config.isolation is not None:
        from .isolation_spec import place_isolation  # cold: most containers have all defaults

        place_isolation(spec, config, config.isolation, container_id=container_id)
    return spec


def hostname_of(config: ContainerConfig, container_id: str) -> str:
    """Return the host name: the user's, the machine's in its own network, else the id."""
    return config.hostname or (os.uname().nodename if config.network == "host" else container_id)


def build_argv(config: ContainerConfig, image_config: dict[str, Any]) -> list[str]:
    """Return the command: entrypoint and arguments, with Docker's rule that an own entrypoint drops the image's CMD."""
    entrypoint = config.entrypoint
    arguments = list(config.argv)
    if entrypoint is None:
        entrypoint = tuple(image_config.get("Entrypoint") or ())
        arguments = arguments or list(image_config.get("Cmd") or ())
    argv = [*entrypoint, *arguments]
    if not argv:
        raise InvalidRequest(f"no command: image {config.image} has none of its own", hint="write it behind the image")
    return argv


def build_env(config: ContainerConfig, image_config: dict[str, Any], hostname: str) -> list[str]:
    """Return the environment, later words replacing earlier ones: defaults, image, user."""
    defaults = [DEFAULT_PATH, f"HOSTNAME={hostname}", *(["TERM=xterm"] if config.tty else [])]
    return merge_env(defaults, image_config.get("Env") or (), config.env)


def build_process(config: ContainerConfig, image_config: dict[str, Any], *, hostname: str) -> Process:
    """Return the `process` section. The user is looked up inside the container, later."""
    names = list(caps.DEFAULT)
    process: Process = {
        "terminal": config.tty,
        "user": {"uid": 0, "gid": 0},
        "args": build_argv(config, image_config),
        "env": build_env(config, image_config, hostname),
        "cwd": config.workdir or image_config.get("WorkingDir") or "/",
        # Inheritable stays empty: CVE-2022-24769.
        "capabilities": {"bounding": names, "effective": names, "permitted": names},
    }
    set_console_size(process, config.console_size if config.tty else None)
    return process


def build_mounts(config: ContainerConfig, directory: str) -> list[Mount]:
    """Return the mounts: the standard ones, the generated files of /etc, the user's by depth.

    What the user mounts takes the place of ours, and /dev takes that of everything below it.
    """
    users: list[Mount] = []
    if config.volumes:
        from .user_mounts import volume_mount  # cold: many mount nothing

        users = [volume_mount(volume) for volume in config.volumes]
    standard: list[Mount] = [
        {"destination": where, "type": kind, "source": source, "options": list(options)}
        for where, kind, source, options in _STANDARD_MOUNTS
    ]
    if config.isolation is not None:
        from .isolation_spec import place_mounts, tmpfs_mounts  # cold

        standard = place_mounts(standard, config.isolation)
        users += tmpfs_mounts(config.isolation)
    standard += [
        {"destination": f"/etc/{name}", "type": "bind", "source": f"{directory}/{name}", "options": ["rbind", "rprivate"]}
        for name in ETC_FILES
    ]
    if config.isolation is not None and (other := config.isolation.network_mode.removeprefix("container:")):
        # Who shares another's network needs its names, too.
        for mount in standard[-len(ETC_FILES) + 1:]:
            mount["source"] = f"{os.path.dirname(directory)}/{other}/{os.path.basename(mount['source'])}"
    if users:
        from .user_mounts import place_users  # cold

        return place_users(standard, users)
    return standard


def build_linux(config: ContainerConfig, container_id: str) -> Linux:
    """Return the `linux` section."""
    kinds = ["pid", "mount", "ipc", "uts", "cgroup"] + ([] if config.network == "host" else ["network"])
    linux: Linux = {
        "namespaces": [{"type": kind} for kind in kinds],
        "cgroupsPath": cgroups_path(config.cgroup_parent, container_id),
        "resources": build_resources(config),
        "maskedPaths": [*MASKED_PATHS, *thermal_paths()],
        "readonlyPaths": list(READONLY_PATHS),
    }
    if config.network != "host" and not config.network.startswith("container:"):
        linux["sysctl"] = dict(NETWORK_SYSCTLS)
    if config.isolation is None and (seccomp := build_seccomp("", caps.DEFAULT)):
        linux["seccomp"] = seccomp
    return linux


def thermal_paths() -> list[str]:
    """Return the counters of each processor's heat, which tell one container what another computes (GHSA-6fw5-f8r9-fgfm)."""
    if not os.path.isdir(f"{_PROCESSORS}/cpu0/thermal_throttle"):
        return []
    return [
        f"{_PROCESSORS}/{name}/thermal_throttle" for name in sorted(os.listdir(_PROCESSORS))
        if name.startswith("cpu") and name[3:].isdigit()]


def build_resources(config: ContainerConfig) -> Resources:
    """Return `linux.resources`: no devices but the default ones, and otherwise only what was asked for."""
    resources: Resources = {"devices": [{"allow": False, "access": "rwm"}]}
    if config.memory_bytes:
        resources["memory"] = {"limit": config.memory_bytes}
        if config.memory_swap_bytes:
            resources["memory"]["swap"] = config.memory_swap_bytes
    cpu = resources.setdefault("cpu", {})
    if config.cpu_shares:
        cpu["shares"] = config.cpu_shares
    if config.cpu_quota_us:
        cpu["quota"] = config.cpu_quota_us
        cpu["period"] = CPU_PERIOD_US
    if config.cpuset_cpus:
        cpu["cpus"] = config.cpuset_cpus
    if config.cpuset_mems:
        cpu["mems"] = config.cpuset_mems
    if not cpu:
        del resources["cpu"]
    if config.pids_limit:
        resources["pids"] = {"limit": config.pids_limit}
    return resources
