"""A bundle becomes a container that `mydocker-runtime` keeps the state of: what `create` and `run` have in common.

Owns the order: claim the id, clone the init, write the state while it works, hand the terminal on, wait for READY, write the
pid file. Whatever fails undoes all of it. Holds the container's lock throughout.

Source: runtime-spec runtime.md "Create", bundle.md.
"""
from __future__ import annotations

import os
import time

from mydocker.base import files, jsontext, trace
from mydocker.base.errors import InvalidRequest, NotFound
from mydocker.base.record import Record
from mydocker.base.undo import Undo
from mydocker.linux.caps import NUMBERS
from mydocker.linux.process import boot_id, read_start_time
from mydocker.oci.validate import validate_spec

from .cgroups import claim_cgroup, describe
from .cloning import Created, kill_and_reap
from .create import create
from .descriptors import announce_listen_fds
from .handshake import Handshake, connect_console, send_pidfd
from .state import FIFO, SPEC, STATE, ContainerState, StateRoot, remove_directory
from .sync import PeerDied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.base.locks import DirectoryLock
    from mydocker.oci.runtime_spec import Process, Spec

    from .cli import Context


class Bundle(Record):
    """A bundle's directory, its config.json as text and as document, and the path of its root file system."""

    path: str
    text: bytes
    spec: Spec

    @property
    def rootfs(self) -> str:
        """The absolute path of the root file system (config.md "Root")."""
        return os.path.join(self.path, self.spec.get("root", {}).get("path", ""))


class Made(Record):
    """A container at READY. The holder closes what is in it; `console` is the terminal's master where we keep it, or -1."""

    created: Created
    handshake: Handshake
    state: ContainerState
    lock: DirectoryLock
    console: int = -1


def load_bundle(directory: str, config: str = "config.json") -> Bundle:
    """Read a bundle; `config` is a path below its directory, or an absolute one. Raises NotFound, Corrupt, InvalidRequest."""
    path = os.path.abspath(directory or ".")
    config_path = os.path.join(path, config)
    try:
        text = files.read_bytes(config_path)
    except FileNotFoundError:
        raise NotFound(f"open {config_path}: no such file or directory") from None
    return Bundle(path=path, text=text, spec=validate_spec(jsontext.loads(text, source=config_path)))


def make(context: Context, *, wait_at_fifo: bool) -> Made:
    """Make the container of a command line, up to READY. Raises MydockerError, OSError; then nothing is left.

    With `wait_at_fifo` the init waits for `start`, else for the handshake's.
    """
    arguments = context.arguments
    bundle = load_bundle(arguments["bundle"], arguments["config"])
    if not os.path.isdir(bundle.rootfs):
        raise NotFound(f"root.path: {bundle.rootfs}: no such directory")
    if "process" not in bundle.spec:
        bundle = with_no_process(bundle, will_start=not wait_at_fifo)
    process = bundle.spec["process"]
    listen = announce_listen_fds(process)
    wants_terminal = bool(process.get("terminal"))
    check_terminal(arguments["console-socket"], wants_terminal, detached=wait_at_fifo or arguments["detach"])
    warn_of_capabilities(process)
    with Undo() as undo:
        lock = context.root.claim(context.id)
        undo.callback(lock.close)
        undo.callback(remove_directory, context.root.directory(context.id))
        trace.point("claimed id")
        files.replace_bytes(SPEC, bundle.text, dir_fd=lock.fd)
        if os.environ.get("NOTIFY_SOCKET"):
            from .notify import offer  # cold: few callers are service managers

            bundle = bundle.replace(spec=offer(bundle.spec, context.root.directory(context.id)))
        console_socket = connect_console(arguments["console-socket"])
        created = create(
            bundle.spec, bundle.rootfs, start_fd=open_fifo(lock.fd) if wait_at_fifo else -1,
            console_fd=console_socket.fileno() if console_socket else -1, preserve_fds=listen + arguments["preserve-fds"],
            container_id=context.id, bundle=bundle.path, seccomp_cache=context.root.seccomp_cache,
            make_cgroup=lambda: claim_cgroup(context, bundle.spec), keeps_keyring=arguments["no-new-keyring"],
            pivots=not arguments["no-pivot"])
        undo.callback(created.cgroup.remove)
        undo.callback(kill_and_reap, created.pid, created.pidfd)
        trace.point("cloned runtime init")
        state = record(context, bundle, created)
        files.save_json(STATE, state.to_document(), dir_fd=lock.fd)
        trace.point("wrote runtime state")
        handshake = Handshake(created.channel, process["args"] or [""])
        try:
            console = handshake.wait_ready(console_here=wants_terminal and console_socket is None)
        except PeerDied as error:
            from mydocker.linux.cgroup.outofmemory import blame  # cold

            blame(error, bundle.spec.get("linux", {}).get("resources") or {}, created.cgroup)
            raise
        if arguments["pid-file"]:
            write_pid_file(arguments["pid-file"], created.pid)
        if arguments["pidfd-socket"]:
            send_pidfd(arguments["pidfd-socket"], created.pidfd, b"standard")
        undo.pop_all()
    return Made(created=created, handshake=handshake, state=state, lock=lock, console=console)


