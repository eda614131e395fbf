"""Logs of containers: the user's words for times and counts -> monitor/logs.py."""
from __future__ import annotations

import time

from mydocker.base.errors import InvalidRequest, NotFound
from mydocker.base.units import parse_duration
from mydocker.monitor import logs

from .ending import current
from .lifecycle import ALIVE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .store import ContainerRecord, Store


def read_container_log(
    store: Store, record: ContainerRecord, *, follow: bool = False, tail: int | str | None = None,
    since: str | float | None = None, until: str | float | None = None,
) -> Iterator[logs.LogLine]:
    """Yield a container's log lines; with `follow` until it has ended and all was read."""
    return logs.read_log(
        store.layout.container(record.id), follow=follow, tail=judge_tail(tail), since_ns=judge_time(since, "since"),
        until_ns=judge_time(until, "until"), is_ended=_end_test(store, record))


def copy_container_log(
    store: Store, record: ContainerRecord, stdout_fd: int, stderr_fd: int, *, follow: bool = False,
    tail: int | str | None = None, since: str | float | None = None, until: str | float | None = None,
    timestamps: bool = False,
) -> None:
    """Write a container's log to two descriptors. Raises OSError (EPIPE)."""
    logs.copy_log(
        store.layout.container(record.id), stdout_fd, stderr_fd, follow=follow, tail=judge_tail(tail),
        since_ns=judge_time(since, "since"), until_ns=judge_time(until, "until"), timestamps=timestamps,
        is_ended=_end_test(store, record))


def _end_test(store: Store, record: ContainerRecord) -> Callable[[], bool]:
    def is_ended() -> bool:
        try:
            return current(store, record.id).status not in ALIVE
        except NotFound:
            return True  # removed while we followed

    return is_ended


def judge_tail(tail: int | str | None) -> int | None:
    """Return a count of lines, None for all. Raises InvalidRequest."""
    if tail is None or tail == "all":
        return None
    text = str(tail)
    if not text.removeprefix("-").isdecimal():
        raise InvalidRequest(f"tail {tail!r} is not a number of lines", hint='write a number or "all"')
    return None if int(text) < 0 else int(text)


def judge_time(value: str | float | None, what: str) -> int | None:
    """Return nanoseconds since the epoch for an RFC 3339 time, a Unix time, or an age such as `10m`. Raises InvalidRequest."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        return int(value * 1_000_000_000)
    if value[:4].isdecimal() and value[4:5] == "-":
        return _parse_date(value, what)
    seconds, dot, fraction = value.partition(".")
    if seconds.isdecimal() and (not dot or fraction.isdecimal()):
        return int(seconds) * 1_000_000_000 + int((fraction + "0" * 9)[:9])
    return time.time_ns() - int(parse_duration(value, what=what) * 1e9)


def _parse_date(value: str, what: str) -> int:
    import datetime  # cold

    head, dot, rest = value.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    try:
        seconds = int(datetime.datetime.fromisoformat(head + rest[len(digits):]).timestamp())
    except ValueError:
        raise InvalidRequest(
            f"{what} {value!r} is not a time", hint="write such as 2026-01-31T12:00:00, or 10m for an age") from None
    if dot and not digits:
        raise InvalidRequest(f"{what} {value!r} is not a time")
    return seconds * 1_000_000_000 + int((digits + "0" * 9)[:9])


