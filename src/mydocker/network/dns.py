"""DNS messages: what a query asks, and answers made of addresses. Pure; the wire format is dnslib's.

Bytes come from anybody on the network. What is no query at all gets no answer (answers to answers would go on for ever);
what is one and cannot be understood is answered with an error. Imported by the resolver's process only.

Source: RFC 1035, RFC 6891 (EDNS), RFC 2308 (what "nothing" looks like).
"""
from __future__ import annotations

import ipaddress
import struct

from dnslib import AAAA, PTR, QTYPE, RCODE, RR, A, DNSError, DNSRecord

from mydocker.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

HEADER_BYTES = 12
#: The most that is sent over UDP to a client that says nothing of EDNS, and to one that does (RFC 9715).
_PLAIN_BYTES, _EDNS_BYTES = 512, 1232
#: Names move with their containers, so nobody should remember an answer.
TTL_S = 0
_A, _AAAA, _PTR, _ANY = 1, 28, 12, 255
_QR, _OPCODE = 0x8000, 0x7800


class Query(Record):
    """A question that was understood: its name in lower case without the last dot, "" when it is not ASCII."""

    record: DNSRecord
    data: bytes
    id: int
    name: str
    kind: int
    question: bytes
    max_bytes: int

    @property
    def pointed_address(self) -> str:
        """The address whose name is asked for, "" when it is another question."""
        return parse_pointer(self.name) if self.kind == _PTR else ""


def parse_query(data: bytes) -> Query | bytes | None:
    """Return the query, an error to send back, or None for what deserves no answer."""
    if len(data) < HEADER_BYTES:
        return None
    query_id, flags, questions = struct.unpack_from("!HHH", data)
    if flags & _QR:
        return None
    if flags & _OPCODE:
        return _error(query_id, flags, RCODE.NOTIMP)
    try:
        record = DNSRecord.parse(data)
        if questions != 1 or len(record.questions) != 1:
            return _error(query_id, flags, RCODE.FORMERR)
        labels: tuple[bytes, ...] = record.q.qname.label
        kind: int = record.q.qtype
        is_internet = record.q.qclass == 1
        question = data[HEADER_BYTES : _question_end(data)].lower()
        has_edns = any(extra.rtype == QTYPE.OPT for extra in record.ar)
    # struct.error and the others: dnslib hands on what some broken records make Python itself say.
    except (DNSError, struct.error, ValueError, IndexError, TypeError):
        return _error(query_id, flags, RCODE.FORMERR)
    if not is_internet:
        return _error(query_id, flags, RCODE.REFUSED)
    return Query(
        record=record, data=data, id=query_id, name=_text(labels), kind=kind, question=question,
        max_bytes=_EDNS_BYTES if has_edns else _PLAIN_BYTES)


def _text(labels: Sequence[bytes]) -> str:
    # A dot inside a label would be another name than it looks like.
    if any(b"." in label or not label.isascii() for label in labels):
        return ""
    return b".".join(labels).decode("ascii").lower()


def _question_end(data: bytes) -> int:
    """Return where the first question ends, which has no pointers: nothing is before it that one could point to."""
    at = HEADER_BYTES
    while data[at]:
        if data[at] > 63:
            raise ValueError("a pointer in the first question")
        at += data[at] + 1
    return at + 5


def _error(query_id: int, flags: int, code: int) -> bytes:
    """Return an answer without any section: even the question may be what was wrong."""
    return struct.pack("!HHHHHH", query_id, _QR | (flags & (_OPCODE | 0x0100)) | 0x0080 | code, 0, 0, 0, 0)


def failure(query: Query, code: int) -> bytes:
    """Return an error to a query that was understood, with its question."""
    reply = query.record.reply(ra=1, aa=0)
    reply.header.rcode = code
    return bytes(reply.pack())


def no_such_name(query: Query) -> bytes:
    """Return NXDOMAIN."""
    return failure(query, RCODE.NXDOMAIN)


def server_failure(query: Query) -> bytes:
    """Return SERVFAIL: nobody could be asked."""
    return failure(query, RCODE.SERVFAIL)


def answer_addresses(query: Query, addresses: Sequence[str], *, over_tcp: bool) -> bytes:
    """Return the answer about a container. Of the kind that was asked for it may have no address: then there is no record."""
    reply = query.record.reply(ra=1, aa=1)
    for address in addresses:
        is_ipv6 = ":" in address
        if query.kind in (_ANY, _AAAA if is_ipv6 else _A):
            reply.add_answer(RR(
                query.record.q.qname, _AAAA if is_ipv6 else _A, rdata=AAAA(address) if is_ipv6 else A(address), ttl=TTL_S))
    return _fit(reply, query, over_tcp=over_tcp)


def answer_pointer(query: Query, names: Sequence[str], *, over_tcp: bool) -> bytes:
    """Return the names of an address."""
    reply = query.record.reply(ra=1, aa=1)
    for name in names:
        reply.add_answer(RR(query.record.q.qname, _PTR, rdata=PTR(name), ttl=TTL_S))
    return _fit(reply, query, over_tcp=over_tcp)


def _fit(reply: DNSRecord, query: Query, *, over_tcp: bool) -> bytes:
    """Return it in the size that the client takes: as many records as fit, which is enough of so many equals."""
    packed = bytes(reply.pack())
    while not over_tcp and len(packed) > query.max_bytes and reply.rr:
        reply.rr = reply.rr[: len(reply.rr) * query.max_bytes // (len(packed) + 1)]
        packed = bytes(reply.pack())
    return packed


def parse_pointer(name: str) -> str:
    """Return the address that a name below in-addr.arpa or ip6.arpa stands for, "" when it stands for none."""
    try:
        if name.endswith(".in-addr.arpa"):
            return str(ipaddress.IPv4Address(".".join(reversed(name.removesuffix(".in-addr.arpa").split(".")))))
        if name.endswith(".ip6.arpa"):
            digits = name.removesuffix(".ip6.arpa").split(".")
            if len(digits) == 32 and all(len(digit) == 1 for digit in digits):
                return str(ipaddress.IPv6Address(bytes.fromhex("".join(reversed(digits)))))
    except ValueError:
        pass  # somebody's name that only looks like it
    return ""


def is_answer_to(data: bytes, query_id: int, question: bytes) -> bool:
    """Tell whether bytes from a name server answer what it was asked, and not something that somebody made up."""
    if len(data) < HEADER_BYTES:
        return False
    found_id, flags, _ = struct.unpack_from("!HHH", data)
    # A server that could not read the question may leave it out.
    return found_id == query_id and bool(flags & _QR) and (
        data[HEADER_BYTES : HEADER_BYTES + len(question)].lower() == question or len(data) == HEADER_BYTES)


def with_id(data: bytes, query_id: int) -> bytes:
    """Return a message under another number."""
    return struct.pack("!H", query_id) + data[2:]
