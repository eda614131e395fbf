"""The launcher: a single-threaded process with everything imported, that forks for programs with threads.

    embedding program              launcher                spare, later the monitor stage
       |                              | - fork ----------------> | prepares itself, waits for an order
       | - order: memfd, fds ---------|------------------------> | takes it
       |                              | <---------------- TAKEN -|
       |                              | - fork (the next spare)  | runs the order, becomes the monitor
       | - chore: a path ------------>| deletes it; what takes long, in a process of its own

Orders and chores have a socket each. All spares read orders from the same one, so an order goes to whoever
waits, and costs no fork of its own: what can be done before it is known (the fork, copying the memory
that a fork shares, a network namespace) is done while nobody waits for it. An order carries no text, only descriptors:
the first is a memfd with the order as JSON (so its size has no limit), the others belong to it. There is no answer
here: each order brings the socket on which its own outcome is told. A spare that dies is replaced; launcher and
spare end when the program closes its ends, or dies. The launcher is spawned (posix_spawn, a fresh interpreter),
because a fork of a process with threads is not safe.
"""
from __future__ import annotations

import _socket
import fcntl
import os
import sys
import time

from mydocker.base import files, jsontext
from mydocker.base.errors import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, Protocol

    class Work(Protocol):
        """What a launcher does; its own process and each spare have the same."""

        def prepare_launcher(self) -> None: ...
        def prepare_spare(self) -> None: ...
        def serve(self, document: dict[str, Any], fds: list[int]) -> None: ...
        def delete(self, path: str, deadline_s: float) -> bool: ...


_MAX_FDS = 8
_TAKEN = b"T"
_ORDERS_FD, _CHORES_FD = 3, 4
#: A spare that dies without an order is replaced, but not as fast as it dies.
_PAUSE_MS = 50
#: A chore may keep the launcher from its next spare for so long.
_CHORE_S = 0.05
_NEVER_S = float("inf")
#: So many may go on beside it.
_MAX_LONG_CHORES = 4


class Launcher:
    """The embedding program's end. Threads may share it: a datagram is sent whole or not at all."""

    def __init__(self, module: str, work: str) -> None:
        import threading  # cold: whoever needs a launcher has threads

        self._target = (module, work)
        self._lock = threading.Lock()
        self._socket: _socket.socket | None = None
        self._chores: _socket.socket | None = None
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

    def delete(self, path: str) -> bool:
        """Have a path deleted in the background; False when there is no launcher, or it has more to do than it can take."""
        with self._lock:
            if self._chores is None or self._owner != os.getpid():
                return False
            try:
                self._chores.send(os.fsencode(path), _socket.MSG_DONTWAIT)
                return True
            except OSError:
                return False

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
                self._socket = self._chores = None  # a fork of the program shares nothing with its parent's launcher
            if self._socket is None:
                self._socket, self._chores, self._pid = _spawn(*self._target)
                self._owner = os.getpid()
            return self._socket

    def _forget(self, sock: _socket.socket) -> None:
        with self._lock:
            if self._socket is sock:
                self._end()

    def close(self) -> None:
        """End the launcher, after its chores, and reap it. What it started lives on."""
        with self._lock:
            if self._socket is not None and self._owner == os.getpid():
                self._end()

    def _end(self) -> None:
        assert self._socket is not None and self._chores is not None
        for sock in (self._socket, self._chores):
            try:
                sock.shutdown(_socket.SHUT_RDWR)  # a fork of the program may have both open, for as long as it lives
            except OSError:
                pass  # the launcher is dead already
            sock.close()
        self._socket = self._chores = None
        try:
            os.waitpid(self._pid, 0)
        except ChildProcessError:
            pass  # the program reaps all its children, or ignores SIGCHLD


def _spawn(module: str, work: str) -> tuple[_socket.socket, _socket.socket, int]:
    kind = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
    orders, their_orders = _socket.socketpair(_socket.AF_UNIX, kind)
    chores, their_chores = _socket.socketpair(_socket.AF_UNIX, kind)
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from mydocker.monitor.launcher import main; "
        f"from {module} import {work} as Work; main(Work())"
    )
    # From numbers that are not among the targets: one dup2 would overwrite what the next one copies.
    copies = [fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, 10) for sock in (their_orders, their_chores)]
    try:
        pid = os.posix_spawn(
            sys.executable, [sys.executable, "-IS", "-c", code], os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, copies[0], _ORDERS_FD), (os.POSIX_SPAWN_DUP2, copies[1], _CHORES_FD)])
    except OSError as error:
        raise Unavailable(f"spawn the launcher: {os.strerror(error.errno or 0)}") from error
    finally:
        their_orders.close()
        their_chores.close()
        for fd in copies:
            os.close(fd)
    return orders, chores, pid


