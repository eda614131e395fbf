"""Devices: which a container has, sees and may open. Also run in the guest with cgroup v2."""
from __future__ import annotations

import os
import stat

import pytest
from harness import Mydocker

pytestmark = [pytest.mark.needs("root", "overlay")]


def test_a_container_has_the_default_devices_and_opens_no_others(mydocker: Mydocker, busybox: str) -> None:
    out = mydocker("run", "--rm", busybox, "ls", "/dev").out.split()
    assert {"null", "zero", "full", "random", "urandom", "tty", "pts", "ptmx", "shm", "mqueue", "fd", "stdin"} <= set(out)
    assert not {"kmsg", "mem", "port", "vda", "sda", "loop0", "fuse", "kvm"} & set(out)
    # Made with mknod, which is allowed, it cannot be opened: /dev/kmsg, and the first block device there is.
    done = mydocker(
        "run", "--rm", "-u", "0", "--cap-add", "SYSLOG", busybox, "sh", "-c",
        "mknod /dev/k c 1 11 && mknod /dev/l b 7 0 && echo made; head -c1 /dev/k; head -c1 /dev/l", code=1)
    assert done.out == "made\n"
    assert done.err.count("Operation not permitted") == 2


def test_a_device_is_given_under_its_name_or_another_with_its_mode(mydocker: Mydocker, busybox: str) -> None:
    status = os.stat("/dev/kmsg")
    out = mydocker(
        "run", "--rm", "--device", "/dev/kmsg:/dev/given/log:w", busybox, "sh", "-c",
        "stat -c '%F %t:%T %a' /dev/given/log; echo > /dev/given/log && echo written; head -c1 /dev/given/log", code=1)
    assert out.out.splitlines() == [f"character special file 1:b {stat.S_IMODE(status.st_mode):o}", "written"]
    assert "Operation not permitted" in out.err


def test_all_devices_of_a_directory_are_given(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    os.makedirs(f"{scratch}/devices/below")
    os.mknod(f"{scratch}/devices/one", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(f"{scratch}/devices/below/two", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    out = mydocker("run", "--rm", "--device", f"{scratch}/devices:/dev/all", busybox, "find", "/dev/all", "-type", "c").out
    assert sorted(out.split()) == ["/dev/all/below/two", "/dev/all/one"]


def test_a_rule_opens_devices_by_number(mydocker: Mydocker, busybox: str) -> None:
    look = ("sh", "-c", "mknod /dev/k c 1 11 && echo > /dev/k && echo written")
    mydocker("run", "--rm", busybox, *look, code=1)
    assert mydocker("run", "--rm", "--device-cgroup-rule", "c 1:11 w", busybox, *look).out == "written\n"
    assert mydocker("run", "--rm", "--device-cgroup-rule", "c 1:* rwm", busybox, *look).out == "written\n"


def test_a_device_that_is_not_there_is_an_error_before_anything_is_made(mydocker: Mydocker, busybox: str) -> None:
    done = mydocker("run", "--name", "c", "--device", "/nonexistent", busybox, "true", code=125)
    assert "device /nonexistent: no such file or directory" in done.one_error_line()
    assert mydocker.container_ids() == []


def test_a_privileged_container_has_all_devices_nothing_hidden_and_no_filter(mydocker: Mydocker, busybox: str) -> None:
    done = mydocker(
        "run", "--rm", "--privileged", busybox, "sh", "-c",
        "ls /dev; echo > /dev/kmsg && echo written; mount -t tmpfs none /tmp && echo mounted; "
        "grep -e ^Seccomp: /proc/self/status; grep ' /sys ' /proc/mounts; grep -c ' /proc/' /proc/mounts", code=1)
    out = done.out.splitlines()
    assert {"kmsg", "null", "full"} <= set(out)
    assert {"written", "mounted", "Seccomp:\t0"} <= set(out)
    (sys,) = [line for line in out if line.startswith("sysfs /sys ")]
    assert sys.split()[3].startswith("rw")
    assert out[-1] == "0"


def test_devices_of_a_running_container_hold_for_exec_too(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "--name", "c", "--device", "/dev/kmsg:/dev/k:w", busybox, "sleep", "1000")
    mydocker("exec", "c", "sh", "-c", "echo > /dev/k")
    done = mydocker("exec", "c", "sh", "-c", "mknod /dev/l b 7 0; head -c1 /dev/l", code=1)
    assert "Operation not permitted" in done.err
