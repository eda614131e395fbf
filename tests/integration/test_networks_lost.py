"""A machine that changes under a state root, and a state root that is deleted from the machine."""
from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import Mydocker
from network_rig import Machine, Server, address_of, make_network, start

from mydocker.base.paths import Layout
from mydocker.network import firewall
from mydocker.network.store import NetworkStore

pytestmark = pytest.mark.needs("root", "netns", "nft", "ip", "nsenter", "bridges")


@pytest.fixture
def second(root_with_images: str, scratch: str, machine: Machine) -> Mydocker:
    """Another state root on the same machine, which may be deleted."""
    subprocess.run(["cp", "-a", f"{root_with_images}/.", f"{scratch}/root"], check=True)
    other = Mydocker(f"{scratch}/root")
    other.argv = ["nsenter", f"--net={machine.path}", *other.argv]
    return other


def test_the_default_network_moves_where_the_machine_has_come_to_use_its_subnet(mydocker: Mydocker, machine: Machine) -> None:
    start(mydocker, "before")
    network = NetworkStore(Layout(mydocker.root)).load("bridge")
    machine.run("ip", "link", "add", "vpn0", "type", "bridge")
    machine.run("ip", "link", "set", "vpn0", "up")
    machine.run("ip", "route", "add", network.ipv4.text.replace("/16", "/17"), "dev", "vpn0")
    # As long as containers are there it stays where it is.
    start(mydocker, "meanwhile")
    assert NetworkStore(Layout(mydocker.root)).load("bridge") == network
    mydocker("stop", "-t", "0", "before", "meanwhile")
    mydocker("network", "prune", "-f")
    mydocker("start", "before")
    moved = NetworkStore(Layout(mydocker.root)).load("bridge")
    assert moved.id == network.id and moved.ipv4.text != network.ipv4.text
    assert moved.ipv4.contains(bytes(map(int, address_of(mydocker, "before").split("."))))
    with Server(start(mydocker, "after"), 80):
        assert machine.ask(address_of(mydocker, "after"), 80)


@pytest.mark.parametrize("how", ["create", "prune", "first container"])
def test_what_a_deleted_state_root_left_goes_when_somebody_needs_a_subnet(
    mydocker: Mydocker, second: Mydocker, machine: Machine, how: str
) -> None:
    make_network(second, "net", ipv6=True)
    start(second, "c", "--network", "bridge", "--network", "net")
    names = [NetworkStore(Layout(second.root)).load(name).bridge for name in ("bridge", "net")]
    second("rm", "-f", "c")
    shutil.rmtree(second.root)
    assert all(name in machine.run("ip", "-o", "link") for name in names)
    if how == "first container":
        start(mydocker, "mine")
    else:
        mydocker("network", *({"create": ["create", "x"], "prune": ["prune", "-f"]}[how]))
    left = machine.run("ip", "-o", "link")
    assert not any(name[2:] in left for name in names), left
    assert firewall.table_of(second.root) not in machine.run("nft", "list", "tables")


def test_a_state_root_that_was_deleted_with_its_containers_alive_keeps_them_connected(
    mydocker: Mydocker, second: Mydocker, machine: Machine, scratch: str
) -> None:
    inside, pid = start(second, "c"), second.pid_of("c")
    address = address_of(second, "c")
    shutil.move(second.root, f"{scratch}/aside")
    try:
        with Server(inside, 80):
            mydocker("network", "prune", "-f")
            assert machine.ask(address, 80)
    finally:
        shutil.move(f"{scratch}/aside", second.root)
        assert second.pid_of("c") == pid
        second.destroy()


def test_a_state_root_deleted_and_made_again_uses_the_same_subnet(mydocker: Mydocker, second: Mydocker, machine: Machine) -> None:
    start(second, "c")
    old = NetworkStore(Layout(second.root)).load("bridge")
    second("rm", "-f", "c")
    shutil.rmtree(f"{second.root}/network")
    os.mkdir(f"{second.root}/network", 0o700)
    start(second, "c")
    new = NetworkStore(Layout(second.root)).load("bridge")
    assert new.id != old.id and new.ipv4.text == old.ipv4.text
    assert old.bridge not in machine.run("ip", "-o", "link")
    second.destroy()


def test_another_state_roots_network_that_nobody_is_on_stays(
    mydocker: Mydocker, second: Mydocker, machine: Machine
) -> None:
    start(second, "c")
    second("rm", "-f", "c")
    mydocker("network", "prune", "-f")
    assert NetworkStore(Layout(second.root)).load("bridge").bridge in machine.run("ip", "-o", "link")
    second.destroy()


def test_twenty_first_starts_at_once_make_one_default_network(mydocker: Mydocker, machine: Machine) -> None:
    with ThreadPoolExecutor(20) as pool:
        results = [*pool.map(lambda number: mydocker("run", "-d", "busybox", "sleep", "1000", timeout_s=50).err, range(20))]
    assert set(results) == {""}
    assert machine.run("ip", "-o", "link", "show", "type", "bridge").count("\n") == 1
    assert len({address_of(mydocker, name) for name in mydocker.rows()}) == 20


def test_two_state_roots_that_chose_the_same_subnet_do_not_get_it_both(
    mydocker: Mydocker, second: Mydocker, machine: Machine
) -> None:
    networks = NetworkStore(Layout(mydocker.root)), NetworkStore(Layout(second.root))
    mydocker("network", "ls")
    second("network", "ls")
    assert networks[0].load("bridge").ipv4.text == networks[1].load("bridge").ipv4.text
    start(mydocker, "one")
    start(second, "other")
    first, other = (store.load("bridge") for store in networks)
    assert first.ipv4.text != other.ipv4.text
    # What somebody has chosen is not moved, but refused.
    with networks[1].lock():
        networks[1].add(first.replace(id="0123456789ab", name="same"))
    line = second("run", "--network", "same", "busybox", "true", code=125).one_error_line()
    assert f"subnet {first.ipv4.text} of network same is that of another network on this machine" in line
    assert "mb01234567" not in machine.run("ip", "-o", "link")
    second.destroy()
