"""nftables: whether a rule is there, and elements of maps, by netlink; whole rule sets by the program `nft`.

The questions of every start are answered by the kernel in some 20 us each; the program takes 5 ms, and is run only when rules
have to be made. Elements of maps are few bytes, so they are written here, too.

Source: include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h. Numbers are in the network's byte order but for netlink's own
header and the lengths and types of attributes.
"""
from __future__ import annotations

import _socket
import errno
import os
import struct

from mydocker.base.errors import RuntimeFailed, Unavailable
from mydocker.base.record import Record

from .netlink import attribute, parse_attributes, text_attribute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Self

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_NFGENMSG = struct.Struct(">BBH")  # family, version, resource
_NETLINK_NETFILTER, _SUBSYSTEM = 12, 10
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP, _NLM_F_CREATE, _NLM_F_EXCL = 0x1, 0x4, 0x300, 0x400, 0x200
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWTABLE, _DELTABLE, _GETCHAIN, _GETRULE, _NEWSETELEM, _GETSETELEM, _DELSETELEM = 0, 2, 4, 7, 12, 13, 14
_NESTED = 0x8000
_TABLE, _CHAIN, _CHAIN_NAME, _CHAIN_POLICY = 1, 2, 3, 5
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS, _LIST_ELEM = 1, 2, 3, 1
_ELEM_KEY, _ELEM_DATA, _ELEM_USERDATA, _DATA_VALUE = 1, 2, 6, 1
_COMMENT = 0  # libnftnl's NFTNL_UDATA_SET_ELEM_COMMENT: what `nft list` shows as comment
_BUFFER = 1 << 18
_SO_SNDBUFFORCE = 32
_ELEMENTS_PER_MESSAGE = 400
INET, IPV4, IPV6 = 1, 2, 10


class Element(Record):
    """An element of a map: its key and its value as the kernel packs them, and a comment that says whose it is."""

    key: bytes
    value: bytes = b""
    comment: str = ""


class Refused(OSError):
    """The kernel refused a change; nothing of it was made."""


