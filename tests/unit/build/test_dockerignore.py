"""Patterns of .dockerignore: a table after that of moby's own tests."""
from __future__ import annotations

import pytest

from mydocker.base.errors import InvalidRequest
from mydocker.build.ignore import IgnoreRules, read_patterns

TABLE = [
    ("**", "file", True), ("**", "dir/file", True), ("**/", "file", True), ("**/**", "dir/file", True), ("dir/**", "dir/file", True),
    ("dir/**", "dir/dir2/file", True), ("dir/**", "dirx/file", False), ("**/dir2/*", "dir/dir2/file", True), ("**/dir2/*", "dir2/file", True),
    ("**/dir2/*", "dir/dir2/dir2/file", True), ("**file", "file", True), ("**file", "dir/file", True), ("**file", "dir/file.txt", False),
    ("**/file", "dir/file", True), ("**/file", "file", True), ("**/file", "dir/file.txt", False), ("**/file*", "dir/file.txt", True),
    ("**/file*txt", "dir/file.txt", True), ("**/file*.txt*", "dir/file.txt", True), ("**/**/*.txt", "dir/dir/file.txt", True),
    ("**/*.txt", "file.txt", True), ("**/*.txt2", "file.txt", False), ("a**/*.txt", "a/file.txt", True), ("a**/*.txt", "a/dir/file.txt", True),
    ("a[b-d]e", "ae", False), ("a[b-d]e", "ace", True), ("a[^b-d]e", "aze", True), ("a[^b-d]e", "ace", False), ("*.c", "x/y.c", False),
    ("?", "a", True), ("?", "ab", False), ("a\\*b", "a*b", True), ("a\\*b", "axb", False), ("[]a]", "]", True), ("dir", "dir/file/x", True),
    ("dir/", "dir/file", True), ("/dir", "dir/file", True), ("./dir", "dir", True), (".", "x", False), ("a/../b", "b", True), ("*", "a/b", True),
    ("abc.def", "abcdef", False), ("abc.def", "abc.def", True), ("abc?def", "abcZdef", True), ("a.|)$(}+{bc", "a.|)$(}+{bc", True),
    ("dist/*.whl", "dist/proxy.py-2.4.0.dev29.whl", True),
]


@pytest.mark.parametrize(("pattern", "path", "expected"), TABLE)
def test_path_is_left_out(pattern: str, path: str, expected: bool) -> None:
    assert IgnoreRules(read_patterns(pattern)).is_left_out(path) is expected


@pytest.mark.parametrize(("text", "kept", "gone"), [
    ("dir\n!dir/keep", ["dir/keep"], ["dir", "dir/x"]),
    ("*\n!a\n!b/c", ["a", "b/c", "a/deep"], ["b", "b/d", "x"]),
    ("**/*.md\n!README.md", ["README.md"], ["x/README.md", "a.md"]),
    ("!a\na", [], ["a"]),
    ("docs\n!docs/*.md\ndocs/README.md", ["docs/x.md"], ["docs/README.md", "docs/y"]),
    ("  # no comment\n#comment\n\n x \n", ["comment"], ["x", "# no comment"]),
])
def test_later_lines_decide(text: str, kept: list[str], gone: list[str]) -> None:
    rules = IgnoreRules(read_patterns(text))
    assert [path for path in kept if rules.is_left_out(path)] == []
    assert [path for path in gone if not rules.is_left_out(path)] == []


@pytest.mark.parametrize("text", ["!", "[", "a[", "a\\", "[a"])
def test_pattern_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        IgnoreRules(read_patterns(text))
