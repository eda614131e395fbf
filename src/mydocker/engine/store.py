"""Container records and the name index: the truth on disk.

    container/<id>/config.json   the record; the seed's keys are strings at the top level
    name/<name>                  symbolic link to ../container/<id>: making it claims the name
    creating/<id>                locked while <id> is being made: who finds it unlocked finds garbage
    <run>/<name>                 symbolic link to the container's directory

Records are replaced atomically by whoever holds the container's lock (base/locks.py), and read
without one. Must not know what the states mean; that is lifecycle.py and observe.py.
"""
from __future__ import annotations

import errno
import fcntl
import os

from mydocker.base import files, ids, paths, trace
from mydocker.base.clock import format_local
from mydocker.base.errors import Conflict, Corrupt, NotFound
from mydocker.base.locks import DirectoryLock, lock_directory
from mydocker.base.record import Record

from .lifecycle import STATES
from .request import is_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_VERSION = 1
#: The way out for a container of which the engine cannot tell what it is.
BROKEN_HINT = "`mydocker rm -f` removes the container"


def cgroups_path(parent: str, container_id: str) -> str:
    """Return the cgroup of a container, the same for spec, removal and recovery; "" is the engine's own parent."""
    return f"{parent or '/mydocker'}/{container_id}"


class ContainerRecord(Record):
    """What is stored of a container. Times in nanoseconds since the epoch; None is not known (yet).

    `config` is ContainerConfig.to_document(), `status` one of lifecycle.STATES as of the last command
    that changed it; what is true now is told by observe.py.
    """

    id: str
    name: str
    command: str
    created_ns: int
    status: str
    config: dict[str, Any]
    pid: int | None = None
    start_time: int | None = None
    boot_id: str = ""
    image: str = ""
    image_id: str = ""
    base: str = ""
    layers: tuple[str, ...] = ()
    stop_requested: bool = False
    is_restarting: bool = False
    is_recorded_end: bool = False
    started_ns: int | None = None
    finished_ns: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    oom_killed: bool = False
    cpu_ns: int | None = None
    memory_peak_bytes: int | None = None
    error: str = ""
    endpoints: list[dict[str, Any]] | None = None
    """Where it is on which network, as network/model.py Endpoint, of the last start."""
    ports: list[dict[str, Any]] | None = None
    """What it publishes, as publishing.py Binding with the address inside (`ip`), of the last start."""

    def to_document(self) -> dict[str, Any]:
        """Return the record as the JSON object of config.json."""
        document = self.as_dict()
        document.update(
            version=_VERSION, pid="" if self.pid is None else str(self.pid), createTime=format_local(self.created_ns),
            layers=list(self.layers))
        return document

    @property
    def cgroups_path(self) -> str:
        """Its cgroup, as in its spec."""
        return cgroups_path(self.config.get("cgroup_parent", ""), self.id)

    @property
    def named_networks(self) -> list[str]:
        """The networks of users that it is on, where containers find each other by name."""
        return [item["network"] for item in self.config.get("endpoints", ()) if item["network"] != "bridge"]

    @property
    def isolation(self) -> dict[str, Any]:
        """What differs from the defaults of isolation.Isolation, by its fields."""
        return self.config.get("isolation") or {}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> ContainerRecord:
        """Return the record of a config.json; keys that are not ours are left out. Raises KeyError, TypeError, ValueError.

        What is wrong must show here: later it would be an error of the engine's, at whoever lists all containers.
        """
        if not isinstance(document, dict) or not isinstance(document.get("config"), dict):
            raise TypeError("no object with a config")
        if document.get("version") != _VERSION:
            raise ValueError(f"it is of version {document.get('version')!r}, this mydocker knows {_VERSION}")
        values = {key: document[key] for key in cls._fields if key in document}
        values["pid"] = int(values["pid"]) if values.get("pid") else None
        values["layers"] = tuple(values.get("layers", ()))
        wrong = [key for key, value in values.items() if not isinstance(value, _KINDS[key])]
        if wrong or values["status"] not in STATES or not is_name(values["name"]):
            raise TypeError(f"it has another kind of {', '.join(wrong) or 'status or name'}")
        if missing := _CONFIG_KEYS - values["config"].keys():
            raise KeyError(f"config has no {min(missing)}")
        return cls(**values)


