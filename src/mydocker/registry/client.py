"""One repository at one server, by the distribution API: manifests, blobs, tags.

Owns the first contact (TLS or not), tries again what may be tried again, and turns answers into errors by kind.
Where blobs go and come from is transfer.py's. Source: opencontainers/distribution-spec v1.1, spec.md.
"""
from __future__ import annotations

import random
import time
from urllib.parse import urljoin, urlsplit

from mydocker.base import log
from mydocker.base.errors import Corrupt, Denied, MydockerError, NotFound, Unavailable, Unsupported
from mydocker.base.record import Record
from mydocker.oci.digest import digest_of, parse_digest
from mydocker.oci.media_types import DOCKER_INDEX, DOCKER_MANIFEST, MEDIA_INDEX, MEDIA_MANIFEST, SCHEMA_1_HINT, SCHEMA_1_TYPES

from . import credentials
from .auth import Authorizer
from .settings import HUB, HUB_HOST
from .transport import NO_TLS, REFUSED, SILENT, Transport, Unreachable, is_web_address, joined, origin, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, TypeVar

    from .settings import Endpoint, Settings
    from .transport import Response

    T = TypeVar("T")

#: distribution's own limit, and Docker's.
MAX_MANIFEST_BYTES = 4 << 20
ATTEMPTS = 5
#: A server that wants us to wait longer is told about, not waited for.
MAX_WAIT_S = 60.0
#: From here on the user is told that the server wants a wait.
_TOLD_WAIT_S = 2.0
_PASSING = (408, 425, 429, 500, 502, 503, 504)
# Schema 1 is asked for last, so that it can be told by its name instead of by `not found`.
_ACCEPT = ", ".join((MEDIA_INDEX, DOCKER_INDEX, MEDIA_MANIFEST, DOCKER_MANIFEST, *(f"{kind};q=0.1" for kind in SCHEMA_1_TYPES)))
_MAX_PAGES = 1000


class Busy(Unavailable):
    """The server is there and cannot answer now; `wait_s` is what it asks for."""

    def __init__(self, message: str, *, hint: str = "", wait_s: float = 0) -> None:
        super().__init__(message, hint=hint)
        self.wait_s = wait_s


