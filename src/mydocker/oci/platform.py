"""Platforms of images (os, architecture, variant) and the choice among them. Pure.

Source: OCI image-spec image-index.md; names are Go's GOOS and GOARCH.
"""
from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .image_spec import Descriptor

#: What uname(2) calls a machine -> (architecture, variant).
_MACHINES = {
    "x86_64": ("amd64", ""), "aarch64": ("arm64", "v8"), "armv7l": ("arm", "v7"), "armv6l": ("arm", "v6"),
    "i386": ("386", ""), "i686": ("386", ""), "ppc64le": ("ppc64le", ""), "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""), "mips64": ("mips64", ""), "loongarch64": ("loong64", ""),
}

#: Docker and BuildKit put provenance next to images under this annotation; it is no image.
ATTESTATION = "vnd.docker.reference.type"


def host_architecture() -> str:
    """Return this machine's architecture in Go's words."""
    machine = os.uname().machine
    return _MACHINES.get(machine, (machine, ""))[0]


def host_variant() -> str:
    """Return this machine's variant (arm: v6, v7, v8), or nothing."""
    return _MACHINES.get(os.uname().machine, ("", ""))[1]


def choose(descriptors: Sequence[Descriptor]) -> Descriptor | None:
    """Return the manifest for this machine: the first exact one, else one of its architecture.

    Attestations are skipped; a descriptor without a platform counts as fitting, last of all.
    """
    architecture, variant = host_architecture(), host_variant()
    best: tuple[int, Descriptor] | None = None
    for descriptor in descriptors:
        if descriptor.get("annotations", {}).get(ATTESTATION):
            continue
        platform = descriptor.get("platform")
        if platform is None:
            score = 1
        elif platform.get("os") != "linux" or platform.get("architecture") != architecture:
            continue
        else:
            score = 3 if platform.get("variant", "") in ("", variant) else 2
        if best is None or score > best[0]:
            best = (score, descriptor)
    return best[1] if best else None
