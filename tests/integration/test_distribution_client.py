"""The client's side of opencontainers/distribution-spec v1.1: against a registry in memory that holds it to every word.

The specification's own suite tests registries. What it asks of them, by the same chapters (pull, push, content discovery), is what
the registry here may do in more ways than one, and each rule for clients is a rule that it notes a breach of.
"""
from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from harness import Mydocker
from image_rig import digest, member, tar
from registry_rig import Answer, Answering, Asked, new_image, random_bytes

from mydocker import Engine
from mydocker.oci import media_types
from mydocker.registry import transfer

pytestmark = pytest.mark.needs("root", "overlay")

_NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
_TAG = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"
_DIGEST = r"sha256:[0-9a-f]{64}"
_PATHS = {
    "manifests": re.compile(rf"/v2/({_NAME})/manifests/({_TAG}|{_DIGEST})"),
    "uploads": re.compile(rf"/v2/({_NAME})/blobs/uploads/(\w*)"),
    "blobs": re.compile(rf"/v2/({_NAME})/blobs/({_DIGEST})"),
    "tags": re.compile(rf"/v2/({_NAME})/tags/(list)"),
    "elsewhere": re.compile(rf"/elsewhere/({_NAME})/({_DIGEST})"),
}
_KINDS = {media_types.MEDIA_MANIFEST, media_types.MEDIA_INDEX, media_types.DOCKER_MANIFEST, media_types.DOCKER_INDEX}


def error(status: int, code: str) -> Answer:
    return status, {"Content-Type": "application/json"}, json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode()


