"""Times of documents as ages, in docker's words. Source: docker/go-units HumanDuration."""
from __future__ import annotations

import time

from mydocker.base.errors import InvalidRequest


def moment(created: str) -> float | None:
    """Return seconds since the epoch for an RFC 3339 time, None for what is none."""
    from mydocker.engine.logs import judge_time  # cold

    if created[:4].isdigit() and created[4:5] == "-":
        try:
            return (judge_time(created, "created") or 0) / 1e9
        except InvalidRequest:
            return None
    return None


def since(created: str) -> str:
    """Return `3 hours ago`, or `N/A` for an image without a date (and for one of the year 1, Go's zero time)."""
    at = moment(created)
    return "N/A" if at is None or at < 0 else f"{_age(time.time() - at)} ago"


def local_time(created: str, form: str) -> str:
    """Return the time as strftime(3) has it, in the time zone of the machine; `N/A` as for `since`."""
    at = moment(created)
    return "N/A" if at is None or at < 0 else time.strftime(form, time.localtime(at))


def local_rfc3339(created: str) -> str:
    """Return the time to the second, as `docker history` has it."""
    told = local_time(created, "%Y-%m-%dT%H:%M:%S%z")
    if told.endswith("+0000"):
        return f"{told[:-5]}Z"
    return told if told == "N/A" else f"{told[:-2]}:{told[-2:]}"


def _age(seconds: float) -> str:
    if seconds < 1:
        return "Less than a second"
    if seconds < 60:
        return _count(int(seconds), "second")
    minutes, hours = int(seconds // 60), round(seconds / 3600)
    if minutes < 60:
        return "About a minute" if minutes == 1 else _count(minutes, "minute")
    if hours < 48:
        return "About an hour" if hours == 1 else _count(hours, "hour")
    for limit_hours, hours_each, word in ((24 * 14, 24, "day"), (24 * 60, 24 * 7, "week"), (24 * 365 * 2, 24 * 30, "month")):
        if hours < limit_hours:
            return _count(hours // hours_each, word)
    return _count(int(seconds / 3600) // (24 * 365), "year")


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
