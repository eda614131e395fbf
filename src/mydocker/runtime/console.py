"""The pseudo terminal of a container or an exec session, made inside its own devpts.

The slave is opened from the master (TIOCGPTPEER, ioctl_tty(2)), never by its path, which the
container could have replaced (CVE-2025-52565).
"""
from __future__ import annotations

import _socket
import fcntl
import os
import stat
import struct

from mydocker.base.errors import Denied
from mydocker.linux import syscalls as sc

_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441
_TIOCSCTTY = 0x540E
_TIOCSWINSZ = 0x5414


def open_console(root_fd: int) -> tuple[int, int]:
    """Return (master, slave) of a new terminal in the root's /dev/pts. The caller closes both.

    Raises Denied when /dev/pts/ptmx is not the real one.
    """
    flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK
    resolve = sc.RESOLVE_IN_ROOT | sc.RESOLVE_NO_MAGICLINKS | sc.RESOLVE_NO_SYMLINKS
    handle = sc.openat2(root_fd, "/dev/pts/ptmx", sc.O_PATH, 0, resolve)
    try:
        if os.fstat(handle).st_rdev != os.makedev(5, 2) or sc.fstatfs_type(handle) != sc.DEVPTS_SUPER_MAGIC:
            raise Denied("open a terminal: the container's /dev/pts/ptmx is not the terminal multiplexer")
        master = sc.openat2(root_fd, "/dev/pts/ptmx", flags, 0, resolve)
    finally:
        os.close(handle)
    status = os.fstat(master)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(5, 2):
        os.close(master)
        raise Denied("open a terminal: the container's /dev/pts/ptmx changed while it was opened")
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    os.set_blocking(master, True)
    return master, slave


def send_master(console_fd: int, master: int) -> None:
    """Send a terminal's master to a console socket, as its name's bytes and SCM_RIGHTS: what conmon and shims expect."""
    control = _socket.socket(fileno=os.dup(console_fd))
    try:
        control.sendmsg([b"/dev/ptmx"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, master.to_bytes(4, "little"))])
    finally:
        control.close()


def set_size(fd: int, rows: int, columns: int) -> None:
    """Set a terminal's size (TIOCSWINSZ)."""
    fcntl.ioctl(fd, _TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def take_terminal(slave: int, *, controls: bool) -> None:
    """Make the slave stdio, and with `controls` the terminal of the session, which the caller leads; close it."""
    if controls:
        fcntl.ioctl(slave, _TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(slave, fd)
    if slave > 2:
        os.close(slave)
