"""The first steps of README.md, typed word for word at a terminal, and its program."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from harness import PATIENCE, Mydocker, Terminal
from image_rig import directory, docker_archive, member, tar

pytestmark = [pytest.mark.needs("root", "overlay", "host_image")]

_TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def section(title: str) -> str:
    with open(f"{_TOP}/README.md", encoding="utf-8") as stream:
        return stream.read().partition(f"## {title}\n")[2].partition("\n## ")[0]


def first_steps() -> Iterator[str]:
    for line in section("First steps").splitlines():
        if line.startswith("    "):
            yield re.sub(r"\s{2,}#.*", "", line.strip())


def answer(session: Terminal, line: str) -> None:
    """Do what the person at the terminal would: leave a shell, stop watching a log."""
    if line.endswith(("-ti web sh", "-ti mine sh")):
        session.expect("/ # ")
        session.type("exit\n")
    elif "logs -f" in line:
        session.expect("20")  # a year
        session.type("\x03")


@pytest.mark.slow  # `stop` waits ten seconds for a shell that ignores SIGTERM, as it says
@pytest.mark.time_limit(120)
def test_first_steps_work_as_they_are_written(mydocker: Mydocker, busybox: str, busybox_tar: str, scratch: str) -> None:
    os.link(busybox_tar, f"{scratch}/rootfs.tar") if os.stat(busybox_tar).st_dev == os.stat(scratch).st_dev else \
        os.symlink(busybox_tar, f"{scratch}/rootfs.tar")
    with open(f"{scratch}/image.tar", "wb") as stream:
        stream.write(docker_archive(tar(directory("etc"), member("etc/motd", b"hello"))))
    os.mkdir(f"{scratch}/settings")
    with open(f"{scratch}/settings/app.conf", "wb") as stream:
        stream.write(b"a = b\n")
    mydocker("rmi", busybox)
    steps = list(first_steps())
    assert steps[0] == "pip install ." and len(steps) == 12
    environ = {**mydocker.environ(), "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    shown = {}
    for line in steps[1:]:
        with Terminal(["/bin/sh", "-c", f"trap : INT; cd {scratch}; {line}"], environ, 24, 80) as session:
            answer(session, line)
            code = session.wait()
            shown[line] = session.text
            assert code == (130 if "logs -f" in line else 0), (line, code, session.text)
    assert shown["mydocker run --rm host python3 -c 'print(\"hello\")'"] == "hello\r\n"
    assert re.search(r" web +[0-9]+ +running ", shown["mydocker ps"])
    assert "Loaded image: rig:1\r\n" in shown["mydocker load -i image.tar"]
    assert os.path.exists(f"{scratch}/passwd")  # of `cp`
    assert mydocker.rows() == {}


def test_program_prints_what_its_comment_says(mydocker: Mydocker, busybox: str) -> None:
    program = section("From Python").partition("```python\n")[2].partition("```")[0]
    promised = re.search(r"# (0 .*)", program)
    assert promised is not None
    done = subprocess.run(
        [sys.executable, "-c", program], env=mydocker.environ(), capture_output=True, text=True, timeout=30 * PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == promised[1]
    assert mydocker.rows() == {}
    mydocker("rmi", "mine:latest")
