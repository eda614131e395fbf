"""Another OCI runtime, such as crun or runc, in the place of our own: what `run --runtime` asks for.

    container/<id>/runtime/        its bundle: config.json (the container's spec, with the user looked up), rootfs
        state/                     its --root
        pid, log, process.json     what it is told and tells

`create` and `enter` have the shape of create.create and exec.enter, so whoever starts containers need not know.
Behind them is a *proxy*, a forked process that does what the runtime cannot: in a mount namespace of its own it
mounts the root file system (nothing is mounted on the host), calls the runtime, and then speaks for the container's
init (sync.py): CONSOLE, READY, and upon START it calls `start` and ends. The container's init is the runtime's
child; when the runtime exits it becomes a child of the caller, which must be a subreaper.

Source: github.com/opencontainers/runtime-spec runtime.md; the command line of runc, which all of them have.
"""
from __future__ import annotations

import _socket
import os
import stat
import sys
from contextlib import ExitStack

from mydocker.base import files, jsontext, log
from mydocker.base.errors import CommandNotExecutable, CommandNotFound, Corrupt, NotFound, RuntimeFailed
from mydocker.base.record import Record
from mydocker.linux import syscalls as sc
from mydocker.linux.cgroup.group import Cgroup
from mydocker.linux.process import wait_pidfd

from . import sync
from .cloning import Created, kill_and_reap
from .handover import is_null, report_and_exit, with_home
from .plan import OWN_PROGRAM, REAPER_ANNOTATION, program_path
from .rootfs import attach, mount_root
from .users import resolve_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from mydocker.oci.runtime_spec import Mount, Process, Seccomp, Spec

    Stdio = tuple[int, int, int] | None

#: What the runtime inherits; never the caller's environment, which may hold secrets.
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
_SELF_FD = "/proc/self/fd/"
#: Where `--init` is shown inside.
_REAPER = "/dev/mydocker-init"
_MAX_LOG_BYTES = 65536
#: Nothing that the engine asks for is newer, and a runtime may refuse a version that is newer than itself (crun 1.8).
_OCI_VERSION = "1.0.2"


