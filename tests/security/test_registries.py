"""What a hostile registry, or whoever sits between, tries: documents that mean two things, secrets led elsewhere, floods.

Each server answers as the test says; what must hold is that nothing is stored, nothing leaks, and memory stays bounded.
"""
from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from harness import Mydocker
from image_rig import digest, image_config, member, tar
from registry_rig import Answer, Answering, Asked, Authority, descriptor, new_image, random_bytes, serve_image

from mydocker import Engine
from mydocker.base.errors import Unavailable
from mydocker.oci import media_types
from mydocker.registry import transfer

pytestmark = pytest.mark.needs("root", "overlay")

SECRET = "hunter2-very-secret"
LAYER = tar(member("file", b"content"))


@pytest.fixture
def home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return str(tmp_path)


def log_in(home: str, *hosts: str) -> str:
    """Give the user a secret for hosts; returns what must not be seen elsewhere."""
    encoded = base64.b64encode(f"me:{SECRET}".encode()).decode()
    with open(f"{home}/config.json", "w") as file:
        json.dump({"auths": {host: {"auth": encoded} for host in hosts}}, file)
    return encoded


def snapshot(mydocker: Mydocker) -> list[str]:
    """Every file of the store."""
    return sorted(f"{top}/{name}" for top, _, names in os.walk(mydocker.root) for name in names if "/layer/host-" not in top)


def refused(mydocker: Mydocker, answer: Callable[[Asked], Answer], *, name: str = "image:1", **options: Any) -> tuple[str, list[Asked]]:
    """Pull from a server, check that it fails and leaves nothing; returns the error and what the server was asked."""
    before = snapshot(mydocker)
    with Answering(answer) as server:
        error = mydocker("pull", f"{server.host}/{name}", code=125, **options).one_error_line()
    assert snapshot(mydocker) == before
    return error, server.asked


# --- digests and documents -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [
    "sha256:../../../../etc/passwd", f"sha256:{'A' * 64}", f"sha256:{'0' * 63}", f"md5:{'0' * 32}", "sha256:", "", None, 7,
    f"sha256:{'0' * 64}/../x", f"sha512:{'0' * 128}",
])
@pytest.mark.parametrize("place", ["config", "layers"])
def test_digest_that_is_none_is_refused_and_never_asked_for(mydocker: Mydocker, bad: object, place: str) -> None:
    manifest, blobs = new_image(LAYER)
    entry = manifest[place][0] if place == "layers" else manifest[place]
    entry["digest"] = bad
    error, asked = refused(mydocker, serve_image(manifest, blobs))
    assert "is not a sha256 digest" in error
    assert not [request for request in asked if "/blobs/" in request.path]


def test_document_that_is_manifest_and_index_is_neither(mydocker: Mydocker) -> None:
    manifest, blobs = new_image(LAYER)
    both = {**manifest, "manifests": [descriptor(b"x", media_types.MEDIA_MANIFEST)]}
    assert "cannot hold manifests" in refused(mydocker, serve_image(both, blobs))[0]
    assert "cannot hold layers" in refused(mydocker, serve_image({**both, "mediaType": media_types.MEDIA_INDEX}, blobs))[0]


def test_server_and_document_must_agree_on_what_it_is(mydocker: Mydocker) -> None:
    manifest, blobs = new_image(LAYER)
    told = json.dumps(manifest).encode()

    def other_type(asked: Asked) -> Answer | None:
        return (200, {"Content-Type": media_types.MEDIA_INDEX}, told) if "/manifests/" in asked.path else None

    assert "it says it is" in refused(mydocker, serve_image(manifest, blobs, other_type))[0]


def test_schema_1_is_refused_by_name(mydocker: Mydocker) -> None:
    old = {"schemaVersion": 1, "name": "a", "tag": "1", "fsLayers": [], "history": [], "signatures": []}
    assert "schema 1" in refused(mydocker, serve_image(old, []))[0]


@pytest.mark.parametrize("name", ["image:1", f"image@{digest(b'what was signed')}"])
def test_signed_schema_1_whose_digest_is_of_what_was_signed_is_refused_by_name(mydocker: Mydocker, name: str) -> None:
    headers = {
        "Content-Type": "application/vnd.docker.distribution.manifest.v1+prettyjws", "Docker-Content-Digest": digest(b"what was signed"),
    }
    old = {"schemaVersion": 1, "name": "a", "tag": "1", "fsLayers": [], "history": [], "signatures": [{"signature": "x"}]}
    answers = serve_image(old, [], lambda asked: (200, headers, json.dumps(old).encode()) if "/manifests/" in asked.path else None)
    assert "image manifest schema 1; save or push it again" in refused(mydocker, answers, name=name)[0]


