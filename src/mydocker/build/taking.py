"""What COPY and ADD take: files of the context, of stages and images, documents, downloads, archives to unpack."""
from __future__ import annotations

import os
import stat

from mydocker.base import files
from mydocker.base.errors import Corrupt, InvalidRequest, NotFound
from mydocker.storage.layers import NewLayer

from . import download, giturl, instructions
from .contenthash import ContentHash
from .dockerfile import Node, is_heredoc
from .ignore import IgnoreRules, read_patterns
from .sources import Source, add_digest, close_sources, find_sources
from .substitute import substitute_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.base.undo import Undo

    from .executor import StageBuilder
    from .job import Job
    from .modes import Ownership


class Taking:
    """The sources of one COPY or ADD, found and opened, and what they are in the cache key."""

    def __init__(self, builder: StageBuilder, job: Job, node: Node, undo: Undo) -> None:
        self._builder = builder
        self._job = job
        self._node = node
        self._undo = undo
        self._items: list[Source | tuple[str, str]] = []
        self._downloads: dict[str, download.Download] = {}
        excludes = read_patterns("\n".join(builder.substitute(word) for word in instructions.flags_of(node, "exclude")))
        self._excludes = IgnoreRules(excludes)
        self._root: tuple[int, IgnoreRules] | None = None
        self._checksum = builder.substitute(instructions.flag_of(node, "checksum"))

    def add(self, word: str) -> None:
        """Take one more source word. Raises NotFound, InvalidRequest, Unavailable."""
        node = self._node
        name = is_heredoc(word)
        if name:
            self._items.append((name, self._document(name)))
            return
        if node.keyword == "ADD" and giturl.is_git(word):
            self._add_repository(word)
            return
        if node.keyword == "ADD" and download.is_url(word):
            found = download.download(word, self._job.scratch_fd(), self._checksum)
            self._undo.callback(os.close, found.fd)
            self._downloads[word] = found
            self._items.append(("", word))
            return
        if self._checksum:
            raise InvalidRequest("checksum can't be specified for non-HTTP(S) sources")
        if self._root is None:
            self._root = self._builder.open_origin(instructions.flag_of(node, "from") if node.keyword == "COPY" else "")
            self._undo.callback(os.close, self._root[0])
        sources = find_sources(self._root[0], word, self._root[1], self._excludes)
        self._undo.callback(close_sources, sources)
        self._items += sources

    def require(self) -> None:
        """Refuse to copy nothing: one pattern may match nothing, all of them may not. Raises NotFound."""
        if not self._items:
            raise NotFound("no source files were specified, nothing matches")

    def _add_repository(self, word: str) -> None:
        """Take what a git repository holds; its .git only with --keep-git-dir."""
        new = NewLayer(self._job.layout)
        self._undo.callback(new.discard)
        root_fd = giturl.clone(word, new, is_typed=False, checksum=self._checksum)
        self._undo.callback(os.close, root_fd)
        keeps = instructions.is_set(self._node, "keep-git-dir")
        sources = find_sources(root_fd, "/", IgnoreRules(read_patterns("" if keeps else "**/.git")), self._excludes)
        self._undo.callback(close_sources, sources)
        self._items += sources

    def _document(self, name: str) -> str:
        for heredoc in self._node.heredocs:
            if heredoc.name == name:
                return substitute_document(heredoc.content, self._builder.state.variables) if heredoc.expand else heredoc.content
        raise NotFound(f"heredoc {name}: it is not there")

    def digest(self) -> str:
        """Return the digest of all that would be copied."""
        hasher = ContentHash()
        with_owner = bool(instructions.flag_of(self._node, "from"))
        for item in self._items:
            if isinstance(item, Source):
                hasher.update(b"%d %d " % (len(item.name), item.is_directory) + item.name)
                add_digest(hasher, item, with_owner=with_owner)
            else:
                found = self._downloads.get(item[1])
                hasher.update(repr((item, found.digest if found else "", found.mtime_ns if found else 0)).encode())
        return hasher.digest()

    def copy(self, root_fd: int, destination: str, ownership: Ownership) -> None:
        """Copy all of it below a root."""
        from . import tree  # cold

        is_many = len(self._items) > 1
        if is_many and not destination.endswith("/") and not tree.is_directory(root_fd, destination):
            raise InvalidRequest(f"When using {self._node.keyword} with more than one source file, the destination must be "
                                 "a directory and end with a /")
        for item in self._items:
            if not isinstance(item, Source):
                if not self._unpack_download(item, root_fd, destination):
                    self._copy_made(item, root_fd, destination, ownership)
            elif not (self._node.keyword == "ADD" and self._unpack(item, root_fd, destination)):
                tree.copy_sources([item], root_fd, self._place_of(item, destination), ownership)

    def _place_of(self, source: Source, destination: str) -> str:
        """Return where a source goes: with --parents, below the destination as it was below the root."""
        if self._node.keyword != "COPY" or not instructions.is_set(self._node, "parents"):
            return destination
        kept = source.place if source.is_directory else source.place.rpartition("/")[0]
        return f"{destination.rstrip('/')}/{kept}/"

    def _copy_made(self, item: tuple[str, str], root_fd: int, destination: str, ownership: Ownership) -> None:
        """Copy a heredoc or a download: owned by root unless --chown says otherwise."""
        from . import tree  # cold

        name, text = item
        found = self._downloads.get(text) if not name else None
        owner = ownership.owner or (0, 0)
        if found is not None and destination.endswith("/") and not found.name:
            raise InvalidRequest(f"cannot determine filename from url: {text}")
        fd = tree.create_file(root_fd, destination, os.fsencode(found.name if found else name), owner)
        try:
            if found is not None:
                os.lseek(found.fd, 0, os.SEEK_SET)
                tree.copy_bytes(found.fd, fd)
            else:
                files.write_all(fd, text.encode("utf-8", "surrogateescape"))
            os.fchown(fd, *owner)
            default = 0o100600 if found is not None else 0o100644
            os.fchmod(fd, ownership.mode.apply(default) if ownership.mode else default & 0o7777)
            if found is not None and found.mtime_ns is not None:
                os.utime(fd, ns=(found.mtime_ns, found.mtime_ns))
        finally:
            os.close(fd)

    def _unpack_download(self, item: tuple[str, str], root_fd: int, destination: str) -> bool:
        """Unpack what came from a URL, if that was asked for; tells whether it was an archive."""
        found = self._downloads.get(item[1]) if not item[0] else None
        return found is not None and instructions.is_set(self._node, "unpack") and _unpack_file(found.fd, root_fd, destination)

    def _unpack(self, source: Source, root_fd: int, destination: str) -> bool:
        """Unpack a local archive, as ADD does with what is one unless told not to; tells whether it was."""
        if source.is_directory or ("unpack" in dict(self._node.flags) and not instructions.is_set(self._node, "unpack")):
            return False
        if not stat.S_ISREG(source.entries[0].mode):
            return False
        fd = source.open(source.entries[0], os.O_RDONLY)
        try:
            return _unpack_file(fd, root_fd, destination)
        finally:
            os.close(fd)


def _unpack_file(fd: int, root_fd: int, destination: str) -> bool:
    """Unpack a file that is an archive below a destination; tells whether it is one."""
    from mydocker.storage import whole  # cold

    from . import tree
    from .context import is_archive, unpack_into

    head = os.pread(fd, 512, 0)
    if not is_archive(head):
        return False
    os.lseek(fd, 0, os.SEEK_SET)

    def read() -> bytes:
        return os.read(fd, 256 << 10)

    # What looks compressed may be anything: only a tar is unpacked, the rest is copied as it is.
    try:
        first = next(whole.inflated(read, head), b"")
    except Corrupt:
        return False
    if not is_archive(first[:512]) or first[:2] == b"\x1f\x8b":
        return False
    os.lseek(fd, 0, os.SEEK_SET)
    place_fd = tree.make_directories(root_fd, destination)
    try:
        unpack_into(place_fd, read, head)
    finally:
        os.close(place_fd)
    return True
