"""What a container does not get to see or to change of the machine, and what others do not get to see of it.

Rows of the attack list: GHSA-6fw5-f8r9-fgfm, GHSA-jq35-85cj-fj4p (side channels), 2025-31133 (masks made of the container's
/dev/null), 2024-25621, 2021-41091, 2021-41103 (state directories), 2022-0811, 2024-3154 (sysctl and property injection),
2021-43784 (lengths that overflow).
"""
from __future__ import annotations

import json
import os

import pytest
from attack_rig import load_image, spec_of
from harness import PATIENCE, Mydocker
from image_rig import member, symlink

from mydocker.engine.spec import MASKED_PATHS, READONLY_PATHS

pytestmark = [pytest.mark.needs("root", "overlay")]

#: moby daemon/pkg/oci/defaults.go, July 2026: what it hides and what it makes read-only.
MOBY_MASKED = {
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
    "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
}
MOBY_READONLY = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}


def test_the_hidden_paths_are_at_least_mobys() -> None:
    assert set(MASKED_PATHS) >= MOBY_MASKED
    assert set(READONLY_PATHS) >= MOBY_READONLY


@pytest.mark.parametrize("words", [[], ["-u", "1000"], ["--network", "host"], ["--cap-add", "ALL"]])
def test_side_channels_tell_nothing(mydocker: Mydocker, busybox: str, words: list[str]) -> None:
    """runtime/rootfs.py masks by mounting; without it /proc/interrupts has a line a device, /proc/kcore the memory."""
    script = " ".join(["for path in", *MASKED_PATHS, """; do
        [ -e $path ] || continue
        if [ -d $path ]; then ls -A $path | sed "s|^|TOLD $path/|"; else head -c 1 $path | grep -q . && echo TOLD $path; fi
    done; echo x 2>/dev/null > /proc/sysrq-trigger && echo WROTE; echo x 2>/dev/null > /proc/sys/kernel/core_pattern && echo WROTE
    echo 0 2>/dev/null > /proc/sys/vm/drop_caches && echo WROTE; mkdir /proc/fs/x 2>/dev/null && echo WROTE; true"""])
    assert mydocker("run", "--rm", *words, busybox, "sh", "-c", script).out == ""


@pytest.mark.parametrize("way", ["image", "volume"])
def test_masks_are_not_made_of_what_the_container_calls_dev_null(
    mydocker: Mydocker, busybox_tar: str, scratch: str, way: str
) -> None:
    """CVE-2025-31133: a link in place of /dev/null would be mounted over the hidden path, or the other way about.

    The engine binds no /dev/null of the container's: runtime/rootfs.py makes its devices in a fresh tmpfs and masks with
    a source of its own. Staged with a link in the image, and with one in a volume on /dev.
    """
    pattern = "/proc/sys/kernel/core_pattern"
    with open(pattern) as stream:
        before = stream.read()
    if way == "image":
        image = load_image(mydocker, busybox_tar, member("dev/.wh..wh..opq"), symlink("dev/null", pattern))
        words = ["run", "--rm", image]
    else:
        os.symlink(pattern, f"{scratch}/null")
        words = ["run", "--rm", "-v", f"{scratch}:/dev", load_image(mydocker, busybox_tar)]
    done = mydocker(
        *words, "sh", "-c",
        f"echo '|/evil' 2>/dev/null > {pattern} && echo WROTE; cat /proc/kcore /proc/keys 2>/dev/null | head -c 1; stat -L -c %t:%T /proc/kcore",
        code=None)
    with open(pattern) as stream:
        assert stream.read() == before
    assert "WROTE" not in done.out
    if done.code == 0:
        assert done.out.strip() == "1:3", "what hides a file is the null device"


