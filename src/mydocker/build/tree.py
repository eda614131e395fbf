"""Files from one tree into another, by descriptor: what COPY and ADD do. And the digest of what they would copy.

Both trees are hostile: the source may be a stage that an attacker wrote, the destination as well. A source is found
below its root as chroot would find it; below a source, and below a destination, no symbolic link is followed.
"""
from __future__ import annotations

import errno
import os
import stat

from mydocker.base.errors import InvalidRequest, NotFound
from mydocker.base.record import Record
from mydocker.linux import beneath
from mydocker.storage import trash
from mydocker.storage.unpack import set_xattrs

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


class Ownership(Record):
    """Who owns what is copied, and its mode; None: as in the source."""

    owner: tuple[int, int] | None = None
    mode: ModeChange | None = None


class ModeChange(Record):
    """--chmod: an octal number, or symbolic clauses as chmod(1) has them."""

    text: str

    def apply(self, mode: int) -> int:
        """Return the permission bits of a file that has type and bits `mode`."""
        import re  # cold

        if self.text.isdigit():
            return int(self.text, 8)
        bits = stat.S_IMODE(mode)
        for clause in self.text.split(","):
            match = re.fullmatch(r"([ugoa]*)((?:[-+=][rwxXst]*)+)", clause)
            assert match is not None  # judged by parse_mode
            who = match[1] or "a"
            who = "ugo" if "a" in who else who
            for sign, letters in re.findall(r"([-+=])([rwxXst]*)", match[2]):
                bits = _changed(bits, who, sign, letters, is_directory=stat.S_ISDIR(mode))
        return bits


