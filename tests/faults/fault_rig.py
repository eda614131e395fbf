"""What tests of kills share: commands that are killed on the way, and what must be true afterwards.

`settle` is the claim of the house: whatever was killed when, the next `ps` is right, `rm -f` works and nothing is left.
"""
from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator

from harness import Done, Mydocker, is_running, processes, until

from mydocker.linux.cgroup.hierarchy import hierarchy

KILLED = -signal.SIGKILL
#: What containers run. The number is found in the command line of every process that takes part, and in nobody else's.
SLEEP = ("sleep", str(100_000_000 + os.getpid()))


def killed_at(mydocker: Mydocker, points: str, *words: str, code: int | None = KILLED) -> Done:
    """Run a command that is killed at a trace point (`name`, or several `name=action` with commas); it must get there."""
    return mydocker(*words, env={"MYDOCKER_TRACE": points if "=" in points else f"{points}=kill"}, code=code)


def cgroups_of(container_id: str) -> list[str]:
    """Return the directories of a container's cgroups."""
    found = hierarchy()
    places = (f"{mount_point}/mydocker/{container_id}" for mount_point in sorted({*found.v1.values(), found.v2}))
    return [place for place in places if os.path.isdir(place)]


def cgroup_pids(container_id: str) -> set[int]:
    """Return the live processes in a container's cgroups."""
    pids: set[int] = set()
    for place in cgroups_of(container_id):
        with contextlib.suppress(OSError), open(f"{place}/cgroup.procs", encoding="ascii") as stream:
            pids.update(map(int, stream.read().split()))
    return {pid for pid in pids if is_running(pid)}


def check_ps(mydocker: Mydocker) -> dict[str, str]:
    """Check that `ps` says without complaint what the kernel says, and return each container's state."""
    done = mydocker("ps", "--no-trunc", "--format", "{{.ID}} {{.Name}} {{.Status}} {{.PID}}")
    assert done.err == "", done
    states = {}
    for line in done.out.splitlines():
        container_id, name, status, *pid = line.split()
        if status in ("created", "running", "paused"):
            assert pid, line
            # It may have ended since: then the next look says so.
            if not is_running(int(pid[0])):
                continue
        else:
            assert not cgroup_pids(container_id), f"{line}: processes {cgroup_pids(container_id)}"
        states[name] = status
    return states


def settle(mydocker: Mydocker, expected: str, name: str = "c") -> None:
    """Check that the next `ps` is right, wait until the container is in a state ("" for gone), remove it, and look for leaks."""
    check_ps(mydocker)
    until(lambda: check_ps(mydocker).get(name, "") == expected, 5, what=f"{name} {expected or 'gone'}: {check_ps(mydocker)}")
    remove_all(mydocker)


def remove_all(mydocker: Mydocker) -> None:
    """Remove every container by force and check that nothing of any is left."""
    names = mydocker("ps", "-q").out.split()
    if names:
        mydocker("rm", "-f", *names)
    assert mydocker("ps", "-q").out == ""
    assert mydocker.leftovers() == []
    try:
        until(lambda: not sleepers(), 3, what=f"for processes to end: {sleepers()}")
    finally:
        for pid, _ in sleepers():  # a leak is reported once, not by every test after it
            os.kill(pid, signal.SIGKILL)


def sleepers() -> list[tuple[int, list[str]]]:
    """Return the processes of containers that run SLEEP, those that are about to among them."""
    return [(pid, argv) for pid, argv in processes() if SLEEP[1] in argv and is_running(pid)]


@contextlib.contextmanager
def begun(mydocker: Mydocker, points: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command that meets trace points; it is killed at the end if the test has not done so."""
    with open(os.devnull, "r+b") as null:
        command = mydocker.popen(*words, env={"MYDOCKER_TRACE": points}, stdin=null, stdout=null, stderr=subprocess.PIPE)
    try:
        yield command
    finally:
        if command.poll() is None:
            command.kill()
        command.communicate()


def error_of(command: subprocess.Popen[bytes], timeout_s: float = 20) -> str:
    """Wait for a command that must fail, and return its one line of error."""
    _, err = command.communicate(timeout=timeout_s)
    return Done(["mydocker"], command.returncode, b"", err).one_error_line()


def only_id(mydocker: Mydocker) -> str:
    """Wait for the one container to come to be, as a directory, and return its id."""
    until(lambda: len(mydocker.container_ids()) == 1, what="for a container")
    return mydocker.container_ids()[0]


def find_process(container_id: str, *words: str) -> int:
    """Return the pid of the engine's process with these words in its command line and a container's id, 0 when there is none."""
    for pid, argv in processes():
        if container_id in argv and all(any(word in item for item in argv) for word in words):
            return pid
    return 0


def wait_process(container_id: str, *words: str) -> int:
    """Wait for such a process and return its pid."""
    until(lambda: find_process(container_id, *words), what=f"for a process {words}")
    return find_process(container_id, *words)
