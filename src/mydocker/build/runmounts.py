"""RUN --mount: what a build step sees besides its root file system, and what becomes of the places it was mounted on.

Sources of `bind` are copied by descriptor into a directory of the build's own before anything runs, so that neither
a symbolic link that a stage made nor one that a parallel stage makes meanwhile leads anywhere else (CVE-2024-23651,
CVE-2024-1753); what is written there is thrown away, as docker does. A cache's directory is mounted itself and never
resolved through. Places that were made to mount on are removed from the layer again, by descriptor and only when
they are empty (CVE-2024-23652).
"""
from __future__ import annotations

import csv
import os
import stat

from mydocker.base import locks
from mydocker.base.errors import InvalidRequest, NotFound, Unsupported
from mydocker.base.record import Record
from mydocker.base.units import parse_size
from mydocker.linux import beneath
from mydocker.linux.inroot import clean, path_in
from mydocker.oci.digest import digest_of

from .contenthash import ContentHash
from .ignore import IgnoreRules
from .modes import Ownership
from .request import HostMount
from .secrets import PREFIX, unlink_if_there
from .sources import Source, add_digest, close_sources, find_sources
from .substitute import substitute
from .tree import copy_sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mydocker.base.paths import Layout
    from mydocker.base.undo import Undo

    from .dockerfile import Node
    from .secrets import Secrets

_KEYS: dict[str, frozenset[str]] = {
    "bind": frozenset(("source", "from", "rw")),
    "cache": frozenset(("id", "source", "from", "sharing", "ro", "mode", "uid", "gid")),
    "tmpfs": frozenset(("size",)),
    "secret": frozenset(("id", "required", "mode", "uid", "gid", "env")),
    "ssh": frozenset(("id", "required", "mode", "uid", "gid")),
}
_ALIASES = {"src": "source", "dst": "target", "destination": "target", "readonly": "ro", "readwrite": "rw"}
_FLAGS = ("rw", "ro", "required")
_NO_RULES = IgnoreRules([])


class BuildMount(Record):
    """One judged --mount."""

    kind: str
    target: str
    keys: Mapping[str, str]

    def is_set(self, name: str) -> bool:
        """Return a key of yes and no."""
        return self.keys.get(name, "false") in ("", "true", "1")

    def number(self, name: str, default: int, base: int = 10) -> int:
        """Return a key that is a number. Raises InvalidRequest."""
        try:
            number = int(self.keys[name], base) if name in self.keys else default
        except ValueError:
            number = -1
        if not 0 <= number < 0xFFFFFFFF:  # the last is "as it is" to chown(2)
            raise InvalidRequest(f"--mount: {name}={self.keys[name]} is not a number")
        return number


def judge(node: Node, variables: Mapping[str, str], workdir: str, escape: str) -> list[BuildMount]:
    """Return the mounts of a RUN. Raises InvalidRequest, Unsupported."""
    found = []
    for name, value in node.flags:
        if name != "mount":
            continue
        fields = next(csv.reader([substitute(value or "", variables, escape)]), [])
        keys: dict[str, str] = {}
        for field in fields:
            key, equals, text = field.partition("=")
            key = _ALIASES.get(key.strip().lower(), key.strip().lower())
            if not equals and key not in _FLAGS:
                raise InvalidRequest(f"--mount: invalid field '{field}' must be a key=value pair")
            keys[key] = text
        found.append(_judge_one(keys, workdir))
    return found


def _judge_one(keys: dict[str, str], workdir: str) -> BuildMount:
    kind = keys.pop("type", "bind")
    if kind not in _KEYS:
        raise Unsupported(f"--mount: unsupported mount type {kind!r}", hint=f"there are {', '.join(_KEYS)}")
    target = keys.pop("target", "")
    for key in keys:
        if key not in _KEYS[kind] and not (kind == "bind" and key == "ro"):
            raise InvalidRequest(f"--mount: unexpected key '{key}' for mount type '{kind}'")
    if kind == "secret":
        identity = keys.get("id") or os.path.basename(target)
        if not identity:
            raise InvalidRequest("--mount: type secret needs an id")
        keys["id"] = identity
        target = target or ("" if "env" in keys else f"/run/secrets/{identity}")
    elif kind == "ssh":
        keys.setdefault("id", "default")
    elif not target:
        raise InvalidRequest(f"--mount: type {kind} needs a target")
    if target:
        target = "/" + "/".join(clean(target if target.startswith("/") else f"{workdir}/{target}"))
        if target == "/":
            raise InvalidRequest("--mount: the target cannot be /")
    if kind == "cache":
        keys.setdefault("id", target)
        if keys.get("sharing", "shared") not in ("shared", "private", "locked"):
            raise InvalidRequest(f"--mount: invalid sharing value {keys['sharing']!r}")
    return BuildMount(kind=kind, target=target, keys=keys)


