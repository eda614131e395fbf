"""The monitor stage: what a forked child does between the engine's decision and the C monitor.

Forked from the command line or from the launcher, it makes the container, writes the record and becomes the
monitor (becoming.py). exec_stage.py is its counterpart for exec sessions.

Locks: the container's lock and its journal entry come with the fork and are held on until the record
says `created` (journal) and the start is recorded (lock, by the monitor).
"""
from __future__ import annotations

import _socket
import os
import sys

from mydocker.base import paths, trace
from mydocker.base.record import Record
from mydocker.base.undo import Undo
from mydocker.linux.process import boot_id, read_start_time
from mydocker.runtime.cloning import Created, kill_and_reap
from mydocker.runtime.create import create

from .becoming import become_monitor, execute_monitor, keep, open_stdio, sync_failure
from .lifecycle import CREATED, FAMILY, RUNNING
from .store import ContainerRecord, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, Protocol

    from mydocker.oci.runtime_spec import Mount, Spec

    class Runtime(Protocol):
        """What turns a spec into a container: our own runtime, or another (`--runtime`).

        Returns as soon as there is a process to watch; what it says then is in docs/protocols.md.
        """

        def create(
            self, spec: Spec, *, root_mount: Mount, stdio: tuple[int, int, int] | None, user: str, groups: tuple[str, ...]
        ) -> Created: ...

_CLEAN_UP = "from mydocker.engine.cleanup import main; main()"


class ContainerStage(Record):
    """A container to be made (first start) or made again (start of an ended one)."""

    store: Store
    record: ContainerRecord
    spec: Spec
    root_mount: Mount
    start: bool
    client: _socket.socket
    client_flags: int
    lock_fd: int
    journal_fd: int = -1
    network_fd: int = -1
    """A new network namespace that was made ahead."""


class OwnRuntime:
    """The runtime of mydocker.runtime, called in process. `network_fd`: see runtime/create.py."""

    __slots__ = ("_container_id", "_directory", "_lock_fds", "_network_fd", "_seccomp_cache")

    def __init__(
        self, container_dir: str, container_id: str, seccomp_cache: str, network_fd: int, lock_fds: tuple[int, ...],
    ) -> None:
        self._directory = container_dir
        self._container_id = container_id
        self._seccomp_cache = seccomp_cache
        self._network_fd = network_fd
        self._lock_fds = lock_fds

    def create(
        self, spec: Spec, *, root_mount: Mount, stdio: tuple[int, int, int] | None, user: str, groups: tuple[str, ...]
    ) -> Created:
        """Clone the container's init."""
        return create(
            spec, f"{self._directory}/{paths.BUNDLE}/rootfs", root_mount=root_mount, stdio=stdio, user=user, groups=groups,
            container_id=self._container_id, seccomp_cache=self._seccomp_cache, network_fd=self._network_fd,
            lock_fds=self._lock_fds)


def choose_runtime(
    program: str, container_dir: str, container_id: str, seccomp_cache: str, *, network_fd: int = -1,
    lock_fds: tuple[int, ...] = (),
) -> Runtime:
    """Return what makes this container: our own runtime, unless `program` is another's path."""
    if not program:
        return OwnRuntime(container_dir, container_id, seccomp_cache, network_fd, lock_fds)
    from mydocker.runtime.foreign import ForeignRuntime  # cold

    return ForeignRuntime(program=program, directory=f"{container_dir}/{paths.RUNTIME}", container_id=container_id)


def run_container_stage(order: ContainerStage) -> NoReturn:
    """Make the container and become its monitor. Never returns; failures go to the client."""
    try:
        become_monitor(f"{FAMILY} {order.record.id}")
        trace.point("stage began")
        _make_container(order)
    except BaseException as error:
        sync_failure(order.client, error)


def _make_container(order: ContainerStage) -> NoReturn:
    record, config = order.record, order.record.config
    directory = order.store.layout.container(record.id)
    outside, inside = open_stdio(tty=config["tty"], interactive=config["interactive"])
    directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = _listen(directory_fd)
    trace.point("listening")
    with Undo() as undo:
        reservation = None
        if config.get("ports") or config.get("publish_all"):
            from .publishing import reserve_ports  # cold

            # A port in use is told before there is anything to start.
            reservation = reserve_ports(order.store.layout, config)
        runtime = choose_runtime(
            config.get("runtime", ""), directory, record.id, order.store.layout.seccomp, network_fd=order.network_fd,
            lock_fds=(order.lock_fd, *([order.journal_fd] if order.journal_fd >= 0 else [])))
        created = runtime.create(
            join_namespaces(order), root_mount=order.root_mount, stdio=inside, user=config["user"],
            groups=tuple(record.isolation.get("groups", ())))
        undo.callback(created.cgroup.remove)
        undo.callback(kill_and_reap, created.pid, created.pidfd)
        trace.point("cloned init")
        if config.get("endpoints"):
            from .connecting import join_networks  # cold

            record = join_networks(order.store.layout, record, created, reservation)
        # Written before it is true: the journal entry, which the monitor removes at READY, says so until then.
        # Fails when an impatient client has discarded the directory meanwhile: then nothing may remain.
        record = record.replace(
            status=RUNNING if order.start else CREATED, pid=created.pid, start_time=read_start_time(created.pid),
            boot_id=boot_id())
        order.store.save(record)
        trace.point("recorded created")
        arguments = [
            "--log", paths.LOG, "--log-max-size", str(config["log_max_bytes"]), "--log-max-files", str(config["log_files"]),
            "--listen", str(keep(listener.fileno())), "--lock", str(keep(order.lock_fd)),
            *(["--start"] if order.start else []),
        ]
        if reservation is not None:
            arguments += reservation.publish(order.store, record, undo)
        if order.journal_fd >= 0:
            journal_dir_fd = os.open(order.store.layout.creating, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            # From here on the container's lock alone keeps a sweep away; the monitor holds it until the entry is gone.
            arguments += ["--journal", str(keep(journal_dir_fd))]
        execute_monitor(
            created, directory_fd, record.id, outside, order.client, order.client_flags, arguments,
            _clean_up_argv(order.store, record.id))


def join_namespaces(order: ContainerStage) -> Spec:
    """Return the spec, with the namespaces of other containers that it shares opened, and the insides of volumes."""
    spec = order.spec
    if any(str(mode).startswith("container:") for mode in order.record.isolation.values()):
        from .joining import join_others  # cold

        spec = join_others(order.store, order.record, spec)
    if any(item.get("subpath") for item in order.record.config["volumes"]):
        from .volume_mounts import open_subpaths  # cold

        spec = open_subpaths(order.record, spec)
    return spec


def _listen(directory_fd: int) -> _socket.socket:
    """Return the control socket, bound in the container's directory by a path that always fits sun_path."""
    path = f"/proc/self/fd/{directory_fd}/{paths.CONTROL_SOCKET}"
    for leftover in (paths.CONTROL_SOCKET, paths.STARTED, paths.EXIT):  # of an earlier start
        try:
            os.unlink(leftover, dir_fd=directory_fd)
        except FileNotFoundError:
            pass
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    listener.bind(path)
    listener.listen(16)
    return listener


def _clean_up_argv(store: Store, container_id: str) -> list[str]:
    return [sys.executable, "-IS", "-c", _bootstrap() + _CLEAN_UP, store.layout.root, store.layout.run, container_id]


def _bootstrap() -> str:
    """Return code that finds this package again without `site`, which would cost the clean-up its start."""
    package_parent = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return f"import sys; sys.path.insert(0, {package_parent!r}); "
