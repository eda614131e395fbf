"""What a config.json may ask for, with real containers: each test makes a bundle and looks from inside, or from the host."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from harness import until
from runtime_rig import PROGRAM, Runtime

import mydocker

pytestmark = pytest.mark.needs("root")

_KINDS = ("pid", "network", "ipc", "uts", "mount", "cgroup")
_MAPPING = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def namespaces(*more: dict[str, str], without: tuple[str, ...] = ()) -> list[dict[str, str]]:
    given = {item["type"] for item in more}
    return [{"type": kind} for kind in _KINDS if kind not in without and kind not in given] + list(more)


def run(runtime: Runtime, script: str, **changes: Any) -> str:
    """Run a shell script in a container of its own and return what it wrote."""
    return runtime("run", "--bundle", runtime.bundle("sh", "-c", script, **changes), "c").stdout


def refuse(runtime: Runtime, **changes: Any) -> str:
    """Return what is said of a bundle that must be refused."""
    return runtime("run", "--bundle", runtime.bundle("true", **changes), "c", code=1).stderr


def mounts_and(runtime: Runtime, *more: dict[str, Any]) -> list[dict[str, Any]]:
    with open(f"{runtime.bundle('true')}/config.json") as stream:
        return [*json.load(stream)["mounts"], *more]


@contextmanager
def holder(*flags: str) -> Iterator[int]:
    """A process in new namespaces, by unshare(1); the pid of it."""
    with subprocess.Popen(["unshare", *flags, "sleep", "1000"]) as process:
        try:
            until(lambda: open(f"/proc/{process.pid}/comm").read() == "sleep\n", what="for unshare to be done")
            yield process.pid
        finally:
            process.kill()


# ---- namespaces


@pytest.mark.parametrize(("kind", "file", "flag"), [
    ("network", "net", "--net"), ("ipc", "ipc", "--ipc"), ("uts", "uts", "--uts"), ("cgroup", "cgroup", "--cgroup"),
    ("mount", "mnt", "--mount"),
    pytest.param("time", "time", "--time", marks=pytest.mark.needs("timens")),
])
def test_a_namespace_by_path_is_joined(runtime: Runtime, kind: str, file: str, flag: str) -> None:
    with holder(flag) as pid:
        # The holder of a time namespace is not in it itself, its children are.
        path = f"/proc/{pid}/ns/{'time_for_children' if kind == 'time' else file}"
        wanted = os.readlink(path)
        changes = {"hostname": ""} if kind == "uts" else {}
        inside = run(
            runtime, f"readlink /proc/self/ns/{file}", linux={"namespaces": namespaces({"type": kind, "path": path})}, **changes)
        assert inside.strip() == wanted


def test_a_pid_namespace_by_path_is_joined(runtime: Runtime) -> None:
    with subprocess.Popen(["unshare", "--pid", "--fork", "sleep", "1000"]) as process:
        try:
            path = f"/proc/{process.pid}/ns/pid_for_children"
            until(lambda: os.readlink(path) != os.readlink("/proc/self/ns/pid"), what="for the namespace")
            until(lambda: open(f"/proc/{process.pid}/task/{process.pid}/children").read().strip() != "", what="for its process 1")
            child = int(open(f"/proc/{process.pid}/task/{process.pid}/children").read())
            out = run(
                runtime, "echo $$; readlink /proc/self/ns/pid", linux={"namespaces": namespaces({"type": "pid", "path": path})})
            number, link = out.split()
            assert int(number) > 1 and link == os.readlink(f"/proc/{child}/ns/pid")
        finally:
            os.kill(child, 9)
            process.wait()


def test_a_path_of_another_kind_of_namespace_is_refused_by_field(runtime: Runtime) -> None:
    text = refuse(runtime, linux={"namespaces": namespaces({"type": "ipc", "path": "/proc/self/ns/net"})})
    assert "linux.namespaces[5].path: /proc/self/ns/net is no ipc namespace" in text


@pytest.mark.needs("timens")
def test_time_offsets_move_the_clocks(runtime: Runtime) -> None:
    changes = {"namespaces": namespaces({"type": "time"}), "timeOffsets": {"boottime": {"secs": 10_000_000}}}
    with open("/proc/uptime") as stream:
        here = float(stream.read().split()[0])
    assert float(run(runtime, "cut -d' ' -f1 /proc/uptime", linux=changes)) > here + 9_999_000


def test_without_a_mount_namespace_the_root_is_a_chroot_and_delete_unmounts_it(runtime: Runtime) -> None:
    linux = {"namespaces": namespaces(without=("mount",)), "maskedPaths": [], "readonlyPaths": []}
    bundle = runtime.bundle("sleep", "100", linux=linux)
    runtime("create", "--bundle", bundle, "c")
    runtime("start", "c")
    rootfs = f"{runtime.directory}/rootfs"
    with open("/proc/self/mountinfo") as stream:
        assert f" {rootfs}/proc " in stream.read()
    assert runtime("exec", "c", "ls", "/proc/1/root/bin/busybox").stdout.strip() == "/proc/1/root/bin/busybox"
    assert runtime("exec", "c", "ls", "/").stdout.split() == sorted(os.listdir(rootfs))
    runtime.destroy()
    with open("/proc/self/mountinfo") as stream:
        assert rootfs not in stream.read()


def test_without_a_mount_namespace_nothing_can_be_masked(runtime: Runtime) -> None:
    assert "linux.maskedPaths: without a mount namespace" in refuse(runtime, linux={"namespaces": namespaces(without=("mount",))})


# ---- user namespaces


@pytest.fixture
def mapped(runtime: Runtime) -> Runtime:
    """The program with a root file system that belongs to the container's root, uid 100000."""
    subprocess.run(["chown", "-R", "100000:100000", f"{runtime.directory}/rootfs"], check=True)
    os.chmod(runtime.directory, 0o755)
    return runtime


