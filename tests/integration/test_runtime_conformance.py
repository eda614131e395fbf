"""What the conformance suites of other runtimes ask of `mydocker-runtime`, told as tests of our own (docs/conformance.md)."""
from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from harness import PATIENCE, is_running, until
from runtime_rig import PROGRAM, Runtime, reap

# ---- crun's words on the command line

def test_run_takes_its_configuration_from_another_file_and_from_crun_who_makes_the_cgroup(runtime: Runtime) -> None:
    bundle = runtime.bundle("echo", "hello")
    os.mkdir(f"{bundle}/below")
    os.rename(f"{bundle}/config.json", f"{bundle}/below/other.json")
    arguments = ("run", "--bundle", bundle, "--config", "below/other.json", "conformance-config")
    assert runtime("--cgroup-manager", "cgroupfs", *arguments).stdout == "hello\n"
    assert "cgroup-manager" in runtime("--cgroup-manager", "nobody", *arguments, code=1).stderr


# ---- linux.memoryPolicy

POLICY = ("sh", "-c", "head -n 1 /proc/self/numa_maps | cut -d ' ' -f 2")


def test_a_memory_policy_is_the_commands(runtime: Runtime) -> None:
    if not os.path.exists("/proc/self/numa_maps"):
        pytest.skip("needs a kernel with CONFIG_NUMA")
    bundle = runtime.bundle(*POLICY, linux={"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}})
    assert runtime("run", "--bundle", bundle, "conformance-policy").stdout == "bind=static:0\n"


@pytest.mark.parametrize(("policy", "field"), [
    ({}, "linux.memoryPolicy.mode"), ({"mode": "MPOL_BIND"}, "linux.memoryPolicy.nodes"),
    ({"mode": "MPOL_BIND", "nodes": "0-9876543210"}, "linux.memoryPolicy.nodes"),
    ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["X"]}, "linux.memoryPolicy.flags"),
    ({"mode": "MPOL_DEFAULT", "nodes": "0-7"}, "requires 0 nodes but got 8"),
])
def test_a_memory_policy_that_is_none_is_refused_by_field(runtime: Runtime, policy: dict[str, object], field: str) -> None:
    bundle = runtime.bundle("true", linux={"memoryPolicy": policy})
    assert field in runtime("run", "--bundle", bundle, "conformance-policy", code=1).stderr


# ---- linux.sysctl

def test_a_sysctl_of_a_namespace_that_is_the_hosts_is_refused(runtime: Runtime) -> None:
    """Written, it would be the machine's."""
    namespaces = [{"type": kind} for kind in ("mount", "pid", "ipc", "uts")]
    for path in ({}, {"path": "/proc/self/ns/net"}):
        both = [*namespaces, {"type": "network", **path}] if path else namespaces
        bundle = runtime.bundle("true", linux={"sysctl": {"net.ipv4.ip_forward": "0"}, "namespaces": both})
        assert "net.ipv4.ip_forward" in runtime("run", "--bundle", bundle, "conformance-sysctl", code=1).stderr
    bundle = runtime.bundle("cat", "/proc/sys/kernel/msgmax", linux={"sysctl": {"kernel.msgmax": "8000"}, "namespaces": namespaces})
    assert runtime("run", "--bundle", bundle, "conformance-sysctl").stdout == "8000\n"


# ---- descriptors

def test_a_descriptor_that_the_caller_has_not_open_is_none_of_ours_instead(runtime: Runtime) -> None:
    """CVE-2024-21626: the log would be the first to get such a number, and a container could write to a file of the host."""
    bundle = runtime.bundle("ls", "-l", "/proc/self/fd")
    log = f"{runtime.directory}/log"
    code = 'exec 3<&- 4<&- 5</etc/hostname 6<&- 7<&-; exec "$@"'
    words = ["--log", log, "--root", runtime.root, "run", "--bundle", bundle, "--preserve-fds", "100", "conformance-fds"]
    done = subprocess.run(["sh", "-c", code, "sh", PROGRAM, *words], capture_output=True, text=True, check=True)
    shown = {line.split()[-3]: line.split()[-1] for line in done.stdout.splitlines() if "->" in line}
    assert {fd: path for fd, path in shown.items() if int(fd) > 2 and not path.endswith("/fd")} == {"5": "/etc/hostname"}


def test_sockets_are_passed_on_without_a_word_on_whose_they_are(runtime: Runtime) -> None:
    bundle = runtime.bundle("sh", "-c", "echo $LISTEN_FDS $LISTEN_PID")
    assert runtime("run", "--bundle", bundle, "conformance-listen", env={"LISTEN_FDS": "1"}).stdout == "1 1\n"


