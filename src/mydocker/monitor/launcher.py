"""The launcher: a single-threaded process with everything imported, that forks for programs with threads.

    embedding program                launcher                     monitor stage
       | - datagram: memfd, fds ------> |                              |
       |                                | - fork --------------------> | runs the order, becomes the monitor

A datagram carries no text, only descriptors: the first is a memfd with the order as JSON (so its size
has no limit), the others belong to the order. There is no answer here: each order brings the socket on
which its own outcome is told. The launcher ends when the program closes its end, or dies. It is spawned
(posix_spawn, a fresh interpreter), because a fork of a process with threads is not safe.
"""
from __future__ import annotations

import _socket
import os
import sys

from mydocker.base import files, jsontext
from mydocker.base.errors import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

_MAX_FDS = 8


class Launcher:
    """The embedding program's end. Threads may share it: a datagram is sent whole or not at all."""

    def __init__(self, module: str, function: str) -> None:
        import threading  # cold: whoever needs a launcher has threads

        self._target = (module, function)
        self._lock = threading.Lock()
        self._socket: _socket.socket | None = None
        self._pid = 0
        self._owner = 0

    def send(self, order: bytes, fds: list[int]) -> None:
        """Hand over one order; a launcher that was killed is replaced. Raises Unavailable."""
        memfd = os.memfd_create("mydocker-order", 1)  # MFD_CLOEXEC
        try:
            files.write_all(memfd, order)
            for _ in range(3):
                if self._try_send([memfd, *fds]):
                    return
            raise Unavailable(
                "start through the launcher: it ends at once", hint="run with --debug, or check memory and process limits")
        finally:
            os.close(memfd)

    def _try_send(self, fds: list[int]) -> bool:
        sock = self._connected()
        rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
        try:
            sock.sendmsg([b"O"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
            return True
        except (BrokenPipeError, ConnectionResetError):
            self._forget(sock)
            return False

    def _connected(self) -> _socket.socket:
        with self._lock:
            if self._owner != os.getpid():
                self._socket = None  # a fork of the program shares nothing with its parent's launcher
            if self._socket is None:
                self._socket, self._pid = _spawn(*self._target)
                self._owner = os.getpid()
            return self._socket

    def _forget(self, sock: _socket.socket) -> None:
        with self._lock:
            if self._socket is sock:
                self._socket = None
                sock.close()
                os.waitpid(self._pid, 0)

    def close(self) -> None:
        """End the launcher and reap it. What it started lives on."""
        with self._lock:
            if self._socket is not None and self._owner == os.getpid():
                self._socket.close()
                self._socket = None
                os.waitpid(self._pid, 0)


def _spawn(module: str, function: str) -> tuple[_socket.socket, int]:
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from mydocker.monitor.launcher import main; "
        f"from {module} import {function} as serve; main(serve)"
    )
    try:
        pid = os.posix_spawn(
            sys.executable, [sys.executable, "-IS", "-c", code], os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 3)])
    except OSError as error:
        raise Unavailable(f"spawn the launcher: {os.strerror(error.errno or 0)}") from error
    finally:
        theirs.close()
    return ours, pid


def main(serve: Callable[[dict[str, Any], list[int]], None]) -> NoReturn:
    """The launcher's loop on descriptor 3: one fork an order, until end of file."""
    import gc
    from _signal import SIG_IGN, SIGCHLD, SIGINT, signal  # type: ignore[import-not-found]

    from mydocker.linux import syscalls as sc

    os.setsid()  # Ctrl-C is meant for the program
    signal(SIGINT, SIG_IGN)
    signal(SIGCHLD, SIG_IGN)  # the kernel reaps; a stage sets it back
    sc.close_range(4, 0xFFFFFFFF, 0)
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, 3)
    channel.setblocking(True)
    os.set_inheritable(3, False)
    # A collection in a child would touch, and so copy, every page that parent and child share.
    gc.disable()
    gc.freeze()
    while fds := _receive(channel):
        if os.fork() == 0:
            channel.close()
            serve(_read_order(fds[0]), fds[1:])
            os._exit(1)
        for fd in fds:
            os.close(fd)
    os._exit(0)


def _receive(channel: _socket.socket) -> list[int]:
    message, ancillary, _, _ = channel.recvmsg(16, _socket.CMSG_SPACE(4 * _MAX_FDS), _socket.MSG_CMSG_CLOEXEC)
    if not message:
        return []
    return [
        int.from_bytes(data[at : at + 4], sys.byteorder)
        for level, kind, data in ancillary if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS)
        for at in range(0, len(data) - len(data) % 4, 4)
    ]


def _read_order(memfd: int) -> dict[str, Any]:
    content = os.pread(memfd, os.fstat(memfd).st_size, 0)
    os.close(memfd)
    order: dict[str, Any] = jsontext.loads(content, source="an order to the launcher")
    return order