def in_userns(**more: Any) -> dict[str, Any]:
    return {"namespaces": namespaces({"type": "user"}), "uidMappings": _MAPPING, "gidMappings": _MAPPING, **more}


def test_a_user_namespace_has_its_mappings_and_the_hosts_nodes(mapped: Runtime) -> None:
    out = run(mapped, "id -u; cat /proc/self/uid_map /proc/self/gid_map; stat -c %t:%T:%u /dev/null; echo x >/dev/null && echo ok",
              linux=in_userns())
    assert out.split() == ["0", "0", "100000", "65536", "0", "100000", "65536", "1:3:65534", "ok"]


def test_exec_in_a_user_namespace_is_its_root(mapped: Runtime) -> None:
    mapped("run", "-d", "--bundle", mapped.bundle("sleep", "100", linux=in_userns()), "c")
    assert mapped("exec", "c", "sh", "-c", "id -u; cat /proc/self/uid_map").stdout.split() == ["0", "0", "100000", "65536"]
    pid = mapped.state("c")["pid"]
    assert os.stat(f"/proc/{pid}").st_uid == 100000


@pytest.mark.parametrize("user", [{"uid": 70000, "gid": 0}, {"uid": 0, "gid": 70000}, {"uid": 0, "gid": 0, "additionalGids": [70000]}])
def test_an_id_of_the_command_that_is_not_mapped_is_refused_by_field(runtime: Runtime, user: dict[str, Any]) -> None:
    assert "70000 is not mapped (linux." in (text := refuse(runtime, linux=in_userns(), process={"user": user}))
    assert f"process.user.{next(field for field, value in user.items() if '70000' in str(value))}: " in text


def test_a_user_namespace_may_have_no_root(runtime: Runtime) -> None:
    """As with crun: what prepares the container is its first user."""
    subprocess.run(["chown", "-R", "100000:100000", f"{runtime.directory}/rootfs"], check=True)
    os.chmod(runtime.directory, 0o755)
    mapping = [{"containerID": 5, "hostID": 100000, "size": 1000}]
    linux = in_userns(uidMappings=mapping, gidMappings=mapping)
    script = "id -u; id -g; grep -E '^Cap(Inh|Prm|Eff|Amb)' /proc/self/status | cut -f2 | sort -u"
    process = {"user": {"uid": 7, "gid": 8}}
    runtime("run", "-d", "--bundle", runtime.bundle("sleep", "100", linux=linux, process=process), "c")
    expected = ["7", "8", "0" * 16]
    assert runtime("exec", "c", "sh", "-c", script).stdout.split() == expected
    assert runtime("run", "--bundle", runtime.bundle("sh", "-c", script, linux=linux, process=process),
                   "d").stdout.split() == expected


def test_a_bundle_without_a_process_needs_no_root_in_its_user_namespace(mapped: Runtime) -> None:
    mapping = [{"containerID": 5, "hostID": 100000, "size": 1000}]
    path = mapped.bundle("true", linux=in_userns(uidMappings=mapping, gidMappings=mapping))
    with open(f"{path}/config.json") as stream:
        spec = json.load(stream)
    del spec["process"]
    with open(f"{path}/config.json", "w") as stream:
        json.dump(spec, stream)
    mapped("create", "--bundle", path, "c")
    assert "process" in mapped("start", "c", code=1).stderr


def test_no_step_inside_needs_modules_that_the_containers_root_cannot_read(mapped: Runtime, scratch: str) -> None:
    """The package may be below somebody's 0700 home; the host's root is in view then, and closed."""
    shutil.copytree(os.path.dirname(mydocker.__file__), f"{scratch}/mydocker")
    assert os.stat(scratch).st_mode & 0o077 == 0
    bind = {"destination": "/mnt", "type": "bind", "source": mapped.directory, "options": ["rbind", "rshared"]}
    linux = in_userns(rootfsPropagation="shared")
    bundle = mapped.bundle("echo", "ran", linux=linux, mounts=mounts_and(mapped, bind))
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from mydocker.runtime.cli import entry; sys.exit(entry())", "--root", mapped.root,
         "run", "--bundle", bundle, "c"], env={"PYTHONPATH": scratch}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("ran\n", "", 0)


def test_a_source_that_the_containers_root_cannot_reach_is_bound_all_the_same(mapped: Runtime) -> None:
    os.makedirs(f"{mapped.directory}/closed/inner")
    os.chmod(f"{mapped.directory}/closed", 0o700)
    with open(f"{mapped.directory}/closed/inner/file", "w") as stream:
        stream.write("seen")
    bind = {"destination": "/mnt", "type": "bind", "source": f"{mapped.directory}/closed/inner", "options": ["rbind"]}
    assert run(mapped, "cat /mnt/file", linux=in_userns(), mounts=mounts_and(mapped, bind)) == "seen"


