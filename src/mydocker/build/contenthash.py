"""The hash of what a step takes in: OpenSSL's for much, which takes 5 ms to load; the interpreter's own for little."""
from __future__ import annotations

from mydocker.oci.digest import digest_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import _Hash

#: OpenSSL hashes this in 1 ms, the interpreter in 5.
_LITTLE_BYTES = 1 << 20


class ContentHash:
    """sha256 of what `update` is given."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._size = 0
        self._hash: _Hash | None = None

    def update(self, data: bytes) -> None:
        """Take more bytes."""
        if self._hash is not None:
            self._hash.update(data)
            return
        self._waiting.append(data)
        self._size += len(data)
        if self._size > _LITTLE_BYTES:
            import hashlib  # cold

            self._hash = hashlib.sha256(b"".join(self._waiting))
            self._waiting.clear()

    def digest(self) -> str:
        """Return `sha256:<hex>`."""
        return f"sha256:{self._hash.hexdigest()}" if self._hash is not None else digest_of(b"".join(self._waiting))
