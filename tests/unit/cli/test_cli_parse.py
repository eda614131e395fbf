from __future__ import annotations

import pytest

from mydocker.base.errors import InvalidRequest
from mydocker.cli.options import GLOBAL_OPTIONS, GROUPS, OPTIONS, RARE, VERBS, all_options_of, find_verb
from mydocker.cli.parse import Arguments, parse_global, parse_verb
from mydocker.cli.rare_options import RARE_OPTIONS


def parse(verb: str, line: str) -> Arguments:
    row = find_verb(verb)
    assert row is not None
    return parse_verb(row, line.split())


@pytest.mark.parametrize(("line", "expected"), [
    ("--name x img", {"name": "x"}),
    ("--name=x img", {"name": "x"}),
    ("-name x img", {"name": "x"}),
    ("-name=x img", {"name": "x"}),
    ("--name= img", {"name": ""}),
    ("-cpuset 0 img", {"cpuset_cpus": "0"}),
    ("--cpuset 0-1 img", {"cpuset_cpus": "0-1"}),
    ("--cpuset-cpus=0 img", {"cpuset_cpus": "0"}),
    ("-cpushare 512 img", {"cpu_shares": "512"}),
    ("--cpu-shares 512 img", {"cpu_shares": "512"}),
    ("-c 512 img", {"cpu_shares": "512"}),
    ("-m 64m img", {"memory": "64m"}),
    ("-m64m img", {"memory": "64m"}),
    ("-m=64m img", {"memory": "64m"}),
    ("--memory 64m img", {"memory": "64m"}),
    ("-eK=V img", {"env": ["K=V"]}),
    ("-e K=V img", {"env": ["K=V"]}),
    ("-e=K=V img", {"env": ["K=V"]}),
    ("--env K=V --env=L= -e M img", {"env": ["K=V", "L=", "M"]}),
    ("-it img", {"interactive": True, "tty": True}),
    ("-ti img", {"interactive": True, "tty": True}),
    ("-ti --rm=false img", {"interactive": True, "tty": True, "rm": False}),
    ("-t=false -i=1 img", {"interactive": True, "tty": False}),
    ("-itm64m img", {"interactive": True, "tty": True, "memory": "64m"}),
    ("-it -v /a:/b:ro img", {"interactive": True, "tty": True, "volume": ["/a:/b:ro"]}),
    ("-v/a:/b img", {"volume": ["/a:/b"]}),
    ("-rm img", {"rm": True}),
    ("--rm --rm=0 img", {"rm": False}),
    ("--rm=T img", {"rm": True}),
    ("--name a --name b img", {"name": "b"}),
    ("-h box img", {"hostname": "box"}),
    ("--net host img", {"network": ["host"]}),
    ("--name -d img", {"name": "-d"}),
    ("--memory-swap -1 img", {"memory_swap": "-1"}),
    ("-- img", {}),
    ("img --name x", {}),
])
def test_an_option_is_read_in_every_spelling_of_pflag_and_of_the_seed(line: str, expected: dict[str, object]) -> None:
    assert parse("run", line).engine_options() == expected


def test_run_stops_reading_options_at_the_image() -> None:
    arguments = parse("run", "-d img sh -c x --rm -- -d")
    assert arguments.positionals == ["img", "sh", "-c", "x", "--rm", "--", "-d"]
    assert arguments["detach"] is True
    assert arguments["rm"] is False


def test_a_cluster_sets_each_of_its_letters() -> None:
    arguments = parse("run", "-dit img")
    assert (arguments["detach"], arguments["interactive"], arguments["tty"]) == (True, True, True)


def test_double_dash_ends_options_and_is_not_an_argument_itself() -> None:
    assert parse("run", "-d -- img -x").positionals == ["img", "-x"]
    assert parse("rm", "-f -- -odd name").positionals == ["-odd", "name"]


