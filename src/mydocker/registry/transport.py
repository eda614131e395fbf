"""HTTP to registries over urllib3: connections, TLS, proxies, redirects. One request, no retries, no credentials of its own.

A request's `Authorization` goes to the host it was made for: a redirect to another origin goes on without it
(CVE-2020-15157 and its kin), and never from https to http. Nothing is decoded, nothing is read beyond a limit.
"""
from __future__ import annotations

import ssl
import threading
from urllib.parse import unquote, urljoin, urlsplit

import urllib3
from urllib3.exceptions import (
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    SSLError,
    TimeoutError,
)

from mydocker.base import log
from mydocker.base.errors import Corrupt, InvalidRequest, Unavailable, Unsupported
from mydocker.base.version import VERSION

from . import settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .settings import Settings

CONNECT_TIMEOUT_S = 15.0
READ_TIMEOUT_S = 60.0
#: What an error, a token or a page of tags may have at most.
MAX_ANSWER_BYTES = 8 << 20
_MAX_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)


#: Why no answer came: nobody listens there, the other side speaks no TLS, or says nothing.
REFUSED, NO_TLS, SILENT = "refused", "no TLS", "silent"


class Unreachable(Unavailable):
    """No answer came: `is_final` when trying again is of no use; `why` where it matters to the caller."""

    def __init__(self, message: str, *, hint: str = "", is_final: bool = False, why: str = "") -> None:
        super().__init__(message, hint=hint)
        self.is_final = is_final
        self.why = why


class Response:
    """An answer whose body is still to be read; `close` it, or use it as a context manager.

    `url` is where it came from, after redirects.
    """

    __slots__ = ("_raw", "headers", "status", "url")

    def __init__(self, raw: urllib3.BaseHTTPResponse, url: str) -> None:
        self._raw = raw
        self.url = url
        self.status = raw.status
        self.headers = raw.headers

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes of the body, b"" at its end. Raises Unreachable when it breaks off."""
        try:
            return self._raw.read(size)
        except (HTTPError, OSError) as error:
            raise _unreachable(error, self.url) from error

    def read_all(self, limit_bytes: int = MAX_ANSWER_BYTES) -> bytes:
        """Return the whole body. Raises Corrupt when it is larger than the limit, Unreachable."""
        chunks: list[bytes] = []
        size = 0
        while data := self.read(1 << 16):
            chunks.append(data)
            size += len(data)
            if size > limit_bytes:
                raise Corrupt(f"read {shown(self.url)}: the answer is larger than {limit_bytes} bytes")
        return b"".join(chunks)

    def finish(self) -> None:
        """Read what is left of a short body, so that the connection can be used again, and let go."""
        try:
            self.read_all(1 << 16)
        except (Unreachable, Corrupt):
            pass  # then it is closed with the connection
        self.close()

    def shut_down(self) -> None:
        """Wake a thread that waits for the body: it gets an error, or an early end."""
        try:
            self._raw.shutdown()
        except (HTTPError, OSError, ValueError, RuntimeError):
            pass  # it has ended by itself

    def close(self) -> None:
        """Let go: a body that was read goes back to its pool, another takes its connection with it."""
        self._raw.close()
        self._raw.release_conn()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Transport:
    """Connections to all hosts that one command speaks to. May be used by many threads."""

    def __init__(self, machine: Settings) -> None:
        self._machine = machine
        self._pools: dict[tuple[str, str], urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def send(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: object = None, follow: bool = True
    ) -> Response:
        """Send a request and return its answer, whatever the status. Raises Unreachable, Corrupt (bad redirect).

        `follow` redirects of GET and HEAD.
        """
        sent = {"User-Agent": f"mydocker/{VERSION}", "Accept-Encoding": "identity", **(headers or {})}
        for _ in range(_MAX_REDIRECTS):
            response = self._send_once(method, url, sent, body)
            if response.status not in _REDIRECTS or not follow or method not in ("GET", "HEAD"):
                return response
            target = response.headers.get("Location", "")
            response.finish()
            following = redirected(url, target)
            if origin(following) != origin(url):
                sent.pop("Authorization", None)
            url = following
        raise Corrupt(f"read {shown(url)}: more than {_MAX_REDIRECTS} redirects")

    def _send_once(self, method: str, url: str, headers: Mapping[str, str], body: object) -> Response:
        log.debug("registry request", method=method, url=shown(url))
        try:
            raw = self._pool(url).urlopen(
                method, url, headers=dict(headers), body=body, redirect=False, retries=False,
                preload_content=False, decode_content=False,
            )
        except (HTTPError, OSError) as error:
            raise _unreachable(error, url) from error
        log.debug("registry answer", status=raw.status, url=shown(url))
        return Response(raw, url)

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        with self._lock:
            key = (parts.scheme, parts.netloc)
            pool = self._pools.get(key)
            if pool is None:
                pool = self._pools[key] = self._new_pool(parts.scheme, parts.netloc)
            return pool

    def _new_pool(self, scheme: str, host: str) -> urllib3.PoolManager:
        timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S)
        context = self._context(host) if scheme == "https" else None
        proxy = settings.proxy_for(scheme, host)
        if not proxy:
            return urllib3.PoolManager(num_pools=2, maxsize=16, timeout=timeout, ssl_context=context)
        parts = urlsplit(proxy)
        if parts.scheme not in ("http", "https"):
            raise Unsupported(f"proxy {parts.scheme}://{parts.hostname}: only http and https proxies can be used")
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
        headers = urllib3.make_headers(proxy_basic_auth=secret) if secret else None
        place = f"{parts.scheme}://{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
        return urllib3.ProxyManager(
            place, proxy_headers=headers, num_pools=2, maxsize=16, timeout=timeout, ssl_context=context)

    def _context(self, host: str) -> ssl.SSLContext:
        context = ssl.create_default_context()
        authorities, pairs = settings.certificate_files(host)
        if self._machine.is_insecure(host):
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # the user has said so
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        try:
            for path in authorities:
                context.load_verify_locations(cafile=path)
            for certificate, key in pairs:
                context.load_cert_chain(certificate, key)
        except (ssl.SSLError, OSError) as error:
            raise InvalidRequest(f"read the certificates of {host}: {error}") from error
        return context

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            for pool in self._pools.values():
                pool.clear()
            self._pools.clear()


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL: who gets what is sent there."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)


def redirected(url: str, target: str) -> str:
    """Return where a redirect of `url` leads. Raises Corrupt for one that gives up TLS or is no web address."""
    following = joined(url, target)
    if not target or not is_web_address(following):
        raise Corrupt(f"read {shown(url)}: it redirects to no web address")
    if urlsplit(url).scheme == "https" and urlsplit(following).scheme != "https":
        raise Corrupt(f"read {shown(url)}: it redirects to {shown(following)}, without TLS")
    return following


def joined(url: str, target: str) -> str:
    """Return where a reference in an answer from `url` leads, or nothing where it is malformed."""
    try:
        return urljoin(url, target)
    except ValueError:
        return ""


def is_web_address(url: str) -> bool:
    """Tell whether what a server said is a URL that a request can be sent to; urllib raises ValueError for some that are not."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
    except ValueError:
        return False


