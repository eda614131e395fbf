"""The program `mydocker-runtime` as conmon, containerd's shim and people call it; real containers."""
from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest
from harness import Terminal, is_running, until
from runtime_rig import PROGRAM, Runtime, reap, receive_terminal

pytestmark = [pytest.mark.needs("root", "busybox")]


def test_create_leaves_an_init_that_only_start_lets_go_on(runtime: Runtime) -> None:
    bundle = runtime.bundle("sh", "-c", "echo up > /started; exec sleep 100")
    runtime("create", "--bundle", bundle, "--pid-file", f"{bundle}/pid", "c")
    state = runtime.state("c")
    assert state["status"] == "created"
    assert set(state) == {"ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"}
    assert (state["id"], state["bundle"], state["rootfs"]) == ("c", bundle, f"{runtime.directory}/rootfs")
    with open(f"{bundle}/pid") as stream:
        assert stream.read() == str(state["pid"]), "digits only, no newline"
    with open(f"/proc/{state['pid']}/stat") as stream:
        assert stream.read().rpartition(")")[2].split()[1] == str(os.getpid()), "the next subreaper is the parent"
    assert not os.path.exists(f"{runtime.directory}/rootfs/started")
    runtime("start", "c")
    assert runtime.status("c") == "running"
    until(lambda: os.path.exists(f"{runtime.directory}/rootfs/started"))
    assert "already running" in runtime("start", "c", code=1).stderr
    runtime("kill", "c", "KILL")
    assert reap(state["pid"]) == -signal.SIGKILL
    assert (runtime.status("c"), runtime.state("c")["pid"]) == ("stopped", 0)
    assert "container not running" in runtime("kill", "c", code=1).stderr
    runtime("delete", "c")
    assert runtime.ids() == []


def test_annotations_and_the_version_of_the_bundle_are_in_the_state(runtime: Runtime) -> None:
    bundle = runtime.bundle("sleep", "100", annotations={"org.example.key": "value"}, ociVersion="1.0.2")
    runtime("create", "--bundle", bundle, "c")
    state = runtime.state("c")
    assert (state["annotations"], state["ociVersion"]) == ({"org.example.key": "value"}, "1.0.2")
    assert json.loads(runtime("list", "--format", "json").stdout) == [state]


def test_exec_takes_a_null_in_a_config_or_a_process_for_a_field_that_is_not_there(runtime: Runtime) -> None:
    nothing = dict.fromkeys(("env", "capabilities", "rlimits", "apparmorProfile", "scheduler", "oomScoreAdj"))
    bundle = runtime.bundle(
        "sleep", "100", process={**nothing, "user": {"uid": 0, "gid": 0, "additionalGids": None}},
        linux={"seccomp": None, "personality": None, "sysctl": None}, hooks={"poststart": None, "poststop": None}, annotations=None)
    runtime("run", "--detach", "--bundle", bundle, "c")
    runtime("exec", "--cap", "CAP_CHOWN", "--additional-gids", "5", "c", "true")
    with open(f"{bundle}/process.json", "w") as stream:
        json.dump({"args": ["true"], "cwd": None, **nothing, "user": {"additionalGids": None}}, stream)
    runtime("exec", "--process", f"{bundle}/process.json", "c")


@pytest.mark.parametrize("hook", [{"args": [""]}, {"timeout": 1 << 40}, {"path": "/nonexistent"}, {"path": "/etc/passwd"}])
@pytest.mark.parametrize("kind", ["poststart", "poststop"])
def test_a_hook_that_cannot_be_run_keeps_no_container_from_its_removal(runtime: Runtime, kind: str, hook: dict[str, object]) -> None:
    bundle = runtime.bundle("true", hooks={kind: [{"path": "/bin/true", **hook}]})
    fails = kind == "poststart" and "timeout" not in hook
    done = runtime("run", "--bundle", bundle, "c", code=1 if fails else 0)
    assert "internal error" not in done.stderr and runtime.ids() == []


