"""Debug lines to standard error: silent, and free of imports, until `enable` is called. And the rare warning."""
from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_enabled = False
_fd = 2
_format: Callable[[str], bytes] | None = None
_tell: Callable[[str, str], None] | None = None


def enable(fd: int = 2, format_line: Callable[[str], bytes] | None = None) -> None:
    """Turn debug lines on for this process and its forked children: to a descriptor, in another format where one is given."""
    global _enabled, _fd, _format
    _enabled, _fd, _format = True, fd, format_line


def is_enabled() -> bool:
    """Tell whether debug lines are written."""
    return _enabled


def debug(step: str, *, container: str = "", **facts: object) -> None:
    """Write one line: time, pid, container id, step, facts. Never raises (standard error may be gone)."""
    if not _enabled:
        return
    words = " ".join(f"{key}={value}" for key, value in facts.items())
    line = f"{time.monotonic():.6f} [{os.getpid()}] {container or '-'} {step} {words}"
    try:
        os.write(_fd, _format(line) if _format else line.encode("utf-8", "backslashreplace") + b"\n")
    except OSError:
        pass  # nobody is left to read it, and a debug line must not change what happens


def hear_warnings(tell: Callable[[str, str], None]) -> None:
    """Have warnings go to `tell` (what is the matter, the way out): the command line's word to its user."""
    global _tell
    _tell = tell


def warn(message: str, *, hint: str = "") -> None:
    """Tell the user of something that works less than it might, and is no error; a program hears it by Python's `warnings`."""
    if _tell is not None:
        _tell(message, hint)
        return
    import warnings  # cold

    warnings.warn(f"{message}; {hint}" if hint else message, RuntimeWarning, stacklevel=2)
