"""Sizes and durations as users write them, Docker's way."""
from __future__ import annotations

from .errors import InvalidRequest

_SIZE = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
#: No duration is longer, some 30000 years: what comes out of it can still be reckoned with.
MAX_DURATION_S = 1e12
_DURATION_S = {"ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_size(text: str, *, what: str = "size") -> int:
    """Return bytes from `512`, `64k`, `1.5g`, `10MB`, `2GiB` (powers of 1024, as Docker's RAMInBytes).

    Raises InvalidRequest, naming `what`.
    """
    word = text.strip().lower()
    digits = word.rstrip("bikmgtp ")
    unit = word[len(digits):].strip()
    unit = unit[:1] if unit in ("b", "kb", "mb", "gb", "tb", "pb", "kib", "mib", "gib", "tib", "pib") else unit
    try:
        number = float(digits)
        if not digits[:1].isdigit() or not digits.replace(".", "", 1).isdigit() or unit not in _SIZE:
            raise ValueError(text)
        size = int(number * _SIZE[unit])
        if size >= 1 << 63:
            raise ValueError(text)
        return size
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{what}: {text!r} is not a size", hint="write a number with b, k, m or g, such as 512m") from None


def parse_duration(text: str, *, what: str = "duration") -> float:
    """Return seconds from `90`, `1.5s`, `2m30s`, `1h` (Go's time.ParseDuration, and plain seconds).

    Raises InvalidRequest, naming `what`.
    """
    rest = text.strip()
    try:
        seconds = float(rest) if rest.replace(".", "", 1).isdecimal() else _sum_of_terms(rest)
        if seconds >= MAX_DURATION_S:
            raise ValueError(rest)
        return seconds
    except (ValueError, KeyError):
        raise InvalidRequest(f"{what}: {text!r} is not a duration", hint="write seconds, or such as 90s, 1m30s, 2h") from None


def _sum_of_terms(rest: str) -> float:
    total = 0.0
    if not rest:
        raise ValueError(rest)
    while rest:
        number = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(number):]
        unit = rest[: len(rest) - len(rest.lstrip("nu\u00b5msh"))]
        total += float(number) * _DURATION_S[unit]
        rest = rest[len(unit):]
    return total


def format_size(size_bytes: int) -> str:
    """Return a size in decimal units with three significant digits, as Docker prints (`1.24MB`)."""
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000:
            return f"{value:.3g}{unit}" if unit != "B" else f"{size_bytes}B"
        value /= 1000
    return f"{value:.3g}PB"