@pytest.mark.parametrize(("words", "text"), [
    (["exec", "--cwd", "relative", "c", "true"], "process.cwd: must be an absolute path"),
    (["exec", "--preserve-fds", "9999999999999", "c", "true"], "preserve 9999999999999 descriptors"),
    (["exec", "--pid-file", "/nonexistent/pid", "c", "true"], "write --pid-file /nonexistent/pid: no such file or directory"),
    (["create", "--preserve-fds", "1000000000", "d"], "preserve 1000000000 descriptors"),
])
def test_words_that_cannot_be_are_one_line_and_change_nothing(runtime: Runtime, words: list[str], text: str) -> None:
    bundle = runtime.bundle("sleep", "100")
    runtime("run", "--detach", "--bundle", bundle, "c")
    done = runtime(*words, code=255 if words[0] == "exec" else 1, cwd=bundle)
    assert done.stderr.startswith(f"mydocker-runtime: {text}") and done.stderr.count("\n") == 1
    assert runtime.ids() == ["c"] and runtime.status("c") == "running"


def test_delete_refuses_what_runs_and_forces_when_asked(runtime: Runtime) -> None:
    runtime("run", "--detach", "--bundle", runtime.bundle("sleep", "100"), "c")
    pid = runtime.state("c")["pid"]
    assert "that is not stopped" in runtime("delete", "c", code=1).stderr
    assert is_running(pid)
    runtime("delete", "--force", "c")
    assert not is_running(pid)
    reap(pid)
    assert "container c does not exist" in runtime("delete", "c", code=1).stderr
    runtime("delete", "--force", "c")


def test_a_created_container_can_be_deleted(runtime: Runtime) -> None:
    runtime("create", "--bundle", runtime.bundle("sleep", "100"), "c")
    pid = runtime.state("c")["pid"]
    runtime("delete", "c")
    assert reap(pid) == -signal.SIGKILL
    assert runtime.ids() == []


def test_an_id_is_taken_once_and_may_not_lead_elsewhere(runtime: Runtime) -> None:
    bundle = runtime.bundle("sleep", "100")
    runtime("create", "--bundle", bundle, "c")
    assert "already exists" in runtime("create", "--bundle", bundle, "c", code=1).stderr
    for name in ("..", "../c", "a/b", "", "a b"):
        assert "invalid container id" in runtime("create", "--bundle", bundle, name, code=1).stderr


def test_what_a_killed_create_left_is_nobodys(runtime: Runtime) -> None:
    os.makedirs(f"{runtime.root}/c")
    assert runtime.ids() == []
    runtime("create", "--bundle", runtime.bundle("sleep", "100"), "c")
    os.makedirs(f"{runtime.root}/d")
    runtime("delete", "--force", "d")
    assert not os.path.exists(f"{runtime.root}/d")


def test_a_recycled_pid_is_another_process(runtime: Runtime) -> None:
    runtime("create", "--bundle", runtime.bundle("sleep", "100"), "c")
    pid = runtime.state("c")["pid"]
    stranger = subprocess.Popen(["sleep", "100"])
    try:
        path = f"{runtime.root}/c/state.json"
        with open(path) as stream:
            document = json.load(stream)
        with open(path, "w") as stream:
            json.dump({**document, "pid": stranger.pid}, stream)
        assert runtime.status("c") == "stopped"
        assert "container not running" in runtime("kill", "c", "KILL", code=1).stderr
        runtime("delete", "--force", "c")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
    reap(pid)


@pytest.mark.parametrize(("args", "text"), [
    (["nonexistent"], 'exec: "nonexistent": executable file not found in $PATH'),
    (["/nonexistent"], 'exec: "/nonexistent": stat /nonexistent: no such file or directory'),
    (["/etc/passwd"], 'exec: "/etc/passwd": permission denied'),
    (["/etc"], "permission denied"),
])
def test_a_command_that_cannot_run_fails_create_in_the_words_that_docker_looks_for(
    runtime: Runtime, args: list[str], text: str,
) -> None:
    log = f"{runtime.directory}/log.json"
    bundle = runtime.bundle(*args)
    done = runtime("--log", log, "--log-format", "json", "create", "--bundle", bundle, "c", code=1)
    assert text in done.stderr
    with open(log) as stream:
        line = json.loads(stream.read().splitlines()[-1])
    assert line["level"] == "error"
    assert text in line["msg"]
    assert runtime.ids() == []
    assert text in runtime("run", "--bundle", bundle, "c", code=1).stderr
    assert runtime.ids() == []


def test_an_error_is_one_plain_line_and_a_text_log_is_logrus(runtime: Runtime) -> None:
    log = f"{runtime.directory}/log"
    done = runtime("--log", log, "create", "--bundle", f"{runtime.directory}/nowhere", "c", code=1)
    line = f"open {runtime.directory}/nowhere/config.json: no such file or directory"
    assert done.stderr == f"mydocker-runtime: {line}\n"
    with open(log) as stream:
        assert f'level=error msg="{line}"' in stream.read()


