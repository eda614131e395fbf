"""Descriptors of the caller's that the command gets: the first ones from 3 on, as `--preserve-fds` and LISTEN_FDS say.

A number that the caller has not open stays unused, as with crun: it is plugged before anything is opened, by a descriptor
of nothing. Otherwise a file of ours (the log, the sync socket) could get it and go to the command with the others.

Source: sd_listen_fds(3); CVE-2024-21626 for what a descriptor too many can be.
"""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from mydocker.oci.runtime_spec import Process

FIRST = 3
#: How many descriptors a start takes itself.
_OWN = 64
#: What was plugged. Process-wide, as descriptors are; a forked init has it, too.
_plugged: set[int] = set()


def plug_missing(words: Iterable[str]) -> None:
    """Plug what is missing of the descriptors that a command line and the environment speak of; before any is opened.

    Raises InvalidRequest for more than there can be.
    """
    count = count_listen_fds()
    previous = ""
    for word in words:
        name, equals, value = word.lstrip("-").partition("=")
        number = value if equals and name == "preserve-fds" else word if previous == "preserve-fds" else ""
        count += int(number) if number.isascii() and number.isdigit() else 0
        previous = name if word.startswith("-") else ""
    if count and count > os.sysconf("SC_OPEN_MAX") - _OWN:
        raise InvalidRequest(f"preserve {count} descriptors: this process may not have so many open", hint="see ulimit -n")
    if count:
        _plug(count)


def _plug(count: int) -> None:
    nothing = os.eventfd(0, os.EFD_CLOEXEC)
    for fd in range(FIRST, FIRST + count):
        try:
            if os.get_inheritable(fd):
                continue  # it came through execve: the caller's
        except OSError:
            os.dup2(nothing, fd, inheritable=False)
        _plugged.add(fd)
    if nothing not in _plugged:
        os.close(nothing)


def count_listen_fds() -> int:
    """Return the number of sockets that systemd, or somebody like it, passed on to this very process.

    Without LISTEN_PID they are taken to be ours: conmon and crun's callers may say only how many there are.
    """
    count = os.environ.get("LISTEN_FDS", "")
    if not (count.isascii() and count.isdigit()) or os.environ.get("LISTEN_PID", str(os.getpid())) != str(os.getpid()):
        return 0
    return int(count)


def announce_listen_fds(process: Process) -> int:
    """Tell the command of the sockets; return their number. Its pid is 1 in most cases, and runc says so in all."""
    count = count_listen_fds()
    if count:
        process["env"] = [*process.get("env", ()), f"LISTEN_FDS={count}", "LISTEN_PID=1"]
    return count


def pass_on(count: int) -> None:
    """Let the command inherit descriptors 3 to 3 + count - 1, but for those that were missing. Raises OSError."""
    for fd in range(FIRST, FIRST + count):
        if fd not in _plugged:
            os.set_inheritable(fd, True)
