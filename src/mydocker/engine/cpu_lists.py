"""`--cpuset-cpus` and `--cpuset-mems`: lists such as `0-2,7` (cpuset(7)), held against what the machine has."""
from __future__ import annotations

from mydocker.base import files
from mydocker.base.errors import InvalidRequest

from .request import text_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_CPUS = 8192  # the kernel's own largest (NR_CPUS)
#: The kernel's files of those there are.
_ONLINE = {"cpuset_cpus": "/sys/devices/system/cpu/online", "cpuset_mems": "/sys/devices/system/node/online"}


def judge_cpu_list(value: Any, what: str) -> str:
    """Return a list of cpus, or of memory nodes, that are there. Raises InvalidRequest."""
    text = text_line(str(value), what)
    try:
        wanted = parse_list(text)
    except ValueError:
        raise InvalidRequest(f"{what} {value!r} is not a list", hint="write such as 0-2,7") from None
    try:
        there = files.read_bytes(_ONLINE[what]).decode().strip()
    except FileNotFoundError:
        return text  # a kernel without NUMA; the cgroup has the last word
    if not wanted <= parse_list(there):
        raise InvalidRequest(f"{what} {value!r}: this machine has {there}")
    return text


def parse_list(text: str) -> set[int]:
    """Return the numbers of a list such as `0-2,7` (cpuset(7)). Raises ValueError."""
    found: set[int] = set()
    for part in text.split(","):
        low, dash, high = part.partition("-")
        first, last = int(low), int(high if dash else low)
        if not (low + high).isascii() or not (low + high).isdigit() or not first <= last < _MAX_CPUS:
            raise ValueError(part)
        found.update(range(first, last + 1))
    return found
