"""What a word of COPY, ADD or a bind mount means below a root, opened by descriptor, and the digest of what it would bring.

The root is hostile: a stage that an attacker wrote. A source is found below its root as chroot would find it; below a
source no symbolic link is followed. Read by every build; tree.py, which copies, only by one that has something new.
"""
from __future__ import annotations

import errno
import os
import stat

from mydocker.base.errors import NotFound
from mydocker.base.record import Record
from mydocker.linux import beneath

from .ignore import IgnoreRules, compile_pattern

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .contenthash import ContentHash

_GLOB = frozenset("*?[\\")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
_LOCAL_XATTRS = ("security.selinux", "security.ima", "security.evm", "security.apparmor", "security.SMACK")


class Entry(Record):
    """One file of a source: its path below the source (b"" for the source itself) and what kind it is."""

    path: bytes
    mode: int


class Source(Record):
    """One source of a COPY: `fd` is the file or directory itself, `name` what it is called there. The user closes it."""

    fd: int
    name: bytes
    place: str
    entries: tuple[Entry, ...]

    @property
    def is_directory(self) -> bool:
        """Whether its content is copied, not itself."""
        return stat.S_ISDIR(self.entries[0].mode)

    def open(self, entry: Entry, flags: int) -> int:
        """Open one of its entries without following a link. Raises OSError."""
        if not entry.path:
            return os.dup(self.fd) if flags & os.O_PATH else os.open(f"/proc/self/fd/{self.fd}", flags | os.O_CLOEXEC)
        return beneath.open_beneath(self.fd, entry.path, flags)


def find_sources(root_fd: int, pattern: str, rules: IgnoreRules, excludes: IgnoreRules) -> list[Source]:
    """Return what a source word of COPY means below a root, in order; a pattern may mean nothing.

    Raises NotFound, InvalidRequest, OSError.
    """
    words = [word for word in pattern.split("/") if word not in ("", ".")]
    # As moby does, what would lead out of the context is cut off, not refused: /.. is / in a root.
    cleaned: list[str] = []
    for word in words:
        if word == "..":
            cleaned[-1:] = []
        else:
            cleaned.append(word)
    is_glob = any(_GLOB.intersection(word) for word in cleaned)
    found: list[Source] = []
    try:
        for place in _expand(root_fd, "", cleaned) if is_glob else ["/".join(cleaned)]:
            source = _open_source(root_fd, place, rules, excludes)
            if source is not None:
                found.append(source)
            elif not is_glob:
                is_hidden = rules.is_left_out(place) and _is_there(root_fd, place)
                raise NotFound(
                    f"{pattern!r}: not found in the build context or stage",
                    hint="it is there, but .dockerignore leaves it out" if is_hidden else "")
    except BaseException:
        close_sources(found)
        raise
    return found


def close_sources(sources: list[Source]) -> None:
    """Close them."""
    for source in sources:
        os.close(source.fd)


def _expand(root_fd: int, place: str, words: list[str]) -> list[str]:
    """Return the paths that match a pattern, sorted.

    Links are followed, inside the root, before the first name that is a pattern, and not from there on, as in docker.
    """
    if not words:
        return [place]
    word, rest = words[0], words[1:]
    if not _GLOB.intersection(word):
        return _expand(root_fd, f"{place}/{word}" if place else word, rest)
    try:
        fd = beneath.open_in_root(root_fd, place, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        return [f"{place}/{found}" if place else found for found in _matching(fd, words)]
    finally:
        os.close(fd)


def _matching(directory_fd: int, words: list[str]) -> list[str]:
    """Return the paths below a directory that match, sorted; no link is followed."""
    expression, rest = compile_pattern(words[0].replace("**", "*")), words[1:]
    names = sorted(name for name in os.listdir(directory_fd) if expression.match(name))
    if not rest:
        return names
    found: list[str] = []
    for name in names:
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=directory_fd)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.ENOENT):
                continue
            raise
        try:
            found += [f"{name}/{below}" for below in _matching(fd, rest)]
        finally:
            os.close(fd)
    return found


