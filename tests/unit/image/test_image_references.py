"""References and digests: what Docker's grammar takes, how names are expanded, what is refused."""
from __future__ import annotations

import hashlib

import pytest

from mydocker.base.errors import Corrupt, InvalidRequest
from mydocker.oci import digest
from mydocker.oci.reference import parse

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(("text", "canonical", "familiar"), [
    ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
    ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
    ("me/app", "docker.io/me/app:latest", "me/app:latest"),
    ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
    ("docker.io/library/busybox:x", "docker.io/library/busybox:x", "busybox:x"),
    ("index.docker.io/me/app", "docker.io/me/app:latest", "me/app:latest"),
    ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
    ("localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"),
    ("quay.io/a/b/c:t", "quay.io/a/b/c:t", "quay.io/a/b/c:t"),
    ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
    (f"app@sha256:{HEX}", f"docker.io/library/app@sha256:{HEX}", f"app@sha256:{HEX}"),
    (f"app:t@sha256:{HEX}", f"docker.io/library/app:t@sha256:{HEX}", f"app:t@sha256:{HEX}"),
    ("a__b/c-d---e.f", "docker.io/a__b/c-d---e.f:latest", "a__b/c-d---e.f:latest"),
    ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
])
def test_name_is_expanded_and_shown_as_docker_does(text: str, canonical: str, familiar: str) -> None:
    assert parse(text).canonical == canonical
    assert parse(text).familiar == familiar
    assert parse(canonical) == parse(text)


@pytest.mark.parametrize("text", [
    "", ":", "a:", "a:b:c/", "Busybox", "a//b", "/a", "a/", "a___b", "a..b", "a._b", "-a", "a-", ".", "..", "../x", "a/../b",
    "a b", "a\n", "a:tag with space", "a:" + "t" * 129, "a:.t", "a@", "a@md5:0", "a@sha256:" + "G" * 64, f"a@sha256:{HEX}0",
    "a@sha256:../../x", "x" * 256, "host_name.com/a", "[::1/a", "a.b:port/c", "a/B", "\u00e4", "a\0",
])
def test_malformed_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse(text)


@pytest.mark.parametrize("text", [
    None, 5, "", "sha256:", "sha256:../../x", "md5:" + HEX, "sha256:" + HEX.upper(), "sha256:" + HEX[:-1], "sha256:" + HEX + "0",
    "sha512:" + HEX * 2, HEX,
])
def test_what_is_no_sha256_digest_never_becomes_a_path(text: object) -> None:
    with pytest.raises(Corrupt):
        digest.parse_digest(text)


def test_chain_ids_are_those_of_the_specification() -> None:
    first, second = "sha256:" + HEX, "sha256:" + HEX[::-1]
    joined = hashlib.sha256(f"{first} {second}".encode()).hexdigest()
    assert digest.chain_ids([first, second]) == (first, f"sha256:{joined}")
    assert digest.chain_ids([]) == ()