def test_bytes_with_another_digest_are_refused(mydocker: Mydocker) -> None:
    manifest, blobs = new_image(LAYER, compress=bytes)
    stored = blobs[1]

    def other_layer(asked: Asked) -> Answer | None:
        return (200, {}, stored[:-1] + b"!") if asked.path.endswith(digest(stored)) else None

    assert "its bytes have digest" in refused(mydocker, serve_image(manifest, blobs, other_layer))[0]
    assert "its bytes have digest" in refused(mydocker, serve_image(manifest, blobs), name=f"image@sha256:{'1' * 64}")[0]

    def other_config(asked: Asked) -> Answer | None:
        return (200, {}, blobs[0].replace(b"amd64", b"AMD64")) if asked.path.endswith(digest(blobs[0])) else None

    assert "its bytes have digest" in refused(mydocker, serve_image(manifest, blobs, other_config))[0]


def test_layer_whose_diff_id_is_another_is_refused(mydocker: Mydocker) -> None:
    manifest, blobs = new_image(LAYER)
    config = image_config(tar(member("other")))
    manifest["config"] = descriptor(config, media_types.MEDIA_CONFIG)
    assert "its diff id is" in refused(mydocker, serve_image(manifest, [config, blobs[1]]))[0]


# --- secrets -----------------------------------------------------------------------------------------------


