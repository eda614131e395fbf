"""D-Bus messages without a bus: what is written is read again, and what is broken is said to be."""
from __future__ import annotations

import pytest

from mydocker.base.errors import Corrupt
from mydocker.linux.dbus import CALL, Writer, format_call, parse_message, split_signature

UNIT = ("ssa(sv)a(sa(sv))", (
    "a.scope", "replace",
    [("Description", ("s", "ü")), ("PIDs", ("au", [1, 2])), ("Delegate", ("b", True)), ("MemoryMax", ("t", (1 << 64) - 1)),
     ("DeviceAllow", ("a(ss)", [("/dev/char/1:3", "rwm")])), ("AllowedCPUs", ("ay", b"\x05")), ("Wants", ("as", []))],
    [],
))


def test_a_signature_is_split_into_its_types() -> None:
    assert split_signature("ssa(sv)a(sa(sv))ayu") == ["s", "s", "a(sv)", "a(sa(sv))", "ay", "u"]
    for bad in ("(", "a", "Z", "a(sv"):
        with pytest.raises(Corrupt):
            split_signature(bad)


def test_a_call_is_read_as_it_was_written() -> None:
    data = format_call(7, "org.example", "/org/example", "org.example.I", "Do", *UNIT)
    assert parse_message(data) is not None
    message, length = parse_message(data + b"next")  # type: ignore[misc]
    assert length == len(data)
    assert (message.kind, message.serial, message.path, message.interface, message.member) == (
        CALL, 7, "/org/example", "org.example.I", "Do")
    assert (message.signature, message.body) == UNIT


def test_alignment_is_the_specifications() -> None:
    writer = Writer()
    for kind, value in (("y", 1), ("u", 2), ("q", 3), ("t", 4), ("s", "ab"), ("a(yt)", [])):
        writer.put(kind, value)
    assert bytes(writer.data) == (
        b"\1\0\0\0" b"\2\0\0\0" b"\3\0" b"\0\0\0\0\0\0" b"\4\0\0\0\0\0\0\0" b"\2\0\0\0ab\0" b"\0" b"\0\0\0\0" b"\0\0\0\0")


def test_a_message_is_none_until_it_has_come_as_a_whole() -> None:
    data = format_call(1, "", "/", "a.b", "C", "s", ("text",))
    assert [parse_message(data[:length]) for length in range(len(data))] == [None] * len(data)


@pytest.mark.parametrize("data", [b"x" * 64, b"l\1\0\1" + b"\xff" * 60, b"l\1\0\1\0\0\0\0\1\0\0\0\x08\0\0\0\1\1z\0\0\0\0\0"])
def test_what_is_not_a_message_is_corrupt(data: bytes) -> None:
    with pytest.raises(Corrupt):
        parse_message(data)
