"""Bytes through TCP between containers, timed without anything of an engine in between: sockets made in their namespaces."""
from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import time

_CLONE_NEWNET = 0x40000000
_SIOCGIFADDR = 0x8915
_PIECE = 1 << 20
_PORT = 5201
_TIMEOUT_S = 60


def socket_in(pid: int) -> socket.socket:
    """Return a TCP socket in the network namespace of a process; 0 is this one."""
    if not pid:
        return socket.socket()
    libc = ctypes.CDLL(None, use_errno=True)
    home, there = os.open("/proc/self/ns/net", os.O_RDONLY), os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        if libc.setns(there, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"enter the network namespace of process {pid}")
        try:
            return socket.socket()
        finally:
            libc.setns(home, _CLONE_NEWNET)
    finally:
        os.close(home)
        os.close(there)


def address_of(pid: int) -> str:
    """Return the IPv4 address of a container's eth0, by its init."""
    with socket_in(pid) as made:
        answer = fcntl.ioctl(made.fileno(), _SIOCGIFADDR, struct.pack("256s", b"eth0"))
    return socket.inet_ntoa(answer[20:24])


def time_transfer(server_pid: int, client_pid: int, address: str, port: int, size: int) -> float:
    """Return the seconds in which a client sends that many bytes to a server in another container, from connect to the last."""
    with socket_in(server_pid) as listener, socket_in(client_pid) as client:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", _PORT))
        listener.listen(1)
        client.settimeout(_TIMEOUT_S)
        child = os.fork()
        if child == 0:
            try:
                _swallow(listener, size)
                os._exit(0)
            finally:
                os._exit(1)
        begin = time.perf_counter()
        try:
            client.connect((address, port or _PORT))
            piece = memoryview(bytes(_PIECE))
            for _ in range(size // _PIECE):
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
            if client.recv(1) != b"!":
                raise OSError("the server did not get everything")
            return time.perf_counter() - begin
        finally:
            client.close()
            os.kill(child, 9)
            os.waitpid(child, 0)


def _swallow(listener: socket.socket, size: int) -> None:
    listener.settimeout(_TIMEOUT_S)
    connection, _ = listener.accept()
    buffer, got = bytearray(_PIECE), 0
    while count := connection.recv_into(buffer):
        got += count
    if got == size // _PIECE * _PIECE:
        connection.sendall(b"!")
        connection.recv(1)
