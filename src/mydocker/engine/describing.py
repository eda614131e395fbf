"""What `info` and `version` say."""
from __future__ import annotations

import os
import sys

from mydocker.base.version import VERSION
from mydocker.linux.cgroup.hierarchy import hierarchy
from mydocker.oci.runtime_spec import SPEC_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mydocker.base.errors import Corrupt

    from .engine import Engine


def describe_version() -> dict[str, str]:
    """Return versions by name."""
    machine = os.uname()
    return {
        "version": VERSION, "python": ".".join(map(str, sys.version_info[:3])), "kernel": machine.release,
        "arch": machine.machine, "os": sys.platform, "runtimeSpec": SPEC_VERSION,
    }


def describe_machine(engine: Engine) -> dict[str, Any]:
    """Return facts of this machine and counts of what is stored."""
    found = hierarchy()
    counts: dict[str, int] = {}
    broken: list[Corrupt] = []
    for container in engine.containers.list(on_error=broken.append):
        counts[container.status] = counts.get(container.status, 0) + 1
    if broken:
        counts["unreadable"] = len(broken)
    return {
        **describe_version(),
        "root": engine.layout.root, "run": engine.layout.run,
        "containers": {"total": sum(counts.values()), **counts},
        "images": len(engine.images.list()),
        "cgroup": {
            "kind": found.kind, "v1Controllers": sorted(found.v1), "v2Controllers": list(found.v2_controllers),
            "v2Mount": found.v2,
        },
        "cpus": os.cpu_count(), "memoryBytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "hostname": os.uname().nodename,
    }