# ---- hooks

def hook(*args: str, **more: object) -> dict[str, object]:
    return {"path": "/bin/sh", "args": ["sh", "-c", *args], **more}


def test_a_hook_without_an_environment_has_the_callers(runtime: Runtime) -> None:
    out = f"{runtime.directory}/out"
    bundle = runtime.bundle("true", hooks={"createRuntime": [hook(f"echo $WORD > {out}"), hook(f"echo $WORD >> {out}", env=[])]})
    runtime("run", "--bundle", bundle, "conformance-hook", env={"WORD": "said"})
    with open(out) as stream:
        assert stream.read() == "said\n\n"


def test_a_hook_at_the_start_inside_has_the_commands_environment(runtime: Runtime) -> None:
    bundle = runtime.bundle("true", hooks={"startContainer": [hook("test $WORD = said")]}, process={"env": ["PATH=/bin", "WORD=said"]})
    runtime("run", "--bundle", bundle, "conformance-hook")


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"])
def test_a_hook_that_fails_ends_it_in_runcs_words(runtime: Runtime, kind: str) -> None:
    bundle = runtime.bundle("sleep", "100", hooks={kind: [hook("exit 0"), hook("echo why; exit 3")]})
    error = runtime("run", "--detach", "--bundle", bundle, "conformance-hook", code=1).stderr
    assert f"error running {kind} hook" in error and "exit status 3, output: why" in error
    assert runtime.ids() == []


def test_poststart_that_fails_ends_a_created_container_with_its_poststop(runtime: Runtime) -> None:
    out = f"{runtime.directory}/out"
    bundle = runtime.bundle("sleep", "100", hooks={"poststart": [hook("exit 3")], "poststop": [hook(f"/bin/cat > {out}")]})
    runtime("create", "--bundle", bundle, "conformance-hook")
    pid = runtime.state("conformance-hook")["pid"]
    assert "poststart" in runtime("start", "conformance-hook", code=1).stderr
    assert runtime.ids() == []
    assert reap(pid) == -9
    with open(out) as stream:
        assert json.load(stream)["status"] == "stopped"


def test_a_poststop_hook_that_fails_keeps_none_of_the_others(runtime: Runtime) -> None:
    out = f"{runtime.directory}/out"
    bundle = runtime.bundle("true", hooks={"poststop": [hook("exit 3"), hook(f"echo done > {out}")]})
    assert "error running poststop hook #0" in runtime("run", "--bundle", bundle, "conformance-hook").stderr
    assert os.path.exists(out)


# ---- process

@pytest.mark.parametrize(("scheduler", "text"), [
    ({"deadline": 2}, "requires `runtime`"), ({"runtime": 0, "deadline": 2}, "must be greater than 0"),
    ({"runtime": 3000, "deadline": 2000}, "must be <= deadline"), ({"runtime": 2000, "deadline": 3000, "period": 2000}, "must be <= period"),
    ({"runtime": 1, "deadline": 3000}, "must be between"),
])
def test_times_of_a_deadline_that_do_not_fit_are_told_apart(runtime: Runtime, scheduler: dict[str, int], text: str) -> None:
    bundle = runtime.bundle("true", process={"scheduler": {"policy": "SCHED_DEADLINE", **scheduler}})
    assert text in runtime("run", "--bundle", bundle, "conformance-scheduler", code=1).stderr


def test_each_name_is_once_in_the_environment_and_an_empty_home_is_the_users(runtime: Runtime) -> None:
    bundle = runtime.bundle("env", process={"env": ["ONE=two", "HOME=/other", "ONE=", "PATH=/bin", "HOME="]})
    assert sorted(runtime("run", "--bundle", bundle, "conformance-env").stdout.splitlines()) == ["HOME=/root", "ONE=", "PATH=/bin"]


def test_a_terminal_of_ours_passes_lines_on_as_they_are(runtime: Runtime) -> None:
    bundle = runtime.bundle("sh", "-c", "test -t 1 && echo one", process={"terminal": True})
    done = subprocess.run(
        [PROGRAM, "--root", runtime.root, "run", "--bundle", bundle, "conformance-tty"], capture_output=True, check=True, stdin=subprocess.DEVNULL)
    assert done.stdout == b"one\n"


