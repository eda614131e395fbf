"""Every row of the seed's table, with real containers: what a person types, and what the kernel and the disk show then."""
from __future__ import annotations

import json
import os
import re
import signal
import time
from typing import Any

import pytest
from harness import Mydocker, process_environ, until

pytestmark = [pytest.mark.needs("root", "overlay")]

SEED_KEYS = ("pid", "id", "name", "command", "createTime", "status")


def record_of(mydocker: Mydocker, name: str) -> dict[str, Any]:
    """Return the record where the seed says it is."""
    with open(f"{mydocker.run_dir}/{name}/config.json", encoding="utf-8") as stream:
        document: dict[str, Any] = json.load(stream)
    return document


# --- run ------------------------------------------------------------------------------------------


def test_container_has_namespaces_of_its_own_and_the_command_is_pid_1(mydocker: Mydocker, busybox: str) -> None:
    kinds = ("uts", "pid", "mnt", "net", "ipc")
    shown = mydocker("run", "--rm", busybox, "sh", "-c", "echo $$; for k in uts pid mnt net ipc; do readlink /proc/1/ns/$k; done").out
    pid, *inside = shown.split()
    assert pid == "1"
    for kind, namespace in zip(kinds, inside, strict=True):
        assert namespace.startswith(f"{kind}:[")
        assert namespace != os.readlink(f"/proc/self/ns/{kind}")