def parse_mode(text: str) -> ModeChange:
    """Return what --chmod=TEXT means. Raises InvalidRequest."""
    import re  # cold

    if re.fullmatch(r"[0-7]{1,5}", text) and int(text, 8) <= 0o7777:
        return ModeChange(text=text)
    if all(re.fullmatch(r"[ugoa]*(?:[-+=][rwxXst]*)+", clause) for clause in text.split(",")):
        return ModeChange(text=text)
    raise InvalidRequest(f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")


def _changed(bits: int, who: str, sign: str, letters: str, *, is_directory: bool) -> int:
    shifts = {"u": 6, "g": 3, "o": 0}
    value = mask = 0
    for person in who:
        shift = shifts[person]
        mask |= 0o7 << shift
        for letter in letters:
            if letter in "rwx":
                value |= {"r": 4, "w": 2, "x": 1}[letter] << shift
            elif letter == "X" and (is_directory or bits & 0o111):
                value |= 1 << shift
            elif letter == "s" and person in "ug":
                value |= 0o4000 if person == "u" else 0o2000
    if "t" in letters:
        value |= 0o1000
    if sign == "+":
        return bits | value
    return bits & ~value if sign == "-" else bits & ~mask | value


# --- sources ------------------------------------------------------------------------------------------------


def find_sources(root_fd: int, pattern: str, rules: IgnoreRules, excludes: IgnoreRules) -> list[Source]:
    """Return what a source word of COPY means below a root, in order. Raises NotFound, InvalidRequest, OSError."""
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
                raise NotFound(f"{pattern!r}: not found in the build context or stage")
    except BaseException:
        close_sources(found)
        raise
    if not found:
        raise NotFound(f"{pattern!r}: no source files were specified, nothing matches")
    return found


def close_sources(sources: list[Source]) -> None:
    """Close them."""
    for source in sources:
        os.close(source.fd)


def _expand(root_fd: int, place: str, words: list[str]) -> list[str]:
    """Return the paths that match a pattern, sorted; links in parents are followed inside the root."""
    if not words:
        return [place]
    word, rest = words[0], words[1:]
    if not _GLOB.intersection(word):
        return _expand(root_fd, f"{place}/{word}" if place else word, rest)
    expression = compile_pattern(word.replace("**", "*"))
    try:
        fd = beneath.open_in_root(root_fd, place, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        names = sorted(name for name in os.listdir(fd) if expression.match(name))
    finally:
        os.close(fd)
    return [path for name in names for path in _expand(root_fd, f"{place}/{name}" if place else name, rest)]


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
        for name, value in sorted(_read_xattrs(fd).items()):
            hasher.update(b"%d %d " % (len(name), len(value)) + name + value)
        size = 0
        while data := os.read(fd, _CHUNK):
            hasher.update(data)
            size += len(data)
        hasher.update(b"\0%d\0" % size)
    finally:
        os.close(fd)


def _read_xattrs(fd: int) -> dict[bytes, bytes]:
    names = [name for name in os.listxattr(fd) if not name.startswith(("trusted.overlay.", "user.overlay.", *_LOCAL_XATTRS))]
    return {os.fsencode(name): os.getxattr(fd, name) for name in names if not name.startswith("system.posix_acl")}


# --- destinations -------------------------------------------------------------------------------------------


def make_directories(root_fd: int, path: str, owner: tuple[int, int] = (0, 0), mode: int = 0o755) -> int:
    """Return a handle on a directory in a root, made where missing with this owner; the caller closes it.

    Raises InvalidRequest where a file is in the way.
    """
    cleaned = os.fsencode("/".join(clean(path)))
    missing: list[bytes] = []
    while True:
        try:
            fd = beneath.open_in_root(root_fd, cleaned, os.O_RDONLY | os.O_DIRECTORY)
            break
        except FileNotFoundError:
            cleaned, _, name = cleaned.rpartition(b"/")
            missing.append(name)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise InvalidRequest(f"{path}: a part of it is not a directory") from error
            raise
    while missing:
        name, parent_fd = missing.pop(), fd
        try:
            try:
                os.mkdir(name, 0o700, dir_fd=parent_fd)
            except FileExistsError:  # a dangling link
                raise InvalidRequest(f"{path}: a part of it is a symbolic link to nowhere") from None
            fd = os.open(name, _DIRECTORY, dir_fd=parent_fd)
        finally:
            os.close(parent_fd)
        os.fchown(fd, *owner)
        os.fchmod(fd, mode)
    return fd


def clean(path: str) -> list[str]:
    """Return the names of a path without `.`, `..` resolved as in a root."""
    names: list[str] = []
    for name in path.split("/"):
        if name == "..":
            names[-1:] = []
        elif name not in ("", "."):
            names.append(name)
    return names


def copy_sources(sources: list[Source], root_fd: int, destination: str, ownership: Ownership) -> None:
    """Copy sources to a destination below a root. Raises InvalidRequest, OSError.

    It is a directory when it ends in `/`, or is one already.
    """
    says_directory = destination.endswith(("/", "/.")) or not clean(destination)
    for source in sources:
        if source.is_directory:
            place_fd = make_directories(root_fd, destination, ownership.owner or (0, 0))
            try:
                copy_content(source, place_fd, ownership)
            finally:
                os.close(place_fd)
        else:
            _copy_single(source, root_fd, destination, says_directory or is_directory(root_fd, destination), ownership)


def _copy_single(source: Source, root_fd: int, destination: str, into_directory: bool, ownership: Ownership) -> None:
    if into_directory:
        directory, name = destination, source.name
    else:
        directory, name = _follow_file(root_fd, destination)
    parent_fd = make_directories(root_fd, directory, ownership.owner or (0, 0))
    try:
        _copy_entry(source, source.entries[0], parent_fd, name, ownership)
    finally:
        os.close(parent_fd)


def _follow_file(root_fd: int, destination: str) -> tuple[str, bytes]:
    """Return directory and name of a file's destination; an existing link to a file is followed in the root."""
    names = clean(destination)
    try:
        fd = beneath.open_in_root(root_fd, "/".join(names), os.O_PATH)
    except OSError:
        return "/".join(names[:-1]), os.fsencode(names[-1])
    try:
        # The descriptor lies in the view's own mount: its path there begins at the view's root.
        link = os.readlink(f"/proc/self/fd/{fd}")
        root = os.readlink(f"/proc/self/fd/{root_fd}")
        inside = clean(link.removeprefix(root) if root != "/" else link)
        return "/".join(inside[:-1]), os.fsencode(inside[-1])
    finally:
        os.close(fd)


def is_directory(root_fd: int, path: str) -> bool:
    """Tell whether a path in a root is a directory, or a link to one."""
    try:
        os.close(beneath.open_in_root(root_fd, "/".join(clean(path)), os.O_PATH | os.O_DIRECTORY))
    except OSError:
        return False
    return True


def create_file(root_fd: int, destination: str, name: bytes, owner: tuple[int, int]) -> int:
    """Return a new file at a destination below a root, called `name` when that is a directory; the caller closes it."""
    if destination.endswith("/") or is_directory(root_fd, destination):
        directory = destination
    else:
        directory, name = _follow_file(root_fd, destination)
    parent_fd = make_directories(root_fd, directory, owner)
    try:
        _clear(parent_fd, name)
        return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent_fd)
    finally:
        os.close(parent_fd)


def copy_content(source: Source, place_fd: int, ownership: Ownership) -> None:
    """Copy what a directory holds into another."""
    times: list[tuple[bytes, os.stat_result]] = []
    for entry in source.entries[1:]:
        head, _, name = entry.path.rpartition(b"/")
        parent_fd = beneath.ensure_directory_beneath(place_fd, head) if head else os.dup(place_fd)
        try:
            status = _copy_entry(source, entry, parent_fd, name, ownership)
        finally:
            os.close(parent_fd)
        if stat.S_ISDIR(status.st_mode):
            times.append((entry.path, status))
    # What is copied into a directory changes its time: set last, the deepest first.
    for path, status in reversed(times):
        fd = beneath.open_beneath(place_fd, path, _DIRECTORY)
        os.utime(fd, ns=(status.st_mtime_ns, status.st_mtime_ns))
        os.close(fd)


def _copy_entry(source: Source, entry: Entry, parent_fd: int, name: bytes, ownership: Ownership) -> os.stat_result:
    fd = source.open(entry, os.O_PATH | os.O_NOFOLLOW)
    try:
        status = os.fstat(fd)
        kind = stat.S_IFMT(status.st_mode)
        owner = ownership.owner or (status.st_uid, status.st_gid)
        mode = ownership.mode.apply(status.st_mode) if ownership.mode else stat.S_IMODE(status.st_mode)
        if kind == stat.S_IFDIR:
            _make_directory(source, entry, parent_fd, name, owner, mode)
            return status
        _clear(parent_fd, name)
        if kind == stat.S_IFREG:
            _copy_file(source, entry, parent_fd, name, owner, mode, status)
            return status
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink(b"", dir_fd=fd), name, dir_fd=parent_fd)
        else:
            os.mknod(name, kind | mode, status.st_rdev, dir_fd=parent_fd)
        os.chown(name, *owner, dir_fd=parent_fd, follow_symlinks=False)
        if kind != stat.S_IFLNK:
            os.chmod(name, mode, dir_fd=parent_fd)  # whatever the umask; just made, so no link
        os.utime(name, ns=(status.st_mtime_ns, status.st_mtime_ns), dir_fd=parent_fd, follow_symlinks=False)
        return status
    finally:
        os.close(fd)


