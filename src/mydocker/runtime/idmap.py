"""User and group id mappings: of a container's user namespace, and of single mounts.

The creator writes them, from outside: a process in a new user namespace may map nothing but itself. Without
the rights to do so (rootless) the setuid programs newuidmap and newgidmap do it, within /etc/subuid and /etc/subgid.

Source: user_namespaces(7), newuidmap(1), mount_setattr(2).
"""
from __future__ import annotations

import os

from mydocker.base import files
from mydocker.base.errors import Denied, InvalidRequest, NotFound
from mydocker.linux import syscalls as sc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from mydocker.oci.runtime_spec import IdMapping, Linux, Spec

_CAP_SETGID, _CAP_SETUID = 6, 7
_HELPER_DIRECTORIES = ("/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin")
#: A map is one write of less than a page (user_namespaces(7)); the kernel takes 340 lines.
_MAX_MAP_BYTES, _MAX_MAP_LINES = 4095, 340


def format_map(mappings: Sequence[IdMapping], field: str) -> bytes:
    """Return the text of a uid_map or gid_map. Raises InvalidRequest where the kernel could not take it."""
    text = "".join(f"{item['containerID']} {item['hostID']} {item['size']}\n" for item in mappings).encode()
    if len(mappings) > _MAX_MAP_LINES or len(text) > _MAX_MAP_BYTES:
        raise InvalidRequest(f"{field}: {len(mappings)} mappings are more than the kernel takes",
                             hint="at most 340 lines, and 4095 bytes together")
    return text


def root_of(mappings: Sequence[IdMapping]) -> int:
    """Return the id that prepares the container: 0, or its first id where 0 is not mapped."""
    ids = [item["containerID"] for item in mappings]
    return 0 if 0 in ids or not ids else ids[0]


def keep_capabilities_over_execve() -> None:
    """Have what this process executes, which is no root where none is mapped, have its capabilities all the same.

    Those come by the ambient set, which the last stage empties (capabilities(7) "Transformation of capabilities").
    """
    effective, permitted, _ = sc.capget()
    sc.capset(effective, permitted, permitted)
    for capability in range(permitted.bit_length()):
        if permitted >> capability & 1:
            sc.prctl(sc.PR_CAP_AMBIENT, sc.PR_CAP_AMBIENT_RAISE, capability)


def map_id(container_id: int, mappings: Sequence[IdMapping]) -> int | None:
    """Return an id of the container's as the creator knows it, None for one that is not mapped."""
    for item in mappings:
        if 0 <= container_id - item["containerID"] < item["size"]:
            return item["hostID"] + container_id - item["containerID"]
    return None


def parse_mount_mappings(option: str, linux: Linux, field: str) -> tuple[list[IdMapping], list[IdMapping]]:
    """Return the mappings of crun's mount option `idmap=uids=0-1000-10#10-2000-5;gids=@0-0-10`.

    A range is FIRST-HOST-SIZE: FIRST is the id on the file system. Behind an `@` HOST is an id of the container's.
    Raises InvalidRequest.
    """
    found: dict[str, list[IdMapping]] = {"uids": [], "gids": []}
    for part in option.partition("=")[2].split(";"):
        kind, _, ranges = part.partition("=")
        if kind not in found:
            raise InvalidRequest(f"{field}: {option!r}: {kind!r} is neither uids nor gids")
        own = (linux.get("uidMappings") if kind == "uids" else linux.get("gidMappings")) or ()
        found[kind] += [_parse_range(text, own, f"{field}: {option!r}") for text in ranges.split("#")]
    if not (found["uids"] and found["gids"]):
        raise InvalidRequest(f"{field}: {option!r}: both uids and gids are needed")
    return found["uids"], found["gids"]


