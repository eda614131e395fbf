"""`cp` here and docker's, command line by command line: the same outcome, the same files, on the host and in the container.

Errors are compared by docker's words in ours. What differs on purpose is in docs/cli.md ("What differs from docker") and
is not compared here: owners, and set-id bits of files that get another owner.
"""
from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness import Mydocker

pytestmark = [pytest.mark.needs("root", "overlay", "docker_daemon"), pytest.mark.time_limit(300)]

IMAGE = "mydocker-cp-peer:base"
NAME = "mydocker-cp-peer"

#: What is in the container: the same in both.
_INSIDE = """
mkdir -p /d/sub /d/empty /full/hd /clash /clash2/z; echo f > /d/f; echo s > /d/sub/s; chmod 640 /d/f; chmod 1777 /d/sub; ln -s f /d/link
ln -s sub /d/dirlink; ln -s nowhere /d/dangling; ln -s /d /absd; ln -s /new /newlink; ln -s ../../../../d/sub /up
mkfifo /d/fifo; echo file > /file; ln /d/f /d/hard; touch /clash/hd; ln -s /etc/passwd /secret; chmod 711 /full
mkdir -p /real/run; ln -s /real/run /run2; echo pid > /run2/pid; ln -s loop1 /loop2; ln -s loop2 /loop1; ln -s dirlink /d/chain
touch -d '2001-02-03 04:05:06' /d/f /d/sub/s /d/sub
"""

_LIST = r"""
cd /; find . -path ./proc -prune -o -path ./sys -prune -o -path ./dev -prune -o -path ./bin -prune -o -path ./etc -prune \
-o -name .dockerenv -o -exec stat -c '%n %A %h %s' {} + | grep -v '^\. ' | sort
find d c full real file new -type l -exec ls -l {} + -o -type f -exec md5sum {} + | sed 's/.*[0-9][0-9]:[0-9][0-9]//' | sort
find c d full -mtime +1000 | sort
"""
_CLEAR = "cd /; for i in *; do case $i in bin|dev|etc|proc|sys|tmp) ;; *) rm -rf $i;; esac; done"