def test_run_passes_output_and_exit_code_and_leaves_nothing(runtime: Runtime) -> None:
    done = runtime("run", "--bundle", runtime.bundle("sh", "-c", "echo out; echo err >&2; exit 3"), "c", code=3)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert runtime.ids() == []
    runtime("run", "--bundle", runtime.bundle("sh", "-c", "kill -KILL $$"), "c", code=None)


def test_run_keeps_the_container_when_asked(runtime: Runtime) -> None:
    runtime("run", "--keep", "--bundle", runtime.bundle("true"), "c")
    assert runtime.status("c") == "stopped"
    runtime("delete", "c")


def test_run_passes_signals_on(runtime: Runtime) -> None:
    bundle = runtime.bundle("sh", "-c", 'trap "echo caught; exit 9" TERM; echo ready; while :; do sleep 0.1; done')
    with subprocess.Popen(
        [PROGRAM, "--root", runtime.root, "run", "--bundle", bundle, "c"], stdout=subprocess.PIPE, text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.stdout.readline() == "caught\n"
        assert process.wait() == 9
    assert runtime.ids() == []


def test_run_gives_a_terminal_and_makes_ours_raw(runtime: Runtime) -> None:
    bundle = runtime.bundle(
        "sh", "-c", "stty size; read word; echo got $word; exit 5", process={"terminal": True})
    argv = [PROGRAM, "--root", runtime.root, "run", "--bundle", bundle, "c"]
    with Terminal(argv, {"PATH": "/nonexistent"}, 33, 99) as terminal:
        terminal.expect("33 99")
        assert terminal.is_raw()
        terminal.type("hello\r")
        terminal.expect("got hello")
        assert terminal.wait() == 5
        assert not terminal.is_raw()


def test_the_terminals_master_goes_to_the_console_socket(runtime: Runtime) -> None:
    bundle = runtime.bundle("sh", "-c", "tty; read word; echo got $word", process={"terminal": True})
    directory = f"{runtime.directory}/{'long' * 25}"
    os.mkdir(directory)
    with socket.socket(socket.AF_UNIX) as listener:
        directory_fd = os.open(directory, os.O_PATH)
        listener.bind(f"/proc/self/fd/{directory_fd}/socket")
        os.close(directory_fd)
        listener.listen(1)
        runtime("create", "--bundle", bundle, "--console-socket", f"{directory}/socket", "c")
        master = receive_terminal(listener)
    with os.fdopen(master, "r+b", buffering=0) as terminal:
        pid = runtime.state("c")["pid"]
        runtime("start", "c")
        terminal.write(b"word\n")
        text = b""
        while b"got word" not in text:
            text += terminal.read(100)
        assert b"/dev/pts/0" in text or b"/dev/console" in text
        assert reap(pid) == 0


def test_a_terminal_that_nobody_would_hold_is_refused(runtime: Runtime) -> None:
    bundle = runtime.bundle("true", process={"terminal": True})
    assert "cannot allocate tty" in runtime("create", "--bundle", bundle, "c", code=1).stderr
    plain = runtime.bundle("true")
    assert "cannot use console socket" in runtime(
        "create", "--bundle", plain, "--console-socket", "/nonexistent", "c", code=1).stderr


def test_descriptors_are_passed_on_and_no_other_is(runtime: Runtime) -> None:
    bundle = runtime.bundle("ls", "-l", "/proc/self/fd")
    readers = [os.open("/etc/hostname", os.O_RDONLY), os.open("/etc/hosts", os.O_RDONLY)]

    def place() -> None:
        os.dup2(readers[0], 50)
        os.dup2(readers[1], 51)
        os.dup2(50, 3)
        os.dup2(51, 4)

    done = runtime("run", "--preserve-fds", "1", "--bundle", bundle, "c", preexec_fn=place, pass_fds=(3, 4))
    for fd in readers:
        os.close(fd)
    assert "3 -> /etc/hostname" in done.stdout
    assert "/etc/hosts\n" not in done.stdout


def test_sockets_of_socket_activation_are_passed_on(runtime: Runtime) -> None:
    bundle = runtime.bundle("sh", "-c", "echo $LISTEN_FDS $LISTEN_PID; ls -l /proc/self/fd")
    code = 'exec 3</etc/hostname; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"'
    done = subprocess.run(
        ["sh", "-c", code, "sh", PROGRAM, "--root", runtime.root, "run", "--bundle", bundle, "c"],
        capture_output=True, text=True, check=True)
    assert done.stdout.startswith("1 1\n")
    assert "3 -> /etc/hostname" in done.stdout


def test_what_is_no_pipe_keeps_its_owner_for_a_user_who_is_not_root(runtime: Runtime) -> None:
    bundle = runtime.bundle("id", "-u", process={"user": {"uid": 1000, "gid": 1000}})
    null = os.stat("/dev/null")
    with open(f"{runtime.directory}/out", "w+") as stream:
        before = os.fstat(stream.fileno())
        subprocess.run(
            [PROGRAM, "--root", runtime.root, "run", "--bundle", bundle, "c"], stdin=subprocess.DEVNULL, stdout=stream, check=True)
        after, null_after = os.fstat(stream.fileno()), os.stat("/dev/null")
        stream.seek(0)
        assert stream.read() == "1000\n"
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)
    assert (null_after.st_uid, null_after.st_mode) == (null.st_uid, null.st_mode)