#: What JSON makes of each field.
_KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("id", "name", "command", "status", "boot_id", "image", "image_id", "base", "error"), str),
    **dict.fromkeys(("stop_requested", "is_restarting", "is_recorded_end", "oom_killed"), bool),
    **dict.fromkeys((
        "pid", "start_time", "started_ns", "finished_ns", "exit_code", "signal", "cpu_ns", "memory_peak_bytes"),
        (int, type(None))),
    **dict.fromkeys(("endpoints", "ports"), (list, type(None))),
    "created_ns": int, "config": dict, "layers": tuple,
}
#: What is looked up in each container's `config` without asking whether it is there.
_CONFIG_KEYS = {
    "argv", "env", "interactive", "labels", "log_files", "log_max_bytes", "network", "rm", "stop_signal", "stop_timeout_s", "tty",
    "user", "workdir",
}


class Claim:
    """An id in the making: its journal entry and its directory, both locked by `journal_fd` and `lock`.

    Close without `commit` or `abandon` (a crash) leaves garbage that recover.py finds by the journal.
    """

    __slots__ = ("id", "journal_fd", "lock", "path")

    def __init__(self, container_id: str, path: str, journal_fd: int, lock: DirectoryLock) -> None:
        self.id = container_id
        self.path = path
        self.journal_fd = journal_fd
        self.lock = lock

    def close(self) -> None:
        """Drop this process's hold on both locks."""
        self.lock.close()
        if self.journal_fd >= 0:
            os.close(self.journal_fd)
            self.journal_fd = -1


