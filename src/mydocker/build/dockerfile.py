"""Text of a Dockerfile -> its instructions, word by word. Pure: no file is opened, nothing is substituted.

Owns what the file format says: parser directives, comments, continued lines, heredocs, flags, the JSON form.
What an instruction means is judged by instructions.py. Source: moby/buildkit frontend/dockerfile/parser, and the
Dockerfile reference.
"""
from __future__ import annotations

from mydocker.base import jsontext
from mydocker.base.errors import Corrupt, InvalidRequest, Unsupported
from mydocker.base.record import Record
from mydocker.oci.digest import is_hex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: More than this is no Dockerfile; memory is not for whoever wrote it to spend.
MAX_BYTES = 8 << 20
_DIRECTIVES = ("syntax", "escape", "check")
_VERSION_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-")
_FLAG_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")
_WITH_HEREDOCS = ("RUN", "COPY", "ADD")


class Heredoc(Record):
    """A document written inside the Dockerfile; `expand` when its name was not quoted."""

    name: str
    content: str
    expand: bool


class Node(Record):
    """One instruction: `keyword` in capitals, its flags in order, `rest` of its line, where it stands."""

    keyword: str
    line: int
    flags: tuple[tuple[str, str | None], ...]
    rest: str
    heredocs: tuple[Heredoc, ...] = ()

    @property
    def json_words(self) -> tuple[str, ...] | None:
        """The words of the JSON (exec) form; None for the shell form."""
        return parse_json_words(self.rest)

    @property
    def text(self) -> str:
        """The instruction in one line, as it is shown."""
        flags = "".join(f"--{name}{'' if value is None else f'={value}'} " for name, value in self.flags)
        return f"{self.keyword} {flags}{self.rest}".strip()


class Dockerfile(Record):
    """A parsed file."""

    nodes: tuple[Node, ...]
    escape: str = "\\"


def parse(data: bytes) -> Dockerfile:
    """Parse a Dockerfile. Raises InvalidRequest with the line, Unsupported for a frontend that is not ours."""
    if len(data) > MAX_BYTES:
        raise InvalidRequest(f"Dockerfile: larger than {MAX_BYTES >> 20} MiB")
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode()  # `utf-8-sig` would be an import
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"Dockerfile: it is no UTF-8 text (byte {error.start})") from error
    lines = text.replace("\r\n", "\n").split("\n")
    directives = _read_directives(lines)
    escape = directives.get("escape", "\\")
    if escape not in ("\\", "`"):
        raise InvalidRequest(f"Dockerfile: invalid ESCAPE '{escape}'. Must be ` or \\")
    syntax = directives.get("syntax", "")
    if syntax and not _is_known(syntax):
        raise Unsupported(
            f"Dockerfile: syntax {syntax[:200]!r}: frontends from images are not run", hint="docker/dockerfile is built in")
    nodes = tuple(_parse_lines(lines, escape))
    if not nodes:
        raise InvalidRequest("Dockerfile: the file has no instructions")
    return Dockerfile(nodes=nodes, escape=escape)


def _is_known(syntax: str) -> bool:
    """Tell whether a frontend is docker/dockerfile, in any version: `[docker.io/]docker/dockerfile[:VERSION][@DIGEST]`."""
    name, at, digest = syntax.removeprefix("docker.io/").partition("@")
    if at and not (len(digest) == 71 and digest.startswith("sha256:") and is_hex(digest[7:])):
        return False
    name, colon, version = name.partition(":")
    if name != "docker/dockerfile":
        return False
    # A release's version begins with a digit; master and whatever else a tag may be called is not what is built in.
    return not colon or version in ("latest", "labs") or (version[:1].isdecimal() and _VERSION_LETTERS.issuperset(version))


