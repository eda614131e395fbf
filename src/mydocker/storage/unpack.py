"""Writes the members of a diff into a layer's directory, as overlayfs wants them.

Owns modes, owners, times, extended attributes, links, devices, sparse files, whiteouts. Everything
in the archive is hostile: parents are opened with openat2(RESOLVE_IN_ROOT) below the layer, so that
links are followed inside it (as Docker's chroot does) and never out of it; the last component is
created with O_EXCL or removed first, never followed, never written through.

An `Unpacker` works in a thread of its own and gives that thread its own umask (see `own_umask`).
Sources: OCI image-spec layer.md (whiteouts, replacing), overlayfs.rst, go-archive's `UnpackLayer`.
"""
from __future__ import annotations

import errno
import os
import stat

from mydocker.base.errors import Corrupt, Denied, MydockerError, Unavailable
from mydocker.linux import beneath, syscalls

from . import tarheader, tarstream, trash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .tarheader import Entry
    from .tarstream import Limits, Source

WHITEOUT_PREFIX = b".wh."
OPAQUE_MARKER = b".wh..wh..opq"
OPAQUE_XATTR = "trusted.overlay.opaque"

_CLONE_FS = 0x200
#: Handles on parent directories kept open; an archive visits them mostly in order.
_MAX_HANDLES = 64
#: File times beyond these (year 2446) are what no file system here keeps.
_MAX_TIME_NS = 0x3_7FFF_FFFF * 1_000_000_000
_MIN_TIME_NS = -0x8000_0000 * 1_000_000_000
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def own_umask() -> None:
    """Give the calling thread an umask of its own, 0: modes come out right without a chmod a file.

    The umask belongs to the process, and ours may be an embedding program with other threads; so the
    thread first leaves the shared fs struct (CLONE_FS; it then has its own working directory, too).
    Only for threads that end after unpacking.
    """
    syscalls.unshare(_CLONE_FS)
    os.umask(0)


