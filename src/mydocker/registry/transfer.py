"""Blobs on their way: down, going on where a connection broke off; up, in one piece or several.

Source: opencontainers/distribution-spec v1.1 (pulling blobs, pushing blobs), RFC 9110 section 14 (Range).
"""
from __future__ import annotations

import time

from mydocker.base.errors import Corrupt, Denied, MydockerError, NotFound

from .client import ATTEMPTS, Busy, failure_of, wait
from .transport import Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .client import Repository
    from .transport import Response

CHUNK_BYTES = 256 << 10


class BlobReader:
    """The bytes of one blob, from the first repository that has it; exactly `size` of them, or an error.

    A connection that breaks off is made again from where it was. The digest is the reader's to verify. One
    thread reads; `network_s` is the time it spent waiting for bytes.
    """

    def __init__(self, repositories: Sequence[Repository], digest: str, size: int) -> None:
        self.digest = digest
        self.size = size
        self.position = 0
        self.network_s = 0.0
        self._repositories = list(repositories)
        self._response: Response | None = None
        self._failures = 0
        self._is_stopped = False

    def read(self) -> bytes:
        """Return the next bytes, b"" at the end. Raises NotFound, Denied, Corrupt, Busy, Unreachable, Unavailable."""
        started = time.monotonic()
        try:
            return self._read()
        finally:
            self.network_s += time.monotonic() - started

    def _read(self) -> bytes:
        while True:
            if self._is_stopped:
                raise Unreachable(f"read blob {self.digest}: stopped", is_final=True)
            try:
                if self._response is None:
                    self._response = self._open()
                data = self._response.read(CHUNK_BYTES)
                if self.position + len(data) > self.size:
                    raise Corrupt(f"read blob {self.digest}: it has more bytes than the {self.size} of its descriptor")
                if data:
                    self.position += len(data)
                    self._failures = 0  # it goes on: only tries without any progress are counted
                    return data
                if self.position == self.size:
                    self.close()
                    return b""
                raise Unreachable(f"read blob {self.digest}: the connection ended at {self.position} of {self.size} bytes")
            except (Busy, Unreachable) as error:
                self.close()
                self._give_in(error)
            except (NotFound, Denied) as error:
                self.close()
                self._next_server(error)

    def _open(self) -> Response:
        """Ask for the rest of the blob."""
        repository = self._repositories[0]
        headers = {"Range": f"bytes={self.position}-"} if self.position else {}
        response = repository.server.request(
            "GET", repository.url("blobs", self.digest), scope=repository.pull_scope, headers=headers)
        if response.status == 200:
            self._skip(response)  # a server without ranges begins again
        elif response.status != 206 or not self.position:
            raise failure_of(response, f"blob {self.digest}", repository.server.shown)
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {self.position}-"):
            response.close()
            raise Corrupt(f"read blob {self.digest}: the server sends another part than was asked for")
        return response

    def _skip(self, response: Response) -> None:
        left = self.position
        while left:
            data = response.read(min(left, CHUNK_BYTES))
            if not data:
                raise Unreachable(f"read blob {self.digest}: the connection ended early")
            left -= len(data)

    def _give_in(self, error: Busy | Unreachable) -> None:
        """Wait for another try, or turn to another server; raises the error when there is neither."""
        self._failures += 1
        if self._is_stopped:
            raise error
        try:
            if self._failures >= ATTEMPTS:
                raise error
            wait(self._failures, error)
        except (Busy, Unreachable):
            self._next_server(error)

    def _next_server(self, error: MydockerError) -> None:
        if len(self._repositories) == 1:
            raise error
        del self._repositories[0]
        self._failures = 0

    def close(self) -> None:
        """Let go of the connection."""
        if self._response is not None:
            self._response.close()
            self._response = None

    def stop(self) -> None:
        """Make the reading thread's next read fail, and wake it when it waits for bytes. From any thread."""
        self._is_stopped = True
        response = self._response
        if response is not None:
            response.shut_down()