class ForeignRuntime(Record):
    """One container in the hands of another runtime: its program, our directory for it, its id there."""

    program: str
    directory: str
    container_id: str

    def create(self, spec: Spec, *, root_mount: Mount, stdio: Stdio, user: str, groups: tuple[str, ...]) -> Created:
        """Have the container created. Raises MydockerError, OSError; then nothing is left."""
        self.delete()  # of an earlier start
        for name in ("rootfs", "state"):
            os.makedirs(f"{self.directory}/{name}", mode=0o700, exist_ok=True)

        def work(channel: _Channel) -> None:
            self._create(channel, spec, root_mount, stdio, user, groups)

        return self._start_proxy(work, spec["linux"]["cgroupsPath"])

    def enter(
        self, process: Process, *, cgroups_path: str, namespaces: int, init_pidfd: int, stdio: Stdio, user: str,
        groups: tuple[str, ...], seccomp: Seccomp | None,
    ) -> Created:
        """Have a further process started in the container. Raises as `create` does; NotFound when it ended.

        `namespaces` and `seccomp` are the runtime's own affair: it knows them from the container's spec.
        """
        def work(channel: _Channel) -> None:
            self._exec(channel, process, init_pidfd, stdio, user, groups)

        return self._start_proxy(work, cgroups_path)

    def delete(self) -> None:
        """Have the runtime forget the container, and kill what is left of it. Idempotent."""
        if not os.path.isdir(f"{self.directory}/state/{self.container_id}"):
            return
        try:
            self._call("delete", "--force", self.container_id)
        except (RuntimeFailed, OSError) as error:
            # The program may be gone, or know nothing of it any more: the cgroup's removal kills what there is.
            log.debug("foreign delete", container=self.container_id, error=error)

    def _start_proxy(self, work: Callable[[_Channel], None], cgroups_path: str) -> Created:
        with ExitStack() as undo:
            channel, inner = sync.open_pair()
            undo.callback(channel.close)
            told, teller = sync.open_pair()
            undo.callback(told.close)
            if os.fork() == 0:
                self._run_proxy(work, _Channel(sync=inner, teller=teller))
            inner.close()
            teller.close()
            pid = _receive_pid(told, channel)
            told.close()
            # It is our child now (or the pid file lies, and this raises), so the pid stays its own until we reap it.
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            pidfd = os.pidfd_open(pid)
            undo.callback(kill_and_reap, pid, pidfd)
            created = Created(pid=pid, pidfd=pidfd, channel=channel, cgroup=Cgroup.open(cgroups_path))
            undo.pop_all()
        return created

    # --- in the proxy ---------------------------------------------------------------------------------

    def _run_proxy(self, work: Callable[[_Channel], None], channel: _Channel) -> NoReturn:
        try:
            work(channel)
        except BaseException as error:
            report_and_exit(channel.sync, error)
        os._exit(0)

    def _create(
        self, channel: _Channel, spec: Spec, root_mount: Mount, stdio: Stdio, user: str, groups: tuple[str, ...]
    ) -> None:
        sc.unshare(sc.CLONE_NEWNS)
        sc.mount(None, "/", None, sc.MS_PRIVATE | sc.MS_REC, None)
        root_path, root_fd = self._mount_root(spec, root_mount)
        process = _with_user(spec["process"], root_fd, user, groups)
        os.close(root_fd)
        effective: Spec = {
            **spec, "ociVersion": _OCI_VERSION, "process": process, "root": {**spec.get("root", {}), "path": root_path}}
        _name_descriptors(effective)
        self._attach_mounts(effective)
        if spec.get("annotations", {}).get(REAPER_ANNOTATION) == "true" and self.program != OWN_PROGRAM:
            self._add_reaper(effective)
        files.save_json(f"{self.directory}/config.json", effective)
        try:
            with _Console(self.directory, wanted=process.get("terminal", False)) as console:
                self._call("create", "--bundle", self.directory, *console.option, "--pid-file", f"{self.directory}/pid",
                           self.container_id, stdio=stdio)
                master = console.receive()
            channel.introduce(f"{self.directory}/pid", master)
            if channel.wait_for_start():
                self._call("start", self.container_id)
        except BaseException:
            self.delete()
            raise

    def _exec(
        self, channel: _Channel, process: Process, init_pidfd: int, stdio: Stdio, user: str, groups: tuple[str, ...]
    ) -> None:
        root_fd = _open_root(init_pidfd)
        process = _with_user(process, root_fd, user, groups)
        os.close(root_fd)
        name = f"exec-{os.getpid()}"
        process_path, pid_path = f"{self.directory}/{name}.json", f"{self.directory}/{name}.pid"
        try:
            files.save_json(process_path, process)
            with _Console(self.directory, wanted=process.get("terminal", False)) as console:
                # It runs at once: what it writes waits in its pipes for the monitor.
                self._call("exec", "--detach", "--process", process_path, *console.option, "--pid-file", pid_path,
                           self.container_id, stdio=stdio)
                master = console.receive()
            channel.introduce(pid_path, master)
        finally:
            for path in (process_path, pid_path):
                if os.path.exists(path):
                    os.unlink(path)
        channel.wait_for_start()

    def _mount_root(self, spec: Spec, root_mount: Mount) -> tuple[str, int]:
        """Mount the container's root; return its path, as the bundle has it, and a descriptor, which the caller closes."""
        if not spec["linux"].get("uidMappings"):
            return "rootfs", mount_root(f"{self.directory}/rootfs", root_mount)
        from .private_users import mount_mapped_root  # cold: few containers have users of their own

        path = mount_mapped_root(spec, root_mount)
        self._give_files(spec)
        return path, os.open(path, sc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def _give_files(self, spec: Spec) -> None:
        """Give the files that the engine made for this container (/etc/hosts and such) to the container's root."""
        ours = os.path.dirname(self.directory)
        root = spec["linux"]["uidMappings"][0]["hostID"], spec["linux"]["gidMappings"][0]["hostID"]
        for mount in spec.get("mounts", ()):
            if os.path.dirname(mount.get("source", "")) == ours:
                os.chown(mount["source"], *root, follow_symlinks=False)

    def _attach_mounts(self, spec: Spec) -> None:
        """Give detached mounts, which the spec names by descriptor, a path: here, where nobody else sees it."""
        mounts = list(spec.get("mounts", ()))
        for index, mount in enumerate(mounts):
            if not mount.get("source", "").startswith(_SELF_FD):
                continue
            place = f"{self.directory}/mount-{index}"
            os.makedirs(place, mode=0o700, exist_ok=True)
            attach(os.dup(int(mount["source"].removeprefix(_SELF_FD))), os.open(place, sc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            mounts[index] = {**mount, "source": place}
        spec["mounts"] = mounts

    def _add_reaper(self, spec: Spec) -> None:
        """Put the small process 1 in front of the command: a copy of it, because no container may see a file of ours."""
        path = f"{self.directory}/init"
        program = files.read_bytes(program_path("mydocker-init"))
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o755)
        try:
            os.fchmod(fd, 0o755)
            files.write_all(fd, program)
        finally:
            os.close(fd)
        spec["mounts"] = [*spec.get("mounts", ()), {
            "destination": _REAPER, "type": "bind", "source": path, "options": ["bind", "ro", "rprivate"]}]
        spec["process"] = {**spec["process"], "args": [_REAPER, "--", *spec["process"]["args"]]}

    def _without_host_null(self, stdio: tuple[int, int, int], closing: ExitStack) -> tuple[int, int, int]:
        """Put a null device of the container's own in the place of the host's: some runtimes give stdio to the user inside."""
        if not any(is_null(fd) for fd in stdio):
            return stdio
        path = f"{self.directory}/null"
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except FileExistsError:
            pass  # of an earlier start or session
        own = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        closing.callback(os.close, own)
        os.fchmod(own, 0o666)  # mknod minded the umask
        first, second, third = (own if is_null(fd) else fd for fd in stdio)
        return first, second, third

    # --- calling the runtime --------------------------------------------------------------------------

    def _call(self, *words: str, stdio: Stdio = None) -> None:
        """Run the runtime to its end. Raises CommandNotFound, CommandNotExecutable, RuntimeFailed with its own words."""
        log_path = f"{self.directory}/log"
        command = _command(self.program)
        argv = [*command, "--root", f"{self.directory}/state", "--log", log_path, "--log-format", "json", *words]
        with ExitStack() as closing:
            if stdio is None:
                null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
                closing.callback(os.close, null)
                stdio = (null, null, null)
            else:
                stdio = self._without_host_null(stdio, closing)
            if os.path.exists(log_path):
                os.truncate(log_path, 0)
            pid = os.posix_spawn(
                command[0], argv, _ENVIRONMENT,
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(stdio)])
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code:
            raise _failure(os.path.basename(self.program), words[0], code, _last_message(log_path))


class _Channel(Record):
    """A proxy's ends: `sync` is the init's, which the monitor listens to; `teller` tells the pid to whoever becomes it."""

    sync: _socket.socket
    teller: _socket.socket

    def introduce(self, pid_path: str, master: int) -> None:
        """Say all that an init says (`master` is its terminal's, or -1), and then who it is.

        In this order, because the process may have ended by then: what it was to say is there before the monitor looks.
        """
        pid = files.read_bytes(pid_path).strip()
        # Until now the caller's locks kept a sweep away while the runtime was writing. From here on this process may wait as
        # long as the container is `created`, and with the container's lock nobody could start it.
        _close_others([0, 1, 2, self.sync.fileno(), self.teller.fileno(), *([master] if master >= 0 else [])])
        if master >= 0:
            sync.send(self.sync, sync.CONSOLE, master)
            os.close(master)
        sync.send(self.sync, sync.READY)
        sync.send(self.teller, sync.CLONED + pid)
        self.teller.close()

    def wait_for_start(self) -> bool:
        """Wait for START; False when whoever was to say so is gone, and with it the container, which others undo."""
        try:
            return self.sync.recv(1) == sync.START
        except ConnectionResetError:
            return False


def _receive_pid(told: _socket.socket, channel: _socket.socket) -> int:
    """Return the pid that a proxy tells. Raises what went wrong, which is on its other socket."""
    try:
        return int(sync.receive_message(told, sync.CLONED)[0])
    except sync.PeerDied:
        sync.receive(channel, sync.FAILED)
        raise


def _command(program: str) -> list[str]:
    """Return what a runtime is called by: its path, or for our own program this interpreter."""
    if program != OWN_PROGRAM:
        return [program]
    package_parent = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = f"import sys; sys.path.insert(0, {package_parent!r}); from mydocker.runtime.cli import entry; entry()"
    return [sys.executable, "-IS", "-c", code]


def _with_user(process: Process, root_fd: int, user: str, groups: tuple[str, ...]) -> Process:
    """Return the process with the numbers of its user, by the container's own files."""
    who = resolve_user(root_fd, user, groups)
    found: Process = {**process, "user": {"uid": who.uid, "gid": who.gid, "additionalGids": list(who.groups)}}
    return with_home(found, who)


def _close_others(keep: list[int]) -> None:
    """Close every descriptor but these."""
    following = 0
    for fd in sorted(set(keep)):
        if fd > following:
            sc.close_range(following, fd - 1, 0)
        following = fd + 1
    sc.close_range(following, 0xFFFFFFFF, 0)


def _name_descriptors(spec: Spec) -> None:
    """Name descriptors of ours so that another process finds them; this one lives as long as they are needed."""
    ours = f"/proc/{os.getpid()}/fd/"
    linux = spec["linux"]
    if any(namespace.get("path", "").startswith(_SELF_FD) for namespace in linux.get("namespaces", ())):
        spec["linux"] = {**linux, "namespaces": [
            {**namespace, "path": namespace["path"].replace(_SELF_FD, ours, 1)} if namespace.get("path") else namespace
            for namespace in linux["namespaces"]]}


def _open_root(pidfd: int) -> int:
    """Open a process's root directory. Raises NotFound when the process has ended."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as stream:
        (pid,) = [int(line.split()[1]) for line in stream if line.startswith("Pid:")]
    try:
        root_fd = os.open(f"/proc/{pid}/root", sc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        root_fd = -1
    # Alive after the opening: then the pid was this process's all the time.
    if root_fd < 0 or wait_pidfd(pidfd, 0):
        raise NotFound("enter the container: it has ended")
    return root_fd


class _Console:
    """The socket that a runtime sends a terminal's master to; nothing when none is wanted."""

    def __init__(self, directory: str, *, wanted: bool) -> None:
        self.option: tuple[str, ...] = ()
        self._wanted = wanted
        self._directory = directory
        self._name = f"console-{os.getpid()}"
        self._stack = ExitStack()

    def __enter__(self) -> _Console:
        if self._wanted:
            directory_fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._stack.callback(os.close, directory_fd)
            import socket  # cold: only this one needs more than `_socket`

            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._stack.callback(self._listener.close)
            # By way of the descriptor: sun_path holds 107 bytes, a state root may be longer.
            self._listener.bind(f"/proc/self/fd/{directory_fd}/{self._name}")
            self._stack.callback(os.unlink, f"{self._directory}/{self._name}")
            self._listener.listen(1)
            self._listener.setblocking(False)
            self.option = ("--console-socket", f"/proc/{os.getpid()}/fd/{directory_fd}/{self._name}")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def receive(self) -> int:
        """Return the master that was sent meanwhile, -1 when none was wanted. The caller closes it. Raises RuntimeFailed."""
        if not self.option:
            return -1
        try:
            connection, _ = self._listener.accept()
            with connection:
                connection.setblocking(False)
                _, ancillary, _, _ = connection.recvmsg(4096, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            ancillary = []
        for level, kind, data in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                return int.from_bytes(data[:4], "little")
        raise RuntimeFailed("start the container: the runtime sent no terminal")


def _last_message(path: str) -> str:
    """Return the last error that a runtime logged, as JSON lines; "" when it said nothing."""
    try:
        lines = files.read_bytes(path)[-_MAX_LOG_BYTES:].splitlines()
    except FileNotFoundError:
        return ""
    for line in reversed(lines):
        try:
            entry = jsontext.loads(line)
        except Corrupt:
            continue  # the first line may be cut, and some write plain text between
        if isinstance(entry, dict) and entry.get("level") in ("error", "fatal") and entry.get("msg"):
            return str(entry["msg"])
    return ""


def _failure(name: str, verb: str, code: int, text: str) -> RuntimeFailed | CommandNotFound | CommandNotExecutable:
    """Return the error for a call that failed.

    A runtime tells kinds by its texts only; these are what docker reads, too, for its exit codes 127 and 126.
    """
    message = f"{name} {verb}: {text or f'exit code {code}'}"
    lower = text.lower()
    if ("executable file" in lower and "not found" in lower) or ("exec" in lower and "no such file or directory" in lower):
        return CommandNotFound(message)
    if "exec" in lower and ("permission denied" in lower or "is a directory" in lower or "exec format" in lower):
        return CommandNotExecutable(message)
    return RuntimeFailed(message)
