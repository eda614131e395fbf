"""A procfs of a pid namespace that this process is not in.

A new procfs shows the namespace of who makes it. So the last stage's program is run for it (csrc/init/procfs.h): what of
it is in the namespace is a sealed program with an empty root and no descriptor but a socket, because the container whose
namespace it is may be allowed to trace every process, and would see the host through this one.
"""
from __future__ import annotations

import _socket
import os

from .plan import execute

_MAX_MESSAGE_BYTES = 16


def open_procfs_of(pid_namespace_fd: int, data: tuple[str, ...]) -> int:
    """Return a detached mount of a new procfs with the options `data`. The caller closes it. Raises OSError."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        for fd in (pid_namespace_fd, theirs.fileno()):
            os.set_inheritable(fd, True)
        argv = ["mydocker-init", "--procfs", str(pid_namespace_fd), str(theirs.fileno()), *data]
        pid = execute(lambda program_fd: os.posix_spawn(f"/proc/self/fd/{program_fd}", argv, {}))
        theirs.close()
        try:
            message, ancillary, _, _ = ours.recvmsg(_MAX_MESSAGE_BYTES, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        finally:
            os.waitpid(pid, 0)
    finally:
        ours.close()
        theirs.close()
        os.set_inheritable(pid_namespace_fd, False)
    for level, kind, fds in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            return int.from_bytes(fds[:4], "little")
    number = int(message or b"3")  # ESRCH: it was killed before it could say a word
    raise OSError(number, os.strerror(number))
