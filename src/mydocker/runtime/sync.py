"""Messages between a container's init and whoever creates it (docs/protocols.md draws them).

A SOCK_SEQPACKET pair: one datagram is one message, its first byte the name. The init (Python, then
the last stage in C on the same socket) and the creator (Python, then the monitor in C) follow:

    creator                          init
       | <---------- MAPPING --------- |   only with a new user namespace: write my id maps
       | ------------- GO -----------> |
       | <---- CLONED + descriptor --- |   only where a helper joins namespaces first: the init's pid and pidfd
       | ------------- GO -----------> |
       | <--- DEVICES + descriptor --- |   only with linux.netDevices: my network namespace, to move them to
       | ------------- GO -----------> |
       | <---- MOUNT + descriptor ---- |   only where ids of a mount of the container's own are mapped: this detached copy
       | ------------- GO -----------> |
       | <----------- HOOKS ---------- |   only with hooks to run outside: the mounts are made
       | ------------- GO -----------> |
       | <---- CONSOLE + descriptor -- |   only with a terminal (it goes to the console socket, where there is one)
       | <------------ READY --------- |   last stage: everything is done but the command
       | ------------ START ---------> |
       | <--- end of file | FAILED --- |   the command runs | it does not

FAILED may take the place of any message of the init's and ends it. What is asked for before CONSOLE is
served by runtime/create.py before it returns, so the monitor never sees it.
"""
from __future__ import annotations

import _socket
import os

from mydocker.base.errors import KINDS, MydockerError, RuntimeFailed

CONSOLE, READY, START, FAILED = b"C", b"R", b"S", b"F"
MAPPING, CLONED, DEVICES, MOUNT, HOOKS, GO = b"U", b"P", b"D", b"M", b"H", b"G"
_MAX_MESSAGE_BYTES = 8192
#: The monitor keeps 4096 bytes of a report.
MAX_TEXT_BYTES = 3800


def open_pair() -> tuple[_socket.socket, _socket.socket]:
    """Return the two ends, close-on-exec; the callers close them."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)


def pack_failure(error: BaseException) -> bytes:
    """Return the FAILED message for an exception; the number is 0 where the text has the reason."""
    number = 0
    if isinstance(error, MydockerError):
        kind, text = type(error).__name__, f"{error.message}; {error.hint}" if error.hint else error.message
    elif isinstance(error, OSError):
        kind, text, number = "RuntimeFailed", "make the container", error.errno or 0
        if isinstance(error.filename, (str, bytes)):  # os.execve(fd) and others have the descriptor there
            text += f": {os.fsdecode(error.filename)}"
    else:
        kind, text = "RuntimeFailed", f"internal error: {type(error).__name__}: {error}{_place_of(error)}"
    return b"\0".join((FAILED + kind.encode(), b"%d" % number, os.fsencode(text)[:MAX_TEXT_BYTES]))


def _place_of(error: BaseException) -> str:
    """Return where a bug of ours showed: the line alone, as `traceback` must not be imported inside of a container."""
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    return f" ({os.path.basename(step.tb_frame.f_code.co_filename)}, line {step.tb_lineno})" if step is not None else ""


def unpack_failure(message: bytes) -> MydockerError:
    """Return the error that a FAILED message carries."""
    kind, _, rest = message[1:].partition(b"\0")
    number, _, text = rest.partition(b"\0")
    reason = f": {os.strerror(int(number))}" if number.isdigit() and int(number) else ""
    return KINDS.get(kind.decode("ascii", "replace"), RuntimeFailed)(os.fsdecode(text) + reason)


DIED = "start the container: its init, or whoever creates it, ended before it could be started"


class PeerDied(RuntimeFailed):
    """The other side ended without saying why."""


def receive(sock: _socket.socket, expected: bytes) -> int:
    """Wait for one message by its name; return the descriptor that came with it, or -1. The caller closes it.

    Raises the error that FAILED carries, PeerDied at end of file, RuntimeFailed for any other message.
    """
    return receive_message(sock, expected)[1]


def receive_message(sock: _socket.socket, expected: bytes) -> tuple[bytes, int]:
    """As `receive`, but return what follows the name, too."""
    try:
        message, ancillary, _, _ = sock.recvmsg(_MAX_MESSAGE_BYTES, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        message, ancillary = b"", []  # it died with messages of ours unread
    fd = -1
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fd = int.from_bytes(data[:4], "little")
    if message[:1] == FAILED:
        raise unpack_failure(message)
    if not message:
        raise PeerDied(DIED)
    if message[:1] != expected:
        raise RuntimeFailed(f"start the container: received message {message[:1]!r} where {expected!r} was due")
    return message[1:], fd


def ask(sock: _socket.socket, message: bytes, fd: int = -1) -> None:
    """Send a request of the init's, with a descriptor when `fd` is not negative, and wait until the creator has served it."""
    send(sock, message, fd)
    receive(sock, GO)


def send(sock: _socket.socket, message: bytes, fd: int = -1) -> None:
    """Send one message, with a descriptor when `fd` is not negative. Raises OSError."""
    if fd < 0:
        sock.send(message)
    else:
        sock.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(4, "little"))])
