"""Values of options that few containers have: request.py imports this when one of them is given. All raise InvalidRequest."""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest
from mydocker.base.units import MAX_DURATION_S, parse_duration, parse_size

from .request import CPU_PERIOD_US, clean_path, judge_argv, text_line, words
from .signals import parse_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MIN_MEMORY_BYTES = 6 << 20


def judge_memory(value: Any, what: str) -> int:
    """Return a limit of memory in bytes."""
    size = value if isinstance(value, int) and not isinstance(value, bool) else parse_size(text_line(value, what), what=what)
    if size and size < MIN_MEMORY_BYTES:
        raise InvalidRequest(f"{what} {value}: less than the minimum of 6m")
    return size


def judge_memory_swap(value: Any, what: str) -> int:
    """Return a limit of memory and swap in bytes, -1 for none."""
    if str(value) == "-1":
        return -1
    return value if isinstance(value, int) else parse_size(text_line(value, what), what=what)


def judge_cpus(value: Any, what: str) -> int:
    """Return a number of cpus as microseconds in a period."""
    available = os.cpu_count() or 1
    try:
        cpus = float(value)
    except (TypeError, ValueError):
        raise InvalidRequest(f"{what} {value!r} is not a number of cpus", hint="write such as 0.5 or 2") from None
    if not 0 <= cpus < 1e6 or 0 < cpus < 0.01:
        raise InvalidRequest(f"{what} {value}: at least 0.01 is needed")
    if cpus > available:
        raise InvalidRequest(f"{what} {value}: this machine has {available} cpus")
    return round(cpus * CPU_PERIOD_US)


def judge_absolute(value: Any, what: str) -> str:
    """Return an absolute path."""
    text = text_line(value, what)
    if not text.startswith("/"):
        raise InvalidRequest(f"{what} {value!r} must be an absolute path")
    return clean_path(text)


def judge_hostname(value: Any, what: str) -> str:
    """Return a host name."""
    text = text_line(value, what)
    # It becomes a line of files that programs inside believe.
    if not 0 < len(text) <= 64 or not text.isprintable() or " " in text or "#" in text:
        raise InvalidRequest(f"{what} {value!r} is not a host name of at most 64 letters")
    return text


def judge_entrypoint(value: Any, what: str) -> tuple[str, ...]:
    """Return the words of an entry point."""
    words = judge_argv([value] if isinstance(value, str) else value)
    return tuple(word for word in words if word)


def judge_signal_word(value: Any, what: str) -> str:
    """Return a signal as it was written."""
    parse_signal(value, what)
    return str(value)


def judge_seconds(value: Any, what: str) -> float:
    """Return a number of seconds, -1 for no end."""
    if isinstance(value, (int, float)):
        if not value < MAX_DURATION_S:  # nor NaN
            raise InvalidRequest(f"{what} {value} is not a number of seconds")
        return float(value)
    return -1.0 if value == "-1" else parse_duration(text_line(value, what), what=what)


def judge_show(value: Any, what: str) -> tuple[str, ...]:
    """Return absolute paths."""
    return tuple(judge_absolute(word, what) for word in words(value, what))


def judge_user(value: Any, what: str) -> str:
    """Return a user as it was written."""
    text = text_line(str(value), what)
    if text.endswith(":") or text.startswith((":", "-")):
        raise InvalidRequest(f"{what} {value!r} is not NAME|UID[:GROUP|GID]")
    return text
