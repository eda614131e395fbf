"""Kind of error -> exit code, in one table, and errors of the kernel as one clear line.

125 is the engine's own failure, 126 and 127 the shell's words for a command that cannot be run, as docker run has it (its other
verbs answer 1 to everything: here a caller can tell an error of the engine by its number everywhere).
"""
from __future__ import annotations

import errno

from mydocker.base import errors

ENGINE_FAILED = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127
OUTPUT_CLOSED = 141  # 128 + SIGPIPE

CODES: dict[type[errors.MydockerError], int] = {
    errors.CommandNotFound: NOT_FOUND,
    errors.CommandNotExecutable: NOT_EXECUTABLE,
}

#: Words for what the kernel refuses, and the way out.
_HINTS = {
    **errors.SCARCITY_HINTS,
    errno.EROFS: "the file system is read-only; choose another place with --root",
    errno.EACCES: "run it as root",
    errno.EPERM: "run it as root, with all capabilities",
    errno.ENODEV: "the kernel lacks this file system or device; see mydocker info",
}


def code_of(error: BaseException) -> int:
    """Return the exit code for an error, the same for every verb."""
    for kind, code in CODES.items():
        if isinstance(error, kind):
            return code
    return ENGINE_FAILED


def describe_error(error: BaseException) -> tuple[str, str]:
    """Return (message, hint) for the one line that a user sees."""
    if isinstance(error, errors.MydockerError):
        return error.message, error.hint
    if isinstance(error, OSError):
        return _describe_os_error(error)
    message = f"internal error: {type(error).__name__}: {error}".removesuffix(": ")
    return message, "--debug shows where; please report it"


def _describe_os_error(error: OSError) -> tuple[str, str]:
    what = error.strerror or str(error) or type(error).__name__
    files = [name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name)
             for name in (error.filename, error.filename2) if name is not None]
    place = " -> ".join(files)
    message = f"{place}: {what.lower()}" if place else what.lower()
    return message, _HINTS.get(error.errno or 0, "--debug shows where")
