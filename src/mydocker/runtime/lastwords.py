"""What an init said before it failed, for a creator that meanwhile failed at something of its own because of that."""
from __future__ import annotations

import _socket

from . import sync


def raise_failure(channel: _socket.socket) -> None:
    """Raise the error that the init has reported by now, if it has one; what else it said is thrown away."""
    message = b"?"
    while message:
        try:
            message = channel.recv(1 << 16, _socket.MSG_DONTWAIT)
        except (BlockingIOError, ConnectionResetError):
            return
        if message[:1] == sync.FAILED:
            raise sync.unpack_failure(message)
