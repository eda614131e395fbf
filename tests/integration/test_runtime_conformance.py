"""What the conformance suites of other runtimes ask of `mydocker-runtime`, told as tests of our own (docs/conformance.md)."""
from __future__ import annotations

import json
import os
import subprocess

import pytest
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
