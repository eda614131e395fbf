"""Words -> `Arguments`, with the rules of Go's pflag that Docker's users have in their fingers.

`--name x`, `--name=x`, `-e K=V`, `-eK=V`, `-e=K=V`, clusters `-it`, `--rm=false`, `--`. Besides, as in the seed, one
dash does for a long name (`-name x`, `-cpuset 0`): an exact long name wins, what is left is a cluster. Pure: no
output, no exit, no engine. Every error is InvalidRequest with a hint.
"""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest

from .options import GLOBAL_OPTIONS, GROUPS, RARE, VERBS, Option, Verb, find_verb, options_of, rare_options_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

_TRUTH = dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True)
_TRUTH |= dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False)


class Arguments:
    """What was typed after a verb: `values` by option key (defaults filled in), `given` the keys really typed."""

    __slots__ = ("given", "help", "positionals", "rows", "values", "verb")

    def __init__(self, verb: Verb, rows: Iterable[Option]) -> None:
        self.verb = verb
        self.rows: tuple[Option, ...] = ()
        self.values: dict[str, Any] = {}
        self.add(list(rows))
        self.given: set[str] = set()
        self.positionals: list[str] = []
        self.help = False

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def add(self, rows: list[Option]) -> None:
        """Accept further options."""
        self.rows += tuple(rows)
        self.values.update((row.key, [] if row.kind == "list" else row.default) for row in rows)

    def engine_options(self) -> dict[str, Any]:
        """Return what was typed and lands at the engine, by the engine's keywords."""
        return {row.lands: self.values[row.key] for row in self.rows if row.lands and row.key in self.given}


def parse_global(words: Sequence[str]) -> tuple[Arguments, Verb | None, list[str]]:
    """Split a command line: global options, the verb (None: only options were typed), the verb's own words.

    Raises InvalidRequest.
    """
    top = Arguments(Verb("", "COMMAND", "", 0, -1, command=True), GLOBAL_OPTIONS)
    _Reader(top, words, "mydocker --help").read()
    if top.help or not top.positionals:
        return top, None, []
    name, *rest = top.positionals
    if name in GROUPS:
        return top, *_group(name, rest)
    verb = find_verb(name)
    if verb is None:
        names = [row.name for row in VERBS if not row.hidden]
        raise InvalidRequest(f"unknown command {name}", hint=_near(name, names) or "see mydocker --help")
    return top, verb, rest


def _group(name: str, rest: list[str]) -> tuple[Verb | None, list[str]]:
    group = GROUPS[name]
    if not rest or rest[0] in ("-h", "--help", "help"):
        raise InvalidRequest(f"{name}: which command?", hint=f"mydocker {name} knows {', '.join(sorted(group))}")
    if rest[0] not in group:
        raise InvalidRequest(f"unknown command {name} {rest[0]}",
                             hint=_near(rest[0], group) or f"mydocker {name} knows {', '.join(sorted(group))}")
    verb, preset = group[rest[0]]
    return find_verb(verb), [*preset, *rest[1:]]


def parse_verb(verb: Verb, words: Sequence[str]) -> Arguments:
    """Return the arguments of one verb. Raises InvalidRequest."""
    arguments = Arguments(verb, options_of(verb.name))
    see = f"mydocker {verb.spelled} --help"
    _Reader(arguments, words, see).read()
    count = len(arguments.positionals)
    if arguments.help or verb.least <= count <= (verb.most if verb.most >= 0 else count):
        return arguments
    usage = f"usage: mydocker {verb.spelled} [OPTIONS] {verb.usage}".rstrip()
    if count < verb.least:
        missing = verb.usage.split()[count].rstrip(".")
        raise InvalidRequest(f"{verb.spelled}: missing {missing}", hint=usage)
    raise InvalidRequest(f"{verb.spelled}: unexpected argument {arguments.positionals[verb.most]!r}", hint=usage)


