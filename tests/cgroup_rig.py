"""What tests of linux/cgroup share: a path of their own, and processes inside."""
from __future__ import annotations

import mmap
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from mydocker.linux.cgroup import hierarchy as hierarchy_module
from mydocker.linux.cgroup.group import Cgroup, enter, remove
from mydocker.linux.cgroup.hierarchy import hierarchy
from mydocker.linux.cgroup.paths import read_text
from mydocker.linux.syscalls import clone3

MIB = 1 << 20
#: On a hybrid machine every test runs once more as if there were no v2 hierarchy: freezer, accounting and killing are
#: others then.
KINDS = ["machine", "v1_only"] if hierarchy().kind == "hybrid" else ["machine"]


def use_v1_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process see no v2 hierarchy."""
    monkeypatch.setattr(hierarchy_module, "_found", hierarchy().replace(v2="", v2_controllers=()))


def own_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the path of a cgroup that is this test's own, and is gone afterwards; for a fixture with params=KINDS."""
    if request.param == "v1_only":
        use_v1_only(monkeypatch)
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[:100]
    cgroups_path = f"/mydocker/test-{os.getpid()}-{name}"
    yield cgroups_path
    remove(cgroups_path)
    assert directories(cgroups_path) == []


def directories(cgroups_path: str) -> list[str]:
    found = hierarchy()
    places = [point + cgroups_path for point in (*found.v1.values(), found.v2) if point]
    return [place for place in places if os.path.isdir(place)]


class Child:
    """A process inside a cgroup, born as containers' processes are."""

    def __init__(self, group: Cgroup, work: Callable[[], object] = signal.pause) -> None:
        entries, directory = group.open_entries(), group.entry_fd()
        reader, writer = os.pipe()
        self.pid, self.pidfd = clone3(0, directory)
        if self.pid == 0:
            code = 99
            try:
                enter(entries)
                os.write(writer, b".")
                work()
                code = 0
            finally:
                os._exit(code)
        for fd in (*entries, directory, writer):
            if fd >= 0:
                os.close(fd)
        assert os.read(reader, 1) == b".", "the child could not enter"
        os.close(reader)

    def wait(self) -> int:
        """Return the exit code, negative for a signal."""
        os.close(self.pidfd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.002)


def file_of(group: Cgroup, controller: str, v1_name: str, v2_name: str) -> str:
    directory = group.v1.get(controller)
    return read_text(f"{directory}/{v1_name}" if directory else f"{group.v2}/{v2_name}").strip()


def use_memory(size_bytes: int) -> mmap.mmap:
    block = mmap.mmap(-1, size_bytes)
    for offset in range(0, size_bytes, mmap.PAGESIZE):
        block[offset] = 1
    return block
