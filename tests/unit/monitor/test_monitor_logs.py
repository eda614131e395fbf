"""monitor/logs.py on files made by the test: joining, tail, times, rotation under the reader."""
from __future__ import annotations

import os
from pathlib import Path

import pytest

from mydocker.base.errors import NotFound
from mydocker.monitor import logs


def record(number: int, message: bytes, stream: bytes = b"stdout", kind: bytes = b"F") -> bytes:
    return b"2024-01-01T00:%02d:%02d.%09dZ %s %s %s\n" % (number // 60 % 60, number % 60, number, stream, kind, message)


def time_ns(number: int) -> int:
    return (1_704_067_200 + number) * 10**9 + number


def write(directory: Path, *files: bytes) -> str:
    """Write log files, oldest first."""
    for number, content in enumerate(reversed(files)):
        (directory / (f"container.log.{number}" if number else "container.log")).write_bytes(content)
    return str(directory)


def messages(directory: str, **options: object) -> list[bytes]:
    return [line.message for line in logs.read_log(directory, **options)]  # type: ignore[arg-type]


def copied(directory: str, **options: object) -> tuple[bytes, bytes]:
    paths = (f"{directory}/o", f"{directory}/e")
    fds = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for path in paths]
    logs.copy_log(directory, *fds, **options)  # type: ignore[arg-type]
    for fd in fds:
        os.close(fd)
    return Path(paths[0]).read_bytes(), Path(paths[1]).read_bytes()


def test_missing_directory_is_not_found_and_missing_log_is_empty(tmp_path: Path) -> None:
    assert messages(str(tmp_path)) == []
    with pytest.raises(NotFound):
        messages(f"{tmp_path}/nothing")


def io_counts() -> dict[str, int]:
    """Return this process's counts of bytes and calls (proc_pid_io(5))."""
    with open("/proc/self/io", encoding="ascii") as stream:
        return {key: int(value) for key, value in (line.split(": ") for line in stream)}


def test_line_has_time_stream_message_and_partial(tmp_path: Path) -> None:
    directory = write(tmp_path, record(7, b"hello", b"stderr") + record(8, b"rest", kind=b"P"))
    first, second = logs.read_log(directory)
    assert (first.time_text, first.stream, first.message, first.partial) == (
        b"2024-01-01T00:00:07.000000007Z", "stderr", b"hello\n", False)
    assert (second.stream, second.message, second.partial) == ("stdout", b"rest", True)


def test_pieces_are_joined_per_stream_and_across_files(tmp_path: Path) -> None:
    directory = write(
        tmp_path,
        record(1, b"a", kind=b"P") + record(2, b"x", b"stderr", b"P"),
        record(3, b"b", kind=b"P") + record(4, b"y", b"stderr"),
        record(5, b"c"),
    )
    assert list(logs.read_log(directory)) == [
        (b"2024-01-01T00:00:02.000000002Z", "stderr", b"xy\n", False),
        (b"2024-01-01T00:00:01.000000001Z", "stdout", b"abc\n", False),
    ]
    assert copied(directory) == (b"abc\n", b"xy\n")


def test_record_being_written_is_left_alone(tmp_path: Path) -> None:
    directory = write(tmp_path, record(1, b"whole") + record(2, b"torn")[:-3])
    assert messages(directory) == [b"whole\n"]
    assert messages(directory, tail=1) == [b"whole\n"]


def test_damaged_records_are_passed_over(tmp_path: Path) -> None:
    directory = write(tmp_path, b"\0" * 100 + b"\n\n" + record(1, b"good", b"stderr") + b"short\n")
    assert messages(directory) == [b"good\n"]
    assert copied(directory) == (b"", b"good\n")


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 299, 300, 301, 5000])
def test_tail_counts_lines_across_files(tmp_path: Path, count: int) -> None:
    contents = [b"".join(record(n, b"line %d" % n) for n in range(start, start + 100)) for start in (0, 100, 200)]
    directory = write(tmp_path, *contents)
    expected = [b"line %d\n" % n for n in range(300)][-count or 300:]
    assert messages(directory, tail=count) == expected
    assert copied(directory, tail=count)[0] == b"".join(expected)


