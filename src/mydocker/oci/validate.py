"""Judges a config.json once, at the door: types, required fields, and what contradicts itself. Pure.

Whoever reads a bundle calls `validate_spec`; behind it the runtime takes the document's shape for granted. Every error
names the field. Words whose list is elsewhere (limits, policies, seccomp, limits of cgroups, kernel parameters) are judged
where they become numbers, before anything is made. Unknown fields are ignored, null is a field that is not there.

Source: runtime-spec 1.3 config.md, config-linux.md.
"""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .runtime_spec import Process, Spec

_STRINGS = [str]
_MAPPINGS = [{"containerID": int, "hostID": int, "size": int}]
_HOOKS = [{"path": str, "args": _STRINGS, "env": _STRINGS, "timeout": int}]
_RATES = [{"major": int, "minor": int, "rate": int}]

_PROCESS: dict[str, Any] = {
    "terminal": bool, "consoleSize": {"height": int, "width": int}, "cwd": str, "env": _STRINGS, "args": _STRINGS,
    "user": {"uid": int, "gid": int, "umask": int, "additionalGids": [int]},
    "capabilities": dict.fromkeys(("bounding", "effective", "inheritable", "permitted", "ambient"), _STRINGS),
    "rlimits": [{"type": str, "soft": int, "hard": int}],
    "noNewPrivileges": bool, "apparmorProfile": str, "selinuxLabel": str, "oomScoreAdj": int,
    "scheduler": {
        "policy": str, "nice": int, "priority": int, "flags": _STRINGS, "runtime": int, "deadline": int, "period": int},
    "ioPriority": {"class": str, "priority": int}, "execCPUAffinity": {"initial": str, "final": str},
}
RESOURCES: dict[str, Any] = {
    "devices": [{"allow": bool, "type": str, "major": int, "minor": int, "access": str}],
    "memory": {
        "limit": int, "reservation": int, "swap": int, "kernel": int, "kernelTCP": int, "swappiness": int,
        "disableOOMKiller": bool, "useHierarchy": bool, "checkBeforeUpdate": bool},
    "cpu": {
        "shares": int, "quota": int, "burst": int, "period": int, "realtimeRuntime": int, "realtimePeriod": int, "cpus": str,
        "mems": str, "idle": int},
    "pids": {"limit": int},
    "blockIO": {
        "weight": int, "leafWeight": int,
        "weightDevice": [{"major": int, "minor": int, "weight": int, "leafWeight": int}],
        "throttleReadBpsDevice": _RATES, "throttleWriteBpsDevice": _RATES, "throttleReadIOPSDevice": _RATES,
        "throttleWriteIOPSDevice": _RATES},
    "hugepageLimits": [{"pageSize": str, "limit": int}],
    "network": {"classID": int, "priorities": [{"name": str, "priority": int}]},
    "rdma": {"*": {"hcaHandles": int, "hcaObjects": int}}, "unified": {"*": str},
}
_LINUX: dict[str, Any] = {
    "namespaces": [{"type": str, "path": str}], "uidMappings": _MAPPINGS, "gidMappings": _MAPPINGS,
    "timeOffsets": {"*": {"secs": int, "nanosecs": int}},
    "devices": [{"path": str, "type": str, "major": int, "minor": int, "fileMode": int, "uid": int, "gid": int}],
    "netDevices": {"*": {"name": str}}, "cgroupsPath": str, "resources": RESOURCES, "rootfsPropagation": str,
    "seccomp": {
        "defaultAction": str, "defaultErrnoRet": int, "architectures": _STRINGS, "flags": _STRINGS, "listenerPath": str,
        "listenerMetadata": str,
        "syscalls": [{
            "names": _STRINGS, "action": str, "errnoRet": int,
            "args": [{"index": int, "value": int, "valueTwo": int, "op": str}]}]},
    "sysctl": {"*": str}, "maskedPaths": _STRINGS, "readonlyPaths": _STRINGS, "mountLabel": str,
    "memoryPolicy": {"mode": str, "nodes": str, "flags": _STRINGS},
    "personality": {"domain": str, "flags": _STRINGS},
}
_SPEC: dict[str, Any] = {
    "ociVersion": str, "root": {"path": str, "readonly": bool}, "process": _PROCESS, "hostname": str, "domainname": str,
    "mounts": [{
        "destination": str, "type": str, "source": str, "options": _STRINGS, "uidMappings": _MAPPINGS,
        "gidMappings": _MAPPINGS}],
    "hooks": dict.fromkeys(
        ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"), _HOOKS),
    "annotations": {"*": str}, "linux": _LINUX,
}
_NAMESPACES = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")
#: The kernel's dev_t has 12 and 20 bits (linux/kdev_t.h), and the last id means "leave it".
_DEVICE_LIMITS = (("major", 1 << 12), ("minor", 1 << 20), ("uid", 0xFFFFFFFF), ("gid", 0xFFFFFFFF))
_PROPAGATIONS = ("private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable")
_NAMES_OF_TYPES = {str: "a string", int: "a whole number", bool: "true or false", list: "a list", dict: "an object"}


def validate_spec(document: object) -> Spec:
    """Return a config.json's document as a spec. Raises InvalidRequest, Unsupported, with the field."""
    spec = check_shape(document, _SPEC, "config.json")
    if not isinstance(spec, dict):
        raise InvalidRequest("config.json: is not an object")
    version = spec.get("ociVersion", "")
    if not version.startswith("1."):
        raise Unsupported(f"ociVersion: {version!r} is not a version 1 of the runtime specification")
    if not spec.get("root", {}).get("path"):
        raise InvalidRequest("root.path: missing")
    if "process" in spec:  # only `start` needs one
        judge_process(spec["process"])
    kinds = judge_namespaces(spec.get("linux", {}))
    _judge_names(spec, kinds)
    _judge_mounts(spec, kinds)
    _judge_hooks(spec)
    _judge_linux(spec.get("linux", {}), kinds)
    if kinds.get("user") == "" and "process" in spec:
        _judge_mapped_user(spec["process"].get("user", {}), spec["linux"])
    return spec  # type: ignore[return-value]  # its shape was checked


def validate_process(document: object) -> Process:
    """Return a document as a process object that stands alone (that of `exec`). Raises InvalidRequest with the field."""
    process = check_shape(document, _PROCESS, "process")
    judge_process(process if isinstance(process, dict) else None)
    return process  # type: ignore[return-value]  # its shape was checked


def check_shape(value: object, shape: Any, field: str) -> object:
    """Return a value without its nulls; see that all that is known of it has the right type. Raises InvalidRequest."""
    if isinstance(shape, list):
        if not isinstance(value, list):
            raise InvalidRequest(f"{field}: is not a list")
        return [check_shape(item, shape[0], f"{field}[{index}]") for index, item in enumerate(value)]
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise InvalidRequest(f"{field}: is not an object")
        prefix = "" if field == "config.json" else f"{field}."
        return {
            key: check_shape(item, shape.get(key, shape.get("*")), f"{prefix}{check_text(key, field)}")
            for key, item in value.items() if item is not None
        }
    if shape is not None and (not isinstance(value, shape) or (shape is int and isinstance(value, bool))):
        raise InvalidRequest(f"{field}: is not {_NAMES_OF_TYPES[shape]}")
    return check_text(value, field) if isinstance(value, str) and shape is str else value


def check_text(text: str, field: str) -> str:
    """Return a text as it is. Raises InvalidRequest for one that the kernel could not be given, as a path or a word."""
    if "\0" in text:
        raise InvalidRequest(f"{field}: holds a NUL")
    if not text.isascii():
        try:
            os.fsencode(text)
        except UnicodeEncodeError:
            raise InvalidRequest(f"{field}: {text[:80]!r} holds half of a surrogate pair") from None
    return text


def judge_process(process: dict[str, Any] | None) -> None:
    """See that a process can be run. Raises InvalidRequest."""
    if not process or not process.get("args"):
        raise InvalidRequest("process.args: missing or empty")
    if not process.get("cwd", "").startswith("/"):
        raise InvalidRequest("process.cwd: must be an absolute path")
    types = [limit.get("type", "") for limit in process.get("rlimits", ())]
    if len(set(types)) < len(types):
        raise InvalidRequest("process.rlimits: a limit is there twice")
    for index, limit in enumerate(process.get("rlimits", ())):
        _require(limit, ("type", "soft", "hard"), f"process.rlimits[{index}]")
    user = process.get("user", {})
    for field, number in (("uid", user.get("uid", 0)), ("gid", user.get("gid", 0)),
                          *(("additionalGids", gid) for gid in user.get("additionalGids", ()))):
        if not 0 <= number < 0xFFFFFFFF:
            raise InvalidRequest(f"process.user.{field}: {number} is out of range")
    if not 0 <= user.get("umask", 0) <= 0o777:
        raise InvalidRequest(f"process.user.umask: {user['umask']} is no mode")
    if not -1000 <= process.get("oomScoreAdj", 0) <= 1000:
        raise InvalidRequest(f"process.oomScoreAdj: {process['oomScoreAdj']} is not one of -1000 to 1000")
    for side in ("height", "width") if process.get("consoleSize") else ():
        size = process["consoleSize"].get(side)
        if size is None or not 0 <= size <= 0xFFFF:
            raise InvalidRequest(f"process.consoleSize.{side}: {'missing' if size is None else f'{size} is out of range'}")


def judge_namespaces(linux: dict[str, Any]) -> dict[str, str]:
    """Return the kinds of namespaces with their paths ("" for a new one). Raises InvalidRequest."""
    kinds: dict[str, str] = {}
    for index, namespace in enumerate(linux.get("namespaces", ())):
        kind, path = namespace.get("type", ""), namespace.get("path", "")
        if kind not in _NAMESPACES:
            raise InvalidRequest(f"linux.namespaces[{index}].type: {kind!r} is no kind of namespace")
        if kind in kinds:
            raise InvalidRequest(f"linux.namespaces[{index}].type: {kind} is there twice")
        if path and not path.startswith("/"):
            raise InvalidRequest(f"linux.namespaces[{index}].path: {path!r} is not absolute")
        kinds[kind] = path
    return kinds


def _judge_names(spec: dict[str, Any], kinds: dict[str, str]) -> None:
    for field in ("hostname", "domainname"):
        name = spec.get(field, "")
        if name and "uts" not in kinds:
            raise InvalidRequest(f"{field}: without a UTS namespace it would be the machine's")
        if len(name.encode()) > 64:
            raise InvalidRequest(f"{field}: {name!r} is longer than 64 bytes")


def _judge_mounts(spec: dict[str, Any], kinds: dict[str, str]) -> None:
    for index, mount in enumerate(spec.get("mounts", ())):
        if not mount.get("destination"):
            raise InvalidRequest(f"mounts[{index}].destination: missing")
        if "mount" not in kinds and os.path.normpath(mount["destination"]).strip("/") in ("", "."):
            raise InvalidRequest(f"mounts[{index}].destination: without a mount namespace there is one root file system only")
        _judge_mappings(mount, f"mounts[{index}].")
    linux = spec.get("linux", {})
    for field in ("maskedPaths", "readonlyPaths"):
        if linux.get(field) and "mount" not in kinds:
            raise InvalidRequest(f"linux.{field}: without a mount namespace nothing can be hidden from the container only")
        for path in linux.get(field, ()):
            if not path.startswith("/"):
                raise InvalidRequest(f"linux.{field}: {path!r} is not absolute")


def _judge_hooks(spec: dict[str, Any]) -> None:
    for kind, hooks in spec.get("hooks", {}).items():
        for index, hook in enumerate(hooks if isinstance(hooks, list) else ()):
            field = f"hooks.{kind}[{index}]"
            if not hook.get("path", "").startswith("/"):
                raise InvalidRequest(f"{field}.path: must be an absolute path")
            if "timeout" in hook and hook["timeout"] <= 0:
                raise InvalidRequest(f"{field}.timeout: must be greater than zero")


def _judge_linux(linux: dict[str, Any], kinds: dict[str, str]) -> None:
    _judge_mappings(linux, "linux.")
    if (linux.get("uidMappings") or linux.get("gidMappings")) and "user" not in kinds:
        raise InvalidRequest("linux.uidMappings: there is no user namespace in linux.namespaces")
    if kinds.get("user") == "" and bool(linux.get("uidMappings")) != bool(linux.get("gidMappings")):
        raise InvalidRequest("linux.uidMappings: a user namespace needs uidMappings and gidMappings, or neither of them")
    if linux.get("timeOffsets") and kinds.get("time") != "":
        raise InvalidRequest("linux.timeOffsets: there is no new time namespace in linux.namespaces")
    for clock in linux.get("timeOffsets", {}):
        if clock not in ("monotonic", "boottime"):
            raise InvalidRequest(f"linux.timeOffsets: {clock!r} is neither monotonic nor boottime")
    if linux.get("rootfsPropagation", "") not in ("", *_PROPAGATIONS):
        raise InvalidRequest(f"linux.rootfsPropagation: {linux['rootfsPropagation']!r} is no kind of propagation")
    for index, device in enumerate(linux.get("devices", ())):
        if not device.get("path", "").startswith("/"):
            raise InvalidRequest(f"linux.devices[{index}].path: must be an absolute path")
        if device.get("type") not in ("c", "b", "u", "p"):
            raise InvalidRequest(f"linux.devices[{index}].type: {device.get('type')!r} is no kind of device", hint="c, b, u or p")
        if device["type"] != "p":
            _require(device, ("major", "minor"), f"linux.devices[{index}]")
        for key, limit in _DEVICE_LIMITS:
            if not 0 <= device.get(key, 0) < limit:
                raise InvalidRequest(f"linux.devices[{index}].{key}: {device[key]} is out of range")
    if linux.get("intelRdt"):
        raise Unsupported("linux.intelRdt: Intel's resource director is not supported", hint="leave it out")
    if linux.get("netDevices") and kinds.get("network") is None:
        raise InvalidRequest("linux.netDevices: there is no network namespace in linux.namespaces to move them to")
    for name, device in linux.get("netDevices", {}).items():
        _judge_device_name(name, f"linux.netDevices: {name!r}")
        if device.get("name"):
            _judge_device_name(device["name"], f"linux.netDevices.{name}.name: {device['name']!r}")


def _judge_device_name(name: str, field: str) -> None:
    """See that the kernel could take a name of a network device (dev_valid_name)."""
    if not 0 < len(os.fsencode(name)) < 16 or name in (".", "..") or any(char in "/:" or char.isspace() for char in name):
        raise InvalidRequest(f"{field} is no name of a network device")


def _judge_mappings(holder: dict[str, Any], prefix: str) -> None:
    for name in ("uidMappings", "gidMappings"):
        for index, mapping in enumerate(holder.get(name, ())):
            field = f"{prefix}{name}[{index}]"
            _require(mapping, ("containerID", "hostID", "size"), field)
            if min(mapping["containerID"], mapping["hostID"]) < 0 or mapping["size"] <= 0 or (
                    max(mapping["containerID"], mapping["hostID"]) + mapping["size"] > 1 << 32):
                raise InvalidRequest(f"{field}: is out of range")


def _judge_mapped_user(user: dict[str, Any], linux: dict[str, Any]) -> None:
    """See that the ids of the command are there in its new user namespace: the kernel would only say EINVAL."""
    for field, ids, kind in (("uid", [user.get("uid", 0)], "uid"), ("gid", [user.get("gid", 0)], "gid"),
                             ("additionalGids", user.get("additionalGids", ()), "gid")):
        mappings = linux.get(f"{kind}Mappings", ())
        for number in ids:
            if mappings and not any(0 <= number - item["containerID"] < item["size"] for item in mappings):
                raise InvalidRequest(f"process.user.{field}: {number} is not mapped (linux.{kind}Mappings)")


def _require(holder: dict[str, Any], keys: tuple[str, ...], field: str) -> None:
    for key in keys:
        if key not in holder:
            raise InvalidRequest(f"{field}.{key}: missing")
