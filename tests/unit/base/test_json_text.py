"""base/jsontext.py: text that every reader of JSON takes, whatever bytes a user typed."""
from __future__ import annotations

import json
import os

import pytest

from mydocker.base import jsontext


@pytest.mark.parametrize("word", [b"\xff", b"caf\xe9 caf\xc3\xa9", b"\xed\xb3\xbf", "grüße 🎉".encode()])
def test_bytes_that_are_no_utf8_come_back_as_they_were(word: bytes) -> None:
    text = jsontext.dumps({"argv": [os.fsdecode(word)]}).encode()
    assert os.fsencode(jsontext.loads(text)["argv"][0]) == word
    assert json.loads(text.decode()) == jsontext.loads(text)


def test_text_that_is_utf8_stays_readable() -> None:
    assert jsontext.dumps(["grüße"]) == '["grüße"]'