def test_tail_of_large_blocks_meets_no_seam(tmp_path: Path) -> None:
    content = b"".join(record(n, b"%d " % n + b"m" * (n * 37 % 16000)) for n in range(200))
    directory = write(tmp_path, content)
    every = messages(directory)
    for count in (1, 50, 133, 199):
        assert messages(directory, tail=count) == every[-count:]


def test_tail_includes_the_first_pieces_of_its_lines(tmp_path: Path) -> None:
    directory = write(
        tmp_path,
        record(1, b"old") + record(2, b"A", kind=b"P"),
        record(3, b"err 1", b"stderr") + record(4, b"B", kind=b"P") + record(5, b"err 2", b"stderr"),
        record(6, b"C") + record(7, b"err 3", b"stderr") + record(8, b"tail", kind=b"P"),
    )
    assert messages(directory, tail=1) == [b"tail"]
    assert messages(directory, tail=2) == [b"err 3\n", b"tail"]
    assert messages(directory, tail=3) == [b"ABC\n", b"err 3\n", b"tail"]
    assert messages(directory, tail=4) == [b"err 2\n", b"ABC\n", b"err 3\n", b"tail"]
    assert copied(directory, tail=3) == (b"ABC\ntail", b"err 3\n")


def test_tail_does_not_read_the_whole(tmp_path: Path) -> None:
    block = b"".join(record(n, b"x" * 60) for n in range(1000))
    directory = write(tmp_path, *[block * 90] * 3)
    before = io_counts()
    assert len(messages(directory, tail=10)) == 10
    assert io_counts()["rchar"] - before["rchar"] < 1 << 20


def test_since_and_until_bound_the_lines(tmp_path: Path) -> None:
    first, second = (b"".join(record(n, b"%d" % n) for n in range(start, start + 50)) for start in (0, 50))
    directory = write(tmp_path, first, second)
    expected = [b"%d\n" % n for n in range(40, 61)]
    assert messages(directory, since_ns=time_ns(40), until_ns=time_ns(60)) == expected
    assert copied(directory, since_ns=time_ns(40), until_ns=time_ns(60))[0] == b"".join(expected)
    assert messages(directory, since_ns=time_ns(99)) == [b"99\n"]
    assert messages(directory, until_ns=time_ns(0)) == [b"0\n"]
    assert copied(directory, since_ns=time_ns(100)) == (b"", b"")


@pytest.mark.parametrize("far_ns", [10**22, 10**30])
def test_bounds_that_no_clock_tells_bound_nothing_more(tmp_path: Path, far_ns: int) -> None:
    directory = write(tmp_path, record(1, b"a"))
    assert messages(directory, since_ns=-far_ns, until_ns=far_ns) == [b"a\n"]
    assert messages(directory, since_ns=far_ns) == []
    assert messages(directory, until_ns=-far_ns) == []
    assert copied(directory, since_ns=-far_ns, until_ns=far_ns)[0] == b"a\n"


def test_timestamps_stand_before_lines_not_before_pieces(tmp_path: Path) -> None:
    directory = write(tmp_path, record(1, b"a", kind=b"P") + record(2, b"b") + record(3, b"c") + record(4, b"e", b"stderr"))
    assert copied(directory, timestamps=True) == (
        b"2024-01-01T00:00:01.000000001Z ab\n2024-01-01T00:00:03.000000003Z c\n", b"2024-01-01T00:00:04.000000004Z e\n")
    directory = write(tmp_path, b"".join(record(n, b"%d" % n) for n in range(3)))
    assert copied(directory, timestamps=True)[0].startswith(b"2024-01-01T00:00:00.000000000Z 0\n2024-01-01T00:00:01.")


def test_message_that_looks_like_a_record_is_a_message(tmp_path: Path) -> None:
    text = b"2024-01-01T00:00:01.000000001Z stdout P and stderr F"
    directory = write(tmp_path, record(1, text) + record(2, b"x stderr y"))
    assert copied(directory) == (text + b"\nx stderr y\n", b"")


