"""Substitution of variables and removal of quotes in the words of a Dockerfile. Pure.

Source: moby/buildkit frontend/dockerfile/shell (tests/unit/build/test_substitute.py has a table after its tests), and
"Environment replacement" of the Dockerfile reference.
"""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from re import Pattern

#: Nesting of ${a:-${b:-...}} and the length of a result: a text must not cost more than it says.
_MAX_DEPTH = 50
_MAX_LENGTH = 1 << 20
_SPECIAL = "@*#?-$!0123456789"


def substitute(word: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """Return a word with `$name` and `${name...}` replaced and one level of quotes removed. Raises InvalidRequest."""
    return "".join(text for text, _ in _Reader(word, variables, escape).read_word())


def substitute_words(word: str, variables: Mapping[str, str], escape: str = "\\") -> list[str]:
    """The same, split at blanks that are not quoted: what a variable brings is split, too."""
    words: list[str] = []
    current: str | None = None
    for text, quoted in _Reader(word, variables, escape).read_word():
        if quoted:
            current = (current or "") + text
            continue
        pieces = text.split()
        if text[:1].isspace() and current is not None:
            words.append(current)
            current = None
        for number, piece in enumerate(pieces):
            if number and current is not None:
                words.append(current)
                current = None
            current = (current or "") + piece
        if pieces and text[-1:].isspace() and current is not None:
            words.append(current)
            current = None
    return words if current is None else [*words, current]


def substitute_document(text: str, variables: Mapping[str, str]) -> str:
    """Return a heredoc's content with variables replaced; quotes in it are just text, as in the shell."""
    return "".join(piece for piece, _ in _Reader(text, variables, "\\", keep_quotes=True).read_word())


class _Reader:
    def __init__(
        self, text: str, variables: Mapping[str, str], escape: str, *, keep_quotes: bool = False, depth: int = 0
    ) -> None:
        if depth > _MAX_DEPTH:
            raise InvalidRequest("substitution: ${} is nested too deeply")
        self._text = text
        self._at = 0
        self._variables = variables
        self._escape = escape
        self._keep_quotes = keep_quotes
        self._depth = depth

    def read_word(self, stop: str = "") -> list[tuple[str, bool]]:
        """Read up to one of the `stop` letters; returns (text, was quoted) pieces."""
        pieces: list[tuple[str, bool]] = []
        length = 0
        while self._at < len(self._text) and self._text[self._at] not in stop:
            letter = self._text[self._at]
            if letter == "'" and not self._keep_quotes:
                piece = (self._read_single(), True)
            elif letter == '"' and not self._keep_quotes:
                piece = (self._read_double(), True)
            elif letter == "$":
                piece = (self._read_variable(), False)
            elif letter == self._escape:
                piece = self._read_escape()
            else:
                self._at += 1
                piece = (letter, False)
            pieces.append(piece)
            length += len(piece[0])
            if length > _MAX_LENGTH:
                raise InvalidRequest("substitution: the result is longer than a megabyte")
        return pieces

    def _read_escape(self) -> tuple[str, bool]:
        following = self._text[self._at + 1:self._at + 2]
        self._at += 2
        if not following:
            return "" if not self._keep_quotes else self._escape, False
        if self._keep_quotes and following not in "$\\\n":
            return self._escape + following, True
        return following, True

    def _read_single(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise InvalidRequest("substitution: unexpected end of statement while looking for matching single-quote")
        found = self._text[self._at + 1:end]
        self._at = end + 1
        return found

    def _read_double(self) -> str:
        self._at += 1
        found = ""
        while True:
            letter = self._text[self._at:self._at + 1]
            if not letter:
                raise InvalidRequest("substitution: unexpected end of statement while looking for matching double-quote")
            if letter == '"':
                self._at += 1
                return found
            if letter == "$":
                found += self._read_variable()
                continue
            if letter == self._escape:
                following = self._text[self._at + 1:self._at + 2]
                # Only these are escaped here; before anything else the escape is a letter like any other.
                if following and following in ('"', "$", self._escape):
                    found += following
                    self._at += 2
                    continue
            found += letter
            self._at += 1

    def _read_variable(self) -> str:
        self._at += 1
        letter = self._text[self._at:self._at + 1]
        if letter == "{":
            return self._read_braces()
        name = self._read_name()
        return self._variables.get(name, "") if name else "$"

    def _read_name(self) -> str:
        letter = self._text[self._at:self._at + 1]
        if letter == "_" or letter.isalpha():  # any alphabet's, as in docker
            end = self._at + 1
            while self._text[end:end + 1] == "_" or self._text[end:end + 1].isalpha() or self._text[end:end + 1].isdecimal():
                end += 1
            name, self._at = self._text[self._at:end], end
            return name
        if letter and letter in _SPECIAL:
            end = self._at + 1
            while letter.isdigit() and self._text[end:end + 1].isdigit():
                end += 1
            name, self._at = self._text[self._at:end], end
            return name
        return ""

    def _read_braces(self) -> str:
        start = self._at - 1
        self._at += 1
        name = self._read_name()
        if not name:
            raise InvalidRequest(f"substitution: {self._text[start:][:80]}: bad substitution")
        value = self._variables.get(name)
        letter = self._text[self._at:self._at + 1]
        if letter == "}":
            self._at += 1
            return value or ""
        self._at += 1
        if letter == ":":
            letter = self._text[self._at:self._at + 1]
            self._at += 1
            if letter not in ("-", "+", "?"):
                raise InvalidRequest(f"substitution: unsupported modifier ({letter}) in substitution")
            return self._apply_default(name, letter, value, is_set=bool(value))
        if letter in ("-", "+", "?") and letter:
            return self._apply_default(name, letter, value, is_set=value is not None)
        if letter in ("#", "%") and letter:
            greedy = self._text[self._at:self._at + 1] == letter
            self._at += greedy
            return _trim(value or "", self._read_argument("}"), letter, greedy)
        if letter == "/":
            everywhere = self._text[self._at:self._at + 1] == "/"
            self._at += everywhere
            pattern = self._read_pattern()
            replacement = self._read_argument("}")
            return _replace(value or "", pattern, replacement, everywhere=everywhere)
        if not letter:
            raise InvalidRequest("substitution: syntax error: missing '}'")
        raise InvalidRequest(f"substitution: unsupported modifier ({letter}) in substitution")

    def _apply_default(self, name: str, letter: str, value: str | None, *, is_set: bool) -> str:
        word = self._read_argument("}")
        if letter == "-":
            return value or "" if is_set else word
        if letter == "+":
            return word if is_set else ""
        if not is_set:
            raise InvalidRequest(f"substitution: {name}: {word or 'not allowed to be unset'}")
        return value or ""

    def _read_argument(self, stop: str) -> str:
        inner = _Reader(self._text, self._variables, self._escape, depth=self._depth + 1)
        inner._at = self._at
        found = "".join(text for text, _ in inner.read_word(stop))
        self._at = inner._at
        if self._text[self._at:self._at + 1] not in stop or self._at >= len(self._text):
            raise InvalidRequest("substitution: syntax error: missing '}'")
        self._at += 1
        return found

    def _read_pattern(self) -> str:
        """Read the pattern of ${name/pattern/replacement}; an escaped slash belongs to it."""
        inner = _Reader(self._text, self._variables, self._escape, depth=self._depth + 1)
        inner._at = self._at
        pieces = inner.read_word("/}")
        self._at = inner._at
        if self._text[self._at:self._at + 1] != "/":
            raise InvalidRequest("substitution: syntax error: missing '/' in ${}")
        self._at += 1
        return "".join(f"\\{text}" if quoted and text and text in "*?\\" else text for text, quoted in pieces)


def _replace(value: str, pattern: str, replacement: str, *, everywhere: bool) -> str:
    """Replace the first match of a pattern, or all: as in Go, and shells, an empty match right behind another is none."""
    found, done = "", -1
    for match in _compile(pattern).finditer(value):
        if match.end() == match.start() == done:
            continue
        found += value[max(done, 0):match.start()] + replacement
        done = match.end()
        if not everywhere:
            break
    return found + value[max(done, 0):]


def _trim(value: str, pattern: str, side: str, greedy: bool) -> str:
    """Cut the shortest or (greedy) longest match of a pattern off the beginning (#) or the end (%)."""
    expression = _compile(pattern)
    cuts = range(len(value) + 1)
    if side == "#":
        for cut in (reversed(cuts) if greedy else cuts):
            if expression.fullmatch(value, 0, cut):
                return value[cut:]
        return value
    for cut in (cuts if greedy else reversed(cuts)):
        if expression.fullmatch(value, cut):
            return value[:cut]
    return value


def _compile(pattern: str) -> Pattern[str]:
    """Return a shell pattern as a regular expression."""
    import re  # cold

    found, position = "", 0
    while position < len(pattern):
        letter = pattern[position]
        if letter == "*":
            found += ".*"
        elif letter == "?":
            found += "."
        elif letter == "\\" and position + 1 < len(pattern):
            position += 1
            found += re.escape(pattern[position])
        else:
            found += re.escape(letter)
        position += 1
    return re.compile(found, re.DOTALL)