def test_hard_limits_and_scores_of_a_user_namespace_are_set_by_the_creator(mapped: Runtime) -> None:
    process = {"oomScoreAdj": 7, "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]}
    out = run(mapped, "cat /proc/self/oom_score_adj; ulimit -n; ulimit -Hn", linux=in_userns(), process=process)
    assert out.split() == ["7", "100", "200"]


def test_more_mappings_than_the_kernel_takes_are_an_error_by_field(mapped: Runtime) -> None:
    many = [{"containerID": index, "hostID": 100000 + index, "size": 1} for index in range(341)]
    text = refuse(mapped, linux={**in_userns(), "uidMappings": many})
    assert "linux.uidMappings: 341 mappings are more than the kernel takes" in text


# ---- mounts


@pytest.mark.needs("idmap")
def test_ids_of_a_bind_mount_are_mapped(runtime: Runtime) -> None:
    os.mkdir(f"{runtime.directory}/source")
    mapping = [{"containerID": 0, "hostID": 5000, "size": 10}]
    bind = {"destination": "/mnt", "type": "bind", "source": f"{runtime.directory}/source", "options": ["bind"],
            "uidMappings": mapping, "gidMappings": mapping}
    out = run(runtime, "stat -c %u:%g /mnt; grep ' /mnt ' /proc/self/mountinfo", mounts=mounts_and(runtime, bind))
    assert out.startswith("5000:5000\n") and "idmapped" in out


@pytest.mark.needs("idmap")
def test_idmap_takes_the_containers_own_mappings(mapped: Runtime) -> None:
    os.mkdir(f"{mapped.directory}/source")
    bind = {"destination": "/mnt", "type": "bind", "source": f"{mapped.directory}/source", "options": ["rbind", "ridmap"]}
    assert run(mapped, "stat -c %u /mnt; touch /mnt/new", linux=in_userns(), mounts=mounts_and(mapped, bind)) == "0\n"
    assert os.stat(f"{mapped.directory}/source/new").st_uid == 0


@pytest.mark.needs("idmap")
def test_idmap_takes_mappings_of_its_own_as_crun_has_them(mapped: Runtime) -> None:
    os.mkdir(f"{mapped.directory}/source")
    os.chown(f"{mapped.directory}/source", 7, 8)
    bind = {"destination": "/mnt", "type": "bind", "source": f"{mapped.directory}/source"}
    for option, seen in (("idmap=uids=0-100000-3#7-100003-1;gids=@8-1-1", "3:1"), ("idmap=uids=@7-2-1;gids=8-100009-1", "2:9")):
        mounts = mounts_and(mapped, {**bind, "options": ["bind", option]})
        assert run(mapped, "stat -c %u:%g /mnt", linux=in_userns(), mounts=mounts) == f"{seen}\n"


@pytest.mark.needs("idmap")
def test_ids_of_a_source_that_another_mount_of_the_container_brought_are_mapped_in_a_user_namespace(mapped: Runtime) -> None:
    """Nobody outside can open it, and nobody inside may map it: the init lends it to its creator."""
    source, rootfs = f"{mapped.directory}/source", f"{mapped.directory}/rootfs"
    os.makedirs(f"{source}/below")
    bind = {"type": "bind", "options": ["rbind", "idmap"]}
    mounts = mounts_and(
        mapped, {**bind, "destination": "/first", "source": source, "options": ["bind"]},
        {**bind, "destination": f"{rootfs}/second", "source": f"{rootfs}/first/below"},
        {**bind, "destination": f"{rootfs}/third", "source": f"{rootfs}/second"})
    hooks = {"createRuntime": [{"path": "/bin/true"}]}  # which the init waits for behind its mounts
    script = "stat -c %u /first/below /second; touch /second/new"
    assert run(mapped, script, linux=in_userns(), mounts=mounts[:-1], hooks=hooks) == "65534\n0\n"
    assert os.stat(f"{source}/below/new").st_uid == 0
    # A mount that is mapped already is not mapped again (mount_setattr(2)).
    assert "uidMappings: map the ids of" in refuse(mapped, linux=in_userns(), mounts=mounts)


def test_links_on_a_source_are_followed_again_in_a_user_namespace_too(mapped: Runtime) -> None:
    """nosymfollow is no attribute that a mount of another user namespace has for good, as ro and nosuid are."""
    source = f"{mapped.directory}/source"
    os.mkdir(source)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosymfollow,nosuid", "tmpfs", source], check=True)
    try:
        subprocess.run(["sh", "-c", f"cd {source} && echo found > file && ln -s file link"], check=True)
        for options, wanted in ((["bind", "ro"], "found\n"), (["bind"], "no\n"), (["bind", "ro", "nosymfollow"], "no\n")):
            mounts = mounts_and(mapped, {"destination": "/mnt", "type": "bind", "source": source, "options": options})
            assert run(mapped, "cat /mnt/link 2>/dev/null || echo no", linux=in_userns(), mounts=mounts) == wanted, options
    finally:
        subprocess.run(["umount", source], check=True)


def test_what_the_bundle_says_of_a_mount_counts_in_a_user_namespace_too(mapped: Runtime) -> None:
    """As with crun: the bind is made with the caller's rights, who may. What it does not say stays the host's mount's."""
    source = f"{mapped.directory}/source"
    os.mkdir(source)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid,nodev,noatime", "tmpfs", source], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro,nosuid,nodev,noatime", source], check=True)
        for word, wanted in (("rw", {"rw", "nosuid", "nodev", "noatime"}), ("relatime", {"ro", "nosuid", "nodev", "relatime"})):
            mounts = mounts_and(mapped, {"destination": "/mnt", "type": "bind", "source": source, "options": ["bind", word]})
            shown = run(mapped, "grep ' /mnt ' /proc/self/mountinfo", linux=in_userns(), mounts=mounts).split()[5]
            assert set(shown.split(",")) == wanted
    finally:
        subprocess.run(["umount", source], check=True)


