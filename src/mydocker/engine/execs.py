"""Exec sessions: further processes in running containers.

    container/<id>/exec/<exec id>/    started, exit: what the session's monitor recorded; gone after a
                                      foreground session, kept of others until the next exec
"""
from __future__ import annotations

import _socket
import os

from mydocker.base import files, ids, paths, trace
from mydocker.base.errors import CommandNotExecutable, CommandNotFound, Conflict, InvalidRequest, MydockerError, NotFound
from mydocker.base.record import Record
from mydocker.linux.process import open_pidfd
from mydocker.monitor.protocol import IS_OWNER, WANTS_STDERR, WANTS_STDIN, WANTS_STDOUT
from mydocker.runtime.namespaces import FLAGS

from . import recover
from .ending import current
from .exec_stage import ExecStage
from .lifecycle import ALIVE, require_running
from .observe import identity_of
from .process_spec import merge_env, set_console_size
from .request import judge_argv, judge_console_size, judge_env
from .sessions import LiveSession

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TypedDict

    from mydocker.oci.runtime_spec import Process, Spec

    from .starting import Starter
    from .store import ContainerRecord, Store

    class ExecOptions(TypedDict, total=False):
        """Keywords of `container.open_exec`: the options of `mydocker exec`, `-` written as `_`."""

        env: Mapping[str, str] | Iterable[str] | None
        env_file: str | Iterable[str]
        workdir: str
        user: str
        tty: bool
        interactive: bool
        detach: bool
        console_size: tuple[int, int] | None
        privileged: bool


class ExecRequest(Record):
    """What to run in a container, judged."""

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    tty: bool = False
    interactive: bool = False
    detach: bool = False
    console_size: tuple[int, int] | None = None
    privileged: bool = False


class ExecResult(Record):
    """How an exec'd process ended, and what it wrote."""

    exit_code: int
    stdout: bytes
    stderr: bytes


def judge_exec(
    argv: Iterable[str], *, env: Mapping[str, str] | Iterable[str] | None = None, env_file: Iterable[str] = (),
    workdir: str = "", user: str = "", tty: bool = False, interactive: bool = False, detach: bool = False,
    console_size: tuple[int, int] | None = None, privileged: bool = False,
) -> ExecRequest:
    """Return the judged request; `console_size` is (rows, columns) of its terminal. Raises InvalidRequest."""
    words = judge_argv(argv)
    if not words:
        raise InvalidRequest("no command to execute")
    if workdir and not workdir.startswith("/"):
        raise InvalidRequest(f"workdir {workdir!r} must be an absolute path")
    items: list[str] = []
    if env_file:
        from .env_files import read_env_files  # cold

        items += read_env_files(env_file)
    items += judge_env(env)
    if detach and interactive:
        raise InvalidRequest("a detached command has no input", hint="leave out -i or -d")
    return ExecRequest(
        argv=words, env=tuple(items), workdir=workdir, user=user, tty=tty, interactive=interactive, detach=detach,
        console_size=judge_console_size(console_size) if console_size is not None else None, privileged=privileged)


def build_exec_process(spec: Spec, request: ExecRequest) -> Process:
    """Return the process to run: the container's own, with what the request changes."""
    process: Process = {**spec["process"], "args": list(request.argv), "terminal": request.tty}
    process["env"] = merge_env(["TERM=xterm"] if request.tty else (), process.get("env", ()), request.env)
    set_console_size(process, request.console_size if request.tty else None)
    if request.privileged:
        from .isolation_spec import available_capabilities  # cold

        names = available_capabilities()
        process["capabilities"] = {"bounding": names, "effective": names, "permitted": names}
        process.pop("apparmorProfile", None)
    if request.workdir:
        process["cwd"] = request.workdir
    return process


def namespaces_to_join(spec: Spec) -> int:
    """Return the CLONE_NEW* flags of the namespaces that the container has of its own."""
    flags = 0
    for namespace in spec.get("linux", {}).get("namespaces", ()):
        flags |= FLAGS[namespace["type"]]
    return flags


def open_exec(store: Store, starter: Starter, container_id: str, request: ExecRequest) -> LiveSession:
    """Start a process in a running container and return its session, attached to its streams.

    Raises Conflict when the container does not run, CommandNotFound, CommandNotExecutable, NotFound (user).
    """
    record = current(store, container_id)
    require_running(record.status, "exec in", name=record.name)
    try:
        return _open(store, starter, record, request)
    except (CommandNotFound, CommandNotExecutable):
        raise
    except (MydockerError, FileNotFoundError) as error:
        # Each step has words of its own for a container that ends meanwhile, down to ENOMEM for a clone into its namespace.
        if not _has_ended(store, record):
            raise
        raise Conflict(f"exec in container {record.name}: it has just ended") from error


def _has_ended(store: Store, record: ContainerRecord) -> bool:
    """Tell whether the run that a record is of is over; another may have begun."""
    try:
        now = current(store, record.id)
    except NotFound:
        return True
    return now.status not in ALIVE or identity_of(now) != identity_of(record)


def _open(store: Store, starter: Starter, record: ContainerRecord, request: ExecRequest) -> LiveSession:
    recover.ensure_resolvers(store.layout, record.named_networks)
    container_dir = store.layout.container(record.id)
    spec: Spec = files.load_json(f"{container_dir}/{paths.BUNDLE}/{paths.RECORD}")
    directory = _make_directory(f"{container_dir}/{paths.EXECS}")
    trace.point("made exec directory")
    flags = 0 if request.detach else WANTS_STDOUT | WANTS_STDERR | IS_OWNER | (WANTS_STDIN if request.interactive else 0)
    try:
        session = _start(starter, record, spec, request, directory, flags, store.layout.seccomp)
        session.own(lambda: recover.remove_tree(directory))
        try:
            session.wait_started()
            trace.point("exec started")
        except BaseException:
            session.close()
            raise
    except BaseException:
        recover.remove_tree(directory)
        raise
    return session


def _make_directory(parent: str) -> str:
    # Not makedirs, which would make a container's directory again that was just removed.
    try:
        os.mkdir(parent, 0o700)
    except FileExistsError:
        _remove_ended(parent)  # not the first session
    directory = f"{parent}/{ids.new_unique()}"
    os.mkdir(directory, 0o700)
    return directory


def _remove_ended(parent: str) -> None:
    """Remove what detached sessions, or those of killed commands, have left: else a container that lives long gathers them."""
    for name in os.listdir(parent):
        if os.path.exists(f"{parent}/{name}/{paths.EXIT}"):
            recover.remove_tree(f"{parent}/{name}")


def _start(
    starter: Starter, record: ContainerRecord, spec: Spec, request: ExecRequest, directory: str, flags: int, seccomp_cache: str
) -> LiveSession:
    identity = identity_of(record)
    pidfd = open_pidfd(identity) if identity else None
    if pidfd is None:
        raise Conflict(f"exec in container {record.name}: it has just ended")
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    session = LiveSession(ours)
    try:
        starter.start_exec(ExecStage(
            container_id=record.id, directory=directory, cgroups_path=record.cgroups_path,
            process=build_exec_process(spec, request), namespaces=namespaces_to_join(spec), init_pidfd=pidfd,
            user=request.user or record.config["user"], groups=tuple(record.isolation.get("groups", ())),
            interactive=request.interactive, client=theirs, client_flags=flags, seccomp=spec.get("linux", {}).get("seccomp"),
            seccomp_cache=seccomp_cache, runtime=record.config.get("runtime", "")))
    except BaseException:
        session.close()
        raise
    finally:
        theirs.close()
        os.close(pidfd)
    return session
