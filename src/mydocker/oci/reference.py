"""References to images: `[domain/]path[:tag][@digest]`, as Docker writes and expands them.

Pure text. Source: distribution/reference (grammar), and Docker's familiar names: `busybox` is
stored as `docker.io/library/busybox:latest` and shown as `busybox:latest`. No regular expressions,
because importing `re` costs a start 4 ms.
"""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest
from mydocker.base.record import Record

from .digest import is_hex

DEFAULT_DOMAIN = "docker.io"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
MAX_NAME_CHARS = 255
MAX_TAG_CHARS = 128

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_TAG = _WORD | frozenset(".-")
_HOST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")


class Reference(Record):
    """A parsed reference; `tag` or `digest` may be empty, not both."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def canonical(self) -> str:
        """The full form, which index.json stores: `docker.io/library/busybox:latest`."""
        return _join(f"{self.domain}/{self.path}", self.tag, self.digest)

    @property
    def familiar(self) -> str:
        """The short form, which people see: `busybox:latest`."""
        return _join(self.familiar_name, self.tag, self.digest)

    @property
    def familiar_name(self) -> str:
        """The short form without tag and digest: `busybox`."""
        if self.domain != DEFAULT_DOMAIN:
            return f"{self.domain}/{self.path}"
        namespace, _, rest = self.path.partition("/")
        # `library/a/b` keeps its prefix: `a/b` would be expanded to something else.
        return rest if namespace == DEFAULT_NAMESPACE and rest and "/" not in rest else self.path


def parse(text: str) -> Reference:
    """Return the reference that a user's or an archive's text means. Raises InvalidRequest."""
    rest, at, digest = text.partition("@")
    if at and not (digest.startswith("sha256:") and len(digest) == 71 and is_hex(digest[7:])):
        raise _invalid(text, "the part after @ is not a sha256 digest")
    # A colon after the last slash starts the tag; one before it belongs to the registry's port.
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        name, tag = rest, ""
    elif not _is_tag(tag):
        raise _invalid(text, f"{tag[:40]!r} is not a tag")
    domain, path = _split_domain(name)
    if len(name) > MAX_NAME_CHARS:
        raise _invalid(text, f"the name is longer than {MAX_NAME_CHARS} characters")
    if not _is_domain(domain):
        raise _invalid(text, f"{domain[:40]!r} is not a registry's host name")
    for component in path.split("/"):
        if not _is_component(component):
            upper = "" if component == component.lower() else ": write it in lower case"
            raise _invalid(text, f"{component[:40]!r} cannot be part of a name{upper}")
    return Reference(domain=domain, path=path, tag=tag or ("" if digest else DEFAULT_TAG), digest=digest)


def is_reference(text: str) -> bool:
    """Tell whether `parse` would take the text."""
    try:
        parse(text)
    except InvalidRequest:
        return False
    return True


def _join(name: str, tag: str, digest: str) -> str:
    return f"{name}{':' if tag else ''}{tag}{'@' if digest else ''}{digest}"


def _invalid(text: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"image name {text[:100]!r}: {why}", hint="write NAME[:TAG], such as busybox:1.36")


def _split_domain(name: str) -> tuple[str, str]:
    """Docker's rule: the first component is a host when it holds a dot or a port, has an upper-case letter, or is localhost."""
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        domain = DEFAULT_DOMAIN if first == "index.docker.io" else first
        path = rest
    else:
        domain, path = DEFAULT_DOMAIN, name
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"{DEFAULT_NAMESPACE}/{path}"
    return domain, path


def _is_domain(domain: str) -> bool:
    if domain.startswith("["):
        address, bracket, port = domain[1:].partition("]")
        host_is_good = bool(bracket) and bool(address) and frozenset("0123456789abcdefABCDEF:").issuperset(address)
        colon, port = port[:1], port[1:]
    else:
        host, colon, port = domain.partition(":")
        host_is_good = all(_is_host_component(part) for part in host.split("."))
    return host_is_good and (port.isascii() and port.isdigit() if colon else not port)


def _is_host_component(part: str) -> bool:
    return bool(part) and _HOST.issuperset(part) and part[0] != "-" and part[-1] != "-"


def _is_component(component: str) -> bool:
    """Lower-case words joined by one `.`, one or two `_`, or any number of `-`."""
    if not component or component[0] not in _LOWER or component[-1] not in _LOWER:
        return False
    separator = ""
    for character in component:
        if character in _LOWER:
            if separator not in ("", ".", "_", "__") and separator.strip("-"):
                return False
            separator = ""
        elif character in "._-":
            separator += character
        else:
            return False
    return True


def _is_tag(tag: str) -> bool:
    return 0 < len(tag) <= MAX_TAG_CHARS and tag[0] in _WORD and _TAG.issuperset(tag)
