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

from mydocker.base.errors import MydockerError

CONSOLE, READY, START, FAILED = b"C", b"R", b"S", b"F"
#: The monitor keeps 4096 bytes of a report.
MAX_TEXT_BYTES = 3800


def open_pair() -> tuple[_socket.socket, _socket.socket]:
    """Return the two ends, close-on-exec; the callers close them."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)


def pack_failure(error: BaseException) -> bytes:
    """Return the FAILED message for an exception; its reason is in its text, so the number is 0."""
    if isinstance(error, MydockerError):
        kind, text = type(error).__name__, f"{error.message}; {error.hint}" if error.hint else error.message
    elif isinstance(error, OSError):
        kind, text = "RuntimeFailed", f"make the container: {error.strerror or error}"
        if error.filename is not None:
            text += f": {os.fsdecode(error.filename)}"
    else:
        kind, text = "RuntimeFailed", f"internal error: {type(error).__name__}: {error}"
    return b"\0".join((FAILED + kind.encode(), b"0", os.fsencode(text)[:MAX_TEXT_BYTES]))


def send(sock: _socket.socket, message: bytes, fd: int = -1) -> None:
    """Send one message, with a descriptor when `fd` is not negative. Raises OSError."""
    if fd < 0:
        sock.send(message)
    else:
        sock.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(4, "little"))])
