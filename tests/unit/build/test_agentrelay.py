"""The relay of ssh-agents with peers and agents that do not keep to the protocol."""
from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mydocker.build.agentrelay import MAX_MESSAGE_BYTES, MAX_PEERS, AgentRelay

FAILURE = b"\0\0\0\1\5"
LIST = b"\0\0\0\1\13"


class Agent:
    """Keeps what it is asked, and answers each time with `answer`; says nothing where that is None."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.asked: list[bytes] = []
        self.answer: bytes | None = b"\0\0\0\5\14\0\0\0\0"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with peer:
                self.asked.append(peer.recv(MAX_MESSAGE_BYTES + 4, socket.MSG_WAITALL if self.answer is None else 0))
                peer.sendall(self.answer or b"")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    made = Agent(str(tmp_path / "agent"))
    yield made
    made.close()


@pytest.fixture
def relay(tmp_path: Path, agent: Agent) -> Iterator[str]:
    """The path of the socket of a relay to the agent."""
    path = str(tmp_path / "relay")
    made = AgentRelay(path, agent.path, uid=os.getuid(), gid=os.getgid())
    yield path
    made.close()
    assert not os.path.exists(path)


def connect(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(path)
    return sock


def ask(path: str, message: bytes) -> bytes:
    with connect(path) as sock:
        sock.sendall(message)
        return sock.recv(4096)


def test_only_listing_and_signing_reach_the_agent(relay: str, agent: Agent) -> None:
    sign = b"\0\0\0\5\15\0\0\0\0"
    with connect(relay) as sock:
        for number in range(256):
            if number not in (11, 13):
                sock.sendall(b"\0\0\0\2" + bytes([number, 0]))
                assert sock.recv(4096) == FAILURE, number
        for message in (LIST, sign):
            sock.sendall(message)
            assert sock.recv(4096) == agent.answer
    assert agent.asked == [LIST, sign]


def test_messages_in_pieces_and_together_are_answered_in_turn(relay: str) -> None:
    with connect(relay) as sock:
        for byte in LIST:
            sock.sendall(bytes([byte]))
            time.sleep(0.01)
        assert sock.recv(4096) == b"\0\0\0\5\14\0\0\0\0"
        sock.sendall(b"\0\0\0\1\23" * 3)
        with sock.makefile("rb") as stream:
            assert stream.read(15) == FAILURE * 3


@pytest.mark.parametrize("length", [0, MAX_MESSAGE_BYTES + 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_length_of_no_message_ends_the_connection(relay: str, agent: Agent, length: int) -> None:
    assert ask(relay, length.to_bytes(4, "big")) == b""
    assert agent.asked == []
    assert ask(relay, LIST) == agent.answer


def test_largest_message_is_passed(relay: str, agent: Agent) -> None:
    agent.answer = None
    message = b"\15" + bytes(MAX_MESSAGE_BYTES - 1)
    assert ask(relay, len(message).to_bytes(4, "big") + message) == FAILURE
    assert [len(asked) for asked in agent.asked] == [MAX_MESSAGE_BYTES + 4]


def test_silent_peers_hold_nothing_up_and_one_too_many_is_refused(relay: str, agent: Agent) -> None:
    silent = [connect(relay) for _ in range(MAX_PEERS - 1)]
    for sock in silent[::2]:
        sock.sendall(b"\0\0\1")
    assert ask(relay, LIST) == agent.answer
    deadline = time.monotonic() + 10
    while not is_kept(sock := connect(relay)):  # the one that was answered may not have been noticed to have gone
        assert time.monotonic() < deadline
    with connect(relay) as refused:
        assert refused.recv(1) == b""
    for peer in (sock, *silent):
        peer.close()
    while ask_or_nothing(relay) != agent.answer:  # places are free again
        assert time.monotonic() < deadline


def is_kept(sock: socket.socket) -> bool:
    sock.settimeout(0.3)
    try:
        sock.recv(1)
    except TimeoutError:
        return True
    sock.close()
    return False


def ask_or_nothing(path: str) -> bytes:
    try:
        return ask(path, LIST)
    except OSError:
        return b""


@pytest.mark.parametrize("answer", [b"", b"\0\0", b"\0\0\0\0", b"\0\0\0\7\14", b"\377\377\377\377\14"])
def test_agent_that_answers_with_no_message_has_failed(relay: str, agent: Agent, answer: bytes) -> None:
    agent.answer = answer
    assert ask(relay, LIST) == FAILURE


def test_agent_that_has_gone_has_failed(relay: str, agent: Agent) -> None:
    os.rename(agent.path, f"{agent.path}-elsewhere")
    assert ask(relay, LIST) == FAILURE
    os.rename(f"{agent.path}-elsewhere", agent.path)
    assert ask(relay, LIST) == agent.answer


def test_closing_waits_for_nobody(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as still:  # accepts nothing, answers nothing
        still.bind(str(tmp_path / "still"))
        still.listen(1)
        relay = AgentRelay(str(tmp_path / "relay"), str(tmp_path / "still"), uid=os.getuid(), gid=os.getgid())
        waiting = [connect(str(tmp_path / "relay")) for _ in range(6)]
        for sock in waiting[1:]:
            sock.sendall(LIST)
        time.sleep(0.1)
        started = time.monotonic()
        relay.close()
        assert time.monotonic() - started < 2
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("mydocker-agent")] == []
    for sock in waiting:
        sock.close()


def test_peer_that_does_not_read_is_ended_by_closing(tmp_path: Path, agent: Agent) -> None:
    relay = AgentRelay(str(tmp_path / "relay"), agent.path, uid=os.getuid(), gid=os.getgid())
    with connect(str(tmp_path / "relay")) as sock:
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            while True:
                sock.sendall(b"\0\0\0\1\23" * 1000)
        relay.close()


def test_socket_has_the_mode_and_a_path_of_any_length(tmp_path: Path, agent: Agent) -> None:
    directory = tmp_path / ("d" * 200)
    directory.mkdir()
    os.rename(agent.path, directory / "agent")
    path = str(directory / "relay")
    relay = AgentRelay(path, str(directory / "agent"), uid=os.getuid(), gid=os.getgid(), mode=0o640)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
    os.rename(path, tmp_path / "short")
    assert ask(str(tmp_path / "short"), LIST) == agent.answer
    os.rename(tmp_path / "short", path)
    relay.close()
    assert not os.path.exists(path)
