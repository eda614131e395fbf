"""kill -9 of `mydocker-runtime create` between any two steps: no init waits for ever, and the id can be used again."""
from __future__ import annotations

import os
import subprocess
from contextlib import suppress

import pytest
from harness import processes, until
from runtime_rig import PROGRAM, Runtime, reap

pytestmark = [pytest.mark.needs("root", "busybox")]


@pytest.mark.parametrize("point", ["claimed id", "made cgroup", "cloned runtime init"])
def test_a_create_killed_before_it_wrote_its_state_leaves_no_process(runtime: Runtime, point: str) -> None:
    bundle = runtime.bundle("sleep", "100")
    env = {"MYDOCKER_TRACE": f"{point}=kill"}
    before = {pid for pid, _ in processes()}
    assert subprocess.run([PROGRAM, "--root", runtime.root, "create", "--bundle", bundle, "c"], env=env, check=False).returncode == -9
    until(lambda: not [argv for pid, argv in processes() if pid not in before and argv[0] == "mydocker-init"], what="for the init to end")
    with suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # as its next subreaper
    assert runtime.ids() == []
    runtime("create", "--bundle", bundle, "c")
    assert runtime.status("c") == "created"
    remove_cgroups(runtime)


def test_a_create_killed_afterwards_has_created(runtime: Runtime) -> None:
    bundle = runtime.bundle("sleep", "100")
    env = {"MYDOCKER_TRACE": "wrote runtime state=kill"}
    assert subprocess.run([PROGRAM, "--root", runtime.root, "create", "--bundle", bundle, "c"], env=env, check=False).returncode == -9
    if runtime.status("c") != "stopped":  # else its init was not yet ready, and ended with its creator
        pid = runtime.state("c")["pid"]
        runtime("delete", "--force", "c")
        reap(pid)
    else:
        runtime("delete", "c")
    assert runtime.ids() == []


def remove_cgroups(runtime: Runtime) -> None:
    """Remove what the killed create had made, and the next one has joined: it is not the container's to remove."""
    pid = runtime.state("c")["pid"]
    with open(f"/proc/{pid}/cgroup") as stream:
        paths = {line.rstrip("\n").split(":", 2)[2] for line in stream}
    runtime("delete", "--force", "c")
    reap(pid)
    with open("/proc/self/mountinfo") as stream:
        points = [line.split()[4] for line in stream if " - cgroup" in line]
    for path in paths - {"/"}:
        for point in points:
            if path.startswith("/mydocker/mydocker-runtime-") and os.path.isdir(point + path):
                os.rmdir(point + path)