#: Command lines: {C} is the container. Each case begins with the same files on both sides.
_CASES = [
    # --- out of the container
    "{C}:/nope .", "{C}:/d/f o", "{C}:d/f o", "{C}:/d/../d/./f o", "{C}:/d/f .", "{C}:/d/f o/", "{C}:/d/f hd", "{C}:/d/f hd/",
    "{C}:/d/f hd/.", "{C}:/d/f hdl", "{C}:/d/f x", "{C}:/d/f xl", "{C}:/d/f dang", "{C}:/d/f x/", "{C}:/d/f x/y", "{C}:/d/f no/a",
    "{C}:/d/f/ o", "{C}:/d/f/. o", "{C}:/d/link o", "-L {C}:/d/link o", "-L {C}:/d/link hd", "-L {C}:/d/dirlink o",
    "-L {C}:/d/dirlink hd", "-L {C}:/d/chain o", "{C}:/d/dirlink o", "{C}:/d/dirlink/ o", "{C}:/d/dirlink/ hd", "{C}:/d/dirlink/. o",
    "{C}:/d/dirlink/. hd", "{C}:/d/dangling o", "-L {C}:/d/dangling o", "{C}:/d o", "{C}:/d o/", "{C}:/d o/.", "{C}:/d hd", "{C}:/d/. o",
    "{C}:/d/. hd", "{C}:/d/ hd", "{C}:/d x", "{C}:/d/. x", "{C}:/d xl", "{C}:/d hdl", "{C}:/d dang", "{C}:/d no/a", "{C}:/absd/f o",
    "{C}:/absd/sub/ o", "{C}:/d/fifo o", "{C}:/secret o", "-L {C}:/secret o", "-L {C}:/up o", "{C}:/run2/pid o",
    "{C}:/loop1/x o", "{C}:/file/x o", "{C}:/d/f /dev/null", "{C}:/clash hd/y", "{C}:/d/sub clashsub",
    "{C}:/d/f fifo", "{C}:/full/hd .", "{C}:/proc/self/status o", "{C}:/dev/null o", "{C}:/d/empty o",
    # --- into it
    "x {C}:/c", "x {C}:c", "x {C}:/", "x {C}:/d", "x {C}:/d/", "x {C}:/d/.", "x {C}:/d/f", "x {C}:/d/link", "x {C}:/d/dangling",
    "x {C}:/newlink", "x {C}:/absd", "x {C}:/d/dirlink", "x {C}:/d/dirlink/", "x {C}:/file/", "x {C}:/file/y", "x {C}:/no/", "x {C}:/no/y",
    "x {C}:/d/fifo", "x {C}:/run2", "x {C}:/run2/new", "x {C}:/loop1", "x {C}:/up", "x {C}:/etc/hosts", "xl {C}:/c", "-L xl {C}:/c",
    "-L xl {C}:/d", "xl {C}:/d", "hdl {C}:/c", "hdl/ {C}:/c", "hdl/ {C}:/d", "hdl/. {C}:/c", "-L hdl {C}:/c", "-L hdl {C}:/d", "hd {C}:/c",
    "hd {C}:/c/", "hd {C}:/c/.", "hd/ {C}:/c", "hd/. {C}:/c", "hd {C}:/full", "hd/. {C}:/full", "hd {C}:/file", "hd/. {C}:/file",
    "hd {C}:/no/y", "hd {C}:/newlink", "hd {C}:/clash", "hd/deep/. {C}:/clash2", "hd {C}:/d/link", "hd {C}:/file/", "gone {C}:/", "dang {C}:/c",
    "-L dang {C}:/c", "x/ {C}:/", "x/. {C}:/", "hd/deep/.. {C}:/c", ". {C}:/c", "./a:b {C}:/c", "fifo {C}:/c", "hd/y {C}:/d/sub",
    # --- neither, both
    "x y", "{C}:/d/f {C}:/e", "nosuch-container:/x o", "x nosuch-container:/x", "- {C}:/file", "- {C}:/no",
]

#: docker's words -> ours.
_WORDS = {
    "too many links": "", "lstat /var/lib/docker": "", "no such directory": "no such directory", "not a directory": "not a directory", "cannot copy directory": "cannot copy directory",
    "could not find the file": "could not find the file", "no such container": "no container", "no such file or directory": "",
    "copying between containers is not supported": "copying between containers", "does not exist": "does not exist",
    "must specify at least one container source": "must specify", "must be a directory": "must be a directory",
    "cannot overwrite": "cannot overwrite", "device or resource busy": "device or resource busy", "got a device": "got a device",
}


