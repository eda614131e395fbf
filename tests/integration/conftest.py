"""Fixtures of tests that run containers."""
from __future__ import annotations

from fixtures import (  # noqa: F401
    busybox,
    busybox_tar,
    engine,
    engine_root,
    mydocker,
    pytest_runtest_makereport,
    root_with_images,
)
from network_rig import machine, outside  # noqa: F401
from runtime_rig import runtime  # noqa: F401
