"""Messages between a container's init and whoever creates it (docs/protocols.md draws them).

A SOCK_SEQPACKET pair: one datagram is one message, its first byte the name. The init (Python, then
the last stage in C on the same socket) and the creator (Python, then the monitor in C) follow:

    creator                          init
       | <---- CONSOLE + descriptor -- |   only with a terminal
       | <------------ READY --------- |   last stage: everything is done but the command
       | ------------ START ---------> |
       | <--- end of file | FAILED --- |   the command runs | it does not

FAILED may take the place of any message of the init's and ends it.
"""
from __future__ import annotations

import _socket
import os

from mydocker.base.errors import KINDS, MydockerError, RuntimeFailed

CONSOLE, READY, START, FAILED = b"C", b"R", b"S", b"F"
_MAX_MESSAGE = 8192


def open_pair() -> tuple[_socket.socket, _socket.socket]:
    """Return the two ends, close-on-exec; the callers close them."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)


def pack_failure(error: BaseException) -> bytes:
    """Return the FAILED message for an exception."""
    if isinstance(error, MydockerError):
        kind, number, text = type(error).__name__, 0, error.message
    else:
        number = error.errno if isinstance(error, OSError) and error.errno else 0
        kind, text = "RuntimeFailed", f"{type(error).__name__}: {error}"
    return b"\0".join((FAILED + kind.encode(), str(number).encode(), os.fsencode(text)[: _MAX_MESSAGE - 256]))


def unpack_failure(message: bytes) -> MydockerError:
    """Return the error that a FAILED message carries."""
    kind, _, rest = message[1:].partition(b"\0")
    number, _, text = rest.partition(b"\0")
    reason = f": {os.strerror(int(number))}" if number.isdigit() and int(number) else ""
    return KINDS.get(kind.decode("ascii", "replace"), RuntimeFailed)(os.fsdecode(text) + reason)


class InitDied(RuntimeFailed):
    """The init ended without saying why."""


def receive(sock: _socket.socket, expected: bytes) -> int:
    """Wait for one message of the init's; return the descriptor that came with it, or -1.

    Raises the error that FAILED carries, InitDied at end of file, RuntimeFailed for any other message.
    """
    message, ancillary, _, _ = sock.recvmsg(_MAX_MESSAGE, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
    fd = -1
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fd = int.from_bytes(data[:4], "little")
    if message[:1] == FAILED:
        raise unpack_failure(message)
    if not message:
        raise InitDied("the container's init ended before the command could be started")
    if message[:1] != expected:
        raise RuntimeFailed(f"the container's init sent {message[:1]!r} where {expected!r} was due")
    return fd


def send(sock: _socket.socket, message: bytes, fd: int = -1) -> None:
    """Send one message, with a descriptor when `fd` is not negative. Raises OSError."""
    if fd < 0:
        sock.send(message)
    else:
        sock.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(4, "little"))])