def test_the_callers_processors_are_no_limit_of_the_containers(runtime: Runtime) -> None:
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("needs two processors")
    show = ("grep", "Cpus_allowed_list", "/proc/self/status")
    bundle = runtime.bundle("sleep", "100")
    first = runtime.bundle(*show)
    words = ("taskset", "-c", str(min(before)), PROGRAM, "--root", runtime.root)
    subprocess.run([*words, "run", "--detach", "--bundle", bundle, "conformance-cpus"], check=True, stdin=subprocess.DEVNULL)
    for command in (["exec", "conformance-cpus", *show], ["run", "--bundle", first, "conformance-cpus2"]):
        done = subprocess.run([*words, *command], check=True, capture_output=True, text=True)
        assert done.stdout.split()[-1] == format_cpus(before)


def format_cpus(cpus: set[int]) -> str:
    return f"{min(cpus)}-{max(cpus)}" if len(cpus) == max(cpus) - min(cpus) + 1 else ",".join(map(str, sorted(cpus)))


def test_exec_has_an_ambient_capability_only_where_the_spec_has_it_inheritable(runtime: Runtime) -> None:
    sets = {kind: ["CAP_KILL"] for kind in ("bounding", "effective", "permitted")}
    bundle = runtime.bundle("sleep", "100", process={"capabilities": {**sets, "bounding": ["CAP_KILL", "CAP_SYSLOG"], "inheritable": ["CAP_SYSLOG"]}})
    runtime("run", "--detach", "--bundle", bundle, "conformance-cap")
    options = ("--cap", "CAP_SYSLOG", "--cap", "CAP_CHOWN")
    status = runtime("exec", *options, "conformance-cap", "cat", "/proc/self/status").stdout
    assert f"CapAmb:\t{1 << 34:016x}\n" in status and f"CapInh:\t{1 << 34:016x}\n" in status


def test_personality_and_memory_policy_are_those_of_exec_too(runtime: Runtime) -> None:
    bundle = runtime.bundle("sleep", "100", linux={"personality": {"domain": "LINUX32"}, "memoryPolicy": {"mode": "MPOL_PREFERRED", "nodes": "0"}})
    runtime("run", "--detach", "--bundle", bundle, "conformance-exec")
    assert runtime("exec", "conformance-exec", "uname", "-m").stdout == "i686\n"
    assert runtime("exec", "conformance-exec", *POLICY).stdout.startswith("prefer")