class Tables:
    """A netlink socket for nftables. A context manager."""

    __slots__ = ("_sequence", "_socket")

    def __init__(self) -> None:
        self._socket = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def has_rules(self, family: int, table: str, chain: str) -> bool:
        """Tell whether a chain is there and not empty."""
        body = text_attribute(_TABLE, table) + text_attribute(_CHAIN, chain)
        return any(True for _ in self._dump(_GETRULE, family, body))

    def drops_by_policy(self, family: int, table: str, chain: str) -> bool:
        """Tell whether a base chain drops what none of its rules accepts; False when there is no such chain."""
        body = text_attribute(_TABLE, table) + text_attribute(_CHAIN_NAME, chain)
        answer = self._ask(_GETCHAIN, family, body)
        return bool(answer) and parse_attributes(answer).get(_CHAIN_POLICY) == b"\0\0\0\0"  # NF_DROP

    def find(self, table: str, name: str, key: bytes) -> Element | None:
        """Return the element of a map that has the key, None when there is none, or no such map."""
        answer = self._ask(_GETSETELEM, INET, _element_list(table, name, [Element(key=key)]))
        return next(_parse_elements(answer), None)

    def elements(self, table: str, name: str) -> list[Element]:
        """Return all elements of a map; none when there is no such map."""
        body = text_attribute(_LIST_TABLE, table) + text_attribute(_LIST_SET, name)
        return [element for answer in self._dump(_GETSETELEM, INET, body) for element in _parse_elements(answer)]

    def change(self, table: str, *, remove: list[tuple[str, Element]], add: list[tuple[str, Element]]) -> None:
        """Remove and add elements of maps (map's name, element), all or nothing. Raises Refused (ENOENT, EEXIST)."""
        keys = [(name, Element(key=element.key)) for name, element in remove]
        messages = [(_DELSETELEM, 0, body) for body in _element_lists(table, keys)]
        messages += [(_NEWSETELEM, _NLM_F_CREATE | _NLM_F_EXCL, body) for body in _element_lists(table, add)]
        if messages:
            self._commit(messages)

    def is_possible(self) -> bool:
        """Tell whether this kernel makes tables of the family inet.

        One is asked for in a transaction that has no end, which the kernel undoes.
        """
        packet = self._pack(_BATCH_BEGIN, 0, 0, b"") + self._pack(
            _SUBSYSTEM << 8 | _NEWTABLE, _NLM_F_CREATE | _NLM_F_ACK, INET, text_attribute(_TABLE, "mydocker-probe"))
        self._socket.send(packet)
        return not _code_of(self._socket.recv(_BUFFER))

    def remove_table(self, table: str) -> None:
        """Remove a table of the family inet; one that is not there is fine. Raises Refused."""
        try:
            self._commit([(_DELTABLE, 0, text_attribute(_TABLE, table))])
        except Refused as error:
            if error.errno != errno.ENOENT:
                raise

    def _pack(self, kind: int, flags: int, family: int, body: bytes) -> bytes:
        self._sequence += 1
        resource = 0 if kind > 0xFF else _SUBSYSTEM  # of the brackets around a batch
        length = _HEADER.size + _NFGENMSG.size + len(body)
        return _HEADER.pack(length, kind, flags | _NLM_F_REQUEST, self._sequence, 0) + _NFGENMSG.pack(family, 0, resource) + body

    def _commit(self, messages: list[tuple[int, int, bytes]]) -> None:
        """Have changes made in one transaction."""
        packet = self._pack(_BATCH_BEGIN, 0, 0, b"")
        for kind, flags, body in messages:
            packet += self._pack(_SUBSYSTEM << 8 | kind, flags | _NLM_F_ACK, INET, body)
        packet += self._pack(_BATCH_END, 0, 0, b"")
        if len(packet) > _BUFFER // 4:
            self._socket.setsockopt(_socket.SOL_SOCKET, _SO_SNDBUFFORCE, 2 * len(packet))
        first = self._sequence - len(messages)
        self._socket.send(packet)
        refusal = 0
        for _ in messages:
            data = self._socket.recv(_BUFFER)
            refusal = refusal or _code_of(data)
            if _HEADER.unpack_from(data)[3] < first:
                break  # a kernel without nftables refuses the bracket, and says nothing of what is in it
        if refusal:
            raise Refused(refusal, f"change nftables: {os.strerror(refusal).lower()}")

    def _ask(self, kind: int, family: int, body: bytes) -> bytes:
        """Return the attributes of the one answer, empty when there is no such thing."""
        self._socket.send(self._pack(_SUBSYSTEM << 8 | kind, 0, family, body))
        data = self._socket.recv(_BUFFER)
        _, answer, _, _, _ = _HEADER.unpack_from(data)
        if answer != _NLMSG_ERROR:
            return data[_HEADER.size + _NFGENMSG.size :]
        code = _code_of(data)
        if code in (errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL):  # EINVAL: the kernel has no nftables at all
            return b""
        raise Refused(code, f"ask nftables: {os.strerror(code).lower()}")

    def _dump(self, kind: int, family: int, body: bytes) -> Iterator[bytes]:
        """Yield the attributes of every answer to a request for a list; of a thing that is not there none."""
        self._socket.send(self._pack(_SUBSYSTEM << 8 | kind, _NLM_F_DUMP, family, body))
        found: list[bytes] = []
        while True:
            data = self._socket.recv(_BUFFER)
            at = 0
            while at + _HEADER.size <= len(data):
                length, answer, _, _, _ = _HEADER.unpack_from(data, at)
                if answer in (_NLMSG_DONE, _NLMSG_ERROR):
                    yield from found
                    return
                found.append(data[at + _HEADER.size + _NFGENMSG.size : at + length])
                at += length + (-length % 4)


def _code_of(data: bytes) -> int:
    """Return the errno of an acknowledgement, 0 for success."""
    return -int(struct.unpack_from("=i", data, _HEADER.size)[0])


