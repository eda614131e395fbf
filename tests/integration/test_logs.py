"""`logs` and the output of runs: both streams apart, any length of line, rotation, following, and readers that go away."""
from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import time

import pytest
from harness import Mydocker, until

pytestmark = [pytest.mark.needs("root", "overlay")]

#: Bytes of a line that is far longer than any buffer on its way.
LONG = 5_000_000


def log_files(mydocker: Mydocker, name: str) -> list[str]:
    """Return the log's files, newest first."""
    directory = f"{mydocker.run_dir}/{name}"
    names = [entry for entry in os.listdir(directory) if re.fullmatch(r"container\.log(\.[0-9]+)?", entry)]
    return [f"{directory}/{entry}" for entry in sorted(names, key=lambda entry: int(entry.rpartition(".")[2].replace("log", "0")))]


def run_to_end(mydocker: Mydocker, busybox: str, script: str, *options: str, name: str = "talker") -> None:
    mydocker("run", "-name", name, *options, busybox, "sh", "-c", script)


def test_streams_stay_apart_and_in_the_order_of_each(mydocker: Mydocker, busybox: str) -> None:
    run_to_end(mydocker, busybox, "for i in 1 2 3; do echo out $i; echo err $i >&2; done")
    done = mydocker("logs", "talker")
    assert (done.out, done.err) == ("out 1\nout 2\nout 3\n", "err 1\nerr 2\nerr 3\n")


def test_each_line_of_the_file_is_in_the_cri_format(mydocker: Mydocker, busybox: str) -> None:
    run_to_end(mydocker, busybox, "echo one; echo two >&2; printf rest")
    with open(f"{mydocker.run_dir}/talker/container.log", encoding="utf-8") as stream:
        lines = stream.read().splitlines()
    stamp = r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z"
    assert len(lines) == 3
    for line in lines:
        assert re.fullmatch(rf"{stamp} (stdout|stderr) [FP] .*", line)
    assert [line[31:] for line in sorted(lines, key=lambda line: line[31:])] == ["stderr F two", "stdout F one", "stdout P rest"]


def test_what_was_written_comes_back_byte_for_byte(mydocker: Mydocker, busybox: str) -> None:
    run_to_end(mydocker, busybox, r"printf 'a\r\nb\000c\n\n\377\376 no end'")
    assert mydocker("logs", "talker").raw_out == b"a\r\nb\0c\n\n\xff\xfe no end"


@pytest.mark.parametrize("stream", ["1", "2"])
def test_line_of_five_megabytes_comes_through_run_and_logs_unharmed(mydocker: Mydocker, busybox: str, stream: str) -> None:
    script = f"{{ echo begin; yes x | tr -d '\\n' | head -c {LONG}; echo; echo end; }} >&{stream}"
    shown = mydocker("run", "-name", "talker", busybox, "sh", "-c", script)
    expected = b"begin\n" + b"x" * LONG + b"\nend\n"
    logged = mydocker("logs", "talker")
    for done in (shown, logged):
        assert (done.raw_out if stream == "1" else done.raw_err) == expected
        assert (done.raw_err if stream == "1" else done.raw_out) == b""


def test_tail_counts_whole_lines_however_long(mydocker: Mydocker, busybox: str) -> None:
    run_to_end(mydocker, busybox, "echo first; yes x | tr -d '\\n' | head -c 100000; echo; echo last")
    assert mydocker("logs", "--tail", "1", "talker").out == "last\n"
    assert mydocker("logs", "--tail", "2", "talker").out == "x" * 100000 + "\nlast\n"
    assert mydocker("logs", "-n", "0", "talker").out == ""
    assert mydocker("logs", "--tail=all", "talker").out.startswith("first\n")
    assert mydocker("logs", "--tail", "99", "talker").out.startswith("first\n")
    assert "tail" in mydocker("logs", "--tail", "x", "talker", code=125).one_error_line()


def test_timestamps_are_in_front_of_each_line(mydocker: Mydocker, busybox: str) -> None:
    run_to_end(mydocker, busybox, "echo one; echo two")
    lines = mydocker("logs", "-t", "talker").out.splitlines()
    assert [line.partition(" ")[2] for line in lines] == ["one", "two"]
    for line in lines:
        assert re.match(r"20[0-9]{2}-[0-9-]+T[0-9:]+\.[0-9]{9}Z ", line)


