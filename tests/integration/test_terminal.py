"""Terminal sessions, with a real terminal on our side: raw mode, keys, window size, leaving, and that all is put back."""
from __future__ import annotations

import os
import signal
import time

import pytest
from harness import Mydocker, Terminal, is_running, until

pytestmark = [pytest.mark.needs("root", "overlay")]

CTRL_C, CTRL_D, CTRL_P, CTRL_Q, CTRL_Z, CTRL_BACKSLASH = "\x03", "\x04", "\x10", "\x11", "\x1a", "\x1c"


@pytest.fixture(params=["run", "exec", "attach", "start"])
def session(request: pytest.FixtureRequest, mydocker: Mydocker, busybox: str) -> Terminal:
    """A shell at a terminal, whichever command leads there."""
    if request.param == "run":
        opened = mydocker.terminal("run", "-ti", "-name", "box", busybox, "sh")
    elif request.param == "exec":
        mydocker("run", "-d", "-name", "box", busybox, "sleep", "1000")
        opened = mydocker.terminal("exec", "-ti", "box", "sh")
    else:
        mydocker("create", "-ti", "-name", "box", busybox, "sh")
        if request.param == "attach":
            mydocker("start", "box")
            opened = mydocker.terminal("attach", "box")
            until(opened.is_raw)
            opened.type("\n")
        else:
            opened = mydocker.terminal("start", "-i", "box")
    opened.kind = request.param
    opened.expect("/ # ")
    return opened


def test_shell_talks_and_its_exit_code_comes_back(session: Terminal) -> None:
    with session:
        assert session.is_raw()
        session.type("echo $((6*7))\n")
        session.expect("42\r\n")
        session.type("exit 3\n")
        assert session.wait() == 3
        assert session.attributes() == session.before


def test_ctrl_c_interrupts_the_command_inside_and_not_us(session: Terminal) -> None:
    with session:
        # The shell's own line editor reads keys as they are: only when a job is in the foreground has Ctrl-C a meaning.
        session.type("(echo going; exec sleep 1000)\n")
        session.expect("going\r\n")
        session.type(CTRL_C)
        session.expect("/ # ")
        session.type("echo code $?\n")
        session.expect("code 130")
        session.expect("/ # ")  # before its prompt the shell has the terminal cooked, and a Ctrl-D would be lost with that
        session.type(CTRL_D)
        assert session.wait() == 0


def test_ctrl_z_and_backslash_go_inside(session: Terminal) -> None:
    with session:
        session.type("(echo going; exec sleep 1000)\n")
        session.expect("going\r\n")
        session.type(CTRL_Z)
        session.expect("Stopped")
        session.type("(echo going; exec cat)\n")
        session.expect("going\r\n")
        session.type(CTRL_BACKSLASH)
        session.expect("/ # ")
        session.type("echo code $?; exec true\n")
        session.expect("code 131")
        assert session.wait() == 0


def test_window_size_is_given_at_the_start_and_followed(session: Terminal) -> None:
    with session:
        # A shell of its own, because the line editor of the first has WINCH for itself.
        session.type("""sh -c 'trap "stty size" WINCH; stty size; while :; do sleep 0.05; done'\n""")
        session.expect("24 80\r\n")
        session.resize(50, 132)
        session.expect("50 132\r\n")
        session.resize(10, 20)
        session.expect("10 20\r\n")
        session.type(CTRL_C)
        session.expect("/ # ")
        session.type("stty size; exit 0\n")
        session.expect("10 20\r\n")
        session.wait()


@pytest.mark.parametrize("kind", ["run -ti", "run -t", "exec", "start", "start again"])
def test_window_size_is_right_from_the_first_instant(mydocker: Mydocker, busybox: str, kind: str) -> None:
    look = ["sh", "-c", "stty size <&1"]
    if kind == "exec":
        mydocker("run", "-d", "-name", "box", busybox, "sleep", "1000")
        words = ["exec", "-ti", "box", *look]
    elif "start" in kind:
        mydocker("create", "-ti", "-name", "box", busybox, *look)
        words = ["start", "-i", "box"]
    else:
        words = [*kind.split(), busybox, *look]
    if kind == "start again":
        with mydocker.terminal("start", "-i", "box", rows=11, columns=22) as session:
            session.expect("11 22\r\n")
            assert session.wait() == 0
    with mydocker.terminal(*words, rows=33, columns=101) as session:
        session.expect("33 101\r")
        assert session.wait() == 0


