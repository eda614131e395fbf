""".dockerignore: which paths of a context are left out. Pure.

Patterns are Go's filepath.Match with `**` for any number of directories; a later pattern decides over an
earlier one, `!` takes back. A path is left out, too, when a parent directory is, unless taken back.
Source: moby/patternmatcher, moby/buildkit frontend/dockerfile/dockerignore.
"""
from __future__ import annotations

import posixpath

from mydocker.base.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from re import Pattern


def read_patterns(text: str) -> list[str]:
    """Return the cleaned patterns of a .dockerignore file."""
    patterns = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines()):
        if line.startswith("#"):
            continue
        pattern = line.strip()
        if not pattern:
            continue
        negates = pattern.startswith("!")
        pattern = pattern[1:].strip() if negates else pattern
        if pattern:
            pattern = posixpath.normpath(pattern)
            if len(pattern) > 1 and pattern.startswith("/"):
                pattern = pattern.lstrip("/")
        elif negates:
            raise InvalidRequest(f".dockerignore line {number + 1}: illegal exclusion pattern: \"!\"")
        patterns.append(("!" if negates else "") + pattern)
    return patterns


class IgnoreRules:
    """Tells which paths (relative, `/` between names) are left out."""

    def __init__(self, patterns: list[str]) -> None:
        self._rules: list[tuple[bool, Pattern[str]]] = []
        for pattern in patterns:
            negates = pattern.startswith("!")
            self._rules.append((negates, compile_pattern(pattern.removeprefix("!"))))
        self.has_exceptions = any(negates for negates, _ in self._rules)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def is_left_out(self, path: str) -> bool:
        """Tell whether a path is left out."""
        parts = path.split("/")
        parents = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
        left_out = False
        for negates, expression in self._rules:
            if left_out != negates:
                continue  # it could not change anything
            if expression.match(path) or any(expression.match(parent) for parent in parents):
                left_out = not negates
        return left_out


def compile_pattern(pattern: str) -> Pattern[str]:
    """Return a pattern of filepath.Match with `**` as a regular expression for whole paths. Raises InvalidRequest."""
    import re  # cold

    found, position = "^", 0
    while position < len(pattern):
        letter = pattern[position]
        position += 1
        if letter == "*":
            if pattern[position:position + 1] == "*":
                position += 1
                if pattern[position:position + 1] == "/":
                    position += 1
                    found += "(?:.*/)?"
                else:
                    found += ".*"
            else:
                found += "[^/]*"
        elif letter == "?":
            found += "[^/]"
        elif letter == "\\":
            if position >= len(pattern):
                raise InvalidRequest(f"pattern {pattern!r}: syntax error in pattern")
            found += re.escape(pattern[position])
            position += 1
        elif letter == "[":
            text, position = _read_class(pattern, position)
            found += text
        else:
            found += re.escape(letter)
    return re.compile(f"{found}\\Z", re.DOTALL)


def _read_class(pattern: str, position: int) -> tuple[str, int]:
    """Read `[abc]`, `[^a-z]` behind its bracket."""
    import re  # cold

    found = "["
    if pattern[position:position + 1] == "^":
        found += "^"
        position += 1
    empty = True
    while True:
        letter = pattern[position:position + 1]
        if not letter:
            raise InvalidRequest(f"pattern {pattern!r}: syntax error in pattern")
        position += 1
        if letter == "]" and not empty:
            return found + "]", position
        if letter == "\\":
            letter = pattern[position:position + 1]
            position += 1
            if not letter:
                raise InvalidRequest(f"pattern {pattern!r}: syntax error in pattern")
            found += re.escape(letter)
        else:
            found += letter if letter == "-" else re.escape(letter)
        empty = False
