"""Registries for tests: Debian's real docker-registry on a loopback port, and a small server that answers what the test says."""
from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from harness import until
from image_rig import digest, image_config

from mydocker.oci import media_types

_TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = shutil.which("docker-registry") or f"{_TOP}/.cache/docker-registry/usr/bin/docker-registry"
USER, PASSWORD = "user", "pa:ss word"
_HTPASSWD = "user:$2y$05$KvT8w9F9nAW0CMEeInv49OnFQ.Wm4qz8u2VxH9qK3Ojw1D5seJ1iC"


def packed(data: bytes) -> bytes:
    """Return gzip's output, equal for equal data."""
    return gzip.compress(data, 6, mtime=0)


class Registry:
    """A docker-registry of the test's own, storing below `directory`; `host` is its name in references."""

    def __init__(self, directory: str, *, tls: Authority | None = None, password: bool = False) -> None:
        os.makedirs(directory, exist_ok=True)
        http_section: dict[str, Any] = {"addr": "127.0.0.1:0", "secret": "for tests"}
        if tls is not None:
            http_section["tls"] = {"certificate": tls.certificate, "key": tls.key}
        config: dict[str, Any] = {
            "version": 0.1, "log": {"level": "info"}, "http": http_section,
            "storage": {"filesystem": {"rootdirectory": f"{directory}/data"}, "delete": {"enabled": True}},
        }
        if password:
            with open(f"{directory}/htpasswd", "w") as file:
                file.write(_HTPASSWD + "\n")
            config["auth"] = {"htpasswd": {"realm": "test", "path": f"{directory}/htpasswd"}}
        with open(f"{directory}/config.yml", "w") as file:
            json.dump(config, file)  # JSON is YAML
        self._log = f"{directory}/log"
        self.tls = tls
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen([PROGRAM, "serve", f"{directory}/config.yml"], stdout=log, stderr=log)
        until(lambda: self._port() or self.process.poll() is not None, what="for the registry")
        self.host = f"127.0.0.1:{self._port()}"

    def _port(self) -> str:
        with open(self._log) as file:
            found = re.search(r"listening on 127\.0\.0\.1:(\d+)", file.read())
        return found.group(1) if found else ""

    def requests(self) -> list[str]:
        """Return `METHOD path status` of what it was asked, in order."""
        with open(self._log) as file:
            return [f"{m} {path} {status}" for m, path, status in re.findall(r'"(\w+) (\S+) HTTP/1\.1" (\d+)', file.read())]

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> tuple[int, Any, bytes]:
        """Send one request without any client of ours."""
        if self.tls is not None:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(self.host, context=ssl._create_unverified_context())
        else:
            connection = http.client.HTTPConnection(self.host)
        connection.request(method, path, body=body or None, headers=headers or {})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, answer.headers, data

    def put_blob(self, repository: str, data: bytes) -> str:
        """Upload a blob; returns its digest."""
        _, headers, _ = self.ask("POST", f"/v2/{repository}/blobs/uploads/")
        place = headers["Location"].partition(self.host)[2]
        status, _, told = self.ask("PUT", f"{place}&digest={digest(data)}", data, {"Content-Type": "application/octet-stream"})
        assert status == 201, told
        return digest(data)

    def put_manifest(self, repository: str, tag: str, manifest: dict[str, Any]) -> str:
        """Upload a manifest or index; returns its digest."""
        data = json.dumps(manifest).encode()
        status, _, told = self.ask("PUT", f"/v2/{repository}/manifests/{tag}", data, {"Content-Type": manifest["mediaType"]})
        assert status == 201, told
        return digest(data)

    def put_image(self, repository: str, tag: str, *layers: bytes, compress: Callable[[bytes], bytes] = packed, **config: Any) -> str:
        """Upload an image of the given diffs; returns its manifest's digest."""
        manifest, blobs = new_image(*layers, compress=compress, **config)
        for data in blobs:
            self.put_blob(repository, data)
        return self.put_manifest(repository, tag, manifest)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def descriptor(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}


def new_image(
    *layers: bytes, compress: Callable[[bytes], bytes] = packed, **config: Any
) -> tuple[dict[str, Any], list[bytes]]:
    """Return an image's manifest, and its blobs: config first."""
    data = image_config(*layers, **config)
    stored = [compress(layer) for layer in layers]
    suffix = {b"\x1f\x8b": "+gzip", b"\x28\xb5": "+zstd"}
    manifest = {
        "schemaVersion": 2, "mediaType": media_types.MEDIA_MANIFEST, "config": descriptor(data, media_types.MEDIA_CONFIG),
        "layers": [descriptor(blob, media_types.MEDIA_LAYER + suffix.get(blob[:2], "")) for blob in stored],
    }
    return manifest, [data, *stored]


