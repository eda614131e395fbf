"""The creator's side of a start for a caller without a monitor (sync.py has the messages).

Waits for the init, says START, and turns a command that cannot be executed into the words that runc has for it, because
docker and podman find exit codes 126 and 127 in them. Connects to the socket that a terminal's master is sent to.
"""
from __future__ import annotations

import _socket
import os
import sys

from mydocker.base.errors import CommandNotExecutable, CommandNotFound, InvalidRequest

from . import sync

_MAX_SOCKET_PATH = 107


class Handshake:
    """One start, from the clone to the command; `channel` is closed by its owner."""

    __slots__ = ("_channel", "_name")

    def __init__(self, channel: _socket.socket, args: list[str]) -> None:
        self._channel = channel
        self._name = args[0]

    def wait_ready(self, *, console_here: bool) -> int:
        """Wait until everything is done but the command; return the terminal's master, which the caller closes, or -1.

        `console_here` says that it comes to us. Raises what went wrong inside.
        """
        console = self._receive(sync.CONSOLE) if console_here else -1
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
        try:
            sync.receive(self._channel, sync.START)
        except sync.PeerDied:
            return  # the end of file is the news: close-on-exec
        except CommandNotFound as error:
            # The file is there: it is what its first line, or its header, names (execve(2)).
            raise CommandNotFound(f"exec {self._name}: no such file or directory", hint="its interpreter is missing") from error
        except CommandNotExecutable as error:
            raise CommandNotExecutable(f"exec {self._name}: {error.message.rpartition(': ')[2].lower()}") from error
        raise AssertionError("an init has no START to send")

    def _receive(self, expected: bytes) -> int:
        try:
            return sync.receive(self._channel, expected)
        except CommandNotFound as error:
            name = self._name
            raise CommandNotFound(
                f'exec: "{name}": stat {name}: no such file or directory' if "/" in name else
                f'exec: "{name}": executable file not found in $PATH') from error
        except CommandNotExecutable as error:
            reason = error.message.rpartition(": ")[2].lower()
            # A directory is EISDIR here and EACCES to older callers, which know the words of the latter only.
            denied = ": permission denied" if reason == "is a directory" else ""
            raise CommandNotExecutable(f'exec: "{self._name}": {reason}{denied}') from error


def send_pidfd(path: str, pidfd: int, kind: bytes) -> None:
    """Send a pidfd to the AF_UNIX socket of --pidfd-socket, with runc's word for how it was made. Raises InvalidRequest."""
    channel = _connect(path, "--pidfd-socket")
    try:
        _socket.socket.sendmsg(channel, [kind], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, pidfd.to_bytes(4, sys.byteorder))])
    except OSError as error:
        raise InvalidRequest(f"send to --pidfd-socket {path}: {os.strerror(error.errno or 0)}") from error
    finally:
        channel.close()


def connect_console(path: str) -> _socket.socket | None:
    """Connect to the AF_UNIX socket of --console-socket; None for none. Raises InvalidRequest. The caller closes it."""
    return _connect(path, "console socket") if path else None


def _connect(path: str, what: str) -> _socket.socket:
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    directory_fd = -1
    try:
        if len(os.fsencode(path)) > _MAX_SOCKET_PATH:  # unix(7): sun_path is short, and a descriptor's name is, too
            directory, _, name = os.path.abspath(path).rpartition("/")
            directory_fd = os.open(directory or "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            path = f"/proc/self/fd/{directory_fd}/{name}"
        channel.connect(path)
    except OSError as error:
        channel.close()
        raise InvalidRequest(f"connect to {what} {path}: {os.strerror(error.errno or 0)}") from error
    finally:
        if directory_fd >= 0:
            os.close(directory_fd)
    return channel
