"""`Isolation` -> runtime spec: one small function for each section, as in spec.py, which calls these for the few that need it.

Reads the machine where the spec names what only it can tell: device nodes and their numbers, the capabilities
that the engine itself has.
"""
from __future__ import annotations

import os
import stat

from mydocker.base.errors import InvalidRequest
from mydocker.linux import caps
from mydocker.runtime.plan import REAPER_ANNOTATION

from .seccomp import build_seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from mydocker.oci.runtime_spec import BlockIO, Device, DeviceRule, Linux, Mount, Process, Resources, Rlimit, Spec, Throttle

    from .isolation import Isolation
    from .request import ContainerConfig

#: User and group ids of a container with a user namespace of its own, and how many such ranges there are below 2^31.
_IDS, _RANGES = 1 << 16, 30_000
_UNLIMITED = (1 << 64) - 1
#: Directories of /dev that hold no devices of the machine (moby: daemon/pkg/oci/devices_linux.go).
_NO_DEVICES = frozenset(("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"))
#: Mode -> field of Isolation.
_MODES = {"pid": "pid_mode", "ipc": "ipc_mode", "uts": "uts_mode", "user": "user_mode", "cgroup": "cgroup_mode"}


def place_isolation(spec: Spec, config: ContainerConfig, isolation: Isolation, *, container_id: str) -> None:
    """Change a container's default spec to what was asked for. Raises InvalidRequest (a device)."""
    place_process(spec["process"], isolation)
    place_linux(spec["linux"], isolation, container_id)
    place_resources(spec["linux"]["resources"], config, isolation)
    if isolation.uts_mode:
        spec.pop("hostname", None)
    if isolation.domainname:
        spec["domainname"] = isolation.domainname
    if isolation.annotations or isolation.init:
        spec["annotations"] = dict(isolation.annotations) | ({REAPER_ANNOTATION: "true"} if isolation.init else {})


# --- process ------------------------------------------------------------------------------------------


def place_process(process: Process, isolation: Isolation) -> None:
    """Set capabilities, labels, limits and the score."""
    names = container_capabilities(isolation)
    process["capabilities"] = {"bounding": names, "effective": names, "permitted": names}
    if isolation.no_new_privileges:
        process["noNewPrivileges"] = True
    # Without AppArmor nothing is confined; a profile's name then is an error, which is the runtime's.
    if isolation.apparmor and (isolation.apparmor != "unconfined" or os.path.exists("/sys/module/apparmor/parameters/enabled")):
        process["apparmorProfile"] = isolation.apparmor
    if label := selinux_label(isolation):
        process["selinuxLabel"] = label
    if isolation.ulimits:
        process["rlimits"] = [_rlimit(*limit) for limit in isolation.ulimits]
    if isolation.oom_score_adj is not None:
        process["oomScoreAdj"] = isolation.oom_score_adj


def container_capabilities(isolation: Isolation) -> list[str]:
    """Return the capabilities of a container, with docker's rules (moby: daemon/pkg/oci/caps/utils_linux.go).

    `privileged` outdoes what is added and dropped; `add ALL` is all but what is dropped; `drop ALL` is only what
    is added.
    """
    if isolation.privileged:
        return available_capabilities()
    added, dropped = isolation.cap_add, set(isolation.cap_drop)
    if "ALL" in added:
        return [name for name in available_capabilities() if name not in dropped]
    if "ALL" in dropped:
        return list(added)
    return list(dict.fromkeys([name for name in caps.DEFAULT if name not in dropped] + list(added)))


def available_capabilities() -> list[str]:
    """Return all capabilities that this process may hand on: what the kernel knows and its bounding set holds."""
    bounding = caps.read_bounding()
    return [name for name, number in caps.NUMBERS.items() if bounding >> number & 1]


def selinux_label(isolation: Isolation) -> str:
    """Return the process label that `--security-opt label=` asks for, "" for none.

    Like docker, a kernel without SELinux has no labels and nothing to say about them.
    """
    parts = dict(isolation.selinux)
    if not parts or "disable" in parts or not os.path.exists("/sys/fs/selinux/enforce"):
        return ""
    defaults = {"user": "system_u", "role": "system_r", "type": "container_t", "level": "s0"}
    return ":".join(parts.get(part, default) for part, default in defaults.items())


def _rlimit(name: str, soft: int, hard: int) -> Rlimit:
    return {
        "type": f"RLIMIT_{name.upper()}", "soft": soft if soft >= 0 else _UNLIMITED, "hard": hard if hard >= 0 else _UNLIMITED}


