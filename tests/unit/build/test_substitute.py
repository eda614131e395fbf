"""Substitution: a table after that of moby's own tests, and what must not cost more than it says."""
from __future__ import annotations

import pytest

from mydocker.base.errors import InvalidRequest
from mydocker.build.substitute import substitute, substitute_document, substitute_words

VARIABLES = {"PWD": "/home", "SHELL": "bash", "KOREAN": "한국어", "NULL": "", "path": "aaa/bbb/ccc", "word": "abcabc", "v1": "1.2.3"}

TABLE = [
    ("hello", "hello"), ("he'll'o", "hello"), ("he\\'llo", "he'llo"), ("he\\\\'llo'", "he\\llo"), ("abc\\tdef", "abctdef"),
    ("'abc\\tdef'", "abc\\tdef"), ("\"abc\\tdef\"", "abc\\tdef"), ("hello\\\"x", "hello\"x"), ("\"hello\\\"x\"", "hello\"x"),
    ("$PWD", "/home"), ("${PWD}", "/home"), ("x${PWD}y", "x/homey"), ("'$PWD'", "$PWD"), ("\"$PWD\"", "/home"), ("\\$PWD", "$PWD"),
    ("\"\\$PWD\"", "$PWD"), ("$NOPE", ""), ("x$NOPE.y", "x.y"), ("$", "$"), ("a$", "a$"), ("$.x", "$.x"), ("$1", ""), ("$PWD:$SHELL", "/home:bash"),
    ("${PWD:-x}", "/home"), ("${NOPE:-x}", "x"), ("${NULL:-x}", "x"), ("${NULL-x}", ""), ("${NOPE-x}", "x"), ("${NOPE:-}", ""),
    ("${PWD:+x}", "x"), ("${NOPE:+x}", ""), ("${NULL:+x}", ""), ("${NULL+x}", "x"), ("${PWD:?no}", "/home"), ("${NULL?no}", ""),
    ("${NOPE:-${PWD}}", "/home"), ("${NOPE:-\"a b\"}", "a b"), ("${NOPE:-a\\}b}", "a}b"), ("${NOPE:-$SHELL-x}", "bash-x"),
    ("${path#*/}", "bbb/ccc"), ("${path##*/}", "ccc"), ("${path%/*}", "aaa/bbb"), ("${path%%/*}", "aaa"), ("${path#x}", "aaa/bbb/ccc"),
    ("${word/a/X}", "XbcabcX"[:-1]), ("${word//a/X}", "XbcXbc"), ("${word/b*/-}", "a-"), ("${word//?b/-}", "-c-c"), ("${word/c/}", "ababc"),
    ("${v1%.*}", "1.2"), ("${v1##*.}", "3"), ("${path//\\//-}", "aaa-bbb-ccc"), ("${v1#1\\.}", "2.3"),
    ("${v1//*/y}", "y"), ("${v1/*/y}", "y"), ("x${NULL//*/y}", "xy"), ("${word//a*/y}", "y"), ("$v1한", ""), ("$v1 한", "1.2.3 한"), ("${NULL/a/b}", ""),
    ("안녕${KOREAN}", "안녕한국어"), ("'a''b'\"c\"", "abc"), ("''", ""),
]

ERRORS = ["'open", "\"open", "${", "${}", "${PWD", "${PWD:", "${PWD:x}", "${PWD^}", "${NOPE:?missing}", "${NOPE?}", "${PWD:-x", "${word/a}"]

WORDS = [
    ("hello world", ["hello", "world"]), ("'two words' x", ["two words", "x"]), ("$PWD $SHELL", ["/home", "bash"]), ("", []), ("$NOPE", []),
    ("a\"b c\"d", ["ab cd"]), ("80 443", ["80", "443"]), ("\"\"", [""]),
]

