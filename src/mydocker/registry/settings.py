"""What this machine says about registries: mirrors, registries without TLS, certificates, proxies.

    /etc/mydocker/registries.json     ours; in its absence /etc/docker/daemon.json, whose words these are:
      "registry-mirrors": ["https://mirror.example"]          asked before Docker Hub
      "insecure-registries": ["registry.lan:5000", "10.0.0.0/8"]
      "mirrors": {"quay.io": ["https://mirror.example"]}       ours alone: mirrors of any registry
    /etc/docker/certs.d/<host[:port]>/  /etc/containers/certs.d/<host[:port]>/
      *.crt                            certificate authorities, besides the machine's
      NAME.cert NAME.key               a client certificate and its key

Reads files and the environment, and speaks to nobody. Knows nothing of HTTP.
"""
from __future__ import annotations

import ipaddress
import os

from mydocker.base import files
from mydocker.base.errors import Corrupt, InvalidRequest
from mydocker.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

PLACES = ("/etc/mydocker/registries.json", "/etc/docker/daemon.json")
CERTIFICATES = ("/etc/docker/certs.d", "/etc/containers/certs.d")
#: Where Docker Hub's name leads.
HUB, HUB_HOST = "docker.io", "registry-1.docker.io"


class Endpoint(Record):
    """One server that has the images of a registry.

    `host` is `name[:port]`, `prefix` a path before `/v2/` (mirrors may have one). `schemes` are tried in
    order; `verify` is false where a certificate that nobody vouches for is good enough.
    """

    host: str
    schemes: tuple[str, ...]
    prefix: str = ""
    verify: bool = True
    is_mirror: bool = False


class Settings(Record):
    """The machine's words, judged; `insecure` holds hosts, `host:port`s and networks."""

    mirrors: dict[str, tuple[str, ...]]
    insecure: tuple[str, ...]

    def endpoints(self, domain: str, *, with_mirrors: bool) -> list[Endpoint]:
        """Return who to ask for the images of `domain`, in order."""
        found = [self._mirror(url) for url in self.mirrors.get(domain, ())] if with_mirrors else []
        return [*found, self.endpoint(HUB_HOST if domain == HUB else domain)]

    def endpoint(self, host: str, prefix: str = "", schemes: tuple[str, ...] = (), *, is_mirror: bool = False) -> Endpoint:
        """Return the registry at `host[:port]`: TLS always, unless it is on this machine or declared insecure.

        One on the loopback device may do without TLS, as with Docker; where it has TLS, its certificate counts
        (Docker takes any).
        """
        is_declared = self.is_insecure(host)
        chosen = schemes or (("https", "http") if is_declared or is_loopback(host) else ("https",))
        return Endpoint(host=host, schemes=chosen, prefix=prefix, verify=not is_declared, is_mirror=is_mirror)

    def _mirror(self, url: str) -> Endpoint:
        scheme, _, rest = url.partition("://")
        host, _, path = rest.partition("/")
        prefix = f"/{path.strip('/')}" if path.strip("/") else ""
        return self.endpoint(host, prefix, (scheme,), is_mirror=True)

    def is_insecure(self, host: str) -> bool:
        """Tell whether somebody declared that a registry may do without TLS, or without a good certificate."""
        name, address = split_port(host)[0], address_of(host)
        for entry in self.insecure:
            if entry in (host, name):
                return True
            if address is not None and "/" in entry and address in ipaddress.ip_network(entry, strict=False):
                return True
        return False


def load(insecure: Iterable[str] = (), places: Iterable[str] = PLACES) -> Settings:
    """Return the machine's settings, with more insecure registries by the caller. Raises Corrupt, InvalidRequest."""
    document: dict[str, Any] = {}
    source = ""
    for source in places:
        try:
            loaded = files.load_json(source)
        except FileNotFoundError:
            continue
        if not isinstance(loaded, dict):
            raise Corrupt(f"read {source}: not an object")
        document = loaded
        break
    mirrors = {domain: _urls(urls, source) for domain, urls in _object(document.get("mirrors"), source).items()}
    mirrors[HUB] = (*mirrors.get(HUB, ()), *_urls(document.get("registry-mirrors"), source))
    declared = [*_strings(document.get("insecure-registries"), source), *insecure]
    return Settings(mirrors=mirrors, insecure=tuple(_judge_insecure(entry) for entry in declared))