def _clear(parent_fd: int, name: bytes) -> None:
    """Make room for a file: whatever is there goes, except a directory, which a file cannot replace."""
    try:
        there = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(there.st_mode):
        raise InvalidRequest(f"cannot copy a file over the directory {os.fsdecode(name)!r}")
    os.unlink(name, dir_fd=parent_fd)


def _make_directory(
    source: Source, entry: Entry, parent_fd: int, name: bytes, owner: tuple[int, int], mode: int
) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent_fd)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode):
            trash.remove_at(parent_fd, name)
            os.mkdir(name, 0o700, dir_fd=parent_fd)
    fd = os.open(name, _DIRECTORY, dir_fd=parent_fd)
    try:
        os.fchown(fd, *owner)
        os.fchmod(fd, mode)
        source_fd = source.open(entry, os.O_RDONLY | os.O_DIRECTORY)
        try:
            set_xattrs(fd, _read_xattrs(source_fd))
        finally:
            os.close(source_fd)
    finally:
        os.close(fd)


def _copy_file(
    source: Source, entry: Entry, parent_fd: int, name: bytes, owner: tuple[int, int], mode: int, status: os.stat_result
) -> None:
    from_fd = source.open(entry, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent_fd)
        try:
            copy_bytes(from_fd, fd)
            os.fchown(fd, *owner)
            os.fchmod(fd, mode)
            set_xattrs(fd, _read_xattrs(from_fd))
            os.utime(fd, ns=(status.st_mtime_ns, status.st_mtime_ns))
        finally:
            os.close(fd)
    finally:
        os.close(from_fd)


def copy_bytes(from_fd: int, to_fd: int) -> None:
    """Copy all of a file, in the kernel where it can."""
    try:
        while os.copy_file_range(from_fd, to_fd, 1 << 30):
            pass
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF):
            raise
    # What the kernel left, all of it where it could not: nothing of procfs and its kin has a size.
    while data := os.read(from_fd, _CHUNK):
        view = memoryview(data)
        while view:
            view = view[os.write(to_fd, view):]