class _Reader:
    """Reads words into `arguments`; `see` is the command that hints send to."""

    def __init__(self, arguments: Arguments, words: Sequence[str], see: str) -> None:
        self._arguments = arguments
        self._queue = list(reversed(words))
        self._see = see
        self._longs: dict[str, Option] = {}
        self._shorts: dict[str, Option] = {}
        self._add(arguments.rows)

    def _add(self, rows: Iterable[Option]) -> None:
        for row in rows:
            self._longs[row.name] = row
            self._longs.update((alias, row) for alias in row.aliases)
            if row.short:
                self._shorts[row.short] = row

    def read(self) -> None:
        """Read everything: options, and positionals to the end."""
        queue, positionals = self._queue, self._arguments.positionals
        while queue:
            word = queue.pop()
            if word == "--":
                break
            if len(word) >= 2 and word[0] == "-":
                self._read_option(word)
                continue
            positionals.append(word)
            if self._arguments.verb.command:
                break
        positionals.extend(reversed(queue))

    def _read_option(self, word: str) -> None:
        is_double = word.startswith("--")
        name, equals, value = word[2 if is_double else 1:].partition("=")
        row = self._longs.get(name) or self._find_rare(name)
        if row is not None:
            self._store(row, f"--{row.name}", value if equals else None)
        elif word in ("--help", "-help"):
            self._arguments.help = True
        elif is_double:
            raise self._unknown(f"--{name}")
        else:
            self._read_cluster(word)

    def _find_rare(self, name: str) -> Option | None:
        if name in RARE:
            self._add_rare()
        return self._longs.get(name)

    def _add_rare(self) -> None:
        rows = [row for row in rare_options_of(self._arguments.verb.name) if row.name not in self._longs]
        self._add(rows)
        self._arguments.add(rows)

    def _read_cluster(self, word: str) -> None:
        rest = word[1:]
        while rest:
            letter, rest = rest[0], rest[1:]
            row = self._shorts.get(letter)
            if row is None and letter == "h":
                self._arguments.help = True
            elif row is None:
                raise self._unknown(word) if word[1] == letter else InvalidRequest(
                    f"unknown option -{letter} in {word}", hint=f"see {self._see}")
            elif row.kind == "bool" and not rest.startswith("="):
                self._store(row, f"-{letter}", None)
            else:
                self._store(row, f"-{letter}", rest.removeprefix("=") if rest else None)
                return

    def _store(self, row: Option, spelled: str, value: str | None) -> None:
        if value is None and row.kind != "bool":
            if not self._queue:
                raise InvalidRequest(f"option {spelled} needs a value", hint=f"see {self._see}")
            value = self._queue.pop()
        converted = True if value is None else _convert(row, spelled, value)
        if row.kind == "list":
            self._arguments.values[row.key].append(converted)
        else:
            self._arguments.values[row.key] = converted
        self._arguments.given.add(row.key)

    def _unknown(self, spelled: str) -> InvalidRequest:
        self._add_rare()
        near = _near(spelled.lstrip("-"), self._longs, "--")
        return InvalidRequest(f"unknown option {spelled}", hint=near or f"see {self._see}")


def _convert(row: Option, spelled: str, value: str) -> Any:
    if row.kind == "bool":
        if value not in _TRUTH:
            raise InvalidRequest(f"option {spelled}: {value!r} is not true or false", hint=f"write {spelled}=false")
        return _TRUTH[value]
    if row.kind == "int":
        try:
            return int(value)
        except ValueError:
            raise InvalidRequest(f"option {spelled}: {value!r} is not a whole number") from None
    if row.kind == "seconds":
        from mydocker.base.units import parse_duration

        return -1.0 if value == "-1" else parse_duration(value, what=f"option {spelled}")
    return value


def _near(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Return a hint that names what was probably meant, or nothing."""
    from difflib import get_close_matches  # cold

    found = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {prefix}{found[0]}?" if found else ""
