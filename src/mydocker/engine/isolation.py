"""The judge's other half: what few containers ask for, so that the many do not import it.

Privileges, devices, namespaces shared with others, and the finer limits: options as typed or as Python
values -> `Isolation`, with the same promise as engine/request.py, which calls this: nothing behind it
looks at user input again. engine/isolation_spec.py places the result.
"""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest
from mydocker.base.record import Record
from mydocker.base.units import parse_size
from mydocker.linux import caps
from mydocker.oci import platform
from mydocker.runtime.plan import OWN_PROGRAM

from .mounts import judge_mounts, judge_tmpfs, pairs
from .request import NETWORK_OPTIONS, RULES, clean_path, flag, judge_labels, whole_number, words
from .request import text_line as text
from .security import judge_security

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


class Isolation(Record):
    """What a container may do and shares, where it differs from the defaults. Sizes in bytes, times in microseconds.

    A namespace mode is "" (the default: its own), `host`, `none`, `shareable`, or `container:<id or name>`.
    `devices` are (host path, path inside, access), device limits (host path, number), `tmpfs` (path inside, options).
    """

    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool = False
    seccomp: str = ""
    apparmor: str = ""
    selinux: tuple[tuple[str, str], ...] = ()
    masked: tuple[str, ...] = ()
    unmasked: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    ulimits: tuple[tuple[str, int, int], ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    devices: tuple[tuple[str, str, str], ...] = ()
    device_rules: tuple[str, ...] = ()
    tmpfs: tuple[tuple[str, tuple[str, ...]], ...] = ()
    shm_bytes: int = 0
    pid_mode: str = ""
    ipc_mode: str = ""
    uts_mode: str = ""
    user_mode: str = ""
    cgroup_mode: str = ""
    network_mode: str = ""
    init: bool = False
    oom_score_adj: int | None = None
    oom_kill_disable: bool = False
    annotations: tuple[tuple[str, str], ...] = ()
    domainname: str = ""
    memory_reservation_bytes: int = 0
    memory_swappiness: int | None = None
    cpu_period_us: int = 0
    cpu_quota_us: int = 0
    cpu_rt_period_us: int = 0
    cpu_rt_runtime_us: int = 0
    blkio_weight: int = 0
    blkio_weights: tuple[tuple[str, int], ...] = ()
    read_bps: tuple[tuple[str, int], ...] = ()
    write_bps: tuple[tuple[str, int], ...] = ()
    read_iops: tuple[tuple[str, int], ...] = ()
    write_iops: tuple[tuple[str, int], ...] = ()

    def to_document(self) -> dict[str, Any]:
        """Return what differs from the defaults as a JSON object."""
        return {name: value for name, value in self.as_dict().items() if value != type(self)._defaults[name]}


def judge_isolation(options: Mapping[str, Any], values: dict[str, Any]) -> None:
    """Judge the options that request.py does not know, and add what they come to to its `values`.

    Raises InvalidRequest, also for a name that nobody knows.
    """
    found: dict[str, Any] = {}
    if values["network"].startswith("container:"):
        found["network_mode"] = values["network"]
    for name, value in options.items():
        if name in _IGNORED:
            _IGNORED[name](value, name)
        elif name == "security_opt":
            found.update(judge_security(value, name))
        elif name == "runtime":
            values["runtime"] = _runtime(value, name)
        elif name == "pull":
            values["pull"] = _pull(value, name)
        elif name == "platform":
            values["platform"] = _platform(value, name)
        elif name == "insecure_registry":
            values["insecure_registries"] = tuple(words(value, name))
        elif name == "cgroup_parent":
            values["cgroup_parent"] = _cgroup_parent(value, name)
        elif name == "label_file":
            from .env_files import read_lines_file  # cold

            lines = [line for path in words(value, name) for line in read_lines_file(path, "label file")]
            values["labels"] = tuple({**dict(judge_labels(lines, name)), **dict(values.get("labels", ()))}.items())
        elif name == "mount":
            volumes, tmpfs = judge_mounts(value, name)
            values["volumes"] = (*values.get("volumes", ()), *volumes)
            found["tmpfs"] = (*found.get("tmpfs", ()), *tmpfs)
        elif name == "volumes_from":
            from .volume_request import judge_volumes_from  # cold

            values["volumes_from"] = judge_volumes_from(value, name)
        elif name == "volume_driver":
            from .volume_request import judge_driver  # cold

            judge_driver(value, name)
        elif name == "tmpfs":
            found["tmpfs"] = (*found.get("tmpfs", ()), *judge_tmpfs(value, name))
        elif name in _RULES:
            field, check = _RULES[name]
            found[field] = check(value, name)
        else:
            raise InvalidRequest(f"unknown option {name}", hint=f"options are {', '.join(option_names())}")
    isolation = Isolation(**found)
    _judge_together(isolation, values)
    if isolation.user_mode == "private":
        _judge_private_users(isolation, values.get("network", "none"))
        # Mounts its root where these users can reach it: see runtime/private_users.py.
        values["runtime"] = values.get("runtime") or OWN_PROGRAM
    if isolation != Isolation():
        values["isolation"] = isolation


def option_names() -> list[str]:
    """Return the keywords that `judge` takes."""
    return sorted((*RULES, *NETWORK_OPTIONS, *_RULES, *_IGNORED, *_ELSEWHERE))


def _judge_together(isolation: Isolation, values: Mapping[str, Any]) -> None:
    if values.get("cpu_quota_us") and (isolation.cpu_quota_us or isolation.cpu_period_us):
        raise InvalidRequest("cpus says both quota and period: cpu_quota and cpu_period cannot be given beside it")
    memory_bytes = values.get("memory_bytes", 0)
    if memory_bytes and isolation.memory_reservation_bytes > memory_bytes:
        raise InvalidRequest("memory_reservation must not be more than memory")
    if 0 < isolation.cpu_rt_period_us < isolation.cpu_rt_runtime_us:
        raise InvalidRequest("cpu_rt_runtime cannot be higher than cpu_rt_period")
    if isolation.uts_mode and (values.get("hostname") or isolation.domainname):
        raise InvalidRequest("hostname and domainname conflict with a UTS namespace that is not the container's own")
    if isolation.oom_kill_disable and not memory_bytes:
        raise InvalidRequest(
            "oom_kill_disable needs a memory limit: without one the whole machine could stall", hint="add --memory")
    _judge_sysctls(isolation, values.get("network", "none"))
    targets = [target for target, _ in isolation.tmpfs]
    volumes = {volume.target for volume in values.get("volumes", ())}
    for target in targets:
        if targets.count(target) > 1 or target in volumes:
            raise InvalidRequest(f"tmpfs: two mounts would be at {target}")


def _judge_private_users(isolation: Isolation, network: str) -> None:
    """Refuse what takes rights over namespaces of the machine's users."""
    if isolation.privileged:
        raise InvalidRequest("privileged is incompatible with userns private: it means rights over the machine")
    modes = {kind: getattr(isolation, f"{kind}_mode") for kind in ("pid", "ipc", "uts", "cgroup")}
    shared = [kind for kind, mode in modes.items() if mode not in ("", "none", "shareable")]
    if network == "host":
        shared.append("network")
    if shared:
        raise InvalidRequest(f"userns private: cannot share the {shared[0]} namespace of others when the user ids are not theirs")


def _judge_sysctls(isolation: Isolation, network: str) -> None:
    """Refuse what would be the host's or another container's: a sysctl belongs to a namespace."""
    for key, _ in isolation.sysctls:
        if key.startswith("net.") and network == "host":
            raise InvalidRequest(f"sysctl {key} is the host's: the container has no network of its own")
        if not key.startswith("net.") and (isolation.ipc_mode == "host" or isolation.ipc_mode.startswith("container:")):
            raise InvalidRequest(f"sysctl {key} belongs to an IPC namespace that is not the container's own")


# --- process ------------------------------------------------------------------------------------------


def _capabilities(value: Any, what: str) -> tuple[str, ...]:
    found = []
    for word in words(value, what):
        name = word.strip().upper()
        if name != "ALL":
            name = f"CAP_{name.removeprefix('CAP_')}"
            if name not in caps.NUMBERS:
                raise InvalidRequest(f'{what}: unknown capability: "{name}"', hint="capabilities(7) lists them")
        found.append(name)
    return tuple(dict.fromkeys(found))


def _groups(value: Any, what: str) -> tuple[str, ...]:
    items = [value] if isinstance(value, int) else value
    groups = tuple(text(str(word), what) for word in ([items] if isinstance(items, str) else items))
    if not all(groups) or any(":" in group for group in groups):
        raise InvalidRequest(f"{what}: a group is a name or a number")
    return groups


_ULIMITS = frozenset((
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime",
    "sigpending", "stack", "as",
))


def _ulimits(value: Any, what: str) -> tuple[tuple[str, int, int], ...]:
    found: dict[str, tuple[str, int, int]] = {}
    for name, limits in pairs(value, what):
        if name.lower() not in _ULIMITS:
            raise InvalidRequest(f"{what}: invalid ulimit type: {name}", hint=f"types are {', '.join(sorted(_ULIMITS))}")
        parts = list(limits) if isinstance(limits, (tuple, list)) else str(limits).split(":")
        if not 1 <= len(parts) <= 2:
            raise InvalidRequest(f"{what} {name}={limits}: too many limits", hint="write NAME=SOFT[:HARD]")
        soft, hard = _ulimit(parts[0], f"{what} {name}"), _ulimit(parts[-1], f"{what} {name}")
        if hard >= 0 and (soft > hard or soft < 0):
            raise InvalidRequest(f"{what} {name}: soft limit must be less than or equal to hard limit: {soft} > {hard}")
        found[name.lower()] = (name.lower(), soft, hard)
    return tuple(found.values())


def _ulimit(value: Any, what: str) -> int:
    return -1 if value == "unlimited" else whole_number(-1, (1 << 63) - 1)(value, what)


_SYSCTLS = frozenset((
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
    "kernel.shm_rmid_forced",
))
_KEY_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_VALUE_LETTERS = _KEY_LETTERS | frozenset(" \t.,:/")


def _sysctls(value: Any, what: str) -> tuple[tuple[str, str], ...]:
    """Only settings of a namespace; a key is a path below /proc/sys, so nothing in it may lead elsewhere (CVE-2022-0811)."""
    found: dict[str, str] = {}
    for key, setting in pairs(value, what):
        parts = key.replace("/", ".").split(".")
        if not all(part and _KEY_LETTERS.issuperset(part) for part in parts):
            raise InvalidRequest(f"{what} {key!r} is not the name of a setting")
        name = ".".join(parts)
        if not name.startswith(("net.", "fs.mqueue.")) and name not in _SYSCTLS:
            raise InvalidRequest(
                f"{what} {key!r} is not allowed: it is not of a namespace but of the machine",
                hint="net.*, fs.mqueue.* and kernel.msg*, kernel.sem, kernel.shm* are")
        setting = str(setting)
        if not setting or not _VALUE_LETTERS.issuperset(setting):
            raise InvalidRequest(f"{what} {key}: {setting!r} is not a value")
        found[key] = setting
    return tuple(found.items())


# --- devices ------------------------------------------------------------------------------------------


def _devices(value: Any, what: str) -> tuple[tuple[str, str, str], ...]:
    return tuple(_device(word, what) for word in words(value, what))


def _device(word: str, what: str) -> tuple[str, str, str]:
    parts = word.split(":")
    host, inside, access = parts[0], "", "rwm"
    if len(parts) == 2 and _is_access(parts[1]):
        access = parts[1]
    elif len(parts) in (2, 3):
        inside = parts[1]
        access = parts[2] if len(parts) == 3 else access
    elif len(parts) != 1:
        raise InvalidRequest(f"{what}: invalid device specification: {word}", hint="write HOST[:CONTAINER[:rwm]]")
    if not _is_access(access):
        raise InvalidRequest(f"{what} {word}: bad mode specified: {access}", hint="use letters of rwm")
    inside = inside or host
    for path in (host, inside):
        if not path.startswith("/") or "\0" in path or "\n" in path:
            raise InvalidRequest(f"{what} {word}: {path} is not an absolute path")
    if ".." in inside.split("/") or clean_path(inside) == "/":
        raise InvalidRequest(f"{what} {word}: {inside} is not a place for a device")
    return host, clean_path(inside), access


def _is_access(word: str) -> bool:
    return 0 < len(word) == len(set(word)) and set("rwm").issuperset(word)


def _device_rules(value: Any, what: str) -> tuple[str, ...]:
    return tuple(_device_rule(word, what) for word in words(value, what))


def _device_rule(word: str, what: str) -> str:
    kind, _, rest = word.partition(" ")
    numbers, _, access = rest.partition(" ")
    major, colon, minor = numbers.partition(":")
    if kind not in ("a", "b", "c") or not colon or not _is_access(access) or not all(
            number == "*" or (number.isascii() and number.isdigit() and int(number) < 1 << 32) for number in (major, minor)):
        raise InvalidRequest(f"{what}: invalid device cgroup format '{word}'", hint="write such as 'c 42:* rmw'")
    return word


def _rates(parse: Callable[[str, str], int]) -> Callable[[Any, str], tuple[tuple[str, int], ...]]:
    def check(value: Any, what: str) -> tuple[tuple[str, int], ...]:
        items = [f"{path}:{rate}" for path, rate in value.items()] if hasattr(value, "items") else words(value, what)
        return tuple(_rate(item, what, parse) for item in items)

    return check


def _rate(item: str, what: str, parse: Callable[[str, str], int]) -> tuple[str, int]:
    path, colon, rate = item.rpartition(":")
    if not colon or not rate:
        raise InvalidRequest(f"{what}: bad format: {item}", hint="write DEVICE:NUMBER, such as /dev/sda:10mb")
    if not path.startswith("/dev/"):
        raise InvalidRequest(f"{what} {item}: bad format for device path: {path}")
    return path, parse(rate, f"{what} {path}")


def _bytes(value: Any, what: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return whole_number(0, (1 << 63) - 1)(value, what)
    return parse_size(text(value, what), what=what)


# --- namespaces and the rest --------------------------------------------------------------------------


def _mode(*modes: str) -> Callable[[Any, str], str]:
    def check(value: Any, what: str) -> str:
        mode = text(value, what)
        kind, colon, name = mode.partition(":")
        if mode in ("", "private"):
            return ""
        if mode in modes or (kind == "container" and colon and name and "container" in modes):
            return mode
        known = ", ".join("container:NAME" if word == "container" else word for word in ("private", *modes))
        raise InvalidRequest(f"{what}: invalid mode {mode!r}", hint=f"modes are {known}")

    return check


def _user_mode(value: Any, what: str) -> str:
    return "private" if value == "private" else _mode("host", "container")(value, what)


def _runtime(value: Any, what: str) -> str:
    """Return the path of an OCI runtime; "" for the engine's own in process, its name for it as a program."""
    name = text(value, what)
    if name in ("", "mydocker"):
        return ""
    if name == OWN_PROGRAM:
        return name
    if "/" in name:
        places = [os.path.abspath(name)]
    else:
        # The caller's PATH first, then where distributions put it, which the PATH of a service may lack.
        directories = [*os.get_exec_path(), "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"]
        places = [f"{directory}/{name}" for directory in directories]
    for place in places:
        if place.startswith("/") and os.path.isfile(place) and os.access(place, os.X_OK):
            return place
    raise InvalidRequest(f"{what}: unknown runtime {name}: no such program", hint="give a path, or leave it out for our own")


def _cgroup_parent(value: Any, what: str) -> str:
    """Return the cgroup that a container's is made in; a relative one counts from the root, as in docker."""
    path = text(value, what).strip("/")
    if not path or any(part in ("", ".", "..") or part.endswith(".slice") for part in path.split("/")):
        raise InvalidRequest(
            f"{what} {value!r} is not a cgroup path", hint="write such as /services/web; systemd's slices are not made here")
    return f"/{path}"


def _annotations(value: Any, what: str) -> tuple[tuple[str, str], ...]:
    found = {text(key, what): text(str(item), what) for key, item in pairs(value, what)}
    if "" in found:
        raise InvalidRequest(f"{what}: an annotation needs a name")
    return tuple(found.items())


def _domainname(value: Any, what: str) -> str:
    name = text(value, what)
    if not 0 < len(name) <= 64 or any(letter.isspace() for letter in name):
        raise InvalidRequest(f"{what} {value!r} is not a domain name of at most 64 letters")
    return name


def _swappiness(value: Any, what: str) -> int | None:
    number = whole_number(-1, 100)(value, what)
    return None if number < 0 else number


def _quota(value: Any, what: str) -> int:
    quota = whole_number(-1, (1 << 62))(value, what)
    if 0 < quota < 1000:
        raise InvalidRequest(f"{what}: CPU cfs quota can not be less than 1ms (i.e. 1000)")
    return quota


def _period(value: Any, what: str) -> int:
    period = whole_number(0, 1 << 62)(value, what)
    if period and not 1000 <= period <= 1_000_000:
        raise InvalidRequest(f"{what}: CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    return period


def _weight(value: Any, what: str) -> int:
    weight = whole_number(0, 1000)(value, what)
    if 0 < weight < 10:
        raise InvalidRequest(f"{what}: range of blkio weight is from 10 to 1000")
    return weight


def _pull(value: Any, what: str) -> str:
    if value not in ("always", "missing", "never"):
        raise InvalidRequest(f'{what}: invalid pull option: {value!r}: must be one of "always", "missing" or "never"')
    return str(value)


def _platform(value: Any, what: str) -> str:
    return platform.shown(platform.parse(text(value, what)))


#: What docker takes and no kernel or engine heeds (any more): only the value's form is judged.
_IGNORED: dict[str, Callable[[Any, str], Any]] = {"kernel_memory": _bytes}

#: Options that `judge` and `judge_isolation` treat one by one.
_ELSEWHERE = ("cgroup_parent", "env", "env_file", "insecure_registry", "label_file", "mount", "platform", "pull", "runtime",
              "security_opt", "tmpfs", "volume_driver", "volumes_from")

_COUNT = whole_number(0, (1 << 63) - 1)
_RULES: dict[str, tuple[str, Callable[[Any, str], Any]]] = {
    "privileged": ("privileged", flag), "cap_add": ("cap_add", _capabilities), "cap_drop": ("cap_drop", _capabilities),
    "group_add": ("groups", _groups), "ulimit": ("ulimits", _ulimits), "sysctl": ("sysctls", _sysctls),
    "device": ("devices", _devices), "device_cgroup_rule": ("device_rules", _device_rules),
    "shm_size": ("shm_bytes", _bytes),
    "pid": ("pid_mode", _mode("host", "container")),
    "ipc": ("ipc_mode", _mode("none", "shareable", "host", "container")),
    "uts": ("uts_mode", _mode("host", "container")), "userns": ("user_mode", _user_mode),
    "cgroupns": ("cgroup_mode", _mode("host", "container")),
    "init": ("init", flag), "oom_score_adj": ("oom_score_adj", whole_number(-1000, 1000)),
    "oom_kill_disable": ("oom_kill_disable", flag), "annotation": ("annotations", _annotations),
    "domainname": ("domainname", _domainname),
    "memory_reservation": ("memory_reservation_bytes", _bytes), "memory_swappiness": ("memory_swappiness", _swappiness),
    "cpu_period": ("cpu_period_us", _period), "cpu_quota": ("cpu_quota_us", _quota),
    "cpu_rt_period": ("cpu_rt_period_us", _COUNT), "cpu_rt_runtime": ("cpu_rt_runtime_us", _COUNT),
    "blkio_weight": ("blkio_weight", _weight), "blkio_weight_device": ("blkio_weights", _rates(_weight)),
    "device_read_bps": ("read_bps", _rates(_bytes)), "device_write_bps": ("write_bps", _rates(_bytes)),
    "device_read_iops": ("read_iops", _rates(_COUNT)), "device_write_iops": ("write_iops", _rates(_COUNT)),
}