class Unpacker:
    """Unpacks one archive below `root_fd` (an empty directory that nobody else writes to)."""

    #: Whether each mode is set by itself, because the umask is not 0 or directories are not made with theirs.
    SETS_EVERY_MODE = False

    def __init__(self, root_fd: int, limits: Limits) -> None:
        self._root_fd = root_fd
        self._limits = limits
        self._owner = (os.geteuid(), os.getegid())
        self._handles: dict[bytes, int] = {}
        # Directories get owner, mode, attributes and times at the end: an earlier sgid bit or default
        # ACL would be inherited by what is made inside, and every new entry changes the time.
        self._directories: dict[bytes, Entry] = {}
        # The same as a tree, parents with their children: what replaces one forgets those below it, and no archive can
        # have us look at all of them each time.
        self._below: dict[bytes, set[bytes]] = {}
        self._whiteouts: set[bytes] = set()
        self._remembered_bytes = 0
        self.size_bytes = 0
        self.entries = 0
        self._makers = {
            tarheader.REGULAR: self._make_file, tarheader.OLD_REGULAR: self._make_file,
            tarheader.CONTIGUOUS: self._make_file, tarheader.SPARSE: self._make_file,
            tarheader.LINK: self._make_link, tarheader.SYMLINK: self._make_symlink,
            tarheader.CHARACTER: self._make_node, tarheader.BLOCK_DEVICE: self._make_node, tarheader.FIFO: self._make_node,
        }

    def run(self, source: Source) -> None:
        """Unpack every member. Raises Corrupt, Denied, Unavailable, Unsupported; the tree is then unfinished."""
        name = b"."
        try:
            for entry in tarstream.entries(source, self._limits):
                name = entry.name
                self.entries += 1
                if self.entries > self._limits.entries:
                    raise Corrupt(f"unpack: more than {self._limits.entries} members")
                self._apply(entry, source)
            name = b"."
            self._finish_directories()
        except OSError as error:
            raise self._judge(error, name) from error
        finally:
            self._forget_handles()

    def _apply(self, entry: Entry, source: Source) -> None:
        path = clean_name(entry.name)
        head, _, base = path.rpartition(b"/")
        if base.startswith(WHITEOUT_PREFIX):
            source.skip(entry.size)
            self._whiteout(head, base)
            return
        if entry.type in (tarheader.DIRECTORY, tarheader.GNU_DUMP_DIRECTORY):
            source.skip(entry.size)
            self._make_directory(path, head, base, entry)
            return
        if not path:
            raise Corrupt(f"unpack {shown(entry.name)}: the root must be a directory")
        make = self._makers[entry.type]
        parent_fd = self._handles.get(head)
        if parent_fd is None:
            parent_fd = self._open_parent(head)
        try:
            make(parent_fd, base, entry, source)
        except FileExistsError:
            # Replace what is there; every maker fails here before it takes data from the source.
            self._remove(path, parent_fd, base)
            parent_fd = self._open_parent(head)
            make(parent_fd, base, entry, source)

    # --- one maker a kind; each creates exclusively ---------------------------------------------------

    def _make_file(self, parent_fd: int, base: bytes, entry: Entry, source: Source) -> None:
        fd = os.open(base, _CREATE, entry.mode & 0o1777, dir_fd=parent_fd)
        try:
            self._fill(fd, entry, source)
        finally:
            os.close(fd)

    def _fill(self, fd: int, entry: Entry, source: Source) -> None:
        """Write a new file: its owner, data, mode, attributes and times."""
        if (entry.uid, entry.gid) != self._owner:
            os.fchown(fd, entry.uid, entry.gid)
        if entry.sparse is None:
            source.copy_to(fd, entry.size)
        else:
            for offset, length in entry.sparse:
                os.lseek(fd, offset, os.SEEK_SET)
                source.copy_to(fd, length)
            os.ftruncate(fd, entry.real_size)
        # After chown and write: both clear these bits and file capabilities.
        if entry.mode & 0o6000 or self.SETS_EVERY_MODE:
            os.fchmod(fd, entry.mode)
        if entry.xattrs:
            set_xattrs(fd, entry.xattrs)
        time_ns = _clamped(entry.mtime_ns)
        os.utime(fd, ns=(time_ns, time_ns))
        self.size_bytes += entry.size

    def _make_symlink(self, parent_fd: int, base: bytes, entry: Entry, _source: Source) -> None:
        if not entry.linkname:
            raise Corrupt(f"unpack {shown(entry.name)}: an empty symbolic link")
        os.symlink(entry.linkname, base, dir_fd=parent_fd)
        self._set_metadata(parent_fd, base, entry)

    def _make_node(self, parent_fd: int, base: bytes, entry: Entry, _source: Source) -> None:
        kind = {tarheader.CHARACTER: stat.S_IFCHR, tarheader.BLOCK_DEVICE: stat.S_IFBLK}.get(entry.type, stat.S_IFIFO)
        if entry.major >= 1 << 12 or entry.minor >= 1 << 20:
            raise Corrupt(f"unpack {shown(entry.name)}: device {entry.major}:{entry.minor}")
        os.mknod(base, kind | entry.mode & 0o1777, os.makedev(entry.major, entry.minor), dir_fd=parent_fd)
        self._set_metadata(parent_fd, base, entry)

    def _make_link(self, parent_fd: int, base: bytes, entry: Entry, _source: Source) -> None:
        head, _, target = clean_name(entry.linkname).rpartition(b"/")
        if not target:
            raise Corrupt(f"unpack {shown(entry.name)}: a hard link to the root")
        try:
            source_fd = beneath.open_in_root(self._root_fd, head, beneath.O_DIRECTORY_HANDLE)
        except OSError as error:
            raise Corrupt(f"unpack {shown(entry.name)}: hard link to {shown(entry.linkname)}, which is not there") from error
        try:
            # Not followed: a hard link to a symbolic link is one more name of the symbolic link.
            os.link(target, base, src_dir_fd=source_fd, dst_dir_fd=parent_fd, follow_symlinks=False)
        except (FileNotFoundError, PermissionError) as error:
            what = "which is not there" if isinstance(error, FileNotFoundError) else "a directory"
            raise Corrupt(f"unpack {shown(entry.name)}: hard link to {shown(entry.linkname)}, {what}") from error
        finally:
            os.close(source_fd)

    def _make_directory(self, path: bytes, head: bytes, base: bytes, entry: Entry) -> None:
        if path:
            parent_fd = self._handles.get(head)
            if parent_fd is None:
                parent_fd = self._open_parent(head)
            try:
                os.mkdir(base, 0o755, dir_fd=parent_fd)
            except FileExistsError:
                # A directory is merged into; anything else, a link to a directory too, is replaced.
                if not stat.S_ISDIR(os.stat(base, dir_fd=parent_fd, follow_symlinks=False).st_mode):
                    self._remove(path, parent_fd, base)
                    parent_fd = self._open_parent(head)
                    os.mkdir(base, 0o755, dir_fd=parent_fd)
                    if path in self._whiteouts:
                        self._set_opaque(parent_fd, base)
        self._remember(path, entry.xattrs)
        self._directories[path] = entry
        while path:
            head = path.rpartition(b"/")[0]
            children = self._below.setdefault(head, set())
            if path in children:
                break
            self._remember(path)
            children.add(path)
            path = head

    def _remember(self, path: bytes, xattrs: dict[bytes, bytes] | None = None) -> None:
        """Count what stays in memory until the end: a few well compressed megabytes could ask for all of it."""
        self._remembered_bytes += 200 + len(path) + sum(len(value) for value in (xattrs or {}).values())
        if self._remembered_bytes > self._limits.remembered_bytes:
            raise Corrupt("unpack: the archive has more directories, or larger attributes on them, than any real one")

    # --- whiteouts -----------------------------------------------------------------------------------

    def _whiteout(self, head: bytes, base: bytes) -> None:
        parent_fd = self._open_parent(head)
        if base == OPAQUE_MARKER:
            self._set_opaque(parent_fd, b".")
            return
        if base.startswith(b".wh..wh."):
            return  # AUFS's own files (.wh..wh.plnk, .wh..wh.aufs): never content
        name = base[len(WHITEOUT_PREFIX):]
        if name in (b"", b".", b".."):
            raise Corrupt(f"unpack {shown(head + b'/' + base)}: not a whiteout")
        path = head + b"/" + name if head else name
        try:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent_fd)
            self._remember(path)
            self._whiteouts.add(path)
        except FileExistsError:
            # A whiteout speaks of the layers below only (layer.md). A file of this layer hides them by
            # itself; a directory must be told to.
            if stat.S_ISDIR(os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode):
                self._set_opaque(parent_fd, name)

    def _set_opaque(self, parent_fd: int, name: bytes) -> None:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
        try:
            os.setxattr(fd, OPAQUE_XATTR, b"y")
        finally:
            os.close(fd)

    # --- metadata ------------------------------------------------------------------------------------

    def _set_metadata(self, parent_fd: int, base: bytes, entry: Entry) -> None:
        """Owner, mode, attributes, times of what cannot be opened: links and nodes, by name, not followed."""
        if (entry.uid, entry.gid) != self._owner:
            os.chown(base, entry.uid, entry.gid, dir_fd=parent_fd, follow_symlinks=False)
        if (entry.mode & 0o6000 or self.SETS_EVERY_MODE) and entry.type != tarheader.SYMLINK:
            os.chmod(base, entry.mode, dir_fd=parent_fd)  # just made by us: no link
        if entry.xattrs:
            set_xattrs(b"/proc/self/fd/%d/%s" % (parent_fd, base), entry.xattrs)
        time_ns = _clamped(entry.mtime_ns)
        os.utime(base, ns=(time_ns, time_ns), dir_fd=parent_fd, follow_symlinks=False)

    def _finish_directories(self) -> None:
        for path, entry in self._directories.items():
            try:
                fd = beneath.open_in_root(self._root_fd, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            except (FileNotFoundError, NotADirectoryError):
                continue  # replaced under another of its names (a path through a link)
            try:
                if (entry.uid, entry.gid) != self._owner:
                    os.fchown(fd, entry.uid, entry.gid)
                if entry.mode != 0o755 or self.SETS_EVERY_MODE:
                    os.fchmod(fd, entry.mode)
                if entry.xattrs:
                    set_xattrs(fd, entry.xattrs)
                time_ns = _clamped(entry.mtime_ns)
                os.utime(fd, ns=(time_ns, time_ns))
            finally:
                os.close(fd)

    # --- directories ---------------------------------------------------------------------------------

    def _open_parent(self, path: bytes) -> int:
        """Return a cached handle on a directory, made with its parents where missing (0755, root)."""
        fd = self._handles.get(path)
        if fd is None:
            if len(self._handles) >= _MAX_HANDLES:
                self._forget_handles()
            fd = self._handles[path] = self._ensure_directory(path)
        return fd

    def _ensure_directory(self, path: bytes) -> int:
        try:
            return beneath.ensure_directory_in_root(self._root_fd, path)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            raise Corrupt(f"unpack {shown(path)}: a part of it is not a directory") from error

    def _remove(self, path: bytes, parent_fd: int, base: bytes) -> None:
        """Remove an entry of this layer that another replaces, with all that is known of it."""
        is_plain = stat.S_ISREG(os.stat(base, dir_fd=parent_fd, follow_symlinks=False).st_mode)
        trash.remove_at(parent_fd, base)
        if is_plain:
            return
        # A directory or a link to one is gone, and cached handles may have led through it.
        self._forget_handles()
        gone = [path]
        while gone:
            known = gone.pop()
            self._directories.pop(known, None)
            gone.extend(self._below.pop(known, ()))

    def _judge(self, error: OSError, name: bytes) -> MydockerError:
        """Say whose fault a system call's error is: the machine's, the kernel's, or the archive's."""
        word = errno.errorcode.get(error.errno or 0, "?")
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EROFS):
            hint = "make room on the disk of the state root" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            return Unavailable(f"unpack {shown(name)}: {word}", hint=hint)
        if error.errno in (errno.EPERM, errno.EACCES):
            return Denied(f"unpack {shown(name)}: {word}")
        return Corrupt(f"unpack {shown(name)}: {word}")

    def _forget_handles(self) -> None:
        for fd in self._handles.values():
            os.close(fd)
        self._handles.clear()


