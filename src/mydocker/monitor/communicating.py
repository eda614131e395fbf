"""`Session.communicate`: all of the input to a container, all of its output back, as subprocess has it.

Cold: the command line relays between descriptors instead (relay.py).
"""
from __future__ import annotations

import time

from . import protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .attach import Session
    from .protocol import ExitRecord


def communicate(session: Session, stdin: bytes | None, timeout: float | None) -> tuple[bytes, bytes, ExitRecord]:
    """Send all of `stdin` and its end (nothing when None); return all output and how it ended. Raises Timeout."""
    deadline = None if timeout is None else time.monotonic() + timeout
    output: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    for stream, payload in session.take_queued():
        output[stream].append(payload)  # type: ignore[arg-type]
    feed = _Feed(stdin)
    while session.exit is None:
        writable, readable = session.poll(wants_write=feed.is_pending, deadline=deadline)
        if writable:
            feed.send_next(session)
        if readable:
            event = session.receive_now()
            if event is not None:
                output[event[0]].append(event[1])  # type: ignore[arg-type]
    return b"".join(output["stdout"]), b"".join(output["stderr"]), session.exit


class _Feed:
    """Input that is sent message by message while output is read, and its end after it."""

    __slots__ = ("_at", "_view", "is_pending")

    def __init__(self, data: bytes | None) -> None:
        self._view = memoryview(data or b"")
        self._at = 0
        self.is_pending = data is not None

    def send_next(self, session: Session) -> None:
        """Send one message if there is room for it."""
        payload = self._view[self._at:self._at + protocol.MAX_PAYLOAD_BYTES]
        message = protocol.MSG_STDIN + payload if payload else protocol.MSG_STDIN_EOF
        try:
            if not session.send_now(message):
                return
        except (BrokenPipeError, ConnectionResetError):
            self.is_pending = False  # the end is there; reading will show it
            return
        self._at += len(payload)
        self.is_pending = bool(payload)
