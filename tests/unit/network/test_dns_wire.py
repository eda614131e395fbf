"""DNS messages, good ones and such as somebody sends to do harm."""
from __future__ import annotations

import random
import struct

import pytest
from dnslib import QTYPE, RCODE, DNSRecord

from mydocker.network import dns


def ask(name: str, kind: str = "A") -> dns.Query:
    query = dns.parse_query(bytes(DNSRecord.question(name, kind).pack()))
    assert isinstance(query, dns.Query)
    return query


def test_a_query_is_understood_whatever_its_case() -> None:
    query = ask("WeB.Net.")
    assert (query.name, query.pointed_address) == ("web.net", "")


@pytest.mark.parametrize(("kind", "expected"), [("A", ["10.0.0.2", "10.0.0.3"]), ("AAAA", ["fd00::2"]), ("MX", []), ("TXT", [])])
def test_an_answer_holds_the_addresses_of_the_kind_that_was_asked_for(kind: str, expected: list[str]) -> None:
    query = ask("web", kind)
    reply = DNSRecord.parse(dns.answer_addresses(query, ["10.0.0.2", "fd00::2", "10.0.0.3"], over_tcp=False))
    assert [str(rr.rdata) for rr in reply.rr] == expected
    assert (reply.header.id, reply.header.rcode, reply.header.qr, reply.header.ra) == (query.id, RCODE.NOERROR, 1, 1)
    assert all(rr.ttl == 0 for rr in reply.rr)


def test_the_question_comes_back_in_the_letters_it_was_asked_in() -> None:
    query = ask("wEb")
    assert b"wEb" in dns.answer_addresses(query, ["10.0.0.2"], over_tcp=False)  # clients compare (0x20 encoding)


def test_pointers_of_both_kinds_are_read_and_others_are_none() -> None:
    assert ask("2.0.0.10.in-addr.arpa", "PTR").pointed_address == "10.0.0.2"
    assert ask(f"{'.'.join('2' + '0' * 29 + 'df')}.ip6.arpa", "PTR").pointed_address == "fd00::2"
    for name in ("in-addr.arpa", "x.in-addr.arpa", "1.2.3.in-addr.arpa", "300.0.0.10.in-addr.arpa", "1.ip6.arpa", "web"):
        assert ask(name, "PTR").pointed_address == ""
    reply = DNSRecord.parse(dns.answer_pointer(ask("2.0.0.10.in-addr.arpa", "PTR"), ["web.net"], over_tcp=False))
    assert str(reply.rr[0].rdata) == "web.net."


def test_an_answer_over_udp_has_the_size_that_the_client_takes() -> None:
    addresses = [f"fd00::{number}" for number in range(1, 25)]
    query = ask("a" * 60 + "." + "b" * 60 + "." + "c" * 60, "AAAA")
    assert len(dns.answer_addresses(query, addresses, over_tcp=False)) <= 512
    assert len(DNSRecord.parse(dns.answer_addresses(query, addresses, over_tcp=True)).rr) == 24


@pytest.mark.parametrize("data", [b"", b"\0" * 11, b"x" * 5])
def test_what_is_no_query_gets_no_answer(data: bytes) -> None:
    assert dns.parse_query(data) is None


def test_an_answer_gets_no_answer() -> None:
    assert dns.parse_query(bytes(DNSRecord.question("web").reply().pack())) is None


def _code(answer: object) -> int:
    assert isinstance(answer, bytes)
    return int(DNSRecord.parse(answer).header.rcode)


def test_what_is_not_understood_is_an_error() -> None:
    head = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0)
    assert _code(dns.parse_query(head)) == RCODE.FORMERR  # a question too few
    assert _code(dns.parse_query(head + b"\xc0\x0c\0\1\0\1")) == RCODE.FORMERR  # a pointer to itself
    assert _code(dns.parse_query(head + b"\x3fabc")) == RCODE.FORMERR  # a label longer than the packet
    assert _code(dns.parse_query(head + b"\1a\xc0\x0c\0\1\0\1")) == RCODE.FORMERR  # a loop
    assert _code(dns.parse_query(struct.pack("!HHHHHH", 7, 0x0100, 2, 0, 0, 0) + b"\1a\0\0\1\0\1" * 2)) == RCODE.FORMERR
    assert _code(dns.parse_query(struct.pack("!HHHHHH", 7, 0x2900, 1, 0, 0, 0) + b"\1a\0\0\1\0\1")) == RCODE.NOTIMP
    assert _code(dns.parse_query(head + b"\1a\0\0\1\0\3")) == RCODE.REFUSED  # another class


def test_names_with_odd_letters_are_nobodys() -> None:
    head = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0)
    query = dns.parse_query(head + b"\3a.b\0\0\1\0\1")
    assert isinstance(query, dns.Query) and query.name == ""  # a dot inside a label
    assert _code(dns.parse_query(head + b"\2\xff\xfe\0\0\1\0\1")) == RCODE.FORMERR


def test_no_bytes_bring_it_down() -> None:
    """Random bytes, and good queries with random changes: an answer, an error or nothing, and every answer is one."""
    source = random.Random(1)
    good = [bytes(DNSRecord.question(name, kind).pack()) for name in ("web", "a.b.c.example.com") for kind in ("A", "PTR", "OPT", "ANY")]
    for _ in range(4000):
        data = bytearray(source.choice(good)) if source.random() < 0.7 else bytearray(source.randbytes(source.randrange(600)))
        for _ in range(source.randrange(6)):
            if data:
                data[source.randrange(len(data))] = source.randrange(256)
        query = dns.parse_query(bytes(data))
        if isinstance(query, dns.Query):
            answer = dns.answer_addresses(query, ["10.0.0.2", "fd00::2"], over_tcp=False)
            assert len(answer) <= query.max_bytes and answer[:2] == bytes(data[:2])
            assert query.pointed_address is not None
        elif query is not None:
            assert query[:2] == bytes(data[:2]) and query[2] & 0x80


def test_only_the_answer_to_the_question_is_taken_from_a_server() -> None:
    query = ask("example.com")
    answer = bytes(query.record.reply().pack())
    assert dns.is_answer_to(answer, query.id, query.question)
    assert not dns.is_answer_to(answer, query.id ^ 1, query.question)
    assert not dns.is_answer_to(query.data, query.id, query.question)  # a question
    other = ask("example.org").record.reply()
    other.header.id = query.id
    assert not dns.is_answer_to(bytes(other.pack()), query.id, query.question)
    assert not dns.is_answer_to(b"", query.id, query.question)
    assert dns.with_id(answer, 5)[:2] == b"\0\5"
    assert QTYPE.A == 1