class Authority:
    """A certificate authority of the test's own, and a certificate of it for 127.0.0.1, localhost and registry.test."""

    def __init__(self, directory: str) -> None:
        self.authority, self.certificate, self.key = f"{directory}/ca.pem", f"{directory}/server.pem", f"{directory}/server.key"
        extensions = f"{directory}/extensions"
        with open(extensions, "w") as file:
            file.write("subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:registry.test\n")
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        self._openssl("req", "-x509", *curve, "-keyout", f"{directory}/ca.key", "-out", self.authority, "-subj", "/CN=test authority")
        self._openssl("req", *curve, "-keyout", self.key, "-out", f"{directory}/server.csr", "-subj", "/CN=test registry")
        self._openssl(
            "x509", "-req", "-in", f"{directory}/server.csr", "-CA", self.authority, "-CAkey", f"{directory}/ca.key",
            "-CAcreateserial", "-extfile", extensions, "-out", self.certificate, "-days", "2")

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True)

    @contextmanager
    def trusted_for(self, host: str, place: str = "/etc/docker/certs.d") -> Iterator[None]:
        """Have the machine trust this authority for one host, for a while."""
        made = [path for path in (os.path.dirname(place), place, f"{place}/{host}") if not os.path.isdir(path)]
        for path in made:
            os.mkdir(path)
        shutil.copy(self.authority, f"{place}/{host}/ca.crt")
        try:
            yield
        finally:
            os.unlink(f"{place}/{host}/ca.crt")
            for path in reversed(made):
                os.rmdir(path)


class Asked:
    """One request that an Answering server got."""

    def __init__(self, method: str, path: str, headers: Any, body: bytes) -> None:
        self.method, self.path, self.headers, self.body = method, path, headers, body

    def __repr__(self) -> str:
        return f"{self.method} {self.path}"


#: What a test answers: status, headers, body.
Answer = tuple[int, dict[str, str], bytes]


class Answering:
    """A server on a loopback port whose answers are the test's; it notes what it was asked.

    `Content-Length` is the body's unless the answer has one; a longer one breaks the connection off early.
    """

    def __init__(
        self, answer: Callable[[Asked], Answer], *, tls: Authority | None = None, address: str = "127.0.0.1", port: int = 0
    ) -> None:
        asked = self.asked = []  # type: list[Asked]

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = Asked(self.command, self.path, self.headers, body)
                asked.append(request)
                status, headers, data = answer(request)
                self.send_response(status)
                length = headers.get("Content-Length", str(len(data)))
                for key, value in {**headers, "Content-Length": length}.items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)
                    time.sleep(float(headers.get("X-Stall", 0)))
                    if int(length) > len(data):
                        self.close_connection = True

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass  # a client that goes away is what many tests are about

        self._server = Server((address, port), Handler)
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.certificate, tls.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.host = f"{address}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Answering:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Tunnels:
    """A proxy on a loopback port that wants a password and leads every CONNECT to one server; notes where it was asked to."""

    def __init__(self, target: str, password: str) -> None:
        asked = self.asked = []  # type: list[str]
        wanted = f"Basic {base64.b64encode(password.encode()).decode()}"

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_CONNECT(self) -> None:
                asked.append(self.path)
                self.close_connection = True
                if self.headers.get("Proxy-Authorization") != wanted:
                    self.send_error(407)
                    return
                host, _, port = target.partition(":")
                with socket.create_connection((host, int(port))) as other:
                    self.send_response(200)
                    self.end_headers()
                    back = threading.Thread(target=self._pass_on, args=(other, self.connection))
                    back.start()
                    self._pass_on(self.connection, other)
                    back.join()

            @staticmethod
            def _pass_on(source: socket.socket, to: socket.socket) -> None:
                try:
                    while data := source.recv(1 << 16):
                        to.sendall(data)
                    to.shutdown(socket.SHUT_WR)
                except OSError:
                    pass  # one side has gone

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def __enter__(self) -> Tunnels:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve_image(manifest: dict[str, Any], blobs: list[bytes], change: Callable[[Asked], Answer | None] = lambda _: None) -> Callable[[Asked], Answer]:
    """Return answers of a registry that has one image under every name; `change` may answer in its place."""
    document = json.dumps(manifest).encode()
    found = {digest(data): data for data in blobs}

    def answer(asked: Asked) -> Answer:
        changed = change(asked)
        if changed is not None:
            return changed
        last = asked.path.rpartition("/")[2]
        if asked.path == "/v2/":
            return 200, {}, b"{}"
        if "/manifests/" in asked.path:
            return 200, {"Content-Type": manifest.get("mediaType", media_types.MEDIA_MANIFEST)}, document
        if last in found:
            return 200, {"Content-Type": "application/octet-stream"}, found[last]
        return 404, {}, b'{"errors":[{"code":"NOT_FOUND","message":"nothing here"}]}'

    return answer


def random_bytes(size: int) -> bytes:
    """Return bytes that do not compress, the same ones each time."""
    return b"".join(hashlib.sha256(number.to_bytes(8, "big")).digest() for number in range(size // 32))