def main(work: Work) -> NoReturn:
    """The launcher: one spare at a time, until the program is gone."""
    import gc
    from _signal import SIG_IGN, SIGCHLD, SIGINT, signal  # type: ignore[import-not-found]

    from mydocker.linux import syscalls as sc

    os.setsid()  # Ctrl-C is meant for the program
    signal(SIGINT, SIG_IGN)
    signal(SIGCHLD, SIG_IGN)  # the kernel reaps; a stage sets it back
    sc.close_range(_CHORES_FD + 1, 0xFFFFFFFF, 0)
    for fd in (_ORDERS_FD, _CHORES_FD):
        os.set_blocking(fd, True)
        os.set_inheritable(fd, False)
    work.prepare_launcher()
    # A collection in a child would touch, and so copy, every page that parent and child share.
    gc.disable()
    gc.freeze()
    chores = _Chores(work)
    while _keep_spare(work, chores):
        pass
    chores.wait()
    os._exit(0)


class _Chores:
    """Deleting, while orders come: a container may have left ten million files, and nobody's start waits for their end."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._pids: list[int] = []  # of those that take long

    def do(self, path: str) -> None:
        """Delete a path, or begin to."""
        self._pids = [pid for pid in self._pids if _is_running(pid)]
        if self._work.delete(path, _NEVER_S if len(self._pids) == _MAX_LONG_CHORES else time.monotonic() + _CHORE_S):
            return
        pid = os.fork()
        if pid == 0:
            # Whoever holds these open is taken for somebody who reads them.
            os.close(_ORDERS_FD)
            os.close(_CHORES_FD)
            self._work.delete(path, _NEVER_S)
            os._exit(0)
        self._pids.append(pid)

    def wait(self) -> None:
        """Wait until all is deleted."""
        for pid in self._pids:
            _is_running(pid, 0)


def _is_running(pid: int, flags: int = os.WNOHANG) -> bool:
    """Tell whether a child lives. The kernel reaps it (SIGCHLD is ignored), and waitpid(2) says that it is gone."""
    try:
        return os.waitpid(pid, flags)[0] == 0
    except ChildProcessError:
        return False


def _keep_spare(work: Work, chores: _Chores) -> bool:
    """Fork a spare and do chores until it has taken an order; False when the program is gone."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    if os.fork() == 0:
        os.close(reader)
        os.close(_CHORES_FD)
        _be_spare(work, writer)
    os.close(writer)
    try:
        return _await_taken(chores, reader)
    finally:
        os.close(reader)


def _be_spare(work: Work, taken_fd: int) -> NoReturn:
    orders = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, _ORDERS_FD)
    if not _is_readable(orders.fileno()):  # else somebody waits already, and preparing would take longer than it saves
        work.prepare_spare()
    fds = _receive(orders)
    if not fds:
        os._exit(0)
    try:
        os.write(taken_fd, _TAKEN)
    except BrokenPipeError:
        pass  # the launcher was killed: what the program sends next finds nobody, and it makes another
    os.close(taken_fd)
    orders.close()
    work.serve(_read_order(fds[0]), fds[1:])
    os._exit(1)


def _await_taken(chores: _Chores, taken_fd: int) -> bool:
    import select  # loaded before the first fork

    watch = select.poll()
    watch.register(taken_fd, select.POLLIN)
    watch.register(_CHORES_FD, select.POLLIN)
    while True:
        ready = dict(watch.poll())
        # The spare first: an order that comes next waits for its successor.
        if taken_fd in ready:
            if os.read(taken_fd, 1) == _TAKEN:
                return True
            # Dead without an order: killed, or at the end of the program, which its other socket tells as well.
            watch.unregister(taken_fd)
            if not dict(watch.poll(_PAUSE_MS)).get(_CHORES_FD, 0) & select.POLLHUP:
                return True
        if _CHORES_FD in ready:
            path = os.read(_CHORES_FD, 65536)
            if not path:
                return False
            chores.do(os.fsdecode(path))


def _is_readable(fd: int) -> bool:
    import select

    watch = select.poll()
    watch.register(fd, select.POLLIN)
    return bool(watch.poll(0))


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
