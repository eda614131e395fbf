"""Writes the members of a tar into a directory that others use: what `cp` does, on the host and in a container.

Unlike a layer (unpack.py), the directory is full already, and who works in it may be an enemy who exchanges files and links
while we write. Parents are opened as there, with links followed inside the directory at most; the last name is never
followed and never written through, and nothing is removed but one name at a time. A plain file is written without a name and
gets its own when it is whole, so that there is never half of one, and no trace when the command is killed.

A directory and a file never replace each other; a directory that is there is gone on in, and gets the archive's mode and
owner, as with docker. The directory copied into keeps its own, whatever the archive says of `.`.

Source: go-archive's `createTarFile` with `NoOverwriteDirNonDir`; open(2) O_TMPFILE; linkat(2).
"""
from __future__ import annotations

import errno
import os
import stat

from mydocker.base import trace
from mydocker.base.errors import Conflict, Corrupt, Denied, InvalidRequest, MydockerError, Unavailable
from mydocker.base.ids import new_unique
from mydocker.linux.private_mounts import mount_id_of

from . import tarheader
from .unpack import Unpacker, clean_name, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .diff import Owner
    from .tarheader import Entry
    from .tarstream import Limits, Source

_NO_NAMELESS = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT)  # open(2) on file systems or kernels without O_TMPFILE
_SCARCE = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)
#: What system calls say when somebody else was at the same place at the same time.
_CHANGED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EEXIST, errno.EISDIR, errno.EXDEV, errno.EAGAIN, errno.ENOTEMPTY)
_ATTEMPTS = 100
_FILES = (tarheader.REGULAR, tarheader.OLD_REGULAR, tarheader.CONTIGUOUS, tarheader.SPARSE)
_NAMES_ONLY = (tarheader.LINK, tarheader.SYMLINK, tarheader.CHARACTER, tarheader.BLOCK_DEVICE, tarheader.FIFO)


class Placer(Unpacker):
    """Places one archive below `root_fd`, a directory of which errors speak as `place`.

    `owner` is whose all becomes, None leaves it to the archive; `stored` says which ids on the files these are (of a
    container with a user namespace). A set-id bit goes where a file becomes another's: else a file of a container's ordinary
    user would come out as a program that makes everybody root.
    """

    # The umask is the caller's, and directories are made for us alone.
    SETS_EVERY_MODE = True

    def __init__(
        self, root_fd: int, limits: Limits, *, place: str, owner: tuple[int, int] | None, stored: Owner | None = None,
    ) -> None:
        super().__init__(root_fd, limits)
        self._owner = (-1, -1)  # of nobody: what is there may have any, so each is set
        self._place = place.rstrip("/")
        self._new_owner = owner
        self._stored = stored

    def _apply(self, entry: Entry, source: Source) -> None:
        path = clean_name(entry.name)
        head, _, base = path.rpartition(b"/")
        self._own(entry)
        if entry.type in (tarheader.DIRECTORY, tarheader.GNU_DUMP_DIRECTORY):
            source.skip(entry.size)
            if path:
                self._make_directory(path, head, base, entry)
            return
        if not path:
            raise Corrupt(f"cp: {shown(entry.name)} in the archive is its root, and no directory")
        parent_fd = self._open_parent(head)
        for _ in range(_ATTEMPTS):
            self._clear(parent_fd, base, path, entry)
            try:
                self._makers[entry.type](parent_fd, base, entry, source)
                return
            except FileExistsError:
                continue  # somebody was there in between; every maker fails before it takes data, or puts a file in its place
        raise Conflict(f"cp: {self._named(path)} comes back again and again")

    def _own(self, entry: Entry) -> None:
        uid, gid = self._new_owner or (entry.uid, entry.gid)
        if entry.type in _FILES:
            entry.mode &= ~((stat.S_ISUID if uid != entry.uid else 0) | (stat.S_ISGID if gid != entry.gid else 0))
        entry.uid, entry.gid = self._stored(uid, gid) if self._stored is not None else (uid, gid)

    def _clear(self, parent_fd: int, base: bytes, path: bytes, entry: Entry) -> None:
        """See that no directory is in the way, and make room for what cannot take a name from another."""
        try:
            there = os.stat(base, dir_fd=parent_fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(there.st_mode):
            raise InvalidRequest(f"cp: cannot overwrite directory {self._named(path)} with non-directory")
        self._refuse_mount_point(parent_fd, base)
        if entry.type in _NAMES_ONLY:
            os.unlink(base, dir_fd=parent_fd)

    def _refuse_mount_point(self, parent_fd: int, base: bytes) -> None:
        """Refuse to replace what something is mounted on.

        The kernel refuses it in one's own mount namespace only. In another, such as that of a container's view, it takes the name
        away and what is mounted there with it, in every namespace: the container's own /etc/hosts would be gone.
        """
        fd = os.open(base, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
        try:
            if mount_id_of(fd) != mount_id_of(parent_fd):
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        finally:
            os.close(fd)

    def _make_file(self, parent_fd: int, base: bytes, entry: Entry, source: Source) -> None:
        temporary = b""
        try:
            fd = os.open(b".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=parent_fd)
        except OSError as error:
            if error.errno not in _NO_NAMELESS:
                raise
            temporary = _temporary_name()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(temporary, flags, 0o600, dir_fd=parent_fd)
        try:
            self._fill(fd, entry, source)
            trace.point("placed data")
            if not temporary:
                if _link(fd, parent_fd, base):
                    return
                # linkat(2) replaces nothing, so there is a second name for a moment.
                temporary = _temporary_name()
                _link(fd, parent_fd, temporary)
            os.rename(temporary, base, src_dir_fd=parent_fd, dst_dir_fd=parent_fd)
            temporary = b""
        finally:
            os.close(fd)
            if temporary:
                os.unlink(temporary, dir_fd=parent_fd)

    def _make_directory(self, path: bytes, head: bytes, base: bytes, entry: Entry) -> None:
        parent_fd = self._open_parent(head)
        try:
            # For nobody but us until all is in it: then it gets its mode.
            os.mkdir(base, 0o700, dir_fd=parent_fd)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(base, dir_fd=parent_fd, follow_symlinks=False).st_mode):
                raise InvalidRequest(f"cp: cannot overwrite non-directory {self._named(path)} with directory") from None
        self._remember(path, entry.xattrs)
        self._directories[path] = entry

    def _named(self, path: bytes) -> str:
        return f"{self._place}/{shown(path)}"

    def _judge(self, error: OSError, name: bytes) -> MydockerError:
        what = f"cp: write {self._named(name.strip(b'/'))}: {(error.strerror or str(error)).lower()}"
        if error.errno in _SCARCE:
            hint = "make room on its disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            return Unavailable(what, hint=hint)
        if error.errno == errno.EBUSY:
            return Conflict(what, hint="it is a mount of its own: write what is in it, or copy to its source")
        if error.errno in _CHANGED:
            return Conflict(what, hint="the files were changed meanwhile")
        return Denied(what)


def _temporary_name() -> bytes:
    return b".mydocker-cp-" + new_unique().encode()


def _link(fd: int, parent_fd: int, name: bytes) -> bool:
    """Give a nameless file its name; False when there is one already."""
    try:
        # With a dst_dir_fd Python calls linkat(2) with AT_SYMLINK_FOLLOW, the way to name an O_TMPFILE (open(2)).
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=parent_fd, follow_symlinks=True)
    except FileExistsError:
        return False
    return True