class Side:
    """One engine with its container and a directory of the host's."""

    def __init__(self, argv: list[str], env: dict[str, str], container: str, directory: str) -> None:
        self.argv = argv
        self.env = env
        self.container = container
        self.directory = directory

    def make_outside(self) -> None:
        """Make the directory of the host as at the beginning."""
        shutil.rmtree(self.directory, ignore_errors=True)
        os.makedirs(f"{self.directory}/hd/deep")
        for name, text in (("x", "x\n"), ("hd/y", "y\n"), ("hd/deep/z", "z\n"), ("a:b", "colon\n"), ("clashsub", "c\n")):
            Path(self.directory, name).write_text(text)
        os.chmod(f"{self.directory}/x", 0o751)
        os.chmod(f"{self.directory}/hd/deep", 0o700)
        os.utime(f"{self.directory}/x", (10**9, 10**9))
        os.mkfifo(f"{self.directory}/fifo")
        for name, target in (("xl", "x"), ("hdl", "hd"), ("dang", "newt")):
            os.symlink(target, f"{self.directory}/{name}")

    def make_inside(self) -> list[str]:
        """Make the container's files as at the beginning; returns what was there, a line a file."""
        done = self.run("exec", self.container, "sh", "-c", f"({_LIST}) 2>/dev/null; {_CLEAR}; {_INSIDE}")
        assert done.returncode == 0, done
        return [_without_size_of_directories(line) for line in done.stdout.decode().splitlines()]

    def run(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command line of the engine in the directory."""
        return subprocess.run(
            [*self.argv, *words], cwd=self.directory, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
            check=False)

    def play(self, case: str) -> tuple[subprocess.CompletedProcess[bytes], list[str], list[str]]:
        """Run one case; returns its end, and the files then on the host and in the container."""
        words = case.replace("{C}", self.container).split()
        done = self.run("cp", *words)
        outside = self.outside()
        self.make_outside()
        return done, outside, self.make_inside() if ":" in words[-1] else []

    def outside(self) -> list[str]:
        """Return what is in the directory of the host."""
        found = []
        for top, directories, files in os.walk(self.directory):
            for name in directories + files:
                path = f"{top}/{name}"
                status = os.lstat(path)
                content = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""
                if stat.S_ISREG(status.st_mode):
                    content = Path(path).read_text()
                old = int(status.st_mtime) if status.st_mtime < 1.5e9 else 0
                found.append(f"{path[len(self.directory):]} {status.st_mode:o} {old} {status.st_nlink} {content}")
        return sorted(found)


def _without_size_of_directories(line: str) -> str:
    words = line.split()
    return " ".join(words[:-2]) if len(words) > 1 and words[1].startswith("d") else line


@pytest.fixture(scope="module")
def docker_container(busybox_tar: str) -> Iterator[str]:
    subprocess.run(["docker", "import", busybox_tar, IMAGE], check=True, capture_output=True)
    subprocess.run(["docker", "rm", "-f", NAME], check=False, capture_output=True)
    subprocess.run(
        ["docker", "run", "-d", "--name", NAME, "--network", "none", IMAGE, "sleep", "100000"], check=True, capture_output=True)
    yield NAME
    subprocess.run(["docker", "rm", "-f", NAME], check=True, capture_output=True)
    subprocess.run(["docker", "rmi", IMAGE], check=True, capture_output=True)


@pytest.mark.slow
def test_every_rule_has_the_same_outcome_as_with_docker(
    docker_container: str, mydocker: Mydocker, busybox: str, tmp_path: Path
) -> None:
    mydocker("run", "-d", "--network", "none", "--name", "c", busybox, "sleep", "100000")
    ours = Side(mydocker.argv, mydocker.environ(), "c", str(tmp_path / "ours" / "h"))
    theirs = Side(["docker"], dict(os.environ), docker_container, str(tmp_path / "docker" / "h"))
    for side in (ours, theirs):
        os.makedirs(side.directory)
        side.make_outside()
        side.make_inside()
    different = []
    with ThreadPoolExecutor(2) as pool:
        for case in _CASES:
            mine, other = pool.map(Side.play, (ours, theirs), (case, case))
            different += [problem for problem in [_compare(case, mine[0], other[0])] if problem]
            different += [
                f"{case}: {where}: ours {sorted(set(a) - set(b))}, docker's {sorted(set(b) - set(a))}"
                for where, a, b in (("host", mine[1], other[1]), ("inside", mine[2], other[2])) if a != b]
    assert not different, "\n".join(different)


def _compare(case: str, ours: subprocess.CompletedProcess[bytes], theirs: subprocess.CompletedProcess[bytes]) -> str:
    if (ours.returncode == 0) != (theirs.returncode == 0):
        return f"{case}: exit codes {ours.returncode} and {theirs.returncode}: {ours.stderr!r} {theirs.stderr!r}"
    if theirs.returncode:
        error = theirs.stderr.decode().lower()
        wanted = next((mine for word, mine in _WORDS.items() if word in error), None)
        if wanted is None or wanted not in ours.stderr.decode():
            return f"{case}: {ours.stderr!r}, docker: {theirs.stderr!r}"
    return ""
