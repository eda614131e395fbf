"""kill -9 while a container that publishes a port is made: the port is free again, and no rule leads to where it was to be."""
from __future__ import annotations

import pytest
from harness import Mydocker, until
from network_rig import free_port

from mydocker.base.paths import Layout
from mydocker.linux.nft import Tables
from mydocker.network import firewall

pytestmark = pytest.mark.needs("root", "netns", "nft", "overlay")


def elements(mydocker: Mydocker) -> list[str]:
    table = firewall.table_name(Layout(mydocker.root))
    with Tables() as tables:
        return [firewall.describe(element, name) for name in firewall.MAPS for element in tables.elements(table, name)]


@pytest.mark.parametrize("point", ["listening", "cloned init", "connected networks", "recorded created", "published ports"])
def test_a_stage_killed_at_any_point_leaves_no_port(mydocker: Mydocker, busybox: str, point: str) -> None:
    port = free_port()
    words = ("run", "-d", "--name", "web", "-p", f"{port}:80", busybox, "sleep", "1000")
    mydocker(*words, env={"MYDOCKER_TRACE": f"{point}=kill"}, code=None)
    mydocker("ps")
    until(lambda: mydocker.rows() == {})
    assert elements(mydocker) == []
    mydocker(*words)
    assert elements(mydocker) == [f"127.0.0.1:{port}/tcp"]


@pytest.mark.parametrize("point", ["forked stage", "heard of the start"])
def test_a_command_killed_behind_its_stage_leaves_the_container_and_its_port_together(
    mydocker: Mydocker, busybox: str, point: str
) -> None:
    port = free_port()
    mydocker("run", "-d", "--name", "web", "-p", f"{port}:80", busybox, "sleep", "1000",
             env={"MYDOCKER_TRACE": f"{point}=kill"}, code=None)
    until(lambda: mydocker.rows().get("web", {}).get("STATUS") == "running")
    assert elements(mydocker) == [f"127.0.0.1:{port}/tcp"]
    mydocker("rm", "-f", "web")
    assert elements(mydocker) == []


@pytest.mark.parametrize("point", ["removed cgroup", "renamed to trash", "discarded"])
def test_a_removal_killed_halfway_is_finished_by_the_next_command(mydocker: Mydocker, busybox: str, point: str) -> None:
    port = free_port()
    mydocker("run", "-d", "--name", "web", "-p", f"{port}:80", busybox, "sleep", "1000")
    mydocker("rm", "-f", "web", env={"MYDOCKER_TRACE": f"{point}=kill"}, code=None)
    until(lambda: "web" not in mydocker.rows() or mydocker("rm", "-f", "web", code=None).code == 0)
    assert elements(mydocker) == []
    mydocker("run", "--rm", "-p", f"{port}:80", busybox, "true")
