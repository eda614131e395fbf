"""The monitor stage: what a forked child does between the engine's decision and the C monitor.

It is single-threaded Python with everything imported already, forked from the command line or from the
launcher. It leads a session of its own, makes the container (or the exec session), writes the record
and executes the monitor in place: same pid, still the parent of the container's init, now small.

Locks: the container's lock and its journal entry come with the fork and are held on until the record
says `created` (journal) and the start is recorded (lock, by the monitor).
"""
from __future__ import annotations

import _socket
import os
import sys
from _signal import SIG_DFL, SIGCHLD  # type: ignore[import-not-found]
from _signal import signal as set_signal

from mydocker.base import log, paths, trace
from mydocker.base.record import Record
from mydocker.base.undo import Undo
from mydocker.linux import syscalls as sc
from mydocker.linux.cgroup.group import Cgroup
from mydocker.linux.process import boot_id, read_start_time
from mydocker.runtime import sync
from mydocker.runtime.create import Created, create, kill_and_reap
from mydocker.runtime.exec import ExecOrder, enter
from mydocker.runtime.plan import program_path
from mydocker.runtime.seccomp import prepare_filter

from .lifecycle import CREATED, RUNNING
from .store import ContainerRecord, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, Protocol

    from mydocker.oci.runtime_spec import Mount, Process, Seccomp, Spec

    class Runtime(Protocol):
        """What turns a spec into a container, and a process into one inside: our own runtime, or another (`--runtime`).

        Both return as soon as there is a process to watch; what it says then is in docs/protocols.md.
        """

        def create(
            self, spec: Spec, *, root_mount: Mount, stdio: tuple[int, int, int] | None, user: str, groups: tuple[str, ...]
        ) -> Created: ...
        def enter(
            self, process: Process, *, cgroups_path: str, namespaces: int, init_pidfd: int, stdio: tuple[int, int, int] | None,
            user: str, groups: tuple[str, ...], seccomp: Seccomp | None,
        ) -> Created: ...

#: What a clean-up started by the monitor inherits; never the caller's environment, which may hold secrets.
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **trace.environment()}
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


class ExecStage(Record):
    """A further process in a running container; `directory` is exec/<id> of the container's."""

    container_id: str
    directory: str
    cgroups_path: str
    process: Process
    namespaces: int
    init_pidfd: int
    user: str
    groups: tuple[str, ...]
    interactive: bool
    client: _socket.socket
    client_flags: int
    seccomp: Seccomp | None = None
    seccomp_cache: str = ""
    runtime: str = ""


class OwnRuntime:
    """The runtime of mydocker.runtime, called in process. `network_fd`: see runtime/create.py."""

    __slots__ = ("_container_id", "_directory", "_network_fd", "_seccomp_cache")

    def __init__(self, container_dir: str, container_id: str, seccomp_cache: str, network_fd: int) -> None:
        self._directory = container_dir
        self._container_id = container_id
        self._seccomp_cache = seccomp_cache
        self._network_fd = network_fd

    def create(
        self, spec: Spec, *, root_mount: Mount, stdio: tuple[int, int, int] | None, user: str, groups: tuple[str, ...]
    ) -> Created:
        """Clone the container's init."""
        return create(
            spec, f"{self._directory}/{paths.BUNDLE}/rootfs", root_mount=root_mount, stdio=stdio, user=user, groups=groups,
            container_id=self._container_id, seccomp_cache=self._seccomp_cache, network_fd=self._network_fd)

    def enter(
        self, process: Process, *, cgroups_path: str, namespaces: int, init_pidfd: int, stdio: tuple[int, int, int] | None,
        user: str, groups: tuple[str, ...], seccomp: Seccomp | None,
    ) -> Created:
        """Clone a process into the container."""
        order = ExecOrder(
            process=process, namespaces=namespaces, init_pidfd=init_pidfd, stdio=stdio, user=user, groups=groups,
            seccomp=prepare_filter(seccomp, self._seccomp_cache), container_id=self._container_id,
            bundle=f"{self._directory}/{paths.BUNDLE}")
        return enter(order, Cgroup.open(cgroups_path))