@pytest.mark.parametrize("is_mapped", [pytest.param(True, marks=pytest.mark.needs("idmap")), False])
def test_what_is_mounted_on_a_shared_source_stays_in_the_container(mapped: Runtime, is_mapped: bool) -> None:
    """In a user namespace it is the creator who opens it, in the host's mount namespace."""
    source = f"{mapped.directory}/source"
    os.mkdir(source)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source], check=True)
    try:
        subprocess.run(["mount", "--make-shared", source], check=True)
        os.mkdir(f"{source}/below", 0o777)
        bind = {"destination": "/mnt", "type": "bind", "source": source, "options": ["rbind", *(["idmap"] if is_mapped else [])]}
        mounts = mounts_and(mapped, bind, {"destination": "/mnt/below", "type": "tmpfs", "source": "tmpfs"})
        capabilities = {name: ["CAP_SYS_ADMIN"] for name in ("bounding", "effective", "permitted")}
        bundle = mapped.bundle(
            "sh", "-c", "mkdir /mnt/below/x; mount -t tmpfs tmpfs /mnt/below/x; exec sleep 100", linux=in_userns(), mounts=mounts,
            process={"capabilities": capabilities})
        mapped("run", "--detach", "--bundle", bundle, "c")
        pid = mapped.state("c")["pid"]
        until(lambda: "/mnt/below/x " in open(f"/proc/{pid}/mountinfo").read(), what="the mount inside")
        with open("/proc/self/mountinfo") as stream:
            assert f"{source}/below" not in stream.read()
        # What the host mounts there later is seen inside.
        os.mkdir(f"{source}/later", 0o777)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", f"{source}/later"], check=True)
        assert "/mnt/later " in open(f"/proc/{pid}/mountinfo").read()
    finally:
        mapped.destroy()
        subprocess.run(["umount", "-R", source], check=True)


@pytest.mark.parametrize(("option", "text"), [
    ("idmap=uids=0-1;gids=0-1-1", "'0-1' is no range FIRST-HOST-SIZE"), ("idmap=users=0-1-1", "'users' is neither uids nor gids"),
    ("idmap=uids=0-1-1", "both uids and gids are needed"), ("ridmap=uids=@0-1-1;gids=0-1-1", "not in one of the container's own"),
])
def test_mappings_of_a_mount_that_are_none_are_refused_by_field(runtime: Runtime, option: str, text: str) -> None:
    bind = {"destination": "/mnt", "type": "bind", "source": "/tmp", "options": ["bind", option]}
    said = refuse(runtime, mounts=mounts_and(runtime, bind))
    assert "mounts[7].options: " in said and text in said


def test_recursive_options_hold_for_what_is_mounted_below(runtime: Runtime) -> None:
    os.makedirs(f"{runtime.directory}/source/below")
    source = f"{runtime.directory}/source"
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", f"{source}/below"], check=True)
    try:
        for options, expected in ((["rbind", "ro"], "below"), (["rbind", "rro"], ""), (["bind", "ro"], "")):
            bind = {"destination": "/mnt", "type": "bind", "source": source, "options": options}
            out = run(runtime, "touch /mnt/x /mnt/below/x 2>/dev/null; ls /mnt/below", mounts=mounts_and(runtime, bind))
            assert ("below" if out.strip() == "x" else "") == expected
            assert not os.path.exists(f"{source}/x")
            subprocess.run(["rm", "-f", f"{source}/below/x"], check=True)
    finally:
        subprocess.run(["umount", f"{source}/below"], check=True)


def test_a_mount_of_the_hosts_appears_where_propagation_is_wanted(runtime: Runtime) -> None:
    source = f"{runtime.directory}/source"
    os.mkdir(source)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source], check=True)
    subprocess.run(["mount", "--make-shared", source], check=True)
    os.mkdir(f"{source}/late")
    try:
        binds = [{"destination": f"/{word}", "type": "bind", "source": source, "options": ["rbind", word]}
                 for word in ("rslave", "rprivate")]
        runtime("run", "-d", "--bundle", runtime.bundle("sleep", "100", mounts=mounts_and(runtime, *binds)), "c")
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", f"{source}/late"], check=True)
        with open(f"{source}/late/file", "w"):
            pass
        assert runtime("exec", "c", "ls", "/rslave/late", "/rprivate/late").stdout.split() == [
            "/rprivate/late:", "/rslave/late:", "file"]
    finally:
        runtime.destroy()
        subprocess.run(["umount", "-R", source], check=True)