def test_a_user_may_execute_what_an_ambient_capability_lets_it(runtime: Runtime) -> None:
    sets = {kind: ["CAP_DAC_OVERRIDE"] for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")}
    user = {"user": {"uid": 1000, "gid": 1000}}
    command = f"{runtime.directory}/rootfs/command"
    with open(command, "w", opener=lambda path, flags: os.open(path, flags, 0o700)) as stream:
        stream.write("#!/bin/sh\necho done\n")
    assert "permission denied" in runtime("run", "--bundle", runtime.bundle("/command", process=user), "conformance-x", code=1).stderr
    bundle = runtime.bundle("/command", process={**user, "capabilities": sets})
    assert runtime("run", "--bundle", bundle, "conformance-x").stdout == "done\n"


def test_a_command_whose_interpreter_is_missing_is_there_and_not_executed(runtime: Runtime) -> None:
    command = f"{runtime.directory}/rootfs/command"
    with open(command, "w", opener=lambda path, flags: os.open(path, flags, 0o755)) as stream:
        stream.write("#!/nonexistent\n")
    assert "exec /command: no such file or directory" in runtime(
        "run", "--bundle", runtime.bundle("/command"), "conformance-x", code=1).stderr


def test_a_pidfd_of_the_process_goes_to_a_socket(runtime: Runtime) -> None:
    bundle = runtime.bundle("sleep", "100")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{runtime.directory}/pidfd")
        listener.listen()
        for kind, words in (("standard", ["run", "--bundle", bundle]), ("setns", ["exec"])):
            command = ["sleep", "100"] if kind == "setns" else []
            runtime(*words, "--detach", "--pidfd-socket", f"{runtime.directory}/pidfd", "conformance-pidfd", *command)
            connection, _ = listener.accept()
            with connection:
                text, fds, _, _ = socket.recv_fds(connection, 100, 1)
            assert text.decode() == kind
            if kind == "setns":
                signal.pidfd_send_signal(fds[0], signal.SIGKILL)
                os.waitid(os.P_PIDFD, fds[0], os.WEXITED)
            os.close(fds[0])


# ---- namespaces

def test_a_time_namespace_has_its_offsets_in_a_user_namespace_too(runtime: Runtime) -> None:
    mappings = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    kinds = ("mount", "pid", "ipc", "uts", "network", "time", "user")
    os.chmod(runtime.directory, 0o755)
    linux = {"namespaces": [{"type": kind} for kind in kinds], "uidMappings": mappings, "gidMappings": mappings}
    for offsets, seconds in (({"monotonic": {"secs": 7881}}, "7881"), (None, "0")):
        bundle = runtime.bundle("cat", "/proc/self/timens_offsets", linux={**linux, "timeOffsets": offsets})
        assert runtime("run", "--bundle", bundle, "conformance-time").stdout.split()[:2] == ["monotonic", seconds]


# ---- mounts

def test_a_bind_that_says_some_attributes_forgets_the_others_of_its_source(runtime: Runtime) -> None:
    """As mount(2) has it, and with it runc and crun; one that says none keeps all."""
    source = f"{runtime.directory}/source"
    os.mkdir(source)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,noexec,nosuid,noatime", "tmpfs", source], check=True)
    try:
        for options, attributes in ((["bind"], {"ro", "nosuid", "noexec", "noatime"}), (["bind", "dev"], {"rw", "noatime"}),
                                    (["bind", "ro", "relatime"], {"ro", "relatime"})):
            mount = {"destination": "/mnt", "source": source, "options": options}
            bundle = runtime.bundle("grep", " /mnt ", "/proc/self/mountinfo", mounts=[{"destination": "/proc", "type": "proc"}, mount])
            assert set(runtime("run", "--bundle", bundle, "conformance-bind").stdout.split()[5].split(",")) == attributes
    finally:
        subprocess.run(["umount", source], check=True)


def test_a_tmpfs_where_nothing_was_is_open_to_all_and_one_over_a_directory_has_its_mode(runtime: Runtime) -> None:
    os.mkdir(f"{runtime.directory}/rootfs/there")
    os.chmod(f"{runtime.directory}/rootfs/there", 0o710)
    mounts = [{"destination": path, "type": "tmpfs", "source": "tmpfs"} for path in ("/there", "/not/there")]
    bundle = runtime.bundle("stat", "-c", "%a", "/there", "/not/there", mounts=mounts)
    assert runtime("run", "--bundle", bundle, "conformance-tmpfs").stdout.split() == ["710", "1777"]


def test_hidden_directories_are_one_file_system_and_each_is_hidden_once(runtime: Runtime) -> None:
    for name in "ab":
        os.mkdir(f"{runtime.directory}/rootfs/{name}")
    bundle = runtime.bundle("sh", "-c", "grep -c ' /a ' /proc/self/mountinfo; stat -c %d /a /b", linux={"maskedPaths": ["/a", "/b", "/a"]})
    count, *devices = runtime("run", "--bundle", bundle, "conformance-mask").stdout.split()
    assert count == "1" and devices[0] == devices[1]


def test_a_terminal_finds_its_place_in_a_dev_that_is_read_only(runtime: Runtime) -> None:
    mounts = [{"destination": "/proc", "type": "proc"}, {"destination": "/dev", "type": "tmpfs", "options": ["ro"]},
              {"destination": "/dev/pts", "type": "devpts", "options": ["newinstance", "ptmxmode=0666"]}]
    bundle = runtime.bundle("sh", "-c", "test -c /dev/console && ! touch /dev/x 2>/dev/null && echo fine", mounts=mounts, process={"terminal": True})
    assert runtime("run", "--bundle", bundle, "conformance-dev").stdout == "fine\n"


def test_a_hook_of_the_container_may_name_what_is_in_it_by_relative_paths(runtime: Runtime) -> None:
    mount = "/bin/mkdir -p lib/x && /bin/mount -t tmpfs none lib/x && /bin/touch lib/x/made"
    bundle = runtime.bundle("ls", "/lib/x", hooks={"createContainer": [hook(mount)]})
    assert runtime("run", "--bundle", bundle, "conformance-hook").stdout == "made\n"


# ---- signals and limits

@pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "TERM"])
def test_a_created_container_ends_by_a_signal_that_ends(runtime: Runtime, name: str) -> None:
    """As a process 1 that waits for `start` it would get none."""
    runtime("create", "--bundle", runtime.bundle("sleep", "100"), "conformance-kill")
    pid = runtime.state("conformance-kill")["pid"]
    runtime("kill", "conformance-kill", name)
    assert reap(pid) == 128 + signal.Signals[f"SIG{name}"]
    assert runtime.status("conformance-kill") == "stopped"


