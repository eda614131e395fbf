"""The lowest layer of every container: empty places for what is always mounted.

An image need not bring /proc, /dev or /etc/hosts, and a mount needs something to be mounted on. Made in the
write layer these places would show up in every commit; in a layer of their own below the image they
show up nowhere (Docker's "-init" layer is for the same, one copy a container).

    layer/mountpoints-1/diff/{dev,proc,sys}/  etc/{hostname,hosts,resolv.conf}
"""
from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.base.paths import Layout

#: Not a chain id, so no removal of layers takes it for one; the number changes with the content.
NAME = "mountpoints-1"
_DIRECTORIES = ("dev", "proc", "sys", "etc")
_FILES = ("etc/hostname", "etc/hosts", "etc/resolv.conf")


def ensure_mountpoints(layout: Layout) -> str:
    """Return the directory to use as the lowest of a container's lower directories, making it once. Raises OSError."""
    directory = f"{layout.layers}/{NAME}/diff"
    if not os.path.isdir(directory):
        _make(layout)
    return directory


def _make(layout: Layout) -> None:
    from .layers import NewLayer  # cold: once in a root's life

    layer = NewLayer(layout)
    try:
        for name in _DIRECTORIES:
            os.mkdir(name, 0o755, dir_fd=layer.diff_fd)
            os.chmod(name, 0o755, dir_fd=layer.diff_fd)  # whatever our umask is
        for name in _FILES:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o644, dir_fd=layer.diff_fd))
            os.chmod(name, 0o644, dir_fd=layer.diff_fd)
        layer.publish(NAME, {}).close()
    finally:
        layer.close()
