"""base/units.py: what users write for sizes and times, up to what nobody means."""
from __future__ import annotations

import pytest

from mydocker.base.errors import InvalidRequest
from mydocker.base.units import parse_duration, parse_size


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("2m30s", 150), ("1h", 3600), ("999999999999", 999999999999)])
def test_durations_are_those_of_docker(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "-5", "1e20", "nan", "inf", "²", "1x", "s", "9" * 20, "9" * 400, "9" * 400 + "h", "1.2.3s"])
def test_what_is_no_duration_or_none_that_can_be_reckoned_with_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "-1", "²m", "1e3m", "9223372036854775808", "9" * 400 + "g"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a size"):
        parse_size(text)
