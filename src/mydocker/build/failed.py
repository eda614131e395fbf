"""The error of a build's own command. Not in base/errors.py: the commands that must be fast need not know it."""
from __future__ import annotations

from mydocker.base.errors import MydockerError


class CommandFailed(MydockerError):
    """A command of a build ended with another code than 0, which is in `exit_code`."""

    def __init__(self, message: str, *, hint: str = "", exit_code: int = 1) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code
