"""The command `mydocker`: split the line, import the one module of its verb, run it, make a line and a code of errors.

Hot: everything imported here is paid for by every command (HOUSE.md has the budget; `python -X importtime -m mydocker`
shows it). A command's module offers `run(context) -> int`.
"""
from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # `signal` itself imports enum
import os
import sys

from mydocker.base import log
from mydocker.base.errors import InvalidRequest

from .context import Context
from .output import Output, OutputClosed
from .parse import Arguments, parse_global, parse_verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType
    from typing import NoReturn

    from mydocker.engine.engine import Engine

_FAILED = 125


def entry() -> NoReturn:
    """Run the command line of this process and end it.

    Nothing is buffered outside `Output`, so the interpreter's orderly shutdown (modules torn down one by one,
    some milliseconds) has nothing to add.
    """
    _ensure_standard_descriptors()
    for signum in (signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(signum) == signal.SIG_DFL:  # not with nohup
            signal.signal(signum, _interrupt)
    try:
        code = main()
    except KeyboardInterrupt as error:
        code = _code_of_interrupt(error)
    except BaseException as error:  # even SystemExit must not bring the slow shutdown back
        Output().error(f"internal error: {type(error).__name__}: {error}")
        code = _FAILED
    os._exit(code)


def _interrupt(signum: int, _: FrameType | None) -> None:
    """Handle a signal that ends the command: as by Ctrl-C, what it has half made is undone."""
    raise KeyboardInterrupt(signum)


def _code_of_interrupt(error: KeyboardInterrupt) -> int:
    return 128 + int(error.args[0] if error.args else signal.SIGINT)


def main(
    words: Sequence[str] | None = None, *, output: Output | None = None,
    open_engine: Callable[[str | None], Engine] | None = None,
) -> int:
    """Run one command line and return its exit code; nothing is raised for what a user can cause."""
    output = output or Output()
    try:
        code = _dispatch(sys.argv[1:] if words is None else words, output, open_engine)
        output.flush()
        return code
    except InvalidRequest as error:  # of the parser: a verb's own errors are reported by _run
        output.error(error.message, error.hint)
        return _FAILED
    except OutputClosed:
        from .exitcodes import OUTPUT_CLOSED  # cold

        return OUTPUT_CLOSED
    except OSError as error:
        from .exitcodes import describe_error  # cold

        output.error("write standard output: " + describe_error(error)[0])
        return _FAILED


def _dispatch(words: Sequence[str], output: Output, open_engine: Callable[[str | None], Engine] | None) -> int:
    top, verb, rest = parse_global(words)
    if top["debug"]:
        log.enable()
    log.hear_warnings(output.warning)
    if verb is None:
        return _answer_without_verb(top, output)
    arguments = parse_verb(verb, rest)
    if arguments.help:
        from .help import format_verb_help  # cold

        output.line(format_verb_help(verb))
        return 0
    context = Context(arguments, output, root=top["root"], debug=top["debug"], open_engine=open_engine)
    return _run(context)


def _run(context: Context) -> int:
    module = __import__(context.arguments.verb.module, None, None, ("run",))  # importlib costs an import more
    try:
        try:
            code: int = module.run(context)
            return code
        finally:
            context.close()
    except OutputClosed:
        raise
    except KeyboardInterrupt as error:
        return _code_of_interrupt(error)
    except InvalidRequest as error:
        context.report(error)
        return _FAILED
    except Exception as error:  # a bug, or the kernel's word: one line, and a code that says it was not the container
        return context.report(error)


def _answer_without_verb(top: Arguments, output: Output) -> int:
    if top["version"] and not top.help:
        from mydocker.base.version import VERSION  # cold

        output.line(f"mydocker {VERSION}")
        return 0
    from .help import format_help  # cold

    output.line(format_help())
    return 0


def _ensure_standard_descriptors() -> None:
    """Open /dev/null where 0, 1 or 2 is closed: else the engine's own files would land there and be written to."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest free number is the one that is missing.
            os.open("/dev/null", os.O_RDWR)
            os.set_inheritable(fd, True)
