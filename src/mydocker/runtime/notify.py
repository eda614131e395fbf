"""NOTIFY_SOCKET: a command that tells its readiness to the service manager which called us (sd_notify(3)).

The manager believes a message by the cgroup of the process that sends it, and the container's is not its unit's. So the
command gets a socket of ours, in a directory of its own that is bound read-only, and we pass on the one word that it may
say for the unit: READY=1. Whoever answers for it then, if we do not stay, is the container's init: MAINPID.

    <root>/<id>/notify/notify.sock   bound by `start` or `run`, for as long as they wait   ->   /run/notify/notify.sock

Model: runc's notify_socket.go. A spec that has a NOTIFY_SOCKET in its environment is left alone: podman does all of it itself.
"""
from __future__ import annotations

import _socket
import os
import select

from mydocker.base.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from mydocker.oci.runtime_spec import Mount, Spec

VARIABLE = "NOTIFY_SOCKET"
_DIRECTORY, _NAME, _INSIDE = "notify", "notify.sock", "/run/notify"
_MAX_MESSAGE_BYTES = 4096
#: How long the manager may take to have read what we said: it looks at who we are when it does.
_BARRIER_S = 5.0


def offer(spec: Spec, directory: str) -> Spec:
    """Return the spec with a place for the socket, below a container's directory, and its name in the environment."""
    process = spec.get("process")
    if process is None or any(item.startswith(f"{VARIABLE}=") for item in process.get("env") or ()):
        return spec
    os.mkdir(f"{directory}/{_DIRECTORY}", 0o755)
    options = ["bind", "ro", "nosuid", "nodev", "noexec"]
    mount: Mount = {"destination": _INSIDE, "type": "bind", "source": f"{directory}/{_DIRECTORY}", "options": options}
    env = [*(process.get("env") or ()), f"{VARIABLE}={_INSIDE}/{_NAME}"]
    return {
        **spec, "process": {**process, "env": env}, "mounts": [*(spec.get("mounts") or ()), mount]}


class Notifications:
    """The socket that the command writes to. A context manager; `main_pid` is to be the unit's main process, 0 when we are."""

    __slots__ = ("_host", "_main_pid", "_socket")

    def __init__(self, socket: _socket.socket, host: str, main_pid: int) -> None:
        self._socket, self._host, self._main_pid = socket, host, main_pid

    @classmethod
    def listen(cls, directory: str, main_pid: int) -> Self | None:
        """Return the socket of a container's directory; None when nobody asked for one, now or when it was made."""
        host = os.environ.get(VARIABLE, "")
        try:
            place = os.open(f"{directory}/{_DIRECTORY}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if host else -1
        except FileNotFoundError:
            return None
        if place < 0:
            return None
        socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        try:
            path = f"/proc/self/fd/{place}/{_NAME}"  # a path may be longer than a socket's (unix(7))
            socket.bind(path)
            os.chmod(path, 0o777)  # for the command's user
        except BaseException:
            socket.close()
            raise
        finally:
            os.close(place)
        return cls(socket, host, main_pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is a message."""
        return self._socket.fileno()

    def pass_on(self) -> bool:
        """Read a message, and pass READY on if it says so; tell whether it did.

        A manager that is not there is a warning: the command runs all the same.
        """
        lines = self._socket.recv(_MAX_MESSAGE_BYTES).split(b"\n")
        if b"READY=1" not in lines:
            return False
        text = b"READY=1\n" + (b"MAINPID=%d\n" % self._main_pid if self._main_pid else b"")
        try:
            with _Connection(self._host) as manager:
                manager.send(text)
                manager.wait_until_read()
        except OSError as error:
            from .cli import warn  # cold

            warn(InvalidRequest(f"write to {VARIABLE} {self._host}: {os.strerror(error.errno or 0)}"))
        return True

    def wait(self, pidfd: int) -> None:
        """Pass on until the command is ready or the process of the pidfd has ended."""
        poll = select.poll()
        poll.register(self, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if self.fileno() in ready and self.pass_on():
                return
            if pidfd in ready:
                return


class _Connection:
    """A socket connected to the service manager's."""

    __slots__ = ("_socket",)

    def __init__(self, address: str) -> None:
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        try:
            # "@" is an abstract address (unix(7)).
            self._socket.connect("\0" + address[1:] if address.startswith("@") else address)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> _Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, text: bytes) -> None:
        """Send a message. Raises OSError."""
        self._socket.send(text)

    def wait_until_read(self) -> None:
        """Wait until the manager has read all that was sent (sd_notify_barrier(3)): the other end of a pipe closes."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, writer.to_bytes(4, "little"))]
            self._socket.sendmsg([b"BARRIER=1"], ancillary)
            os.close(writer)
            writer = -1
            poll = select.poll()
            poll.register(reader, 0)  # the hang-up is always told
            poll.poll(_BARRIER_S * 1000)
        finally:
            for fd in (reader, writer):
                if fd >= 0:
                    os.close(fd)
