"""base/undo.py: order, errors, and that success undoes nothing."""
from __future__ import annotations

import pytest

from mydocker.base.undo import Undo


def test_callbacks_run_last_first_when_a_step_fails() -> None:
    seen: list[str] = []
    with pytest.raises(KeyError), Undo() as undo:
        undo.callback(seen.append, "first")
        undo.callback(seen.append, "second")
        raise KeyError
    assert seen == ["second", "first"]


def test_success_undoes_nothing() -> None:
    seen: list[str] = []
    with Undo() as undo:
        undo.callback(seen.append, "first")
        undo.pop_all()
    assert seen == []


def test_failing_callback_keeps_no_other_from_running_and_does_not_hide_the_error() -> None:
    seen: list[str] = []

    def fail() -> None:
        raise OSError("undo")

    with pytest.raises(KeyError), Undo() as undo:
        undo.callback(seen.append, "first")
        undo.callback(fail)
        raise KeyError
    assert seen == ["first"]
    with pytest.raises(OSError, match="undo"), Undo() as undo:
        undo.callback(seen.append, "again")
        undo.callback(fail)
    assert seen == ["first", "again"]