def test_twenty_megabytes_are_copied_in_large_pieces(tmp_path: Path) -> None:
    block = b"".join(record(n, b"x" * 79) for n in range(1000))
    directory = write(tmp_path, block * 83, block * 83)
    null = os.open(os.devnull, os.O_WRONLY)
    before = io_counts()
    logs.copy_log(directory, null, null)
    after = io_counts()
    os.close(null)
    assert after["rchar"] - before["rchar"] >= 2 * 83 * len(block)
    assert after["syscr"] + after["syscw"] - before["syscr"] - before["syscw"] < 400


class Rotator:
    """Plays the monitor: appends to the log, and rotates."""

    def __init__(self, directory: Path, files: int) -> None:
        self.directory = directory
        self.files = files
        self.path = directory / "container.log"

    def append(self, data: bytes) -> None:
        with open(self.path, "ab") as stream:
            stream.write(data)

    def rotate(self) -> None:
        for number in range(self.files - 1, 0, -1):
            source = self.path if number == 1 else self.path.with_name(f"container.log.{number - 1}")
            if source.exists():
                source.rename(self.path.with_name(f"container.log.{number}"))
        if self.files == 1:
            self.path.unlink()
        self.path.touch()


@pytest.mark.parametrize("rotations", [1, 2, 3])
def test_follower_survives_rotations_between_two_looks(tmp_path: Path, rotations: int) -> None:
    rotator = Rotator(tmp_path, 5)
    rotator.append(record(0, b"0"))
    ended = False
    lines = logs.read_log(str(tmp_path), follow=True, is_ended=lambda: ended)
    assert next(lines).message == b"0\n"
    for number in range(rotations):
        rotator.append(record(number, b"old %d" % number))
        rotator.rotate()
        rotator.append(record(number, b"new %d" % number))
    ended = True
    expected = [text for number in range(rotations) for text in (b"old %d\n" % number, b"new %d\n" % number)]
    assert [line.message for line in lines] == expected


def test_follower_goes_on_when_its_file_was_removed(tmp_path: Path) -> None:
    rotator = Rotator(tmp_path, 1)
    rotator.append(record(0, b"0"))
    ended = False
    lines = logs.read_log(str(tmp_path), follow=True, is_ended=lambda: ended)
    assert next(lines).message == b"0\n"
    rotator.append(record(1, b"1"))
    rotator.rotate()
    rotator.append(record(2, b"2"))
    rotator.rotate()
    rotator.append(record(3, b"3"))
    ended = True
    assert [line.message for line in lines] == [b"1\n", b"3\n"]


def test_follower_waits_for_a_log_that_is_not_there_yet(tmp_path: Path) -> None:
    answers = iter([False, False, True])

    def is_ended() -> bool:
        answer = next(answers)
        if not answer:
            (tmp_path / "container.log").write_bytes(record(1, b"at last"))
        return answer

    assert [line.message for line in logs.read_log(str(tmp_path), follow=True, is_ended=is_ended)] == [b"at last\n"]


def test_abandoned_reader_closes_its_files(tmp_path: Path) -> None:
    directory = write(tmp_path, record(1, b"a"), record(2, b"b"))
    before = len(os.listdir("/proc/self/fd"))
    lines = logs.read_log(directory, follow=True)
    next(lines)
    lines.close()  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == before


def test_follower_from_the_end_begins_with_the_record_that_is_half_written(tmp_path: Path) -> None:
    whole = record(2, b"in two steps")
    directory = write(tmp_path, record(1, b"old") + whole[:50])
    answers = iter([False, True])

    def is_ended() -> bool:
        answer = next(answers)
        if answer:
            with open(tmp_path / "container.log", "ab") as stream:
                stream.write(whole[50:])
        return answer

    assert [line.message for line in logs.read_log(directory, follow=True, tail=0, is_ended=is_ended)] == [b"in two steps\n"]