def choose_runtime(
    program: str, container_dir: str, container_id: str, seccomp_cache: str, *, network_fd: int = -1,
) -> Runtime:
    """Return what makes this container: our own runtime, unless `program` is another's path."""
    if not program:
        return OwnRuntime(container_dir, container_id, seccomp_cache, network_fd)
    from mydocker.runtime.foreign import ForeignRuntime  # cold

    return ForeignRuntime(program=program, directory=f"{container_dir}/{paths.RUNTIME}", container_id=container_id)


def run_container_stage(order: ContainerStage) -> NoReturn:
    """Make the container and become its monitor. Never returns; failures go to the client."""
    try:
        become_monitor(f"mydocker {order.record.id}")
        trace.point("stage began")
        _make_container(order)
    except BaseException as error:
        sync_failure(order.client, error)


def run_exec_stage(order: ExecStage) -> NoReturn:
    """Start the process and become its monitor. Never returns; failures go to the client."""
    try:
        become_monitor("mydocker exec")
        trace.point("exec stage began")
        _make_exec(order)
    except BaseException as error:
        sync_failure(order.client, error)


def become_monitor(title: str) -> None:
    """Leave the caller's session, adopt orphans, let go of its terminal and of whatever it inherited."""
    os.setsid()
    # The launcher lets the kernel reap its children; here each end must be seen.
    set_signal(SIGCHLD, SIG_DFL)
    sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)
    sc.close_range(3, 0xFFFFFFFF, 4)  # CLOSE_RANGE_CLOEXEC: descriptors of the caller's caller, too
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1) if log.is_enabled() else (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    os.chdir("/")


def _make_container(order: ContainerStage) -> NoReturn:
    record, config = order.record, order.record.config
    directory = order.store.layout.container(record.id)
    outside, inside = _open_stdio(tty=config["tty"], interactive=config["interactive"])
    directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = _listen(directory_fd)
    trace.point("listening")
    with Undo() as undo:
        runtime = choose_runtime(
            config.get("runtime", ""), directory, record.id, order.store.layout.seccomp, network_fd=order.network_fd)
        created = runtime.create(
            join_namespaces(order), root_mount=order.root_mount, stdio=inside, user=config["user"],
            groups=tuple(record.isolation.get("groups", ())))
        undo.callback(created.cgroup.remove)
        undo.callback(kill_and_reap, created.pid, created.pidfd)
        trace.point("cloned init")
        if config.get("endpoints"):
            record = connect_networks(order, record, created)
        # Written before it is true: the journal entry, which the monitor removes at READY, says so until then.
        # Fails when an impatient client has discarded the directory meanwhile: then nothing may remain.
        order.store.save(record.replace(
            status=RUNNING if order.start else CREATED, pid=created.pid, start_time=read_start_time(created.pid),
            boot_id=boot_id()))
        trace.point("recorded created")
        arguments = [
            "--log", paths.LOG, "--log-max-size", str(config["log_max_bytes"]), "--log-max-files", str(config["log_files"]),
            "--listen", str(_keep(listener.fileno())), "--lock", str(_keep(order.lock_fd)),
            *(["--start"] if order.start else []),
        ]
        if order.journal_fd >= 0:
            journal_dir_fd = os.open(order.store.layout.creating, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            # From here on the container's lock alone keeps a sweep away; the monitor holds it until the entry is gone.
            arguments += ["--journal", str(_keep(journal_dir_fd))]
        _execute_monitor(
            created, directory_fd, record.id, outside, order.client, order.client_flags, arguments,
            _clean_up_argv(order.store, record.id))


def connect_networks(order: ContainerStage, record: ContainerRecord, created: Created) -> ContainerRecord:
    """Put the container on its networks; return its record with what came of it."""
    from . import connecting  # cold

    endpoints = connecting.connect(order.store.layout, record, created)
    connecting.write_hosts(order.store.layout.container(record.id), endpoints, order.spec.get("hostname", record.id))
    return record.replace(endpoints=connecting.documents(endpoints))


def join_namespaces(order: ContainerStage) -> Spec:
    """Return the spec, with the namespaces of other containers that it shares opened."""
    if not any(str(mode).startswith("container:") for mode in order.record.isolation.values()):
        return order.spec
    from .joining import join_others  # cold

    return join_others(order.store, order.record, order.spec)


def _make_exec(order: ExecStage) -> NoReturn:
    outside, inside = _open_stdio(tty=order.process.get("terminal", False), interactive=order.interactive)
    directory_fd = os.open(order.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    container_dir = os.path.dirname(os.path.dirname(order.directory))
    created = choose_runtime(order.runtime, container_dir, order.container_id, order.seccomp_cache).enter(
        order.process, cgroups_path=order.cgroups_path, namespaces=order.namespaces, init_pidfd=order.init_pidfd, stdio=inside,
        user=order.user, groups=order.groups, seccomp=order.seccomp)
    trace.point("cloned exec")
    _execute_monitor(
        created, directory_fd, order.container_id, outside, order.client, order.client_flags, ["--start"], [],
        accounting=False)


class Stdio(Record):
    """The monitor's ends of a process's stdio; -1 where there is none."""

    stdin: int = -1
    stdout: int = -1
    stderr: int = -1


def _open_stdio(*, tty: bool, interactive: bool) -> tuple[Stdio, tuple[int, int, int] | None]:
    """Return the monitor's ends and the process's; a terminal is made inside, later."""
    if tty:
        return Stdio(), None
    if interactive:
        in_read, in_write = os.pipe2(os.O_CLOEXEC)
    else:
        in_read, in_write = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), -1
    out_read, out_write = os.pipe2(os.O_CLOEXEC)
    err_read, err_write = os.pipe2(os.O_CLOEXEC)
    return Stdio(stdin=in_write, stdout=out_read, stderr=err_read), (in_read, out_write, err_write)


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


def _keep(fd: int) -> int:
    os.set_inheritable(fd, True)
    return fd


def _execute_monitor(
    created: Created, directory_fd: int, container_id: str, outside: Stdio, client: _socket.socket, client_flags: int,
    arguments: list[str], clean_up: list[str], *, accounting: bool = True,
) -> NoReturn:
    argv = [
        "mydocker-monitor", "--dir", str(_keep(directory_fd)), "--pid", str(created.pid),
        "--pid-fd", str(_keep(created.pidfd)), "--sync", str(_keep(created.channel.fileno())), "--id", container_id,
        "--client", str(_keep(client.fileno())), "--client-flags", str(client_flags), "--making", *arguments,
    ]
    for option, fd in (("--stdin", outside.stdin), ("--stdout", outside.stdout), ("--stderr", outside.stderr)):
        if fd >= 0:
            argv += [option, str(_keep(fd))]
    if accounting:
        bill = created.cgroup.open_accounting()
        for option, fd in (
            ("--cgroup-cpu", bill.cpu_fd), ("--cgroup-memory-peak", bill.memory_peak_fd), ("--cgroup-oom", bill.oom_fd),
        ):
            if fd >= 0:
                argv += [option, str(_keep(fd))]
        if bill.memory_peak_fd >= 0 and bill.peak_reset:
            argv += ["--peak-reset", bill.peak_reset]
    if clean_up:
        argv += ["--", *clean_up]
    os.execve(program_path("mydocker-monitor"), argv, _ENVIRONMENT)


def _clean_up_argv(store: Store, container_id: str) -> list[str]:
    return [sys.executable, "-IS", "-c", _bootstrap() + _CLEAN_UP, store.layout.root, store.layout.run, container_id]


def _bootstrap() -> str:
    """Return code that finds this package again without `site`, which would cost the clean-up its start."""
    package_parent = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return f"import sys; sys.path.insert(0, {package_parent!r}); "


def sync_failure(client: _socket.socket, error: BaseException) -> NoReturn:
    """Tell the client what went wrong and end; everything made was undone on the way here."""
    try:
        sync.send(client, sync.pack_failure(error))
    except OSError:
        pass  # the client was killed: the journal entry tells the next command what to remove
    if log.is_enabled():
        import traceback  # cold

        traceback.print_exception(error)
    os._exit(1)
