"""Every error a user can cause: one line that names the thing and the way out, a code that tells its kind, nothing half-made left."""
from __future__ import annotations

import os

import pytest
from harness import Mydocker

pytestmark = [pytest.mark.needs("root", "overlay")]

#: (what is typed, exit code, the thing that is named, a word of the way out)
MISTAKES = [
    # nothing of that name
    ("run nosuch true", 125, "nosuch", "mydocker images"),
    ("create nosuch true", 125, "nosuch", "mydocker images"),
    ("run busybox:9.9 true", 125, "busybox:9.9", "mydocker images"),
    ("logs nosuch", 125, "nosuch", "mydocker ps"),
    ("logs -f nosuch", 125, "nosuch", "mydocker ps"),
    ("exec nosuch ls", 125, "nosuch", "mydocker ps"),
    ("attach nosuch", 125, "nosuch", "mydocker ps"),
    ("start nosuch", 125, "nosuch", "mydocker ps"),
    ("stop nosuch", 125, "nosuch", "mydocker ps"),
    ("restart nosuch", 125, "nosuch", "mydocker ps"),
    ("kill nosuch", 125, "nosuch", "mydocker ps"),
    ("pause nosuch", 125, "nosuch", "mydocker ps"),
    ("wait nosuch", 125, "nosuch", "mydocker ps"),
    ("rm nosuch", 125, "nosuch", "mydocker ps"),
    ("commit nosuch image", 125, "nosuch", "mydocker ps"),
    ("inspect nosuch", 125, "nosuch", "mydocker ps"),
    ("rmi nosuch", 125, "nosuch", "mydocker images"),
    ("import /nosuch.tar image", 125, "/nosuch.tar", ""),
    ("load -i /nosuch.tar", 125, "/nosuch.tar", ""),
    # something is missing
    ("run", 125, "IMAGE", "usage: mydocker run"),
    ("run busybox", 125, "busybox", "behind the image"),
    ("exec", 125, "CONTAINER", "usage: mydocker exec"),
    ("exec box", 125, "COMMAND", "usage: mydocker exec"),
    ("logs", 125, "CONTAINER", "usage: mydocker logs"),
    ("stop", 125, "CONTAINER", "usage: mydocker stop"),
    ("rm", 125, "CONTAINER", "usage: mydocker rm"),
    ("commit", 125, "CONTAINER", "usage: mydocker commit"),
    ("import", 125, "TAR", "usage: mydocker import"),
    ("run --name", 125, "--name", "mydocker run --help"),
    # unknown words
    ("nosuch", 125, "nosuch", "mydocker --help"),
    ("rnu busybox true", 125, "rnu", "did you mean run"),
    ("run --nmae x busybox true", 125, "--nmae", "did you mean --name"),
    ("run --rm=perhaps busybox true", 125, "perhaps", "--rm=false"),
    ("ps extra", 125, "extra", "usage: mydocker ps"),
    ("run --network nosuch busybox true", 125, "nosuch", "none"),
    ("ps --filter nosuch=1", 125, "nosuch", "status="),
    ("ps --format {{.Nosuch}}", 125, "Nosuch", "Status"),
    # what the command is
    ("run busybox nosuch", 127, "nosuch", "image"),
    ("run busybox /nosuch", 127, "/nosuch", "image"),
    ("run busybox /etc/passwd", 126, "/etc/passwd", "chmod +x"),
    ("run busybox /etc", 126, "/etc", "program"),
    ("exec box nosuch", 127, "nosuch", "image"),
    ("exec -d box nosuch", 127, "nosuch", "image"),
    ("exec box /etc/passwd", 126, "/etc/passwd", "chmod +x"),
    ("run -u nosuch busybox true", 125, "nosuch", "write a number"),
    ("run -u 1:nosuch busybox true", 125, "nosuch", "write a number"),
    ("exec -u nosuch box true", 125, "nosuch", "write a number"),
    # what cannot be
    ("run -ti -d busybox sh", 125, "-ti and -d", "one of them"),
    ("run --name box busybox true", 125, "box", "mydocker rm"),
    ("run --name a/b busybox true", 125, "a/b", "letters"),
    ("run -v relative busybox true", 125, "relative", "HOST:CONTAINER"),
    ("run -m many busybox true", 125, "many", "512m"),
    ("run -cpuset 999 busybox true", 125, "999", "this machine has"),
    ("run --show /root busybox true", 125, "busybox", "--show"),
    ("logs --tail few box", 125, "few", "number"),
    ("logs --since yore box", 125, "yore", "90s"),
    ("rm box", 125, "box", "stop it first"),
    ("unpause box", 125, "box", "running already"),
    ("commit box NOT/A//NAME", 125, "NOT/A//NAME", ""),
    ("commit box host", 125, "host", "another name"),
    ("import /etc/passwd image", 125, "/etc/passwd", "tar"),
    ("load -i /etc/passwd", 125, "/etc/passwd", "docker save"),
    ("rmi busybox", 125, "busybox", "-f"),
    ("exec ended true", 125, "ended", "mydocker start"),
    ("kill ended", 125, "ended", "mydocker start"),
    ("pause ended", 125, "ended", "mydocker start"),
    ("attach ended", 125, "ended", "mydocker start"),
]




@pytest.mark.time_limit(120)
def test_mistake_is_one_line_that_names_the_thing_and_the_way_out(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "--name", "box", busybox, "sleep", "1000")
    mydocker("run", "--name", "ended", busybox, "true")
    before = sorted(os.listdir(f"{mydocker.root}/container")), os.listdir(f"{mydocker.root}/creating"), mydocker("images", "-q").out
    wrong = []
    for typed, code, thing, way_out in MISTAKES:
        done = mydocker(*typed.split(), code=None)
        line = done.err.removeprefix("mydocker: ")
        is_fine = (
            done.code == code and done.out in ("", "[]\n") and done.err.startswith("mydocker: ") and done.err.count("\n") == 1
            and thing in line and way_out in line and "internal error" not in line)
        if not is_fine:
            wrong.append((f"wanted {code} {thing!r} {way_out!r}", done))
    assert wrong == []
    after = sorted(os.listdir(f"{mydocker.root}/container")), os.listdir(f"{mydocker.root}/creating"), mydocker("images", "-q").out
    assert after == before
    assert mydocker.rows()["box"]["STATUS"] == "running"


@pytest.mark.parametrize("words", [["run", "nosuch", "true"], ["run", "busybox", "nosuch"], ["logs", "nosuch"]], ids=" ".join)
def test_debug_shows_the_traceback_before_the_same_line(mydocker: Mydocker, busybox: str, words: list[str]) -> None:
    plain = mydocker(*words, code=None)
    debug = mydocker("--debug", *words, code=plain.code)
    assert "Traceback (most recent call last):" in debug.err
    assert debug.err.splitlines()[-1] == plain.err.rstrip("\n")
    assert mydocker("-D", *words, code=plain.code).err.splitlines()[-1] == plain.err.rstrip("\n")


def test_missing_argument_says_how_it_is_used_for_every_verb_that_needs_one(mydocker: Mydocker, busybox: str) -> None:
    from mydocker.cli.options import VERBS

    for verb in VERBS:
        if verb.least and not verb.hidden:
            assert f"usage: mydocker {verb.spelled}" in mydocker(verb.name, code=125).one_error_line()