def test_a_tmpfs_begins_with_a_copy_of_what_it_covers(runtime: Runtime) -> None:
    etc = f"{runtime.directory}/rootfs/etc"
    os.symlink("passwd", f"{etc}/link")
    os.mkdir(f"{etc}/sub", 0o750)
    os.chown(f"{etc}/sub", 7, 8)
    tmpfs = {"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=1m", "nosuid"]}
    out = run(runtime, "readlink /etc/link; stat -c %a:%u:%g /etc/sub; cmp /etc/passwd /etc/link && rm -r /etc/sub /etc/passwd; ls /etc",
              mounts=mounts_and(runtime, tmpfs))
    assert out.splitlines()[:2] == ["passwd", "750:7:8"] and "passwd" not in out.splitlines()[2:]
    assert os.path.exists(f"{etc}/passwd") and os.path.isdir(f"{etc}/sub")


@pytest.mark.parametrize(("options", "script", "expected"), [
    (["mode=1751"], "stat -c %a /mnt", "1751"),
    ([], "stat -c %a /mnt", "711"),  # of the directory that it covers
    (["size=64k"], "df -k /mnt | tail -1 | awk '{print $2}'", "64"),
    (["ro"], "touch /mnt/x 2>&1 | grep -c Read-only", "1"),
    (["noexec", "nosuid", "nodev", "noatime"], "grep -o ' /mnt [^ ]*' /proc/self/mountinfo", "/mnt rw,nosuid,nodev,noexec,noatime"),
    (["nosymfollow"], "ln -s /etc/passwd /mnt/l; cat /mnt/l 2>/dev/null || echo refused", "refused"),
    (["uid=3,gid=4"], "stat -c %u:%g /mnt", "3:4"),
])
def test_options_of_a_tmpfs_do_what_they_say(runtime: Runtime, options: list[str], script: str, expected: str) -> None:
    os.mkdir(f"{runtime.directory}/rootfs/mnt")
    os.chmod(f"{runtime.directory}/rootfs/mnt", 0o711)
    mount = {"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": options}
    assert run(runtime, script, mounts=mounts_and(runtime, mount)).strip() == expected


def test_a_remount_changes_what_is_there(runtime: Runtime) -> None:
    first = {"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]}
    second = {"destination": "/mnt", "type": "none", "options": ["remount", "ro", "size=2m"]}
    out = run(runtime, "grep ' /mnt ' /proc/self/mountinfo", mounts=mounts_and(runtime, first, second))
    assert " ro," in out and "size=2048k" in out


def test_an_overlay_with_options_longer_than_fsconfig_takes(runtime: Runtime) -> None:
    name = f"{runtime.directory}/{'x' * 200}"
    for part in ("a", "b", "upper", "work"):
        os.makedirs(f"{name}/{part}")
    with open(f"{name}/b/file", "w") as stream:
        stream.write("below")
    mount = {"destination": "/mnt", "type": "overlay", "source": "overlay", "options": [
        f"lowerdir={name}/a:{name}/b", f"upperdir={name}/upper", f"workdir={name}/work", "nodev", "shared", "rnoexec"]}
    out = run(runtime, "cat /mnt/file; touch /mnt/new; grep ' /mnt .*overlay' /proc/self/mountinfo", mounts=mounts_and(runtime, mount))
    assert out.startswith("below")
    assert {"nodev", "noexec"}.issubset(out.split()[5].split(",")) and out.split()[6].startswith("shared:")
    assert os.path.exists(f"{name}/upper/new")


@pytest.mark.parametrize("size", ["4m", f"{'0' * 300}4m"], ids=["", "longer than fsconfig takes"])
@pytest.mark.parametrize("word", ["slave", "ro"])
def test_a_tmpfs_begins_with_what_it_covers(runtime: Runtime, word: str, size: str) -> None:
    mount = {"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": [f"size={size}", "tmpcopyup", word]}
    script = "cat /etc/passwd; grep ' /etc ' /proc/self/mountinfo; touch /etc/new 2>/dev/null && echo writable || true"
    out = run(runtime, script, mounts=mounts_and(runtime, mount))
    assert "root:x:0:0" in out and "size=4096k" in out
    assert ("writable" in out) == (word != "ro")


def test_a_dev_that_is_read_only_has_its_nodes(runtime: Runtime) -> None:
    mounts = mounts_and(runtime)
    dev = next(mount for mount in mounts if mount["destination"] == "/dev")
    dev["options"].append("ro")
    assert run(runtime, "ls -1 /dev | grep -c -E '^(null|zero|fd|ptmx)$'; touch /dev/x 2>/dev/null || echo sealed",
               mounts=mounts).split() == ["4", "sealed"]


def test_the_hosts_dev_is_left_as_it_is(runtime: Runtime) -> None:
    before = sorted(os.listdir("/dev")), os.stat("/dev/null")
    mounts = [mount for mount in mounts_and(runtime) if not mount["destination"].startswith("/dev")]
    mounts.append({"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind", "rslave"]})
    assert run(runtime, "echo x >/dev/null && echo ok", mounts=mounts).strip() == "ok"
    after = sorted(os.listdir("/dev")), os.stat("/dev/null")
    assert before[0] == after[0] and before[1][:6] == after[1][:6]


