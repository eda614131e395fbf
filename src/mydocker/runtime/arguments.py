"""The command line of `mydocker-runtime`: one table of verbs and options, and a parser that follows runc's.

Pure. runc parses with Go's `flag` package below urfave/cli: `-name` is `--name`, a value follows or is joined by `=`, a
switch takes `=true` and `=false` only, the last of two wins. Options may stand behind the positional words, but for the
verbs that pass words on (`exec`, `ps`); `--` ends them. Callers put global options before the verb.
"""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest
from mydocker.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal

    Kind = Literal["switch", "text", "list", "number"]

PROGRAM = "mydocker-runtime"
_SWITCH = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}


class Option(Record):
    """One option; a `list` may be given again and again, a `number` is not negative."""

    name: str
    help: str
    kind: Kind = "switch"
    short: str = ""
    default: str | int = ""

    @property
    def initial(self) -> Any:
        """What it is when it is not given."""
        return {"switch": False, "list": []}.get(self.kind, int(self.default or 0) if self.kind == "number" else self.default)


class Verb(Record):
    """One verb: `least` to `most` positional words; `stops` when the first of them ends the options."""

    name: str
    usage: str
    help: str
    options: tuple[Option, ...] = ()
    least: int = 1
    most: int | None = 1
    stops: bool = False
    module: str = ""


class Arguments(Record):
    """A parsed line: options by name, positional words, and the names that were really given."""

    options: dict[str, Any]
    words: list[str]
    given: frozenset[str] = frozenset()

    def __getitem__(self, name: str) -> Any:
        return self.options[name]


GLOBAL_OPTIONS = (
    Option(name="root", kind="text", help="directory of the containers' state (default /run/mydocker-runtime)"),
    Option(name="log", kind="text", help="file that errors are appended to, besides standard error"),
    Option(name="log-format", kind="text", default="text", help="text or json"),
    Option(name="debug", help="say each step on standard error, or in the log"),
    Option(name="systemd-cgroup", help="have systemd make the cgroup; cgroupsPath is then SLICE:PREFIX:NAME"),
    Option(name="cgroup-manager", kind="text", help="who makes the cgroup: cgroupfs, systemd or disabled, as crun's"),
    Option(name="rootless", kind="text", default="auto", help="go on without a cgroup where none may be made: true, false, auto"),
    Option(name="criu", kind="text", help="accepted and unused: there is no checkpoint"),
    Option(name="version", short="v", help="print the version"),
    Option(name="help", short="h", help="print this"),
)
_BUNDLE = Option(name="bundle", short="b", kind="text", help="directory of the bundle (default the working directory)")
_CONFIG = Option(name="config", kind="text", default="config.json", help="the bundle's configuration, below its directory")
_CONSOLE_SOCKET = Option(name="console-socket", kind="text", help="AF_UNIX socket that receives the terminal's master")
_PID_FILE = Option(name="pid-file", kind="text", help="file that the process's pid is written to")
_PIDFD_SOCKET = Option(name="pidfd-socket", kind="text", help="AF_UNIX socket that receives a pidfd of the process")
_DETACH = Option(name="detach", short="d", help="do not wait for its end")
_PRESERVE_FDS = Option(name="preserve-fds", kind="number", help="pass on that many descriptors from 3 on")
_FORMAT = Option(name="format", short="f", kind="text", default="table", help="table or json")
_MAKING = (
    _BUNDLE, _CONFIG, _CONSOLE_SOCKET, _PIDFD_SOCKET, _PID_FILE,
    Option(name="no-pivot", help="chroot in place of pivot_root, for a root on the initial ramdisk"),
    Option(name="no-new-keyring", help="keep the caller's session keyring"),
    _PRESERVE_FDS,
)


def _memory(name: str, text: str) -> Option:
    return Option(name=name, kind="text", help=f"{text}, in bytes or with a unit")


