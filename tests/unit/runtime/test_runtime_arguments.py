"""The command line of mydocker-runtime, parsed as runc's is."""
from __future__ import annotations

import pytest

from mydocker.base.errors import InvalidRequest
from mydocker.runtime.arguments import VERBS, format_help, parse_global, parse_verb


def test_global_options_end_at_the_verb() -> None:
    top, rest = parse_global(["--root", "/r", "--log=/l", "--log-format", "json", "--systemd-cgroup", "create", "--bundle", "/b", "c"])
    assert (top["root"], top["log"], top["log-format"], top["systemd-cgroup"]) == ("/r", "/l", "json", True)
    assert rest == ["create", "--bundle", "/b", "c"]


@pytest.mark.parametrize("words", [
    ["--bundle", "/b", "c"], ["--bundle=/b", "c"], ["-b", "/b", "c"], ["-b=/b", "c"], ["-bundle", "/b", "c"], ["c", "--bundle", "/b"],
])
def test_an_option_has_several_spellings_and_may_follow_the_id(words: list[str]) -> None:
    arguments = parse_verb(VERBS["create"], words)
    assert (arguments["bundle"], arguments.words) == ("/b", ["c"])


@pytest.mark.parametrize(("word", "value"), [("--force", True), ("--force=true", True), ("--force=false", False), ("-f", True)])
def test_a_switch_takes_a_value_by_an_equals_sign_only(word: str, value: bool) -> None:
    arguments = parse_verb(VERBS["delete"], [word, "c"])
    assert (arguments["force"], arguments.words) == (value, ["c"])


def test_options_of_an_executed_command_are_its_own() -> None:
    arguments = parse_verb(VERBS["exec"], ["-e", "A=b", "--env=C=d", "c", "ls", "-l", "--env", "x"])
    assert arguments["env"] == ["A=b", "C=d"]
    assert arguments.words == ["c", "ls", "-l", "--env", "x"]


def test_two_dashes_end_the_options() -> None:
    assert parse_verb(VERBS["kill"], ["--all", "--", "c", "-9"]).words == ["c", "-9"]


def test_a_single_dash_is_a_value() -> None:
    assert parse_verb(VERBS["update"], ["--resources", "-", "c"])["resources"] == "-"
    assert parse_verb(VERBS["update"], ["-r", "-", "c"]).words == ["c"]


def test_what_was_really_given_is_known() -> None:
    assert parse_verb(VERBS["update"], ["--memory", "0", "c"]).given == {"memory"}


@pytest.mark.parametrize(("verb", "words"), [
    ("create", []), ("create", ["a", "b"]), ("create", ["--nonsense", "c"]), ("create", ["c", "--bundle"]), ("list", ["c"]),
    ("create", ["--preserve-fds", "some", "c"]), ("create", ["--preserve-fds", "-1", "c"]), ("delete", ["--force=maybe", "c"]),
])
def test_words_that_make_no_sense_are_refused(verb: str, words: list[str]) -> None:
    with pytest.raises(InvalidRequest):
        parse_verb(VERBS[verb], words)


def test_help_is_asked_for_without_an_id() -> None:
    for verb in VERBS.values():
        assert verb.name == "checkpoint" or verb.module == "checkpoint" or parse_verb(verb, ["--help"])["help"]
        assert format_help(verb).startswith(f"NAME:\n  mydocker-runtime {verb.name} - ")
    assert all(verb.help in format_help(None) for verb in VERBS.values())
