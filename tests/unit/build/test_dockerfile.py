"""The text of Dockerfiles: lines, comments, directives, flags, heredocs; and what is refused before anything is built."""
from __future__ import annotations

import pytest

from mydocker.base.errors import InvalidRequest, MydockerError, Unsupported
from mydocker.build import instructions, stages
from mydocker.build.dockerfile import parse


def nodes(text: str) -> list[tuple[str, str]]:
    return [(node.keyword, node.rest) for node in parse(text.encode()).nodes]


def test_lines_are_joined_and_comments_between_them_passed_over() -> None:
    assert nodes("from a\nRUN one \\\n  # no\n\n  two\\\nthree\n") == [("FROM", "a"), ("RUN", "one   twothree")]


def test_escaped_escape_does_not_continue_a_line() -> None:
    assert nodes("FROM a\nRUN x \\\\\nUSER y") == [("FROM", "a"), ("RUN", "x \\\\"), ("USER", "y")]


def test_lines_say_where_they_begin() -> None:
    assert [node.line for node in parse(b"# c\nFROM a\n\nRUN a \\\n b\nRUN c").nodes] == [2, 4, 6]


def test_directive_changes_the_escape_letter() -> None:
    assert nodes("# escape=`\nFROM a\nRUN c:\\dir `\n x") == [("FROM", "a"), ("RUN", "c:\\dir  x")]


def test_directive_after_a_comment_is_a_comment() -> None:
    assert parse(b"# hello\n# escape=`\nFROM a").escape == "\\"


def test_byte_order_mark_and_dos_lines_are_taken() -> None:
    assert nodes("\ufeffFROM a\r\nRUN b \\\r\n c\r\n") == [("FROM", "a"), ("RUN", "b  c")]


def test_flags_are_told_from_the_rest() -> None:
    node = parse(b"FROM a\nCOPY --from=x --chown=1:2 --link a b").nodes[1]
    assert node.flags == (("from", "x"), ("chown", "1:2"), ("link", None))
    assert node.rest == "a b"


def test_heredocs_follow_in_their_order() -> None:
    node = parse(b"FROM a\nCOPY <<one <<-'two' /x/\n1 $a\none\n\t2 $b\n\ttwo\nRUN true").nodes[1]
    assert [(doc.name, doc.content, doc.expand) for doc in node.heredocs] == [("one", "1 $a\n", True), ("two", "2 $b\n", False)]


def test_heredoc_in_a_json_command_is_none() -> None:
    assert parse(b"FROM a\nRUN [\"cat\", \"<<EOF\"]\nUSER x").nodes[1].heredocs == ()


@pytest.mark.parametrize("text", ["docker/dockerfile:1", "docker/dockerfile:1.7-labs", "docker.io/docker/dockerfile:1.4"])
def test_frontend_of_docker_is_built_in(text: str) -> None:
    assert nodes(f"# syntax={text}\nFROM a") == [("FROM", "a")]


@pytest.mark.parametrize("text", ["evil/frontend:1", "docker/dockerfile-upstream:master", "localhost:5000/docker/dockerfile:1"])
def test_unknown_frontend_is_refused(text: str) -> None:
    with pytest.raises(Unsupported, match="frontends"):
        parse(f"# syntax={text}\nFROM a".encode())


@pytest.mark.parametrize("text", [
    "", "# only a comment", "FROM a\nCOPY <<EOF /x\nno end", "# escape=x\nFROM a", "# escape=`\n# escape=`\nFROM a",
    "FROM a\nFROB x", "FROM a\nRUN", "FROM a\nCOPY x", "FROM a\nENV a", "FROM a\nENV =b", "FROM a\nLABEL a=1 b", "RUN x", "FROM a b c d",
    "FROM a AS 1x", "FROM a\nSHELL sh", "FROM a\nONBUILD FROM b", "FROM a\nONBUILD ONBUILD RUN x", "FROM a\nHEALTHCHECK x", "FROM a\nHEALTHCHECK CMD",
    "FROM a\nHEALTHCHECK --interval=x CMD y", "FROM a\nCOPY --from=1 a b", "FROM a\nRUN --security=insecure x", "FROM a\nRUN --network=x y",
    "FROM a\nCOPY --chown=1 --chown=2 a b", "FROM a\nENV --x=1 a=b", "FROM $nothing", "FROM a\nVOLUME []", "FROM a\nCMD [1]", "FROM a\nCOPY a <<EOF\nEOF",
])
def test_dockerfile_is_refused(text: str) -> None:
    with pytest.raises(MydockerError):
        stages.plan(parse(text.encode()), {})


def test_errors_say_the_line() -> None:
    with pytest.raises(InvalidRequest, match="line 3"):
        stages.plan(parse(b"FROM a\n\nCOPY --frob=1 a b"), {})


def test_errors_say_the_line_once() -> None:
    with pytest.raises(InvalidRequest, match=r"^Dockerfile line 2: unknown instruction: BOGUS$"):
        stages.plan(parse(b"FROM a\nONBUILD BOGUS x"), {})


def test_only_needed_stages_are_built() -> None:
    text = b"FROM a AS one\nFROM a AS two\nFROM one AS three\nCOPY --from=two x y\nFROM a AS four\nFROM three\nRUN --mount=from=two,target=/x y"
    plan = stages.plan(parse(text), {})
    assert plan.needed() == [0, 1, 2, 4]
    assert stages.plan(parse(text), {}, "TWO").needed() == [1]


def test_arguments_before_from_choose_the_base() -> None:
    plan = stages.plan(parse(b"ARG v=1\nARG b=base:$v\nFROM $b\nFROM --platform=$BUILDPLATFORM x"), {"v": "2"})
    assert plan.stages[0].base == "base:2"
    assert plan.stages[1].platform.startswith("linux/")


def test_platform_that_is_built_for_is_known_to_the_dockerfile() -> None:
    plan = stages.plan(parse(b"FROM --platform=$BUILDPLATFORM a\nFROM scratch"), {}, platform="linux/arm/v7")
    assert [plan.global_args[f"TARGET{key}"] for key in ("PLATFORM", "OS", "ARCH", "VARIANT")] == ["linux/arm/v7", "linux", "arm", "v7"]
    assert plan.stages[0].platform == plan.global_args["BUILDPLATFORM"] != "linux/arm/v7"
    plan = stages.plan(parse(b"FROM a"), {"TARGETARCH": "x"}, platform="arm64")
    assert [plan.global_args[f"TARGET{key}"] for key in ("PLATFORM", "VARIANT")] == ["linux/arm64", ""]


def test_healthcheck_is_as_the_image_config_has_it() -> None:
    node = parse(b"FROM a\nHEALTHCHECK --interval=1m --retries=2 CMD [\"x\"]").nodes[1]
    assert instructions.healthcheck_of(node) == {"Test": ["CMD", "x"], "Interval": 60_000_000_000, "Retries": 2}