class Strict:
    """A registry in memory; `breaches` are the client's. The options are what a registry may do this way or that."""

    def __init__(
        self, *, absolute: bool = False, digest_header: bool = True, heads: bool = True, mounts: bool = True, ranges: bool = True,
        redirects: bool = False, least_chunk: int = 0, page: int = 1000,
    ) -> None:
        self.absolute, self.digest_header, self.heads, self.mounts, self.ranges = absolute, digest_header, heads, mounts, ranges
        self.redirects, self.least_chunk, self.page = redirects, least_chunk, page
        self.blobs: dict[str, dict[str, bytes]] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.uploads: dict[str, bytearray] = {}
        self.chunks: dict[str, list[int]] = {}
        self.breaches: list[str] = []
        self.host = ""

    def __call__(self, asked: Asked) -> Answer:
        url = urlsplit(asked.path)
        if url.path == "/v2/":
            return 200, {}, b"{}"
        for kind, pattern in _PATHS.items():
            found = pattern.fullmatch(url.path)
            if found:
                query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
                return getattr(self, f"_{kind}")(asked, found[1], found[2], query)
        return self._breach(asked, "a path that the specification does not have")

    def _breach(self, asked: Asked, what: str) -> Answer:
        self.breaches.append(f"{asked}: {what}")
        return error(400, "UNSUPPORTED")

    def _place(self, path: str) -> str:
        return f"http://{self.host}{path}" if self.absolute else path

    # --- pull ---------------------------------------------------------------------------------------------

    def _manifests(self, asked: Asked, name: str, reference: str, _query: dict[str, str]) -> Answer:
        if asked.method == "PUT":
            return self._put_manifest(asked, name, reference)
        if asked.method == "HEAD" and not self.heads:
            return error(405, "UNSUPPORTED")
        accepted = {word.partition(";")[0].strip() for word in asked.headers.get("Accept", "").split(",")}
        if not accepted >= _KINDS:
            return self._breach(asked, "Accept must name every kind that the client takes")
        if (name, reference) not in self.manifests:
            return error(404, "MANIFEST_UNKNOWN" if name in self.blobs else "NAME_UNKNOWN")
        kind, data = self.manifests[name, reference]
        headers = {"Content-Type": kind}
        if self.digest_header:
            headers["Docker-Content-Digest"] = digest(data)
        return 200, headers, data

    def _blobs(self, asked: Asked, name: str, wanted: str, _query: dict[str, str]) -> Answer:
        data = self.blobs.get(name, {}).get(wanted)
        if data is None:
            return error(404, "BLOB_UNKNOWN")
        if self.redirects and asked.method == "GET":
            return 307, {"Location": f"/elsewhere/{name}/{wanted}?signature=x"}, b""
        return self._bytes(asked, data)

    def _elsewhere(self, asked: Asked, name: str, wanted: str, query: dict[str, str]) -> Answer:
        if query != {"signature": "x"}:
            return self._breach(asked, "a redirect's query is part of it")
        return self._bytes(asked, self.blobs[name][wanted])

    def _bytes(self, asked: Asked, data: bytes) -> Answer:
        wanted = asked.headers.get("Range", "")
        if not wanted or not self.ranges:
            return 200, {"Content-Type": "application/octet-stream"}, data
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
        if not found or int(found[1]) >= len(data):
            return error(416, "RANGE_INVALID")
        start = int(found[1])
        return 206, {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, data[start:]

    # --- push ---------------------------------------------------------------------------------------------

    def _uploads(self, asked: Asked, name: str, identity: str, query: dict[str, str]) -> Answer:
        if not identity:
            return self._begin(asked, name, query)
        if identity not in self.uploads:
            return error(404, "BLOB_UPLOAD_UNKNOWN")
        there = self.uploads[identity]
        if query.get("state") != str(len(self.chunks[identity])):
            return self._breach(asked, "each answer's Location is where the upload goes on")
        if asked.method == "GET":
            return 204, self._upload_headers(name, identity), b""
        if asked.method == "DELETE":
            del self.uploads[identity]
            return 204, {}, b""
        if asked.headers.get("Content-Type") != "application/octet-stream" or "Content-Length" not in asked.headers:
            return self._breach(asked, "Content-Type and Content-Length are needed")
        if asked.method == "PATCH":
            found = re.fullmatch(r"(\d+)-(\d+)", asked.headers.get("Content-Range", ""))
            if not found or int(found[2]) - int(found[1]) + 1 != len(asked.body):
                return self._breach(asked, "Content-Range is not that of the chunk")
            if int(found[1]) != len(there):
                return 416, self._upload_headers(name, identity), b""
            there += asked.body
            self.chunks[identity].append(len(asked.body))
            return 202, self._upload_headers(name, identity), b""
        return self._finish(asked, name, identity, query)

    def _begin(self, asked: Asked, name: str, query: dict[str, str]) -> Answer:
        if asked.method != "POST" or asked.headers.get("Content-Length", "0") != "0":
            return self._breach(asked, "an upload begins with a POST without a body")
        if "mount" in query and self.mounts and query["mount"] in self.blobs.get(query.get("from", ""), {}):
            self.blobs.setdefault(name, {})[query["mount"]] = self.blobs[query["from"]][query["mount"]]
            return 201, {"Location": self._place(f"/v2/{name}/blobs/{query['mount']}")}, b""
        identity = f"u{len(self.chunks)}"
        self.uploads[identity], self.chunks[identity] = bytearray(), []
        headers = self._upload_headers(name, identity)
        if self.least_chunk:
            headers["OCI-Chunk-Min-Length"] = str(self.least_chunk)
        return 202, headers, b""

    def _upload_headers(self, name: str, identity: str) -> dict[str, str]:
        return {
            "Location": self._place(f"/v2/{name}/blobs/uploads/{identity}?state={len(self.chunks[identity])}"),
            "Range": f"0-{max(0, len(self.uploads[identity]) - 1)}",
        }

    def _finish(self, asked: Asked, name: str, identity: str, query: dict[str, str]) -> Answer:
        data = bytes(self.uploads.pop(identity)) + asked.body
        if query.get("digest") != digest(data):
            return self._breach(asked, "the digest of a finished upload is that of its bytes")
        if any(size < self.least_chunk for size in self.chunks[identity][:-1]):
            return self._breach(asked, f"chunks of {self.chunks[identity]} bytes, the least is {self.least_chunk}")
        self.blobs.setdefault(name, {})[digest(data)] = data
        return 201, {"Location": self._place(f"/v2/{name}/blobs/{digest(data)}")}, b""

    def _put_manifest(self, asked: Asked, name: str, reference: str) -> Answer:
        document = json.loads(asked.body)
        if asked.headers.get("Content-Type") != document.get("mediaType"):
            return self._breach(asked, "Content-Type is the manifest's media type")
        for entry in document.get("manifests", ()):
            if (name, entry["digest"]) not in self.manifests:
                return error(404, "MANIFEST_UNKNOWN")
        for entry in (document["config"], *document["layers"]) if "config" in document else ():
            if entry["digest"] not in self.blobs.get(name, {}):
                return error(404, "MANIFEST_BLOB_UNKNOWN")
        if ":" in reference and reference != digest(asked.body):
            return error(400, "DIGEST_INVALID")
        for key in (reference, digest(asked.body)):
            self.manifests[name, key] = document["mediaType"], asked.body
        return 201, {"Location": self._place(f"/v2/{name}/manifests/{reference}"), "Docker-Content-Digest": digest(asked.body)}, b""

    # --- content discovery --------------------------------------------------------------------------------

    def _tags(self, asked: Asked, name: str, _list: str, query: dict[str, str]) -> Answer:
        if asked.method != "GET":
            return self._breach(asked, "tags are read")
        tags = sorted(reference for other, reference in self.manifests if other == name and ":" not in reference)
        rest = [tag for tag in tags if tag > query.get("last", "")]
        headers = {}
        if len(rest) > self.page:
            headers["Link"] = f'<{self._place(f"/v2/{name}/tags/list?last={rest[self.page - 1]}&n={self.page}")}>; rel="next"'
        return 200, headers, json.dumps({"name": name, "tags": rest[:self.page]}).encode()

    def add(self, name: str, tag: str, *layers: bytes) -> str:
        """Store an image; returns its manifest's digest."""
        manifest, blobs = new_image(*layers)
        self.blobs.setdefault(name, {}).update({digest(data): data for data in blobs})
        data = json.dumps(manifest).encode()
        for reference in (tag, digest(data)):
            self.manifests[name, reference] = manifest["mediaType"], data
        return digest(data)


@pytest.fixture
def engine(mydocker: Mydocker) -> Iterator[Engine]:
    """The Python API on the root of the command line."""
    with Engine(mydocker.root) as found:
        yield found


LAYERS = tuple(tar(member(f"f{number}", random_bytes(40_000 + number))) for number in range(3))


@pytest.mark.parametrize("options", [
    {}, {"absolute": True}, {"digest_header": False}, {"heads": False}, {"redirects": True}, {"redirects": True, "ranges": False},
], ids=str)
def test_pull_by_tag_and_by_digest(mydocker: Mydocker, options: dict[str, Any]) -> None:
    registry = Strict(**options)
    manifest = registry.add("team/some_app.x", "v1.0-x_Y", *LAYERS)
    with Answering(registry) as server:
        registry.host = server.host
        name = f"{server.host}/team/some_app.x"
        assert f"Digest: {manifest}" in mydocker("pull", f"{name}:v1.0-x_Y").out
        assert "up to date" in mydocker("pull", f"{name}:v1.0-x_Y").out or not registry.heads or not registry.digest_header
        mydocker("rmi", f"{name}:v1.0-x_Y")
        assert f"Digest: {manifest}" in mydocker("pull", f"{name}@{manifest}").out
        mydocker("rmi", f"{name}@{manifest}")
    assert registry.breaches == []


@pytest.mark.parametrize("options", [{}, {"absolute": True}, {"mounts": False}, {"digest_header": False}], ids=str)
def test_push_whole_blobs_mounts_and_manifest_lists(mydocker: Mydocker, options: dict[str, Any]) -> None:
    registry = Strict(**options)
    manifest = registry.add("one", "1", *LAYERS)
    with Answering(registry) as server:
        registry.host = server.host
        mydocker("pull", f"{server.host}/one:1")
        for other in ("two/a", "two/b"):
            mydocker("tag", f"{server.host}/one:1", f"{server.host}/{other}:1")
            assert manifest in mydocker("push", f"{server.host}/{other}:1").out
            assert registry.manifests[other, "1"] == registry.manifests["one", "1"]  # bit for bit
            mydocker("rmi", f"{server.host}/{other}:1")
        uploaded = [asked for asked in server.asked if asked.method == "PUT" and "/blobs/" in asked.path]
        assert len(uploaded) == 2 * (1 if registry.mounts else 1 + len(LAYERS))  # the config goes up each time
        assert registry.uploads == {}  # what was begun in place of a mount was given up, or used
        before = len(server.asked)
        mydocker("push", f"{server.host}/one:1")
        assert {asked.method for asked in server.asked[before:] if "/blobs/" in asked.path} == {"HEAD"}
    assert registry.breaches == []


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("least", [0, 25_000], ids=["any chunk", "chunks of some size"])
def test_push_in_chunks(engine: Engine, monkeypatch: pytest.MonkeyPatch, absolute: bool, least: int) -> None:
    monkeypatch.setattr(transfer, "PIECE_BYTES", 10_000)
    registry = Strict(absolute=absolute, least_chunk=least)
    with Answering(registry) as server:
        registry.host = server.host
        import io

        engine.images.import_tar(io.BytesIO(LAYERS[0]), f"{server.host}/chunks:1")
        pushed = engine.images.push(f"{server.host}/chunks:1")
        assert registry.breaches == []
        assert sorted(len(sizes) for sizes in registry.chunks.values()) == [0, 2 if least else 5]
        engine.images.remove(f"{server.host}/chunks:1")
        assert engine.images.pull(f"{server.host}/chunks:1").digest == pushed.digest
        engine.images.remove(f"{server.host}/chunks:1")


@pytest.mark.parametrize("absolute", [False, True])
def test_tags_come_in_pages(mydocker: Mydocker, absolute: bool) -> None:
    registry = Strict(page=2, absolute=absolute)
    tags = ["1", "2", "3", "4", "latest"]
    for tag in tags:
        registry.add("many", tag, LAYERS[0])
    with Answering(registry) as server:
        registry.host = server.host
        out = mydocker("pull", "-a", "-q", f"{server.host}/many").out
        assert out.split() == [f"{server.host}/many:{tag}" for tag in tags]
        mydocker("rmi", *out.split())
    assert registry.breaches == []


def test_page_at_another_server_is_not_asked_for(mydocker: Mydocker) -> None:
    with Answering(lambda _: (200, {}, b'{"name":"x","tags":[]}')) as other:
        def answer(asked: Asked) -> Answer:
            return 200, {"Link": f'<http://{other.host}/v2/x/tags/list?last=a>; rel="next"'}, b'{"name":"x","tags":[]}'

        with Answering(answer) as server:
            assert "another server" in mydocker("pull", "-a", f"{server.host}/x", code=125).one_error_line()
        assert other.asked == []


def test_digest_that_a_registry_makes_up_is_refused(mydocker: Mydocker) -> None:
    registry = Strict()
    registry.add("liar", "1", LAYERS[0])

    def answer(asked: Asked) -> Answer:
        status, headers, data = registry(asked)
        if "Docker-Content-Digest" in headers:
            headers["Docker-Content-Digest"] = f"sha256:{hashlib.sha256(b'other').hexdigest()}"
        return status, headers, data

    with Answering(answer) as server:
        assert "the registry says digest" in mydocker("pull", f"{server.host}/liar:1", code=125).one_error_line()


@pytest.mark.parametrize(("status", "body", "told"), [
    (404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such tag","detail":{"Tag":"1"}}]}', "no such tag"),
    (404, b'{"errors":[{"code":"NAME_UNKNOWN"}]}', "has no such thing"),
    (401, b'{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}', "denies access"),
    (403, b'{"errors":[{"code":"DENIED","message":"not you"}]}', "not you"),
    (404, b"<html>not found</html>", "has no such thing"), (404, b"", "has no such thing"), (400, b'{"errors":{}}', "400"),
    (418, b'{"errors":[1,null,{"code":3}]}', "418"),
], ids=range(8))
def test_errors_of_the_specification_and_others_are_one_line(mydocker: Mydocker, status: int, body: bytes, told: str) -> None:
    with Answering(lambda asked: (200, {}, b"{}") if asked.path == "/v2/" else (status, {}, body)) as server:
        assert told in mydocker("pull", f"{server.host}/x:1", code=125).one_error_line()
