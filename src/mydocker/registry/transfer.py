"""Blobs on their way: down, going on where a connection broke off; up, in one piece or several.

Source: opencontainers/distribution-spec v1.1 (pulling blobs, pushing blobs), RFC 9110 section 14 (Range).
"""
from __future__ import annotations

import os
import time
from urllib.parse import urlencode, urlsplit

from mydocker.base import log
from mydocker.base.errors import Corrupt, Denied, MydockerError, NotFound

from .client import ATTEMPTS, Busy, Refused, failure_of, persist, wait
from .transport import Unreachable, redirected, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .client import Repository
    from .transport import Response

CHUNK_BYTES = 256 << 10
#: Blobs up to this size go up in one request, larger ones in pieces of it, so that a broken connection costs no more.
PIECE_BYTES = 64 << 20
_BINARY = {"Content-Type": "application/octet-stream"}
#: What registries say that take a blob in one request only; others (413) would not take the whole either.
_NO_PIECES = (400, 404, 405, 416, 501)


class BlobReader:
    """The bytes of one blob, from the first repository that has it; exactly `size` of them, or an error.

    A connection that breaks off is made again from where it was; `position` bytes the reader has already. A mirror that fails is
    left at once, and asked again, with patience, where the registry itself fails, too. The digest is the reader's to verify.
    One thread reads; `network_s` is the time it spent waiting for bytes.
    """

    def __init__(self, repositories: Sequence[Repository], digest: str, size: int, *, position: int = 0) -> None:
        self.digest = digest
        self.size = size
        self.position = position
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
                    if self.position == self.size > 0:
                        return b""  # nothing is left to ask for
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
            except (NotFound, Denied, Refused) as error:
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
        first, *others = self._repositories
        if not first.server.is_patient and any(other.server.is_patient for other in others):
            self._next_server(error)
            if not (isinstance(error, Unreachable) and error.is_final):
                self._repositories.append(first)
            return
        try:
            if self._failures >= ATTEMPTS:
                raise error
            wait(self._failures, error)
        except (Busy, Unreachable):
            self._next_server(error)

    def _next_server(self, error: MydockerError) -> None:
        if len(self._repositories) == 1:
            raise error
        log.debug("registry passed over", server=self._repositories[0].shown, why=error.message)
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


class _NoPieces(MydockerError):
    """A registry refuses a piece: not all take more than one, as Docker sends the whole in one."""