def _read_directives(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        name, equals, value = line.strip().removeprefix("#").partition("=")
        name = name.strip().lower()
        if not line.strip().startswith("#") or not equals or name not in _DIRECTIVES or not value.strip():
            break
        if name in found:
            raise InvalidRequest(f"Dockerfile line {number}: only one {name} parser directive can be used")
        found[name] = value.strip()
    return found


def _parse_lines(lines: list[str], escape: str) -> Iterator[Node]:
    number = 0
    while number < len(lines):
        first = number
        line = lines[number].lstrip()
        number += 1
        if not line or line.startswith("#"):
            continue
        whole = ""
        while True:
            head = line.rstrip(" \t")
            # An escaped escape is a letter, not the sign that the line goes on.
            goes_on = head.endswith(escape) and not head.endswith(escape * 2)
            whole += head[:-1] if goes_on else line
            if not goes_on or number >= len(lines):
                break
            # Comments and empty lines between the parts of a line are passed over.
            while number < len(lines) and (not lines[number].strip() or lines[number].lstrip().startswith("#")):
                number += 1
            if number >= len(lines):
                break
            line = lines[number]
            number += 1
        if not whole.strip():
            continue
        node = parse_instruction(whole.strip(), first + 1)
        documents = []
        for name, strip_tabs, expand in _heredocs_of(node, escape):
            document, number = _take_heredoc(lines, number, name, strip_tabs, first + 1)
            documents.append(Heredoc(name=name, content=document, expand=expand))
        yield node.replace(heredocs=tuple(documents))


def parse_instruction(text: str, line: int) -> Node:
    """Parse one instruction in one line, such as an ONBUILD trigger."""
    keyword, _, rest = _split_word(text)
    flags: list[tuple[str, str | None]] = []
    while rest.startswith("--"):
        word, _, after = _split_flag(rest)
        if word == "--":
            rest = after
            break
        name, equals, value = word[2:].partition("=")
        if not name or not _FLAG_LETTERS.issuperset(name):
            raise InvalidRequest(f"Dockerfile line {line}: invalid flag {word}")
        flags.append((name, value if equals else None))
        rest = after
    return Node(keyword=keyword.upper(), line=line, flags=tuple(flags), rest=rest)


def _split_word(text: str) -> tuple[str, str, str]:
    word, *rest = text.split(None, 1)  # callers give text that is not empty
    return word, "", rest[0] if rest else ""


def _split_flag(text: str) -> tuple[str, str, str]:
    """Split a flag off; quotes in it keep blanks together and are dropped."""
    word, quote, position = "", "", 0
    while position < len(text):
        letter = text[position]
        if quote:
            if letter == quote:
                quote = ""
            elif letter == "\\" and quote == '"' and position + 1 < len(text):
                position += 1
                word += text[position]
            else:
                word += letter
        elif letter in "'\"":
            quote = letter
        elif letter == "\\" and position + 1 < len(text):
            position += 1
            word += text[position]
        elif letter.isspace():
            break
        else:
            word += letter
        position += 1
    return word, "", text[position:].lstrip()


def _heredocs_of(node: Node, escape: str) -> Iterator[tuple[str, bool, bool]]:
    """Yield (name, strip leading tabs, expand) of each document that the instruction opens."""
    keyword, rest = node.keyword, node.rest
    if keyword == "ONBUILD" and rest:
        keyword, _, rest = _split_word(rest)
    if keyword.upper() not in _WITH_HEREDOCS or "<<" not in rest or parse_json_words(rest) is not None:
        return
    for word in split_words(rest, escape):
        name, strip_tabs = _heredoc_name(word)
        bare = name.replace('"', "").replace("'", "").replace(escape, "")
        if bare:
            yield bare, strip_tabs, bare == name


def _take_heredoc(lines: list[str], number: int, name: str, strip_tabs: bool, line: int) -> tuple[str, int]:
    taken: list[str] = []
    while number < len(lines):
        content = lines[number].lstrip("\t") if strip_tabs else lines[number]
        number += 1
        if content == name:
            return "".join(f"{part}\n" for part in taken), number
        taken.append(content)
    raise InvalidRequest(f"Dockerfile line {line}: unterminated heredoc {name}")


def is_heredoc(word: str) -> str:
    """Return the bare name of the document that a word such as `<<"EOF"` stands for, or nothing."""
    return _heredoc_name(word)[0].replace('"', "").replace("'", "").replace("\\", "")


def _heredoc_name(word: str) -> tuple[str, bool]:
    """Return the name behind `<<` or `<<-` (a descriptor's number may stand before it), and whether tabs are stripped."""
    number, sign, name = word.partition("<<")
    if not sign or (number and not number.isdigit()) or "<" in name:
        return "", False
    return name.removeprefix("-"), name.startswith("-")


def parse_json_words(text: str) -> tuple[str, ...] | None:
    """Return the words of a JSON list of strings; None when the text is no JSON list. Raises InvalidRequest."""
    if not text.startswith("["):
        return None
    try:
        value = jsontext.loads(text)
    except Corrupt:
        return None
    if not isinstance(value, list):
        return None
    if not all(isinstance(word, str) for word in value):
        raise InvalidRequest("when using JSON array syntax, arrays must be comprised of strings only")
    return tuple(value)


def split_words(text: str, escape: str = "\\") -> list[str]:
    """Split at blanks outside quotes; quotes and escapes stay, substitution needs them."""
    words: list[str] = []
    word, quote, position = "", "", 0
    while position < len(text):
        letter = text[position]
        if letter == escape and position + 1 < len(text) and quote != "'":
            word += text[position:position + 2]
            position += 2
            continue
        if quote:
            if letter == quote:
                quote = ""
        elif letter in "'\"":
            quote = letter
        elif letter.isspace():
            if word:
                words.append(word)
                word = ""
            position += 1
            continue
        word += letter
        position += 1
    if word:
        words.append(word)
    return words