class Preparation:
    """Makes the mounts of one RUN ready. `open_root` gives the root of a --from (the context when empty), to be closed."""

    def __init__(
        self, wanted: list[BuildMount], layout: Layout, secrets: Secrets, undo: Undo,
        open_root: Callable[[str], tuple[int, IgnoreRules]],
    ) -> None:
        self._wanted = wanted
        self._layout = layout
        self._scratch_dir = ""
        self._secrets = secrets
        self._undo = undo
        self._open_root = open_root
        self.mounts: list[HostMount] = []
        self.env: dict[str, str] = {}

    def digest(self) -> str:
        """Return what of the mounts decides the step's result: the content of bound files; never a secret."""
        hasher = ContentHash()
        for mount in self._wanted:
            visible = sorted((key, value) for key, value in mount.keys.items() if key not in ("required", "sharing"))
            hasher.update(repr((mount.kind, mount.target, visible)).encode())
            if mount.kind == "bind":
                for source in self._find(mount):
                    add_digest(hasher, source, with_owner=True)
        return hasher.digest()

    def _find(self, mount: BuildMount) -> list[Source]:
        root_fd, rules = self._open_root(mount.keys.get("from", ""))
        self._undo.callback(os.close, root_fd)
        sources = find_sources(root_fd, mount.keys.get("source", "/").replace("*", "\\*"), rules, _NO_RULES)
        self._undo.callback(close_sources, sources)
        if not sources:
            raise NotFound(f"--mount: source {mount.keys.get('source')!r}: nothing matches")
        return sources

    def prepare(self, scratch_dir: str) -> None:
        """Fill `mounts` and `env`; copies go to `scratch_dir`. Raises NotFound, InvalidRequest, OSError."""
        self._scratch_dir = scratch_dir
        sockets = 0
        for number, mount in enumerate(self._wanted):
            if mount.kind == "bind":
                self._bind(number, mount)
            elif mount.kind == "cache":
                self._cache(mount)
            elif mount.kind == "tmpfs":
                size = parse_size(mount.keys["size"], what="--mount size") if "size" in mount.keys else 0
                self.mounts.append(HostMount(source="", target=mount.target, size_bytes=size))
            elif mount.kind == "secret":
                self._secret(number, mount)
            elif self._ssh(number, mount, sockets):
                sockets += 1

    def _bind(self, number: int, mount: BuildMount) -> None:
        place = f"{self._scratch_dir}/mount-{number}"
        os.mkdir(place, 0o755)
        sources = self._find(mount)
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            inner = "/content" if sources[0].is_directory else "/content/file"
            copy_sources(sources[:1], fd, inner, Ownership())
            if sources[0].is_directory:
                _copy_top(sources[0], f"{place}/content")
        finally:
            os.close(fd)
        # `ro` says nothing to us: what is written goes with the copy; without rw it is refused, as docker refuses it.
        self.mounts.append(HostMount(source=place + inner, target=mount.target, is_read_only=not mount.is_set("rw")))

    def _cache(self, mount: BuildMount) -> None:
        sharing = mount.keys.get("sharing", "shared")
        lock, path = self._lock_cache(mount.keys["id"], sharing)
        self._undo.callback(lock.close)
        content = f"{path}/content"
        if not os.path.isdir(content):
            self._fill_cache(mount, path)
        self.mounts.append(HostMount(source=content, target=mount.target, is_read_only=mount.is_set("ro")))

    def _lock_cache(self, identity: str, sharing: str) -> tuple[locks.DirectoryLock, str]:
        number = 0
        while True:
            name = digest_of(f"{identity}\n{number}".encode() if number else identity.encode()).removeprefix("sha256:")
            path = f"{self._layout.build}/.cache-{name}"
            os.makedirs(path, mode=0o700, exist_ok=True)
            try:
                lock = locks.lock_directory(path, shared=sharing == "shared", wait=sharing != "private")
            except NotFound:
                continue  # pruned at this moment
            if lock is not None:
                return lock, path
            number += 1  # private: somebody uses this one, the next is another's or new

    def _fill_cache(self, mount: BuildMount, path: str) -> None:
        """Make the directory of a new cache, with what from= and source= say is in it at first."""
        from mydocker.base.ids import new_unique  # cold

        temporary = f"{path}/.new-{new_unique()}"
        os.mkdir(temporary, 0o700)
        if mount.keys.get("from"):
            sources = self._find(mount)
            if not sources[0].is_directory:
                raise InvalidRequest(f"--mount: source {mount.keys.get('source')!r} of a cache is no directory")
            fd = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                copy_sources(sources[:1], fd, "/", Ownership())
            finally:
                os.close(fd)
        os.chown(temporary, mount.number("uid", 0), mount.number("gid", 0))
        os.chmod(temporary, mount.number("mode", 0o755, base=8) & 0o7777)
        try:
            os.rename(temporary, f"{path}/content")
        except OSError:
            if not os.path.isdir(f"{path}/content"):  # else another build was faster: its directory is as good
                raise

    def _secret(self, number: int, mount: BuildMount) -> None:
        identity = mount.keys["id"]
        data = self._secrets.secrets.get(identity)
        if data is None:
            if mount.is_set("required"):
                raise NotFound(f"secret {identity}: not found", hint=f"give it: --secret id={identity},src=FILE")
            return
        if "env" in mount.keys:
            self.env[mount.keys["env"] or identity] = data.decode("utf-8", "surrogateescape")
        if not mount.target:
            return
        # On the tmpfs of /run: no disk ever holds it, and it is gone when the step is.
        path = self._run_path(number)
        self._undo.callback(unlink_if_there, path)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view):]
            os.fchown(fd, mount.number("uid", 0), mount.number("gid", 0))
            os.fchmod(fd, mount.number("mode", 0o400, base=8) & 0o7777)
        finally:
            os.close(fd)
        self.mounts.append(HostMount(source=path, target=mount.target, is_read_only=True))

    def _run_path(self, number: int) -> str:
        """Return the path of what one mount has in the run directory, where a killed build's are swept (secrets.py)."""
        os.makedirs(self._layout.run, mode=0o700, exist_ok=True)
        return f"{self._layout.run}/{PREFIX}{os.path.basename(self._scratch_dir)}-{number}"

    def _ssh(self, number: int, mount: BuildMount, sockets: int) -> bool:
        agent = self._secrets.sockets.get(mount.keys["id"])
        if agent is None:
            if mount.is_set("required"):
                raise NotFound(f"ssh agent {mount.keys['id']}: not given", hint=f"give it: --ssh {mount.keys['id']}")
            return False
        if not os.path.exists(agent) or not stat.S_ISSOCK(os.stat(agent).st_mode):
            raise NotFound(f"ssh agent {mount.keys['id']}: {agent} is no socket")
        from .agentrelay import AgentRelay  # cold

        path = self._run_path(number)
        relay = AgentRelay(
            path, agent, uid=mount.number("uid", 0), gid=mount.number("gid", 0),
            mode=mount.number("mode", 0o600, base=8) & 0o777)
        self._undo.callback(relay.close)
        target = mount.target or f"/run/buildkit/ssh_agent.{sockets}"
        self.mounts.append(HostMount(source=path, target=target))
        self.env.setdefault("SSH_AUTH_SOCK", target)
        return True