def test_foreign_layer_is_refused_and_its_address_never_asked(mydocker: Mydocker, home: str) -> None:
    with Answering(lambda _: (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")) as elsewhere:
        manifest, blobs = new_image(LAYER)
        manifest["layers"][0]["urls"] = [f"http://{elsewhere.host}/layer"]
        assert "foreign layer" in refused(mydocker, serve_image(manifest, blobs))[0]
        manifest["layers"][0] = descriptor(blobs[1], "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
        assert "foreign layer" in refused(mydocker, serve_image(manifest, blobs))[0]
        assert elsewhere.asked == []


def basic(asked: Asked) -> Answer | None:
    """Ask for a password."""
    return None if asked.headers.get("Authorization") else (401, {"WWW-Authenticate": 'Basic realm="here"'}, b"")


def test_redirect_to_another_host_goes_without_the_secret(mydocker: Mydocker, home: str) -> None:
    manifest, blobs = new_image(LAYER)
    found = {digest(data): data for data in blobs}
    with Answering(lambda asked: (200, {}, found[asked.path.rpartition("/")[2]])) as elsewhere:
        def change(asked: Asked) -> Answer | None:
            if "/blobs/" in asked.path and asked.headers.get("Authorization"):
                return 307, {"Location": f"http://{elsewhere.host}/{asked.path.rpartition('/')[2]}"}, b""
            return basic(asked)

        with Answering(serve_image(manifest, blobs, change)) as server:
            encoded = log_in(home, server.host)
            done = mydocker("--debug", "pull", f"{server.host}/image:1")
        assert encoded not in done.err and SECRET not in done.err
        assert len(elsewhere.asked) == 2
        assert not [request for request in elsewhere.asked if request.headers.get("Authorization")]


def test_host_that_a_redirect_leads_to_cannot_ask_for_the_secret(mydocker: Mydocker, home: str) -> None:
    manifest, blobs = new_image(LAYER)
    with Answering(lambda _: (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")) as elsewhere:
        def change(asked: Asked) -> Answer | None:
            return (307, {"Location": f"http://{elsewhere.host}/x"}, b"") if "/blobs/" in asked.path else basic(asked)

        with Answering(serve_image(manifest, blobs, change)) as server:
            log_in(home, server.host, elsewhere.host)
            assert "denies access" in mydocker("pull", f"{server.host}/image:1", code=125).one_error_line()
        assert elsewhere.asked and not [request for request in elsewhere.asked if request.headers.get("Authorization")]


def test_token_is_for_the_registry_and_the_password_for_its_token_server(mydocker: Mydocker, home: str) -> None:
    manifest, blobs = new_image(LAYER)
    with Answering(lambda _: (200, {}, b'{"token": "the-token", "expires_in": 300}')) as tokens:
        def change(asked: Asked) -> Answer | None:
            if asked.headers.get("Authorization") == "Bearer the-token":
                return None
            challenge = f'Bearer realm="http://{tokens.host}/token",service="rig",scope="repository:image:pull"'
            return 401, {"WWW-Authenticate": challenge}, b""

        with Answering(serve_image(manifest, blobs, change)) as server:
            encoded = log_in(home, server.host)
            mydocker("pull", f"{server.host}/image:1")
    assert [request.headers.get("Authorization") for request in tokens.asked] == [f"Basic {encoded}"]
    assert "service=rig" in tokens.asked[0].path and "scope=repository%3Aimage%3Apull" in tokens.asked[0].path
    assert {request.headers.get("Authorization") for request in server.asked} == {None, "Bearer the-token"}


@pytest.mark.parametrize("token", ['{"token": "a\\r\\nX-Evil: 1"}', '{"token": 7}', "{}", "[]", "no json"])
def test_token_that_is_none_is_refused(mydocker: Mydocker, home: str, token: str) -> None:
    with Answering(lambda _: (200, {}, token.encode())) as tokens:
        challenge = {"WWW-Authenticate": f'Bearer realm="http://{tokens.host}/token"'}
        refused(mydocker, lambda asked: (401, challenge, b""))


def test_registry_with_tls_cannot_have_the_password_sent_in_the_clear(mydocker: Mydocker, home: str, tmp_path: Any) -> None:
    authority = Authority(str(tmp_path))
    manifest, blobs = new_image(LAYER)
    with Answering(lambda _: (200, {}, b'{"token": "t"}')) as plain:
        def ask_token(_: Asked) -> Answer | None:
            return 401, {"WWW-Authenticate": f'Bearer realm="http://{plain.host}/token"'}, b""

        def lead_away(asked: Asked) -> Answer | None:
            return (307, {"Location": f"http://{plain.host}/x"}, b"") if "/blobs/" in asked.path else None

        for change, told in ((ask_token, "is without TLS"), (lead_away, "without TLS")):
            with Answering(serve_image(manifest, blobs, change), tls=authority) as server, authority.trusted_for(server.host):
                log_in(home, server.host)
                assert told in mydocker("pull", f"{server.host}/image:1", code=125).one_error_line()
        assert plain.asked == []


def test_certificate_counts_unless_somebody_said_that_it_does_not(mydocker: Mydocker, tmp_path: Any, home: str) -> None:
    authority = Authority(str(tmp_path))
    manifest, blobs = new_image(LAYER)
    with Answering(serve_image(manifest, blobs), tls=authority) as server:
        name = f"{server.host}/image:1"
        assert "certificate is not to be trusted" in mydocker("pull", name, code=125).one_error_line()
        assert server.asked == []
        with authority.trusted_for(server.host):
            mydocker("pull", name)
        mydocker("pull", "--insecure-registry", server.host, name)


def test_client_certificate_of_the_machine_is_shown(mydocker: Mydocker, tmp_path: Any) -> None:
    import ssl

    authority = Authority(str(tmp_path))
    manifest, blobs = new_image(LAYER)
    server = Answering(serve_image(manifest, blobs))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate, authority.key)
    context.load_verify_locations(authority.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    with server, authority.trusted_for(server.host):
        place = f"/etc/docker/certs.d/{server.host}"
        mydocker("pull", f"{server.host}/image:1", code=125)
        try:
            os.link(authority.certificate, f"{place}/client.cert")
            assert "its key client.key is missing" in mydocker("pull", f"{server.host}/image:1", code=125).one_error_line()
            os.link(authority.key, f"{place}/client.key")
            mydocker("pull", f"{server.host}/image:1")
        finally:
            for name in ("client.cert", "client.key"):
                os.unlink(f"{place}/{name}")


def test_text_of_a_registry_cannot_write_to_the_terminal(mydocker: Mydocker) -> None:
    evil = json.dumps({"errors": [{"code": "X", "message": "\x1b]0;owned\x07\r\nmydocker: all is well" + "x" * 5000}]}).encode()
    error, _ = refused(mydocker, lambda asked: (200, {}, b"") if asked.path == "/v2/" else (403, {}, evil))
    assert "\x1b" not in error and "\r" not in error and len(error) < 600


# --- floods --------------------------------------------------------------------------------------------------


def peak_memory(mydocker: Mydocker, *words: str) -> tuple[int, str]:
    """Run a command that has to fail; returns the most it had in memory, and its error."""
    # A small process in between: what a child has at its start, before execve, is the size of its parent.
    program = "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode; " \
              "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    done = subprocess.run(
        [sys.executable, "-c", program, *mydocker.argv, *words], env=mydocker.environ(), capture_output=True, text=True, check=True)
    code, resident_kb = map(int, done.stdout.split())
    assert code == 125, done.stderr
    return resident_kb, done.stderr


@pytest.mark.parametrize("path", ["/manifests/", "/blobs/", "/tags/", "/v2/"])
def test_answer_without_end_is_cut_off(mydocker: Mydocker, path: str) -> None:
    manifest, blobs = new_image(LAYER)
    flood = b"[" * (96 << 20)

    def change(asked: Asked) -> Answer | None:
        return (200, {"Content-Type": media_types.MEDIA_MANIFEST}, flood) if path in asked.path and (path != "/v2/" or asked.path == path) else None

    with Answering(serve_image(manifest, blobs, change)) as server:
        words = ("pull", "-a", f"{server.host}/image") if path == "/tags/" else ("pull", f"{server.host}/image:1")
        if path == "/v2/":
            mydocker(*words)  # what `/v2/` says is of no interest
            return
        resident_kb, error = peak_memory(mydocker, *words)
    assert "larger than" in error or "more bytes" in error
    assert resident_kb < 150_000


def test_descriptor_may_not_lie_about_sizes(mydocker: Mydocker) -> None:
    manifest, blobs = new_image(LAYER)
    for size in (-1, 1 << 63, "7", True, None):
        manifest["layers"][0]["size"] = size
        assert "is not a size" in refused(mydocker, serve_image(manifest, blobs))[0]
    manifest["layers"][0]["size"] = 3
    assert "more bytes than" in refused(mydocker, serve_image(manifest, blobs))[0]
    manifest["layers"][0]["size"] = len(blobs[1])
    manifest["config"]["size"] = 1 << 40
    assert "are no document" in refused(mydocker, serve_image(manifest, blobs))[0]


def test_redirects_in_a_circle_end(mydocker: Mydocker) -> None:
    error, asked = refused(mydocker, lambda asked: (200, {}, b"") if asked.path == "/v2/" else (302, {"Location": asked.path}, b""))
    assert "more than 10 redirects" in error and len(asked) == 11


@pytest.mark.parametrize("target", [
    "file:///etc/passwd", "gopher://x/", "http://user:pass@127.0.0.1/", "", "http://127.0.0.1:99999/", "http://127.0.0.1:x/", "http://[::1/",
])
def test_redirect_to_what_is_no_web_address_is_refused(mydocker: Mydocker, target: str) -> None:
    error, _ = refused(mydocker, lambda asked: (200, {}, b"") if asked.path == "/v2/" else (302, {"Location": target}, b""))
    assert "redirects to no web address" in error


@pytest.mark.parametrize("realm", ["ftp://x/", "https://127.0.0.1:99999/", "https://[::1/", "x" * 5000])
def test_token_server_that_is_no_web_address_is_refused(mydocker: Mydocker, realm: str) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{realm}"'}
    error, _ = refused(mydocker, lambda asked: (401, challenge, b""))
    assert "is no web address" in error and len(error) < 600


@pytest.mark.parametrize("link", ["<http://[::1/>", "<//127.0.0.1:99999/>", "<ftp://x/y>"])
def test_next_page_of_tags_at_no_web_address_is_refused(mydocker: Mydocker, link: str) -> None:
    def serve(asked: Asked) -> Answer:
        return (200, {"Link": f'{link}; rel="next"'} if "tags" in asked.path else {}, b'{"tags": []}')

    with Answering(serve) as server:
        assert "is at no web address" in mydocker("pull", "--all-tags", f"{server.host}/image", code=125).one_error_line()


# --- failures that pass ----------------------------------------------------------------------------------------


def test_busy_registry_is_asked_again_when_it_says_so(mydocker: Mydocker) -> None:
    manifest, blobs = new_image(LAYER)
    counts = {"manifests": 0, "blobs": 0}

    def change(asked: Asked) -> Answer | None:
        for kind, count in counts.items():
            if f"/{kind}/" in asked.path:
                counts[kind] = count + 1
                if count == 0:
                    wait = "2" if kind == "manifests" else "1"
                    return 429, {"Retry-After": wait}, b'{"errors":[{"code":"TOOMANYREQUESTS"}]}'
                if count == 1:
                    return 503, {}, b""
        return None

    with Answering(serve_image(manifest, blobs, change)) as server:
        told = mydocker("pull", f"{server.host}/image:1").err
    assert counts["manifests"] == 3
    assert told.count("allows no more requests now") == told.count("trying again in 2 s") == 1  # who waits is told for what


def test_registry_that_wants_hours_is_told_about(mydocker: Mydocker) -> None:
    error, asked = refused(
        mydocker, lambda asked: (200, {}, b"") if asked.path == "/v2/" else (429, {"Retry-After": "7200"}, b""))
    assert "allows no more requests now" in error and "7200 s" in error and len(asked) == 2


@pytest.mark.parametrize("has_ranges", [True, False])
def test_broken_connection_is_gone_on_with(mydocker: Mydocker, has_ranges: bool) -> None:
    layer = tar(member("big", random_bytes(3_000_000)))
    manifest, blobs = new_image(layer)
    stored = blobs[1]
    asked_from: list[int] = []

    def change(asked: Asked) -> Answer | None:
        if not asked.path.endswith(digest(stored)):
            return None
        start = int((asked.headers.get("Range") or "bytes=0-")[6:-1])
        asked_from.append(start)
        part = stored[start:] if has_ranges else stored
        status = 206 if start and has_ranges else 200
        headers = {"Content-Length": str(len(part))}
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{len(stored) - 1}/{len(stored)}"
        return status, headers, part if len(asked_from) > 3 else part[:700_000 * (1 if has_ranges else len(asked_from))]

    with Answering(serve_image(manifest, blobs, change)) as server:
        mydocker("pull", f"{server.host}/image:1")
    assert len(asked_from) == 4 and asked_from == sorted(asked_from) and asked_from[1] > 0


def test_other_part_than_asked_for_is_refused(mydocker: Mydocker) -> None:
    manifest, blobs = new_image(tar(member("big", random_bytes(1_000_000))))
    stored = blobs[1]

    def change(asked: Asked) -> Answer | None:
        if not asked.path.endswith(digest(stored)):
            return None
        if asked.headers.get("Range"):
            return 206, {"Content-Range": f"bytes 0-9/{len(stored)}"}, stored[:10]
        return 200, {"Content-Length": str(len(stored))}, stored[:300_000]

    assert "another part than was asked for" in refused(mydocker, serve_image(manifest, blobs, change))[0]


def test_connection_that_always_breaks_is_given_up(mydocker: Mydocker) -> None:
    manifest, blobs = new_image(LAYER)

    def change(asked: Asked) -> Answer | None:
        return (200, {"Content-Length": "1000"}, b"") if asked.path.endswith(digest(blobs[1])) else None

    error, asked = refused(mydocker, serve_image(manifest, blobs, change))
    assert len([request for request in asked if request.path.endswith(digest(blobs[1]))]) == 5
    assert "connection" in error


def test_mirror_is_asked_first_and_need_not_be_there(mydocker: Mydocker, tmp_path: Any) -> None:
    from mydocker.base.paths import Layout
    from mydocker.image import distribution
    from mydocker.registry import settings

    manifest, blobs = new_image(LAYER)
    with Answering(serve_image(manifest, blobs)) as mirror, Answering(serve_image(manifest, blobs)) as origin:
        def pull(*mirrors: str) -> None:
            place = tmp_path / "registries.json"
            place.write_text(json.dumps({"mirrors": {origin.host: mirrors}}))
            machine = settings.load((), [str(place)])
            original, settings.load = settings.load, lambda *_: machine
            try:
                distribution.pull(Layout(f"{mydocker.root}"), f"{origin.host}/image:1")
            finally:
                settings.load = original

        pull(f"http://{mirror.host}")
        assert mirror.asked and not origin.asked
        mydocker("rmi", f"{origin.host}/image:1")
        pull("http://127.0.0.1:1")
        assert origin.asked
    busy = (503, {"Retry-After": "30"}, b"")
    with Answering(lambda _: busy) as mirror, Answering(serve_image(manifest, blobs)) as origin:
        pull(f"http://{mirror.host}")  # at once: the test has no 30 seconds
        assert mirror.asked and origin.asked


def test_proxy_is_asked_for_other_machines(mydocker: Mydocker, tmp_path: Any) -> None:
    manifest, blobs = new_image(LAYER)
    answer = serve_image(manifest, blobs)

    def behind(asked: Asked) -> Answer:
        asked.path = asked.path.removeprefix("http://registry.invalid:5000")
        return answer(asked)

    program = "import sys; from mydocker.base.paths import Layout; from mydocker.image import distribution; " \
              "from mydocker.registry import settings; load = settings.load; " \
              "settings.load = lambda *_: load((), [sys.argv[1]]); distribution.pull(Layout(sys.argv[2]), sys.argv[3])"
    place = tmp_path / "registries.json"
    place.write_text(json.dumps({"mirrors": {"registry.invalid:5000": ["http://registry.invalid:5000"]}}))
    with Answering(behind) as proxy:
        done = subprocess.run(
            [sys.executable, "-c", program, str(place), mydocker.root, "registry.invalid:5000/image:1"], check=False,
            env={**os.environ, "HTTP_PROXY": f"http://us%40er:se%3Acret@{proxy.host}"}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert base64.b64decode(proxy.asked[0].headers["Proxy-Authorization"].split()[1]) == b"us@er:se:cret"


def test_identity_token_is_exchanged_for_an_access_token(mydocker: Mydocker, home: str) -> None:
    manifest, blobs = new_image(LAYER)
    with Answering(lambda asked: (200, {}, b'{"access_token": "short"}')) as tokens:
        def change(asked: Asked) -> Answer | None:
            if asked.headers.get("Authorization") == "Bearer short":
                return None
            return 401, {"WWW-Authenticate": f'Bearer realm="http://{tokens.host}/token",service="rig"'}, b""

        with Answering(serve_image(manifest, blobs, change)) as server:
            with open(f"{home}/config.json", "w") as file:
                json.dump({"auths": {server.host: {"identitytoken": SECRET}}}, file)
            mydocker("pull", f"{server.host}/image:1")
    assert tokens.asked[0].method == "POST" and f"refresh_token={SECRET}" in tokens.asked[0].body.decode()
    assert SECRET not in tokens.asked[0].path and not [one for one in server.asked if SECRET in str(one.headers)]


@pytest.mark.parametrize("forgets", [False, True], ids=["resumed", "begun again"])
def test_broken_upload_goes_on_where_the_registry_is(engine: Engine, monkeypatch: pytest.MonkeyPatch, forgets: bool) -> None:
    monkeypatch.setattr(transfer, "PIECE_BYTES", 100_000)
    engine.images.import_tar(io.BytesIO(tar(member("big", random_bytes(450_000)))), "upload:1")
    uploads: dict[str, bytes] = {}
    stored: dict[str, bytes] = {}
    broken: list[str] = []

    def answer(asked: Asked) -> Answer:
        path, _, query = asked.path.partition("?")
        key = path.rpartition("/")[2]
        if path == "/v2/" or asked.method == "HEAD":
            return (200 if path == "/v2/" else 404), {}, b""
        if asked.method == "POST":
            key = f"upload{len(uploads)}"
            uploads[key] = b""
            return 202, {"Location": f"/v2/upload/blobs/uploads/{key}"}, b""
        if "/manifests/" in path:
            return 201, {}, b""
        if asked.method == "PATCH":
            start = int(asked.headers["Content-Range"].partition("-")[0])
            assert start == len(uploads[key]), "a piece in the wrong place"
            if start == 200_000 and not broken:
                broken.append(key)
                uploads[key] += asked.body[:50_000]  # a part of it arrived
                return 500, {}, b""
            uploads[key] += asked.body
            return 202, {"Location": path}, b""
        if asked.method == "GET":
            if forgets:
                return 404, {}, b""
            return 204, {"Location": path, "Range": f"0-{len(uploads[key]) - 1}"}, b""
        data = uploads[key] + asked.body
        assert query == urlencode({"digest": digest(data)})
        stored[digest(data)] = data
        return 201, {}, b""

    with Answering(answer) as server:
        engine.images.tag("upload:1", f"{server.host}/upload:1")
        engine.images.push(f"{server.host}/upload:1")
    assert broken and len(stored) == 2


@pytest.mark.parametrize("refusal", [400, 404, 405, 416, 501])
def test_registry_that_takes_no_pieces_gets_the_whole(engine: Engine, monkeypatch: pytest.MonkeyPatch, refusal: int) -> None:
    monkeypatch.setattr(transfer, "PIECE_BYTES", 100_000)
    engine.images.import_tar(io.BytesIO(tar(member("big", random_bytes(450_000)))), "whole:1")
    stored: dict[str, bytes] = {}

    def answer(asked: Asked) -> Answer:
        path, _, query = asked.path.partition("?")
        if path == "/v2/" or asked.method == "HEAD":
            return (200 if path == "/v2/" else 404), {}, b""
        if asked.method == "POST":
            return 202, {"Location": "/v2/whole/blobs/uploads/1"}, b""
        if asked.method in ("PATCH", "DELETE"):
            return (refusal if asked.method == "PATCH" else 204), {}, b""
        if "/manifests/" not in path:
            stored[digest(asked.body)] = asked.body
            assert query == urlencode({"digest": digest(asked.body)})
        return 201, {}, b""

    with Answering(answer) as server:
        engine.images.tag("whole:1", f"{server.host}/whole:1")
        engine.images.push(f"{server.host}/whole:1")
    assert len(stored) == 2 and max(map(len, stored.values())) > 400_000
    assert [asked.path for asked in server.asked if asked.method == "DELETE"] == ["/v2/whole/blobs/uploads/1"]


@pytest.mark.parametrize("piece_bytes", [100_000, 1_000_000], ids=["pieces", "whole"])
def test_upload_that_is_too_large_for_the_registry_is_not_sent_again_and_is_given_up(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, piece_bytes: int
) -> None:
    monkeypatch.setattr(transfer, "PIECE_BYTES", piece_bytes)
    engine.images.import_tar(io.BytesIO(tar(member("big", random_bytes(450_000)))), "toolarge:1")

    def answer(asked: Asked) -> Answer:
        if asked.path == "/v2/" or asked.method == "HEAD":
            return (200 if asked.path == "/v2/" else 404), {}, b""
        if asked.method == "POST":
            return 202, {"Location": f"/v2/toolarge/blobs/uploads/{len(server.asked)}"}, b""
        if len(asked.body) > 50_000:
            return 413, {}, b""
        return (204 if asked.method == "DELETE" else 201), {}, b""

    with Answering(answer) as server:
        engine.images.tag("toolarge:1", f"{server.host}/toolarge:1")
        with pytest.raises(Unavailable, match="answers 413"):
            engine.images.push(f"{server.host}/toolarge:1")
    sent = [asked for asked in server.asked if len(asked.body) > 50_000]
    assert len(sent) == 1
    assert [asked.path for asked in server.asked if asked.method == "DELETE"] == [sent[0].path.partition("?")[0]]


def test_upload_does_not_take_the_secret_to_another_host(mydocker: Mydocker, busybox: str, home: str) -> None:
    with Answering(lambda asked: (201, {}, b"")) as elsewhere:
        def answer(asked: Asked) -> Answer:
            if not asked.headers.get("Authorization"):
                return 401, {"WWW-Authenticate": 'Basic realm="here"'}, b""
            if asked.method == "POST":
                return 202, {"Location": f"http://{elsewhere.host}/upload"}, b""
            return (404 if asked.method == "HEAD" else 201), {}, b""

        with Answering(answer) as server:
            log_in(home, server.host, elsewhere.host)
            mydocker("tag", busybox, f"{server.host}/moved:1")
            mydocker("push", f"{server.host}/moved:1")
        assert elsewhere.asked and not [one for one in elsewhere.asked if one.headers.get("Authorization")]


def test_two_pulls_of_one_image_at_once_both_succeed(mydocker: Mydocker) -> None:
    manifest, blobs = new_image(*(tar(member(f"file{number}", random_bytes(200_000 + number))) for number in range(4)))
    with Answering(serve_image(manifest, blobs)) as server:
        codes: list[int] = []
        threads = [
            threading.Thread(target=lambda: codes.append(mydocker("pull", "-q", f"{server.host}/image:1", code=None).code)) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert codes == [0, 0, 0]
    assert os.listdir(f"{mydocker.root}/trash") == []
