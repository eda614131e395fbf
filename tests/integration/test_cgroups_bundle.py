"""The cgroup of a bundle: any path, joined or made, in every hierarchy; what is somebody else's stays."""
from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from cgroup_rig import KINDS, Child, until, use_v1_only
from runtime_rig import Runtime, reap

from mydocker.base.errors import Conflict, InvalidRequest, NotFound, RuntimeFailed, Unsupported
from mydocker.linux.cgroup.group import Cgroup
from mydocker.linux.cgroup.hierarchy import Hierarchy, hierarchy
from mydocker.linux.cgroup.members import remove_with_processes
from mydocker.linux.cgroup.outofmemory import blame
from mydocker.linux.cgroup.paths import read_text, write_text

pytestmark = [pytest.mark.needs("root", "device_rules")]


MACHINE = hierarchy()


def places(path: str, found: Hierarchy | None = None) -> list[str]:
    """Return the directory of a path in each hierarchy of the machine, the freezer's first: there nothing dies before it thaws."""
    found = found or hierarchy()
    return [point + path for point in dict.fromkeys((found.v1.get("freezer", ""), *found.v1.values(), found.v2)) if point]


@pytest.fixture(params=KINDS)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A top-level path, which no test of the engine has."""
    if request.param == "v1_only":
        use_v1_only(monkeypatch)
    name = f"/mydocker-bundle-test-{os.getpid()}"
    yield name
    for place in places(name, MACHINE):  # mydocker-runtime has them all
        remove_with_processes(place)


def test_a_claimed_cgroup_is_in_every_hierarchy_and_goes_from_all(path: str) -> None:
    group = Cgroup.claim(f"{path}/a", {"pids": {"limit": 7}})
    assert all(os.path.isdir(place) for place in places(f"{path}/a"))
    child = Child(group)
    assert all(str(child.pid) in read_text(f"{place}/cgroup.procs").split() for place in places(f"{path}/a"))
    assert group.stats().pids_limit == 7
    assert group.joined == ()
    again = Cgroup.open(f"{path}/a", group.joined)
    assert (again.v1, again.v2) == (group.v1, group.v2)
    again.remove()
    assert child.wait() == -9
    assert not any(os.path.isdir(place) for place in places(f"{path}/a"))


@pytest.mark.parametrize("given", ["{0}/b", "{1}/b", "../..{0}/x/../b", "{0}//b/"])
def test_a_relative_or_crooked_path_is_taken_from_the_root(path: str, given: str) -> None:
    group = Cgroup.claim(given.format(path, path[1:]), {})
    assert group.path == f"{path}/b"
    group.remove()


@pytest.mark.parametrize("given", ["", "/", "../.."])
def test_the_root_is_refused(given: str) -> None:
    with pytest.raises(InvalidRequest):
        Cgroup.claim(given, {})


def test_what_was_there_is_joined_and_stays(path: str) -> None:
    there = places(f"{path}/mine")[:2]
    for place in there:
        os.makedirs(place)
    group = Cgroup.claim(f"{path}/mine", {})
    assert sorted(group.joined) == sorted(there)
    child = Child(group)
    group.kill()
    assert child.wait() == -9
    Cgroup.open(f"{path}/mine", group.joined).remove()
    assert [place for place in places(f"{path}/mine") if os.path.isdir(place)] == there


def test_a_group_in_use_is_refused_and_its_processes_live(path: str) -> None:
    other = Cgroup.claim(f"{path}/theirs", {})
    child = Child(other)
    for given in (f"{path}/theirs", path):  # their group, and one above it
        with pytest.raises(Conflict, match="not empty"):
            Cgroup.claim(given, {})
    assert os.waitpid(child.pid, os.WNOHANG) == (0, 0)
    assert all(os.path.isdir(place) for place in places(f"{path}/theirs"))
    other.remove()
    assert child.wait() == -9


def test_a_frozen_group_is_refused(path: str) -> None:
    group = Cgroup.claim(f"{path}/cold", {})
    group.freeze()
    with pytest.raises(Conflict, match="frozen"):
        Cgroup.claim(f"{path}/cold", {})
    group.thaw()


def test_a_failed_claim_leaves_nothing(path: str) -> None:
    with pytest.raises((InvalidRequest, Unsupported), match=r"resources\.cpu\.cpus"):
        Cgroup.claim(f"{path}/gone", {"cpu": {"cpus": "9999"}})
    assert not any(os.path.isdir(place) for place in places(f"{path}/gone"))


def test_processes_frozen_by_somebody_else_on_v1_can_be_killed(path: str) -> None:
    group = Cgroup.claim(f"{path}/ice", {})
    if "freezer" not in group.v1:
        pytest.skip("cgroup v2")
    child = Child(group)
    write_text(f"{group.v1['freezer']}/freezer.state", "FROZEN")
    until(group.is_frozen)
    group.kill()
    assert child.wait() == -9


def test_a_group_below_is_found_for_exec(path: str) -> None:
    group = Cgroup.claim(f"{path}/c", {})
    for place in places(f"{path}/c/inner"):
        os.mkdir(place)
    assert all(directory.endswith("/c/inner") for directory in group.below("/inner").v1.values())
    with pytest.raises(NotFound):
        group.below("other")
    with pytest.raises(InvalidRequest):
        group.below("inner/../..")
    group.remove()


@pytest.mark.needs("cgroup2")
def test_ownership_goes_to_a_user_of_the_containers_as_far_as_the_kernel_says(path: str) -> None:
    group = Cgroup.claim(f"{path}/d", {})
    group.delegate(12345)
    owners = {name: os.stat(f"{group.v2}/{name}").st_uid for name in ("cgroup.procs", "cgroup.subtree_control", "pids.max")}
    assert owners == {"cgroup.procs": 12345, "cgroup.subtree_control": 12345, "pids.max": 0}
    assert os.stat(group.v2).st_uid == 12345


def test_without_rights_and_without_limits_a_container_goes_without_a_cgroup() -> None:
    script = """
