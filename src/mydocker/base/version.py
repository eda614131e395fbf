"""The version, written here once: the build file reads it, and no command asks importlib.metadata for it."""
from __future__ import annotations

import os
import sys

VERSION = "0.1.0"


def describe() -> dict[str, str]:
    """Return the versions of what a container depends on here: mydocker, Python, kernel, architecture."""
    system = os.uname()
    python = ".".join(str(part) for part in sys.version_info[:3])
    return {"version": VERSION, "python": python, "kernel": system.release, "arch": system.machine}
