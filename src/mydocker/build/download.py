"""ADD of http URLs: fetched whole, hashed on the way, checked before anything of it is used."""
from __future__ import annotations

import os

from mydocker.base.errors import Corrupt, InvalidRequest, Unavailable
from mydocker.base.record import Record
from mydocker.oci.digest import parse_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from http.client import HTTPResponse

_TIMEOUT_S = 60.0
_CHUNK = 256 << 10


class Download(Record):
    """A fetched file; the caller closes `fd`, which stands at its beginning."""

    fd: int
    name: str
    digest: str
    mtime_ns: int | None


def is_url(word: str) -> bool:
    """Tell whether a source of ADD is a URL."""
    return word.startswith(("http://", "https://"))


def open_download(url: str) -> HTTPResponse:
    """Open a URL; the caller closes the answer. Raises Unavailable, InvalidRequest."""
    from urllib import request  # cold
    from urllib.error import HTTPError, URLError

    # Built by hand: urllib's own opener takes file:, ftp: and data:, which a redirect must not reach.
    opener = request.OpenerDirector()
    for handler in (request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler, request.HTTPRedirectHandler,
                    request.HTTPDefaultErrorHandler, request.HTTPErrorProcessor, request.UnknownHandler):
        opener.add_handler(handler())
    opener.addheaders = [("User-Agent", "mydocker")]
    try:
        return opener.open(url, timeout=_TIMEOUT_S)  # type: ignore[no-any-return]
    except HTTPError as error:
        raise Unavailable(f"fetch {url}: {error.code} {error.reason}") from error
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Unavailable(f"fetch {url}: {(getattr(reason, 'strerror', None) or str(reason)).lower()}") from error


def download(url: str, directory_fd: int, checksum: str = "") -> Download:
    """Fetch a URL into a nameless file. Raises Unavailable; Corrupt when it has not the checksum."""
    import hashlib  # cold
    from email.utils import parsedate_to_datetime
    from urllib.parse import unquote, urlsplit

    if checksum:
        try:
            parse_digest(checksum)
        except Corrupt:
            raise InvalidRequest(f"--checksum={checksum[:80]}: sha256:<64 hexadecimal digits> is needed") from None
    hasher = hashlib.sha256()
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=directory_fd)
    try:
        with open_download(url) as response:
            while data := response.read(_CHUNK):
                hasher.update(data)
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view):]
            modified = response.headers.get("Last-Modified")
            expected = response.headers.get("Content-Length")
        if expected is not None and expected.isdigit() and int(expected) != os.fstat(fd).st_size:
            raise Unavailable(f"fetch {url}: it was cut short")
        digest = f"sha256:{hasher.hexdigest()}"
        if checksum and digest != checksum:
            raise Corrupt(f"fetch {url}: digest mismatch {digest}: {checksum}")
        os.lseek(fd, 0, os.SEEK_SET)
        try:
            mtime_ns = int(parsedate_to_datetime(modified).timestamp()) * 1_000_000_000 if modified else None
        except ValueError:
            mtime_ns = None
        name = os.path.basename(unquote(urlsplit(url).path))
        return Download(fd=fd, name=name, digest=digest, mtime_ns=mtime_ns)
    except BaseException:
        os.close(fd)
        raise
