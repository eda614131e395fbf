"""`--help` of everything, from the option table."""
from __future__ import annotations

from .options import GLOBAL_OPTIONS, VERBS, Option, Verb, all_options_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_ABOUT = "A daemonless container engine: containers in milliseconds, no daemon, nothing lost."
_TEXT_COLUMN = 30


def format_help() -> str:
    """Return the list of commands and the global options."""
    width = max(len(verb.spelled) for verb in VERBS if not verb.hidden)
    commands = [f"  {verb.spelled.ljust(width)}  {verb.help}" for verb in VERBS if not verb.hidden]
    return "\n".join([
        "Usage: mydocker [OPTIONS] COMMAND [ARG...]", "", _ABOUT, "", "Commands:", *commands, "",
        "Options:", *format_options(GLOBAL_OPTIONS), "",
        "mydocker COMMAND --help shows the options of a command. One dash does for two: -name is --name.",
    ])


def format_verb_help(verb: Verb) -> str:
    """Return usage, purpose and options of one command."""
    rows = all_options_of(verb.name)
    head = " ".join(word for word in ("Usage: mydocker", verb.spelled, "[OPTIONS]" if rows else "", verb.usage) if word)
    lines = [head, "", verb.help]
    if rows:
        lines += ["", "Options:", *format_options(rows)]
    return "\n".join(lines)


def format_options(rows: Iterable[Option]) -> list[str]:
    """Return one line an option, or two where the spelling is long."""
    lines = []
    for row in rows:
        left = f"  {spell(row)}"
        if len(left) + 2 > _TEXT_COLUMN:
            lines.append(left)
            left = ""
        lines.append(f"{left.ljust(_TEXT_COLUMN)}{explain(row)}")
    return lines


def spell(row: Option) -> str:
    """Return how an option is typed: `-m, --memory SIZE`."""
    short = f"-{row.short}, " if row.short else "    "
    return f"{short}--{row.name} {row.value}".rstrip()


def explain(row: Option) -> str:
    """Return an option's help with its default and other spellings."""
    notes = []
    if row.default not in (None, False, "", -1):
        notes.append(f"default {str(row.default).lower() if row.kind == 'bool' else row.default}")
    if row.aliases:
        notes.append("also " + ", ".join(f"--{alias}" for alias in row.aliases))
    return f"{row.help} ({'; '.join(notes)})" if notes else row.help
