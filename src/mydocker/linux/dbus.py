"""A client of D-Bus, as much as it takes to call methods of systemd and to hear that they are done.

Messages are marshalled by signature: a value for `s`, `o`, `g` is a str, for numbers an int, for `b` a bool, for
`ay` bytes, for other arrays a list, for a struct a tuple, for a variant a tuple (signature, value). One socket,
one call at a time; signals that come meanwhile are kept. Source: the D-Bus specification, "Message Protocol"
and "Authentication Protocol". Why not a library: docs/decisions/0015-systemd.md.
"""
from __future__ import annotations

import _socket
import os
import time

from mydocker.base.errors import Conflict, Corrupt, Denied, NotFound, Timeout, Unavailable
from mydocker.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mydocker.base.errors import MydockerError

CALL, RETURN, ERROR, SIGNAL = 1, 2, 3, 4
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SENDER, _SIGNATURE = range(1, 9)
_FIELD_KINDS = {_PATH: "o", _REPLY_SERIAL: "u", _SIGNATURE: "g"}
_NUMBERS = {"y": (1, False), "n": (2, True), "q": (2, False), "b": (4, False), "i": (4, True), "u": (4, False), "x": (8, True),
            "t": (8, False)}
_MAX_MESSAGE = 1 << 24
_TIMEOUT_S = 25.0  # what libdbus and sd-bus wait


class Message(Record):
    """One message; header fields that it lacks are ""."""

    kind: int
    serial: int
    reply_serial: int = 0
    path: str = ""
    interface: str = ""
    member: str = ""
    error: str = ""
    signature: str = ""
    body: tuple[Any, ...] = ()


# ---- marshalling

def split_signature(signature: str) -> list[str]:
    """Return the complete types of a signature: `sa(sv)` is `s`, `a(sv)`. Raises Corrupt."""
    kinds = []
    at = 0
    while at < len(signature):
        end = _end_of_type(signature, at)
        kinds.append(signature[at:end])
        at = end
    return kinds


def _end_of_type(signature: str, at: int) -> int:
    while at < len(signature) and signature[at] == "a":
        at += 1
    if at < len(signature) and signature[at] in "({":
        depth = 0
        for end in range(at, len(signature)):
            depth += (signature[end] in "({") - (signature[end] in ")}")
            if not depth:
                return end + 1
    elif at < len(signature) and signature[at] in "ybnqiuxtdsogvh":
        return at + 1
    raise Corrupt(f"D-Bus: {signature!r} is not a signature")


def _alignment(kind: str) -> int:
    if kind[0] in _NUMBERS:
        return _NUMBERS[kind[0]][0]
    return {"s": 4, "o": 4, "a": 4, "h": 4, "d": 8, "(": 8, "{": 8}.get(kind[0], 1)


class Writer:
    """Marshals values, little-endian, from a position that is a multiple of 8."""

    def __init__(self) -> None:
        self.data = bytearray()

    def align(self, size: int) -> None:
        """Fill with zeros up to a multiple."""
        self.data += bytes(-len(self.data) % size)

    def put(self, kind: str, value: Any) -> None:
        """Add one value of one complete type."""
        code = kind[0]
        self.align(_alignment(kind))
        if code in _NUMBERS:
            size, signed = _NUMBERS[code]
            self.data += int(value).to_bytes(size, "little", signed=signed)
        elif code in "so":
            encoded = value.encode()
            self.data += len(encoded).to_bytes(4, "little") + encoded + b"\0"
        elif code == "g":
            self.data += bytes((len(value),)) + value.encode() + b"\0"
        elif code == "v":
            self.put("g", value[0])
            self.put(*value)
        elif code == "a":
            self._put_array(kind[1:], value)
        elif code in "({":
            for inner, item in zip(split_signature(kind[1:-1]), value, strict=True):
                self.put(inner, item)
        else:
            raise Corrupt(f"D-Bus: no way to write {kind!r}")

    def _put_array(self, inner: str, items: Any) -> None:
        self.data += bytes(4)
        at = len(self.data)
        self.align(_alignment(inner))  # also when it is empty; not counted as its length
        start = len(self.data)
        if inner == "y":
            self.data += bytes(items)
        else:
            for item in items:
                self.put(inner, item)
        self.data[at - 4 : at] = (len(self.data) - start).to_bytes(4, "little")


class Reader:
    """Unmarshals values. Raises Corrupt when they are not what the signature says."""

    def __init__(self, data: bytes, order: Any, at: int = 0) -> None:
        self.data, self.order, self.at = data, order, at

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        if size < 0 or self.at + size > len(self.data):
            raise Corrupt("D-Bus: a message ends too early")
        self.at += size
        return self.data[self.at - size : self.at]

    def get(self, kind: str) -> Any:
        """Return one value of one complete type."""
        code = kind[0]
        self.at += -self.at % _alignment(kind)
        if code in _NUMBERS:
            size, signed = _NUMBERS[code]
            number = int.from_bytes(self.take(size), self.order, signed=signed)
            return bool(number) if code == "b" else number
        if code in "so":
            text = self.take(int.from_bytes(self.take(4), self.order) + 1)
            return text[:-1].decode("utf-8", "replace")
        if code == "g":
            return self.take(self.take(1)[0] + 1)[:-1].decode("ascii", "replace")
        if code == "v":
            inner = self.get("g")
            return inner, self.get(inner)
        if code == "a":
            return self._get_array(kind[1:])
        if code in "({":
            return tuple(self.get(inner) for inner in split_signature(kind[1:-1]))
        if code in "dh":
            return self.take(_alignment(kind))
        raise Corrupt(f"D-Bus: no way to read {kind!r}")

    def _get_array(self, inner: str) -> Any:
        length = int.from_bytes(self.take(4), self.order)
        self.at += -self.at % _alignment(inner)
        if inner == "y":
            return self.take(length)
        end = self.at + length
        if end > len(self.data):
            raise Corrupt("D-Bus: an array ends too early")
        items = []
        while self.at < end:
            items.append(self.get(inner))
        return items