def test_closed_standard_descriptors_are_no_way_to_our_files(runtime: Runtime) -> None:
    bundle = runtime.bundle("sh", "-c", "ls -l /proc/self/fd > /fds")
    subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", PROGRAM, "--root", runtime.root, "run", "--bundle", bundle, "c"], check=True)
    with open(f"{runtime.directory}/rootfs/fds") as stream:
        assert runtime.directory not in stream.read().replace("/rootfs/fds", "").replace("-> /fds", "")


def test_a_failure_behind_start_is_told_on_the_containers_standard_error(runtime: Runtime) -> None:
    with open(f"{runtime.directory}/rootfs/bad", "w") as stream:
        stream.write("\177ELF that is none")
    os.chmod(f"{runtime.directory}/rootfs/bad", 0o755)
    bundle = runtime.bundle("/bad")
    with open(f"{runtime.directory}/err", "w+") as err:
        subprocess.run([PROGRAM, "--root", runtime.root, "create", "--bundle", bundle, "c"], stderr=err, check=True)
        pid = runtime.state("c")["pid"]
        runtime("start", "c")
        assert reap(pid) == 126
        err.seek(0)
        assert err.read() == "exec /bad: exec format error\n"


def test_poststart_and_poststop_hooks_are_told_the_state(runtime: Runtime) -> None:
    def hook(name: str) -> list[dict[str, object]]:
        return [{"path": "/bin/sh", "args": ["sh", "-c", f"/bin/cat > {runtime.directory}/{name}"]}]

    bundle = runtime.bundle("sleep", "100", hooks={"poststart": hook("poststart"), "poststop": hook("poststop")})
    runtime("create", "--bundle", bundle, "c")
    pid = runtime.state("c")["pid"]
    assert not os.path.exists(f"{runtime.directory}/poststart")
    runtime("start", "c")
    with open(f"{runtime.directory}/poststart") as stream:
        assert json.load(stream) == runtime.state("c")
    runtime("delete", "--force", "c")
    reap(pid)
    with open(f"{runtime.directory}/poststop") as stream:
        assert json.load(stream)["status"] == "stopped"


def test_a_poststop_hook_that_fails_is_a_warning(runtime: Runtime) -> None:
    hooks = {"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", "echo oh no; exit 3"]}]}
    assert "oh no" in runtime("run", "--bundle", runtime.bundle("true", hooks=hooks), "c").stderr
    assert runtime.ids() == []


# ---- exec


@pytest.fixture
def running(runtime: Runtime) -> Runtime:
    """The program with a container `c` that sleeps."""
    runtime("run", "--detach", "--bundle", runtime.bundle("sleep", "100"), "c")
    return runtime


def test_exec_has_the_containers_process_as_its_pattern(running: Runtime) -> None:
    done = running("exec", "--cwd", "/tmp", "--env", "A=b", "c", "sh", "-c", "pwd; echo $A $PATH; ulimit -n", code=0)
    assert done.stdout == "/tmp\nb /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n1024\n"
    running("exec", "c", "sh", "-c", "exit 7", code=7)
    running("exec", "c", "sh", "-c", "kill -KILL $$", code=137)
    assert running("exec", "c", "--", "echo", "word").stdout == "word\n"


