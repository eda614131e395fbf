"""What the conformance suites of other runtimes ask of `mydocker-runtime`, told as tests of our own (docs/conformance.md)."""
from __future__ import annotations

import os

from runtime_rig import Runtime

# ---- crun's words on the command line

def test_run_takes_its_configuration_from_another_file_and_from_crun_who_makes_the_cgroup(runtime: Runtime) -> None:
    bundle = runtime.bundle("echo", "hello")
    os.mkdir(f"{bundle}/below")
    os.rename(f"{bundle}/config.json", f"{bundle}/below/other.json")
    arguments = ("run", "--bundle", bundle, "--config", "below/other.json", "conformance-config")
    assert runtime("--cgroup-manager", "cgroupfs", *arguments).stdout == "hello\n"
    assert "cgroup-manager" in runtime("--cgroup-manager", "nobody", *arguments, code=1).stderr
