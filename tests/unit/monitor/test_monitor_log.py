"""The log that a real monitor writes, read back by monitor/logs.py: whatever was written comes back."""
from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from monitor_rig import Rig, Run, wait_until

from mydocker.monitor import logs, protocol

PREFIX = 40


def sh(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


def rotation(max_bytes: int, files: int) -> tuple[str, ...]:
    return ("--log-max-size", str(max_bytes), "--log-max-files", str(files))


def copied(run: Run, **options: object) -> tuple[bytes, bytes]:
    """What copy_log writes to the two descriptors."""
    paths = [run.path("copied.out"), run.path("copied.err")]
    fds = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for path in paths]
    logs.copy_log(run.directory, fds[0], fds[1], **options)  # type: ignore[arg-type]
    for fd in fds:
        os.close(fd)
    return Path(paths[0]).read_bytes(), Path(paths[1]).read_bytes()


def finished(rig: Rig, *argv: str, options: tuple[str, ...] = (), stdin: bytes | None = None) -> Run:
    run = rig.run(*argv, flags=protocol.WANTS_STDIN | protocol.IS_OWNER, stdin=stdin is not None, options=options)
    run.session.communicate(stdin, 20)
    return run


@pytest.mark.parametrize("data", [
    b"", b"\n", b"a", b"a\n", b"\n\n\nb", b"x" * 16384 + b"\n", b"x" * 16385 + b"\n", b"x" * 16383, b"x" * 16384, b"x" * 16385,
    b"x" * 65536, b"\0\xff\n\r\n" * 5000, (b"y" * 16384 + b"\n") * 9, b"z" * 200_000 + b"\nend\n" + b"z" * 70_000,
])
def test_log_gives_back_what_was_written(rig: Rig, data: bytes) -> None:
    run = finished(rig, "cat", stdin=data)
    assert b"".join(line.message for line in logs.read_log(run.directory)) == data
    assert copied(run) == (data, b"")
    for record in run.read("container.log").split(b"\n")[:-1]:
        assert len(record) <= PREFIX + 16384 and record[30:39] in (b" stdout F", b" stdout P"), record


def test_line_of_5_mb_is_logged_in_pieces(rig: Rig) -> None:
    run = finished(rig, *sh("head -c 5000000 /dev/zero | tr '\\0' a; echo; echo after"))
    pieces = run.read("container.log").count(b" stdout P ")
    assert pieces == 5_000_000 // 16384
    assert copied(run)[0] == b"a" * 5_000_000 + b"\nafter\n"
    lines = list(logs.read_log(run.directory))
    assert max(len(line.message) for line in lines) < 1_100_000
    assert [line.message for line in logs.read_log(run.directory, tail=1)] == [b"after\n"]
    assert b"".join(line.message for line in logs.read_log(run.directory, tail=2)) == b"a" * 5_000_000 + b"\nafter\n"


def test_line_written_bit_by_bit_is_one_record(rig: Rig) -> None:
    run = finished(rig, *sh("for i in 1 2 3 4; do printf $i; sleep 0.01; done; echo"))
    assert [line.message for line in logs.read_log(run.directory)] == [b"1234\n"]


def test_time_is_that_of_the_write(rig: Rig) -> None:
    before = time.time_ns()
    run = finished(rig, "echo", "hi")
    text = next(logs.read_log(run.directory)).time_text.decode()
    assert before // 10**9 - 1 <= _seconds(text) <= time.time()
    assert text.endswith("Z") and len(text) == 30


def _seconds(text: str) -> int:
    from datetime import datetime

    return int(datetime.fromisoformat(text[:19] + "+00:00").timestamp())


def test_rotation_bounds_every_file_and_keeps_lines_whole(rig: Rig) -> None:
    run = finished(rig, *sh("i=0; while [ $i -lt 3000 ]; do echo this is line $i; i=$((i+1)); done"), options=rotation(20_000, 3))
    names = sorted(name for name in os.listdir(run.directory) if name.startswith("container.log"))
    assert names == ["container.log", "container.log.1", "container.log.2"]
    for name in names:
        assert os.path.getsize(run.path(name)) <= 20_000
        assert run.read(name).endswith(b"\n")
    assert all(os.path.getsize(run.path(name)) > 19_900 for name in names[1:])
    lines = [line.message for line in logs.read_log(run.directory)]
    assert lines == [b"this is line %d\n" % number for number in range(3000 - len(lines), 3000)]
    assert len(lines) > 600


def test_one_file_only_starts_anew(rig: Rig) -> None:
    run = finished(rig, *sh("i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done"), options=rotation(5_000, 1))
    assert [name for name in os.listdir(run.directory) if name.startswith("container.log")] == ["container.log"]
    assert run.read("container.log").endswith(b"line 999\n")


def test_smallest_files_still_hold_records(rig: Rig) -> None:
    run = finished(rig, "cat", stdin=b"w" * 2000 + b"\n", options=rotation(1, 100))
    for name in os.listdir(run.directory):
        if name.startswith("container.log"):
            assert os.path.getsize(run.path(name)) <= 256
    assert [line.message for line in logs.read_log(run.directory)] == [b"w" * 2000 + b"\n"]


