"""Options that change what a container sees: mounts, hidden paths, namespaces. Also run in the guest with cgroup v2."""
from __future__ import annotations

import os

import pytest
from harness import Mydocker, cgroup_directories, until

from mydocker.linux.cgroup.hierarchy import hierarchy

pytestmark = [pytest.mark.needs("root", "overlay")]


def mounts(mydocker: Mydocker, *options: str) -> dict[str, tuple[str, set[str]]]:
    """Return what is mounted in a container: place -> (type, options), the topmost of a place."""
    text = mydocker("run", "--rm", *options, "busybox", "cat", "/proc/self/mounts").out
    return {fields[1]: (fields[2], set(fields[3].split(","))) for fields in map(str.split, text.splitlines())}


def namespace(kind: str, pid: int | str = "self") -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def namespace_inside(mydocker: Mydocker, kind: str, *options: str) -> str:
    return mydocker("run", "--rm", *options, "busybox", "readlink", f"/proc/self/ns/{kind}").out.strip()


def test_tmpfs_has_dockers_defaults_and_what_was_asked_for(mydocker: Mydocker, busybox: str) -> None:
    found = mounts(mydocker, "--tmpfs", "/run:size=1m,mode=700", "--tmpfs", "/fast:exec", "--mount", "type=tmpfs,dst=/m,ro")
    assert found["/run"][0] == "tmpfs"
    assert {"rw", "nosuid", "nodev", "noexec", "size=1024k", "mode=700"} <= found["/run"][1]
    assert "noexec" not in found["/fast"][1]
    assert "ro" in found["/m"][1]


def test_tmpfs_stays_writable_in_a_read_only_container(mydocker: Mydocker, busybox: str) -> None:
    done = mydocker(
        "run", "--rm", "--read-only", "--tmpfs", "/run", busybox, "sh", "-c", "touch /run/a && echo yes; touch /a", code=1)
    assert done.out == "yes\n"
    assert "Read-only file system" in done.err


def test_size_of_shared_memory(mydocker: Mydocker, busybox: str) -> None:
    assert "size=65536k" in mounts(mydocker)["/dev/shm"][1]
    assert "size=1024k" in mounts(mydocker, "--shm-size", "1m")["/dev/shm"][1]


