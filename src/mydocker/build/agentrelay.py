"""A relay between a RUN step and an ssh-agent: the step can list keys and sign with them, and nothing else.

    step -- the mounted socket --> relay, a thread for each connection -- a connection for each request --> agent

An agent does what its peers ask: it forgets keys, locks itself, and loads PKCS#11 libraries of their choice into
programs of the host (CVE-2023-38408). So only SSH_AGENTC_REQUEST_IDENTITIES and SSH_AGENTC_SIGN_REQUEST are passed on,
as by BuildKit's read-only agent; everything else is answered SSH_AGENT_FAILURE here, the extension that binds an
agent to a session among them. An agent serves nobody but root and its own user; the relay is root, and its socket
is whose the mount says.

What the step sends is hostile: messages and connections are bounded, and a peer that is slow, silent, or does not read
has a thread of its own to keep waiting, which `close` ends.

Source: draft-ietf-sshm-ssh-agent, ssh-agent.c of OpenSSH (AGENT_MAX_LEN).
"""
from __future__ import annotations

import contextlib
import os
import socket
import threading

from mydocker.base import log

from .secrets import unlink_if_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SSH_AGENT_FAILURE = 5
SSH_AGENTC_REQUEST_IDENTITIES = 11
SSH_AGENTC_SIGN_REQUEST = 13
_PASSED = (SSH_AGENTC_REQUEST_IDENTITIES, SSH_AGENTC_SIGN_REQUEST)
MAX_MESSAGE_BYTES = 256 << 10
#: How many may be connected at a time; one more is refused.
MAX_PEERS = 64
#: A message is read in pieces: memory is taken for what came, not for what was announced.
_PIECE_BYTES = 16 << 10
#: Without a descriptor or a thread for a peer, the next is not tried as fast as it comes.
_PAUSE_S = 0.1


class AgentRelay:
    """Serves a socket until it is closed."""

    def __init__(self, path: str, agent: str, *, uid: int = 0, gid: int = 0, mode: int = 0o600) -> None:
        """Make the socket `path`, in a directory that only we can write to, for the agent whose socket is `agent`.

        Raises OSError.
        """
        self._path, self._agent = path, agent
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._connected: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._accepting = threading.Thread(target=self._accept, name="mydocker-agent", daemon=True)
        try:
            _bind(self._listener, path)
            os.chown(path, uid, gid)
            os.chmod(path, mode)
            self._listener.listen(MAX_PEERS)  # nobody can connect before
            self._accepting.start()
        except BaseException:
            self._listener.close()
            unlink_if_there(path)
            raise

    def close(self) -> None:
        """End it, with all connections."""
        self._is_over.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # ends accept(2)
        self._accepting.join()
        with self._lock:
            for sock in self._connected:
                with contextlib.suppress(OSError):  # ENOTCONN: the other side was faster
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()
        unlink_if_there(self._path)

    def _accept(self) -> None:
        while not self._is_over.is_set():
            try:
                peer, _ = self._listener.accept()
            except OSError:  # of `close`, or no descriptor is left
                self._is_over.wait(_PAUSE_S)
                continue
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            thread = threading.Thread(target=self._serve, args=(peer,), name="mydocker-agent-peer", daemon=True)
            try:
                if len(self._threads) < MAX_PEERS:
                    thread.start()
                    self._threads.append(thread)
                else:
                    peer.close()
            except RuntimeError:  # there can be no more threads
                peer.close()
                self._is_over.wait(_PAUSE_S)

    def _serve(self, peer: socket.socket) -> None:
        try:
            with peer, self._ended_by_close(peer):
                while message := _receive(peer):
                    answer = self._ask(message) if message[0] in _PASSED else b""
                    _send(peer, answer or bytes([SSH_AGENT_FAILURE]))
        except OSError as error:
            log.debug("agent relay: peer", error=repr(error))

    def _ask(self, message: bytes) -> bytes:
        """Return the agent's answer; nothing when there is none."""
        try:
            with socket.socket(socket.AF_UNIX) as agent:
                _connect(agent, self._agent)
                with self._ended_by_close(agent):
                    _send(agent, message)
                    return _receive(agent)  # may take long: somebody is asked for consent, or has to touch a token
        except OSError as error:
            log.debug("agent relay: agent", error=repr(error))
            return b""

    @contextlib.contextmanager
    def _ended_by_close(self, sock: socket.socket) -> Iterator[None]:
        """Have `close` shut a connected socket down. Raises OSError when it was called already."""
        with self._lock:
            if self._is_over.is_set():
                raise ConnectionAbortedError("the relay is closed")
            self._connected.add(sock)
        try:
            yield
        finally:
            with self._lock:
                self._connected.discard(sock)


def _bind(sock: socket.socket, path: str) -> None:
    """Bind to a path of any length: an address has 108 bytes."""
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.bind(f"/proc/self/fd/{fd}/{name}")
    finally:
        os.close(fd)


def _connect(sock: socket.socket, path: str) -> None:
    """Connect to a path of any length, or fail at once: an agent that stands still, with a full queue, could be waited for."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        sock.setblocking(False)
        sock.connect(f"/proc/self/fd/{fd}")
        sock.setblocking(True)
    finally:
        os.close(fd)


def _send(sock: socket.socket, message: bytes) -> None:
    sock.sendall(len(message).to_bytes(4, "big") + message)


def _receive(sock: socket.socket) -> bytes:
    """Return the next message; nothing at the end of the stream, or where it makes no sense to read on."""
    length = int.from_bytes(_receive_exactly(sock, 4), "big")
    return _receive_exactly(sock, length) if length <= MAX_MESSAGE_BYTES else b""


def _receive_exactly(sock: socket.socket, size: int) -> bytes:
    """Return so many bytes; nothing when the stream ends before."""
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(min(size - len(data), _PIECE_BYTES))
        if not piece:
            return b""
        data += piece
    return bytes(data)