def _is_there(root_fd: int, place: str) -> bool:
    try:
        os.close(beneath.open_in_root(root_fd, os.fsencode(place), os.O_PATH))
    except OSError:
        return False
    return True


def _open_source(root_fd: int, place: str, rules: IgnoreRules, excludes: IgnoreRules) -> Source | None:
    try:
        fd = beneath.open_in_root(root_fd, os.fsencode(place), os.O_PATH)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EXDEV):
            return None
        raise
    try:
        mode = os.fstat(fd).st_mode
        name = os.fsencode(place.rpartition("/")[2])
        if not stat.S_ISDIR(mode):
            if (place and rules.is_left_out(place)) or excludes.is_left_out(os.fsdecode(name)):
                os.close(fd)
                return None
            return Source(fd=fd, name=name, place=place, entries=(Entry(path=b"", mode=mode),))
        entries = [Entry(path=b"", mode=mode)]
        _list(fd, b"", place, rules, excludes, entries)
        if place and rules.is_left_out(place) and len(entries) == 1:
            os.close(fd)
            return None
        return Source(fd=fd, name=name, place=place, entries=tuple(entries))
    except BaseException:
        os.close(fd)
        raise


def _list(top_fd: int, path: bytes, place: str, rules: IgnoreRules, excludes: IgnoreRules, found: list[Entry]) -> None:
    stack = [path]
    while stack:
        directory = stack.pop()
        fd = beneath.open_beneath(top_fd, directory, _DIRECTORY)
        try:
            with os.scandir(fd) as listing:
                items = sorted(
                    (os.fsencode(item.name), item.stat(follow_symlinks=False).st_mode) for item in listing)
        finally:
            os.close(fd)
        below = []
        for name, mode in items:
            child = directory + b"/" + name if directory else name
            shown = os.fsdecode(child)
            left_out = bool(rules) and rules.is_left_out(f"{place}/{shown}" if place else shown)
            left_out = left_out or (bool(excludes) and excludes.is_left_out(shown))
            if stat.S_ISDIR(mode):
                if not left_out or rules.has_exceptions or excludes.has_exceptions:
                    below.append(child)
                if not left_out:
                    found.append(Entry(path=child, mode=mode))
            elif not left_out and not stat.S_ISSOCK(mode):
                found.append(Entry(path=child, mode=mode))
        stack.extend(reversed(below))


def add_digest(hasher: ContentHash, source: Source, *, with_owner: bool) -> None:
    """Feed to a hash what a copy of a source would consist of; times are no part of it (as in docker)."""
    for entry in source.entries:
        fd = source.open(entry, os.O_PATH | os.O_NOFOLLOW)
        try:
            status = os.fstat(fd)
            owner = f"{status.st_uid}:{status.st_gid}" if with_owner else ""
            device = status.st_rdev if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode) else 0
            head = f"{len(entry.path)} {status.st_mode:o} {owner} {device} ".encode() + entry.path
            hasher.update(b"%d " % len(head) + head)
            if stat.S_ISLNK(status.st_mode):
                hasher.update(os.readlink(b"", dir_fd=fd) + b"\0")
            elif stat.S_ISREG(status.st_mode):
                _digest_file(hasher, source, entry)
        finally:
            os.close(fd)


def _digest_file(hasher: ContentHash, source: Source, entry: Entry) -> None:
    fd = source.open(entry, os.O_RDONLY | os.O_NONBLOCK)
    try:
        for name, value in sorted(read_xattrs(fd).items()):
            hasher.update(b"%d %d " % (len(name), len(value)) + name + value)
        size = 0
        while data := os.read(fd, _CHUNK):
            hasher.update(data)
            size += len(data)
        hasher.update(b"\0%d\0" % size)
    finally:
        os.close(fd)


def read_xattrs(fd: int) -> dict[bytes, bytes]:
    """Return the extended attributes that belong to a file's content, not to this machine or its overlays."""
    names = [name for name in os.listxattr(fd) if not name.startswith(("trusted.overlay.", "user.overlay.", *_LOCAL_XATTRS))]
    return {os.fsencode(name): os.getxattr(fd, name) for name in names if not name.startswith("system.posix_acl")}