#: The corners: what docker makes of each, as its own table of such words has it (moby/buildkit frontend/dockerfile/shell).
CORNERS = [
    ("hello", "hello"), ("he'll'o", "hello"), ("he\\'llo", "he'llo"), ("abc\\tdef", "abctdef"), ("\"abc\\tdef\"", "abc\\tdef"),
    ("\"abc\\\\tdef\"", "abc\\tdef"), ("'abc\\tdef'", "abc\\tdef"), ("hello\\", "hello"), ("hello\\\\", "hello\\"),
    ("\"hel'lo\"", "hel'lo"), ("'hello\\'", "hello\\"), ("'hello\\there'", "hello\\there"),
    ("'hello\\\\there'", "hello\\\\there"), ("\"''\"", "''"), ("$.", "$."), ("he$1x", "hex"), ("he$.x", "he$.x"),
    ("he$pwd.", "he."), ("he$PWD", "he/home"), ("he\\$PWD", "he$PWD"), ("he\\\\$PWD", "he\\/home"), ("\"he\\$PWD\"", "he$PWD"),
    ("\"he\\\\$PWD\"", "he\\/home"), ("\\${}", "${}"), ("\\${}aaa", "${}aaa"), ("he\\${}", "he${}"), ("he\\${}xx", "he${}xx"),
    ("he${hi}", "he"), ("he${hi}xx", "hexx"), ("he${PWD}", "he/home"), ("he${XXX:-000}xx", "he000xx"),
    ("he${PWD:-000}xx", "he/homexx"), ("he${XXX:-$PWD}xx", "he/homexx"), ("he${XXX:-${PWD:-yyy}}xx", "he/homexx"),
    ("he${XXX:-${YYY:-yyy}}xx", "heyyyxx"), ("he${PWD?}", "he/home"), ("he${PWD:?}", "he/home"), ("he${NULL?}", "he"),
    ("he${XXX:+${PWD}}xx", "hexx"), ("he${PWD:+${XXX}}xx", "hexx"), ("he${PWD:+${SHELL}}xx", "hebashxx"),
    ("he${XXX:+000}xx", "hexx"), ("he${PWD:+000}xx", "he000xx"), ("'he${XX}'", "he${XX}"), ("\"he${PWD}\"", "he/home"),
    ("\"he'$PWD'\"", "he'/home'"), ("\"$PWD\"", "/home"), ("'$PWD'", "$PWD"), ("'\\$PWD'", "\\$PWD"),
    ("'\"hello\"'", "\"hello\""), ("'he\\$PWD'", "he\\$PWD"), ("he${PWD:+${PWD}:}xx", "he/home:xx"),
    ("he${XXX:-\\$PWD:}xx", "he$PWD:xx"), ("he${XXX:-\\${PWD}z}xx", "he${PWDz}xx"), ("안녕하세요", "안녕하세요"), ("안'녕'하세요", "안녕하세요"),
    ("안녕\\'하세요", "안녕'하세요"), ("안녕\\t하세요", "안녕t하세요"), ("\"안녕\\t하세요\"", "안녕\\t하세요"), ("안녕하세요\\", "안녕하세요"),
    ("안녕하세요\\\\", "안녕하세요\\"), ("\"안녕'하세요\"", "안녕'하세요"), ("'안녕하세요\\'", "안녕하세요\\"), ("안녕$1x", "안녕x"), ("안녕$.x", "안녕$.x"),
    ("안녕$pwd.", "안녕."), ("안녕$PWD", "안녕/home"), ("안녕\\$PWD", "안녕$PWD"), ("안녕\\\\$PWD", "안녕\\/home"),
    ("안녕${PWD:-000}xx", "안녕/homexx"), ("안녕${XXX:-${KOREAN}}xx", "안녕한국어xx"), ("$KOREAN", "한국어"), ("안녕$KOREAN", "안녕한국어"),
    ("${aaa}}", "}"), ("${aaa:-bbb}}", "bbb}"), ("${aaa:-{{bbb}", "{{bbb"), ("${aaa:-{{bbb}}", "{{bbb}"), ("$@A", "A"),
    ("$*A", "A"), ("$#A", "A"), ("$?A", "A"), ("$-A", "A"), ("$$A", "A"), ("$!A", "A"), ("$0A", "A"), ("$12", ""), ("$_x", ""),
    ("${SHELL-x}", "bash"), ("${NULL:-}", ""),
]

CORNERS_REFUSED = [
    "he'llo", "he\\\\'llo", "\"hello", "\"hello\\\"", "'hello", "he${}", "he${}xx", "he${.}", "he${XXX:YYY}", "he${XXX?}",
    "he${XXX:?}", "he${NULL:?}", "he${PWD", "he${PWD:=000}xx", "안'녕하세요", "안\\\\'녕하세요", "'안녕\\t하세요", "\"안녕하세요", "\"안녕하세요\\\"",
    "'안녕하세요", "안녕${}", "${{aaa}", "${aaa", "${{aaa:-bbb}", "${aaa:-bbb",
]


@pytest.mark.parametrize(("word", "expected"), [*TABLE, *CORNERS])
def test_word_becomes(word: str, expected: str) -> None:
    assert substitute(word, VARIABLES) == expected


@pytest.mark.parametrize("word", [*ERRORS, *CORNERS_REFUSED])
def test_word_is_refused(word: str) -> None:
    with pytest.raises(InvalidRequest):
        substitute(word, VARIABLES)


@pytest.mark.parametrize(("text", "expected"), WORDS)
def test_text_becomes_words(text: str, expected: list[str]) -> None:
    assert substitute_words(text, VARIABLES) == expected


def test_what_a_variable_brings_is_split_unless_it_is_quoted() -> None:
    assert substitute_words("$p \"$p\"", {"p": "1 2"}) == ["1", "2", "1 2"]


def test_other_escape_letter_takes_the_place_of_the_backslash() -> None:
    assert substitute("`$PWD \\n", VARIABLES, "`") == "$PWD \\n"


def test_quotes_of_a_document_are_text() -> None:
    assert substitute_document("'$PWD' \"x\" \\$PWD \\n\n", VARIABLES) == "'/home' \"x\" $PWD \\n\n"


def test_bombs_are_refused() -> None:
    with pytest.raises(InvalidRequest):
        substitute("${a:-" * 200 + "x" + "}" * 200, {})
    with pytest.raises(InvalidRequest):
        substitute("$a" * 1000, {"a": "x" * 10_000})