def _copy_top(source: Source, path: str) -> None:
    """Give the copy of a directory the owner and mode that it has."""
    status = os.fstat(source.fd)
    os.chown(path, status.st_uid, status.st_gid)
    os.chmod(path, stat.S_IMODE(status.st_mode))


# --- the places of mounts ---------------------------------------------------------------------------------


def missing_places(view_fd: int, targets: list[str]) -> list[tuple[bytes, int]]:
    """Return (path in the root, how many of its names are missing) of targets that are not there yet."""
    found = []
    for target in targets:
        names = clean(target)
        for depth in range(len(names), -1, -1):
            try:
                fd = beneath.open_in_root(view_fd, "/".join(names[:depth]), os.O_PATH)
            except OSError:
                continue
            try:
                if depth < len(names):
                    above = clean(path_in(view_fd, fd))
                    found.append((os.fsencode("/".join([*above, *names[depth:]])), len(names) - depth))
            finally:
                os.close(fd)
            break
    return found


def remove_places(upper_dir: str, places: list[tuple[bytes, int]]) -> None:
    """Remove from a layer what was made to be mounted on, unless there is something in it now."""
    root_fd = os.open(upper_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path, missing in places:
            for _ in range(missing):
                head, _, name = path.rpartition(b"/")
                if not _remove_empty(root_fd, head, name):
                    break
                path = head
    finally:
        os.close(root_fd)


def _remove_empty(root_fd: int, head: bytes, name: bytes) -> bool:
    try:
        fd = beneath.open_beneath(root_fd, head, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False  # the step itself removed or replaced it
    try:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.rmdir(name, dir_fd=fd)
        elif stat.S_ISREG(status.st_mode) and status.st_size == 0:
            os.unlink(name, dir_fd=fd)
        else:
            return False
        return True
    except OSError:
        return False  # not empty, or gone: it is the step's
    finally:
        os.close(fd)