def test_torn_record_of_a_killed_monitor_is_ended(rig: Rig) -> None:
    torn = b"2020-01-01T00:00:00.000000000Z stdout F torn"
    run = rig.run(*sh("echo fresh"), limit=lambda directory: Path(directory, "container.log").write_bytes(torn))
    run.session.wait(5)
    assert [line.message for line in logs.read_log(run.directory)] == [b"torn\n", b"fresh\n"]


def test_following_reader_sees_everything_through_rotations(fast_rig: Rig) -> None:
    # 40 files are enough that none is removed before it is read.
    run = fast_rig.run(
        *sh("i=0; while [ $i -lt 4000 ]; do echo $i; i=$((i+1)); [ $((i % 500)) = 0 ] && sleep 0.01; done; sleep 0.05"),
        flags=protocol.IS_OWNER, options=rotation(5_000, 60))
    lines = list(logs.read_log(run.directory, follow=True, is_ended=lambda: os.path.exists(run.path("exit"))))
    assert [line.message for line in lines] == [b"%d\n" % number for number in range(4000)]


def test_copy_follows_through_rotations(fast_rig: Rig) -> None:
    run = fast_rig.run(
        *sh("i=0; while [ $i -lt 4000 ]; do echo $i; i=$((i+1)); [ $((i % 500)) = 0 ] && sleep 0.01; done; sleep 0.05"),
        flags=protocol.IS_OWNER, options=rotation(5_000, 60))
    stdout, _ = copied(run, follow=True, is_ended=lambda: os.path.exists(run.path("exit")))
    assert stdout == b"".join(b"%d\n" % number for number in range(4000))


def test_follower_waits_for_a_rotation_that_it_meets_half_way(tmp_path: Path) -> None:
    record = b"2020-01-01T00:00:00.000000000Z stdout F "
    for number, name in enumerate(("container.log.2", "container.log.1", "container.log")):
        (tmp_path / name).write_bytes(record + b"%d\n" % number)
    directory_fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        (tmp_path / "container.log.2").rename(tmp_path / "container.log.3")
        oldest = logs._open(directory_fd, "container.log.3")
        assert oldest is not None
        (tmp_path / "container.log.1").rename(tmp_path / "gap")
        assert logs._open_successor(directory_fd, "container.log", oldest) is None
        (tmp_path / "gap").rename(tmp_path / "container.log.2")
        successor = logs._open_successor(directory_fd, "container.log", oldest)
        assert successor is not None and list(successor.blocks()) == [record + b"1\n"]
        oldest.close()
        successor.close()
    finally:
        os.close(directory_fd)


def test_follower_ends_soon_after_the_container(fast_rig: Rig) -> None:
    run = fast_rig.run(*sh("echo first; read x; echo last"), stdin=True)
    seen: list[bytes] = []

    def follow() -> None:
        for line in logs.read_log(run.directory, follow=True, is_ended=lambda: os.path.exists(run.path("exit"))):
            seen.append(line.message)

    thread = threading.Thread(target=follow)
    thread.start()
    wait_until(lambda: seen == [b"first\n"])
    run.session.write(b"\n")
    thread.join(5)
    assert not thread.is_alive()
    assert seen == [b"first\n", b"last\n"]


def test_follower_notices_that_its_reader_is_gone(fast_rig: Rig) -> None:
    run = fast_rig.run("sleep", "60")
    run.session.wait_started()
    reader, writer = os.pipe()
    timer = threading.Timer(0.05, os.close, (reader,))
    timer.start()
    with pytest.raises(BrokenPipeError):
        logs.copy_log(run.directory, writer, writer, follow=True)
    os.close(writer)


def test_hundred_megabytes_of_lines_are_logged_fast(fast_rig: Rig, tmp_path: Path) -> None:
    source = tmp_path / "emit.c"
    source.write_text(_EMIT)
    subprocess.run(["gcc", "-O2", "-o", str(tmp_path / "emit"), str(source)], check=True)
    began = time.monotonic()
    run = fast_rig.run(str(tmp_path / "emit"), flags=protocol.IS_OWNER, options=rotation(10_000_000, 3))
    assert run.session.wait(30).exit_code == 0
    took_s = time.monotonic() - began
    assert 10_000_000 < len(run.log_bytes()) < 30_000_000
    # 0.2 s on a quiet machine; the limit only tells a design that copies or forks per line.
    assert took_s < 3, f"{100 / took_s:.0f} MB/s"


_EMIT = """
#include <string.h>
#include <unistd.h>
int main(void) {
    static char data[1 << 20];
    long size = 0, total = 0;
    while (size < (long)sizeof data - 200) {
        long length = 60 + size * 7 % 41;
        memset(data + size, 'a', (size_t)length - 1);
        data[size + length - 1] = '\\n';
        size += length;
    }
    while (total < 100000000) {
        ssize_t written = write(1, data + total % size, (size_t)(size - total % size < 4096 ? size - total % size : 4096));
        if (written < 0)
            return 1;
        total += written;
    }
    return 0;
}
"""


def test_monitor_killed_in_mid_log_leaves_a_readable_log(fast_rig: Rig) -> None:
    run = fast_rig.run(*sh("while :; do echo some line of text; done"), flags=0, options=rotation(100_000, 3))
    wait_until(lambda: os.path.exists(run.path("container.log.1")))
    os.kill(run.monitor_pid, signal.SIGKILL)
    wait_until(run.is_over)
    assert {line.message for line in logs.read_log(run.directory)} == {b"some line of text\n"}
