"""The rules of `cp`, without a container. tests/integration/test_cp_peers.py plays them against docker."""
from __future__ import annotations

import pytest

from mydocker.base.errors import InvalidRequest, NotFound
from mydocker.engine.copy_rules import Landing, Target, land, name_of, split_argument


@pytest.mark.parametrize(("argument", "expected"), [
    ("c:/x", ("c", "/x")), ("c:x", ("c", "x")), ("c:", ("c", "")), ("x", ("", "x")), ("/a:b", ("", "/a:b")), ("./a:b", ("", "./a:b")),
    ("../a:b", ("", "../a:b")), ("c:/a:b", ("c", "/a:b")), ("-", ("", "-")), (":x", ("", "x")),
])
def test_an_argument_is_a_containers_when_a_name_and_a_colon_begin_it(argument: str, expected: tuple[str, str]) -> None:
    assert split_argument(argument) == expected


@pytest.mark.parametrize(("path", "name"), [
    ("/a/b", "b"), ("/a/b/", "b"), ("/a/b/.", "."), ("/", "/"), (".", "."), ("/.", "."), ("/a/../b", "b"), ("/..", "/"),
])
def test_a_source_is_called_by_its_last_name_and_its_content_a_dot(path: str, name: str) -> None:
    assert name_of(path) == name


DIRECTORY = Target(path="/to/dir", exists=True, is_directory=True)
FILE = Target(path="/to/file", exists=True)
NOTHING = Target(path="/to/new")


@pytest.mark.parametrize(("name", "is_directory", "target", "expected"), [
    ("f", False, DIRECTORY, ("/to/dir", "f")), ("d", True, DIRECTORY, ("/to/dir", "d")), (".", True, DIRECTORY, ("/to/dir", ".")),
    ("/", True, DIRECTORY, ("/to/dir", ".")), ("f", False, FILE, ("/to", "file")), ("f", False, NOTHING, ("/to", "new")),
    ("d", True, NOTHING, ("/to", "new")), (".", True, NOTHING, ("/to", "new")), ("d", True, Target(path="new/"), (".", "new")),
    ("f", False, Target(path="/new"), ("/", "new")), ("d", True, Target(path="/new/."), ("/new/.", "d")),
])
def test_where_a_source_lands(name: str, is_directory: bool, target: Target, expected: tuple[str, str]) -> None:
    assert land(name, is_directory=is_directory, target=target) == Landing(directory=expected[0], name=expected[1])


def test_a_directory_lands_on_no_file_and_a_file_makes_no_directory() -> None:
    with pytest.raises(InvalidRequest, match="cannot copy directory"):
        land("d", is_directory=True, target=FILE)
    with pytest.raises(NotFound, match="no such directory"):
        land("f", is_directory=False, target=Target(path="/new/"))
