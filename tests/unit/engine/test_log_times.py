"""engine/logs.py: what users write for times and counts of lines."""
from __future__ import annotations

import time

import pytest

from mydocker.base.clock import format_rfc3339
from mydocker.base.errors import InvalidRequest
from mydocker.engine.logs import judge_tail, judge_time
from mydocker.engine.signals import parse_signal


@pytest.mark.parametrize(("text", "shown"), [
    ("1.5", "1970-01-01T00:00:01.500000000Z"),
    ("2026-01-02T03:04:05.000000006Z", "2026-01-02T03:04:05.000000006Z"),
    ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05.000000000Z"),
])
def test_times_are_those_of_docker(text: str, shown: str) -> None:
    found = judge_time(text, "since")
    assert found is not None
    assert format_rfc3339(found) == shown


def test_an_age_counts_from_now() -> None:
    found = judge_time("1h", "since")
    assert found is not None
    assert abs(time.time_ns() - 3600 * 10**9 - found) < 10**9


@pytest.mark.parametrize("text", ["nonsense", "-5m", "2026-13-01", "2026-01-01T00:00:00.x", "²", "0000-01-01", "9" * 400 + "h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="since"):
        judge_time(text, "since")


def test_tail_is_a_count_or_all() -> None:
    assert [judge_tail(text) for text in (None, "all", "0", 3, "-1")] == [None, None, 0, 3, None]
    for text in ("x", "²", "--5", ""):
        with pytest.raises(InvalidRequest):
            judge_tail(text)


def test_number_that_is_no_decimal_is_no_signal() -> None:
    with pytest.raises(InvalidRequest):
        parse_signal("²")
