"""How far a pull is, as lines."""
from __future__ import annotations

import os
import re
import select
import time

import pytest

from mydocker.cli import progress
from mydocker.image.progress import DONE, KEPT, MOVING, Transfer


def transfer(state: str, done: int = 0, size: int = 1000) -> Transfer:
    found = Transfer("sha256:" + "ab" * 32, size)
    found.state, found.done = state, done
    return found


def test_a_pipe_gets_plain_lines() -> None:
    reader, writer = os.pipe()
    shown = progress.open_progress(writer, heading="Pulling it")
    assert type(shown) is progress.PlainProgress
    layers = [transfer(KEPT), transfer(MOVING)]
    shown.begin("a:1", layers)
    shown.note(layers[1])
    layers[1].state = DONE
    shown.note(layers[1])
    shown.end()
    os.close(writer)
    assert os.read(reader, 1000) == b"Pulling it\nabababababab: Already exists\nabababababab: Pull complete\n"
    os.close(reader)


def test_a_terminal_gets_lines_that_are_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    leader, follower = os.openpty()
    shown = progress.open_progress(follower)
    assert isinstance(shown, progress.TerminalProgress)
    layers = [transfer(MOVING, size=10_000_000), transfer(KEPT)]
    shown.begin("a:1", layers)
    for _ in range(4):
        layers[0].done += 1_000_000
        layers[0].network_s += 0.1
        time.sleep(0.1)
    layers[0].state = DONE
    shown.end()
    text = ""
    while select.select([leader], [], [], 0.2)[0]:  # a terminal gives what it has in pieces
        text += os.read(leader, 1 << 16).decode()
    os.close(leader)
    os.close(follower)
    assert re.search(r"abababababab: Pulling \[=+> +\] \S+/\S+  \S+/s  \S+ left  \(network\)", text)
    assert "Already exists" in text and "\x1b[2A" in text and text.rstrip("\r\n").endswith("\x1b[J")
    assert "Pull complete" in text.rpartition("\x1b[2A")[2]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59.4, "59s"), (61, "1m01s"), (3660, "1h01m"), (1e9, "99h46m")])
def test_times_are_short(seconds: float, text: str) -> None:
    assert progress.format_duration(seconds) == text


def test_the_bottleneck_is_where_the_time_goes() -> None:
    assert progress.bottleneck(3, 2, 1) == "network" and progress.bottleneck(1, 2, 1.5) == "cpu"
    assert progress.bottleneck(0, 1, 2) == "disk" and progress.bottleneck(0, 0, 0) == ""