def shown(url: str) -> str:
    """Return a URL without its query, which may be a signature that opens it, and without control characters."""
    parts = urlsplit(url)
    return printable(f"{parts.scheme}://{parts.hostname}{_port(url)}{parts.path}")[:200]


def printable(text: str) -> str:
    """Return a text of the other side's without what would steer a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _port(url: str) -> str:
    port = urlsplit(url).port
    return f":{port}" if port else ""


def _proxy_of(url: str) -> str:
    """Return the proxy by which a URL is reached, without its password."""
    parts = urlsplit(settings.proxy_for(urlsplit(url).scheme, urlsplit(url).netloc))
    return parts.netloc.rpartition("@")[2]


def _unreachable(error: BaseException, url: str) -> Unreachable:
    """Return what is wrong with a connection in words of the field; urllib3's own name its objects' addresses."""
    host = urlsplit(url).netloc
    cause = error
    while isinstance(cause, ProxyError) and cause.original_error is not None:
        cause = cause.original_error
    via = f" by the proxy {_proxy_of(url)}" if isinstance(error, ProxyError) else ""
    if isinstance(cause, SSLError):
        return _tls_failure(cause, host, via)
    if isinstance(cause, NameResolutionError):
        return Unreachable(
            f"reach {host}{via}: its name cannot be resolved", hint="is this machine on the network?", is_final=True)
    if isinstance(cause, NewConnectionError):
        reason = cause.__cause__ or cause.__context__
        number = getattr(reason, "strerror", None) or "no connection"
        why = REFUSED if isinstance(reason, ConnectionRefusedError) else ""
        return Unreachable(f"reach {host}{via}: {number.lower()}", is_final=True, why=why)
    if isinstance(cause, TimeoutError):
        return Unreachable(f"reach {host}{via}: no answer in time", why=SILENT)
    if isinstance(cause, ProtocolError):
        return Unreachable(f"reach {host}{via}: the connection broke off")
    if via and type(cause) is OSError:  # http.client's word for a CONNECT that was not answered by 200
        answer = str(cause).removeprefix("Tunnel connection failed: ")
        hint = "HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT" if answer.startswith("407") else ""
        is_final = not answer.startswith("5")
        return Unreachable(f"reach {host}{via}: it answers {printable(answer)[:200]}", hint=hint, is_final=is_final)
    return Unreachable(f"reach {host}{via}: {getattr(cause, 'strerror', None) or type(cause).__name__}")


def _tls_failure(error: SSLError, host: str, via: str) -> Unreachable:
    cause: object = error.args[0] if error.args else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Unreachable(
            f"reach {host}{via}: its certificate is not to be trusted ({cause.verify_message})", is_final=True,
            hint=f"put its authority into /etc/docker/certs.d/{host}/ca.crt",
        )
    reason = getattr(cause, "reason", None) or str(cause)
    is_no_tls = reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
    wants_client = "CERTIFICATE" in reason or "UNKNOWN_CA" in reason  # an alert: ours had no certificate, or no good one
    hint = f"it may want a client certificate: client.cert and client.key in /etc/docker/certs.d/{host}/" if wants_client else ""
    return Unreachable(f"reach {host}{via}: TLS failed ({reason})", hint=hint, is_final=True, why=NO_TLS if is_no_tls else "")