def test_exec_runs_as_the_user_that_is_named(running: Runtime) -> None:
    assert running("exec", "--user", "1000:1001", "c", "id").stdout.startswith("uid=1000 gid=1001")
    assert "uid=1(daemon) gid=1(daemon)" in running("exec", "--user", "daemon", "c", "id").stdout
    assert running("exec", "--user", "1000", "-g", "20", "-g", "21", "c", "id", "-G").stdout == "0 20 21\n"


def test_exec_takes_no_new_privileges_back_when_asked(running: Runtime) -> None:
    status = ("grep", "NoNewPrivs", "/proc/self/status")
    assert running("exec", "c", *status).stdout.split() == ["NoNewPrivs:", "1"]  # as `spec` has it
    assert running("exec", "--no-new-privs=false", "c", *status).stdout.split() == ["NoNewPrivs:", "0"]


def test_exec_adds_a_capability_that_is_not_inheritable(running: Runtime) -> None:
    status = running("exec", "--cap", "CAP_SYS_ADMIN", "c", "grep", "Cap", "/proc/self/status").stdout
    sets = dict(line.split(":\t") for line in status.splitlines())
    assert int(sets["CapEff"], 16) >> 21 & 1
    assert (int(sets["CapInh"], 16), int(sets["CapAmb"], 16)) == (0, 0)
    assert "no capability" in running("exec", "--cap", "CAP_NONE", "c", "true", code=255).stderr


def test_exec_of_a_process_document_replaces_everything(running: Runtime) -> None:
    path = f"{running.directory}/process.json"
    with open(path, "w") as stream:
        json.dump({
            "args": ["sh", "-c", "id -u; pwd; env | grep -c PATH; grep NoNewPrivs /proc/self/status"], "cwd": "/etc",
            "user": {"uid": 77, "gid": 0}, "env": ["X=y", "PATH=/bin"], "noNewPrivileges": True,
        }, stream)
    assert running("exec", "--process", path, "c").stdout == "77\n/etc\n1\nNoNewPrivs:\t1\n"


def test_exec_detached_writes_the_pid_and_leaves_a_child_to_us(running: Runtime) -> None:
    path = f"{running.directory}/pid"
    running("exec", "--detach", "--pid-file", path, "c", "sleep", "100")
    with open(path) as stream:
        pid = int(stream.read())
    assert pid in json.loads(running("ps", "--format", "json", "c").stdout)
    os.kill(pid, signal.SIGKILL)
    assert reap(pid) == -signal.SIGKILL


@pytest.mark.parametrize(("args", "text"), [
    (["nonexistent"], 'exec: "nonexistent": executable file not found in $PATH'),
    (["/nonexistent"], "no such file or directory"),
    (["/etc/passwd"], "permission denied"),
])
def test_exec_of_what_cannot_run_says_so_and_answers_255(running: Runtime, args: list[str], text: str) -> None:
    assert text in running("exec", "c", *args, code=255).stderr
    assert text in running("exec", "--detach", "c", *args, code=255).stderr


def test_exec_gives_a_terminal(running: Runtime) -> None:
    argv = [PROGRAM, "--root", running.root, "exec", "--tty", "c", "sh", "-c", "tty; read word; echo got $word; exit 4"]
    with Terminal(argv, {"PATH": "/nonexistent"}, 20, 80) as terminal:
        terminal.expect("/dev/pts/0")
        terminal.type("hello\r")
        terminal.expect("got hello")
        assert terminal.wait() == 4