def is_shared(path: str) -> bool:
    """Tell whether the mount that a path lies on is shared, as systemd and the guest have it."""
    done = subprocess.run(["findmnt", "-n", "-o", "PROPAGATION", "-T", path], capture_output=True, text=True, check=True)
    return "shared" in done.stdout


@pytest.mark.parametrize(("word", "field"), [
    ("shared", "shared:"), ("unbindable", "unbindable"), ("private", ""), ("slave", ""),
])
def test_the_roots_propagation_is_as_asked_and_nothing_appears_on_the_host(runtime: Runtime, word: str, field: str) -> None:
    with open("/proc/self/mountinfo") as stream:
        before = stream.read().count(runtime.directory)
    out = run(runtime, "head -1 /proc/self/mountinfo; mount -t tmpfs none /tmp; true", linux={"rootfsPropagation": word},
              process={"capabilities": {"bounding": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"]}})
    tags = out.split(" - ")[0].split()[6:]
    if word == "slave" and is_shared(runtime.directory):
        field = "master:"
    assert (tags[0].startswith(field) if field else tags == [])
    with open("/proc/self/mountinfo") as stream:
        assert stream.read().count(runtime.directory) == before


def test_a_procfs_that_the_root_file_system_comes_with_is_covered_by_the_containers(runtime: Runtime) -> None:
    """A chroot that somebody has worked in; mounted in a namespace of the caller's, so that nothing stays on the machine."""
    bundle = runtime.bundle("ls", "/proc")
    script = "mount -t proc proc $0/rootfs/proc && exec $1 --root $0/state run --bundle $2 c"
    line = ["unshare", "-m", "sh", "-c", script, runtime.directory, PROGRAM, bundle]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert [word for word in done.stdout.split() if word.isdigit()] == ["1"]


@pytest.mark.parametrize("mount", [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]},
])
def test_another_procfs_may_lie_on_proc(runtime: Runtime, mount: dict[str, Any]) -> None:
    assert run(runtime, "ls -d /proc/self", mounts=mounts_and(runtime, mount)) == "/proc/self\n"


@pytest.mark.parametrize(("mount", "field"), [
    ({"destination": "/proc", "type": "tmpfs", "source": "tmpfs"}, "mounts[7]: mount on /proc: it is not of type proc"),
    ({"destination": "/proc", "type": "bind", "source": "/proc/sys", "options": ["bind"]}, "mount on /proc: it is not of type proc"),
    ({"destination": "/proc/sys", "type": "proc", "source": "proc"}, "mounts[7]: mount on /proc/sys: it is inside of /proc"),
    ({"destination": "/etc", "type": "bind", "source": "/etc/passwd", "options": ["bind"]}, "mounts[7]: mount /etc/passwd on /etc: not a directory"),
    ({"destination": "/etc/passwd", "type": "bind", "source": "/etc", "options": ["bind"]}, "mount /etc on /etc/passwd: not a directory"),
])
def test_what_cannot_lie_at_a_destination_is_refused_by_field(runtime: Runtime, mount: dict[str, Any], field: str) -> None:
    assert field in refuse(runtime, mounts=mounts_and(runtime, mount))


def test_a_tmpfs_on_the_root_is_the_root(runtime: Runtime) -> None:
    mount = {"destination": "/", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}
    script = "echo x > /new && awk '$5 == \"/\" {print $8 $9}' /proc/self/mountinfo; ls /dev/pts; test -c /dev/null && echo ok"
    out = run(runtime, script, mounts=[mount, *mounts_and(runtime)])
    assert out.split() == ["tmpfstmpfs", "ptmx", "ok"]
    assert not os.path.exists(f"{runtime.directory}/rootfs/new")


def test_a_directory_bound_on_the_root_is_the_root_and_nothing_stays_on_the_host(runtime: Runtime) -> None:
    other = f"{runtime.directory}/other"
    subprocess.run(["cp", "-a", f"{runtime.directory}/rootfs", other], check=True)
    with open(f"{other}/mark", "w") as stream:
        stream.write("other")
    mount = {"destination": "/", "type": "bind", "source": other, "options": ["rbind", "ro"]}
    runtime("run", "-d", "--bundle", runtime.bundle("sleep", "100", mounts=[mount, *mounts_and(runtime)]), "c")
    assert runtime("exec", "c", "sh", "-c", "cat /mark; touch /x 2>&1 | grep -o read-only -i").stdout == "otherRead-only\n"
    with open("/proc/self/mountinfo") as stream:
        assert runtime.directory not in stream.read()
    pid = runtime.state("c")["pid"]
    with open(f"/proc/{pid}/mountinfo") as stream:
        assert f"{runtime.directory}/rootfs" not in stream.read()


def test_a_destination_with_dots_is_where_its_words_lead(runtime: Runtime) -> None:
    mount = {"destination": "/nowhere/../srv/./deep", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]}
    assert "size=1024k" in run(runtime, "grep ' /srv/deep ' /proc/self/mountinfo", mounts=mounts_and(runtime, mount))


@pytest.mark.needs("hybrid")
def test_cgroup2_beside_hierarchies_of_v1_is_the_file_system_of_that_name(runtime: Runtime) -> None:
    mount = {"destination": "/srv/v2", "type": "cgroup2", "source": "cgroup2", "options": ["ro", "nosuid", "noexec", "nodev"]}
    assert "cgroup.controllers" in run(runtime, "ls /srv/v2", mounts=mounts_and(runtime, mount)).split()


