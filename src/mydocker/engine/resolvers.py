"""Whether the resolvers of users' networks run: one look at a lock each, which every command may take.

Only where one is missing is naming.py imported, which starts it.
"""
from __future__ import annotations

import fcntl
import os

from mydocker.base import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from mydocker.base.paths import Layout


def ensure_resolvers(layout: Layout, names: Iterable[str]) -> None:
    """See that the resolvers of networks run; usually they do, and one look at a lock says so. Raises as naming.py does."""
    for name in names:
        if not _has_resolver(layout.network(name)):
            from .naming import ensure_resolvers as ensure  # cold

            ensure(layout, [name])


def _has_resolver(path: str) -> bool:
    """Tell whether a network's resolver runs. Who hears no starts one: the look itself may have hindered another's start."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(fd)


def tidy_networks(layout: Layout) -> None:
    """Remove unfinished networks, and see that the resolvers run."""
    if any(entry.endswith(".tmp") for entry in os.listdir(layout.networks)):
        from mydocker.network import claiming  # cold
        from mydocker.network.store import NetworkStore

        claiming.sweep(NetworkStore(layout))
    restore_resolvers(layout)


def restore_resolvers(layout: Layout) -> None:
    """Start again the resolvers that were killed while containers need them."""
    for entry in os.listdir(layout.networks):
        name, _, kind = entry.rpartition(".")
        if kind != "json" or name == "bridge" or name.startswith(".") or _has_resolver(f"{layout.networks}/{entry}"):
            continue
        try:
            bridge = f"mb{files.load_json(f'{layout.networks}/{entry}')['id'][:8]}"
            is_used = any(port.startswith("mv") for port in os.listdir(f"/sys/class/net/{bridge}/brif"))
        except FileNotFoundError:
            continue  # nobody was there yet, or it has just been removed
        if is_used:
            from .naming import restore_resolvers as restore  # cold

            restore(layout)
            return