def test_what_the_init_does_by_signals_is_nothing_to_the_command(runtime: Runtime) -> None:
    runtime("create", "--bundle", runtime.bundle("grep", "-E", "^Sig(Cgt|Ign|Blk)", "/proc/self/status"), "conformance-kill")
    assert set(runtime("exec", "conformance-kill", "grep", "-E", "^Sig(Cgt|Ign|Blk)", "/proc/self/status").stdout.split()[1::2]) == {"0" * 16}
    assert set(runtime("run", "--bundle", runtime.bundle("grep", "-E", "^Sig(Cgt|Ign|Blk)", "/proc/self/status"), "conformance-run")
               .stdout.split()[1::2]) == {"0" * 16}


@pytest.mark.parametrize("kind", ["createRuntime", "startContainer"])
def test_the_signal_that_ended_a_hook_has_its_name(runtime: Runtime, kind: str) -> None:
    bundle = runtime.bundle("true", hooks={kind: [hook("kill -SYS $$")]})
    assert "killed by signal 31 (bad system call)" in runtime("run", "--bundle", bundle, "conformance-hook", code=1).stderr


@pytest.mark.needs("two_cpus", "cpuset")
def test_a_deadline_and_a_set_of_processors_do_not_go_together(runtime: Runtime) -> None:
    scheduler = {"policy": "SCHED_DEADLINE", "runtime": 42000, "deadline": 1000000, "period": 1000000}
    bundle = runtime.bundle("true", process={"scheduler": scheduler}, linux={"resources": {"cpu": {"cpus": "0"}}})
    assert "process scheduler can't be used together with AllowedCPUs" in runtime("run", "--bundle", bundle, "conformance-cpus", code=1).stderr


def test_kill_ends_all_where_the_pids_are_the_hosts(runtime: Runtime) -> None:
    bundle = runtime.bundle("sh", "-c", "sleep 100 & wait", linux={"namespaces": [{"type": kind} for kind in ("mount", "ipc", "uts")]})
    runtime("run", "--detach", "--bundle", bundle, "conformance-kill")
    until(lambda: len(json.loads(runtime("ps", "--format", "json", "conformance-kill").stdout)) == 2, what="both processes")
    pids = json.loads(runtime("ps", "--format", "json", "conformance-kill").stdout)
    runtime("kill", "conformance-kill", "0")
    runtime("kill", "conformance-kill", "KILL")
    for pid in pids:
        until(lambda pid=pid: not is_running(pid), what=f"the end of {pid}")
    assert "container not running" in runtime("kill", "conformance-kill", "0", code=1).stderr


def test_memory_and_swap_change_without_a_word_on_memory(runtime: Runtime) -> None:
    bundle = runtime.bundle("sleep", "100", linux={"resources": {"memory": {"limit": 64 << 20}, "pids": {"limit": 100}}})
    runtime("run", "--detach", "--bundle", bundle, "conformance-update")
    runtime("update", "--memory-swap", "96m", "conformance-update")
    runtime("update", "--pids-limit", "0", "conformance-update")
    assert runtime("exec", "conformance-update", "true", code=255).stderr


def test_a_mount_point_behind_a_dangling_link_is_made_inside(runtime: Runtime) -> None:
    rootfs = f"{runtime.directory}/rootfs"
    os.makedirs(f"{rootfs}/links")
    os.symlink("../../../made/by/link", f"{rootfs}/links/up")
    os.symlink("/made/by/name", f"{rootfs}/links/down")
    mounts = [{"destination": "/links/up/below", "type": "tmpfs", "source": "tmpfs"},
              {"destination": "/links/down", "type": "bind", "source": "/etc/hostname", "options": ["bind"]}]
    bundle = runtime.bundle("sh", "-c", "touch /made/by/link/below/x; ls /made/by/link/below /made/by", mounts=mounts)
    assert runtime("run", "--bundle", bundle, "conformance-link").stdout.split() == ["/made/by:", "link", "name", "/made/by/link/below:", "x"]
    assert not os.path.exists("/made")
    os.symlink("loop", f"{rootfs}/loop")
    bundle = runtime.bundle("true", mounts=[{"destination": "/loop/x", "type": "tmpfs", "source": "tmpfs"}])
    assert "mounts[0]" in runtime("run", "--bundle", bundle, "conformance-link", code=1).stderr


