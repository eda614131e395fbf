"""The program `mydocker-runtime`: what runc's callers call, on the code that the engine uses in process.

Splits the line, imports the one module of its verb (verbs/), and makes exit codes, log lines and text on standard error of
errors, as the callers expect them: conmon passes standard error on to podman, containerd's shim reads the last error line
of the log, and docker decides between 126 and 127 by the words that Go has for ENOENT and EACCES. docs/runtime.md.

Hot: a caller waits for this program several times in the life of a container.
"""
from __future__ import annotations

import os
import sys

from mydocker.base import log
from mydocker.base.errors import InvalidRequest, MydockerError
from mydocker.base.files import write_all
from mydocker.base.record import Record

from .arguments import PROGRAM, VERBS, Arguments, parse_global, parse_verb
from .state import StateRoot, default_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

FAILED = 1
#: What runc's exec answers when the command could not be started: any other code may be the command's own.
EXEC_FAILED = 255


class Context(Record):
    """What a verb is given."""

    arguments: Arguments
    root: StateRoot
    systemd_cgroup: bool = False
    rootless: str = "auto"
    no_cgroup: bool = False

    @property
    def id(self) -> str:
        """The container's id, the first positional word."""
        return self.arguments.words[0]


class LogFile(Record):
    """Where errors go besides standard error: an open file or -1, and the format of its lines."""

    fd: int = -1
    is_json: bool = False


_log_file = LogFile()


def entry() -> NoReturn:
    """Run the command line of this process and end it, without the interpreter's orderly and slow shutdown."""
    _ensure_standard_descriptors()
    try:
        code = main(sys.argv[1:])
    except BaseException as error:
        write_error(f"internal error: {type(error).__name__}: {error}")
        code = FAILED
    os._exit(code)


def main(words: Sequence[str]) -> int:
    """Run one command line and return its exit code; nothing is raised for what a user can cause."""
    global _log_file
    _log_file = LogFile()
    verb_name = ""
    try:
        top, rest = parse_global(words)
        verb_name = rest[0] if rest else "help"
        if verb_name in ("create", "run", "exec"):
            from .descriptors import plug_missing

            plug_missing(rest[1:])
        _log_file = open_log(top)
        if top["debug"]:
            _enable_debug(_log_file)
        if top["version"]:
            from .features import version_text  # cold

            return write_out(version_text())
        return _dispatch(top, verb_name, rest[1:])
    except Exception as error:
        _report(error)
        return EXEC_FAILED if verb_name == "exec" else FAILED


def _dispatch(top: Arguments, name: str, rest: Sequence[str]) -> int:
    from .arguments import format_help

    if top["help"] or name in ("help", "h"):
        return write_out(format_help(VERBS.get(rest[0]) if rest else None))
    verb = VERBS.get(name)
    if verb is None:
        # runc's words to begin with, for this and for `VERB --help`
        raise InvalidRequest(f"No help topic for {name!r}: it is no verb of {PROGRAM}", hint=f"see {PROGRAM} --help")
    if top["rootless"] not in ("true", "false", "auto"):
        raise InvalidRequest(f"option --rootless is true, false or auto, not {top['rootless']!r}")
    if top["cgroup-manager"] not in ("", "cgroupfs", "systemd", "disabled"):
        raise InvalidRequest(f"option --cgroup-manager is cgroupfs, systemd or disabled, not {top['cgroup-manager']!r}")
    arguments = parse_verb(verb, rest)
    if arguments["help"]:
        return write_out(format_help(verb))
    log.debug(name, container=arguments.words[0] if arguments.words else "")
    context = Context(
        arguments=arguments, root=StateRoot(top["root"] or default_root()),
        systemd_cgroup=top["systemd-cgroup"] or top["cgroup-manager"] == "systemd", rootless=top["rootless"],
        no_cgroup=top["cgroup-manager"] == "disabled")
    module = __import__(f"mydocker.runtime.verbs.{verb.module or verb.name}", None, None, ("run",))
    code: int = module.run(context)
    return code


def open_log(top: Arguments) -> LogFile:
    """Open the file of --log for appending. Raises InvalidRequest, OSError."""
    if top["log-format"] not in ("text", "json"):
        raise InvalidRequest(f"option --log-format is text or json, not {top['log-format']!r}")
    path = top["log"]
    if not path or path == "/dev/stderr":
        return LogFile(is_json=top["log-format"] == "json")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    return LogFile(fd=os.open(path, flags, 0o644), is_json=top["log-format"] == "json")


def _enable_debug(log_file: LogFile) -> None:
    from .reporting import format_line  # cold

    log.enable(log_file.fd if log_file.fd >= 0 else 2, lambda text: format_line("debug", text, as_json=log_file.is_json))


def write_out(text: str) -> int:
    """Write a text and a newline to standard output; return the exit code. Raises OSError."""
    write_all(1, text.encode("utf-8", "surrogateescape") + b"\n")
    return 0


def write_error(text: str) -> None:
    """Write one line to standard error."""
    try:
        write_all(2, f"{PROGRAM}: {text}\n".encode("utf-8", "surrogateescape"))
    except OSError:
        pass  # nobody is left to read it; the exit code still tells


def warn(error: Exception) -> None:
    """Tell of an error that does not end the command."""
    _tell("warning", error)


def _tell(level: str, error: Exception) -> None:
    from . import reporting  # cold

    message = reporting.describe(error)
    if _log_file.fd >= 0:
        try:
            write_all(_log_file.fd, reporting.format_line(level, message, as_json=_log_file.is_json))
        except OSError:
            pass  # standard error tells it, too
    write_error(message)


def _report(error: Exception) -> None:
    _tell("error", error)
    if log.is_enabled() and not isinstance(error, (MydockerError, OSError)):
        import traceback  # cold

        traceback.print_exception(error)


def _ensure_standard_descriptors() -> None:
    """Open /dev/null where 0, 1 or 2 is closed: else the program's own files would land there and be the container's."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest free number is the one that is missing.
            os.open("/dev/null", os.O_RDWR)
            os.set_inheritable(fd, True)
