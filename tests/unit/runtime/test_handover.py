"""What may still happen in a process that enters a container."""
from __future__ import annotations

import os
import struct

import pytest

from mydocker.base.errors import InvalidRequest
from mydocker.runtime.handover import refuse_imports
from mydocker.runtime.plan import Credentials, LastStage, encode, pack_plan
from mydocker.runtime.sync import pack_failure, unpack_failure


def test_nothing_is_imported_once_imports_are_refused() -> None:
    pid = os.fork()
    if pid == 0:
        code = 9
        try:
            refuse_imports()
            import struct as there_already  # noqa: F401
            try:
                import this  # noqa: F401
            except ImportError as error:
                code = 0 if "inside of a container" in str(error) else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_bug_is_reported_with_its_line() -> None:
    try:
        struct.pack("I", -1)
    except struct.error as error:
        text = unpack_failure(pack_failure(error)).message
    assert text.startswith("internal error: error: ") and "(test_handover.py, line " in text


def test_an_error_of_a_descriptor_is_reported_without_its_number() -> None:
    with pytest.raises(OSError) as caught:
        os.execve(3 << 20, ["x"], {})
    assert unpack_failure(pack_failure(caught.value)).message == "make the container: Bad file descriptor"


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_a_string_that_no_program_takes_is_refused_by_its_field(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"process\.env: "):
        encode(text, "process.env")
    for key in ("args", "env"):
        process = {"args": ["x"], "env": [], "cwd": "/", key: [text]}
        with pytest.raises(InvalidRequest, match=rf"process\.{key}: "):
            pack_plan(process, Credentials(uid=0, gid=0), LastStage(sync_fd=3))  # type: ignore[arg-type]


def test_bytes_that_are_no_utf_8_pass() -> None:
    assert encode("a\udcff", "process.args") == b"a\xff"