def test_since_and_until_cut_by_time(mydocker: Mydocker, busybox: str) -> None:
    run_to_end(mydocker, busybox, "echo early; sleep 0.3; echo late")
    stamps = [line.split()[0] for line in mydocker("logs", "-t", "talker").out.splitlines()]
    assert mydocker("logs", "--since", stamps[1], "talker").out == "late\n"
    assert mydocker("logs", "--until", stamps[0].replace("Z", "000Z")[:29] + "Z", "talker").out in ("", "early\n")
    assert mydocker("logs", "--since", "1h", "talker").out == "early\nlate\n"
    assert mydocker("logs", "--since", str(int(time.time()) + 60), "talker").out == ""
    assert mydocker("logs", "--until", "1h", "talker").out == ""
    assert "since" in mydocker("logs", "--since", "yesterday", "talker", code=125).one_error_line()


def test_follow_shows_lines_while_the_container_runs_and_ends_with_it(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    os.mkfifo(f"{scratch}/go")
    mydocker("run", "-d", "-name", "talker", "-v", f"{scratch}:/s", busybox, "sh", "-c", "echo one; cat /s/go; echo two")
    with mydocker.popen("logs", "-f", "talker") as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"one\n"
        with open(f"{scratch}/go", "w", encoding="utf-8") as stream:
            stream.write("told\n")
        assert follower.stdout.read() == b"told\ntwo\n"
        assert follower.wait(20) == 0


def test_follow_of_an_ended_container_ends_at_once(mydocker: Mydocker, busybox: str) -> None:
    run_to_end(mydocker, busybox, "echo done")
    assert mydocker("logs", "-f", "talker").out == "done\n"


def test_follow_goes_on_across_rotations_and_loses_nothing_that_was_kept(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    os.mkfifo(f"{scratch}/go")
    script = "cat /s/go; i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); [ $((i%20)) = 0 ] && sleep 0.02; done; echo end"
    mydocker("run", "-d", "-name", "talker", "-v", f"{scratch}:/s", "--log-opt", "max-size=4k", "--log-opt", "max-file=3", busybox,
             "sh", "-c", script)
    with mydocker.popen("logs", "-f", "talker") as follower:
        # It follows from the first line on when the writer starts.
        until(lambda: any("anon_inode:inotify" in link for link in open_links(follower.pid)))
        with open(f"{scratch}/go", "w", encoding="utf-8") as stream:
            stream.write("go\n")
        assert follower.stdout is not None
        lines = follower.stdout.read().decode().splitlines()
        assert follower.wait(20) == 0
    assert len(log_files(mydocker, "talker")) == 3
    assert lines == ["go", *(f"line {number}" for number in range(300)), "end"]


def open_links(pid: int) -> list[str]:
    links = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            pass
    return links


def test_rotation_keeps_the_bounds_and_the_newest_lines(mydocker: Mydocker, busybox: str) -> None:
    script = "i=0; while [ $i -lt 5000 ]; do echo this is line $i; i=$((i+1)); done"
    run_to_end(mydocker, busybox, script, "--log-opt", "max-size=20k", "--log-opt", "max-file=4")
    files = log_files(mydocker, "talker")
    assert [path.rpartition("/")[2] for path in files] == ["container.log", *(f"container.log.{n}" for n in (1, 2, 3))]
    for path in files:
        assert os.stat(path).st_size <= 20 * 1024
        assert os.stat(path).st_mode & 0o777 == 0o600
    lines = mydocker("logs", "talker").out.splitlines()
    first = int(lines[0].split()[-1])
    assert 0 < first < 4900
    assert lines == [f"this is line {number}" for number in range(first, 5000)]
    assert mydocker("logs", "--tail", "600", "talker").out.splitlines() == lines[-600:]


def test_one_file_only_is_cut_too(mydocker: Mydocker, busybox: str) -> None:
    run_to_end(mydocker, busybox, "yes 0123456789 | head -n 2000", "--log-opt", "max-size=8k", "--log-opt", "max-file=1")
    (path,) = log_files(mydocker, "talker")
    assert os.stat(path).st_size <= 8 * 1024
    assert set(mydocker("logs", "talker").out.splitlines()) == {"0123456789"}


def test_log_is_bounded_by_default(mydocker: Mydocker, busybox: str) -> None:
    run_to_end(mydocker, busybox, "true")
    config = mydocker.inspect("talker")["config"]
    assert (config["log_max_bytes"], config["log_files"]) == (10_000_000, 3)


@pytest.mark.parametrize("option", ["max-size=1", "max-size=x", "max-file=0", "colour=red", "max-size"])
def test_impossible_log_option_is_refused(mydocker: Mydocker, busybox: str, option: str) -> None:
    assert "log_opt" in mydocker("run", "--log-opt", option, busybox, "true", code=125).one_error_line()
    assert mydocker.leftovers() == []


def test_standard_input_reaches_the_container_with_i_only(mydocker: Mydocker, busybox: str) -> None:
    assert mydocker("run", "--rm", "-i", busybox, "cat", stdin=b"given\n").out == "given\n"
    assert mydocker("run", "--rm", busybox, "cat", stdin=b"given\n").out == ""


def test_ten_megabytes_go_in_and_out_unharmed(mydocker: Mydocker, busybox: str) -> None:
    data = os.urandom(10_000_000)
    done = mydocker("run", "--rm", "-i", "--log-opt", "max-size=100k", busybox, "sh", "-c", "tee /f; sha256sum </f >&2", stdin=data)
    assert done.raw_out == data
    assert done.err.split()[0] == hashlib.sha256(data).hexdigest()


def test_reader_that_goes_away_ends_the_command_but_neither_the_container_nor_its_log(mydocker: Mydocker, busybox: str) -> None:
    script = "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done; exit 3"
    with mydocker.popen("run", "-name", "talker", busybox, "sh", "-c", script) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        assert process.wait(60) == 141  # 128 + SIGPIPE, as a program that writes for nobody
        assert process.stderr.read() == b""
    until(lambda: mydocker.rows()["talker"]["EXIT"] == "3")
    assert mydocker("logs", "--tail", "1", "talker").out == "19999\n"


@pytest.mark.parametrize("words", [["logs", "talker"], ["logs", "-t", "talker"], ["logs", "-f", "talker"]], ids=" ".join)
def test_logs_into_a_closed_pipe_ends_quietly(mydocker: Mydocker, busybox: str, words: list[str]) -> None:
    run_to_end(mydocker, busybox, "yes line | head -n 200000")
    with mydocker.popen(*words) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().endswith(b"line\n")
        process.stdout.close()
        assert process.wait(20) == 141
        assert process.stderr.read() == b""


def test_log_goes_on_when_nobody_takes_the_output(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    os.mkfifo(f"{scratch}/go")
    script = "echo first; cat /s/go >/dev/null; echo last"
    with mydocker.popen("run", "-name", "talker", "-v", f"{scratch}:/s", busybox, "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"first\n"
        process.send_signal(signal.SIGSTOP)  # it takes nothing, and so little output does not wait for it
        try:
            with open(f"{scratch}/go", "w", encoding="utf-8") as stream:
                stream.write("go")
            until(lambda: "last" in mydocker("logs", "talker").out)
        finally:
            process.send_signal(signal.SIGCONT)
        assert process.stdout.read() == b"last\n"


def test_output_of_background_processes_is_kept_until_the_command_ends(mydocker: Mydocker, busybox: str) -> None:
    shown = mydocker("run", "-name", "talker", busybox, "sh", "-c", "(sleep 1000; echo never) & (echo child) & wait $!; echo parent", code=0)
    assert sorted(shown.out.split()) == ["child", "parent"]
    assert sorted(mydocker("logs", "talker").out.split()) == ["child", "parent"]


def test_logs_of_a_restarted_container_go_on_in_the_same_log(mydocker: Mydocker, busybox: str) -> None:
    run_to_end(mydocker, busybox, "echo again")
    mydocker("start", "-a", "talker")
    assert mydocker("logs", "talker").out == "again\nagain\n"


def test_full_standard_output_is_reported(mydocker: Mydocker, busybox: str) -> None:
    run_to_end(mydocker, busybox, "echo something")
    with open("/dev/full", "wb") as full:
        ended = subprocess.run([*mydocker.argv, "logs", "talker"], env=mydocker.environ(), stdout=full, stderr=subprocess.PIPE, check=False)
    assert ended.returncode == 125
    assert b"no space left on device" in ended.stderr.lower() and ended.stderr.count(b"\n") == 1
