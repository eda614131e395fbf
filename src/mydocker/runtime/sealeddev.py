"""A /dev that the spec wants read-only, which it can be once everything in it is made.

Source: runtime-spec config-linux.md "Default Devices".
"""
from __future__ import annotations

import os

from mydocker.base.record import Record
from mydocker.linux import syscalls as sc

from .rootfs import Rootfs, set_attributes


class MakeConsole(Record):
    """Make the file that the terminal will be mounted on: later it cannot be made in a /dev that is read-only."""

    field: str
    path: str = "/dev/console"

    def apply(self, root: Rootfs) -> None:
        """Make it where it is missing."""
        os.close(root.ensure_console())


class SealDev(Record):
    """Make what is mounted on /dev read-only once everything in it is made."""

    field: str

    def apply(self, root: Rootfs) -> None:
        """Set the attribute, by descriptor."""
        set_attributes(root.dev_fd, sc.MOUNT_ATTR_RDONLY, 0)
