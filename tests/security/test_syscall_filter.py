"""What the default seccomp profile keeps from a container, called for real inside.

Rows of the attack list: 2022-0185, 2022-0492 (kernel bugs behind user namespaces, mounts, release_agent).
The defence is engine/seccomp_default.py, loaded by csrc/init/init.c load_filter: without the filter every call marked
`open` below answers something else than EPERM to root, as this file checks on the host.
"""
from __future__ import annotations

import os
import subprocess

import pytest
from harness import Mydocker
from seccomp_rig import number_of

pytestmark = [pytest.mark.needs("root", "overlay", "gcc", "libseccomp", "x86_64")]

CLONE_NEWUSER = 0x10000000
#: Name -> arguments with which the kernel itself refuses for another reason than privilege, or does it.
OPEN_TO_ROOT = {
    "unshare": (CLONE_NEWUSER,), "setns": (-1, 0), "mount": (0, 0, 0, 0, 0), "umount2": (0, 0), "pivot_root": (0, 0),
    "fsopen": (0, 0), "fsmount": (-1, 0, 0), "fsconfig": (-1, 0, 0, 0, 0), "move_mount": (-1, 0, -1, 0, 0),
    "open_tree": (-1, 0, 0), "mount_setattr": (-1, 0, 0, 0, 0), "keyctl": (0, -3, 0), "add_key": (0, 0, 0, 0, 0),
    "request_key": (0, 0, 0, 0), "io_uring_setup": (1, 0), "io_uring_register": (-1, 0, 0, 0), "io_uring_enter": (-1, 0, 0, 0, 0),
    "userfaultfd": (1,), "perf_event_open": (0, 0, -1, -1, 0), "bpf": (0, 0, 0), "open_by_handle_at": (-1, 0, 0),
    "swapon": (0, 0), "kexec_load": (0, 1000, 0, 0), "init_module": (0, 0, 0), "finit_module": (-1, 0, 0), "acct": (1,),
    "move_pages": (0, 0, 0, 0, 0, 0), "quotactl": (-1, 0, 0, 0), "kcmp": (0, 0, 99, 0, 0), "ustat": (0, 0),
}
#: What a program is told that tries it: clone3 is as if the kernel had none, so that a C library falls back to clone.
CLONE3 = ("clone3", (0, 0))


def calls(program: str) -> list[str]:
    lines = [
        f"{program} call {name} {number_of(name)} {' '.join(map(str, words))}"
        for name, words in (*OPEN_TO_ROOT.items(), CLONE3)
    ]
    for family in (38, 40):
        lines.append(f"{program} call socket-{family} {number_of('socket')} {family} 1 0")
    return lines


def answers(text: str) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in text.splitlines())


@pytest.mark.parametrize("way", ["run", "run as a user", "exec", "exec as a user"])
def test_the_kernels_attack_surface_is_denied_on_every_way_in(
    mydocker: Mydocker, busybox: str, attack_directory: str, way: str
) -> None:
    script = "\n".join(calls("/attack/attack"))
    user = ["-u", "1000"] if "user" in way else []
    volume = ["-v", f"{attack_directory}:/attack:ro"]
    if way.startswith("exec"):
        mydocker("run", "-d", "--name", "c", *volume, busybox, "sleep", "1000")
        done = mydocker("exec", *user, "c", "sh", "-c", script)
    else:
        done = mydocker("run", "--rm", *volume, *user, busybox, "sh", "-c", script)
    assert answers(done.out) == {
        **dict.fromkeys(OPEN_TO_ROOT, "EPERM"), "clone3": "ENOSYS", "socket-38": "EPERM", "socket-40": "EPERM"}


def test_outside_of_a_container_the_same_calls_are_not_refused_to_root(attack_directory: str) -> None:
    """Without the filter a root with these capabilities would get as far as this; a few do need one, which is dropped, too."""
    script = "\n".join(calls(f"{attack_directory}/attack"))
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert {name for name, answer in answers(done.stdout).items() if answer == "EPERM"} <= {"kexec_load"}
    assert answers(done.stdout)["unshare"] == "ok"


def test_the_release_agent_and_the_cgroup_cannot_be_written(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    """CVE-2022-0492: cgroup v1's release_agent runs on the host. The mount is read-only (engine/spec.py), another is denied."""
    script = """
        find /sys/fs/cgroup -name release_agent -o -name notify_on_release -o -name cgroup.procs | while read file; do
            (echo /canary > $file) 2>/dev/null && echo WROTE $file
        done
        for directory in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $directory/x 2>/dev/null && echo MADE $directory/x; done
        mount -o remount,rw /sys/fs/cgroup 2>/dev/null && echo REMOUNTED
        mkdir /tmp/c; mount -t cgroup -o memory c /tmp/c 2>/dev/null && echo MOUNTED
        mount -t cgroup2 c /tmp/c 2>/dev/null && echo MOUNTED
        unshare -Ur true 2>/dev/null && echo UNSHARED
        find /sys/fs/cgroup -name cgroup.procs | head -n 1
    """
    lines = mydocker("run", "--rm", busybox, "sh", "-c", script).out.splitlines()
    assert [line for line in lines if line.split()[0].isupper()] == []
    assert len(lines) == 1, "the container sees its cgroup, so there was something to attack"


def test_a_filter_that_allows_nothing_but_the_command_still_starts(mydocker: Mydocker, busybox: str) -> None:
    """Capabilities and user are given up before the filter is loaded (csrc/init/init.c drop_privileges)."""
    status = mydocker("run", "--rm", "-u", "1000:1000", busybox, "cat", "/proc/self/status").out
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Seccomp"] == "2"
    assert fields["Seccomp_filters"] == "1"
    assert [fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == ["0000000000000000"] * 4


def test_loading_the_filter_leaves_no_capability_behind(mydocker: Mydocker, busybox: str) -> None:
    """CAP_SYS_ADMIN is kept for loading the filter only; execve computes what it gives from the other sets."""
    for words in (["run", "--rm", busybox], ["exec", "c"]):
        if words[0] == "exec":
            mydocker("run", "-d", "--name", "c", busybox, "sleep", "1000")
        status = mydocker(*words, "cat", "/proc/self/status").out
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert {fields[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {"00000000a80425fb"}
        assert {fields[name] for name in ("CapInh", "CapAmb")} == {"0000000000000000"}


def test_a_spoiled_cache_of_filters_does_not_let_a_container_start_without_one(mydocker: Mydocker, busybox: str) -> None:
    """runtime/seccomp.py _load: an entry counts only with its hash right."""
    mydocker("run", "--rm", busybox, "true")
    cache = f"{mydocker.root}/seccomp"
    assert os.stat(cache).st_mode & 0o777 == 0o700
    [entry] = os.listdir(cache)
    allow_all = (0x06).to_bytes(2, "little") + b"\0\0" + (0x7FFF0000).to_bytes(4, "little")
    for content in (b"", allow_all, b"\0" * 32 + b"/lib/x 1 1\n" + allow_all):
        with open(f"{cache}/{entry}", "wb") as stream:
            stream.write(content)
        assert "Seccomp:\t2" in mydocker("run", "--rm", busybox, "cat", "/proc/self/status").out
        assert mydocker("run", "--rm", busybox, "unshare", "-U", "true", code=1).err
