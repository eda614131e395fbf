"""Debug lines to standard error: silent, and free of imports, until `enable` is called."""
from __future__ import annotations

import os
import time

_enabled = False


def enable() -> None:
    """Turn debug lines on for this process and its forked children."""
    global _enabled
    _enabled = True


def is_enabled() -> bool:
    """Tell whether debug lines are written."""
    return _enabled


def debug(step: str, *, container: str = "", **facts: object) -> None:
    """Write one line: time, pid, container id, step, facts. Never raises (standard error may be gone)."""
    if not _enabled:
        return
    words = " ".join(f"{key}={value}" for key, value in facts.items())
    line = f"{time.monotonic():.6f} [{os.getpid()}] {container or '-'} {step} {words}\n"
    try:
        os.write(2, line.encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # nobody is left to read it, and a debug line must not change what happens
