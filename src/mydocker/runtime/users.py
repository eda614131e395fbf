"""Who `--user` means, by the container's own /etc/passwd and /etc/group.

Both files are hostile: they are opened inside the root without following links out of it, must be
regular files (no FIFO to hang on), and only their first megabytes are read (CVE-2024-9676). Numbers
are numbers: `1` is uid 1 even where a line calls uid 0 "1" (CVE-2024-40635 and kin).
"""
from __future__ import annotations

import os
import stat

from mydocker.base.errors import InvalidRequest, NotFound
from mydocker.linux import syscalls as sc

from .plan import Credentials

_MAX_FILE_BYTES = 4 << 20
_MAX_ID = 0xFFFFFFFE  # 2^32-1 means "leave it" to setresuid(2)
_HINT = "write a number, or add the name to the image"


def parse_id(text: str, *, what: str) -> int | None:
    """Return a numeric id, or None when the word is a name. Raises InvalidRequest for a number out of range."""
    if not text.isascii() or not text.lstrip("+-").isdigit():
        return None
    if not text.isdigit() or (len(text) > 1 and text[0] == "0") or len(text) > 10 or int(text) > _MAX_ID >> 1:
        raise InvalidRequest(f"{what} {text!r} is out of range", hint="use a number from 0 to 2147483647")
    return int(text)


def resolve_user(root_fd: int, user: str, extra_groups: tuple[str, ...] = ()) -> Credentials:
    """Return the credentials for `name|uid[:group|gid]`; '' is root.

    `root_fd` is the container's root directory. With a group given, no supplementary groups of the
    user's are added, as in Docker. Raises NotFound, InvalidRequest.
    """
    name, colon, group = user.partition(":")
    if (colon and not (name and group)) or any(char in "\0\n" or "\ud800" <= char < "\udc80" for char in user):
        raise InvalidRequest(f"user {user!r} is not NAME|UID[:GROUP|GID]")
    uid = parse_id(name, what="user id") if name else 0
    entry = _find_passwd(_read_lines(root_fd, "/etc/passwd"), name, uid)
    if uid is None:
        if entry is None:
            raise NotFound(f"user {name!r} is not in the container's /etc/passwd", hint=_HINT)
        uid = _number(entry[2])
    gid = _number(entry[3]) if entry else 0
    home = os.fsdecode(entry[5]) if entry and entry[5].startswith(b"/") else "/"
    group_lines = _read_lines(root_fd, "/etc/group") if group or entry or extra_groups else []
    others: list[int] = []
    if group:
        gid = _find_group(group_lines, group)
    elif entry is not None:
        others = _groups_of(group_lines, entry[0])
    others += [_find_group(group_lines, extra) for extra in extra_groups]
    # The own group is one of them: else a setgid program, which changes that, opens what denies this group (CVE-2022-36109).
    return Credentials(uid=uid, gid=gid, groups=tuple(dict.fromkeys((gid, *others))), home=home)


def find_home(root_fd: int, uid: int) -> str:
    """Return the home directory of a uid by the container's /etc/passwd, `/` where it has none."""
    entry = _find_passwd(_read_lines(root_fd, "/etc/passwd"), "", uid)
    return os.fsdecode(entry[5]) if entry and entry[5].startswith(b"/") else "/"


def _read_lines(root_fd: int, path: str) -> list[bytes]:
    try:
        # O_NONBLOCK: a FIFO must not hang us before fstat tells what it is
        fd = sc.openat2(
            root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, 0, sc.RESOLVE_IN_ROOT | sc.RESOLVE_NO_MAGICLINKS)
    except OSError:
        return []  # an image without the file has no names: numbers still work
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return []
        content = b""
        while len(content) < _MAX_FILE_BYTES and (chunk := os.read(fd, _MAX_FILE_BYTES - len(content))):
            content += chunk
        return content.split(b"\n")
    except OSError:
        return []  # a link to /proc/self/mem or /proc/kmsg, which claim to be regular files
    finally:
        os.close(fd)


def _find_passwd(lines: list[bytes], name: str, uid: int | None) -> list[bytes] | None:
    wanted_name = os.fsencode(name or "root") if uid is None else b""
    wanted_uid = b"" if uid is None else str(uid).encode()
    for line in lines:
        fields = line.split(b":", 6)
        if len(fields) >= 6 and (fields[2] == wanted_uid if wanted_uid else fields[0] == wanted_name):
            return fields
    return None


def _find_group(lines: list[bytes], group: str) -> int:
    gid = parse_id(group, what="group id")
    if gid is not None:
        return gid
    wanted = os.fsencode(group)
    for line in lines:
        fields = line.split(b":", 3)
        if len(fields) >= 3 and fields[0] == wanted:
            return _number(fields[2])
    raise NotFound(f"group {group!r} is not in the container's /etc/group", hint=_HINT)


def _groups_of(lines: list[bytes], name: bytes) -> list[int]:
    found = []
    for line in lines:
        fields = line.split(b":", 3)
        if len(fields) == 4 and name in fields[3].split(b","):
            found.append(_number(fields[2]))
    return found[:65536]


def _number(field: bytes) -> int:
    if not field.isdigit() or len(field) > 10 or int(field) > _MAX_ID:
        raise InvalidRequest(f"the container's /etc/passwd or /etc/group holds the id {field[:20]!r}")
    return int(field)
