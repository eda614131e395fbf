"""User names and secrets for registries, in `~/.docker/config.json` as Docker keeps them, or with a credential helper.

    "auths": {"registry.lan:5000": {"auth": base64("user:password")}}     what `login` writes without a helper
    "credHelpers": {"registry.lan:5000": "pass"}, "credsStore": "pass"    docker-credential-pass get|store|erase

Docker Hub's entry is `https://index.docker.io/v1/`. The directory is $DOCKER_CONFIG, or `.docker` in the home.
A secret is never part of a message, a log line or a repr.
Source: docker/cli cli/config, and the protocol of docker/docker-credential-helpers.
"""
from __future__ import annotations

import base64
import binascii
import os

from mydocker.base import files, jsontext
from mydocker.base.errors import Corrupt, InvalidRequest, MydockerError, Unavailable

from .settings import HUB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HUB_KEY = "https://index.docker.io/v1/"
#: A helper gives this for a user name when the secret is an identity token (OAuth2 refresh token).
_TOKEN_USER = "<token>"
_HELPER_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_HELPER_TIMEOUT_S = 60
_MAX_HELPER_BYTES = 1 << 20


class Credentials:
    """Who to be at a registry: a user and a password, or an identity token. Its repr tells neither secret."""

    __slots__ = ("identity_token", "password", "registry_token", "username")

    def __init__(self, username: str = "", password: str = "", *, identity_token: str = "", registry_token: str = "") -> None:
        self.username = username
        self.password = password
        self.identity_token = identity_token
        self.registry_token = registry_token

    def __repr__(self) -> str:
        return f"<Credentials of {self.username!r}>"

    def basic(self) -> str:
        """Return the value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def config_path() -> str:
    """The file that Docker's command line reads."""
    directory = os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
    return f"{directory}/config.json"


def key_of(domain: str) -> str:
    """Return the name under which a registry's credentials are stored."""
    return HUB_KEY if domain in (HUB, "index.docker.io", "registry-1.docker.io") else domain


def host_of(key: str) -> str:
    """Return the registry that a key of `auths` means: old entries are URLs."""
    host = (key.partition("://")[2] or key).partition("/")[0]
    return HUB if host in ("index.docker.io", "registry-1.docker.io") else host


def find(domain: str) -> Credentials | None:
    """Return the credentials that the user has for a registry, or None. Raises Corrupt, Unavailable (helper)."""
    document = _load()
    helper = _helper_for(document, domain)
    if helper:
        found = _ask_helper(helper, key_of(domain))
        if found is not None:
            return found
    return _from_auths(document, domain)


def _from_auths(document: dict[str, Any], domain: str) -> Credentials | None:
    auths = _section(document, "auths")
    wanted = host_of(key_of(domain))
    entry = auths.get(key_of(domain))
    if entry is None:
        entry = next((auths[key] for key in auths if host_of(key) == wanted), None)
    if not isinstance(entry, dict) or not entry:
        return None
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        username, password = _decode(str(entry["auth"]), domain)
    identity, token = str(entry.get("identitytoken") or ""), str(entry.get("registrytoken") or "")
    if not (username or identity or token):
        return None
    return Credentials(username, password, identity_token=identity, registry_token=token)


def _decode(text: str, domain: str) -> tuple[str, str]:
    try:
        username, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        colon = ""
    if not colon:
        raise Corrupt(f"read {config_path()}: the entry of {domain} is no base64 of user:password", hint="mydocker login again")
    return username, password.rstrip("\0")  # old Dockers padded it


def store(domain: str, credentials: Credentials) -> str:
    """Keep credentials for a registry; returns where: the file, or the helper's name. Raises Unavailable, OSError."""
    document = _load()
    key = key_of(domain)
    helper = _helper_for(document, domain)
    if helper:
        user = _TOKEN_USER if credentials.identity_token else credentials.username
        secret = credentials.identity_token or credentials.password
        _run_helper(helper, "store", jsontext.dumps({"ServerURL": key, "Username": user, "Secret": secret}))
        entry: dict[str, str] = {}  # Docker, too, notes who the helper knows, without the secret
    else:
        entry = {"auth": base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()}
        if credentials.identity_token:
            entry["identitytoken"] = credentials.identity_token
    document.setdefault("auths", {})
    _section(document, "auths")[key] = entry
    _save(document)
    return f"docker-credential-{helper}" if helper else config_path()


