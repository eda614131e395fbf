"""Times as the engine stores and shows them. Wall-clock times are `_ns`: nanoseconds since the epoch."""
from __future__ import annotations

import time


def now_ns() -> int:
    """Return the wall-clock time in nanoseconds since the epoch."""
    return time.time_ns()


def format_local(time_ns: int) -> str:
    """Return `YYYY-MM-DD HH:MM:SS` in local time, the seed's createTime."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ns // 1_000_000_000))


def format_rfc3339(time_ns: int) -> str:
    """Return RFC 3339 in UTC with nine digits of the second, as Docker and CRI logs write it."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"