def test_who_attaches_at_the_same_size_sees_the_screen_drawn_again(mydocker: Mydocker, busybox: str) -> None:
    script = "trap 'echo drawn again' WINCH; echo ready; while :; do sleep 0.05; done"
    mydocker("run", "-d", "-t", "-name", "box", busybox, "sh", "-c", script)
    until(lambda: "ready" in mydocker("logs", "box").out)
    for _ in range(2):
        with mydocker.terminal("attach", "--sig-proxy=false", "box") as session:
            session.expect("drawn again\r")


def test_detach_keys_leave_it_running_and_put_the_terminal_back(session: Terminal, mydocker: Mydocker) -> None:
    with session:
        session.type("echo before\n")
        session.expect("before\r\n")
        session.type(CTRL_P + CTRL_Q)
        assert session.wait() == 0
        assert session.attributes() == session.before
    assert mydocker.rows()["box"]["STATUS"] == "running"
    if session.kind == "exec":
        return
    with mydocker.terminal("attach", "box") as again:
        until(again.is_raw)
        again.type("echo back; exit 5\n")
        again.expect("back\r\n")
        assert again.wait() == 5


def test_keys_that_only_begin_like_the_detach_keys_reach_the_container(mydocker: Mydocker, busybox: str) -> None:
    with mydocker.terminal("run", "-ti", busybox, "sh", "-c", "stty raw -echo; echo ready; dd bs=1 count=4 2>/dev/null | od -An -tx1") as session:
        session.expect("ready")
        session.type(CTRL_P)
        session.type("a" + CTRL_P + CTRL_P)
        session.type("b")
        session.expect("10 61 10 10")
        assert session.wait() == 0


def test_other_detach_keys_may_be_chosen(mydocker: Mydocker, busybox: str) -> None:
    with mydocker.terminal("run", "-ti", "-name", "box", "--detach-keys", "ctrl-x,x", busybox, "sh") as session:
        session.expect("/ # ")
        session.type(CTRL_P + CTRL_Q + "\n")
        session.expect("/ # ")
        session.type("\x18x")
        assert session.wait() == 0
    assert mydocker.rows()["box"]["STATUS"] == "running"
    assert "detach-keys" in mydocker("run", "--detach-keys", "ctrl-long", busybox, "true", code=125).one_error_line()


@pytest.mark.parametrize("command", [["kill", "box"], ["rm", "-f", "box"], ["stop", "-t", "0", "box"]], ids=" ".join)
def test_terminal_is_put_back_when_the_container_is_ended_from_elsewhere(
    mydocker: Mydocker, busybox: str, command: list[str],
) -> None:
    with mydocker.terminal("run", "-ti", "-name", "box", busybox, "sh") as session:
        session.expect("/ # ")
        mydocker(*command)
        assert session.wait() == 137
        assert session.attributes() == session.before
    assert mydocker.leftovers() == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT], ids=lambda signum: signum.name)
def test_terminal_is_put_back_when_we_are_told_to_end(session: Terminal, mydocker: Mydocker, signum: signal.Signals) -> None:
    with session:
        os.kill(session.pid, signum)
        assert session.wait() == 128 + signum
        assert session.attributes() == session.before


@pytest.mark.parametrize("delay_ms", range(0, 100, 10))
def test_terminal_is_put_back_whenever_the_signal_comes(mydocker: Mydocker, busybox: str, delay_ms: int) -> None:
    """Also in the middle of the start, and twice."""
    with mydocker.terminal("run", "-ti", busybox, "sh", "-c", "echo going; exec sleep 1000") as session:
        time.sleep(delay_ms / 1000)  # the moment is what this test is about
        os.kill(session.pid, signal.SIGTERM)
        os.kill(session.pid, signal.SIGTERM)
        assert session.wait() in (-signal.SIGTERM, 128 + signal.SIGTERM)
        assert session.attributes() == session.before
    # A command that was killed before it listened to signals leaves what it had begun to the next one, or to its stage.
    until(lambda: mydocker("ps") and not os.listdir(f"{mydocker.root}/creating"))