class BlobWriter:
    """One blob on its way up to a repository, from a file of ours.

    `moved` is told how far it is. One thread uploads; `stop` from another ends it.
    """

    def __init__(self, repository: Repository, digest: str, fd: int, size: int, moved: Callable[[int, float], None]) -> None:
        self.digest = digest
        self._repository = repository
        self._fd = fd
        self._size = size
        self._moved = moved
        self._is_stopped = False
        self._piece_bytes = PIECE_BYTES
        self._shown = f"blob {digest} to {repository.shown}"

    def stop(self) -> None:
        """Make the upload fail at its next piece. From any thread."""
        self._is_stopped = True

    def is_there(self) -> bool:
        """Tell whether the repository has the blob. Raises Denied, Unavailable, ..."""
        try:
            return self._repository.server.ask(
                "HEAD", self._repository.url("blobs", self.digest), lambda _: True, scope=self._repository.push_scope,
                what=self._shown)
        except NotFound:
            return False

    def mount(self, other: str) -> bool:
        """Have the registry take the blob over from another of its repositories; False when it will not."""
        query = urlencode({"mount": self.digest, "from": other})
        scope = f"{self._repository.push_scope} repository:{other}:pull"
        url = f"{self._repository.url('blobs', 'uploads')}/?{query}"
        with self._repository.server.request("POST", url, scope=scope, body=b"") as response:
            if response.status == 202:
                self._cancel(redirected(response.url, response.headers.get("Location", "")))
            return response.status == 201

    def _cancel(self, place: str) -> None:
        """Give an upload up that was begun; where that fails, the server forgets it by itself, later."""
        try:
            self._repository.server.request("DELETE", place, scope=self._repository.push_scope).finish()
        except (Unreachable, Denied) as error:
            log.debug("registry keeps an upload", place=shown(place), why=error.message)

    def upload(self) -> None:
        """Upload the blob. Raises Denied, Busy, Unreachable, Unavailable."""
        if self._size > PIECE_BYTES:
            try:
                persist(self._upload_in_pieces)
                return
            except _NoPieces as error:
                log.debug("registry takes no pieces", why=error.message)
        persist(self._upload_whole)

    def _begin(self) -> str:
        """Return the place of a new upload, and heed how small the registry lets a piece be that is not the last."""
        with self._ask("POST", f"{self._repository.url('blobs', 'uploads')}/", good=(202,), body=b"") as response:
            least = response.headers.get("OCI-Chunk-Min-Length", "")
            self._piece_bytes = max(PIECE_BYTES, int(least) if least.isdecimal() else 0)
            return redirected(response.url, response.headers.get("Location", ""))

    def _ask(
        self, method: str, url: str, *, good: tuple[int, ...], body: bytes | Callable[[], object] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Response:
        if self._is_stopped:
            raise Unreachable(f"{self._shown}: stopped", is_final=True)
        response = self._repository.server.request(
            method, url, scope=self._repository.push_scope, headers=headers, body=body)
        if response.status not in good:
            raise failure_of(response, self._shown, self._repository.server.shown)
        return response

    def _upload_whole(self) -> None:
        place = self._begin()
        headers = {**_BINARY, "Content-Length": str(self._size)}
        try:
            self._ask(
                "PUT", _with_digest(place, self.digest), good=(201,), body=lambda: self._piece(0, self._size), headers=headers
            ).finish()
        except (NotFound, Denied, Refused):
            self._cancel(place)
            raise

    def _upload_in_pieces(self) -> None:
        place = self._begin()
        position = failures = 0
        while position < self._size:
            size = min(self._piece_bytes, self._size - position)
            headers = {**_BINARY, "Content-Length": str(size), "Content-Range": f"{position}-{position + size - 1}"}
            try:
                with self._ask(
                    "PATCH", place, good=(202,), body=lambda at=position, much=size: self._piece(at, much), headers=headers  # type: ignore[misc]
                ) as response:
                    place = redirected(response.url, response.headers.get("Location", ""))
                    position += size
                    failures = 0
            except (Busy, Unreachable) as error:
                failures += 1
                if failures >= ATTEMPTS or self._is_stopped:
                    raise
                wait(failures, error)
                position, place = self._ask_position(place)
            except (NotFound, Denied, Refused) as error:
                self._cancel(place)
                if isinstance(error, NotFound) or (isinstance(error, Refused) and error.status in _NO_PIECES):
                    raise _NoPieces(error.message) from error
                raise
        self._ask("PUT", _with_digest(place, self.digest), good=(201,), body=b"", headers=_BINARY).finish()

    def _ask_position(self, place: str) -> tuple[int, str]:
        """Ask the server how much it has, and where to go on; a forgotten upload begins again."""
        try:
            with self._ask("GET", place, good=(204,)) as response:
                _, _, last = response.headers.get("Range", "").rpartition("-")
                there = redirected(response.url, response.headers.get("Location") or place)
                # `0-0` of an empty upload and of one byte look the same: one byte too few does no harm where none is.
                position = int(last) + 1 if last.isdigit() and int(last) > 0 else 0
                if position <= self._size:
                    return position, there
        except NotFound:
            pass
        return 0, self._begin()

    def _piece(self, position: int, size: int) -> _Piece:
        return _Piece(self, position, size)


class _Piece:
    """A part of the file as urllib3 reads it; tells on the way how far it is."""

    def __init__(self, writer: BlobWriter, position: int, size: int) -> None:
        self._writer = writer
        self._position = position
        self._end = position + size
        self._given_at = 0.0

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; between two calls they are sent."""
        writer = self._writer
        now = time.monotonic()
        writer._moved(self._position, now - self._given_at if self._given_at else 0.0)
        if writer._is_stopped:
            raise ConnectionAbortedError(103, "the upload is stopped")
        left = self._end - self._position
        data = os.pread(writer._fd, left if size < 0 else min(size, left), self._position)
        if not data and left:
            raise Corrupt(f"{writer._shown}: the file of the blob is cut short")
        self._position += len(data)
        self._given_at = time.monotonic()
        return data


def _with_digest(place: str, digest: str) -> str:
    return f"{place}{'&' if urlsplit(place).query else '?'}{urlencode({'digest': digest})}"