# ---- devices


def test_devices_have_their_kind_mode_and_owner_in_nested_directories(runtime: Runtime) -> None:
    devices = [
        {"path": "/dev/deep/er/node", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 4},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o600},
        {"path": "/srv/block", "type": "b", "major": 7, "minor": 99},
    ]
    out = run(runtime, "stat -c %F:%t:%T:%a:%u:%g /dev/deep/er/node /dev/pipe /srv/block", linux={"devices": devices})
    assert out.splitlines() == [
        "character special file:1:5:640:3:4", "fifo:0:0:600:0:0", "block special file:7:63:666:0:0"]


def test_the_hosts_multiplexer_among_the_devices_gives_way_to_the_containers_in_a_user_namespace_too(mapped: Runtime) -> None:
    """`podman run --uidmap ... --privileged` lists every node of the host's."""
    devices = [{"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2, "fileMode": 0o666, "uid": 0, "gid": 0}]
    assert run(mapped, "readlink /dev/ptmx", linux=in_userns(devices=devices)).strip() == "pts/ptmx"
    assert run(mapped, "readlink /dev/ptmx", linux={"devices": devices}).strip() == "pts/ptmx"


def test_something_else_in_a_devices_place_is_an_error(runtime: Runtime) -> None:
    with open(f"{runtime.directory}/rootfs/taken", "w"):
        pass
    text = refuse(runtime, linux={"devices": [{"path": "/taken", "type": "c", "major": 1, "minor": 5}]})
    assert "linux.devices: make /taken: something else is there" in text


# ---- process


def test_attributes_of_the_process(runtime: Runtime) -> None:
    process = {
        "oomScoreAdj": 55, "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6}, "scheduler": {"policy": "SCHED_BATCH", "nice": 5},
        "user": {"uid": 1000, "gid": 1001, "umask": 0o27, "additionalGids": [5, 6]}, "noNewPrivileges": True, "cwd": "/tmp",
    }
    script = ("cat /proc/self/oom_score_adj; ulimit -n; ulimit -Hn; ionice | tr -d ' '; cut -d' ' -f19 /proc/self/stat; umask; id -u; id -g;"
              "id -G | tr ' ' ,; grep NoNewPrivs /proc/self/status | cut -f2; pwd; uname -m")
    out = run(runtime, script, process=process, linux={"personality": {"domain": "LINUX32"}})
    assert out.split() == [
        "55", "64", "128", "best-effort:prio6", "5", "0027", "1000", "1001", "1001,5,6", "1", "/tmp",
        # User-mode Linux has one machine only.
        {"x86_64": "i686", "aarch64": "armv8l"}[os.uname().machine] if not os.environ.get("MYDOCKER_TEST_GUEST") else "x86_64"]


def test_a_limit_that_may_not_be_raised_is_named(runtime: Runtime) -> None:
    """Callers add limits that nobody asked for: podman RLIMIT_NPROC to any --ulimit."""
    process = {"rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}, {"type": "RLIMIT_NOFILE", "soft": 9, "hard": 1 << 40}]}
    assert "set process.rlimits RLIMIT_NOFILE: operation not permitted" in refuse(runtime, process=process)


@pytest.mark.needs("memory")
def test_a_memory_limit_in_which_nothing_can_start_is_named(runtime: Runtime) -> None:
    text = refuse(runtime, linux={"resources": {"memory": {"limit": 100000}}})
    assert "linux.resources.memory.limit: container init was OOM-killed (memory limit too low?)" in text


def test_a_root_that_is_not_there_is_named(runtime: Runtime) -> None:
    assert "root.path: " in (text := refuse(runtime, root={"path": "nowhere"})) and "nowhere: no such directory" in text


def test_processors_of_exec_that_are_none_are_refused_where_they_are_written(runtime: Runtime) -> None:
    assert "process.execCPUAffinity.final: 'x'" in refuse(runtime, process={"execCPUAffinity": {"initial": "0", "final": "x"}})
    assert run(runtime, "echo ran", process={"execCPUAffinity": {"initial": "", "final": "0"}}) == "ran\n"


def test_limits_that_would_stop_the_interpreter_stop_nothing(runtime: Runtime) -> None:
    limits = [{"type": "RLIMIT_AS", "soft": 64 << 20, "hard": 64 << 20}, {"type": "RLIMIT_FSIZE", "soft": 16, "hard": 16},
              {"type": "RLIMIT_NOFILE", "soft": 4, "hard": 4}]
    assert run(runtime, "echo alive", process={"rlimits": limits}) == "alive\n"


def test_capabilities_in_all_five_sets_and_unknown_ones_are_left_out(runtime: Runtime) -> None:
    two = ["CAP_CHOWN", "CAP_NET_RAW", "CAP_OF_THE_FUTURE"]
    sets = {"bounding": two, "permitted": two, "effective": ["CAP_CHOWN"], "inheritable": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"]}
    process = {"capabilities": sets, "user": {"uid": 1000, "gid": 1000}}
    out = run(runtime, "grep ^Cap /proc/self/status | cut -f2", process=process)
    assert [int(word, 16) for word in out.split()] == [1, 1, 1, 1 | 1 << 13, 1]
    bundle = runtime.bundle("true", process=process)
    assert "ignoring unknown capabilities: CAP_OF_THE_FUTURE\n" in runtime("run", "--bundle", bundle, "c").stderr


def test_kernel_parameters_are_the_containers_own(runtime: Runtime) -> None:
    sysctl = {"net.ipv4.ip_forward": "1", "kernel/shmmni": "77"}
    with open("/proc/sys/kernel/shmmni") as stream:
        here = stream.read()
    assert run(runtime, "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni", linux={"sysctl": sysctl}).split() == ["1", "77"]
    with open("/proc/sys/kernel/shmmni") as stream:
        assert stream.read() == here


def test_home_is_the_users_by_the_containers_own_files(runtime: Runtime) -> None:
    assert run(runtime, "echo $HOME").strip() == "/root"


# ---- hooks


def hook(runtime: Runtime, name: str, script: str = "true", **more: Any) -> dict[str, Any]:
    """A hook that appends what it sees to a file of the host's, or for startContainer of the container's."""
    record = (f"{{ echo {name} $WORD; cat; echo; ls /proc/self/fd | tr '\\n' ' '; echo; readlink /proc/self/ns/mnt; env | wc -l; }}"
              f" >> {runtime.directory if name != 'startContainer' else ''}/hooks; {script}")
    return {"path": "/bin/sh", "args": ["sh", "-c", record], "env": ["WORD=said"], **more}


def test_hooks_run_in_their_order_with_the_state_and_nothing_else(runtime: Runtime) -> None:
    kinds = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    bundle = runtime.bundle("sleep", "100", hooks={kind: [hook(runtime, kind)] for kind in kinds}, annotations={"a": "b"})
    runtime("create", "--bundle", bundle, "c")
    state = runtime.state("c")
    runtime("start", "c")
    inner = os.readlink(f"/proc/{state['pid']}/ns/mnt")
    runtime.destroy()
    lines = open(f"{runtime.directory}/hooks").read().splitlines()
    inside = open(f"{runtime.directory}/rootfs/hooks").read().splitlines()
    seen = {block[0].split()[0]: block for block in [lines[at:at + 5] for at in range(0, len(lines), 5)] + [inside]}
    assert [line.split()[0] for line in lines[::5]] == ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]
    host = os.readlink("/proc/self/ns/mnt")
    for kind, status, namespace in (
        ("prestart", "created", host), ("createRuntime", "creating", host), ("createContainer", "creating", inner),
        ("startContainer", "created", inner), ("poststart", "running", host), ("poststop", "stopped", host),
    ):
        name, text, descriptors, link, _ = seen[kind]
        told = json.loads(text)
        assert name == f"{kind} said" and link == namespace and descriptors.split() == ["0", "1", "2", "3"], kind
        assert (told["id"], told["status"], told["bundle"], told["annotations"]) == ("c", status, bundle, {"a": "b"})
        if kind not in ("startContainer", "poststop"):
            assert told["pid"] == state["pid"]


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer", "startContainer"])
def test_a_hook_that_fails_ends_the_start_and_leaves_nothing(runtime: Runtime, kind: str) -> None:
    hooks = {kind: [hook(runtime, kind, "echo why >&2; exit 3"), hook(runtime, kind, "touch /never")]}
    done = runtime("run", "--bundle", runtime.bundle("true", hooks=hooks), "c", code=None)
    assert done.returncode != 0 and f"error running {kind} hook" in done.stderr and "exit status 3" in done.stderr and "why" in done.stderr
    assert not os.path.exists(f"{runtime.directory}/rootfs/never") and not os.path.exists("/never")
    runtime.destroy()
    assert runtime.ids() == []


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer"])
def test_a_hook_that_takes_too_long_is_killed(runtime: Runtime, kind: str) -> None:
    hooks = {kind: [{"path": "/bin/sleep", "args": ["sleep", "1234"], "timeout": 1}]}
    done = runtime("run", "--bundle", runtime.bundle("true", hooks=hooks), "c", code=None)
    assert done.returncode != 0 and f"error running {kind} hook #0: /bin/sleep: killed, as it ran past its timeout" in done.stderr
    assert subprocess.run(["pgrep", "-f", "^sleep 1234$"], check=False, stdout=subprocess.DEVNULL).returncode == 1
    runtime.destroy()


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"])
@pytest.mark.parametrize(("path", "reason"), [("/nonexistent", "no such file or directory"), ("/etc/passwd", "permission denied")])
def test_a_hook_that_cannot_be_run_is_told_from_the_command(runtime: Runtime, kind: str, path: str, reason: str) -> None:
    done = runtime("run", "--bundle", runtime.bundle("true", hooks={kind: [{"path": path}]}), "c", code=1)
    assert f"error running {kind} hook #0: {path}: " in done.stderr and reason in done.stderr
    runtime.destroy()


def test_what_a_hook_mounts_in_the_root_is_seen_inside(runtime: Runtime) -> None:
    os.mkdir(f"{runtime.directory}/rootfs/mnt")
    script = f"mount -t tmpfs -o size=3m tmpfs {runtime.directory}/rootfs/mnt"
    hooks = {"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/sbin:/usr/bin:/usr/sbin"]}]}
    assert "size=3072k" in run(runtime, "grep ' /mnt ' /proc/self/mountinfo", hooks=hooks)
