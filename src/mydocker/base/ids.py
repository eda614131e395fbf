"""Container ids (ten decimal digits, as in the seed) and random names."""
from __future__ import annotations

import os


def new_container_id() -> str:
    """Return ten random decimal digits, the first not zero."""
    return str(int.from_bytes(os.urandom(8), "big") % 9_000_000_000 + 1_000_000_000)


def new_unique() -> str:
    """Return 16 random hexadecimal digits, for names that must not meet."""
    return os.urandom(8).hex()


def new_hex(digits: int) -> str:
    """Return that many random hexadecimal digits."""
    return os.urandom((digits + 1) // 2).hex()[:digits]
