"""The loopback device of a network namespace, and network namespaces made ahead of their use.

Source: netdevice(7), network_namespaces(7).
"""
from __future__ import annotations

import _socket
import fcntl
import os
import struct

from . import syscalls as sc

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def raise_loopback() -> None:
    """Bring up `lo` of this process's network namespace; its address comes with that. Raises OSError."""
    control = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        answer = fcntl.ioctl(control.fileno(), _SIOCGIFFLAGS, struct.pack("16sH22x", b"lo", 0))
        flags = struct.unpack_from("H", answer, 16)[0] | _IFF_UP
        fcntl.ioctl(control.fileno(), _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags))
    finally:
        control.close()


def make_network_namespace() -> int:
    """Make a network namespace with its loopback up, and return a descriptor of it, which the caller closes.

    This process, which must have one thread, is in it for a moment. To make one costs a millisecond, and as much again
    to bring its device up when others end just then (all of them share one lock, rtnl). Raises OSError.
    """
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        sc.unshare(sc.CLONE_NEWNET)
        try:
            raise_loopback()
            return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            sc.setns(home, sc.CLONE_NEWNET)
    finally:
        os.close(home)
