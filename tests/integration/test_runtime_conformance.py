"""What the conformance suites of other runtimes ask of `mydocker-runtime`, told as tests of our own (docs/conformance.md)."""
from __future__ import annotations

import os

import pytest
from runtime_rig import Runtime

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
    namespaces = [{"type": kind} for kind in ("mount", "pid", "ipc")]
    for path in ({}, {"path": "/proc/self/ns/net"}):
        both = [*namespaces, {"type": "network", **path}] if path else namespaces
        bundle = runtime.bundle("true", linux={"sysctl": {"net.ipv4.ip_forward": "0"}, "namespaces": both})
        assert "net.ipv4.ip_forward" in runtime("run", "--bundle", bundle, "conformance-sysctl", code=1).stderr
    bundle = runtime.bundle("cat", "/proc/sys/kernel/msgmax", linux={"sysctl": {"kernel.msgmax": "8000"}, "namespaces": namespaces})
    assert runtime("run", "--bundle", bundle, "conformance-sysctl").stdout == "8000\n"
