"""A file that a user named for output: there whole or not at all, and nothing left when the command is killed.

It is written without a name (O_TMPFILE) and gets its name at the end, in the place of what had it. What exists and is no
plain file (a pipe, a terminal, /dev/null) is written to as it is.
"""
from __future__ import annotations

import errno
import os
import stat

from .errors import InvalidRequest, NotFound, Unavailable
from .ids import new_unique

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_NO_NAMELESS = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT)  # open(2) on file systems or kernels without O_TMPFILE


class NewFile:
    """The descriptor of a file in the making, as a context manager; leaving it without an error gives it its name.

    `what` names the command in errors. Raises NotFound (no such directory), InvalidRequest (it is a directory), OSError;
    Unavailable when the disk is full.
    """

    __slots__ = ("_head", "_name", "_temporary", "_what", "fd")

    def __init__(self, path: str, what: str) -> None:
        self._what = f"{what} {path}"
        self._head, self._name = os.path.dirname(path) or ".", os.path.basename(path)
        self._temporary = ""
        try:
            existing = os.stat(path)
        except FileNotFoundError:
            existing = None
        if existing is not None and stat.S_ISDIR(existing.st_mode):
            raise InvalidRequest(f"{self._what}: it is a directory", hint="name a file")
        if existing is not None and not stat.S_ISREG(existing.st_mode):
            self._name = ""
            self.fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            return
        if not self._name or not os.path.isdir(self._head):
            raise NotFound(f"{self._what}: there is no directory {self._head}")
        self.fd = self._open()

    def _open(self) -> int:
        try:
            return os.open(self._head, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in _NO_NAMELESS:
                raise
        self._temporary = f"{self._head}/.{self._name}.{new_unique()}.tmp"
        return os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> int:
        return self.fd

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            os.close(self.fd)
            if self._temporary:
                os.unlink(self._temporary)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unavailable(f"{self._what}: {errno.errorcode[error.errno]}", hint="make room on its disk") from error

    def _finish(self) -> None:
        if not self._name:
            return
        directory_fd = os.open(self._head, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            temporary = f".{self._name}.{new_unique()}.tmp"
            if self._temporary:
                temporary, self._temporary = os.path.basename(self._temporary), ""
            else:
                # linkat(2) replaces nothing, so there is a second name for a moment. With a dst_dir_fd Python calls it with
                # AT_SYMLINK_FOLLOW, the way to name an O_TMPFILE (open(2)).
                os.link(f"/proc/self/fd/{self.fd}", temporary, dst_dir_fd=directory_fd, follow_symlinks=True)
            os.rename(temporary, self._name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
        finally:
            os.close(directory_fd)
