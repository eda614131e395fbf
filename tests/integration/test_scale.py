"""Many containers at a time: no error, and nothing is left."""
from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import Mydocker, cgroup_directories

from mydocker import Engine

pytestmark = [pytest.mark.needs("root", "overlay")]


def in_parallel(commands: Iterable[list[str]], at_once: int, mydocker: Mydocker) -> list[str]:
    """Run commands, so many at once, each with its own exit code 0 and nothing on standard error; return what they printed."""
    def run(words: list[str]) -> str:
        done = subprocess.run(
            [*mydocker.argv, *words], env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, ""), f"{words}: {done}"
        return done.stdout

    environ = mydocker.environ()
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(run, commands))


def cgroups_of(mydocker: Mydocker, ids: Iterable[str]) -> list[str]:
    wanted = set(ids)
    return [path for path in cgroup_directories() if os.path.basename(path) in wanted]


@pytest.mark.slow
@pytest.mark.time_limit(120)
def test_fifty_containers_started_ten_at_a_time_and_removed(mydocker: Mydocker, busybox: str) -> None:
    names = [f"c{number}" for number in range(50)]
    ids = in_parallel((["run", "-d", "--name", name, busybox, "sleep", "1000"] for name in names), 10, mydocker)
    assert len({line.strip() for line in ids}) == 50
    rows = mydocker.rows()
    assert {name: row["STATUS"] for name, row in rows.items()} == dict.fromkeys(names, "running")
    assert len({row["PID"] for row in rows.values()}) == 50
    with open("/proc/self/mountinfo", encoding="utf-8") as stream:
        assert mydocker.root not in stream.read()
    mydocker("rm", "-f", *names, timeout_s=60)
    assert mydocker.rows() == {}
    assert mydocker.leftovers() == []
    assert cgroups_of(mydocker, [line.strip() for line in ids]) == []


@pytest.mark.slow
@pytest.mark.time_limit(300)
def test_thousand_starts_fifty_at_a_time_by_the_command_line(mydocker: Mydocker, busybox: str) -> None:
    in_parallel((["run", "--rm", busybox, "true"] for _ in range(1000)), 50, mydocker)
    assert mydocker.rows() == {}
    assert mydocker.leftovers() == []


@pytest.mark.slow
@pytest.mark.time_limit(300)
def test_thousand_starts_fifty_at_a_time_from_python(mydocker: Mydocker, busybox: str, engine: Engine) -> None:
    def run(number: int) -> int | None:
        return engine.containers.run(busybox, ["sh", "-c", f"exit {number % 7}"] if number % 10 == 0 else ["true"], rm=True).exit_code

    with ThreadPoolExecutor(50) as pool:
        codes = list(pool.map(run, range(1000)))
    assert codes == [number % 7 if number % 10 == 0 else 0 for number in range(1000)]
    engine.close()
    assert mydocker.rows() == {}
    assert mydocker.leftovers() == []