@pytest.mark.parametrize("user_namespace", [False, True])
def test_a_bind_may_have_what_was_mounted_before_as_its_source(runtime: Runtime, user_namespace: bool) -> None:
    rootfs = f"{runtime.directory}/rootfs"
    mappings = [{"containerID": 0, "hostID": 100000, "size": 65536}] if user_namespace else []
    namespaces = [{"type": kind} for kind in ("mount", "pid", "ipc", "uts", *(["user"] if user_namespace else []))]
    if user_namespace:
        subprocess.run(["chown", "-R", "100000:100000", rootfs], check=True)
        os.chmod(runtime.directory, 0o711)
    mounts = [{"destination": "/first", "type": "tmpfs", "source": "tmpfs"},
              {"destination": "/second", "type": "bind", "source": f"{rootfs}/first", "options": ["rbind"]},
              {"destination": f"{rootfs}/third", "type": "bind", "source": f"{rootfs}/second", "options": ["rbind"]}]
    bundle = runtime.bundle("sh", "-c", "touch /first/x; ls /second /third", mounts=mounts, linux={
        "namespaces": namespaces, "uidMappings": mappings, "gidMappings": mappings})
    assert runtime("run", "--bundle", bundle, "conformance-source").stdout.split() == ["/second:", "x", "/third:", "x"]


def test_prestart_hooks_are_told_that_the_container_was_created(runtime: Runtime) -> None:
    kinds = ("prestart", "createRuntime")
    bundle = runtime.bundle("true", hooks={kind: [hook(f"/bin/cat > {runtime.directory}/{kind}")] for kind in kinds})
    runtime("run", "--bundle", bundle, "conformance-hook")
    states = []
    for kind in kinds:
        with open(f"{runtime.directory}/{kind}") as stream:
            states.append(json.load(stream)["status"])
    assert states == ["created", "creating"]


NAMESPACES = [{"type": kind} for kind in ("mount", "pid", "ipc", "uts", "user")]


def test_a_user_namespace_without_mappings_has_the_ids_of_its_creator(runtime: Runtime) -> None:
    bundle = runtime.bundle("cat", "/proc/self/uid_map", linux={"namespaces": NAMESPACES})
    with open("/proc/self/uid_map") as stream:
        assert runtime("run", "--bundle", bundle, "conformance-userns").stdout.split() == stream.read().split()


def test_a_device_that_the_host_has_no_node_of_is_there_in_a_user_namespace(runtime: Runtime) -> None:
    mappings = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    subprocess.run(["chown", "-R", "100000:100000", f"{runtime.directory}/rootfs"], check=True)
    os.chmod(runtime.directory, 0o711)
    device = {"path": "/dev/other", "type": "c", "major": 1, "minor": 5, "fileMode": 0o644, "uid": 7, "gid": 8}
    bundle = runtime.bundle("sh", "-c", "stat -c '%a %u %g' /dev/other; head -c 3 /dev/other | od -An -tx1", linux={
        "namespaces": NAMESPACES, "uidMappings": mappings, "gidMappings": mappings, "devices": [device],
        "resources": {"devices": [{"allow": True, "type": "c", "major": 1, "minor": 5, "access": "r"}]}})
    assert runtime("run", "--bundle", bundle, "conformance-userns").stdout.split() == ["644", "7", "8", "00", "00", "00"]


def test_an_ambient_capability_that_cannot_be_is_a_warning(runtime: Runtime) -> None:
    sets = {kind: ["CAP_KILL"] for kind in ("bounding", "effective", "permitted", "inheritable")}
    bundle = runtime.bundle("grep", "CapAmb", "/proc/self/status", process={"capabilities": {**sets, "ambient": ["CAP_KILL", "CAP_CHOWN"]}})
    done = runtime("run", "--bundle", bundle, "conformance-ambient")
    assert done.stdout == f"CapAmb:\t{1 << 5:016x}\n"
    assert "can't raise ambient capability CAP_CHOWN: " in done.stderr and "CAP_KILL" not in done.stderr


def test_sets_of_capabilities_that_nobody_knows_are_passed_over(runtime: Runtime) -> None:
    """config.md "Extensibility": unknown properties are ignored."""
    runtime("run", "--bundle", runtime.bundle("true", process={"capabilities": {"future": 1, "bounding": ["CAP_KILL"]}}), "conformance-sets")


def test_ambient_capabilities_where_none_is_inheritable_are_left_out_without_a_word(runtime: Runtime) -> None:
    """buildah of Debian 12 makes every bundle so; runc of the time said nothing."""
    sets = {kind: ["CAP_CHOWN", "CAP_KILL"] for kind in ("bounding", "effective", "permitted", "ambient")}
    bundle = runtime.bundle("grep", "CapAmb", "/proc/self/status", process={"capabilities": sets})
    done = runtime("run", "--bundle", bundle, "conformance-ambient")
    assert (done.stdout, done.stderr) == (f"CapAmb:\t{0:016x}\n", "")


