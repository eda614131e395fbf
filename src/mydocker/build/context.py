"""Where a build's files come from: a directory, a tar, a git repository, or nothing but a Dockerfile.

A context is a directory behind a descriptor and the rules of its .dockerignore. A directory is used where it is;
tars and clones go to a temporary layer, which a sweep removes if the build is killed.
"""
from __future__ import annotations

import errno
import os
import stat

from mydocker.base.errors import InvalidRequest, NotFound
from mydocker.linux import beneath
from mydocker.storage.layers import NewLayer

from .dockerfile import MAX_BYTES
from .ignore import IgnoreRules, read_patterns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from mydocker.base.paths import Layout

_DEFAULT_NAMES = ("Dockerfile", "dockerfile")
_CHUNK = 256 << 10


class Context:
    """An open context; close it."""

    def __init__(
        self, root_fd: int, *, shown: str, temporary: NewLayer | None = None, lone_dockerfile: bytes | None = None
    ) -> None:
        self.root_fd = root_fd
        self.shown = shown
        self.rules = IgnoreRules([])
        self._temporary = temporary
        self._lone = lone_dockerfile

    def close(self) -> None:
        """Let go of it."""
        os.close(self.root_fd)
        if self._temporary is not None:
            self._temporary.discard()

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read_dockerfile(self, path: str) -> bytes:
        """Return the Dockerfile, and read the .dockerignore that goes with it.

        `path` is a file's path, `-` for standard input, or empty for the context's own. Raises NotFound, InvalidRequest.
        """
        if self._lone is not None:
            return self._lone
        if path == "-":
            data, beside = _read_all(0, "Dockerfile"), b""
        elif path and self._temporary is None:
            # As typed, beside the caller; only then inside the context, which docker has for remote ones.
            data, beside = self._read_named(path)
        else:
            data, beside = self._read_inside((path,) if path else _DEFAULT_NAMES), b""
        self.rules = IgnoreRules(read_patterns((beside or self._read_file(".dockerignore") or b"").decode("utf-8", "replace")))
        return data

    def _read_named(self, path: str) -> tuple[bytes, bytes]:
        for place in (path, f"{self.shown}/{path}"):
            if os.path.isfile(place):
                return _read_path(place), _read_path(f"{place}.dockerignore") if os.path.isfile(f"{place}.dockerignore") else b""
        raise NotFound(f"build: no Dockerfile at {path}", hint="name it with -f FILE")

    def _read_inside(self, names: tuple[str, ...]) -> bytes:
        for name in names:
            data = self._read_file(name)
            if data is not None:
                return data
        raise NotFound(f"build: no {names[0]} in {self.shown}", hint="name it with -f FILE")

    def _read_file(self, name: str) -> bytes | None:
        try:
            fd = beneath.open_in_root(self.root_fd, name, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise InvalidRequest(f"read {name} of the context: {os.strerror(error.errno or 0).lower()}") from error
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise InvalidRequest(f"read {name} of the context: it is no regular file")
            return _read_all(fd, name)
        finally:
            os.close(fd)


def open_context(layout: Layout, word: str, *, dockerfile: str) -> Context:
    """Open what the command line names: a directory, `-`, a git URL. Raises NotFound, InvalidRequest, Unavailable."""
    if word == "-":
        if dockerfile == "-":
            raise InvalidRequest("build: invalid argument: can't use stdin for both build context and dockerfile")
        return _open_stdin(layout)
    from . import giturl  # cold

    if giturl.is_git(word):
        new = NewLayer(layout)
        try:
            return Context(giturl.clone(word, new), shown=word, temporary=new)
        except BaseException:
            new.discard()
            raise
    if word.startswith(("http://", "https://")):
        return _open_url(layout, word)
    try:
        fd = os.open(word, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"build: unable to prepare context: path {word!r} not found") from None
    except NotADirectoryError:
        raise InvalidRequest(
            f"build: context {word} is no directory", hint="give the directory, and the Dockerfile with -f FILE") from None
    return Context(fd, shown=word)


def _open_stdin(layout: Layout) -> Context:
    if os.isatty(0):
        raise InvalidRequest("build: standard input is a terminal", hint="redirect a tar or a Dockerfile")
    return open_stream(layout, lambda: os.read(0, _CHUNK), "standard input")


def _open_url(layout: Layout, url: str) -> Context:
    from .download import open_download  # cold

    with open_download(url) as response:
        return open_stream(layout, lambda: response.read(_CHUNK) or b"", url)


def open_stream(layout: Layout, read: Callable[[], bytes], shown: str) -> Context:
    """Return a context of a tar (compressed or not), or of a lone Dockerfile, whichever the bytes are."""
    head = b""
    while len(head) < 512 and (data := read()):
        head += data
    pending = [head]

    def pull() -> bytes:
        return pending.pop() if pending else read()

    new = NewLayer(layout)
    try:
        if not is_archive(head):
            data = b""
            while piece := pull():
                data += piece
                if len(data) > MAX_BYTES:
                    raise InvalidRequest(f"build: {shown} is neither a tar nor a Dockerfile")
            return Context(os.dup(new.diff_fd), shown=shown, temporary=new, lone_dockerfile=data)
        unpack_into(new.diff_fd, pull, head)
        return Context(os.dup(new.diff_fd), shown=shown, temporary=new)
    except BaseException:
        new.discard()
        raise


def is_archive(head: bytes) -> bool:
    """Tell whether bytes begin a tar, or something compressed as tars are."""
    from mydocker.base.errors import Corrupt, Unsupported  # cold
    from mydocker.storage import tarheader, whole

    if whole.is_compressed(head):
        return True
    try:
        tarheader.parse_header(head[:512].ljust(512, b"\0"))
    except (Corrupt, Unsupported):
        return False
    return len(head) >= 512


def unpack_into(root_fd: int, read: Callable[[], bytes], head: bytes) -> None:
    """Unpack a tar below a directory, in a thread of its own. Raises what storage/unpack raises."""
    from mydocker.storage import ingest, whole  # cold
    from mydocker.storage.tarstream import Limits

    ingest.unpack_chunks(whole.inflated(read, head), root_fd, Limits())


def _read_path(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _read_all(fd, path)
    finally:
        os.close(fd)


def _read_all(fd: int, what: str) -> bytes:
    data = b""
    while piece := os.read(fd, _CHUNK):
        data += piece
        if len(data) > MAX_BYTES:
            raise InvalidRequest(f"read {what}: larger than {MAX_BYTES >> 20} MiB")
    return data