def _strings(value: object, source: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Corrupt(f"read {source}: registries are a list of strings")
    return value


def _object(value: object, source: str) -> Mapping[str, object]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Corrupt(f'read {source}: "mirrors" is no object')
    return value


def _urls(value: object, source: str) -> tuple[str, ...]:
    for url in _strings(value, source):
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in ("http", "https") or not rest.partition("/")[0] or "@" in rest or "?" in rest:
            raise Corrupt(f"read {source}: {url[:100]!r} is no mirror", hint="write https://HOST[:PORT]")
    return tuple(_strings(value, source))


def _judge_insecure(entry: str) -> str:
    host = entry.partition("://")[2] or entry
    if "/" in host.rstrip("/"):
        try:
            ipaddress.ip_network(host, strict=False)
        except ValueError:
            raise InvalidRequest(
                f"insecure registry {entry[:100]!r}: it is no host and no network", hint="write HOST[:PORT] or ADDRESS/BITS"
            ) from None
        return host
    if not host.rstrip("/"):
        raise InvalidRequest("insecure registry: the name is empty", hint="write HOST[:PORT] or ADDRESS/BITS")
    return host.rstrip("/")


# --- hosts ----------------------------------------------------------------------------------------------


def split_port(host: str) -> tuple[str, str]:
    """Return name and port of `name[:port]`; the brackets of an IPv6 address are kept off."""
    if host.startswith("["):
        name, _, port = host[1:].partition("]")
        return name, port.removeprefix(":")
    name, _, port = host.partition(":")
    return name, port


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host is written as; None for a name. Nothing is looked up."""
    try:
        return ipaddress.ip_address(split_port(host)[0])
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine: `localhost`, 127.0.0.0/8, ::1."""
    address = address_of(host)
    return split_port(host)[0].lower() == "localhost" if address is None else address.is_loopback


def proxy_for(url_scheme: str, host: str, environ: Mapping[str, str] | None = None) -> str:
    """Return the proxy to reach a host by, or nothing; the rules are those of curl and Go (HTTPS_PROXY, NO_PROXY).

    Loopback is never asked of a proxy.
    """
    environ = os.environ if environ is None else environ
    names = [f"{url_scheme}_proxy", f"{url_scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"]
    if "REQUEST_METHOD" in environ:
        names.remove("HTTP_PROXY") if "HTTP_PROXY" in names else None  # CVE-2016-5386: in CGI it is a client's header
    proxy = next((environ[name] for name in names if environ.get(name)), "")
    if not proxy or is_loopback(host) or _is_direct(host, environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_direct(host: str, exceptions: str) -> bool:
    name, port = split_port(host.lower())
    address = address_of(host)
    for word in exceptions.lower().replace(" ", ",").split(","):
        if not word:
            continue
        if word == "*":
            return True
        if "/" in word:
            try:
                if address is not None and address in ipaddress.ip_network(word, strict=False):
                    return True
            except ValueError:
                pass  # no network: then it is a name that no host has
            continue
        wanted, wanted_port = split_port(word) if word.count(":") < 2 or word.startswith("[") else (word, "")
        if wanted_port and wanted_port != port:
            continue
        wanted = wanted.removeprefix("*")
        if name == wanted.removeprefix(".") or name.endswith(f".{wanted.removeprefix('.')}"):
            return True
    return False


def certificate_files(host: str, directories: Iterable[str] = CERTIFICATES) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the authorities and (certificate, key) pairs that the machine has for `host[:port]`. Raises InvalidRequest."""
    if "/" in host or host in ("", ".", ".."):
        return [], []
    authorities: list[str] = []
    pairs: list[tuple[str, str]] = []
    for directory in directories:
        place = f"{directory}/{host}"
        try:
            names = sorted(os.listdir(place))
        except (FileNotFoundError, NotADirectoryError):
            continue
        authorities += [f"{place}/{name}" for name in names if name.endswith(".crt")]
        for name in names:
            stem, _, suffix = name.rpartition(".")
            if suffix == "cert":
                if f"{stem}.key" not in names:
                    raise InvalidRequest(f"read {place}/{name}: its key {stem}.key is missing")
                pairs.append((f"{place}/{name}", f"{place}/{stem}.key"))
            elif suffix == "key" and f"{stem}.cert" not in names:
                raise InvalidRequest(
                    f"read {place}/{name}: its certificate {stem}.cert is missing",
                    hint="authorities end in .crt, certificates in .cert")
    return authorities, pairs
