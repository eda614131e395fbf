"""Platforms of images (os, architecture, variant) and the choice among them. Pure.

Source: OCI image-spec image-index.md; names are Go's GOOS and GOARCH.
"""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .image_spec import Descriptor, Platform

#: What uname(2) calls a machine -> (architecture, variant).
_MACHINES = {
    "x86_64": ("amd64", ""), "aarch64": ("arm64", "v8"), "armv7l": ("arm", "v7"), "armv6l": ("arm", "v6"),
    "i386": ("386", ""), "i686": ("386", ""), "ppc64le": ("ppc64le", ""), "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""), "mips64": ("mips64", ""), "loongarch64": ("loong64", ""),
}

#: What users write for an architecture -> (architecture, variant).
_SPELLINGS = {
    **_MACHINES, "x86-64": ("amd64", ""), "armhf": ("arm", "v7"), "armel": ("arm", "v6"), "arm": ("arm", "v7"),
    "arm64": ("arm64", "v8"),
}
_SYSTEMS = ("linux", "windows", "darwin", "freebsd", "wasi", "wasip1", "js")
_WORD = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")

#: Docker and BuildKit put provenance next to images under this annotation; it is no image.
ATTESTATION = "vnd.docker.reference.type"


def host_architecture() -> str:
    """Return this machine's architecture in Go's words."""
    machine = os.uname().machine
    return _MACHINES.get(machine, (machine, ""))[0]


def host_variant() -> str:
    """Return this machine's variant (arm: v6, v7, v8), or nothing."""
    return _MACHINES.get(os.uname().machine, ("", ""))[1]


def parse(text: str) -> Platform:
    """Return the platform that `os/architecture[/variant]` or `architecture` means. Raises InvalidRequest, Unsupported."""
    words = text.lower().split("/")
    if words[0] not in _SYSTEMS:
        words.insert(0, "linux")
    if not 2 <= len(words) <= 3 or not all(_WORD.issuperset(word) and word for word in words):
        raise InvalidRequest(f"platform {text[:60]!r}: unknown", hint="write os/architecture[/variant], such as linux/arm64")
    system, architecture, variant = (*words, "")[:3]
    if system != "linux":
        raise Unsupported(f"platform {text[:60]!r}: only linux has containers here")
    architecture, default = _SPELLINGS.get(architecture, (architecture, ""))
    platform: Platform = {"os": system, "architecture": architecture}
    if variant or default:
        platform["variant"] = variant or default
    return platform


def host() -> Platform:
    """Return this machine's platform."""
    platform: Platform = {"os": "linux", "architecture": host_architecture()}
    if host_variant():
        platform["variant"] = host_variant()
    return platform


def shown(platform: Platform) -> str:
    """Return a platform as people write it."""
    return "/".join(filter(None, (platform.get("os"), platform.get("architecture"), platform.get("variant"))))


def choose(descriptors: Sequence[Descriptor], wanted: Platform | None = None) -> Descriptor | None:
    """Return the manifest for a platform, this machine's by default: the first exact one, else one of its architecture.

    Attestations are skipped; a descriptor without a platform counts as fitting, last of all.
    """
    wanted = wanted or host()
    best: tuple[int, Descriptor] | None = None
    for descriptor in descriptors:
        if descriptor.get("annotations", {}).get(ATTESTATION):
            continue
        platform = descriptor.get("platform")
        score = fit(platform, wanted) if platform is not None else 1
        if score and (best is None or score > best[0]):
            best = (score, descriptor)
    return best[1] if best else None


def fit(platform: Platform, wanted: Platform) -> int:
    """Return how well an image's platform suits: 0 not at all, 2 the same architecture, 3 the variant, too."""
    if platform.get("os") != wanted.get("os") or platform.get("architecture") != wanted.get("architecture"):
        return 0
    return 3 if platform.get("variant", "") in ("", wanted.get("variant", "")) else 2
