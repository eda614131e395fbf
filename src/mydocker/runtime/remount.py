"""A change of what is mounted at a destination already: its attributes, and its file system's options.

Source: runtime-spec config.md "Linux mount options"; mount(8) "remount", fspick(2), mount_setattr(2).
"""
from __future__ import annotations

import os

from mydocker.base.record import Record
from mydocker.linux import syscalls as sc

from .mountopts import MountOptions
from .mounts import set_all_below
from .rootfs import Rootfs, set_attributes


class Remount(Record):
    """Change the attributes of what is mounted at a destination already, and its file system's options where not bound."""

    field: str
    destination: str
    options: MountOptions

    def apply(self, root: Rootfs) -> None:
        """Change them, by descriptor."""
        fd = root.open(self.destination)
        try:
            options = self.options
            if options.data and not options.bind:
                _reconfigure(fd, options.data)
            set_attributes(fd, options.set, options.clear)
            set_all_below(fd, options)
        finally:
            os.close(fd)


def _reconfigure(fd: int, data: tuple[str, ...]) -> None:
    context = sc.fspick(fd, "", sc.FSPICK_CLOEXEC | sc.FSPICK_EMPTY_PATH)
    try:
        for option in data:
            key, equals, value = option.partition("=")
            sc.fsconfig(context, sc.FSCONFIG_SET_STRING if equals else sc.FSCONFIG_SET_FLAG, key, value if equals else None, 0)
        sc.fsconfig(context, sc.FSCONFIG_CMD_RECONFIGURE, None, None, 0)
    finally:
        os.close(context)
