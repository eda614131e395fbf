"""Networks on a device of the machine's: macvlan and ipvlan. The device is an end of a cable whose other end is a machine of the test's."""
from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from harness import Mydocker, until

pytestmark = [pytest.mark.needs("root", "overlay", "netns", "ip")]

DRIVERS = [pytest.param(driver, marks=pytest.mark.needs(driver)) for driver in ("macvlan", "ipvlan")]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def parent() -> Iterator[str]:
    """A device whose other end, 10.216.0.1, is in a network namespace of its own."""
    name, space = f"tp{os.getpid() % 10000}", f"mydocker-test-{os.getpid()}"
    ip("netns", "add", space)
    ip("link", "add", name, "type", "veth", "peer", "name", "far", "netns", space)
    ip("link", "set", name, "up")
    ip("-n", space, "addr", "add", "10.216.0.1/24", "dev", "far")
    ip("-n", space, "link", "set", "far", "up")
    yield name
    ip("link", "del", name)
    ip("netns", "del", space)


def address_of(mydocker: Mydocker, name: str) -> str:
    return mydocker("exec", name, "ip", "-o", "-4", "addr", "show", "eth0").out.split()[3].partition("/")[0]


@pytest.mark.parametrize("driver", DRIVERS)
def test_containers_are_neighbours_of_the_machines_neighbours(mydocker: Mydocker, busybox: str, parent: str, driver: str) -> None:
    mydocker("network", "create", "-d", driver, "--subnet", "10.216.0.0/24", "-o", f"parent={parent}", "lan")
    for name in ("a", "b"):
        mydocker("run", "-d", "--name", name, "--network", "lan", busybox, "sleep", "1000")
    assert "default via 10.216.0.1" in mydocker("exec", "a", "ip", "route").out
    for target in ("10.216.0.1", address_of(mydocker, "b")):
        mydocker("exec", "a", "ping", "-c1", "-W3", target)
    assert "in use by a, b" in mydocker("network", "rm", "lan", code=125).one_error_line()
    mydocker("network", "disconnect", "lan", "a")
    assert "eth0" not in mydocker("exec", "a", "ip", "link").out
    mydocker("network", "connect", "--ip", "10.216.0.77", "lan", "a")
    mydocker("exec", "b", "ping", "-c1", "-W3", "10.216.0.77")
    mydocker("rm", "-f", "a", "b")
    mydocker("network", "rm", "lan")


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_kernel_keeps_two_from_one_address(mydocker: Mydocker, busybox: str, parent: str, driver: str) -> None:
    mydocker("network", "create", "-d", driver, "--subnet", "10.216.0.0/29", "-o", f"parent={parent}", "lan")
    mydocker("run", "-d", "--name", "c0", "--network", "lan", "--ip", "10.216.0.3", busybox, "sleep", "1000")
    assert "address 10.216.0.3 of network lan is in use" in mydocker(
        "run", "--rm", "--network", "lan", "--ip", "10.216.0.3", busybox, "true", code=125).one_error_line()
    started = [mydocker.popen("run", "-d", "--name", f"c{number}", "--network", "lan", busybox, "sleep", "1000") for number in range(1, 5)]
    for process in started:
        assert process.wait() == 0, process.communicate()
        process.communicate()
    assert {address_of(mydocker, f"c{number}") for number in range(5)} == {f"10.216.0.{number}" for number in range(2, 7)}
    assert "has no free address left" in mydocker("run", "--rm", "--network", "lan", busybox, "true", code=125).one_error_line()
    mydocker("rm", "-f", "c0")
    until(lambda: mydocker("run", "--rm", "--network", "lan", "--ip", "10.216.0.3", busybox, "true", code=None).code == 0)


@pytest.mark.needs("ipvlan")
def test_ipvlan_in_layer_3_has_no_gateway(mydocker: Mydocker, busybox: str, parent: str) -> None:
    mydocker("network", "create", "-d", "ipvlan", "--subnet", "10.216.0.0/24", "-o", f"parent={parent}", "-o", "ipvlan_mode=l3", "lan")
    mydocker("run", "-d", "--name", "a", "--network", "lan", busybox, "sleep", "1000")
    mydocker("run", "-d", "--name", "b", "--network", "lan", busybox, "sleep", "1000")
    assert "default dev eth0" in mydocker("exec", "a", "ip", "route").out
    mydocker("exec", "a", "ping", "-c1", "-W3", address_of(mydocker, "b"))


def test_a_parent_that_is_not_there_is_told(mydocker: Mydocker, busybox: str, parent: str) -> None:
    assert "no network device nosuch" in mydocker(
        "network", "create", "-d", "macvlan", "--subnet", "10.216.0.0/24", "-o", "parent=nosuch", "lan", code=125).one_error_line()


def test_a_kernel_without_the_driver_says_so(mydocker: Mydocker, busybox: str, parent: str) -> None:
    mydocker("network", "create", "-d", "macvlan", "--subnet", "10.216.0.0/24", "-o", f"parent={parent}", "lan")
    done = mydocker("run", "--rm", "--network", "lan", busybox, "true", code=None)
    assert done.code == 0 or "this kernel has no macvlan" in done.one_error_line()