def test_bind_mount_by_docker_keys(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    mydocker("run", "--rm", "--mount", f"type=bind,src={scratch},dst=/data", busybox, "touch", "/data/made")
    assert os.path.exists(f"{scratch}/made")
    done = mydocker("run", "--rm", "--mount", f"type=bind,src={scratch},dst=/data,readonly", busybox, "touch", "/data/x", code=1)
    assert "Read-only file system" in done.err
    done = mydocker("run", "--rm", "--mount", f"type=bind,src={scratch}/nope,dst=/data", busybox, "true", code=125)
    assert f"bind source path does not exist: {scratch}/nope" in done.one_error_line()
    assert not os.path.exists(f"{scratch}/nope")


def test_hidden_paths_are_hidden_and_can_be_uncovered(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    look = ("sh", "-c", "grep -q . /proc/keys && echo seen; touch /proc/sys/kernel/domainname 2>/dev/null && echo written")
    assert mydocker("run", "--rm", busybox, *look, code=None).out == ""
    assert mydocker("run", "--rm", "--security-opt", "unmask=ALL", busybox, *look).out == "seen\nwritten\n"
    assert mydocker("run", "--rm", "--security-opt", "unmask=/proc/keys", busybox, *look, code=None).out == "seen\n"
    with open(f"{scratch}/secret", "w", encoding="ascii") as stream:
        stream.write("secret")
    options = ("-v", f"{scratch}:/data", "--security-opt", "mask=/data/secret:/bin")
    assert mydocker("run", "--rm", *options, busybox, "/bin/cat", "/data/secret", code=127).out == ""


def test_privileged_hides_nothing_and_may_write(mydocker: Mydocker, busybox: str) -> None:
    found = mounts(mydocker)
    assert {"ro"} <= found["/sys"][1]
    assert "/proc/sys" in found


@pytest.mark.parametrize(("kind", "option"), [("pid", "--pid"), ("ipc", "--ipc"), ("uts", "--uts"), ("cgroup", "--cgroupns")])
def test_a_namespace_is_the_containers_own_or_the_hosts(mydocker: Mydocker, busybox: str, kind: str, option: str) -> None:
    assert namespace_inside(mydocker, kind) != namespace(kind)
    assert namespace_inside(mydocker, kind, option, "private") != namespace(kind)
    assert namespace_inside(mydocker, kind, option, "host") == namespace(kind)


def test_userns_host_is_what_there_is(mydocker: Mydocker, busybox: str) -> None:
    assert namespace_inside(mydocker, "user", "--userns", "host") == namespace("user")


def test_all_processes_of_a_container_in_the_hosts_pid_namespace_end_with_it(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "--name", "c", "--pid", "host", busybox, "sh", "-c", "setsid sleep 987654 & sleep 1000")
    assert mydocker("exec", "c", "sh", "-c", "ls /proc | grep -cx 1").out == "1\n"
    mydocker("rm", "-f", "c")
    until(lambda: not any(b"987654" in _cmdline(pid) for pid in os.listdir("/proc") if pid.isdigit()), what="for all to end")


def _cmdline(pid: str) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            return stream.read()
    except OSError:
        return b""


def test_ipc_modes_and_shared_memory(mydocker: Mydocker, busybox: str) -> None:
    assert "/dev/shm" not in mounts(mydocker, "--ipc", "none")
    name = f"mydocker-test-{os.getpid()}"
    try:
        mydocker("run", "--rm", "--ipc", "host", busybox, "touch", f"/dev/shm/{name}")
        assert os.path.exists(f"/dev/shm/{name}")
    finally:
        os.unlink(f"/dev/shm/{name}")


def test_domain_name(mydocker: Mydocker, busybox: str) -> None:
    done = mydocker("run", "--rm", "--hostname", "h", "--domainname", "d", busybox, "cat", "/proc/sys/kernel/domainname")
    assert done.out == "d\n"
    done = mydocker("run", "--rm", "--uts", "host", "--hostname", "h", busybox, "true", code=125)
    assert "UTS" in done.one_error_line()


def test_a_cgroup_is_made_below_the_parent_that_was_given_and_removed(mydocker: Mydocker, busybox: str) -> None:
    parent = f"mydocker-test-{os.getpid()}"
    found = hierarchy()
    places = [f"{point}/{parent}" for point in dict.fromkeys((*found.v1.values(), found.v2)) if point]
    try:
        mydocker("run", "-d", "--name", "c", "--cgroup-parent", parent, "-m", "64m", busybox, "sleep", "1000")
        container_id = mydocker.directory_of("c").rpartition("/")[2]
        assert any(os.path.isdir(f"{place}/{container_id}") for place in places)
        assert not any(path.endswith(container_id) for path in cgroup_directories())
        mydocker("pause", "c")
        mydocker("unpause", "c")
        assert mydocker("exec", "c", "echo", "in").out == "in\n"
        mydocker("restart", "-t", "0", "c")
        mydocker("rm", "-f", "c")
        assert not any(os.path.isdir(f"{place}/{container_id}") for place in places)
    finally:
        mydocker("rm", "-f", "c", code=None)
        for place in places:
            if os.path.isdir(place):
                os.rmdir(place)


def test_a_container_below_another_parent_is_removed_though_its_record_is_broken(mydocker: Mydocker, busybox: str) -> None:
    parent = f"mydocker-broken-{os.getpid()}"
    found = hierarchy()
    places = [f"{point}/{parent}" for point in dict.fromkeys((*found.v1.values(), found.v2)) if point]
    try:
        mydocker("run", "-d", "--name", "c", "--cgroup-parent", parent, busybox, "sleep", "1000")
        pid = mydocker.pid_of("c")
        with open(f"{mydocker.directory_of('c')}/config.json", "w", encoding="ascii") as stream:
            stream.write("{")
        mydocker("rm", "-f", "c")
        until(lambda: not os.path.exists(f"/proc/{pid}"), what="for its process to end")
        assert not [entry for place in places if os.path.isdir(place) for entry in os.scandir(place) if entry.is_dir()]
    finally:
        for place in places:
            if os.path.isdir(place):
                os.rmdir(place)


def test_the_id_is_written_to_a_file_that_must_not_exist(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    path = f"{scratch}/id"
    for words in (["run", "-d", "--name", "a"], ["create", "--name", "b"], ["run", "--name", "c"]):
        mydocker(*words, "--cidfile", path, busybox, "true")
        with open(path, encoding="ascii") as stream:
            assert stream.read() == mydocker.directory_of(words[-1]).rpartition("/")[2]
        done = mydocker(*words[:-1], "again", "--cidfile", path, busybox, "true", code=125)
        assert f"container ID file {path} is there already" in done.one_error_line()
        os.unlink(path)
    mydocker("run", "--cidfile", path, "--name", "a", busybox, "true", code=125)  # the name is in use
    assert not os.path.exists(path)
