"""Errors as the callers of a runtime read them: one line, with the kernel's reasons in the lower case that Go prints.

docker answers 127 to "no such file or directory" and 126 to "permission denied", and podman looks for the same words.
Cold: imported when there is an error to tell.
"""
from __future__ import annotations

import errno
import os
import time

from mydocker.base.errors import MydockerError
from mydocker.base.jsontext import dumps


def describe(error: BaseException) -> str:
    """Return an error's message with its hint, in one line."""
    if isinstance(error, MydockerError):
        text = f"{error.message} ({error.hint})" if error.hint else error.message
    elif isinstance(error, OSError):
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
        text = ": ".join([" -> ".join(names), error.strerror or str(error)] if names else [error.strerror or str(error)])
    else:
        text = f"internal error: {type(error).__name__}: {error}"
    return lower_reasons(" ".join(text.split("\n")))


def lower_reasons(text: str) -> str:
    """Return a text with every reason of strerror(3) in lower case."""
    for number in errno.errorcode:
        reason = os.strerror(number)
        if reason in text:
            text = text.replace(reason, reason[0].lower() + reason[1:])
    return text


def format_line(level: str, message: str, *, as_json: bool) -> bytes:
    """Return one line of the log, as logrus writes it: containerd's shim reads level, msg and time of the JSON one."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if as_json:
        line = dumps({"level": level, "msg": message.encode("utf-8", "replace").decode(), "time": stamp})
    else:
        line = f"time={stamp} level={level} msg={dumps(message)}"
    return line.encode("utf-8", "replace") + b"\n"
