"""Fixtures of tests that attack: those of tests that run containers, and a hostile program."""
from __future__ import annotations

import pytest
from attack_rig import build_attack
from fixtures import (  # noqa: F401
    busybox,
    busybox_tar,
    engine,
    engine_root,
    mydocker,
    pytest_runtest_makereport,
    root_with_images,
)
from runtime_rig import runtime  # noqa: F401


@pytest.fixture(scope="session")
def attack_directory(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A directory with the program `attack` (attack_rig.py), to be shown inside with `-v`."""
    directory = tmp_path_factory.mktemp("attack")
    directory.chmod(0o755)
    build_attack(str(directory))
    return str(directory)
