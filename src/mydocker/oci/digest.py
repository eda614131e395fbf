"""Digests, diff ids and chain ids: pure text and small hashes.

Source: OCI image-spec, descriptor.md (digests) and config.md (chain ids). Only sha256 is taken:
every name on disk comes from `parse_digest`, so an unchecked digest can never become a path
(`sha256:../../x`, CVE-2024-3727). Large data is hashed by whoever streams it, with hashlib.
"""
from __future__ import annotations

import sys

from mydocker.base.errors import Corrupt

# hashlib loads libcrypto (9 ms); the interpreter's own implementation is enough for short texts.
try:
    if sys.version_info >= (3, 12):
        from _sha2 import sha256 as _sha256  # type: ignore[import-not-found, unused-ignore]
    else:
        from _sha256 import sha256 as _sha256  # type: ignore[import-not-found, unused-ignore]
except ImportError:  # an interpreter that only has OpenSSL's
    from hashlib import sha256 as _sha256

_HEX = frozenset("0123456789abcdef")


def digest_of(data: bytes) -> str:
    """Return `sha256:<hex>` of a short document."""
    return f"sha256:{_sha256(data).hexdigest()}"


def is_hex(text: str) -> bool:
    """Tell whether a text is lower-case hexadecimal and not empty."""
    return bool(text) and _HEX.issuperset(text)


def parse_digest(text: object, *, what: str = "digest") -> str:
    """Return the 64 hexadecimal digits of a `sha256:` digest. Raises Corrupt, naming `what`."""
    if isinstance(text, str) and len(text) == 71 and text.startswith("sha256:") and is_hex(text[7:]):
        return text[7:]
    raise Corrupt(f"{what}: {str(text)[:100]!r} is not a sha256 digest")


def chain_ids(diff_ids: list[str]) -> tuple[str, ...]:
    """Return the chain id of each layer from its diff id and those below; the top one is last."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(digest_of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)
