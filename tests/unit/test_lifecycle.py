"""The state table: its page says what it says, and moves that it lacks are refused by name."""
from __future__ import annotations

import os

import pytest

from mydocker.base.errors import AlreadyInState, Conflict
from mydocker.engine import lifecycle

_PAGE = os.path.join(os.path.dirname(__file__), "..", "..", "docs", "lifecycle.md")
_HEAD = """# The states of a container

Made from the table in `src/mydocker/engine/lifecycle.py`; `tests/unit/test_lifecycle.py` holds the two together
(`MYDOCKER_WRITE_DOCS=1` writes this page anew).

`exited` is an end of its own or by a kill, `stopped` an end by `stop`. What is shown is the stored state corrected by what
the kernel and the monitor say (`engine/observe.py`).

| state | event | state after it |
|---|---|---|
"""


def page() -> str:
    rows = [f"| {state} | {event} | {after} |\n" for (state, event), after in lifecycle.TRANSITIONS.items()]
    return _HEAD + "".join(rows)


def test_the_page_is_the_table() -> None:
    if os.environ.get("MYDOCKER_WRITE_DOCS"):
        with open(_PAGE, "w", encoding="utf-8") as stream:
            stream.write(page())
    with open(_PAGE, encoding="utf-8") as stream:
        assert stream.read() == page()


def test_every_state_in_the_table_is_a_known_one() -> None:
    for (state, _), after in lifecycle.TRANSITIONS.items():
        assert {state, after} <= set(lifecycle.STATES)


@pytest.mark.parametrize(("state", "event"), [("running", "start"), ("paused", "pause"), ("stopped", "stop")])
def test_asking_for_what_is_already_so_says_that(state: str, event: str) -> None:
    with pytest.raises(AlreadyInState, match="already"):
        lifecycle.advance(state, event, name="web")


@pytest.mark.parametrize(("state", "event"), [("exited", "pause"), ("created", "pause"), ("creating", "stop"), ("paused", "start")])
def test_an_impossible_move_names_container_and_state(state: str, event: str) -> None:
    with pytest.raises(Conflict, match=f"web.*{state}"):
        lifecycle.advance(state, event, name="web")
