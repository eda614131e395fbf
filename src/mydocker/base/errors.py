"""The one tree of errors that mydocker raises on purpose.

A class is a *kind* a caller can act on; front ends turn kinds into exit codes or HTTP statuses in
one table each. Messages are lower case, without a full stop, and name the thing; the way out goes
into `hint`, which front ends show on a line of its own.

    MydockerError
    |- InvalidRequest         the user's words make no sense (bad option, bad reference)
    |- NotFound               no such container, image, layer
    |- Conflict               the name is taken, the thing is in use, the state forbids it
    |  `- AlreadyInState      it is already as asked (stop of a stopped container)
    |- Denied                 the kernel or a policy refuses
    |- Unsupported            this machine or this version cannot do it
    |- Unavailable            something needed is not there now (disk full, process limit)
    |- Timeout                it did not end in the time given
    |- CommandNotFound        the container's command does not exist          (exit 127)
    |- CommandNotExecutable   it exists and cannot be executed                (exit 126)
    |- CommandFailed          a build's command ended with another code than 0: build/failed.py, for builds alone
    |- Corrupt                stored or received bytes are not what they must be
    `- RuntimeFailed          a step inside the container's start failed
"""
from __future__ import annotations

import errno


class MydockerError(Exception):
    """Base of every error raised on purpose; `hint` names the way out, or is empty."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidRequest(MydockerError):
    """What the caller asked for makes no sense."""


class NotFound(MydockerError):
    """The named thing does not exist."""


class Conflict(MydockerError):
    """The name is taken, the thing is in use, or its state forbids the request."""


class AlreadyInState(Conflict):
    """The thing already is as the request would make it."""


class Denied(MydockerError):
    """The kernel or a policy refuses."""


class Unsupported(MydockerError):
    """This machine, kernel or version cannot do it."""


class Unavailable(MydockerError):
    """Something that is needed is not there now."""


class Timeout(MydockerError):
    """It did not end in the time given."""


class CommandNotFound(MydockerError):
    """The container's command does not exist (exit code 127)."""


class CommandNotExecutable(MydockerError):
    """The container's command exists and cannot be executed (exit code 126)."""


class Corrupt(MydockerError):
    """Stored or received bytes are not what they must be."""


class RuntimeFailed(MydockerError):
    """A step of a container's start failed."""


#: The way out of what the kernel says when it has no more of something, by errno.
SCARCITY_HINTS = {
    errno.ENOSPC: "the disk is full: free some space, for instance with mydocker rm and mydocker rmi",
    errno.EDQUOT: "the disk quota is used up",
    errno.EMFILE: "too many open files: raise ulimit -n",
    errno.ENFILE: "the system has too many open files",
    errno.EAGAIN: "the limit of processes is reached: see ulimit -u and pids.max",
    errno.E2BIG: "arguments and environment are more than the kernel takes: a word of 128 KiB, or all of a quarter of ulimit -s",
    errno.ENOMEM: "the machine or its memory cgroup is out of memory",
}

#: Kinds that travel between processes as words (runtime/sync.py, monitor/protocol.py).
KINDS: dict[str, type[MydockerError]] = {
    cls.__name__: cls
    for cls in (
        InvalidRequest, NotFound, Conflict, AlreadyInState, Denied, Unsupported, Unavailable, Timeout,
        CommandNotFound, CommandNotExecutable, Corrupt, RuntimeFailed,
    )
}
