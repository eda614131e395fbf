"""Timing commands, and taking samples of several engines in turns, so that a noisy moment strikes all of them.

Knows nothing of containers.
"""
from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

COMMAND_TIMEOUT_S = 300


class CommandFailed(Exception):
    """A command ended with an error; the message is its line and the last words it said."""


def run_command(argv: Sequence[str], env: Mapping[str, str]) -> str:
    """Run a command to its end and return its standard output. Raises CommandFailed."""
    done = subprocess.run(
        argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        timeout=COMMAND_TIMEOUT_S, check=False)
    if done.returncode:
        raise CommandFailed(_describe(argv, done.returncode, done.stderr))
    return done.stdout


def time_command(argv: Sequence[str], env: Mapping[str, str]) -> float:
    """Return the seconds a command takes, its output thrown away (its errors are kept for CommandFailed)."""
    with open(os.devnull, "wb") as sink:
        begin = time.perf_counter()
        process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.PIPE)
        _, errors = process.communicate(timeout=COMMAND_TIMEOUT_S)
        taken = time.perf_counter() - begin
    if process.returncode:
        raise CommandFailed(_describe(argv, process.returncode, errors.decode(errors="replace")))
    return taken


def _describe(argv: Sequence[str], code: int, errors: str) -> str:
    last = errors.strip().splitlines()[-1:] or ["no word"]
    return f"{' '.join(argv)}: exit {code}: {last[0]}"


@dataclass
class Series:
    """The samples of one engine in one row; `error` says why there are none, or no more."""

    samples: list[float] = field(default_factory=list)
    error: str = ""

    @property
    def median(self) -> float:
        """The median, the number that is judged."""
        return statistics.median(self.samples)

    @property
    def minimum(self) -> float:
        """The best sample: what the machine can do when nobody disturbs."""
        return min(self.samples)

    @property
    def noise(self) -> float:
        """The median distance from the median, as a part of the median."""
        middle = self.median
        return statistics.median(abs(sample - middle) for sample in self.samples) / middle if middle else 0.0


def interleave(samplers: Mapping[str, Callable[[], float]], rounds: int, series: Mapping[str, Series]) -> None:
    """Sample each engine once a round, and begin each round with another one.

    An engine that fails is left out from then on; its series says why.
    """
    names = list(samplers)
    for number in range(rounds):
        shift = number % len(names) if names else 0
        for name in names[shift:] + names[:shift]:
            if series[name].error:
                continue
            try:
                series[name].samples.append(samplers[name]())
            except (CommandFailed, OSError, subprocess.TimeoutExpired) as error:
                series[name].error = str(error)
