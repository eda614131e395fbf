"""Signals by the names that users write (signal(7))."""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest

#: Signal names without SIG (signal(7), x86 and arm numbers; the same on every Linux we run on but mips, alpha, sparc).
SIGNALS: dict[str, int] = {name: number for number, name in enumerate(
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG "
    "XCPU XFSZ VTALRM PROF WINCH IO PWR SYS".split(), start=1)}


def parse_signal(value: str | int, what: str = "signal") -> int:
    """Return the number of `TERM`, `SIGTERM`, `15`, `RTMIN+3`. Raises InvalidRequest."""
    word = str(value).upper().removeprefix("SIG")
    if word.isdecimal() and 0 < int(word) <= 64:
        return int(word)
    if word in SIGNALS:
        return SIGNALS[word]
    base, sign, offset = (word[:5], word[5:6], word[6:]) if word.startswith("RTM") else ("", "", "")
    if base == "RTMIN" and (not sign or (sign == "+" and offset.isdecimal() and int(offset) <= 30)):
        return 34 + int(offset or 0)
    if base == "RTMAX" and (not sign or (sign == "-" and offset.isdecimal() and int(offset) <= 30)):
        return 64 - int(offset or 0)
    raise InvalidRequest(f"{what} {value!r} is not a signal", hint="write such as TERM, SIGTERM or 15")
