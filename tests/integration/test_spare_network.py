"""A network namespace that was made ahead: the container has it for itself, with its loopback up, and the host keeps its own."""
from __future__ import annotations

import os

import pytest
from harness import Mydocker

from mydocker import Engine

pytestmark = [pytest.mark.needs("root", "overlay", "netns")]


def test_each_container_has_a_network_of_its_own_with_loopback_up(engine: Engine, busybox: str) -> None:
    names = [f"c{number}" for number in range(4)]
    for name in names:
        engine.containers.run(busybox, ["sleep", "1000"], name=name, detach=True, network="none")
    containers = [engine.containers.get(name) for name in names]
    namespaces = {os.readlink(f"/proc/{container.pid}/ns/net") for container in containers}
    assert len({*namespaces, os.readlink("/proc/self/ns/net")}) == 5
    for container in containers:
        shown = container.exec(["ip", "addr", "show", "lo"]).stdout.decode()
        assert "LOOPBACK,UP" in shown and "inet 127.0.0.1/8" in shown
        assert container.exec(["ls", "/sys/class/net"]).stdout == b"lo\n"


def test_host_network_is_the_hosts_also_from_a_spare(engine: Engine, busybox: str) -> None:
    engine.containers.run(busybox, ["true"], rm=True)
    output = engine.containers.run(busybox, ["readlink", "/proc/self/ns/net"], rm=True, network="host").output
    assert output is not None
    assert output[0].decode().strip() == os.readlink("/proc/self/ns/net")


def test_monitor_stays_in_the_hosts_network(engine: Engine, mydocker: Mydocker, busybox: str) -> None:
    engine.containers.run(busybox, ["true"], rm=True)
    engine.containers.run(busybox, ["sleep", "1000"], name="c", detach=True)
    assert os.readlink(f"/proc/{mydocker.monitor_of('c')}/ns/net") == os.readlink("/proc/self/ns/net")