def test_exec_passes_signals_on(running: Runtime) -> None:
    code = 'trap "echo caught; exit 9" INT; echo ready; while :; do sleep 0.1; done'
    with subprocess.Popen(
        [PROGRAM, "--root", running.root, "exec", "c", "sh", "-c", code], stdout=subprocess.PIPE, text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait() == 9


def test_exec_in_what_has_stopped_or_is_paused_is_refused(running: Runtime) -> None:
    pid = running.state("c")["pid"]
    running("pause", "c")
    assert "paused" in running("exec", "c", "true", code=255).stderr
    with subprocess.Popen([PROGRAM, "--root", running.root, "exec", "--ignore-paused", "c", "true"]) as process:
        running("resume", "c")
        assert process.wait() == 0
    running("kill", "c", "KILL")
    reap(pid)
    assert "not running" in running("exec", "c", "true", code=255).stderr


# ---- the others


def test_pause_and_resume(running: Runtime) -> None:
    running("pause", "c")
    assert running.status("c") == "paused"
    assert "container paused" in running("pause", "c", code=1).stderr
    running("resume", "c")
    assert running.status("c") == "running"
    assert "container running" in running("resume", "c", code=1).stderr


def test_a_paused_container_can_be_killed(running: Runtime) -> None:
    pid = running.state("c")["pid"]
    running("pause", "c")
    running("kill", "c", "KILL")
    assert reap(pid) == -signal.SIGKILL
    running("delete", "c")


def test_kill_all_reaches_every_process(running: Runtime) -> None:
    pid = running.state("c")["pid"]
    path = f"{running.directory}/pid"
    running("exec", "--detach", "--pid-file", path, "c", "sleep", "100")
    with open(path) as stream:
        other = int(stream.read())
    running("kill", "--all", "c", "SIGUSR1")
    assert reap(other) == -signal.SIGUSR1
    assert running.status("c") == "running", "pid 1 of a namespace has no default actions"
    running("kill", "c", "9", "--all")
    assert reap(pid) == -signal.SIGKILL
    running("kill", "--all", "c", "9")


@pytest.mark.parametrize("word", ["15", "TERM", "SIGTERM", "sigterm", "RTMIN+3"])
def test_signals_have_numbers_and_names(running: Runtime, word: str) -> None:
    running("kill", "c", word)
    assert "unknown signal" in running("kill", "c", f"{word}X", code=1).stderr


def test_ps_shows_the_containers_processes_only(running: Runtime) -> None:
    pid = running.state("c")["pid"]
    assert json.loads(running("ps", "--format", "json", "c").stdout) == [pid]
    # ps(1) of Debian does not work in user-mode Linux: no boot time in /proc.
    if shutil.which("ps") and subprocess.run(["ps", "-ef"], capture_output=True, check=False).returncode == 0:
        header, line = running("ps", "c", env={"PATH": os.environ["PATH"]}).stdout.splitlines()
        assert header.split()[:2] == ["UID", "PID"]
        assert line.split()[1] == str(pid)
        lines = running("ps", "c", "-o", "pid,comm", "-e", env={"PATH": os.environ["PATH"]}).stdout.splitlines()
        assert [line.split() for line in lines] == [["PID", "COMMAND"], [str(pid), "sleep"]]


def test_events_show_what_it_uses(running: Runtime) -> None:
    event = json.loads(running("events", "--stats", "c").stdout)
    assert (event["type"], event["id"]) == ("stats", "c")
    assert event["data"]["pids"]["current"] == 1
    assert event["data"]["cpu"]["usage"]["total"] > 0
    with subprocess.Popen(
        [PROGRAM, "--root", running.root, "events", "--interval", "100ms", "c"], stdout=subprocess.PIPE, text=True,
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["type"] == "stats"
        pid = running.state("c")["pid"]
        running("kill", "c", "KILL")
        reap(pid)
        assert process.wait() == 0
        process.stdout.read()


@pytest.mark.needs("memory")
def test_update_changes_limits_from_options_and_from_a_document(running: Runtime) -> None:
    def limit() -> int:
        return int(json.loads(running("events", "--stats", "c").stdout)["data"]["memory"]["usage"]["limit"])

    running("update", "--memory", "64m", "c")
    assert limit() == 64 << 20
    document = {"memory": {"limit": 48 << 20}, "cpu": {"shares": 0}, "devices": None, "pids": None}
    running("update", "--resources", "-", "c", input=json.dumps(document))
    assert limit() == 48 << 20
    assert "Intel RDT" in running("update", "--l3-cache-schema", "x", "c", code=1).stderr
    assert "wants a number" in running("update", "--pids-limit", "many", "c", code=1).stderr
    for wrong, text in (
        ({"memory": []}, "memory: is not an object"), ({"hugepageLimits": {}}, "hugepageLimits: is not a list"),
        ({"Memory": []}, "memory: is not an object"), ({"cpu": {"cpus": "\ud800"}}, "cpu.cpus: "),
    ):
        assert f"resources.{text}" in running("update", "--resources", "-", "c", input=json.dumps(wrong), code=1).stderr
    assert "cpu.quota" in running("update", "--memory", "32m", "--cpu-quota", "1", "c", code=1).stderr
    assert limit() == 48 << 20  # all or nothing


def watches_memory(pid: int) -> bool:
    """Tell whether a process of `events` has its watch: an eventfd on cgroup v1, inotify on v2."""
    names = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    return any("eventfd" in name or "inotify" in name for name in names)


@pytest.mark.needs("memory")
def test_an_out_of_memory_kill_is_an_event(runtime: Runtime) -> None:
    runtime("run", "-d", "--bundle", runtime.bundle("sleep", "100", linux={"resources": {"memory": {"limit": 32 << 20}}}), "c")
    with subprocess.Popen(
        [PROGRAM, "--root", runtime.root, "events", "--interval", "1h", "c"], stdout=subprocess.PIPE, text=True,
    ) as process:
        until(lambda: watches_memory(process.pid), what="for events to watch")
        runtime("exec", "c", "sh", "-c", "tail /dev/zero", code=None)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"type": "oom", "id": "c"}
        pid = runtime.state("c")["pid"]
        runtime("kill", "c", "KILL")
        reap(pid)
        process.stdout.read()


def test_spec_is_a_document_that_runs(runtime: Runtime) -> None:
    os.mkdir(f"{runtime.directory}/b")
    runtime("spec", cwd=f"{runtime.directory}/b")
    assert "exists" in runtime("spec", cwd=f"{runtime.directory}/b", code=1).stderr
    with open(f"{runtime.directory}/b/config.json") as stream:
        spec = json.load(stream)
    assert spec["process"]["args"] == ["sh"]
    kinds = [namespace["type"] for namespace in spec["linux"]["namespaces"]]
    assert ("cgroup" in kinds) == os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    os.symlink(f"{runtime.directory}/rootfs", f"{runtime.directory}/b/rootfs")
    with Terminal([PROGRAM, "--root", runtime.root, "run", "--bundle", f"{runtime.directory}/b", "c"], {}, 24, 80) as terminal:
        terminal.type("hostname; exit 6\r")
        terminal.expect("mydocker\r\n")
        assert terminal.wait() == 6
    runtime("spec", "--rootless", "--bundle", runtime.directory)


def test_list_of_a_root_that_is_not_there_is_an_error(runtime: Runtime) -> None:
    assert "no such file or directory" in runtime("list", code=1).stderr.lower()


def test_features_name_what_the_specification_asks_for(runtime: Runtime) -> None:
    document = json.loads(runtime("features").stdout)
    assert document["ociVersionMin"] == "1.0.0"
    assert {"prestart", "poststop"} <= set(document["hooks"])
    assert {"rbind", "rro", "ro"} <= set(document["mountOptions"])
    assert document["linux"]["intelRdt"] == {"enabled": False}
    assert document["linux"]["netDevices"] == {"enabled": True} and document["ociVersionMax"] == "1.3.0"
    assert "MPOL_BIND" in document["linux"]["memoryPolicy"]["modes"]


def test_checkpoint_and_restore_are_refused_by_name(running: Runtime) -> None:
    for verb in ("checkpoint", "restore"):
        assert "not supported" in running(verb, "--image-path", "/x", "c", code=1).stderr


def test_the_program_needs_no_environment_and_follows_links_to_itself(runtime: Runtime) -> None:
    link = f"{runtime.directory}/runc"
    os.symlink(PROGRAM, link)
    done = subprocess.run([link, "--version"], env={}, cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout.startswith("mydocker-runtime version ")
    hostile = {"PYTHONPATH": runtime.directory, "PYTHONHOME": "/nonexistent", "PYTHONSTARTUP": "/nonexistent"}
    assert subprocess.run([link, "--version"], env=hostile, capture_output=True, check=True).stdout
    python = subprocess.run([sys.executable, "-m", "mydocker.runtime", "--version"], capture_output=True, text=True, check=True)
    assert python.stdout == done.stdout


def test_words_that_make_no_sense_are_refused(runtime: Runtime) -> None:
    for words in (["nonsense"], ["--nonsense", "list"], ["create"], ["list", "c"], ["delete", "--nonsense", "c"],
                  ["--log-format", "xml", "list"], ["--rootless", "maybe", "list"]):
        assert runtime(*words, code=1).stderr.startswith("mydocker-runtime: ")
    assert "No help topic for 'nonsense'" in runtime("nonsense", "--help", code=1).stderr
    assert "  mydocker-runtime exec [OPTIONS]" in runtime("exec", "--help").stdout
    assert "VERBS:" in runtime("--help").stdout
