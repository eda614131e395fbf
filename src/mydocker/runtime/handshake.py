"""The creator's side of the start handshake for a caller without a monitor (sync.py has the messages).

Waits for the init, hands the terminal on, says START, and turns a command that cannot be executed into the words that
runc has for it, because docker and podman find exit codes 126 and 127 in them.
"""
from __future__ import annotations

import _socket
import os

from mydocker.base.errors import KINDS, CommandNotExecutable, CommandNotFound, InvalidRequest, MydockerError, RuntimeFailed

from . import sync

_MAX_MESSAGE_BYTES = 8192
_MAX_SOCKET_PATH = 107


class Handshake:
    """One start, from the clone to the command; `channel` is closed by its owner."""

    __slots__ = ("_args", "_channel")

    def __init__(self, channel: _socket.socket, args: list[str]) -> None:
        self._channel = channel
        self._args = args

    def wait_ready(self, *, terminal: bool) -> int:
        """Wait until everything is done but the command; return the terminal's master, which the caller closes, or -1.

        Raises what went wrong inside.
        """
        console = self._receive(sync.CONSOLE) if terminal else -1
        try:
            self._receive(sync.READY)
        except BaseException:
            if console >= 0:
                os.close(console)
            raise
        return console

    def start(self) -> None:
        """Say START and wait until the command runs. Raises CommandNotFound, CommandNotExecutable, RuntimeFailed."""
        self._channel.send(sync.START)
        self._receive(b"")

    def _receive(self, expected: bytes) -> int:
        try:
            message, ancillary, _, _ = self._channel.recvmsg(
                _MAX_MESSAGE_BYTES, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            raise RuntimeFailed("start the container: its init was killed") from None
        fd = -1
        for level, kind, data in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                fd = int.from_bytes(data[:4], "little")
        if message[:1] == sync.FAILED:
            raise self._unpack_failure(message)
        if message[:1] != expected:
            raise RuntimeFailed(
                f"start the container: its init sent {message[:1]!r} where {expected!r} was due" if message else
                "start the container: its init ended before the command could be started")
        return fd

    def _unpack_failure(self, message: bytes) -> MydockerError:
        kind, _, rest = message[1:].partition(b"\0")
        number, _, text = rest.partition(b"\0")
        reason = os.strerror(int(number)).lower() if number.isdigit() and int(number) else ""
        cls = KINDS.get(kind.decode("ascii", "replace"), RuntimeFailed)
        if cls is CommandNotFound:
            name = self._args[0] if self._args else ""
            return cls(f'exec: "{name}": stat {name}: {reason}' if "/" in name else
                       f'exec: "{name}": executable file not found in $PATH')
        if cls is CommandNotExecutable:
            # A directory is EISDIR here and EACCES to older callers, which know the words of the latter only.
            denied = "" if "denied" in reason else ": permission denied" if "directory" in reason else ""
            return cls(f'exec: "{self._args[0]}": {reason}{denied}')
        return cls(": ".join(filter(None, (os.fsdecode(text), reason))))


def take_console(console: int, socket_path: str) -> int:
    """Send a terminal's master away where a socket is waiting for it; return it when it is ours to keep, else -1."""
    if console < 0 or not socket_path:
        return console
    try:
        send_console(socket_path, console)
    finally:
        os.close(console)
    return -1


def send_console(socket_path: str, console_fd: int) -> None:
    """Send a terminal's master to an AF_UNIX socket, as --console-socket wants it. Raises InvalidRequest."""
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    directory, _, name = os.path.abspath(socket_path).rpartition("/")
    directory_fd = -1
    try:
        if len(os.fsencode(socket_path)) > _MAX_SOCKET_PATH:  # unix(7): sun_path is short, a descriptor's name is, too
            directory_fd = os.open(directory or "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            channel.connect(f"/proc/self/fd/{directory_fd}/{name}")
        else:
            channel.connect(socket_path)
        # The data is the terminal's name to runc's receivers, who only show it.
        sync.send(channel, b"/dev/console", console_fd)
    except OSError as error:
        raise InvalidRequest(f"send the terminal to {socket_path}: {os.strerror(error.errno or 0)}") from error
    finally:
        channel.close()
        if directory_fd >= 0:
            os.close(directory_fd)
