"""`--userns private`: user ids that only this container has, on files that keep the image's."""
from __future__ import annotations

import os
import stat

import pytest
from harness import Mydocker

pytestmark = [pytest.mark.needs("root", "overlay", "idmapped_layers")]

RUNTIMES = [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("crun", "runc")] + ["mydocker-runtime"]


@pytest.fixture(params=RUNTIMES)
def private(request: pytest.FixtureRequest) -> list[str]:
    return ["--userns", "private", "--runtime", request.param]


def test_root_inside_is_nobody_outside(mydocker: Mydocker, busybox: str, private: list[str]) -> None:
    mydocker("run", "-d", "--name", "c", *private, busybox, "sleep", "1000")
    inside, outside, size = mydocker("exec", "c", "cat", "/proc/self/uid_map").out.split()
    assert (inside, size) == ("0", "65536")
    assert int(outside) >= 1 << 17
    assert os.stat(f"/proc/{mydocker.pid_of('c')}").st_uid == int(outside)
    assert mydocker("exec", "c", "id", "-u").out == "0\n"
    assert mydocker("exec", "-u", "1000", "c", "id", "-u").out == "1000\n"
    mydocker("run", "-d", "--name", "d", *private, busybox, "sleep", "1000")
    assert mydocker("exec", "d", "cat", "/proc/self/uid_map").out.split()[1] != outside


def test_files_belong_to_the_containers_users_and_on_disk_to_the_images(
    mydocker: Mydocker, busybox: str, private: list[str],
) -> None:
    mydocker(
        "run", "--name", "c", *private, busybox, "sh", "-c",
        "set -e; echo x > /new; chown 7:8 /new; rm /bin/vi; mkdir /etc/dir; echo 1.2.3.4 other >> /etc/hosts; stat -c %u /etc/passwd")
    assert mydocker("logs", "c").out == "0\n"
    upper = f"{mydocker.directory_of('c')}/upper"
    status = os.stat(f"{upper}/new")
    assert (status.st_uid, status.st_gid) == (7, 8)
    assert stat.S_ISCHR(os.lstat(f"{upper}/bin/vi").st_mode)
    assert os.stat(f"{upper}/etc/dir").st_uid == 0
    mydocker("commit", "c", "made")
    assert mydocker("run", "--rm", "made", "stat", "-c", "%u:%g", "/new").out == "7:8\n"


def test_the_machines_files_are_not_its_own(mydocker: Mydocker, busybox: str, private: list[str], scratch: str) -> None:
    os.chmod(scratch, 0o755)
    with open(f"{scratch}/secret", "w", encoding="ascii") as stream:
        stream.write("secret")
    os.chmod(f"{scratch}/secret", 0o600)
    done = mydocker("run", "--rm", *private, "-v", f"{scratch}:/data", busybox, "cat", "/data/secret", code=1)
    assert "Permission denied" in done.err


def test_what_needs_the_machines_users_is_refused(mydocker: Mydocker, busybox: str) -> None:
    for option in (["--privileged"], ["--pid", "host"], ["--network", "host"], ["--uts", "host"]):
        done = mydocker("run", "--rm", "--userns", "private", *option, busybox, "true", code=125)
        assert "userns private" in done.one_error_line()
