"""Fixtures around monitor_rig.py."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from monitor_rig import HOSTED, SANITIZED, SHIPPED, Rig, build


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("shipped") / "mydocker-monitor", SHIPPED, (*HOSTED, "sys"))


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("sanitized") / "mydocker-monitor", SANITIZED, HOSTED)


@pytest.fixture(params=["shipped", "sanitized"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    yield from _rig(request.getfixturevalue(request.param), request.param == "sanitized")


@pytest.fixture
def fast_rig(shipped: Path) -> Iterator[Rig]:
    """Only the shipped build, for what is measured or not about the C."""
    yield from _rig(shipped, False)


def _rig(program: Path, is_sanitized: bool) -> Iterator[Rig]:
    rig = Rig(program, is_sanitized)
    yield rig
    rig.clean_up()
