"""Processes that stand still (SIGSTOP, a debugger) with a container in their hands: its stage, its monitor, a suspended command.

A stage, and the monitor that it becomes, hold the container's lock until the start is over, and the monitor tells the
end. Everybody else learns from here whom they wait for; what ends containers by force gets past a stage or a monitor.
That a process stands still is seen at two looks with no context switch in between, so nobody who is slow is taken for it.

Of processes that have the container's directory open, those are ours to signal that carry the name of the family
(lifecycle.FAMILY), which no command and no program that embeds the engine does. What they leave is what any kill leaves.
"""
from __future__ import annotations

import os
import time

from mydocker.base import log, paths
from mydocker.base.errors import Timeout
from mydocker.base.locks import DirectoryLock, lock_directory
from mydocker.linux.holders import Holder, find_named, find_stopped, signal_holder

from .lifecycle import EXEC_STAGE, FAMILY

_SIGKILL, _SIGCONT = 9, 18
_MONITOR, _NAME_BYTES = "mydocker-monitor", 15
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.0005, 0.01
#: Between two looks at the holders; the first comes after it, too.
_LOOK_S = 0.5
#: After so long a stage or monitor that keeps the lock is in the way of a forced end, whatever it is doing.
_FORCED_PATIENCE_S = 30.0
_DEATH_S = 10.0


class Watch:
    """Looks at the processes that have a container's directory open, from time to time, for those that stand still.

    `look` and `urge` are for whoever has just waited for some time, which `check` does not ask for.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._seen: list[Holder] = []
        self._urged: set[int] = set()

    def look(self) -> list[Holder]:
        """Return those that have not moved since the look before."""
        before, self._seen = self._seen, find_stopped(*self._places())
        return [holder for holder in self._seen if holder in before]

    def _places(self) -> list[str]:
        """Return the container's directory and those of its exec sessions, whose monitors have these open."""
        sessions = f"{self._directory}/{paths.EXECS}"
        try:
            return [self._directory, *(f"{sessions}/{name}" for name in os.listdir(sessions))]
        except FileNotFoundError:
            return [self._directory]

    def check(self) -> None:
        """Raise Timeout when the container's stage or monitor stands still: for a session's silence."""
        for holder in self.look():
            if holder.path == self._directory and holder.name in _family(self._directory):
                raise _refusal(self._directory, holder)

    def urge(self) -> None:
        """Have the monitors of a container that was killed do their part: let them go on, or kill them if that is in vain.

        That is to record the end, and to reap: no first process of a pid namespace is dead before all others in it are
        reaped, those that exec sessions have brought there by their own parents (pid_namespaces(7)).
        """
        for holder in self.look():
            if holder.name in _family(self._directory):
                self.urge_one(holder)

    def urge_one(self, holder: Holder) -> bool:
        """Let a monitor go on; the second time it is killed. Return whether it was."""
        if holder.pid in self._urged:
            return end_holder(holder)
        log.debug("continue monitor", pid=holder.pid)
        signal_holder(holder, _SIGCONT)
        self._urged.add(holder.pid)
        return False


def wait_for_lock(directory: str, *, force: bool) -> DirectoryLock:
    """Wait for a container's lock that somebody has. Raises NotFound, and Timeout when that is somebody who stands still.

    With `force` a stage or monitor that stands still, or takes very long, is killed.
    """
    watch, began, was_forced = Watch(directory), time.monotonic(), False
    delay_s, next_look = _FIRST_DELAY_S, began + _LOOK_S
    while True:
        time.sleep(delay_s)
        delay_s = min(delay_s * 2, _LONGEST_DELAY_S)
        # Asked for again and again, as flock(2) knows no time.
        lock = lock_directory(directory, wait=False)
        if lock is not None:
            lock.was_forced = was_forced
            return lock
        if time.monotonic() >= next_look:
            was_forced |= _judge(directory, watch, force=force, is_late=time.monotonic() > began + _FORCED_PATIENCE_S)
            next_look = time.monotonic() + _LOOK_S


def _judge(directory: str, watch: Watch, *, force: bool, is_late: bool) -> bool:
    """Return whether a process that is in the way was killed. Raises Timeout.

    A monitor without the lock may be in the way, too: who started the container has that until it says STARTED. As it is
    far more likely in nobody's, it is let go on first, and by those alone that end the container anyway.
    """
    family, was_killed = _family(directory), False
    standing = [holder for holder in watch.look() if holder.path == directory]
    if force:
        ours = [holder for holder in standing if holder.name in family]
        if is_late:
            ours = [holder for holder in find_named(family, directory) if holder.is_locking]
        for holder in ours:
            was_killed |= end_holder(holder) if holder.is_locking else watch.urge_one(holder)
        standing = [holder for holder in standing if holder not in ours]
    for holder in standing:
        if holder.is_locking:
            raise _refusal(directory, holder)
    return was_killed


def end_holder(holder: Holder) -> bool:
    """Kill a stage or monitor and wait until it is dead: True. Raises Timeout."""
    log.debug("kill monitor", pid=holder.pid, name=holder.name)
    if not signal_holder(holder, _SIGKILL, _DEATH_S):
        raise Timeout(f"kill process {holder.pid} ({holder.name}): it does not end", hint="it hangs in the kernel, or is frozen")
    return True


def _family(directory: str) -> tuple[str, ...]:
    """Return the names of stages and monitors of a container and of sessions in it, and of the clean-up: their whole names.

    A script's is that of its file, so a program of somebody's may begin with ours.
    """
    container_id = directory.rpartition("/")[2]
    return f"{FAMILY} {container_id}"[:_NAME_BYTES], _MONITOR[:_NAME_BYTES], EXEC_STAGE


def _refusal(directory: str, holder: Holder) -> Timeout:
    container = directory.rpartition("/")[2]
    way_out = f"`kill -CONT {holder.pid}` lets it go on"
    if holder.name in _family(directory):
        way_out += f", `mydocker rm -f {container}` ends it and the container"
    return Timeout(
        f"wait for container {container}: process {holder.pid} ({holder.name}), which has it in its hands, is stopped",
        hint=way_out)