def reachable_as_nobody(paths: list[str]) -> int:
    """Return how many of the paths a process of nobody's may read, execute or enter (at most 100)."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            os._exit(min(100, sum(os.access(path, os.R_OK) or os.access(path, os.X_OK) for path in paths)))
        finally:
            os._exit(101)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_nobody_else_reads_or_runs_anything_below_the_state_root(mydocker: Mydocker, busybox: str) -> None:
    """CVE-2024-25621, 2021-41091: a setuid program in a layer would be any local user's root. base/paths.py makes 0700.

    As nobody, by every path that root can see; the parent directories of the test are open, the root is not.
    """
    mydocker("run", "-d", "--name", "c", busybox, "sh", "-c", "cp /bin/busybox /suid; chmod 4755 /suid; umask 0; touch /open; sleep 1000")
    mydocker("exec", "-d", "c", "sleep", "1000")
    seen = [path for top, directories, files in os.walk(mydocker.root) for path in [top, *(f"{top}/{name}" for name in files)]]
    assert any(path.endswith("/upper/suid") for path in seen)
    assert reachable_as_nobody(seen) == 0
    for path in (mydocker.root, f"{mydocker.root}/container", f"{mydocker.root}/layer", f"{mydocker.root}/image", mydocker.run_dir):
        assert os.stat(path).st_mode & 0o077 == 0, path


INJECTED = (
    "kernel.shm_rmid_forced=1+kernel.core_pattern=|/x", "kernel.shm_rmid_forced=1\nkernel.core_pattern=|/x", "kernel.core_pattern=|/evil",
    "net/../kernel/core_pattern=|/evil", "net.../kernel/core_pattern=|/evil", "net.ipv4.ip_forward/../../../kernel/core_pattern=|/evil",
    "kernel.msgmax=\0", "kernel.shm_rmid_forced", "=1", "kernel/core_pattern=|/evil", "fs.mqueue.x/../../kernel/core_pattern=1",
)


@pytest.mark.parametrize("setting", INJECTED)
def test_a_sysctl_sets_itself_and_nothing_else(mydocker: Mydocker, busybox: str, setting: str) -> None:
    """CVE-2022-0811: cri-o passed `1+kernel.core_pattern=|/x` on to a tool that reads + as another setting."""
    with open("/proc/sys/kernel/core_pattern") as stream:
        before = stream.read()
    if "\0" in setting:
        with pytest.raises(ValueError, match="null byte"):  # no command line can hold one
            mydocker("run", "--rm", "--sysctl", setting, busybox, "true", code=None)
    else:
        assert mydocker("run", "--rm", "--sysctl", setting, busybox, "true", code=125).err
    with open("/proc/sys/kernel/core_pattern") as stream:
        assert stream.read() == before


def test_names_and_labels_are_plain_data(mydocker: Mydocker, busybox: str) -> None:
    """CVE-2024-3154 and kin: what looks like a property, an option or our own key changes nothing."""
    hostile = ["mydocker.pid=1", "org.systemd.property.ExecStart=['/evil']", "run.oci.handler=/evil", "lower_dirs=/", "id=../../x", "{{.X}}=1"]
    options = [word for label in hostile for word in ("-l", label)]
    mydocker("run", "-d", "--name", "c", *options, busybox, "sleep", "1000")
    document = mydocker.inspect("c")
    assert document["pid"] != 1 and document["id"].isdigit()
    assert set(hostile) <= {f"{key}={value}" for key, value in document["config"]["labels"].items()}
    spec = spec_of(mydocker, "c")
    assert "evil" not in json.dumps({key: value for key, value in spec.items() if key != "annotations"})


def test_very_long_words_are_right_or_a_clear_error(mydocker: Mydocker, busybox: str) -> None:
    """CVE-2021-43784: lengths in the message to the init; here a memfd with 32-bit counts (runtime/plan.py)."""
    assert mydocker("run", "--rm", busybox, "sh", "-c", "echo ${#1}", "sh", "x" * 100_000).out == "100000\n"
    assert mydocker("run", "--rm", "-e", f"A={'x' * 100_000}", busybox, "sh", "-c", "echo ${#A}").out == "100000\n"
    for words in (["-w", "/" + "x" * 100_000], ["-w", "/" + "x/" * 50_000], ["-v", f"/tmp:/{'y' * 100_000}"], ["-u", "u" * 100_000]):
        assert mydocker("run", "--rm", *words, busybox, "true", code=125).one_error_line()
    assert mydocker("run", "--rm", busybox, "/" + "z" * 100_000, code=127).one_error_line()
    many = [word for number in range(3000) for word in ("-e", f"V{number}={number}")]
    assert mydocker("run", "--rm", *many, busybox, "sh", "-c", "env | grep -c ^V").out == "3000\n"
    many = ["x"] * 30_000
    assert mydocker("run", "--rm", busybox, "sh", "-c", "echo $#", "sh", *many).out == "30000\n"


@pytest.mark.slow
@pytest.mark.time_limit(240)
def test_thousands_of_mounts_are_right_or_a_clear_error(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    with open(f"{scratch}/file", "w") as stream:
        stream.write("x")
    words = [word for number in range(5000) for word in ("-v", f"{scratch}/file:/m/{number}:ro")]
    done = mydocker("run", "--rm", *words, busybox, "sh", "-c", "ls /m | wc -l; cat /m/4999", code=None, timeout_s=120 * PATIENCE)
    if done.code:
        assert done.code == 125 and done.one_error_line()
    else:
        assert done.out == "5000\nx"