_UPDATES = (
    Option(name="resources", short="r", kind="text", help="file with linux.resources as JSON, - for standard input"),
    Option(name="blkio-weight", kind="number", help="weight of its disk traffic, 10 to 1000"),
    Option(name="cpu-period", kind="text", help="period of the processor limit, in microseconds"),
    Option(name="cpu-quota", kind="text", help="processor time in each period, in microseconds"),
    Option(name="cpu-burst", kind="text", help="unused processor time to carry over, in microseconds"),
    Option(name="cpu-share", kind="text", help="weight of its processor time"),
    Option(name="cpu-rt-period", kind="text", help="period of the real-time limit, in microseconds"),
    Option(name="cpu-rt-runtime", kind="text", help="real-time processor time in each period, in microseconds"),
    Option(name="cpu-idle", kind="text", help="1: runs only when nothing else wants to (cgroup v2)"),
    Option(name="cpuset-cpus", kind="text", help="processors to use, such as 0-2,5"),
    Option(name="cpuset-mems", kind="text", help="memory nodes to use"),
    _memory("memory", "memory limit"),
    _memory("memory-reservation", "memory that it keeps under pressure"),
    _memory("memory-swap", "memory and swap together, -1 without limit"),
    _memory("kernel-memory", "accepted and without effect since Linux 5.16"),
    _memory("kernel-memory-tcp", "accepted and without effect on cgroup v2"),
    Option(name="pids-limit", kind="text", help="number of processes, -1 without limit"),
    Option(name="l3-cache-schema", kind="text", help="refused: Intel RDT is not supported"),
    Option(name="mem-bw-schema", kind="text", help="refused: Intel RDT is not supported"),
)

VERBS = {verb.name: verb for verb in (
    Verb(name="create", usage="ID", help="make a container, which waits for start", options=_MAKING),
    Verb(name="start", usage="ID", help="execute the command of a container that was made"),
    Verb(name="run", usage="ID", help="create and start, and wait for the end", options=(
        *_MAKING, _DETACH, Option(name="keep", help="do not delete the container after its end"),
        Option(name="no-subreaper", help="do not adopt what the container leaves behind"),
    )),
    Verb(name="exec", usage="ID COMMAND [ARG...] | --process FILE ID", help="execute a further command in a container", options=(
        _CONSOLE_SOCKET, _PIDFD_SOCKET, _PID_FILE, _DETACH, _PRESERVE_FDS,
        Option(name="process", short="p", kind="text", help="file with the process object of a runtime spec"),
        Option(name="cwd", kind="text", help="working directory"),
        Option(name="env", short="e", kind="list", help="NAME=VALUE for its environment"),
        Option(name="tty", short="t", help="give it a terminal"),
        Option(name="user", short="u", kind="text", help="UID[:GID], or names in the container's files"),
        Option(name="additional-gids", short="g", kind="list", help="a further group"),
        Option(name="process-label", kind="text", help="SELinux label"),
        Option(name="apparmor", kind="text", help="AppArmor profile"),
        Option(name="no-new-privs", help="set no_new_privs"),
        Option(name="cap", short="c", kind="list", help="a further capability"),
        Option(name="cgroup", kind="list", help="[CONTROLLERS:]PATH, an existing cgroup below the container's"),
        Option(name="ignore-paused", help="do so in a paused container, too"),
    ), most=None, stops=True),
    Verb(name="state", usage="ID", help="print a container's state as JSON"),
    Verb(name="kill", usage="ID [SIGNAL]", help="send a signal, SIGTERM if none is named, to the container's init", options=(
        Option(name="all", short="a", help="to all its processes"),
    ), most=2),
    Verb(name="delete", usage="ID", help="remove a container that has ended", options=(
        Option(name="force", short="f", help="kill it first; it need not exist"),
    )),
    Verb(name="list", usage="", help="list the containers", options=(_FORMAT, Option(name="quiet", short="q", help="ids only")),
         least=0, most=0),
    Verb(name="ps", usage="ID [PS-OPTION...]", help="list a container's processes", options=(_FORMAT,), most=None, stops=True),
    Verb(name="pause", usage="ID", help="stop all its processes"),
    Verb(name="resume", usage="ID", help="let its processes go on"),
    Verb(name="update", usage="ID", help="change its limits", options=_UPDATES),
    Verb(name="events", usage="ID", help="print what it uses, and when it runs out of memory, as JSON", options=(
        Option(name="stats", help="print once and end"),
        Option(name="interval", kind="text", default="5s", help="time between two looks"),
    )),
    Verb(name="spec", usage="", help="write a config.json to start from", options=(
        _BUNDLE, Option(name="rootless", help="for a user without root's rights"),
    ), least=0, most=0),
    Verb(name="features", usage="", help="print what this program supports as JSON", least=0, most=0),
    Verb(name="checkpoint", usage="ID", help="refused: there is no checkpoint", most=None, stops=True, module="checkpoint"),
    Verb(name="restore", usage="ID", help="refused: there is no checkpoint", most=None, stops=True, module="checkpoint"),
)}


