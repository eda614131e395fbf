from __future__ import annotations

import os
from typing import Any

import pytest

from mydocker.cli.output import Output, OutputClosed, encode, format_table, one_line, shorten


def test_columns_are_aligned_and_lines_have_no_blanks_at_the_end() -> None:
    assert format_table(["ID", "NAME", "PID"], [["1", "a-long-name", ""], ["12345", "b", "7"]]) == [
        "ID      NAME          PID",
        "1       a-long-name",
        "12345   b             7",
    ]


def test_a_table_without_rows_is_its_header() -> None:
    assert format_table(["ID", "NAME"], []) == ["ID   NAME"]


def test_control_characters_of_a_container_do_not_reach_the_terminal() -> None:
    assert one_line("a\nb\x1b[2Jc\td\x9b") == r"a\nb\x1b[2Jc\td\x9b"
    assert one_line("grüße …") == "grüße …"
    assert format_table(["C"], [["x\ny"]]) == ["C", r"x\ny"]


def test_bytes_that_are_no_utf8_go_out_as_they_came_in() -> None:
    assert encode(os.fsdecode(b"caf\xe9")) == b"caf\xe9"
    assert encode("\ud800") == b"?"


def test_json_is_utf8_whatever_a_container_was_given() -> None:
    reader, writer = os.pipe()
    output = Output(writer)
    output.json([os.fsdecode(b"caf\xe9"), "grüße"])
    output.json_line(os.fsdecode(b"\xff"))
    output.flush()
    os.close(writer)
    with open(reader, "rb") as stream:
        assert stream.read().decode() == '[\n    "caf\\udce9",\n    "grüße"\n]\n"\\udcff"\n'


def test_a_long_text_is_cut_with_an_ellipsis() -> None:
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 6) == "abcde…"


def test_a_reader_that_has_gone_is_told_apart_from_a_full_disk() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    output = Output(writer)
    output.line("x")
    with pytest.raises(OutputClosed):
        output.flush()
    os.close(writer)
    full = os.open("/dev/full", os.O_WRONLY)
    output = Output(full)
    output.line("x")
    with pytest.raises(OSError, match="No space"):
        output.flush()
    os.close(full)


def test_output_and_errors_keep_their_order(tmp_path: Any) -> None:
    fd = os.open(tmp_path / "both", os.O_RDWR | os.O_CREAT)
    output = Output(fd, fd)
    output.line("first")
    output.error("second", "third")
    output.line("fourth")
    output.flush()
    assert os.pread(fd, 100, 0) == b"first\nmydocker: second; third\nfourth\n"
    os.close(fd)


def test_an_error_is_one_line_whatever_its_text(tmp_path: Any) -> None:
    fd = os.open(tmp_path / "err", os.O_RDWR | os.O_CREAT)
    Output(fd, fd).error("a\nb", "c\x1b")
    assert os.pread(fd, 100, 0) == b"mydocker: a\\nb; c\\x1b\n"
    os.close(fd)


def test_an_error_that_nobody_can_read_is_not_another_error() -> None:
    Output(-1, -1).error("x")


def test_gathered_output_goes_out_before_it_grows_without_bound(tmp_path: Any) -> None:
    fd = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    output = Output(fd)
    output.write_bytes(b"x" * 70_000)
    assert os.fstat(fd).st_size == 70_000
    os.close(fd)