def _element_lists(table: str, elements: list[tuple[str, Element]]) -> Iterator[bytes]:
    """Yield the bodies of messages for elements of several maps; an attribute holds 64 KiB, so many are several messages."""
    for name in dict.fromkeys(name for name, _ in elements):
        of_map = [element for other, element in elements if other == name]
        for start in range(0, len(of_map), _ELEMENTS_PER_MESSAGE):
            yield _element_list(table, name, of_map[start : start + _ELEMENTS_PER_MESSAGE])


def _element_list(table: str, name: str, elements: list[Element]) -> bytes:
    packed = b"".join(attribute(_LIST_ELEM | _NESTED, _pack_element(element)) for element in elements)
    return text_attribute(_LIST_TABLE, table) + text_attribute(_LIST_SET, name) + attribute(_LIST_ELEMENTS | _NESTED, packed)


def _pack_element(element: Element) -> bytes:
    body = attribute(_ELEM_KEY | _NESTED, attribute(_DATA_VALUE, element.key))
    if element.value:
        body += attribute(_ELEM_DATA | _NESTED, attribute(_DATA_VALUE, element.value))
    if element.comment:
        text = element.comment.encode() + b"\0"
        body += attribute(_ELEM_USERDATA, bytes((_COMMENT, len(text))) + text)
    return body


def _parse_elements(answer: bytes) -> Iterator[Element]:
    data = parse_attributes(answer).get(_LIST_ELEMENTS, b"")
    at = 0
    while at + 4 <= len(data):
        length, _ = struct.unpack_from("=HH", data, at)
        found = parse_attributes(data[at + 4 : at + length])
        yield Element(key=_value(found, _ELEM_KEY), value=_value(found, _ELEM_DATA), comment=_comment(found))
        at += max(length, 4) + (-length % 4)


def _value(attributes: dict[int, bytes], kind: int) -> bytes:
    return parse_attributes(attributes.get(kind, b"")).get(_DATA_VALUE, b"")


def _comment(attributes: dict[int, bytes]) -> str:
    data = attributes.get(_ELEM_USERDATA, b"")
    if len(data) < 2 or data[0] != _COMMENT:
        return ""
    return data[2 : 2 + data[1]].rstrip(b"\0").decode("utf-8", "replace")


def find_program(name: str) -> str:
    """Return the path of a program, looked for in PATH; "" when there is none."""
    for directory in os.environ.get("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").split(":"):
        path = f"{directory or '.'}/{name}"
        if os.access(path, os.X_OK):
            return path
    return ""


def run_nft(text: str) -> None:
    """Have `nft` carry out a rule set, all or nothing. Raises Unavailable (no nft: program, kernel), RuntimeFailed."""
    program = find_program("nft")
    if not program:
        raise Unavailable("find the program nft: it is not in PATH", hint="install the package nftables")
    code, words = run_program([program, "-f", "-"], text)
    if code:
        with Tables() as tables:
            if not tables.is_possible():
                raise Unavailable("make rules with nft: this kernel has no tables of the family inet", hint="modprobe nf_tables")
        raise RuntimeFailed(f"make rules with nft: {words or f'exit code {code}'}")


def run_program(argv: list[str], text: str = "") -> tuple[int, str]:
    """Run a program of the host with a text as its input; return its exit code and the first line of what it complained."""
    stdin, stderr = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("input", "errors"))
    try:
        os.write(stdin, text.encode())
        os.lseek(stdin, 0, os.SEEK_SET)
        actions: list[tuple[Any, ...]] = [
            (os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, stderr, 2),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
        environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}
        pid = os.posix_spawn(argv[0], argv, environment, file_actions=actions)
        _, status = os.waitpid(pid, 0)
        words = os.pread(stderr, 4096, 0).decode("utf-8", "replace").strip()
        return os.waitstatus_to_exitcode(status), words.partition("\n")[0]
    finally:
        os.close(stdin)
        os.close(stderr)