class Store:
    """Reads and writes container records below one Layout."""

    __slots__ = ("layout",)

    def __init__(self, layout: paths.Layout) -> None:
        self.layout = layout

    def claim_id(self) -> Claim:
        """Return a fresh id with its directory, journalled and locked. Raises OSError."""
        while True:
            container_id = ids.new_container_id()
            journal_fd = self._open_journal(container_id)
            if journal_fd < 0:
                continue
            trace.point("made journal entry")
            directory = self.layout.container(container_id)
            try:
                os.mkdir(directory, 0o700)
            except FileExistsError:
                os.close(journal_fd)
                os.unlink(f"{self.layout.creating}/{container_id}")
                continue
            lock = lock_directory(directory)
            assert lock is not None  # waited for
            return Claim(container_id, directory, journal_fd, lock)

    def _open_journal(self, container_id: str) -> int:
        """Make and lock a journal entry; -1 when the id is taken or a sweep got the fresh entry first."""
        path = f"{self.layout.creating}/{container_id}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return -1
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return -1
        if os.fstat(fd).st_nlink == 0:
            os.close(fd)
            return -1
        return fd

    def is_journalled(self, container_id: str) -> bool:
        """Tell whether the container is still being made, or was when its maker was killed."""
        return os.path.exists(f"{self.layout.creating}/{container_id}")

    def end_journal(self, container_id: str) -> None:
        """Remove the journal entry: the container is whole, or wholly gone. Idempotent."""
        _unlink(f"{self.layout.creating}/{container_id}")

    def claim_name(self, name: str, container_id: str) -> None:
        """Enter a name into the index; its existence is the lock. Raises Conflict when it is in use."""
        link = self.layout.name(name)
        target = f"../container/{container_id}"
        for _ in range(100):
            try:
                os.symlink(target, link)
            except FileExistsError:
                holder = self._holder_of(name)
                if holder:
                    raise Conflict(
                        f"name {name} is in use by container {holder}",
                        hint="choose another, or remove that one with `mydocker rm`") from None
                continue
            trace.point("linked name")
            self._link_run(name, container_id)
            return
        raise Conflict(f"name {name} cannot be claimed: others claim and release it all the time")

    def _holder_of(self, name: str) -> str:
        """Return the id that holds a name; a link whose container is gone is removed and holds nothing."""
        lock = lock_directory(self.layout.names)  # only on this rare path, and never held while waiting for another
        assert lock is not None
        with lock:
            holder = self.id_of_name(name)
            if holder and os.path.isdir(self.layout.container(holder)):
                return holder
            _unlink(self.layout.name(name))
            return ""

    def _link_run(self, name: str, container_id: str) -> None:
        """Show the container at the seed's place, replacing what an earlier boot or crash left.

        The name is claimed, so whoever is in the way is gone or at the same. Without a temporary file
        there is none that a kill could leave.
        """
        target = self.layout.container(container_id)
        while True:
            try:
                os.symlink(target, self.layout.run_link(name))
                return
            except FileExistsError:
                if self._run_target(name) == target:
                    return
                _unlink(self.layout.run_link(name))

    def _run_target(self, name: str) -> str:
        try:
            return os.readlink(self.layout.run_link(name))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL):  # EINVAL: not a link, so not ours
                return ""
            raise

    def ensure_run_links(self) -> None:
        """Put back the run directory's links after a reboot emptied it, and remove those that lead nowhere."""
        # In this order: of a name that comes or goes meanwhile the link is not seen without the name.
        links = set(os.listdir(self.layout.run))
        names = set(os.listdir(self.layout.names))
        for name in names - links:
            if container_id := self.id_of_name(name):
                self._link_run(name, container_id)
        for name in links - names:
            target = self._run_target(name)
            if target.startswith(f"{self.layout.containers}/") and not self.id_of_name(name) and not os.path.isdir(target):
                _unlink(self.layout.run_link(name))

    def release_name(self, name: str, container_id: str) -> None:
        """Remove a name and its run link, if they are this container's. Idempotent."""
        if self.id_of_name(name) == container_id:
            _unlink(self.layout.name(name))
        if self._run_target(name) == self.layout.container(container_id):
            _unlink(self.layout.run_link(name))

    def id_of_name(self, name: str) -> str:
        """Return the id that a name leads to, or ''."""
        try:
            return os.readlink(self.layout.name(name)).rpartition("/")[2]
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL):
                return ""
            raise

    def ids(self) -> list[str]:
        """Return the ids of all container directories, whole or not."""
        return [name for name in os.listdir(self.layout.containers) if not name.startswith(".")]

    def find(self, reference: str) -> str:
        """Return the id for an id, a name, or a unique prefix of either. Raises NotFound, Conflict (ambiguous)."""
        if not is_name(reference):
            raise NotFound(f"no container {reference!r}", hint="`mydocker ps` lists those there are")
        # The id first, as with docker: no other container can take it away by being named so.
        if os.path.isdir(self.layout.container(reference)):
            return reference
        container_id = self.id_of_name(reference)
        if container_id and os.path.isdir(self.layout.container(container_id)):
            return container_id
        found = {name for name in self.ids() if name.startswith(reference)}
        found |= {self.id_of_name(name) for name in os.listdir(self.layout.names) if name.startswith(reference)}
        found = {name for name in found if name and os.path.isdir(self.layout.container(name))}
        if len(found) > 1:
            raise Conflict(f"container {reference} is ambiguous: {', '.join(sorted(found)[:5])}", hint="write more of it")
        if not found:
            raise NotFound(f"no container {reference}", hint="`mydocker ps` lists those there are")
        return found.pop()

    def load(self, container_id: str) -> ContainerRecord:
        """Return a container's record. Raises NotFound, Corrupt."""
        path = f"{self.layout.container(container_id)}/{paths.RECORD}"
        try:
            record = ContainerRecord.from_document(files.load_json(path))
            if record.id != container_id:
                raise ValueError(f"it is of container {record.id!r}")  # its id leads to paths
            return record
        except (KeyError, TypeError, ValueError) as error:
            raise Corrupt(f"read {path}: it is not a container's record: {error}", hint=BROKEN_HINT) from error
        except Corrupt as error:
            raise Corrupt(error.message, hint=BROKEN_HINT) from error
        except FileNotFoundError:
            raise NotFound(f"no container {container_id}", hint="`mydocker ps` lists those there are") from None

    def save(self, record: ContainerRecord) -> None:
        """Replace a container's record. The caller holds the container's lock."""
        files.save_json(f"{self.layout.container(record.id)}/{paths.RECORD}", record.to_document())

    def lock(self, container_id: str, *, force: bool = False) -> DirectoryLock:
        """Take a container's lock, waiting for it. The caller closes it.

        Raises NotFound, and Timeout when somebody has it who stands still; with `force` a monitor that does so is killed.
        """
        directory = self.layout.container(container_id)
        try:
            lock = lock_directory(directory, wait=False)
            if lock is None:
                from .standstill import wait_for_lock  # cold: two commands at once with one container

                lock = wait_for_lock(directory, force=force)
            return lock
        except NotFound:
            raise NotFound(f"no container {container_id}", hint="`mydocker ps` lists those there are") from None

    def discard(self, container_id: str, name: str) -> str:
        """Rename a container's directory into the trash and free its name; return the trash path.

        The trash name tells id and name, so that a sweep can finish if we die in between. The caller
        holds the container's lock and deletes the path.
        """
        trash = f"{self.layout.trash}/container@{container_id}@{name}@{ids.new_unique()}"
        os.rename(self.layout.container(container_id), trash)
        trace.point("renamed to trash")
        self.release_name(name, container_id)
        self.end_journal(container_id)
        return trash


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # somebody finished it for us
