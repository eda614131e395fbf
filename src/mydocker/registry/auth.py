"""Who we are to a registry: its challenges answered with Basic, or with a bearer token from where it says.

Credentials of a registry go to that registry, and to the token server that it names over TLS (the protocol
of the distribution project); never to a host that a redirect or a layer's address leads to.
Source: RFC 9110 section 11, and docs/spec/auth of distribution (token, oauth2, scope).
"""
from __future__ import annotations

import threading
from urllib.parse import urlencode, urlsplit

from mydocker.base import jsontext
from mydocker.base.errors import Corrupt, Denied, Unavailable
from mydocker.base.record import Record

from .transport import is_web_address, origin, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from .credentials import Credentials
    from .transport import Transport

_CLIENT_ID = "mydocker"
_MAX_TOKEN_BYTES = 1 << 20
_SEPARATORS = ' \t,'


class Challenge(Record):
    """One way that a server offers to be convinced: `scheme` in lower case."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """Return the challenges of WWW-Authenticate headers; what is malformed ends its header's list."""
    found: list[Challenge] = []
    for value in values:
        found += _parse_challenge_list(value[:8192])
    return found


def _parse_challenge_list(text: str) -> list[Challenge]:
    found: list[tuple[str, dict[str, str]]] = []
    position = 0
    while position < len(text):
        while position < len(text) and text[position] in _SEPARATORS:
            position += 1
        start = position
        while position < len(text) and text[position] not in ' \t,=':
            position += 1
        word = text[start:position]
        if not word:
            break
        if position < len(text) and text[position] == "=" and found:
            content, position = _parse_value(text, position + 1)
            found[-1][1].setdefault(word.lower(), content)
        else:
            found.append((word.lower(), {}))
    return [Challenge(scheme=scheme, parameters=parameters) for scheme, parameters in found]


def _parse_value(text: str, position: int) -> tuple[str, int]:
    """Return a parameter's value, quoted or not, and where it ends."""
    if text[position:position + 1] != '"':
        start = position
        while position < len(text) and text[position] not in _SEPARATORS:
            position += 1
        return text[start:position], position
    position += 1
    characters: list[str] = []
    while position < len(text) and text[position] != '"':
        if text[position] == "\\":
            position += 1
        characters.append(text[position:position + 1])
        position += 1
    return "".join(characters), position + 1


class Authorizer:
    """The answers to one server's challenges. May be used by many threads.

    `look_up` gives the credentials that the user has for it and is asked once, after the first challenge.
    """

    def __init__(self, base_url: str, look_up: Callable[[], Credentials | None], transport: Transport) -> None:
        self._base_url = base_url
        self._look_up = look_up
        self._transport = transport
        self._lock = threading.Lock()
        self._credentials: Credentials | None = None
        self._has_looked = False
        self._basic = ""
        self._tokens: dict[str, str] = {}

    def header(self, scope: str) -> str:
        """Return the Authorization header for a scope as far as it is known, or nothing."""
        return self._tokens.get(scope, "") or self._basic

    @property
    def credentials(self) -> Credentials | None:
        """The user's credentials for this server."""
        if not self._has_looked:
            self._credentials = self._look_up()
            self._has_looked = True
        return self._credentials

    def answer(self, values: Iterable[str], scope: str, refused: str) -> bool:
        """Get ready for another try after a 401; False when there is nothing better than the `refused` header.

        Raises Denied, Unreachable.
        """
        with self._lock:
            known = self.header(scope)
            if known and known != refused:
                return True  # another thread was quicker
            for challenge in sorted(parse_challenges(values), key=lambda found: found.scheme != "bearer"):
                if challenge.scheme == "bearer":
                    header = f"Bearer {self._fetch_token(challenge.parameters, scope)}"
                    self._tokens[scope] = header
                elif challenge.scheme == "basic" and self.credentials is not None and self.credentials.username:
                    header = self._basic = self.credentials.basic()
                else:
                    continue
                return header != refused
            return False

    def _fetch_token(self, parameters: dict[str, str], scope: str) -> str:
        if self.credentials is not None and self.credentials.registry_token:
            return self.credentials.registry_token
        realm = parameters.get("realm", "")
        self._judge_realm(realm)
        query: list[tuple[str, str]] = [("service", parameters["service"])] if parameters.get("service") else []
        # What we asked for, and whatever else the server says it takes (the source of a mount).
        scopes = [*filter(None, scope.split(" "))] or [*filter(None, parameters.get("scope", "").split(" "))]
        identity = self.credentials.identity_token if self.credentials else ""
        headers: dict[str, str] = {}
        if identity:
            form = [*query, ("client_id", _CLIENT_ID), ("grant_type", "refresh_token"), ("refresh_token", identity)]
            body = urlencode([*form, ("scope", " ".join(scopes))]).encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            response = self._transport.send("POST", realm, headers=headers, body=body)
        else:
            query += [("scope", one) for one in scopes]
            if self.credentials is not None and self.credentials.username:
                headers["Authorization"] = self.credentials.basic()
                query.append(("account", self.credentials.username))
            separator = "&" if urlsplit(realm).query else "?"
            response = self._transport.send("GET", f"{realm}{separator}{urlencode(query)}", headers=headers)
        with response:
            data = response.read_all(_MAX_TOKEN_BYTES)
            if response.status in (400, 401, 403):
                raise Denied(
                    f"log in to {urlsplit(self._base_url).netloc}: {shown(realm)} refuses",
                    hint="mydocker login has to be right first")
            if response.status != 200:
                raise Unavailable(f"log in to {urlsplit(self._base_url).netloc}: {shown(realm)} answers {response.status}")
        return _token_in(jsontext.loads(data, source=shown(realm)), realm)

    def _judge_realm(self, realm: str) -> None:
        """Refuse a token server that would have the secret over the wire in the clear. Raises Denied, Corrupt."""
        if not is_web_address(realm):
            raise Corrupt(f"log in to {urlsplit(self._base_url).netloc}: its token server {realm[:100]!r} is no web address")
        if urlsplit(realm).scheme == "http" and origin(self._base_url)[0] == "https":
            raise Denied(f"log in to {urlsplit(self._base_url).netloc}: its token server {shown(realm)} is without TLS")


def _token_in(answer: Any, realm: str) -> str:
    token = (answer.get("token") or answer.get("access_token")) if isinstance(answer, dict) else None
    # It becomes a header: no line break may be smuggled in.
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise Corrupt(f"read {shown(realm)}: its answer holds no token")
    return token