import os
from mydocker.base.errors import Denied
from mydocker.linux.cgroup.group import Cgroup
os.setgid(65534); os.setuid(65534)
group = Cgroup.claim("/mydocker-rootless", {}, may_lack=True)
assert (group.v1, group.v2, group.entry_fd(), group.open_entries()) == ({}, "", -1, [])
for resources, may_lack in (({"pids": {"limit": 5}}, True), ({}, False)):
    try:
        Cgroup.claim("/mydocker-rootless", resources, may_lack=may_lack)
    except Denied as error:
        print(error.message)
"""
    # The checkout's interpreter may be behind a directory that others cannot enter; its descriptors are open by then.
    preload = "import mydocker.linux.cgroup.claiming, mydocker.linux.cgroup.denying\n"
    done = subprocess.run([sys.executable, "-c", preload + script], capture_output=True, text=True, check=True)
    with_limits, with_path = done.stdout.splitlines()
    assert "no cgroup could be made" in with_limits or "EACCES" in with_limits
    assert "EACCES" in with_path


# ---- mydocker-runtime

@pytest.mark.needs("busybox")
def test_a_bundle_runs_in_its_cgroups_path_and_delete_removes_it(runtime: Runtime, path: str) -> None:
    bundle = runtime.bundle("cat", "/proc/self/cgroup", linux={"cgroupsPath": f"{path}/run", "namespaces": [{"type": "mount"}, {"type": "uts"}]})
    shown = runtime("run", "--bundle", bundle, "c").stdout
    assert {line.split(":", 2)[2] for line in shown.splitlines() if "perf_event" not in line} <= {f"{path}/run", "/"}
    assert shown.count(f"{path}/run\n") >= 1
    assert not any(os.path.isdir(place) for place in places(f"{path}/run"))


@pytest.mark.needs("busybox")
def test_a_bundle_without_a_path_is_in_a_group_of_the_runtimes_own(runtime: Runtime) -> None:
    name = f"own-{os.getpid()}"
    bundle = runtime.bundle("sleep", "100", linux={"cgroupsPath": ""})
    runtime("run", "--detach", "--bundle", bundle, name)
    pid = runtime.state(name)["pid"]
    assert all(str(pid) in read_text(f"{place}/cgroup.procs").split() for place in places(f"/mydocker-{name}"))
    runtime("delete", "--force", name)
    assert not any(os.path.isdir(place) for place in places(f"/mydocker-{name}"))


@pytest.mark.needs("busybox")
def test_a_bundle_never_kills_what_runs_in_its_cgroups_path(runtime: Runtime, path: str) -> None:
    group = Cgroup.claim(f"{path}/busy", {})
    child = Child(group)
    failed = runtime("run", "--bundle", runtime.bundle("true", linux={"cgroupsPath": f"{path}/busy"}), "c", code=1)
    assert "not empty" in failed.stderr
    assert os.waitpid(child.pid, os.WNOHANG) == (0, 0)
    group.remove()
    child.wait()


@pytest.mark.needs("busybox")
def test_a_denied_device_of_a_bundle_is_eperm(runtime: Runtime, path: str) -> None:
    script = "mknod /dev/x c 240 5; cat /dev/x; cat /dev/null && echo fine"
    rules = [{"allow": False, "access": "rwm"}]
    capabilities = {name: ["CAP_MKNOD"] for name in ("bounding", "effective", "permitted")}
    bundle = runtime.bundle(
        "sh", "-c", script, process={"capabilities": capabilities}, linux={"cgroupsPath": f"{path}/dev", "resources": {"devices": rules}})
    done = runtime("run", "--bundle", bundle, "c")
    assert "can't open '/dev/x': Operation not permitted" in done.stderr
    assert done.stdout == "fine\n"


@pytest.mark.skipif("cpu" not in MACHINE.v1, reason="needs the cpu controller of cgroup v1")
@pytest.mark.needs("busybox")
def test_exec_enters_the_subgroup_of_one_controller_that_is_there(runtime: Runtime, path: str) -> None:
    runtime("run", "--detach", "--bundle", runtime.bundle("sleep", "100", linux={"cgroupsPath": f"{path}/sub"}), "c")
    os.mkdir(f"{MACHINE.v1['cpu']}{path}/sub/x")
    assert runtime("exec", "--cgroup", "cpu:x", "c", "cat", "/proc/self/cgroup").stdout.count("/x\n") == 1
    for choice, text in (("cpu:y", "no such file or directory"), ("whaaat:/", "unknown controller whaaat")):
        assert text in runtime("exec", "--cgroup", choice, "c", "true", code=255).stderr


@pytest.mark.skipif("devices" not in MACHINE.v1, reason="needs the devices controller of cgroup v1")
@pytest.mark.needs("busybox")
def test_the_rules_of_a_bundle_are_listed_in_its_order(runtime: Runtime, path: str) -> None:
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
             {"allow": True, "type": "b", "major": 8, "minor": 0, "access": "r"}]
    bundle = runtime.bundle("sleep", "100", linux={"cgroupsPath": f"{path}/order", "resources": {"devices": rules}})
    runtime("run", "--detach", "--bundle", bundle, "c")
    listed = read_text(f"{MACHINE.v1['devices']}{path}/order/devices.list").splitlines()
    assert listed[:2] == ["c 10:229 rw", "b 8:0 r"] and "c 1:3 rwm" in listed


@pytest.mark.needs("cgroup2", "busybox")
def test_options_that_are_none_of_the_runtimes_are_the_kernels_to_judge(runtime: Runtime, path: str) -> None:
    def mounts(*options: str) -> list[dict[str, object]]:
        return [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", *options]}]

    bundle = runtime.bundle("true", mounts=mounts("nonsense"), linux={"cgroupsPath": f"{path}/options"})
    assert "mount on /sys/fs/cgroup: invalid argument" in runtime("run", "--bundle", bundle, "c", code=1).stderr
    runtime("run", "--bundle", runtime.bundle("true", mounts=mounts("nsdelegate"), linux={"cgroupsPath": f"{path}/options"}), "c")


@pytest.mark.needs("cgroup2", "memory", "busybox")
def test_no_swap_is_a_limit_without_one_of_memory(runtime: Runtime, path: str) -> None:
    bundle = runtime.bundle("sleep", "100", linux={"cgroupsPath": f"{path}/swap", "resources": {"memory": {"swap": 0}}})
    runtime("run", "--detach", "--bundle", bundle, "c")
    group = f"{MACHINE.v2}{path}/swap"
    assert read_text(f"{group}/memory.max").strip() == "max"
    if os.path.exists(f"{group}/memory.swap.max"):
        assert read_text(f"{group}/memory.swap.max").strip() == "0"


@pytest.mark.skipif("freezer" not in MACHINE.v1, reason="needs the freezer controller of cgroup v1")
@pytest.mark.needs("busybox")
def test_an_init_that_somebody_froze_elsewhere_is_deleted_by_force(runtime: Runtime, path: str) -> None:
    """On v1 it would keep its SIGKILL to itself; and others in that group are to stay as they are."""
    runtime("run", "--detach", "--bundle", runtime.bundle("sleep", "100", linux={"cgroupsPath": f"{path}/own"}), "c")
    pid, group = runtime.state("c")["pid"], f"{MACHINE.v1['freezer']}{path}/frozen"
    os.makedirs(group)
    write_text(f"{group}/cgroup.procs", str(pid))
    write_text(f"{group}/freezer.state", "FROZEN")
    try:
        runtime("delete", "--force", "c")
        assert reap(pid) == -9
        assert read_text(f"{group}/freezer.state") == "FROZEN\n"
    finally:
        write_text(f"{group}/freezer.state", "THAWED")
        os.rmdir(group)


@pytest.mark.needs("cgroup2", "memory", "busybox")
def test_exec_goes_where_the_init_went_when_the_containers_own_group_takes_no_process(runtime: Runtime, path: str) -> None:
    script = "mkdir /sys/fs/cgroup/foo && echo 1 >/sys/fs/cgroup/foo/cgroup.procs && touch /moved; exec sleep 1000"
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw", "nosuid", "noexec", "nodev"]},
    ]
    bundle = runtime.bundle("sh", "-c", script, mounts=mounts, linux={"cgroupsPath": f"{path}/deep"})
    runtime("run", "--detach", "--bundle", bundle, "c")
    until(lambda: os.path.exists(f"{runtime.directory}/rootfs/moved"))
    assert runtime("exec", "c", "cat", "/proc/self/cgroup").stdout == "0::/\n"
    # On until the kernel counts the moved init out of the group above.
    until(lambda: runtime("exec", "c", "sh", "-c", "echo $$ >/sys/fs/cgroup/foo/cgroup.procs; echo +memory >/sys/fs/cgroup/cgroup.subtree_control",
                          code=None).returncode == 0)
    assert runtime("exec", "c", "cat", "/proc/self/cgroup").stdout == "0::/foo\n"
    assert "device or resource busy" in runtime("exec", "--cgroup", "/", "c", "true", code=255).stderr  # that one or none
    assert runtime("exec", "--cgroup", "foo", "c", "cat", "/proc/self/cgroup").stdout == "0::/foo\n"
    missing = runtime("exec", "--cgroup", "bar", "c", "true", code=255).stderr
    assert " adding pid " in missing and missing.endswith("/bar: no such file or directory\n")


@pytest.mark.needs("busybox")
def test_a_container_whose_cgroup_is_gone_is_entered_where_its_init_went_and_deleted(runtime: Runtime, path: str) -> None:
    runtime("run", "--detach", "--bundle", runtime.bundle("sleep", "100", linux={"cgroupsPath": f"{path}/old"}), "c")
    pid = runtime.state("c")["pid"]
    for old, new in zip(places(f"{path}/old", MACHINE), places(f"{path}/new", MACHINE), strict=True):
        os.makedirs(new, exist_ok=True)
        if new.startswith(MACHINE.v1.get("cpuset", "/nowhere")):
            for file in ("cpuset.cpus", "cpuset.mems"):
                for group in (os.path.dirname(new), new):
                    write_text(f"{group}/{file}", read_text(f"{MACHINE.v1['cpuset']}/{file}").strip())
        write_text(f"{new}/cgroup.procs", str(pid))
        os.rmdir(old)
    runtime("exec", "--detach", "--pid-file", f"{runtime.directory}/pid", "c", "sleep", "100")
    with open(f"{runtime.directory}/pid") as stream:
        entered = int(stream.read())
    for place in places(f"{path}/new", MACHINE):
        assert {str(pid), str(entered)}.issubset(read_text(f"{place}/cgroup.procs").split()), place
    os.kill(entered, 9)
    assert reap(entered) == -9
    runtime("kill", "--all", "c", "0")
    runtime("delete", "--force", "c")
    assert runtime.ids() == []
    assert reap(pid) == -9


@pytest.mark.needs("memory")
def test_a_start_in_a_cgroup_that_was_there_is_not_told_by_old_counts(path: str) -> None:
    made = Cgroup.claim(f"{path}/old", {"memory": {"limit": 4 << 20, "swap": 4 << 20}})
    assert Child(made, lambda: bytearray(64 << 20)).wait() == -9
    resources = {"memory": {"limit": 512 << 20}}
    with pytest.raises(RuntimeFailed, match="OOM-killed"):
        blame(RuntimeFailed("it died"), resources, made)
    joined = Cgroup.claim(f"{path}/old", {})
    blame(RuntimeFailed("it died"), resources, joined)


@pytest.mark.needs("memory", "busybox")
@pytest.mark.parametrize("verb", ["create", "run"])
def test_memory_in_which_nothing_can_start_is_what_the_error_names(runtime: Runtime, verb: str) -> None:
    bundle = runtime.bundle("true", linux={"resources": {"memory": {"limit": 4096}}})
    failed = runtime(verb, "--bundle", bundle, "c", code=1)
    assert "linux.resources.memory.limit: container init was OOM-killed (memory limit too low?): it is 4096 bytes" in failed.stderr
    assert failed.stderr.count("\n") == 1
    assert runtime.ids() == []