def test_a_container_may_be_without_a_cgroup_of_its_own(runtime: Runtime) -> None:
    """And its end is nobody else's: a path that is empty is not the root of a hierarchy."""
    bundle = runtime.bundle("sleep", "100")
    runtime("--cgroup-manager", "disabled", "run", "--detach", "--bundle", bundle, "conformance-nowhere")
    pid = runtime.state("conformance-nowhere")["pid"]
    with open(f"/proc/{pid}/cgroup") as theirs, open("/proc/self/cgroup") as ours:
        assert theirs.read() == ours.read()
    assert runtime("exec", "conformance-nowhere", "echo", "hello").stdout == "hello\n"
    runtime("delete", "--force", "conformance-nowhere")
    assert reap(pid) == -9


def test_recursive_attributes_are_those_of_a_new_file_system_too(runtime: Runtime) -> None:
    mounts = [{"destination": "/proc", "type": "proc"}, {"destination": "/x", "type": "tmpfs", "source": "tmpfs", "options": ["rro", "rnoexec"]}]
    bundle = runtime.bundle("grep", " /x ", "/proc/self/mountinfo", mounts=mounts)
    assert {"ro", "noexec"} <= set(runtime("run", "--bundle", bundle, "conformance-rro").stdout.split()[5].split(","))


@pytest.mark.parametrize("word", ["", "shared"])
def test_a_mount_that_is_shared_inside_stays_so(runtime: Runtime, word: str) -> None:
    source = f"{runtime.directory}/source"
    os.mkdir(source)
    mounts = [{"destination": "/proc", "type": "proc"}, {"destination": "/x", "source": source, "options": ["bind", "shared"]}]
    bundle = runtime.bundle("grep", " /x ", "/proc/self/mountinfo", mounts=mounts, linux={"rootfsPropagation": word} if word else {})
    assert runtime("run", "--bundle", bundle, "conformance-shared").stdout.split()[6].startswith("shared:")
    with open("/proc/self/mountinfo") as stream:
        assert runtime.directory not in stream.read()


def test_one_word_on_access_times_takes_back_all_others(runtime: Runtime) -> None:
    source = f"{runtime.directory}/source"
    os.mkdir(source)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noatime", "tmpfs", source], check=True)
    try:
        mounts = [{"destination": "/proc", "type": "proc"}, {"destination": "/x", "source": source, "options": ["bind", "nodiratime"]}]
        bundle = runtime.bundle("grep", " /x ", "/proc/self/mountinfo", mounts=mounts)
        assert set(runtime("run", "--bundle", bundle, "conformance-times").stdout.split()[5].split(",")) == {"rw", "nodiratime", "relatime"}
    finally:
        subprocess.run(["umount", source], check=True)


def test_what_was_mounted_before_is_mapped_as_well(runtime: Runtime) -> None:
    rootfs, mappings = f"{runtime.directory}/rootfs", [{"containerID": 0, "hostID": 1000, "size": 10}]
    mounts = [{"destination": "/proc", "type": "proc"}, {"destination": "/first", "type": "tmpfs", "source": "tmpfs"},
              {"destination": "/second", "source": f"{rootfs}/first", "options": ["bind"], "uidMappings": mappings, "gidMappings": mappings}]
    bundle = runtime.bundle("sh", "-c", "touch /first/x; stat -c %u /second/x", mounts=mounts)
    assert runtime("run", "--bundle", bundle, "conformance-mapped").stdout == "1000\n"


def test_the_hosts_sys_is_read_only_with_all_that_is_below_it(runtime: Runtime) -> None:
    subprocess.run(["chown", "-R", "100000:100000", f"{runtime.directory}/rootfs"], check=True)
    os.chmod(runtime.directory, 0o755)
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    kinds = ("pid", "ipc", "uts", "mount", "cgroup", "user")  # a new sysfs would be of the host's network namespace: EPERM
    linux = {"namespaces": [{"type": kind} for kind in kinds], "uidMappings": mapping, "gidMappings": mapping, "maskedPaths": []}
    mounts = [{"destination": "/proc", "type": "proc"},
              {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}]
    bundle = runtime.bundle("grep", " /sys", "/proc/self/mountinfo", mounts=mounts, linux=linux)
    lines = [line.split() for line in runtime("run", "--bundle", bundle, "conformance-sys").stdout.splitlines()]
    found = {line[4]: set(line[5].split(",")) for line in lines if line[4].startswith("/sys")}
    assert len(found) > 1
    assert [path for path, options in found.items() if not {"ro", "nosuid", "noexec", "nodev"}.issubset(options)] == []


