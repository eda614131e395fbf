"""Live sessions of containers and of exec'd processes, as the engine hands them out.

A monitor/attach.py Session plus what ends it properly: recording the end, and removing what was to go.
"""
from __future__ import annotations

from mydocker.linux.process import ProcessIdentity, boot_id, signal_process
from mydocker.monitor.attach import CONNECT_TIMEOUT_S, Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from .containers import Container


class LiveSession(Session):
    """A session whose `finish` also does the clean-up that its owner promised.

    `container` is the container it belongs to. `finish` is called after the end (`exit` is set), and
    `close` at any time; whoever closes without finishing leaves the clean-up to the monitor.
    """

    __slots__ = ("_clean_up", "container")

    def __init__(self, connection: _socket.socket, clean_up: Callable[[], object] | None = None) -> None:
        super().__init__(connection)
        self._clean_up = clean_up
        self.container: Container | None = None

    def own(self, clean_up: Callable[[], object]) -> None:
        """Say what `finish` does."""
        self._clean_up = clean_up

    @classmethod
    def connect(cls, path: str, *, timeout_s: float = CONNECT_TIMEOUT_S) -> LiveSession:
        """Connect to a monitor's control socket. Raises Unavailable when no monitor is there, NotAnswering."""
        session = super().connect(path, timeout_s=timeout_s)
        assert isinstance(session, LiveSession)
        return session

    def kill(self, signum: int = 9) -> None:
        """Send a signal to the process of the session, if it still runs."""
        if self.started is not None:
            signal_process(
                ProcessIdentity(pid=self.started.pid, start_time=self.started.start_time, boot_id=boot_id()), signum)

    def finish(self, timeout_s: float | None = None) -> int:
        """Wait for the end, clean up, close, and return the exit code. Raises Timeout and leaves everything as it is."""
        ended = self.exit or self.wait(timeout_s)
        if self._clean_up is not None:
            self._clean_up()
            self.cleaned()
        self.close()
        return ended.exit_code


