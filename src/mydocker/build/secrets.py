"""What --secret and --ssh bring to a build, and the files that secrets and agents' relays are in while a step runs.

The files lie on the tmpfs of /run: no disk ever holds them. A killed build's are swept by the next.
"""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest, NotFound
from mydocker.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from mydocker.base.paths import Layout

#: How a secret's file or a relay's socket in the run directory is called: this, the name of its step's temporary layer,
#: `-`, a number.
PREFIX = ".secret"


class Secrets(Record):
    """What --secret and --ssh of the command line brought: bytes by id, socket paths by id."""

    secrets: Mapping[str, bytes] = {}
    sockets: Mapping[str, str] = {}


def parse_secret(word: str) -> tuple[str, bytes]:
    """Return (id, bytes) of `id=NAME,src=FILE` or `id=NAME,env=VARIABLE`. Raises InvalidRequest, NotFound."""
    keys = dict(field.partition("=")[::2] for field in word.split(","))
    kind, identity = keys.get("type", ""), keys.get("id", "")
    source = keys.get("src") or keys.get("source") or ""
    variable = keys.get("env", "")
    if not identity:
        raise InvalidRequest(f"secret {word!r}: it needs an id", hint="write id=NAME,src=FILE or id=NAME,env=VARIABLE")
    unknown = set(keys) - {"type", "id", "src", "source", "env"}
    if unknown or kind not in ("", "file", "env"):
        raise InvalidRequest(f"secret id={identity}: unexpected {', '.join(sorted(unknown)) or f'type {kind}'}")
    if kind == "env" and source and not variable:
        source, variable = "", source
    if variable or (kind != "file" and not source and identity in os.environ):
        name = variable or identity
        if name not in os.environ:
            raise NotFound(f"secret {identity}: the environment variable {name} is not set")
        return identity, os.environb[os.fsencode(name)]
    try:
        fd = os.open(source or identity, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(f"secret {identity}: open {source or identity}: {os.strerror(error.errno or 0).lower()}") from error
    with os.fdopen(fd, "rb") as stream:
        data = stream.read((500 << 10) + 1)
    if len(data) > 500 << 10:
        raise InvalidRequest(f"secret {identity}: {source} is larger than 500 KiB")
    return identity, data


def parse_ssh(word: str) -> tuple[str, tuple[str, ...], bool]:
    """Return (id, paths, whether they are key files) of `default`, `ID`, `ID=SOCKET`, `ID=KEYFILE[,KEYFILE]`.

    Raises InvalidRequest, NotFound.
    """
    identity, _, path = word.partition("=")
    if not identity.replace("_", "").replace(".", "").replace("-", "").isalnum():
        raise InvalidRequest(f"ssh {word!r}: {identity!r} is no id")
    path = path or os.environ.get("SSH_AUTH_SOCK", "")
    if not path:
        raise InvalidRequest(f"ssh {identity}: there is no agent: SSH_AUTH_SOCK is not set", hint="start one with ssh-agent")
    paths = tuple(os.path.abspath(part) for part in (path.split(",") if "," in path and not os.path.exists(path) else [path]))
    are_keys = len(paths) > 1 or os.path.isfile(paths[0])
    for part in paths if are_keys else ():
        if not os.path.isfile(part):
            raise NotFound(f"ssh {identity}: there is no key {part}")
    return identity, paths, are_keys


def unlink_if_there(path: str) -> None:
    """Remove a file of the run directory, which may never have been made."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def sweep_secrets(layout: Layout) -> None:
    """Remove secrets and sockets of builds that were killed: the temporary layer whose name they have is gone, or nobody's."""
    try:
        names = [name for name in os.listdir(layout.run) if name.startswith(PREFIX)]
    except FileNotFoundError:
        return
    for name in names:
        if not os.path.isdir(f"{layout.layers}/{name.removeprefix(PREFIX).rpartition('-')[0]}"):
            unlink_if_there(f"{layout.run}/{name}")
