"""The clean-up command: what a monitor executes in place when its container has ended.

Cold start and nothing else on its mind: record the end, remove the cgroup, remove a `--rm` container.
"""
from __future__ import annotations

import sys

from mydocker.base.paths import Layout
from mydocker.linux import syscalls as sc

from .ending import finish
from .lifecycle import FAMILY
from .store import Store


def main() -> None:
    """Arguments: state root, run directory, container id."""
    root, run, container_id = sys.argv[1:4]
    sc.set_name(f"{FAMILY} {container_id}")
    finish(Store(Layout(root, run)), container_id)