@pytest.mark.parametrize(("words", "code"), [
    (["run", "-ti", "busybox", "nosuch"], 127), (["run", "-ti", "busybox", "/etc/passwd"], 126),
    (["run", "-ti", "nosuch", "sh"], 125), (["run", "-ti", "-u", "nobody-here", "busybox", "sh"], 125),
    (["exec", "-ti", "nosuch", "sh"], 125), (["attach", "nosuch"], 125), (["start", "-i", "nosuch"], 125),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_terminal_is_as_before_after_an_error(mydocker: Mydocker, busybox: str, words: list[str], code: int) -> None:
    with mydocker.terminal(*words) as session:
        assert session.wait() == code
        assert session.text.startswith("mydocker: ") and session.text.count("\r\n") == 1
        assert session.attributes() == session.before
    assert mydocker.leftovers() == []


def test_terminal_is_put_back_when_the_monitor_dies(mydocker: Mydocker, busybox: str) -> None:
    with mydocker.terminal("run", "-ti", "-name", "box", busybox, "sh") as session:
        session.expect("/ # ")
        os.kill(mydocker.monitor_of("box"), signal.SIGKILL)
        assert session.wait() == 125
        assert session.attributes() == session.before
        assert "Traceback" not in session.text


def test_container_ends_with_its_removal_when_the_window_is_closed(mydocker: Mydocker, busybox: str) -> None:
    """Closing the window hangs up (SIGHUP); the container goes on, as with docker, and can be entered again."""
    with mydocker.terminal("run", "-ti", "-name", "box", busybox, "sh") as session:
        session.expect("/ # ")
        os.kill(session.pid, signal.SIGHUP)
        session.wait()
    assert mydocker.rows()["box"]["STATUS"] == "running"
    with mydocker.terminal("attach", "box") as again:
        until(again.is_raw)
        again.type("exit\n")
        again.wait()
    until(lambda: mydocker.rows() == {})
    assert mydocker.leftovers() == []


def test_nothing_is_made_when_input_is_no_terminal(mydocker: Mydocker, busybox: str) -> None:
    assert "TTY" in mydocker("run", "-ti", busybox, "sh", code=125).one_error_line()
    assert mydocker.leftovers() == []


def test_terminal_without_input_shows_a_terminal_to_the_command(mydocker: Mydocker, busybox: str) -> None:
    assert mydocker("run", "--rm", "-t", busybox, "sh", "-c", "test -t 1 && echo yes").out == "yes\r\n"


def test_text_of_a_session_is_in_the_log(mydocker: Mydocker, busybox: str) -> None:
    with mydocker.terminal("run", "-ti", "--rm=false", "-name", "box", busybox, "sh") as session:
        session.expect("/ # ")
        session.type("echo logged\nexit\n")
        session.wait()
    assert "logged" in mydocker("logs", "box").out


def test_megabytes_to_a_slow_terminal_are_all_shown(mydocker: Mydocker, busybox: str) -> None:
    with mydocker.terminal("run", "-ti", busybox, "sh", "-c", "yes 0123456789 | head -n 200000; echo the end") as session:
        session.expect("the end", timeout_s=30)
        assert session.wait() == 0


def test_two_at_the_same_terminal_see_the_same(mydocker: Mydocker, busybox: str) -> None:
    with mydocker.terminal("run", "-ti", "-name", "box", busybox, "sh") as first:
        first.expect("/ # ")
        with mydocker.terminal("attach", "box") as second:
            until(second.is_raw)
            second.type("echo to $((1+1)) of us\n")
            second.expect("to 2 of us")
            first.expect("to 2 of us")
            first.type("exit 7\n")
            assert (first.wait(), second.wait()) == (7, 7)


def test_container_survives_a_killed_session_and_its_process_is_not_ours(mydocker: Mydocker, busybox: str) -> None:
    with mydocker.terminal("run", "-ti", "-name", "box", busybox, "sh") as session:
        session.expect("/ # ")
        pid = mydocker.pid_of("box")
        os.kill(session.pid, signal.SIGKILL)
        assert session.wait() == -signal.SIGKILL
    assert is_running(pid)
    assert mydocker.rows()["box"]["STATUS"] == "running"
