"""A registry for the row `pull`: Debian's docker-registry on a loopback port, in the network namespace of whoever pulls."""
from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sampling import CommandFailed

_TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_START_TIMEOUT_S = 20
NAME = "bench/tree"
_KIND = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@contextmanager
def serving(directory: str, prefix: Sequence[str] = ()) -> Iterator[str]:
    """A registry that stores below a directory, started by way of `prefix`; yields its `host:port`. Raises CommandFailed."""
    program = shutil.which("docker-registry") or f"{_TOP}/.cache/docker-registry/usr/bin/docker-registry"
    if not os.path.exists(program):
        raise CommandFailed("docker-registry is not installed: tools/set-up unpacked .cache/docker-registry usr/bin/docker-registry docker-registry")
    os.makedirs(directory, exist_ok=True)
    config, log_path = f"{directory}/config.yml", f"{directory}/log"
    with open(config, "w", encoding="ascii") as file:  # JSON is YAML
        json.dump({
            "version": 0.1, "log": {"accesslog": {"disabled": True}}, "http": {"addr": "127.0.0.1:0", "secret": "bench"},
            "storage": {"filesystem": {"rootdirectory": f"{directory}/data"}}}, file)
    with open(log_path, "wb") as log:
        process = subprocess.Popen([*prefix, program, "serve", config], stdout=log, stderr=log)
    try:
        yield f"127.0.0.1:{_port(log_path, process)}"
    finally:
        process.kill()
        process.wait()


def _port(log_path: str, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with open(log_path, encoding="utf-8", errors="replace") as log:
            found = re.search(r"listening on 127\.0\.0\.1:(\d+)", log.read())
        if found:
            return found.group(1)
        time.sleep(0.02)
    raise CommandFailed("docker-registry does not start")


def fill(directory: str, layer_tar: str) -> None:
    """Store an image of one layer, compressed as `docker push` does, as NAME."""
    with open(layer_tar, "rb") as file:
        diff = file.read()
    layer = gzip.compress(diff, 6, mtime=0)
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "created": "2023-11-14T22:13:20Z", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(diff)]}, "history": [{"created": "2023-11-14T22:13:20Z"}],
    }).encode()
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": _KIND,
        "config": {"mediaType": _CONFIG, "digest": _digest(config), "size": len(config)},
        "layers": [{"mediaType": _LAYER, "digest": _digest(layer), "size": len(layer)}],
    }).encode()
    with serving(directory) as host:
        for data in (layer, config):
            place = _ask(host, "POST", f"/v2/{NAME}/blobs/uploads/", b"", 202)
            _ask(host, "PUT", f"{place.partition(host)[2]}&digest={_digest(data)}", data, 201)
        _ask(host, "PUT", f"/v2/{NAME}/manifests/latest", manifest, 201, _KIND)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _ask(host: str, method: str, path: str, body: bytes, status: int, kind: str = "application/octet-stream") -> str:
    connection = http.client.HTTPConnection(host)
    connection.request(method, path, body=body, headers={"Content-Type": kind})
    answer = connection.getresponse()
    told = answer.read()
    connection.close()
    if answer.status != status:
        raise CommandFailed(f"docker-registry answers {answer.status}: {told[:200]!r}")
    return answer.headers.get("Location", "")
