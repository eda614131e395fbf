from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest

from mydocker.base import errors
from mydocker.base.clock import format_rfc3339
from mydocker.cli.ages import since
from mydocker.cli.commands.images import split_reference
from mydocker.cli.commands.ps import signal_name
from mydocker.cli.image_filters import matches_reference
from mydocker.cli.options import VERBS, all_options_of
from mydocker.cli.reference import format_reference
from mydocker.cli.terminal import is_reader_gone, parse_detach_keys
from mydocker.image.listing import ImageSummary
from mydocker.image.load import LoadedImage
from mydocker.image.remove import RemovedImage

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_has_a_module_and_answers_help(mydocker: Any, verb: Any) -> None:
    assert callable(__import__(verb.module, None, None, ("run",)).run)
    code, out, err = mydocker(*verb.spelled.split(), "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: mydocker {verb.spelled}")
    for row in all_options_of(verb.name):
        assert f"--{row.name}" in out
        assert row.help in out


def test_help_lists_every_verb(mydocker: Any) -> None:
    for words in ([], ["--help"], ["-h"], ["help"]):
        code, out, _ = mydocker(*words)
        assert code == 0
        assert all(f"  {verb.spelled}" in out for verb in VERBS)
    assert mydocker("help", "run") == mydocker("run", "--help")
    assert mydocker("help", "image", "ls") == mydocker("images", "--help")
    assert mydocker("help", "nosuch")[0] == 125


def test_the_reference_is_what_the_table_says() -> None:
    with open(f"{ROOT}/docs/cli.md", encoding="utf-8") as file:
        assert file.read() == format_reference(), "write it anew: python -m mydocker.cli.reference > docs/cli.md"


def test_version_is_told_in_every_spelling(mydocker: Any) -> None:
    assert mydocker("--version") == mydocker("-v") == (0, "mydocker 0.1.0\n", "")
    assert mydocker("version")[1].startswith("mydocker 0.1.0\npython 3.")
    assert mydocker("version", "--format", "{{.Version}}")[1] == "0.1.0\n"
    assert json.loads(mydocker("version", "-f", "json")[1])["version"] == "0.1.0"


def test_version_imports_neither_the_engine_nor_anything_slow() -> None:
    script = (
        "import sys; sys.argv = ['mydocker', 'version']\n"
        "from mydocker.cli.main import main; main()\n"
        "print(' '.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True,
                          env={"PYTHONPATH": os.path.join(ROOT, "src")})
    loaded = set(done.stdout.split())
    assert not loaded & {"re", "enum", "json", "typing", "contextlib", "functools", "importlib.metadata", "argparse",
                         "collections", "subprocess", "pathlib", "traceback", "mydocker.engine.engine"}


def test_run_detached_prints_the_id(mydocker: Any, engine: Any) -> None:
    code, out, err = mydocker("run", "-d", "-name", "web", "-m", "64m", "-e", "A=1", "busybox", "sleep", "-x", "1")
    assert (code, out, err) == (0, "1234567890\n", "")
    assert engine.calls == [("run", "busybox", ("sleep", "-x", "1"),
                             {"detach": True, "name": "web", "memory": "64m", "env": ["A=1"]})]
    assert engine.closed


def test_ti_with_d_is_refused_and_both_are_named(mydocker: Any, engine: Any) -> None:
    for words in (["-ti", "-d"], ["-dit"], ["-d", "-t", "-i"], ["-it", "--detach"]):
        code, out, err = mydocker("run", *words, "busybox", "sh")
        assert (code, out) == (125, "")
        assert err == "mydocker: run: -ti and -d exclude each other; use one of them\n"
    assert engine.calls == []
    assert mydocker("run", "-dt", "busybox")[0] == 0
    assert mydocker("run", "-dti=false", "busybox")[0] == 0