def erase(domain: str) -> bool:
    """Forget the credentials for a registry; tells whether there were any. Raises Unavailable (helper), OSError."""
    document = _load()
    was_there = find(domain) is not None
    helper = _helper_for(document, domain)
    if helper and was_there:
        _run_helper(helper, "erase", key_of(domain))
    auths = _section(document, "auths")
    wanted = host_of(key_of(domain))
    gone = [key for key in auths if host_of(key) == wanted]
    for key in gone:
        del auths[key]
    if gone:
        _save(document)
    return was_there or bool(gone)


# --- the file -------------------------------------------------------------------------------------------


def _load() -> dict[str, Any]:
    path = config_path()
    try:
        document = files.load_json(path)
    except FileNotFoundError:
        return {}
    if not isinstance(document, dict):
        raise Corrupt(f"read {path}: not an object")
    return document


def _section(document: dict[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Corrupt(f"read {config_path()}: {name} is not an object")
    return value


def _save(document: dict[str, Any]) -> None:
    """Replace the file, readable by nobody else; what a link leads to is replaced, not the link."""
    import json  # cold: people read and edit this file

    path = os.path.realpath(config_path())
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    files.replace_bytes(path, json.dumps(document, indent="\t").encode() + b"\n", mode=0o600, durable=True)


# --- helpers ---------------------------------------------------------------------------------------------


def _helper_for(document: dict[str, Any], domain: str) -> str:
    helpers = _section(document, "credHelpers")
    wanted = host_of(key_of(domain))
    name = next((helpers[key] for key in helpers if host_of(key) == wanted), None) or document.get("credsStore") or ""
    # The name becomes part of a program's: no path may be made of it.
    if not isinstance(name, str) or not _HELPER_CHARACTERS.issuperset(name):
        raise InvalidRequest(f"read {config_path()}: {str(name)[:60]!r} is not the name of a credential helper")
    return name


def _ask_helper(helper: str, key: str) -> Credentials | None:
    try:
        answer = jsontext.loads(_run_helper(helper, "get", key), source=f"docker-credential-{helper}")
    except _NotKept:
        return None
    if not isinstance(answer, dict) or not isinstance(answer.get("Username"), str) or not isinstance(answer.get("Secret"), str):
        raise Corrupt(f"docker-credential-{helper} get: its answer holds no credentials")
    username, secret = answer["Username"], answer["Secret"]
    if not username and not secret:
        return None
    return Credentials(identity_token=secret) if username == _TOKEN_USER else Credentials(username, secret)


class _NotKept(MydockerError):
    """The helper has nothing for this registry."""


def _run_helper(helper: str, verb: str, text: str) -> bytes:
    """Run `docker-credential-<helper> <verb>`: no shell, one line in, a bounded answer out. Raises _NotKept, Unavailable."""
    import subprocess  # cold

    program = f"docker-credential-{helper}"
    try:
        process = subprocess.Popen(
            [program, verb], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, close_fds=True)
    except OSError as error:
        raise Unavailable(f"run {program}: {(error.strerror or str(error)).lower()}", hint=f"see {config_path()}") from error
    try:
        output, _ = process.communicate(text.encode(), timeout=_HELPER_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"run {program} {verb}: no answer in {_HELPER_TIMEOUT_S} s") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode == 0 and len(output) <= _MAX_HELPER_BYTES:
        return output
    # What it says on failure is a message by the protocol; a fixed one means that it has nothing.
    message = output[:200].decode("utf-8", "replace").strip()
    if "credentials not found" in message or "no credentials" in message.lower():
        raise _NotKept(f"{program}: nothing")
    # Not where it was given a secret, nor where it may have given one.
    is_safe = verb == "get" and process.returncode and "Secret" not in message
    told = "".join(c if c.isprintable() else " " for c in message) if is_safe else ""
    raise Unavailable(
        f"run {program} {verb}: it failed ({process.returncode}){f': {told}' if told else ''}", hint=f"see {config_path()}")