def test_root_file_system_is_the_image_and_nothing_of_the_host(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    shown = mydocker("run", "--rm", busybox, "sh", "-c", f"ls /; ls {scratch} 2>&1; cat /proc/mounts").out
    assert "busybox" not in os.listdir("/")
    assert "bin" in shown.split()
    assert "No such file" in shown
    assert mydocker.root not in shown


def test_own_network_has_loopback_only(mydocker: Mydocker, busybox: str) -> None:
    shown = mydocker(
        "run", "--rm", "--network", "none", busybox, "sh", "-c", "ls /sys/class/net; ping -c 1 -W 2 127.0.0.1 >/dev/null && echo up").out
    assert shown.split() == ["lo", "up"]


def test_hostname_is_the_id_and_is_set_inside_only(mydocker: Mydocker, busybox: str) -> None:
    before = os.uname().nodename
    name = mydocker("run", "-d", busybox, "sh", "-c", "hostname; cat /etc/hostname; sleep 1000").out.strip()
    until(lambda: mydocker("logs", name).out.split() == [name, name])
    assert os.uname().nodename == before


def test_foreground_run_shows_output_passes_the_exit_code_on_and_keeps_the_container(mydocker: Mydocker, busybox: str) -> None:
    done = mydocker("run", "--name", "kept", busybox, "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert (done.out, done.err) == ("out\n", "err\n")
    assert mydocker.rows()["kept"]["STATUS"] == "exited"
    mydocker("rm", "kept")
    assert mydocker.rows() == {}


def test_foreground_run_with_rm_leaves_nothing(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "--rm", busybox, "sh", "-c", "exit 3", code=3)
    assert mydocker.rows() == {}
    assert mydocker.leftovers() == []


def test_killed_command_gives_128_and_the_signal(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "--rm", busybox, "sh", "-c", "sh -c 'kill -9 $$'; exit $?", code=137)
    name = mydocker("run", "-d", busybox, "sleep", "1000").out.strip()
    mydocker("kill", name)
    assert mydocker.rows()[name]["EXIT"] == "137 (SIGKILL)"
    assert mydocker.rows()[name]["STATUS"] == "exited"


def test_terminal_session_is_removed_at_its_end_unless_rm_is_false(mydocker: Mydocker, busybox: str) -> None:
    with mydocker.terminal("run", "-ti", busybox, "sh", "-c", "tty; exit 5") as session:
        assert session.wait() == 5
        assert "/dev/pts/0" in session.text
    assert mydocker.rows() == {}
    with mydocker.terminal("run", "-it", "--rm=false", "-name", "kept", busybox, "true") as session:
        assert session.wait() == 0
    assert mydocker.rows()["kept"]["STATUS"] == "exited"


@pytest.mark.parametrize("spelling", [["-ti", "-d"], ["-d", "-it"], ["-t", "-i", "--detach"], ["-dti"]], ids=" ".join)
def test_terminal_with_detach_is_refused_and_says_so(mydocker: Mydocker, busybox: str, spelling: list[str]) -> None:
    refused = mydocker("run", *spelling, busybox, "true", code=125)
    assert "-ti and -d" in refused.one_error_line()
    assert mydocker.leftovers() == []


def test_detached_run_returns_an_id_of_ten_digits_and_the_container_lives_on(mydocker: Mydocker, busybox: str) -> None:
    name = mydocker("run", "-d", busybox, "sleep", "1000").out
    assert re.fullmatch(r"[0-9]{10}\n", name)
    row = mydocker.rows()[name.strip()]
    assert row["STATUS"] == "running"
    with open(f"/proc/{row['PID']}/cmdline", "rb") as stream:
        assert stream.read() == b"sleep\x001000\x00"
    with open(f"/proc/{row['PID']}/status", encoding="utf-8") as stream:
        assert "\nNSpid:\t" + row["PID"] + "\t1\n" in stream.read()


def test_without_a_name_the_id_is_the_name(mydocker: Mydocker, busybox: str) -> None:
    container_id = mydocker("run", "-d", busybox, "sleep", "1000").out.strip()
    row = mydocker.rows()[container_id]
    assert row["ID"] == row["NAME"] == container_id
    assert os.path.isdir(f"{mydocker.run_dir}/{container_id}")


def test_name_in_use_is_refused_and_the_first_goes_on(mydocker: Mydocker, busybox: str) -> None:
    first = mydocker("run", "-d", "-name", "taken", busybox, "sleep", "1000").out.strip()
    refused = mydocker("run", "-d", "-name", "taken", busybox, "true", code=125)
    assert "taken" in refused.one_error_line()
    assert first in refused.err
    assert list(mydocker.rows()) == ["taken"]
    assert os.listdir(f"{mydocker.root}/container") == [first]
    mydocker("rm", "-f", "taken")
    mydocker("run", "--rm", "-name", "taken", busybox, "true")


@pytest.mark.parametrize("name", ["", "-x", "a/b", "..", "a b", "x" * 129, "a\nb", "é"])
def test_impossible_name_is_refused(mydocker: Mydocker, busybox: str, name: str) -> None:
    assert "name" in mydocker("run", "--name", name, busybox, "true", code=125).one_error_line()
    assert mydocker.leftovers() == []


# --- flags ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "script", "shown"),
    [
        (["-name", "n1"], "hostname >/dev/null; echo fine", "fine"),
        (["--name=n1"], "echo fine", "fine"),
        (["-e", "A=1", "-e", "B=x y"], 'echo "$A $B"', "1 x y"),
        (["--env", "A=1", "-eB=2", "-e=C=3"], 'echo "$A$B$C"', "123"),
        (["-w", "/tmp"], "pwd", "/tmp"),
        (["--workdir=/new/place"], "pwd", "/new/place"),
        (["-u", "12:34"], "id -u; id -g", "12\n34"),
        (["-hostname", "box"], "hostname", "box"),
        (["--hostname=box"], "cat /etc/hostname", "box"),
        (["-h", "box"], "hostname", "box"),
        (["--entrypoint", "/bin/echo"], "ignored", "-c ignored"),
        (["--read-only"], "touch /x 2>/dev/null || echo ro", "ro"),
        (["-i"], "cat; echo end", "end"),
        (["--rm=true", "-i=false"], "cat; echo end", "end"),
        (["--network", "none"], "ls /sys/class/net", "lo"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_flag_spelling_does_what_it_says(mydocker: Mydocker, busybox: str, words: list[str], script: str, shown: str) -> None:
    command = ["-c", script] if "--entrypoint" in words else ["sh", "-c", script]
    assert mydocker("run", *words, busybox, *command).out.strip() == shown


@pytest.mark.needs("cpuset")
@pytest.mark.parametrize("options", [
    ["-m", "64m", "-cpushare", "512", "-cpuset", "0", "-v", "VOLUME:/data", "-e", "K=V", "-name", "seed"],
    ["-m=64m", "-cpushare=512", "-cpuset=0", "-v=VOLUME:/data", "-e=K=V", "-name=seed"],
    ["--memory", "64m", "--cpu-shares", "512", "--cpuset-cpus", "0", "--volume", "VOLUME:/data", "--env", "K=V", "--name", "seed"],
    ["--memory=64m", "--cpu-shares=512", "--cpuset-cpus=0", "--volume=VOLUME:/data", "--env=K=V", "--name=seed"],
    ["-memory", "64m", "-c", "512", "-cpuset-cpus", "0", "-volume", "VOLUME:/data", "-env", "K=V", "-name", "seed"],
], ids=["seed", "seed-with-equals", "long", "long-with-equals", "long-with-one-dash"])
def test_all_spellings_make_the_same_container(mydocker: Mydocker, busybox: str, scratch: str, options: list[str]) -> None:
    words = [word.replace("VOLUME", scratch) for word in options]
    mydocker("run", "-d", *words, busybox, "sleep", "1000")
    config = record_of(mydocker, "seed")["config"]
    assert (config["memory_bytes"], config["cpu_shares"], config["cpuset_cpus"]) == (64 << 20, 512, "0")
    assert config["volumes"] == [{"source": scratch, "target": "/data", "options": []}]
    assert config["env"] == ["K=V"]


def test_flags_behind_the_image_belong_to_the_command(mydocker: Mydocker, busybox: str) -> None:
    assert mydocker("run", "--rm", busybox, "echo", "-d", "--name", "x", "--", "-ti").out == "-d --name x -- -ti\n"


# --- volumes and environment ----------------------------------------------------------------------


def test_environment_is_seen_by_the_container_and_by_every_later_exec(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "env", "-e", "A=1 2", "-e", "EMPTY=", busybox, "sh", "-c", 'echo "$A"; exec sleep 1000')
    until(lambda: mydocker("logs", "env").out == "1 2\n")
    for _ in range(2):
        assert mydocker("exec", "env", "sh", "-c", 'echo "$A<${EMPTY-unset}>"').out == "1 2<>\n"


def test_volume_is_the_host_directory_and_outlives_the_container(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    with open(f"{scratch}/given", "w", encoding="utf-8") as stream:
        stream.write("from outside\n")
    shown = mydocker("run", "-name", "v", "-v", f"{scratch}:/data", busybox, "sh", "-c", "cat /data/given; echo inside >/data/made")
    assert shown.out == "from outside\n"
    mydocker("rm", "v")
    assert sorted(os.listdir(scratch)) == ["given", "made"]
    with open(f"{scratch}/made", encoding="utf-8") as stream:
        assert stream.read() == "inside\n"


# --- record and statuses --------------------------------------------------------------------------


def test_record_is_at_the_place_of_the_seed_with_its_keys_as_strings(mydocker: Mydocker, busybox: str) -> None:
    before = time.time()
    container_id = mydocker("run", "-d", "-name", "rec", busybox, "sleep", "1000").out.strip()
    record = record_of(mydocker, "rec")
    assert {key: type(record[key]) for key in SEED_KEYS} == dict.fromkeys(SEED_KEYS, str)
    assert (record["id"], record["name"], record["command"], record["status"]) == (container_id, "rec", "sleep 1000", "running")
    assert record["pid"] == mydocker.rows()["rec"]["PID"]
    created = time.mktime(time.strptime(record["createTime"], "%Y-%m-%d %H:%M:%S"))
    assert before - 1 <= created <= time.time()
    assert os.path.exists(f"{mydocker.run_dir}/rec/container.log")


def test_statuses_from_created_to_the_two_ends(mydocker: Mydocker, busybox: str) -> None:
    def status(name: str) -> str:
        row = mydocker.rows()[name]
        assert (row["PID"] != "") == (row["STATUS"] in ("created", "running", "paused"))
        return row["STATUS"]

    mydocker("create", "--name", "one", busybox, "sleep", "1000")
    assert status("one") == "created"
    assert record_of(mydocker, "one")["status"] == "created"
    mydocker("start", "one")
    assert status("one") == "running"
    mydocker("pause", "one")
    assert status("one") == "paused"
    mydocker("unpause", "one")
    assert status("one") == "running"
    mydocker("stop", "-t", "0", "one")
    assert status("one") == "stopped"
    record = record_of(mydocker, "one")
    assert (record["status"], record["pid"]) == ("stopped", "")
    mydocker("run", "-d", "--name", "two", busybox, "true")
    until(lambda: status("two") == "exited")
    until(lambda: record_of(mydocker, "two")["status"] == "exited")
    assert record_of(mydocker, "two")["pid"] == ""


# --- ps -------------------------------------------------------------------------------------------


def test_ps_shows_every_container_in_aligned_columns(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "short", busybox, "sleep", "1000")
    mydocker("run", "-name", "a-much-longer-name", busybox, "true")
    lines = mydocker("ps").out.splitlines()
    head = lines[0].split()
    assert head[:6] == ["ID", "NAME", "PID", "STATUS", "COMMAND", "CREATED"]
    assert len(lines) == 3
    for title in head[:6]:
        column = lines[0].index(title)
        for line in lines[1:]:
            assert column == 0 or line[column - 1] == " "
    assert mydocker("ps", "-a").out == mydocker("ps").out


def test_ps_narrows_by_running_filter_quiet_and_format(mydocker: Mydocker, busybox: str) -> None:
    running = mydocker("run", "-d", "-name", "up", "-l", "tier=web", busybox, "sleep", "1000").out.strip()
    mydocker("run", "-name", "down", busybox, "sh", "-c", "exit 3", code=3)
    assert mydocker("ps", "-q", "--running").out.split() == [running]
    names = ["--format", "{{.Name}}"]
    for words, expected in [
        (["--filter", "status=exited"], ["down"]), (["--filter", "name=up"], ["up"]), (["-f", "label=tier=web"], ["up"]),
        (["-f", "exited=3"], ["down"]), (["-f", "status=running", "-f", "status=exited"], ["down", "up"]),
        (["--filter", f"ancestor={busybox}"], ["down", "up"]), (["-l"], ["down"]), (["-f", f"id={running}"], ["up"]),
        (["-f", "name=^(up|nosuch)$"], ["up"]), (["-f", "name=^d.*n$"], ["down"]), (["--running", "-f", "status=exited"], []),
    ]:
        assert mydocker("ps", *words, *names).out.split() == expected
    documents = [json.loads(line) for line in mydocker("ps", "--format", "json").out.splitlines()]
    assert {document["Name"]: document["Status"] for document in documents} == {"up": "running", "down": "exited"}
    for wrong in ("nonsense=1", "name=(", "status=gone", "exited=x"):
        assert "filter" in mydocker("ps", "-f", wrong, code=125).one_error_line()


def test_command_with_odd_words_cannot_break_the_table(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-name", "odd", busybox, "echo", "a\nb\tc\x1b[31m")
    shown = mydocker("ps").out
    assert len(shown.splitlines()) == 2
    assert "\x1b" not in shown


# --- stop and rm ----------------------------------------------------------------------------------


def test_stop_sends_sigterm_and_the_command_may_end_by_itself(mydocker: Mydocker, busybox: str) -> None:
    script = "trap 'echo got it; exit 4' TERM; echo ready; while :; do sleep 0.05; done"
    mydocker("run", "-d", "-name", "polite", busybox, "sh", "-c", script)
    until(lambda: "ready" in mydocker("logs", "polite").out)
    started = time.monotonic()
    mydocker("stop", "polite")
    assert time.monotonic() - started < 8
    row = mydocker.rows()["polite"]
    assert (row["STATUS"], row["PID"], row["EXIT"]) == ("stopped", "", "4")
    assert "got it" in mydocker("logs", "polite").out


def test_stop_kills_after_the_grace_time(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "deaf", busybox, "sh", "-c", "trap '' TERM; while :; do sleep 0.05; done")
    pid = int(mydocker.rows()["deaf"]["PID"])
    started = time.monotonic()
    mydocker("stop", "-t", "1", "deaf")
    assert 1 <= time.monotonic() - started < 5
    assert not os.path.exists(f"/proc/{pid}")
    assert mydocker.rows()["deaf"]["EXIT"] == "137 (SIGKILL)"


def test_stop_of_an_ended_container_is_fine_and_changes_nothing(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-name", "done", busybox, "true")
    mydocker("stop", "done")
    assert mydocker.rows()["done"]["STATUS"] == "exited"


def test_stop_ends_a_paused_container(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "frozen", busybox, "sleep", "1000")
    mydocker("pause", "frozen")
    mydocker("stop", "-t", "0", "frozen")
    assert mydocker.rows()["frozen"]["STATUS"] == "stopped"


def test_rm_refuses_a_running_container_and_force_takes_it_away(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "busy", busybox, "sleep", "1000")
    refused = mydocker("rm", "busy", code=125)
    assert "busy" in refused.one_error_line() and "running" in refused.err
    assert mydocker.rows()["busy"]["STATUS"] == "running"
    mydocker("rm", "-f", "busy")
    assert mydocker.rows() == {}
    assert mydocker.leftovers() == []


def test_rm_removes_record_log_write_layer_and_cgroup(mydocker: Mydocker, busybox: str) -> None:
    container_id = mydocker("run", "-name", "gone", busybox, "sh", "-c", "echo x; echo y >/file").out and \
        mydocker("inspect", "-f", "{{.id}}", "gone").out.strip()
    assert os.path.exists(f"{mydocker.root}/container/{container_id}/upper/file")
    mydocker("rm", "gone")
    assert mydocker.leftovers() == []
    assert os.listdir(mydocker.run_dir) == []


def test_rm_of_several_goes_on_after_an_error(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-name", "a", busybox, "true")
    mydocker("run", "-name", "b", busybox, "true")
    done = mydocker("rm", "a", "nobody", "b", code=125)
    assert done.out.split() == ["a", "b"]
    assert "nobody" in done.one_error_line()
    assert mydocker.rows() == {}


def test_created_container_can_be_removed(mydocker: Mydocker, busybox: str) -> None:
    mydocker("create", "--name", "never", busybox, "true")
    mydocker("rm", "never")
    assert mydocker.leftovers() == []


# --- images, write layer, commit ------------------------------------------------------------------


def test_one_container_never_sees_the_writes_of_another(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "writer", busybox, "sh", "-c", "echo mine >/mine; rm /bin/wget; sleep 1000")
    until(lambda: mydocker("exec", "writer", "sh", "-c", "cat /mine 2>/dev/null; true").out == "mine\n")
    shown = mydocker("run", "--rm", busybox, "sh", "-c", "ls /mine 2>&1; ls /bin/wget").out
    assert "No such file" in shown and "/bin/wget\n" in shown


def test_commit_makes_an_image_of_the_container_as_it_is_now(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "base", busybox, "sh", "-c", "mkdir /new; echo kept >/new/file; rm /bin/wget; sleep 1000")
    until(lambda: mydocker("exec", "base", "sh", "-c", "test ! -e /bin/wget && echo yes; true").out == "yes\n")
    committed = mydocker("commit", "base", "committed:v1").out
    assert committed == mydocker("images", "--no-trunc", "-q", "committed").out
    assert mydocker.rows()["base"]["STATUS"] == "running"
    mydocker("exec", "base", "sh", "-c", "echo later >/new/file")
    shown = mydocker("run", "--rm", "committed:v1", "sh", "-c", "cat /new/file; ls /bin/wget 2>&1; ls /bin/cat").out
    assert shown.splitlines() == ["kept", "ls: /bin/wget: No such file or directory", "/bin/cat"]
    mydocker("rm", "-f", "base")
    assert mydocker("run", "--rm", "committed:v1", "cat", "/new/file").out == "kept\n"
    mydocker("rmi", "committed:v1")


# --- the whole --------------------------------------------------------------------------------------


def test_detached_container_survives_the_death_of_the_command_that_made_it(mydocker: Mydocker, busybox: str) -> None:
    process = mydocker.popen("run", "-d", busybox, "sh", "-c", "sleep 0.3; echo later; sleep 1000")
    name = process.stdout.readline().decode().strip()
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: mydocker("logs", name).out == "later\n")
    assert mydocker.rows()[name]["STATUS"] == "running"


def test_secret_of_the_caller_is_neither_in_the_container_nor_in_its_monitor(mydocker: Mydocker, busybox: str) -> None:
    secret = "tell-nobody-5309"
    name = mydocker("run", "-d", busybox, "sleep", "1000", env={"SECRET": secret}).out.strip()
    assert secret not in mydocker("exec", name, "env", env={"SECRET": secret}).out
    pid = int(mydocker.rows()[name]["PID"])
    for process in (pid, mydocker.monitor_of(name)):
        assert secret not in process_environ(process)
    assert secret not in mydocker("inspect", name).out