def test_options_may_follow_arguments_where_no_command_does() -> None:
    arguments = parse("stop", "a -t 3 b --signal INT")
    assert arguments.positionals == ["a", "b"]
    assert arguments.engine_options() == {"timeout": 3.0, "signal": "INT"}


def test_a_lone_dash_is_an_argument() -> None:
    assert parse("import", "- name:tag").positionals == ["-", "name:tag"]


def test_stop_takes_seconds_under_all_three_names_and_minus_one() -> None:
    for spelling in ("-t 3", "--timeout 3", "--time=3", "-time 3", "-t3"):
        assert parse("stop", f"{spelling} a").engine_options() == {"timeout": 3.0}
    assert parse("stop", "-t -1 a").engine_options() == {"timeout": -1.0}
    assert parse("stop", "a").engine_options() == {}


def test_values_that_were_not_typed_are_not_passed_on() -> None:
    assert parse("kill", "a").engine_options() == {}
    assert parse("kill", "a")["signal"] == "KILL"


@pytest.mark.parametrize(("verb", "line", "message", "hint"), [
    ("run", "--foo img", "unknown option --foo", "see mydocker run --help"),
    ("run", "--memroy 3 img", "unknown option --memroy", "did you mean --memory?"),
    ("run", "--foo=3 img", "unknown option --foo", "see mydocker run --help"),
    ("run", "---name x img", "unknown option ---name", "did you mean --name?"),
    ("run", "-itz img", "unknown option -z in -itz", "see mydocker run --help"),
    ("run", "-zzz img", "unknown option -zzz", "see mydocker run --help"),
    ("run", "--name", "option --name needs a value", "see mydocker run --help"),
    ("run", "-e", "option -e needs a value", "see mydocker run --help"),
    ("run", "-h", "option -h needs a value", "see mydocker run --help"),
    ("run", "--rm=maybe img", "option --rm: 'maybe' is not true or false", "write --rm=false"),
    ("run", "", "run: missing IMAGE", "usage: mydocker run [OPTIONS] IMAGE [COMMAND [ARG...]]"),
    ("exec", "box", "exec: missing COMMAND", "usage: mydocker exec [OPTIONS] CONTAINER COMMAND [ARG...]"),
    ("stop", "", "stop: missing CONTAINER", "usage: mydocker stop [OPTIONS] CONTAINER..."),
    ("commit", "", "commit: missing CONTAINER", "usage: mydocker commit [OPTIONS] CONTAINER [IMAGE[:TAG]]"),
    ("ps", "box", "ps: unexpected argument 'box'", "usage: mydocker ps [OPTIONS]"),
    ("logs", "a b", "logs: unexpected argument 'b'", "usage: mydocker logs [OPTIONS] CONTAINER"),
    ("ps", "-n x", "option -n: 'x' is not a whole number", ""),
    ("stop", "-t soon a", "option -t: 'soon' is not a duration", "write seconds, or such as 90s, 1m30s, 2h"),
])
def test_a_wrong_line_is_one_error_with_a_way_out(verb: str, line: str, message: str, hint: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(verb, line)
    assert caught.value.message == message
    assert caught.value.hint == hint


def test_help_is_asked_for_with_or_without_arguments() -> None:
    for line in ("--help", "-help", "-d --help", "--help img"):
        assert parse("run", line).help
    for line in ("-h", "--help", "-fh", "box -h"):
        assert parse("rm", line).help
    assert not parse("run", "img --help").help
    assert not parse("exec", "box ls --help").help


def test_global_options_stand_before_the_verb() -> None:
    top, verb, rest = parse_global(["--root", "/r", "--debug", "ps", "-q", "--debug"])
    assert (top["root"], top["debug"]) == ("/r", True)
    assert verb is find_verb("ps")
    assert rest == ["-q", "--debug"]
    assert parse_global(["-D", "ps"])[0]["debug"] is True
    assert parse_global(["-v"])[0]["version"] is True
    assert parse_global(["-h"])[0].help
    assert parse_global([])[1] is None


@pytest.mark.parametrize(("words", "verb", "rest"), [
    (["container", "ls", "-a"], "ps", ["-a"]),
    (["container", "run", "-d", "img"], "run", ["-d", "img"]),
    (["image", "ls"], "images", []),
    (["image", "rm", "x"], "rmi", ["x"]),
    (["image", "inspect", "x"], "inspect", ["--type=image", "x"]),
    (["container", "inspect", "x"], "inspect", ["--type=container", "x"]),
    (["system", "info"], "info", []),
])
def test_two_word_commands_of_docker_are_understood(words: list[str], verb: str, rest: list[str]) -> None:
    _, row, left = parse_global(words)
    assert row is find_verb(verb)
    assert left == rest


@pytest.mark.parametrize(("words", "message", "hint"), [
    (["sotp"], "unknown command sotp", "did you mean stop?"),
    (["frobnicate"], "unknown command frobnicate", "see mydocker --help"),
    (["--wat", "ps"], "unknown option --wat", "see mydocker --help"),
    (["image", "loda"], "unknown command image loda", "did you mean load?"),
    (["--root"], "option --root needs a value", "see mydocker --help"),
])
def test_an_unknown_command_is_told_with_the_nearest(words: list[str], message: str, hint: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_global(words)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_a_group_alone_lists_its_commands() -> None:
    with pytest.raises(InvalidRequest, match="image: which command") as caught:
        parse_global(["image"])
    assert "import, inspect, list, load, ls" in caught.value.hint


def test_rows_of_the_table_do_not_contradict_each_other() -> None:
    verbs = {verb.name for verb in VERBS}
    for row in OPTIONS + RARE_OPTIONS:
        assert set(row.verbs) <= verbs
        assert row.kind in ("bool", "str", "list", "int", "seconds")
        assert (row.kind == "bool") == (not row.value), row.name
    for rows in [GLOBAL_OPTIONS, *(all_options_of(verb) for verb in verbs)]:
        longs = [name for row in rows for name in (row.name, *row.aliases)]
        shorts = [row.short for row in rows if row.short]
        assert len(set(longs)) == len(longs)
        assert len(set(shorts)) == len(shorts)
        assert all(len(name) > 1 for name in longs)


def test_the_names_of_rare_rows_are_those_of_their_table() -> None:
    assert frozenset(row.name for row in RARE_OPTIONS) == RARE
    assert not any(row.short or row.aliases for row in RARE_OPTIONS), "list these in RARE, too, and read them in parse.py"


def test_a_rare_option_is_read_like_any_other_and_asked_for_by_the_right_verbs_only() -> None:
    run = find_verb("run")
    assert run is not None
    arguments = parse_verb(run, ["-privileged", "--cap-add=A", "-cap-add", "B", "--init=false", "image", "--pid"])
    assert arguments.engine_options() == {"privileged": True, "cap_add": ["A", "B"], "init": False}
    assert arguments.positionals == ["image", "--pid"]
    ps = find_verb("ps")
    assert ps is not None
    with pytest.raises(InvalidRequest, match="unknown option --privileged"):
        parse_verb(ps, ["--privileged"])
    with pytest.raises(InvalidRequest) as caught:
        parse_verb(run, ["--priviledged", "image"])
    assert caught.value.hint == "did you mean --privileged?"


def test_no_single_dash_long_name_is_a_cluster_that_people_type() -> None:
    names = {name for row in all_options_of("run") for name in (row.name, *row.aliases)}
    assert not names & {"it", "ti", "dit", "itd", "tid", "di", "dt", "id", "td"}


def test_every_group_word_leads_to_a_verb() -> None:
    for words in GROUPS.values():
        for verb, preset in words.values():
            row = find_verb(verb)
            assert row is not None
            parse_verb(row, [*preset, "--help"])
