"""What a registry client decides without speaking to anybody: names to servers, proxies, challenges, keys, waiting times."""
from __future__ import annotations

import base64
import json
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from mydocker.base.errors import Corrupt, InvalidRequest, Unsupported
from mydocker.oci import platform, reference
from mydocker.registry import auth, client, credentials, settings, transport


@pytest.mark.parametrize(("typed", "domain", "path", "tag"), [
    ("busybox", "docker.io", "library/busybox", "latest"), ("a/b", "docker.io", "a/b", "latest"),
    ("docker.io/busybox:1", "docker.io", "library/busybox", "1"), ("index.docker.io/a/b", "docker.io", "a/b", "latest"),
    ("localhost/x", "localhost", "x", "latest"), ("localhost:5000/x:2", "localhost:5000", "x", "2"),
    ("quay.io/a/b/c:d", "quay.io", "a/b/c", "d"), ("[::1]:5000/x", "[::1]:5000", "x", "latest"), ("Host/x", "Host", "x", "latest"),
])
def test_names_lead_where_docker_leads_them(typed: str, domain: str, path: str, tag: str) -> None:
    found = reference.parse(typed)
    assert (found.domain, found.path, found.tag) == (domain, path, tag)


def machine(**document: Any) -> settings.Settings:
    return settings.Settings(mirrors=document.get("mirrors", {}), insecure=tuple(document.get("insecure", ())))


def test_docker_hub_is_at_its_own_host_and_mirrors_come_first() -> None:
    found = machine(mirrors={"docker.io": ("https://mirror.example/hub",)}).endpoints("docker.io", with_mirrors=True)
    assert [(e.host, e.prefix, e.schemes, e.is_mirror) for e in found] == [
        ("mirror.example", "/hub", ("https",), True), ("registry-1.docker.io", "", ("https",), False)]
    assert len(machine(mirrors={"docker.io": ("https://m",)}).endpoints("docker.io", with_mirrors=False)) == 1


@pytest.mark.parametrize(("host", "insecure", "schemes", "verify"), [
    ("quay.io", (), ("https",), True), ("127.0.0.1:5000", (), ("https", "http"), True), ("localhost", (), ("https", "http"), True),
    ("127.9.9.9", (), ("https", "http"), True), ("[::1]:5000", (), ("https", "http"), True), ("127.0.0.1.evil.example", (), ("https",), True),
    ("10.1.2.3:5000", ("10.0.0.0/8",), ("https", "http"), False), ("11.1.2.3:5000", ("10.0.0.0/8",), ("https",), True),
    ("lan:5000", ("lan:5000",), ("https", "http"), False), ("lan:5001", ("lan:5000",), ("https",), True), ("lan:5000", ("lan",), ("https", "http"), False),
])
def test_tls_is_needed_except_here_and_where_declared(host: str, insecure: tuple[str, ...], schemes: tuple[str, ...], verify: bool) -> None:
    found = machine(insecure=insecure).endpoint(host)
    assert (found.schemes, found.verify) == (schemes, verify)