def test_a_bundle_without_a_process_is_created_and_not_started(runtime: Runtime) -> None:
    path = runtime.bundle("true")
    with open(f"{path}/config.json") as stream:
        spec = json.load(stream)
    del spec["process"]
    with open(f"{path}/config.json", "w") as stream:
        json.dump(spec, stream)
    assert "process: missing" in runtime("run", "--bundle", path, "c", code=1).stderr
    runtime("create", "--bundle", path, "c")
    assert "config.json has no process" in runtime("start", "c", code=1).stderr
    assert runtime.status("c") == "created"
    assert runtime("exec", "--env", "PATH=/bin", "c", "echo", "yes").stdout == "yes\n"


@pytest.mark.needs("keyring")
def test_the_callers_session_keyring_stays_when_it_is_to(runtime: Runtime) -> None:
    script = "cat /proc/keys | grep -c mydocker-test-key"
    words = [PROGRAM, "--root", runtime.root, "run", "--bundle", runtime.bundle(
        "sh", "-c", script, linux={"maskedPaths": []})]
    for options, code in ((["--no-new-keyring", "a"], 0), (["b"], 1)):
        done = subprocess.run([sys.executable, "-c", _WITH_KEY, *words, *options], capture_output=True, text=True, check=False)
        assert done.returncode == code, done


#: Runs a program in a session keyring of its own that holds a key.
_WITH_KEY = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.syscall(250, 1, 0, 0, 0, 0) >= 0  # keyctl(KEYCTL_JOIN_SESSION_KEYRING)
key = libc.syscall(248, b"user", b"mydocker-test-key", b"x", 1, -3)  # add_key(2), to the session's
assert key >= 0 and libc.syscall(250, 5, key, 0x3f000000, 0, 0) == 0  # KEYCTL_SETPERM: for who possesses it only
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_without_pivot_root_the_root_is_the_containers_all_the_same(runtime: Runtime) -> None:
    path = runtime.bundle("sh", "-c", "ls -d /bin /var/tmp; readlink /proc/1/root; grep -c . /proc/self/mountinfo; sleep 1000")
    output = f"{runtime.directory}/output"
    with open(output, "w") as stream, subprocess.Popen(
            [PROGRAM, "--root", runtime.root, "run", "--no-pivot", "--bundle", path, "c"], stdout=stream, stderr=stream) as running:
        until(lambda: open(output).read().count("\n") >= 3, what="the container to look around")
        lines = open(output).read().split("\n")
        assert lines[0] == "/bin" and "/" in lines, lines
        assert runtime("exec", "c", "ls", "/").stdout == "".join(f"{name}\n" for name in sorted(
            set(os.listdir(json.load(open(f"{path}/config.json"))["root"]["path"]))))
        runtime("kill", "c", "KILL")
        running.wait()


def test_without_pivot_root_nothing_unmasked_of_the_hosts_is_below(runtime: Runtime) -> None:
    """What lies below is to be had with CAP_SYS_ADMIN: then there is no procfs in which nothing is hidden."""
    source = """
        #define _GNU_SOURCE
        #include <fcntl.h>
        #include <sched.h>
        #include <sys/mount.h>
        #include <unistd.h>
        int main(void) {
            int own = open("/proc/self/ns/mnt", O_RDONLY);
            if (own < 0 || umount2("/", MNT_DETACH) || setns(own, CLONE_NEWNS)) return 2;
            return !access("/escape", F_OK) ? 5 : !access("/proc/self", F_OK) ? 6 : 0;
        }"""
    path = runtime.bundle("/escape", process={"capabilities": {
        kind: ["CAP_SYS_ADMIN", "CAP_SYS_CHROOT"] for kind in ("bounding", "effective", "permitted")}})
    root = json.load(open(f"{path}/config.json"))["root"]["path"]
    subprocess.run(["gcc", "-static", "-xc", "-", "-o", f"{root}/escape"], input=source, text=True, check=True)
    runtime("run", "--no-pivot", "--bundle", path, "c")


def test_a_terminal_takes_much_input_while_the_command_writes(runtime: Runtime) -> None:
    """Each side waited for the other: the terminal takes no more input before its output was read."""
    count = 1_000_000
    path = runtime.bundle("sh", "-c", f"stty raw -echo; echo READY; head -c {count}", process={"terminal": True})
    words = [PROGRAM, "--root", runtime.root, "run", "--bundle", path, "c"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None and running.stdout is not None
        assert running.stdout.readline() == b"READY\n"
        try:
            out, _ = running.communicate(b"y" * count, timeout=15 * PATIENCE)
        except subprocess.TimeoutExpired:
            running.kill()
            raise
    assert out == b"y" * count and running.returncode == 0
