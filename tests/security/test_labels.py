"""Linux security modules: AppArmor for real (in the guest, whose kernel has it), and what a machine without one says.

Row of the attack list: 2025-52881 (the write of a label is led to another file).
"""
from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from harness import Mydocker
from runtime_rig import Runtime, runtime  # noqa: F401

pytestmark = [pytest.mark.needs("root", "overlay")]

DEFAULT = "mydocker-default (enforce)"
CURRENT = ["cat", "/proc/self/attr/current"]


@pytest.fixture
def own_profile() -> Iterator[str]:
    """A profile under which nothing in /etc is read."""
    text = 'profile "mydocker-test" flags=(attach_disconnected) {\n  capability,\n  file,\n  deny /etc/passwd r,\n}\n'
    subprocess.run(["apparmor_parser", "-Kr"], input=text.encode(), check=True)
    yield "mydocker-test"
    subprocess.run(["apparmor_parser", "-R"], input=text.encode(), check=True, stdout=subprocess.DEVNULL)


@pytest.mark.needs("apparmor", "apparmor_parser")
@pytest.mark.parametrize("words", [[], ["--init"], ["--security-opt", "no-new-privileges"], ["-u", "1000"]])
def test_containers_and_exec_sessions_run_under_the_default_profile(mydocker: Mydocker, busybox: str, words: list[str]) -> None:
    mydocker("run", "-d", "--name", "c", *words, busybox, "sleep", "1000")
    assert mydocker("exec", "c", *CURRENT).out.strip() == DEFAULT
    assert mydocker("exec", "c", "cat", "/proc/1/attr/current").out.strip() == DEFAULT
    mydocker("restart", "-t", "0", "c")
    assert mydocker("exec", "c", "cat", "/proc/1/attr/current").out.strip() == DEFAULT
    mydocker("stop", "-t", "0", "c")


@pytest.mark.needs("apparmor", "apparmor_parser")
def test_the_default_profile_denies_mounts_and_writes_to_the_kernel_even_with_the_capability(mydocker: Mydocker, busybox: str) -> None:
    """engine/apparmor.py; seccomp and read-only paths are out of the way here."""
    open_up = ["--cap-add", "ALL", "--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined"]
    script = "mkdir /m; mount -t tmpfs t /m && echo MOUNTED; echo x > /proc/sysrq-trigger && echo WROTE; cat /proc/kcore | head -c 1; true"
    assert mydocker("run", "--rm", *open_up, busybox, "sh", "-c", script).out == ""
    free = mydocker("run", "--rm", *open_up, "--security-opt", "apparmor=unconfined", busybox, "sh", "-c", "mount -t tmpfs t /tmp && echo MOUNTED")
    assert free.out == "MOUNTED\n"


@pytest.mark.needs("apparmor", "apparmor_parser")
def test_a_profile_of_the_users_none_and_privileged(mydocker: Mydocker, busybox: str, own_profile: str) -> None:
    done = mydocker("run", "--rm", "--security-opt", f"apparmor={own_profile}", busybox, "sh", "-c", "cat /proc/self/attr/current; cat /etc/passwd", code=1)
    assert done.out == f"{own_profile} (enforce)\n"
    for words in (["--security-opt", "apparmor=unconfined"], ["--privileged"]):
        assert mydocker("run", "--rm", *words, busybox, *CURRENT).out.strip() == "unconfined"
    missing = mydocker("run", "--rm", "--security-opt", "apparmor=no-such-profile", busybox, "true", code=125)
    assert "process.apparmorProfile: no-such-profile" in missing.one_error_line()


@pytest.mark.needs("apparmor", "apparmor_parser")
@pytest.mark.parametrize("trick", ["another file", "another directory", "no procfs", "a procfs that is not its root", "no proc at all"])
def test_a_label_is_written_to_no_other_file(runtime: Runtime, own_profile: str, scratch: str, trick: str) -> None:  # noqa: F811
    """CVE-2025-52881: mounts over the attribute's path would get the word, and the command no confinement.

    Defence: csrc/init/labels.h, by RESOLVE_NO_XDEV and the inode of the root. Without it the canary has the word.
    """
    os.makedirs(f"{scratch}/thread-self/attr/apparmor")
    canary = f"{scratch}/thread-self/attr/apparmor/exec"
    open(canary, "w").close()
    process = {"apparmorProfile": own_profile}
    proc = {"destination": "/proc", "type": "proc", "source": "proc"}
    mounts = {
        "another file": [proc, {"destination": "/proc/1/task/1/attr/apparmor/exec", "type": "bind", "source": canary, "options": ["bind"]}],
        "another directory": [proc, {"destination": "/proc/1/task/1/attr", "type": "bind", "source": f"{scratch}/thread-self/attr", "options": ["bind"]}],
        "no procfs": [{"destination": "/proc", "type": "bind", "source": scratch, "options": ["bind"]}],
        "a procfs that is not its root": [{"destination": "/proc", "type": "bind", "source": "/proc/self", "options": ["bind"]}],
        "no proc at all": [],
    }[trick]
    done = runtime("run", "--bundle", runtime.bundle(*CURRENT, process=process, mounts=mounts), "c", code=None)
    with open(canary) as stream:
        assert stream.read() == ""
    assert done.returncode != 0, done
    assert "apparmorProfile" in done.stderr or "/proc" in done.stderr, done


@pytest.mark.needs("no_apparmor")
def test_without_apparmor_a_profile_is_refused_by_name_and_unconfined_is_taken(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "--rm", "--security-opt", "apparmor=unconfined", busybox, "true")
    done = mydocker("run", "--rm", "--security-opt", "apparmor=some", busybox, "true", code=125)
    assert "process.apparmorProfile: some: AppArmor is not enabled" in done.one_error_line()


@pytest.mark.skipif(os.path.exists("/sys/fs/selinux/enforce"), reason="SELinux is enabled here")
def test_without_selinux_labels_are_refused_by_name(runtime: Runtime) -> None:  # noqa: F811
    label = "system_u:system_r:container_t:s0:c4,c5"
    done = runtime("run", "--bundle", runtime.bundle("true", process={"selinuxLabel": label}), "c", code=1)
    assert "process.selinuxLabel" in done.stderr
    done = runtime("run", "--bundle", runtime.bundle("true", linux={"mountLabel": label}), "c", code=1)
    assert "linux.mountLabel" in done.stderr