def test_a_terminal_session_needs_a_terminal(mydocker: Any, engine: Any) -> None:
    script = "from mydocker.cli.main import entry; entry()"
    done = subprocess.run([sys.executable, "-c", script, "run", "-ti", "busybox", "sh"], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=False, env={"PYTHONPATH": os.path.join(ROOT, "src")})
    assert done.returncode == 125
    assert done.stderr.startswith("mydocker: the input device is not a TTY; ")


@pytest.mark.parametrize(("text", "keys"), [
    ("ctrl-p,ctrl-q", b"\x10\x11"), ("ctrl-x,x", b"\x18x"), ("a", b"a"), ("ctrl-@,ctrl-[,CTRL-A", b"\x00\x1b\x01"),
    ("", b""),
])
def test_detach_keys_are_bytes(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


def test_wrong_detach_keys_are_refused_before_anything_is_made(mydocker: Any, engine: Any) -> None:
    for text in ("ctrl-", "ctrl-1", "xx", "a,", "é"):
        assert mydocker("run", f"--detach-keys={text}", "img")[0] == 125
    assert engine.calls == []


def test_a_pipe_without_a_reader_is_recognised() -> None:
    reader, writer = os.pipe()
    assert not is_reader_gone(writer)
    os.close(reader)
    assert is_reader_gone(writer)
    os.close(writer)


def test_create_passes_on_what_was_typed(mydocker: Any, engine: Any) -> None:
    assert mydocker("create", "--rm=false", "-v", "/a:/b", "img")[1] == "1234567890\n"
    assert engine.calls == [("create", "img", (), {"rm": False, "volume": ["/a:/b"]})]


@pytest.mark.parametrize(("error", "code", "line"), [
    (errors.NotFound("no image x", hint="mydocker images shows what there is"), 125,
     "mydocker: no image x; mydocker images shows what there is\n"),
    (errors.CommandNotFound("command foo not found"), 127, "mydocker: command foo not found\n"),
    (errors.CommandNotExecutable("/etc: is a directory"), 126, "mydocker: /etc: is a directory\n"),
    (errors.InvalidRequest("memory: 'x' is not a size", hint="h"), 125, "mydocker: memory: 'x' is not a size; h\n"),
    (errors.RuntimeFailed("mount overlay on /x: ENODEV"), 125, "mydocker: mount overlay on /x: ENODEV\n"),
    (OSError(errno.ENOSPC, "No space left on device", "/var/x"), 125,
     "mydocker: /var/x: no space left on device; the disk is full: free some space, for instance with mydocker rm and "
     "mydocker rmi\n"),
    (PermissionError(errno.EACCES, "Permission denied", "/var/x"), 125,
     "mydocker: /var/x: permission denied; run it as root\n"),
    (TypeError("bad\nthing"), 125,
     "mydocker: internal error: TypeError: bad\\nthing; --debug shows where; please report it\n"),
    (AssertionError(), 125, "mydocker: internal error: AssertionError; --debug shows where; please report it\n"),
    (KeyboardInterrupt(), 130, ""),
])
def test_an_error_is_one_line_and_a_code(
    mydocker: Any, engine: Any, error: BaseException, code: int, line: str,
) -> None:
    engine.answers["run"] = error
    assert mydocker("run", "-d", "x") == (code, "", line)
    assert engine.closed


def test_debug_shows_the_traceback_before_the_line(mydocker: Any, engine: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("mydocker.base.log._enabled", False)
    engine.answers["run"] = errors.NotFound("no image x")
    _, _, err = mydocker("--debug", "run", "-d", "x")
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith("\nmydocker: no image x\n")


def test_every_verb_fails_with_125(mydocker: Any) -> None:
    assert mydocker("logs", "nosuch") == (125, "", "mydocker: no container nosuch; mydocker ps shows what there is\n")
    assert mydocker("exec", "nosuch", "true")[0] == 125


def test_root_is_passed_to_the_engine(mydocker: Any, engine: Any) -> None:
    mydocker("--root", "/r", "ps")
    assert engine.root == "/r"


def test_several_names_go_on_after_an_error(mydocker: Any, engine: Any) -> None:
    engine.add("a")
    engine.add("c")
    code, out, err = mydocker("stop", "a", "b", "c", "-t", "2")
    assert (code, out) == (125, "a\nc\n")
    assert err == "mydocker: no container b; mydocker ps shows what there is\n"
    assert [(verb, name) for verb, name, *_ in engine.calls] == [("stop", "a"), ("stop", "c")]


@pytest.mark.parametrize(("words", "call"), [
    (["start", "a"], ("start", (), {})),
    (["stop", "a"], ("stop", (), {})),
    (["stop", "-s", "INT", "a"], ("stop", (), {"signal": "INT"})),
    (["kill", "a"], ("kill", ("KILL",), {})),
    (["kill", "-s", "HUP", "a"], ("kill", ("HUP",), {})),
    (["pause", "a"], ("pause", (), {})),
    (["unpause", "a"], ("unpause", (), {})),
    (["rm", "a"], ("remove", (), {"force": False, "volumes": False})),
    (["rm", "-fv", "a"], ("remove", (), {"force": True, "volumes": True})),
])
def test_a_verb_does_one_thing_to_a_container(
    mydocker: Any, engine: Any, words: list[str], call: tuple[Any, ...],
) -> None:
    engine.add("a")
    assert mydocker(*words) == (0, "a\n", "")
    verb, args, options = call
    assert engine.calls == [(verb, "a", args, options)]


def test_rm_by_force_does_not_mind_what_is_gone(mydocker: Any) -> None:
    assert mydocker("rm", "-f", "gone") == (0, "", "")
    assert mydocker("rm", "gone")[0] == 125


def test_ps_shows_the_others_beside_a_container_that_cannot_be_read(mydocker: Any, engine: Any) -> None:
    engine.add("a")
    engine.containers.broken.append(errors.Corrupt("read /root/container/1/exit: cut", hint="h"))
    code, out, err = mydocker("ps", "-q")
    assert (code, out, err) == (125, "1234567890\n", "mydocker: read /root/container/1/exit: cut; h\n")


def test_restart_passes_on_what_was_typed(mydocker: Any, engine: Any) -> None:
    engine.add("a")
    assert mydocker("restart", "-t", "3", "-s", "INT", "a") == (0, "a\n", "")
    assert engine.calls == [("restart", "a", (), {"timeout": 3.0, "signal": "INT"})]


def test_start_and_stop_are_content_with_what_is_so_already(mydocker: Any, engine: Any) -> None:
    engine.add("a")
    engine.answers.update(start=errors.AlreadyInState("running"), stop=errors.AlreadyInState("ended"),
                          pause=errors.AlreadyInState("paused"))
    assert mydocker("start", "a") == mydocker("stop", "a") == (0, "a\n", "")
    assert mydocker("pause", "a") == (125, "", "mydocker: paused\n")


def test_wait_prints_the_codes(mydocker: Any, engine: Any) -> None:
    engine.add("a")
    engine.answers["wait"] = 7
    assert mydocker("wait", "a") == (0, "7\n", "")


def test_commit_prints_the_id_that_images_lists(mydocker: Any, engine: Any) -> None:
    engine.add("a")
    engine.images = FakeImages()
    engine.answers["commit"] = "sha256:00"
    assert mydocker("commit", "-m", "why", "a", "img") == (0, "id of sha256:00\n", "")
    assert engine.calls == [("commit", "a", ("img",), {"message": "why"})]


def test_logs_are_copied_to_both_streams_with_the_options_typed(mydocker: Any, engine: Any) -> None:
    engine.add("a")
    assert mydocker("logs", "-t", "-n", "5", "--since", "10m", "a")[0] == 0
    verb, name, fds, options = engine.calls[-1]
    assert (verb, name, options) == ("copy_logs", "a", {"tail": "5", "timestamps": True, "since": "10m"})
    assert len(fds) == 2
    engine.answers["copy_logs"] = BrokenPipeError()
    assert mydocker("logs", "-f", "a") == (141, "", "")


@pytest.fixture
def three(engine: Any, monkeypatch: Any) -> Any:
    monkeypatch.setenv("TZ", "UTC")
    base = 1_700_000_000_000_000_000
    engine.add("old", id="1111111111", created_ns=base, status="exited", exit_code=137, signal=9, oom_killed=True,
               labels={"a.b": "c"})
    engine.add("mid", id="2222222222", created_ns=base + 10**9,
               command="sh -c 'while true; do echo hello; sleep 1; done'")
    engine.add("new", id="3333333333", created_ns=base + 2 * 10**9, status="stopped", exit_code=143, signal=15,
               image="alpine")
    return engine


def test_ps_shows_all_of_them_aligned_youngest_first(mydocker: Any, three: Any) -> None:
    code, out, _ = mydocker("ps")
    assert code == 0
    assert out == (
        "ID           NAME   PID    STATUS    COMMAND                          CREATED               EXIT                  PORTS\n"
        "3333333333   new           stopped   sleep 100                        2023-11-14 22:13:22   143 (SIGTERM)\n"
        "2222222222   mid    4321   running   sh -c 'while true; do echo he…   2023-11-14 22:13:21\n"
        "1111111111   old           exited    sleep 100                        2023-11-14 22:13:20   "
        "137 (out of memory)\n"
    )
    assert mydocker("ps", "-a")[1] == out
    assert "sleep 1; done'" in mydocker("ps", "--no-trunc")[1]


@pytest.mark.parametrize(("words", "names"), [
    (["--running"], ["mid"]),
    (["-f", "status=exited", "-f", "status=stopped"], ["new", "old"]),
    (["--filter", "name=m"], ["mid"]),
    (["--filter", "name=^o"], ["old"]),
    (["--filter", "name=^ol$"], []),
    (["--filter", "id=33"], ["new"]),
    (["--filter", "label=a.b"], ["old"]),
    (["--filter", "label=a.b=d"], []),
    (["--filter", "ancestor=alpine:latest"], ["new"]),
    (["--filter", "ancestor=busybox"], ["mid", "old"]),
    (["--filter", "exited=137"], ["old"]),
    (["--filter", "exited=137", "--filter", "status=stopped"], []),
    (["-l"], ["new"]),
    (["-n", "2"], ["new", "mid"]),
    (["-n", "0"], []),
])
def test_ps_is_narrowed(mydocker: Any, three: Any, words: list[str], names: list[str]) -> None:
    code, out, _ = mydocker("ps", *words, "--format", "{{.Names}}")
    assert (code, out.split()) == (0, names)


def test_ps_in_other_forms(mydocker: Any, three: Any) -> None:
    assert mydocker("ps", "-q")[1] == "3333333333\n2222222222\n1111111111\n"
    rows = [json.loads(line) for line in mydocker("ps", "--format", "json")[1].splitlines()]
    assert [row["Name"] for row in rows] == ["new", "mid", "old"]
    assert mydocker("ps", "--format", "{{.ID}}:{{.State}}:{{.ExitCode}}", "-l")[1] == "3333333333:stopped:143\n"
    assert mydocker("ps", "--format", "table {{.ID}}\\t{{.Label \"a.b\"}}")[1] == (
        "ID           B\n3333333333\n2222222222\n1111111111   c\n")
    assert mydocker("ps", "--format", "table {{.Names}}\\t{{.CreatedAt}}", "-l")[1] == (
        "NAMES   CREATED AT\nnew     2023-11-14 22:13:22\n")


@pytest.mark.parametrize("words", [
    ["--filter", "colour=red"], ["--filter", "status"], ["--filter", "status=dead"], ["--filter", "exited=x"],
    ["--format", "yaml"], ["--format", "{{.Nosuch}}"], ["--format", "{{"],
])
def test_a_wrong_ps_is_one_line(mydocker: Any, three: Any, words: list[str]) -> None:
    code, out, err = mydocker("ps", *words)
    assert (code, out) == (125, "")
    assert err.startswith("mydocker: f")
    assert err.count("\n") == 1


def test_signals_have_names() -> None:
    assert [signal_name(number) for number in (1, 2, 6, 9, 11, 15, 17, 29)] == [
        "SIGHUP", "SIGINT", "SIGABRT", "SIGKILL", "SIGSEGV", "SIGTERM", "SIGCHLD", "SIGIO"]
    assert signal_name(40) == "signal 40"


def _image(name: str) -> dict[str, Any]:
    if name != "img":
        raise errors.NotFound(f"no image {name}")
    return {"Id": "sha256:1", "RepoTags": ["img:latest"]}


class NoVolumes:
    def get(self, name: str) -> Any:
        raise errors.NotFound(f"no volume {name}")


def test_inspect_finds_containers_and_images_and_reports_the_rest(mydocker: Any, engine: Any) -> None:
    engine.add("a")
    engine.volumes = NoVolumes()
    engine.images.describe = _image
    code, out, err = mydocker("inspect", "a", "nosuch", "img")
    assert code == 125
    assert [item.get("id") or item["Id"] for item in json.loads(out)] == ["1234567890", "sha256:1"]
    assert err == "mydocker: no container, image or volume nosuch; mydocker ps shows what there is\n"
    assert mydocker("inspect", "--format", "{{.Status}} {{.ExitCode}}", "a")[1] == "running <no value>\n"
    assert mydocker("inspect", "--type", "image", "a")[2] == "mydocker: no image a\n"
    assert mydocker("inspect", "--type", "plugin", "a")[0] == 125


def _ago(seconds: float) -> str:
    return format_rfc3339(time.time_ns() - int(seconds * 1e9))


@pytest.mark.parametrize(("seconds", "age"), [
    (0.5, "Less than a second ago"), (2, "2 seconds ago"), (61, "About a minute ago"), (3599 * 1, "59 minutes ago"),
    (3700, "About an hour ago"), (47 * 3600, "47 hours ago"), (49 * 3600, "2 days ago"), (15 * 86400, "2 weeks ago"),
    (100 * 86400, "3 months ago"), (800 * 86400, "2 years ago"),
])
def test_age_is_told_as_docker_tells_it(seconds: float, age: str) -> None:
    assert since(_ago(seconds)) == age
    assert since("0001-01-01T00:00:00Z") == since("") == since("nonsense") == "N/A"


@pytest.mark.parametrize(("reference", "pattern", "fits"), [
    ("busybox:latest", "busybox", True), ("busybox:latest", "busy*", True), ("busybox:latest", "busybox:1", False),
    ("busybox:latest", "*:latest", True), ("a/b:1", "*", False), ("a/b:1", "a/*", True), ("reg:5000/a:1", "reg:5000/a", True),
])
def test_reference_filter_is_a_pattern_whose_star_stops_at_a_slash(reference: str, pattern: str, fits: bool) -> None:
    assert matches_reference(reference, pattern) is fits


class FakeImages:
    """Images of the shapes that the image store gives."""

    def list(self) -> list[Any]:
        return [
            ImageSummary(reference="reg:5000/a/b:v1", id="sha256:" + "ab" * 32, manifest_digest="sha256:1", digest="sha256:1",
                         created=_ago(3 * 3600), size_bytes=1_234_567),
            ImageSummary(reference="busybox:latest", id="sha256:" + "cd" * 32, manifest_digest="sha256:2", digest="sha256:2", created="",
                         size_bytes=0),
            ImageSummary(reference="", id="sha256:" + "ef" * 32, manifest_digest="sha256:3", digest="sha256:3", created="", size_bytes=0),
            ImageSummary(reference="", id="sha256:" + "cd" * 32, manifest_digest="sha256:4", digest="sha256:4", created="", size_bytes=0),
        ]

    def load(self, source: str, *, platform: str) -> list[Any]:
        assert platform == ""
        return [LoadedImage(references=("a:1", "a:2"), id="sha256:1", manifest_digest="sha256:2"),
                LoadedImage(references=(), id="sha256:3", manifest_digest="sha256:4")]

    def remove(self, name: str, *, force: bool = False) -> Any:
        if name == "gone":
            raise errors.NotFound("no image gone")
        return RemovedImage(untagged=(f"{name}:latest",), deleted=("sha256:1",))

    def import_tar(self, source: str, name: str, message: str = "") -> str:
        return f"{source} {name} {message}"

    def inspect(self, name: str) -> dict[str, Any]:
        return {"id": f"id of {name}"}


def test_images_are_listed_with_repository_and_tag(mydocker: Any, engine: Any) -> None:
    engine.images = FakeImages()
    assert mydocker("images")[1] == (
        "REPOSITORY     TAG      IMAGE ID       CREATED       SIZE\n"
        "reg:5000/a/b   v1       abababababab   3 hours ago   1.23MB\n"
        "busybox        latest   cdcdcdcdcdcd   N/A           0B\n"
        "<none>         <none>   efefefefefef   N/A           0B\n")  # and no row for a second manifest of busybox
    assert mydocker("images", "--digests", "--format", "{{.Digest}} {{.ID}}", "busy*")[1] == "sha256:2 cdcdcdcdcdcd\n"
    assert mydocker("image", "ls", "-q")[1] == "abababababab\ncdcdcdcdcdcd\nefefefefefef\n"
    assert mydocker("images", "--format", "{{.Repository}}:{{.Tag}}", "busybox")[1] == "busybox:latest\n"
    assert mydocker("images", "-q", "--no-trunc", "busybox:latest")[1] == f"sha256:{'cd' * 32}\n"
    assert split_reference("reg:5000/a") == ("reg:5000/a", "<none>")


def test_images_come_and_go(mydocker: Any, engine: Any) -> None:
    engine.images = FakeImages()
    assert mydocker("load", "-i", "x.tar")[1] == "Loaded image: a:1\nLoaded image: a:2\nLoaded image ID: sha256:3\n"
    assert mydocker("load", "-q", "-i", "x.tar")[1] == "a:1\na:2\nsha256:3\n"
    assert mydocker("import", "-m", "why", "x.tar", "new:1")[1] == "id of x.tar new:1 why\n"
    assert mydocker("rmi", "a", "gone") == (125, "Untagged: a:latest\nDeleted: sha256:1\n", "mydocker: no image gone\n")
    assert mydocker("rmi", "-f", "gone") == (0, "", "")


def test_info_is_readable_and_json(mydocker: Any) -> None:
    assert mydocker("info")[1] == (
        "cgroup: v2\ncontrollers: cpu memory\nseccomp: yes\nimages:\n  count: 1\n  size: -\n")
    assert json.loads(mydocker("info", "--format", "json")[1])["cgroup"] == "v2"


def test_a_closed_reader_ends_quietly(tmp_path: Any) -> None:
    script = "from mydocker.cli.main import entry; entry()"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", script, "help"], stdout=writer, stderr=subprocess.PIPE, check=False,
                          env={"PYTHONPATH": os.path.join(ROOT, "src")})
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-c", script, "help"], stdout=full, stderr=subprocess.PIPE, check=False,
                              env={"PYTHONPATH": os.path.join(ROOT, "src")})
    assert done.returncode == 125
    assert done.stderr == b"mydocker: write standard output: no space left on device\n"


def test_closed_standard_descriptors_are_replaced_before_anything_is_opened() -> None:
    script = "from mydocker.cli.main import entry; entry()"
    shell = f"{sys.executable} -c '{script}' version <&- >&-"
    done = subprocess.run(["sh", "-c", shell], stderr=subprocess.PIPE, check=False,
                          env={"PYTHONPATH": os.path.join(ROOT, "src"), "PATH": os.environ["PATH"]})
    assert (done.returncode, done.stderr) == (0, b"")