def with_no_process(bundle: Bundle, *, will_start: bool) -> Bundle:
    """Return a bundle without a process with one of no words: it is created, and `start` refuses it (config.md "Process").

    Raises InvalidRequest where it would be started at once.
    """
    from .idmap import root_of  # cold

    if will_start:
        raise InvalidRequest("process: missing, and there is nothing to run")
    linux = bundle.spec.get("linux", {})
    root = {"uid": root_of(linux.get("uidMappings", ())), "gid": root_of(linux.get("gidMappings", ()))}
    return bundle.replace(spec={**bundle.spec, "process": {"args": [], "cwd": "/", "user": root}})


def record(context: Context, bundle: Bundle, created: Created) -> ContainerState:
    """Return the state to store of a container whose init was cloned."""
    spec = bundle.spec
    stamp = time.time_ns()
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(stamp // 10**9))
    return ContainerState(
        id=context.id, oci_version=spec.get("ociVersion", ""), bundle=bundle.path, rootfs=bundle.rootfs,
        created=f"{moment}.{stamp % 10**9:09d}Z", owner="" if os.geteuid() == 0 else str(os.geteuid()),
        annotations=spec.get("annotations") or {}, cgroup=describe(created.cgroup), pid=created.pid,
        start_time=read_start_time(created.pid) or 0, boot_id=boot_id())


def warn_of_capabilities(process: Process) -> None:
    """Tell of capabilities that are none, and of ambient ones that cannot be (capabilities(7)); the command runs without
    them, as with runc (config.md "Linux Process").

    Nothing is said where none is inheritable: so are the bundles of buildah, podman and runc's own `spec` of the years after
    CVE-2022-29162, which emptied that set alone, and 14 lines before each step of a build are news to nobody.
    """
    sets = process.get("capabilities", {})
    kinds = ("bounding", "effective", "inheritable", "permitted", "ambient")  # what else is there is to be ignored
    names = {name for kind in kinds for name in sets.get(kind) or ()}  # type: ignore[attr-defined]
    if unknown := sorted(names.difference(NUMBERS)):
        from .cli import warn  # cold

        warn(InvalidRequest(f"ignoring unknown capabilities: {' '.join(unknown)}"))
    possible = set(sets.get("permitted") or ()).intersection(sets.get("inheritable") or ())
    impossible = sorted(set(sets.get("ambient") or ()) - possible)
    if impossible and sets.get("inheritable"):
        from .cli import warn  # cold

        warn(InvalidRequest(f"can't raise ambient capability {' '.join(impossible)}: not both permitted and inheritable"))


def check_terminal(console_socket: str, wants_terminal: bool, *, detached: bool) -> None:
    """See that somebody will hold the terminal's other end. Raises InvalidRequest, in runc's words."""
    if wants_terminal and detached and not console_socket:
        raise InvalidRequest("cannot allocate tty if the caller will detach without setting console socket")
    if console_socket and not (wants_terminal and detached):
        raise InvalidRequest("cannot use console socket if the caller will not detach or allocate tty")


def open_fifo(directory_fd: int) -> int:
    """Make the FIFO that `start` writes to and open it for the init. The caller closes it.

    Open for reading and writing, the init never sees an end of file (fifo(7)), whoever comes and goes.
    """
    os.mkfifo(FIFO, 0o600, dir_fd=directory_fd)
    return os.open(FIFO, os.O_RDWR | os.O_CLOEXEC, dir_fd=directory_fd)


def write_pid_file(path: str, pid: int) -> None:
    """Write a pid file atomically: digits only, no newline. Raises InvalidRequest."""
    try:
        files.replace_bytes(path, str(pid).encode(), mode=0o644)
    except OSError as error:
        raise InvalidRequest(f"write --pid-file {path}: {os.strerror(error.errno or 0)}") from error


def discard(root: StateRoot, made: Made) -> None:
    """End and remove a container at READY whose command could not be executed."""
    kill_and_reap(made.created.pid, made.created.pidfd)
    made.created.cgroup.remove()
    remove_directory(root.directory(made.state.id))
    made.lock.close()