def format_call(
    serial: int, destination: str, path: str, interface: str, member: str, signature: str = "", arguments: tuple[Any, ...] = (),
) -> bytes:
    """Return the bytes of a method call; `destination` is "" on a connection to the service itself."""
    body = Writer()
    for kind, value in zip(split_signature(signature), arguments, strict=True):
        body.put(kind, value)
    fields = {_PATH: path, _DESTINATION: destination, _INTERFACE: interface, _MEMBER: member, _SIGNATURE: signature}
    header = Writer()
    header.data += b"l" + bytes((CALL, 0, 1)) + len(body.data).to_bytes(4, "little") + serial.to_bytes(4, "little")
    header.put("a(yv)", [(code, (_FIELD_KINDS.get(code, "s"), value)) for code, value in fields.items() if value])
    header.align(8)
    return bytes(header.data + body.data)


def parse_message(data: bytes) -> tuple[Message, int] | None:
    """Return the message at the start of some bytes and its length; None when it has not come as a whole. Raises Corrupt."""
    if len(data) < 16:
        return None
    if data[:1] not in (b"l", b"B"):
        raise Corrupt("D-Bus: what came is not a message")
    reader = Reader(data, "little" if data[:1] == b"l" else "big", 4)
    body_length, serial, fields_length = (reader.get("u") for _ in range(3))
    start = 16 + fields_length + -fields_length % 8
    if start + body_length > _MAX_MESSAGE:
        raise Corrupt("D-Bus: a message is too long")
    if len(data) < start + body_length:
        return None
    reader.at = 12
    fields = {code: value for code, (_, value) in reader.get("a(yv)")}
    reader.at = start
    signature = fields.get(_SIGNATURE, "")
    return Message(
        kind=data[1], serial=serial, reply_serial=fields.get(_REPLY_SERIAL, 0), path=fields.get(_PATH, ""),
        interface=fields.get(_INTERFACE, ""), member=fields.get(_MEMBER, ""), error=fields.get(_ERROR_NAME, ""),
        signature=signature, body=tuple(reader.get(kind) for kind in split_signature(signature)),
    ), start + body_length


# ---- a connection

#: The last word of an error's name -> kind.
_ERROR_KINDS: dict[str, type[MydockerError]] = {
    "AccessDenied": Denied, "InteractiveAuthorizationRequired": Denied, "AuthFailed": Denied, "UnitExists": Conflict,
    "NoSuchUnit": NotFound, "NoReply": Timeout, "Timeout": Timeout,
}


class Bus:
    """A connection to a bus, or (`is_direct`) to one service by itself. Close it, or use it in `with`."""

    def __init__(self, address: str, *, is_direct: bool = False) -> None:
        """Connect and say who we are. Raises Unavailable, Denied, OSError."""
        self._serial = 0
        self._pending = b""
        self.signals: list[Message] = []
        self.is_direct = is_direct
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            self._socket.settimeout(_TIMEOUT_S)
            self._socket.connect(address)
            self._authenticate(address)
            if not is_direct:
                self.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello")
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Bus:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _authenticate(self, address: str) -> None:
        """Tell our uid; the kernel vouches for it (SCM_CREDENTIALS)."""
        # BEGIN goes with it, as sd-bus does it: systemd would read it together with the first message behind it, and wait
        # for more before it looks at that.
        self._socket.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\nBEGIN\r\n")
        answer = b""
        while not answer.endswith(b"\r\n"):
            piece = self._socket.recv(4096)
            if not piece:
                raise Unavailable(f"connect to D-Bus at {address}: it hung up")
            answer += piece
        if not answer.startswith(b"OK "):
            raise Denied(f"connect to D-Bus at {address}: it does not take uid {os.geteuid()}")

    def call(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", arguments: tuple[Any, ...] = (),
    ) -> tuple[Any, ...]:
        """Call a method and return what it answers. Raises the error that it answers, as a kind of ours; Timeout."""
        self._serial += 1
        serial = self._serial
        name = "" if self.is_direct else destination
        self._socket.sendall(format_call(serial, name, path, interface, member, signature, arguments))
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            message = self._receive(deadline, member)
            if message.kind == SIGNAL:
                self.signals.append(message)
            elif message.reply_serial == serial and message.kind == ERROR:
                text = message.body[0] if message.body and isinstance(message.body[0], str) else ""
                kind = _ERROR_KINDS.get(message.error.rpartition(".")[2], Unavailable)
                raise kind(f"D-Bus: {member}: {text or message.error} ({message.error})")
            elif message.reply_serial == serial:
                return message.body

    def next_signal(self, deadline: float) -> Message:
        """Return the next signal, one that came during a call first. `deadline` is of time.monotonic(). Raises Timeout."""
        while not self.signals:
            message = self._receive(deadline, "a signal")
            if message.kind == SIGNAL:
                self.signals.append(message)
        return self.signals.pop(0)

    def _receive(self, deadline: float, what: str) -> Message:
        while not (found := parse_message(self._pending)):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise Timeout(f"D-Bus: {what}: no answer in time")
            self._socket.settimeout(left_s)
            try:
                piece = self._socket.recv(1 << 16)
            except TimeoutError:
                continue
            if not piece:
                raise Unavailable(f"D-Bus: {what}: the connection was closed")
            self._pending += piece
        message, length = found
        self._pending = self._pending[length:]
        return message
