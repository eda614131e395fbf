"""docs/cli.md from the option table: `python -m mydocker.cli.reference > docs/cli.md` (a test compares them)."""
from __future__ import annotations

from .help import explain, spell
from .options import GLOBAL_OPTIONS, GROUPS, VERBS, Option, all_options_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_INTRODUCTION = """\
# The command line

<!-- Written from src/mydocker/cli/options.py by `python -m mydocker.cli.reference`. -->

`mydocker [OPTIONS] COMMAND [ARG...]`. Options follow the rules of Docker's command line: `--name x`, `--name=x`,
`-e K=V`, `-eK=V`, clusters such as `-it`, `--rm=false`, and `--` ends them. One dash does for a long name too
(`-name x`, `-cpuset 0`). `run`, `create` and `exec` stop reading options at the image or container, because what
follows is the command's.

Wherever a container is named, its id, or any unique beginning of its name or id, will do.

## Foreground and terminal

`run` without `-d`, `exec`, `attach` and `start -a` stay connected until the end. With a terminal (`-ti`) every key goes
to the container, the window's size is right from the first instant on and followed, the detach keys (ctrl-p ctrl-q)
leave it running, and a signal to mydocker ends mydocker, not the container, after the terminal was put back. Without one,
SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1 and SIGUSR2 are passed on; a program that is process 1 and handles none of them
does not feel them, so the third SIGINT or SIGTERM kills it. When nobody reads the output any more (`run ... | head`), the
process gets SIGPIPE and mydocker ends. If mydocker itself is killed, the container goes on and is tidied up at its end all
the same.

## Exit codes

| Code | Meaning |
|---|---|
| 0 | done |
| 125 | mydocker itself failed or does not understand the command line; with several names, one of them failed |
| 126 | the container's command exists and cannot be executed |
| 127 | the container's command does not exist |
| 130 | ended by Ctrl-C |
| 141 | nobody reads the output any more |
| other | the container's own exit code (128 + N when signal N ended it) |

An error is one line on standard error: what is wrong, then the way out. `mydocker --debug COMMAND` adds the traceback.
"""


def format_reference() -> str:
    """Return the text of docs/cli.md."""
    parts = [_INTRODUCTION, "## Global options\n", *_table(GLOBAL_OPTIONS)]
    for verb in VERBS:
        if verb.hidden:
            continue
        usage = f"mydocker {verb.name} {verb.usage}".rstrip()
        parts += [f"\n## {verb.name}\n", f"`{usage}`\n", f"{verb.help}.\n"]
        parts += _table(all_options_of(verb.name))
    parts += ["\n## Docker's two-word spellings\n", "| Typed | Means |", "|---|---|"]
    for group, words in GROUPS.items():
        parts += [f"| `mydocker {group} {word}` | `mydocker {' '.join([verb, *preset])}` |"
                  for word, (verb, preset) in words.items()]
    return "\n".join(parts).rstrip() + "\n"


def _table(rows: Iterable[Option]) -> list[str]:
    lines = [f"| `{spell(row).strip()}` | {explain(row)} |" for row in rows]
    return ["| Option | Meaning |", "|---|---|", *lines] if lines else []


if __name__ == "__main__":
    from .output import Output

    _output = Output()
    _output.write_bytes(format_reference().encode())
    _output.flush()
