"""kill -9 of `cp` in the middle: no half file under its name, nothing on the machine, and the container as usable as before."""
from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from fault_rig import SLEEP, killed_at, settle
from harness import Mydocker, until

pytestmark = [pytest.mark.needs("root", "overlay")]

POINTS = ("opened view", "placed data")


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("state", ["running", "exited"])
def test_a_killed_copy_leaves_no_half_file_and_the_next_one_works(
    mydocker: Mydocker, busybox: str, tmp_path: Path, point: str, state: str
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"x" * 300_000)
    target.mkdir()
    mydocker("run", "-d", "--network", "none", "--name", "c", "-v", f"{tmp_path}/target:/vol", busybox, *SLEEP)
    mydocker("exec", "c", "sh", "-c", "head -c 300000 /dev/zero > /big; echo old > /there")
    if state == "exited":
        mydocker("stop", "-t", "0", "c")
    (target / "big").write_text("old")
    mounts = Path("/proc/self/mountinfo").read_text().count(mydocker.root)
    killed_at(mydocker, point, "cp", "c:/big", f"{target}/big")
    killed_at(mydocker, point, "cp", "c:/big", f"{target}/new")
    killed_at(mydocker, point, "cp", str(source), "c:/vol/new")
    killed_at(mydocker, point, "cp", str(source), "c:/there")
    assert os.listdir(target) == ["big"] and (target / "big").read_text() == "old"
    assert mydocker("cp", "c:/there", "-").raw_out[512:516] == b"old\n"
    assert Path("/proc/self/mountinfo").read_text().count(mydocker.root) == mounts
    mydocker("cp", str(source), "c:/there")
    mydocker("cp", "c:/there", f"{target}/big")
    assert (target / "big").read_bytes() == source.read_bytes()
    if state == "exited":
        mydocker("start", "c")
    assert [name for name in mydocker("exec", "c", "ls", "-a", "/", "/vol").out.split() if name.startswith(".mydocker")] == []
    settle(mydocker, "running")


def test_a_copy_killed_while_it_reads_a_pipe_leaves_the_lock_and_the_mounts_to_nobody(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "--network", "none", "--name", "c", busybox, "true")
    reader = subprocess.Popen([*mydocker.argv, "cp", "-", "c:/tmp"], env=mydocker.environ(), stdin=subprocess.PIPE)
    try:
        until(lambda: _holds_a_mount_namespace(reader.pid), what="for the copy to wait for its input")
        with pytest.raises(subprocess.TimeoutExpired):  # it does not start while it is written to
            subprocess.run([*mydocker.argv, "start", "c"], env=mydocker.environ(), timeout=1, check=False)
    finally:
        reader.kill()
        reader.wait()
    mydocker("start", "c")
    mydocker("wait", "c")
    mydocker("rm", "c")


def _holds_a_mount_namespace(pid: int) -> bool:
    time.sleep(0.02)
    try:
        names = os.listdir(f"/proc/{pid}/fd")
        return any(os.readlink(f"/proc/{pid}/fd/{name}").startswith("mnt:") for name in names)
    except OSError:
        return False