def parse_global(words: Sequence[str]) -> tuple[Arguments, list[str]]:
    """Split off the global options; return them and the rest, which begins with the verb. Raises InvalidRequest."""
    options, given, rest = _parse(list(words), GLOBAL_OPTIONS, stops=True, where=PROGRAM)
    return Arguments(options=options, words=[], given=frozenset(given)), rest


def parse_verb(verb: Verb, words: Sequence[str]) -> Arguments:
    """Parse what follows the verb. Raises InvalidRequest."""
    where = f"{PROGRAM} {verb.name}"
    known = (*verb.options, Option(name="help", short="h", help="print this"))
    if verb.module == "checkpoint":  # whatever options: the answer is the same
        return Arguments(options={"help": list(words[:1]) in (["-h"], ["--help"])}, words=list(words))
    options, given, rest = _parse(list(words), known, stops=verb.stops, where=where)
    if not options["help"]:
        if len(rest) < verb.least:
            raise InvalidRequest(f"{verb.name}: a container's id is missing", hint=f"usage: {where} [OPTIONS] {verb.usage}")
        if verb.most is not None and len(rest) > verb.most:
            raise InvalidRequest(f"{verb.name}: too many words: {' '.join(rest[verb.most:])}", hint=f"see {where} --help")
    return Arguments(options=options, words=rest, given=frozenset(given))


def _parse(
    words: list[str], known: Sequence[Option], *, stops: bool, where: str,
) -> tuple[dict[str, Any], set[str], list[str]]:
    table = {name: option for option in known for name in (option.name, option.short) if name}
    values = {option.name: option.initial for option in known}
    given: set[str] = set()
    rest: list[str] = []
    queue = iter(words)
    for word in queue:
        if word == "--":
            rest += queue
        elif word.startswith("-") and word != "-":
            name, equals, value = word.lstrip("-").partition("=")
            option = table.get(name)
            if option is None:
                raise InvalidRequest(f"{where} has no option {word.partition('=')[0]}", hint=f"see {where} --help")
            _take(values, option, value if equals else _following(option, queue, where), where)
            given.add(option.name)
        else:
            rest.append(word)
            if stops:
                rest += queue
    return values, given, rest


def _following(option: Option, queue: Any, where: str) -> str:
    if option.kind == "switch":
        return "true"
    value: str | None = next(queue, None)
    if value is None:
        raise InvalidRequest(f"{where}: option --{option.name} wants a value")
    return value


def _take(values: dict[str, Any], option: Option, text: str, where: str) -> None:
    if option.kind == "list":
        values[option.name] = [*values[option.name], text]
    elif option.kind == "switch":
        if text.lower() not in _SWITCH:
            raise InvalidRequest(f"{where}: option --{option.name} is true or false, not {text!r}")
        values[option.name] = _SWITCH[text.lower()]
    elif option.kind == "number":
        if not (text.isascii() and text.isdigit()):
            raise InvalidRequest(f"{where}: option --{option.name} wants a number, not {text!r}")
        values[option.name] = int(text)
    else:
        values[option.name] = text


def format_help(verb: Verb | None) -> str:
    """Return the help text: of a verb, or of the program; in the sections of runc's."""
    if verb is None:
        verbs = "\n".join(f"  {entry.name:<12} {entry.help}" for entry in VERBS.values())
        head = (f"NAME:\n  {PROGRAM} - an OCI runtime, for callers of runc\n\n"
                f"USAGE:\n  {PROGRAM} [GLOBAL-OPTIONS] VERB [OPTIONS] ...")
        return f"{head}\n\nVERBS:\n{verbs}\n\nGLOBAL OPTIONS:\n{_format_options(GLOBAL_OPTIONS)}"
    head = (f"NAME:\n  {PROGRAM} {verb.name} - {verb.help}\n\n"
            f"USAGE:\n  {PROGRAM} {verb.name} [OPTIONS] {verb.usage}").rstrip()
    return f"{head}\n\nOPTIONS:\n{_format_options(verb.options)}" if verb.options else head


def _format_options(options: Sequence[Option]) -> str:
    lines = []
    for option in options:
        name = f"-{option.short}, --{option.name}" if option.short else f"    --{option.name}"
        value = {"switch": "", "number": " N"}.get(option.kind, " VALUE")
        lines.append(f"  {name + value:<30} {option.help}")
    return "\n".join(lines)
