"""Every script of examples/ runs and says what it promises."""
from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from harness import PATIENCE, Mydocker

pytestmark = [pytest.mark.needs("root", "overlay")]

_TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
#: script -> what it prints, as a regular expression
PRINTED = {
    "hello.py": r"exit code 3, stdout b'hello\\n', stderr b'trouble\\n'\n",
    "service.py": (
        r"[0-9]{10} is running\n0 b'me\\n' b'from outside'\n(stdout tick [0-9]+\n){3}stopped with 0, its last word: bye\n"),
    "conversation.py": r"stdout b'ready\\n'\nstdout b'42\\n'\nstdout b'4\\n'\nexit code 9\n",
    "many_threads.py": r"20540\n",
    "snapshots.py": "".join(rf"\['prepared', 'by {number}', ''\]\n" for number in range(3)),
    "limits.py": (
        r"exit code 137, out of memory: True\npeak below 17 MiB: True, used the cpu: True\n"
        r"Timeout run container [0-9]{10}: it did not end in 0.5 s and was killed\n"),
}


def test_every_example_is_run_here() -> None:
    assert sorted(os.listdir(f"{_TOP}/examples")) == sorted(PRINTED)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.needs("memory")) if name == "limits.py" else name for name in PRINTED])
def test_example_prints_what_it_promises_and_leaves_nothing(mydocker: Mydocker, busybox: str, name: str) -> None:
    done = subprocess.run(
        [sys.executable, f"{_TOP}/examples/{name}", busybox], env=mydocker.environ(), capture_output=True, text=True,
        timeout=30 * PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(PRINTED[name], done.stdout), done.stdout
    assert mydocker.leftovers() == []
    assert mydocker("images", "-q").out.count("\n") == 1
