"""The state of the containers of `mydocker-runtime`: one directory a container, below `--root`.

    <root>/<id>/           0700; flock on it is the container's lock, mkdir of it the claim on its id
      state.json           who its init is, where its cgroup is; written once, by create
      spec.json            the config.json that it was made from, as it was then
      exec.fifo            there until `start`: the init waits for a byte from it
      notify/              with NOTIFY_SOCKET only: what the container sees of it (notify.py)
    <root>/~seccomp/       compiled filters, by what they were compiled from (seccomp.py)

Knows nothing of what the numbers mean now: status.py asks the kernel. A directory without state.json is what a killed `create`
or `delete` left; it is nobody's while nobody holds its lock. The engine does not keep its containers here.
"""
from __future__ import annotations

import os

from mydocker.base import files
from mydocker.base.errors import Conflict, Corrupt, InvalidRequest, NotFound
from mydocker.base.jsontext import without_nulls
from mydocker.base.locks import DirectoryLock, lock_directory
from mydocker.base.record import Record
from mydocker.linux.process import ProcessIdentity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from mydocker.oci.runtime_spec import Spec

DEFAULT_ROOT = "/run/mydocker-runtime"
STATE, SPEC, FIFO = "state.json", "spec.json", "exec.fifo"
_VERSION = 1
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_MAX_ID = 1024


def default_root() -> str:
    """Return the state directory for this user: below XDG_RUNTIME_DIR where we are not the machine's root."""
    own = os.environ.get("XDG_RUNTIME_DIR")
    return f"{own}/mydocker-runtime" if own and not is_machine_root() else DEFAULT_ROOT


def is_machine_root() -> bool:
    """Tell whether we are root of the first user namespace, whose map is the whole range (user_namespaces(7))."""
    if os.geteuid() != 0:
        return False
    try:
        return files.read_bytes("/proc/self/uid_map").split() == [b"0", b"0", b"4294967295"]
    except FileNotFoundError:
        return True  # a kernel without user namespaces


class ContainerState(Record):
    """What `create` wrote down of a container. `cgroup` is what linux/cgroup opens it by."""

    id: str
    oci_version: str
    bundle: str
    rootfs: str
    created: str
    owner: str
    annotations: dict[str, str]
    cgroup: dict[str, Any]
    pid: int
    start_time: int
    boot_id: str

    @property
    def init(self) -> ProcessIdentity:
        """The container's first process."""
        return ProcessIdentity(pid=self.pid, start_time=self.start_time, boot_id=self.boot_id)

    def to_document(self) -> dict[str, Any]:
        """Return what is stored."""
        return {"version": _VERSION, **self.as_dict()}

    @classmethod
    def from_document(cls, document: Any, path: str) -> Self:
        """Return the record of a stored document. Raises Corrupt."""
        if not isinstance(document, dict) or document.get("version") != _VERSION:
            raise Corrupt(f"read {path}: not the state of a container of this version")
        try:
            return cls(**{key: value for key, value in document.items() if key in cls._fields})
        except TypeError as error:
            raise Corrupt(f"read {path}: {error}") from error


class StateRoot:
    """The directory that holds one entry a container."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)

    def directory(self, container_id: str) -> str:
        """Return the path of a container's directory. Raises InvalidRequest for what cannot be an id."""
        return f"{self.path}/{check_id(container_id)}"

    def claim(self, container_id: str) -> DirectoryLock:
        """Make a new container's directory and return its lock. Raises Conflict when the id is taken."""
        path = self.directory(container_id)
        for _ in range(8):
            try:
                os.mkdir(path, 0o700)
            except FileNotFoundError:
                os.makedirs(self.path, mode=0o700, exist_ok=True)
                continue
            except FileExistsError:
                self._discard_leftover(container_id)
                continue
            try:
                lock = lock_directory(path, wait=False)
            except NotFound:
                continue  # another create took it for a leftover
            if lock is not None:
                return lock
        raise Conflict(f"container with id {container_id} already exists")

    def _discard_leftover(self, container_id: str) -> None:
        """Remove a directory that a killed create left. Raises Conflict when a container is in it, or is being made."""
        path = self.directory(container_id)
        try:
            lock = lock_directory(path, wait=False)
        except NotFound:
            return
        if lock is None or os.access(f"{path}/{STATE}", os.F_OK):
            if lock is not None:
                lock.close()
            raise Conflict(f"container with id {container_id} already exists")
        with lock:
            remove_directory(path)

    def lock(self, container_id: str) -> DirectoryLock:
        """Wait for a container's lock. Raises NotFound."""
        try:
            lock = lock_directory(self.directory(container_id))
        except NotFound:
            raise does_not_exist(container_id) from None
        assert lock is not None  # it waited
        return lock

    def load(self, container_id: str) -> ContainerState:
        """Return a container's state. Raises NotFound, Corrupt."""
        path = f"{self.directory(container_id)}/{STATE}"
        try:
            return ContainerState.from_document(files.load_json(path), path)
        except FileNotFoundError:
            raise does_not_exist(container_id) from None

    def load_spec(self, container_id: str) -> Spec:
        """Return the runtime spec that a container was made from. Raises NotFound, Corrupt."""
        try:
            spec: Spec = without_nulls(files.load_json(f"{self.directory(container_id)}/{SPEC}"))
        except FileNotFoundError:
            raise does_not_exist(container_id) from None
        return spec

    def fifo(self, container_id: str) -> str:
        """Return the path of the FIFO that a created container's init waits at."""
        return f"{self.directory(container_id)}/{FIFO}"

    @property
    def seccomp_cache(self) -> str:
        """The directory of compiled filters; no container can have this name."""
        return f"{self.path}/~seccomp"

    def ids(self) -> list[str]:
        """Return the ids of all containers that were made, sorted. Raises OSError where `--root` named what is not there."""
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            if self.path != default_root():
                raise
            return []  # nothing was created yet
        return sorted(name for name in names if os.access(f"{self.path}/{name}/{STATE}", os.F_OK))


def check_id(container_id: str) -> str:
    """Return a container id as it is. Raises InvalidRequest for one that could not name a directory, or would lead out."""
    if not 0 < len(container_id) <= _MAX_ID or container_id in (".", "..") or not _ID_CHARACTERS.issuperset(container_id):
        raise InvalidRequest(f"invalid container id {container_id!r}", hint="letters, digits and _ + - . make one")
    return container_id


def does_not_exist(container_id: str) -> NotFound:
    """Return the error for an unknown id; containerd's shim looks for these words."""
    return NotFound(f"container {container_id} does not exist")


def remove_directory(path: str) -> None:
    """Remove a container's directory, the state last; the caller holds its lock."""
    for name in sorted(os.listdir(path), key=lambda name: name == STATE):
        try:
            os.unlink(f"{path}/{name}")
        except IsADirectoryError:
            remove_directory(f"{path}/{name}")  # that of notify.py
    os.rmdir(path)