class Refused(Unavailable):
    """The server is there and will not have the request; `status` is its answer."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class Document(Record):
    """A manifest or index as it came, its digest verified."""

    data: bytes
    media_type: str
    digest: str


class Server:
    """One endpoint: how it is reached, and who we are there. Shared by repositories and threads.

    One that `is_patient` is asked again after a failure that passes; a mirror is not, while the registry itself can be asked.
    """

    def __init__(self, endpoint: Endpoint, domain: str, transport: Transport) -> None:
        self.endpoint = endpoint
        self.transport = transport
        self.is_patient = not endpoint.is_mirror
        self._domain = HUB if endpoint.host == HUB_HOST else endpoint.host
        self.shown = domain if not endpoint.is_mirror else endpoint.host
        self._base = ""
        self._given: credentials.Credentials | None = None
        self._authorizer: Authorizer | None = None

    def sign_in(self, given: credentials.Credentials) -> None:
        """Use these credentials and not the stored ones."""
        self._given = given

    def base(self) -> str:
        """Return the URL of `/v2/`; the first call finds out whether the server has TLS. Raises Unreachable."""
        if not self._base:
            self._base = self._probe()
        return self._base

    def _probe(self) -> str:
        failure: Unreachable | None = None
        for scheme in self.endpoint.schemes:
            url = f"{scheme}://{self.endpoint.host}{self.endpoint.prefix}/v2/"
            try:
                self.transport.send("GET", url, follow=False).finish()
                return url
            except Unreachable as error:
                # Without TLS only who has none, on this port or at all: one whose certificate is bad must not become one without.
                if error.why not in (NO_TLS, REFUSED):
                    error.is_final = error.is_final or error.why == SILENT  # who has waited so long need not wait again
                    raise
                failure = error
        assert failure is not None
        if failure.why == NO_TLS and self.endpoint.schemes == ("https",):
            failure.hint = f"it speaks no TLS: --insecure-registry {self.endpoint.host} takes it all the same"
        raise failure

    @property
    def authorizer(self) -> Authorizer:
        """Who answers its challenges."""
        if self._authorizer is None:
            self._authorizer = Authorizer(
                self.base(), lambda: self._given or credentials.find(self._domain), self.transport)
        return self._authorizer

    def request(
        self, method: str, url: str, *, scope: str, headers: Mapping[str, str] | None = None,
        body: bytes | Callable[[], object] | None = None,
    ) -> Response:
        """Send one request with what authorization there is, answering a challenge; the answer may be an error.

        A body that is callable gives a file, a new one each time. A URL of another origin gets no authorization.
        Raises Unreachable, Denied.
        """
        is_ours = origin(url) == origin(self.base())
        for _ in range(2):
            sent = dict(headers or {})
            authorization = self.authorizer.header(scope) if is_ours else ""
            if authorization:
                sent["Authorization"] = authorization
            response = self.transport.send(method, url, headers=sent, body=body() if callable(body) else body)
            if response.status != 401 or origin(response.url) != origin(self.base()):
                return response
            challenges = response.headers.getlist("WWW-Authenticate") if hasattr(response.headers, "getlist") else []
            if not self.authorizer.answer(challenges, scope, authorization):
                return response
            response.finish()
        return response

    def ask(
        self, method: str, url: str, read: Callable[[Response], T], *, scope: str, what: str,
        headers: Mapping[str, str] | None = None, body: bytes | None = None, good: tuple[int, ...] = (200,),
    ) -> T:
        """Send a request until it is answered and the answer is read: again after a failure that passes, where `is_patient`.

        Returns what `read` makes of the answer. Raises NotFound, Denied, Busy, Unreachable, Unavailable, naming `what`.
        """
        def attempt() -> T:
            response = self.request(method, url, scope=scope, headers=headers, body=body)
            if response.status not in good:
                raise failure_of(response, what, self.shown)
            with response:
                return read(response)

        return persist(attempt) if self.is_patient else attempt()


class Repository:
    """One repository at one server."""

    def __init__(self, server: Server, path: str) -> None:
        self.server = server
        self.path = path
        self.shown = f"{server.shown}/{path}"

    @property
    def pull_scope(self) -> str:
        """What reading takes."""
        return f"repository:{self.path}:pull"

    @property
    def push_scope(self) -> str:
        """What writing takes."""
        return f"repository:{self.path}:pull,push"

    def url(self, *parts: str) -> str:
        """Return the URL of something in this repository; the parts are judged already (tags, digests)."""
        return urljoin(self.server.base(), "/".join((f"{urlsplit(self.server.base()).path}{self.path}", *parts)))

    def fetch_manifest(self, wanted: str) -> Document:
        """Return the manifest or index that a tag or digest means, verified as far as its name says.

        Raises NotFound, Corrupt, Unsupported, Denied, Unavailable.
        """
        what = f"{self.shown}{'@' if ':' in wanted else ':'}{wanted}"

        def read(response: Response) -> tuple[bytes, str, str]:
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
            return response.read_all(MAX_MANIFEST_BYTES), kind, response.headers.get("Docker-Content-Digest", "")

        data, media_type, told = self.server.ask(
            "GET", self.url("manifests", wanted), read, scope=self.pull_scope, what=what, headers={"Accept": _ACCEPT})
        if media_type in SCHEMA_1_TYPES:  # its digest is of what its signatures sign, not of the bytes that came
            raise Unsupported(f"{what}: image manifest schema 1", hint=SCHEMA_1_HINT)
        digest = digest_of(data)
        if ":" in wanted and digest != wanted:
            raise Corrupt(f"read {what}: its bytes have digest {digest}")
        if told.startswith("sha256:") and told != digest:
            raise Corrupt(f"read {what}: the registry says digest {told[:80]}, its bytes have {digest}")
        return Document(data=data, media_type=media_type, digest=digest)

    def find_digest(self, tag: str) -> str:
        """Return the digest that a tag means now, or nothing when the server does not say. Raises NotFound, ..."""
        told = self.server.ask(
            "HEAD", self.url("manifests", tag), lambda response: str(response.headers.get("Docker-Content-Digest", "")),
            scope=self.pull_scope, what=f"{self.shown}:{tag}", headers={"Accept": _ACCEPT})
        try:
            parse_digest(told)
        except Corrupt:
            return ""
        return told

    def put_manifest(self, name: str, data: bytes, media_type: str) -> None:
        """Store a manifest or index under a tag or its digest. Raises Corrupt when the server understood another one."""
        digest = digest_of(data)
        told = self.server.ask(
            "PUT", self.url("manifests", name), lambda response: str(response.headers.get("Docker-Content-Digest", "")),
            scope=self.push_scope, what=f"{self.shown}{'@' if ':' in name else ':'}{name}", headers={"Content-Type": media_type},
            body=data, good=(200, 201, 202),
        )
        if told and told != digest:
            raise Corrupt(f"push {self.shown}:{name}: the registry stored digest {told[:80]}, not {digest}")

    def list_tags(self) -> Iterator[str]:
        """Yield the tags, as the server sorts them. Raises NotFound, Corrupt, Denied, Unavailable."""
        from mydocker.base import jsontext  # cold

        def read(response: Response) -> tuple[Any, str]:
            return jsontext.loads(response.read_all(), source=shown(url)), _next_page(response.headers.get("Link", ""))

        url = self.url("tags", "list")
        for _ in range(_MAX_PAGES):
            document, following = self.server.ask("GET", url, read, scope=self.pull_scope, what=self.shown)
            tags = document.get("tags") if isinstance(document, dict) else ()
            if not all(isinstance(tag, str) for tag in tags or ()):
                raise Corrupt(f"read the tags of {self.shown}: not a list of names")
            yield from tags or ()
            if not following:
                return
            url = joined(url, following)
            if not is_web_address(url):
                raise Corrupt(f"read the tags of {self.shown}: the next page is at no web address")
            if origin(url) != origin(self.server.base()):
                raise Corrupt(f"read the tags of {self.shown}: the next page is at {shown(url)}, another server")
        raise Corrupt(f"read the tags of {self.shown}: more than {_MAX_PAGES} pages")


def _next_page(link: str) -> str:
    """Return the target of a Link header with rel="next" (RFC 8288)."""
    target, _, rest = link.partition(">")
    return target[1:] if target.startswith("<") and "next" in rest else ""


def open_repositories(
    domain: str, path: str, settings: Settings, transport: Transport, *, with_mirrors: bool
) -> list[Repository]:
    """Return the repository of a name at each server that has it, in the order to ask them. Speaks to nobody yet."""
    return [
        Repository(Server(endpoint, domain, transport), path)
        for endpoint in settings.endpoints(domain, with_mirrors=with_mirrors)
    ]


# --- trying again ------------------------------------------------------------------------------------------


def persist(attempt: Callable[[], T]) -> T:
    """Call until it works, waiting longer each time, or as long as the server says. Raises what the last try raised."""
    for number in range(1, ATTEMPTS):
        try:
            return attempt()
        except (Busy, Unreachable) as error:
            wait(number, error)
    return attempt()


def wait(number: int, error: Busy | Unreachable) -> None:
    """Sleep before try `number` + 1; raises the error when another try makes no sense."""
    if isinstance(error, Unreachable) and error.is_final:
        raise error
    asked_s = error.wait_s if isinstance(error, Busy) else 0.0
    if asked_s > MAX_WAIT_S:
        raise error
    # Random, so that many clients that were thrown out together do not come back together.
    pause_s = asked_s or min(0.25 * 2 ** number, 8.0) * random.uniform(0.6, 1.0)
    log.debug("registry again", tries=number, wait_s=f"{pause_s:.1f}", why=error.message)
    if asked_s >= _TOLD_WAIT_S:
        log.warn(error.message, hint=f"trying again in {pause_s:.0f} s")
    time.sleep(pause_s)


def failure_of(response: Response, what: str, server: str) -> MydockerError:
    """Return the error that an answer means, and let go of it."""
    status = response.status
    with response:
        told = _told(response)
        after = response.headers.get("Retry-After", "")
    because = f": {told}" if told else ""
    if status in _PASSING:
        wait_s = _seconds(after)
        hint = f"it asks to wait {wait_s:.0f} s" if wait_s > MAX_WAIT_S else "try again later"
        if status == 429:
            return Busy(f"{what}: {server} allows no more requests now{because}", hint=hint, wait_s=wait_s)
        return Busy(f"{what}: {server} answers {status}{because}", hint=hint, wait_s=wait_s)
    if status in (401, 403):
        return Denied(
            f"{what}: {server} denies access{because}", hint=f"it may not exist, or need mydocker login {server}")
    if status == 404:
        return NotFound(f"{what}: {server} has no such thing{because}")
    return Refused(f"{what}: {server} answers {status}{because}", status=status)


def _told(response: Response) -> str:
    """Return the first error of an answer's body, fit to be shown."""
    from mydocker.base import jsontext  # cold

    try:
        document = jsontext.loads(response.read_all(1 << 16), source="")
        first = document["errors"][0]
        text = str(first.get("message") or first.get("code") or "")
    except (MydockerError, LookupError, TypeError, AttributeError, ValueError):
        return ""  # not every error comes with such a body
    return "".join(character if character.isprintable() else " " for character in text)[:200]


def _seconds(after: str) -> float:
    """Return how long a Retry-After header means: seconds, or a date (RFC 9110); 0 for neither."""
    if after.strip().isdigit():
        return float(min(int(after.strip()[:9]), 1_000_000))
    from email.utils import parsedate_to_datetime  # cold

    try:
        return max(0.0, parsedate_to_datetime(after).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0