def test_settings_are_read_from_the_first_file_there_is(tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    second.write_text(json.dumps({"registry-mirrors": ["https://m.example"], "insecure-registries": ["http://lan:5000/"], "live-restore": True}))
    found = settings.load(["10.0.0.0/8"], [str(first), str(second)])
    assert found.mirrors == {"docker.io": ("https://m.example",)} and found.insecure == ("lan:5000", "10.0.0.0/8")
    first.write_text(json.dumps({"mirrors": {"quay.io": ["http://q"]}}))
    assert settings.load((), [str(first), str(second)]).mirrors == {"quay.io": ("http://q",), "docker.io": ()}
    for wrong in ("[]", '{"registry-mirrors": "x"}', '{"registry-mirrors": ["ftp://x"]}', '{"mirrors": []}', '{"insecure-registries": [1]}'):
        first.write_text(wrong)
        with pytest.raises(Corrupt):
            settings.load((), [str(first)])
    with pytest.raises(InvalidRequest):
        settings.load(["a/b"], [])


@pytest.mark.parametrize(("host", "exceptions", "is_direct"), [
    ("a.example", "", False), ("a.example", "*", True), ("a.example", "example", True), ("a.example", ".example", True),
    ("aexample", "example", False), ("a.example:5000", "a.example:5000", True), ("a.example:5000", "a.example:5001", False),
    ("10.2.3.4", "10.0.0.0/8", True), ("10.2.3.4:80", "192.168.0.0/16, 10.2.3.4", True), ("a.example", "b.example,a.example", True),
    ("127.0.0.1:5000", "", True), ("localhost", "", True), ("a.example", "junk/99", False),
])
def test_proxy_is_asked_unless_no_proxy_says_otherwise(host: str, exceptions: str, is_direct: bool) -> None:
    found = settings.proxy_for("https", host, {"HTTPS_PROXY": "proxy:3128", "NO_PROXY": exceptions})
    assert found == ("" if is_direct else "http://proxy:3128")


def test_proxy_of_the_scheme_counts() -> None:
    assert settings.proxy_for("http", "a.example", {"HTTPS_PROXY": "http://p:1"}) == ""
    assert settings.proxy_for("http", "a.example", {"http_proxy": "http://p:1"}) == "http://p:1"
    assert settings.proxy_for("http", "a.example", {"HTTP_PROXY": "http://evil", "REQUEST_METHOD": "GET"}) == ""
    assert settings.proxy_for("https", "a.example", {"ALL_PROXY": "http://p:1"}) == "http://p:1"


@pytest.mark.parametrize(("headers", "found"), [
    (['Bearer realm="https://a/t",service="s, with comma",scope="repository:x:pull,push"'],
     [("bearer", {"realm": "https://a/t", "service": "s, with comma", "scope": "repository:x:pull,push"})]),
    (['Basic realm="a \\"quoted\\" one"'], [("basic", {"realm": 'a "quoted" one'})]),
    (["Basic realm=x, Bearer realm=y,service=z"], [("basic", {"realm": "x"}), ("bearer", {"realm": "y", "service": "z"})]),
    (["Negotiate", "BEARER Realm=\"r\""], [("negotiate", {}), ("bearer", {"realm": "r"})]),
    ([""], []), (["=,=,"], []), (['Bearer realm="unclosed'], [("bearer", {"realm": "unclosed"})]), (["Bearer " + "x" * 100_000], [("bearer", {}), ("x" * 8185, {})]),
])
def test_challenges_are_read(headers: list[str], found: list[tuple[str, dict[str, str]]]) -> None:
    assert [(one.scheme, one.parameters) for one in auth.parse_challenges(headers)] == found


def test_credentials_are_found_as_docker_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    def encoded(text: str) -> dict[str, str]:
        return {"auth": base64.b64encode(text.encode()).decode()}

    assert credentials.find("a.example") is None
    (tmp_path / "config.json").write_text(json.dumps({"auths": {
        "https://index.docker.io/v1/": encoded("hub:p:with:colons"), "https://old.example/v1/": encoded("old:x"),
        "a.example:5000": {"identitytoken": "t", **encoded("me:")}, "empty.example": {}, "bad.example": {"auth": "!"},
        "plain.example": {"username": "u", "password": "p"}}}))

    def look(domain: str) -> tuple[str, str, str] | None:
        found = credentials.find(domain)
        return (found.username, found.password, found.identity_token) if found else None

    assert look("docker.io") == ("hub", "p:with:colons", "")
    assert look("old.example") == ("old", "x", "") and look("plain.example") == ("u", "p", "")
    assert look("a.example:5000") == ("me", "", "t")
    assert look("a.example") is look("empty.example") is look("evil-docker.io") is None
    with pytest.raises(Corrupt, match=r"bad\.example"):
        look("bad.example")
    assert "secret" not in repr(credentials.Credentials("me", "secret"))


def test_waiting_is_bounded() -> None:
    assert client._seconds("7") == 7 and client._seconds("") == 0 and client._seconds("soon") == 0
    assert client._seconds("9" * 400) == 1_000_000
    assert 25 < client._seconds(formatdate(__import__("time").time() + 30, usegmt=True)) <= 31


def test_urls_are_shown_without_what_opens_them() -> None:
    assert transport.shown("https://user:pass@host:5000/path?X-Signature=secret") == "https://host:5000/path"
    assert "\x1b" not in transport.shown("https://host/\x1b[2J")


@pytest.mark.parametrize(("typed", "shown"), [
    ("linux/amd64", "linux/amd64"), ("arm64", "linux/arm64/v8"), ("x86_64", "linux/amd64"), ("linux/arm/v6", "linux/arm/v6"),
    ("armhf", "linux/arm/v7"), ("LINUX/AMD64", "linux/amd64"),
])
def test_platforms_are_read_as_docker_reads_them(typed: str, shown: str) -> None:
    assert platform.shown(platform.parse(typed)) == shown


def test_platforms_that_are_none_are_refused() -> None:
    for wrong in ("", "linux", "a/b/c/d", "linux//v1", "linux/../x"):
        with pytest.raises((InvalidRequest, Unsupported)):
            platform.parse(wrong)
    with pytest.raises(Unsupported):
        platform.parse("windows/amd64")


def test_the_variant_asked_for_is_chosen() -> None:
    def entry(name: str, architecture: str, variant: str = "") -> Any:
        found = {"os": "linux", "architecture": architecture, **({"variant": variant} if variant else {})}
        return {"mediaType": "m", "digest": name, "size": 1, "platform": found}

    entries = [entry("6", "arm", "v6"), entry("7", "arm", "v7"), entry("64", "arm64", "v8"), entry("x", "amd64")]
    for typed, wanted in (("arm/v7", "7"), ("arm/v6", "6"), ("arm64", "64"), ("amd64", "x")):
        found = platform.choose(entries, platform.parse(typed))
        assert found is not None and found["digest"] == wanted
    assert platform.choose(entries, platform.parse("riscv64")) is None