# --- linux --------------------------------------------------------------------------------------------


def place_linux(linux: Linux, isolation: Isolation, container_id: str) -> None:
    """Set namespaces, hidden paths, devices, the seccomp filter and sysctls."""
    for kind, field in _MODES.items():
        mode = getattr(isolation, field)
        if mode == "host":
            linux["namespaces"] = [namespace for namespace in linux["namespaces"] if namespace["type"] != kind]
    if isolation.user_mode == "private":
        base = _IDS * (2 + int(container_id) % _RANGES)
        linux["namespaces"] = [*linux["namespaces"], {"type": "user"}]
        linux["uidMappings"] = [{"containerID": 0, "hostID": base, "size": _IDS}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": base, "size": _IDS}]
        if "sysctl" in linux:
            linux["sysctl"]["net.ipv4.ping_group_range"] = f"0 {_IDS - 1}"  # of groups that there are
    if isolation.privileged:
        linux["maskedPaths"], linux["readonlyPaths"] = [], []
    linux["maskedPaths"] = [*uncovered(linux["maskedPaths"], isolation), *isolation.masked]
    linux["readonlyPaths"] = uncovered(linux["readonlyPaths"], isolation)
    devices = [*(machine_devices() if isolation.privileged else []), *(
        device for host, inside, _ in isolation.devices for device in find_devices(host, inside))]
    if devices:
        linux["devices"] = list({device["path"]: device for device in devices}.values())
    if seccomp := build_seccomp(isolation.seccomp, container_capabilities(isolation), privileged=isolation.privileged):
        linux["seccomp"] = seccomp
    if isolation.sysctls:
        linux["sysctl"] = {**linux.get("sysctl", {}), **dict(isolation.sysctls)}


def uncovered(paths: list[str], isolation: Isolation) -> list[str]:
    """Return those of the hidden paths that `unmask` does not name; a pattern of it may hold `*`."""
    if "ALL" in isolation.unmasked:
        return []
    if not isolation.unmasked:
        return paths
    from fnmatch import fnmatchcase  # cold

    return [path for path in paths if not any(fnmatchcase(path, pattern) for pattern in isolation.unmasked)]


def find_devices(host: str, inside: str) -> Iterator[Device]:
    """Yield the device at a path of the host, or all below a directory, as they are to be inside.

    Raises InvalidRequest when there is none.
    """
    try:
        real = os.path.realpath(host, strict=True)
        status = os.stat(real)
        if not stat.S_ISDIR(status.st_mode):
            yield _device(inside, status, host)
            return
        for directory, _, names in os.walk(real):
            for name in sorted(names):
                path = f"{directory}/{name}"
                status = os.lstat(path)
                if _is_device(status):
                    yield _device(inside + path[len(real):], status, path)
    except OSError as error:
        raise InvalidRequest(f"device {host}: {(error.strerror or str(error)).lower()}") from error


def machine_devices() -> list[Device]:
    """Return every device of the machine's /dev, for a privileged container; the terminals of others are not devices of it."""
    found: list[Device] = []
    for directory, directories, names in os.walk("/dev"):
        if directory == "/dev":
            directories[:] = [name for name in directories if name not in _NO_DEVICES]
        for name in sorted(names):
            path = f"{directory}/{name}"
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue  # unplugged while we looked
            if _is_device(status) and path != "/dev/console":
                found.append(_device(path, status, path))
    return found


def _is_device(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)


def _device(inside: str, status: os.stat_result, host: str) -> Device:
    if not _is_device(status):
        raise InvalidRequest(f"device {host}: not a device node")
    return {
        "path": inside, "type": "c" if stat.S_ISCHR(status.st_mode) else "b", "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev), "fileMode": stat.S_IMODE(status.st_mode), "uid": status.st_uid, "gid": status.st_gid,
    }


# --- mounts -------------------------------------------------------------------------------------------


def place_mounts(standard: list[Mount], isolation: Isolation) -> list[Mount]:
    """Return the standard mounts as this container has them."""
    found = []
    for mount in standard:
        where, options = mount["destination"], mount["options"]
        if isolation.privileged and where in ("/sys", "/sys/fs/cgroup"):
            options = [option for option in options if option != "ro"]
        if where == "/dev/shm":
            if isolation.ipc_mode == "none":
                continue
            if isolation.ipc_mode == "host":
                found.append(_bind("/dev/shm", "/dev/shm"))
                continue
            if isolation.shm_bytes:
                options = [option for option in options if not option.startswith("size=")] + [f"size={isolation.shm_bytes}"]
        found.append(mount | {"options": options})
    return found


def _bind(source: str, destination: str) -> Mount:
    return {"destination": destination, "type": "bind", "source": source, "options": ["rbind", "rprivate"]}


def tmpfs_mounts(isolation: Isolation) -> list[Mount]:
    """Return the mounts of `--tmpfs` and `--mount type=tmpfs`; later words win over the defaults, which are docker's."""
    found: list[Mount] = []
    for target, options in isolation.tmpfs:
        found.append({
            "destination": target, "type": "tmpfs", "source": "tmpfs", "options": ["noexec", "nosuid", "nodev", *options]})
    return found


# --- resources ----------------------------------------------------------------------------------------


def place_resources(resources: Resources, config: ContainerConfig, isolation: Isolation) -> None:
    """Set the finer limits, and the devices that may be used."""
    place_device_rules(resources, isolation)
    memory = resources.setdefault("memory", {})
    if isolation.memory_reservation_bytes:
        memory["reservation"] = isolation.memory_reservation_bytes
    if isolation.memory_swappiness is not None:
        memory["swappiness"] = isolation.memory_swappiness
    if isolation.oom_kill_disable:
        memory["disableOOMKiller"] = True
    if not memory:
        del resources["memory"]
    cpu = resources.setdefault("cpu", {})
    if isolation.cpu_quota_us:
        cpu["quota"] = isolation.cpu_quota_us
    if isolation.cpu_period_us:
        cpu["period"] = isolation.cpu_period_us
    if isolation.cpu_rt_runtime_us:
        cpu["realtimeRuntime"] = isolation.cpu_rt_runtime_us
    if isolation.cpu_rt_period_us:
        cpu["realtimePeriod"] = isolation.cpu_rt_period_us
    if not cpu:
        del resources["cpu"]
    if block := block_io(isolation):
        resources["blockIO"] = block


def place_device_rules(resources: Resources, isolation: Isolation) -> None:
    """Add to the list of allowed devices; a later rule wins."""
    rules = list(resources.get("devices", ()))
    if isolation.privileged:
        rules = [{"allow": True, "access": "rwm"}]
    for host, inside, access in isolation.devices:
        for device in find_devices(host, inside):
            rules.append({
                "allow": True, "type": device["type"], "major": device["major"], "minor": device["minor"], "access": access})
    rules += [_rule(word) for word in isolation.device_rules]
    if rules:
        resources["devices"] = rules


def _rule(word: str) -> DeviceRule:
    """Return the rule of `c 42:* rwm`; without a number it counts for all."""
    kind, numbers, access = word.split(" ")
    rule: DeviceRule = {"allow": True, "type": kind, "access": access}
    major, _, minor = numbers.partition(":")
    if major != "*":
        rule["major"] = int(major)
    if minor != "*":
        rule["minor"] = int(minor)
    return rule


def block_io(isolation: Isolation) -> BlockIO:
    """Return `linux.resources.blockIO`; the device files name the numbers."""
    block: BlockIO = {}
    if isolation.blkio_weight:
        block["weight"] = isolation.blkio_weight
    if isolation.blkio_weights:
        block["weightDevice"] = [
            {"major": major, "minor": minor, "weight": weight} for major, minor, weight in _numbered(isolation.blkio_weights)]
    if isolation.read_bps:
        block["throttleReadBpsDevice"] = _throttles(isolation.read_bps)
    if isolation.write_bps:
        block["throttleWriteBpsDevice"] = _throttles(isolation.write_bps)
    if isolation.read_iops:
        block["throttleReadIOPSDevice"] = _throttles(isolation.read_iops)
    if isolation.write_iops:
        block["throttleWriteIOPSDevice"] = _throttles(isolation.write_iops)
    return block


def _throttles(rates: tuple[tuple[str, int], ...]) -> list[Throttle]:
    return [{"major": major, "minor": minor, "rate": rate} for major, minor, rate in _numbered(rates)]


def _numbered(items: tuple[tuple[str, int], ...]) -> Iterator[tuple[int, int, int]]:
    for path, number in items:
        try:
            status = os.stat(path)
        except OSError as error:
            raise InvalidRequest(f"stat {path}: {(error.strerror or str(error)).lower()}") from error
        if not stat.S_ISBLK(status.st_mode):
            raise InvalidRequest(f"{path} is not a block device")
        yield os.major(status.st_rdev), os.minor(status.st_rdev), number