def clean_name(name: bytes) -> bytes:
    """Return an archive's name relative to the root, b"" for the root itself.

    Leading slashes and `.` are dropped, `a/../b` is `b`; what would leave the root is Corrupt.
    """
    if b"/." not in name and b"//" not in name and name[:1] not in (b"/", b".") and name[-1:] != b"/" and name:
        return name
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise Corrupt(f"unpack {shown(name)}: it leads out of the archive")
            parts.pop()
        elif part and part != b".":
            parts.append(part)
    return b"/".join(parts)


def set_xattrs(target: int | bytes, xattrs: dict[bytes, bytes]) -> None:
    """Set an archive's extended attributes; a path is not followed.

    Overlayfs's own attributes in any spelling are never taken from an archive: a redirect or a
    metacopy would make one file another. What the file system does not know is left out, as Docker does.
    """
    for name, value in xattrs.items():
        if name.startswith((b"trusted.overlay.", b"user.overlay.")):
            continue
        try:
            if isinstance(target, int):
                os.setxattr(target, name, value)
            else:
                os.setxattr(target, name, value, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.ENOTSUP and not (error.errno == errno.EPERM and name.startswith(b"user.")):
                raise


def _clamped(time_ns: int) -> int:
    return min(max(time_ns, _MIN_TIME_NS), _MAX_TIME_NS)


def shown(name: bytes) -> str:
    """Return an archive's name as an error shows it."""
    return name[:200].decode("utf-8", "backslashreplace")