def _parse_range(text: str, own: Sequence[IdMapping], what: str) -> IdMapping:
    words = text.removeprefix("@").split("-")
    if len(words) != 3 or not all(word.isascii() and word.isdigit() and len(word) < 11 for word in words):
        raise InvalidRequest(f"{what}: {text!r} is no range FIRST-HOST-SIZE")
    first, host, size = map(int, words)
    if text.startswith("@"):
        mapped = map_id(host, own)
        if mapped is None or map_id(host + size - 1, own) != mapped + size - 1:
            raise InvalidRequest(f"{what}: {text!r} is not in one of the container's own ranges")
        host = mapped
    return {"containerID": first, "hostID": host, "size": size}


def with_own_mappings(spec: Spec) -> Spec:
    """Return a spec whose new user namespace has all the ids of the creator's, or for an ordinary user the user alone.

    What crun does with a user namespace that no mappings are given for.
    """
    mappings: dict[str, list[IdMapping]] = {}
    for kind, own in (("uid", os.geteuid()), ("gid", os.getegid())):
        lines = files.read_bytes(f"/proc/self/{kind}_map").split(b"\n") if os.geteuid() == 0 else []
        rows = [[int(word) for word in line.split()] for line in lines if line]
        mappings[f"{kind}Mappings"] = [{"containerID": first, "hostID": first, "size": size} for first, _, size in rows] or [
            {"containerID": 0, "hostID": own, "size": 1}]
    return {**spec, "linux": {**spec["linux"], **mappings}}  # type: ignore[typeddict-item]


def write_mappings(pid: int, uids: Sequence[IdMapping], gids: Sequence[IdMapping], *, field: str = "linux.") -> None:
    """Map the ids of a child's new user namespace. `pid` is a child that was not reaped. Raises by field."""
    effective = sc.capget()[0]
    for kind, mappings, capability in (("uid", uids, _CAP_SETUID), ("gid", gids, _CAP_SETGID)):
        if not mappings:
            continue
        name = f"{field}{kind}Mappings"
        text = format_map(mappings, name)
        if effective >> capability & 1:
            _write_map(pid, f"{kind}_map", text, name)
        elif _is_own_id(kind, mappings):
            if kind == "gid":
                # Linux 3.19: otherwise a process could drop a group that denies it something.
                _write_map(pid, "setgroups", b"deny", name)
            _write_map(pid, f"{kind}_map", text, name)
        else:
            _run_helper(pid, f"new{kind}map", mappings, name)


def _is_own_id(kind: str, mappings: Sequence[IdMapping]) -> bool:
    own = os.geteuid() if kind == "uid" else os.getegid()
    return len(mappings) == 1 and mappings[0]["size"] == 1 and mappings[0]["hostID"] == own


def _write_map(pid: int, file: str, text: bytes, field: str) -> None:
    fd = os.open(f"/proc/{pid}/{file}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text)
    except PermissionError as error:
        raise Denied(f"{field}: write {file}: {os.strerror(error.errno or 0)}") from error
    except OSError as error:
        raise InvalidRequest(f"{field}: write {file}: {os.strerror(error.errno or 0)}") from error
    finally:
        os.close(fd)


def _run_helper(pid: int, program: str, mappings: Sequence[IdMapping], field: str) -> None:
    from .hooks import run_program  # cold

    numbers = [str(item[key]) for item in mappings for key in ("containerID", "hostID", "size")]
    for directory in _HELPER_DIRECTORIES:
        if os.access(f"{directory}/{program}", os.X_OK):
            run_program([f"{directory}/{program}", str(pid), *numbers], what=f"{field}: {program}")
            return
    raise NotFound(f"{field}: program {program} is not installed",
                   hint="install uidmap (shadow-utils), or run as root, or map your own id only")


def open_mapped_userns(uids: Sequence[IdMapping], gids: Sequence[IdMapping], *, field: str) -> int:
    """Return a user namespace with these mappings, for an id-mapped mount. The caller closes it.

    A child is its only process, and only for as long as it takes to open it.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid, pidfd = sc.clone3(sc.CLONE_NEWUSER)
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)  # until the parent is done, or dead
        os._exit(0)
    try:
        os.close(pidfd)
        write_mappings(pid, uids, gids, field=field)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(reader)
        os.close(writer)
        os.waitpid(pid, 0)
