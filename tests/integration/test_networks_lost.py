"""A machine that changes under a state root, and a state root that is deleted from the machine."""
from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from harness import Mydocker, until
from network_rig import Machine, Server, address_of, make_network, start

from mydocker.base.paths import Layout
from mydocker.network import firewall
from mydocker.network.bridge import cable_name
from mydocker.network.store import NetworkStore

pytestmark = pytest.mark.needs("root", "netns", "nft", "ip", "nsenter", "bridges")


@pytest.fixture
def second(root_with_images: str, scratch: str, machine: Machine) -> Iterator[Mydocker]:
    """Another state root on the same machine, which may be deleted."""
    subprocess.run(["cp", "-a", f"{root_with_images}/.", f"{scratch}/root"], check=True)
    other = Mydocker(f"{scratch}/root")
    other.argv = ["nsenter", f"--net={machine.path}", *other.argv]
    yield other
    if os.path.isdir(other.root):
        other.destroy()


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


def test_another_state_roots_network_that_nobody_is_on_stays(
    mydocker: Mydocker, second: Mydocker, machine: Machine
) -> None:
    start(second, "c")
    second("rm", "-f", "c")
    mydocker("network", "prune", "-f")
    assert NetworkStore(Layout(second.root)).load("bridge").bridge in machine.run("ip", "-o", "link")


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


@pytest.mark.slow
@pytest.mark.time_limit(120)
def test_two_state_roots_that_make_twenty_networks_each_at_once_get_forty_subnets(
    mydocker: Mydocker, second: Mydocker, machine: Machine
) -> None:
    both = [(root, f"n{number}") for number in range(20) for root in (mydocker, second)]

    def make(one: tuple[Mydocker, str]) -> str:
        root, name = one
        return root("network", "create", name, timeout_s=60).err + root(
            "run", "-d", "--name", name, "--network", name, "busybox", "sleep", "1000", timeout_s=60).err

    with ThreadPoolExecutor(len(both)) as pool:
        assert set(pool.map(make, both)) == {""}
    networks = [NetworkStore(Layout(root.root)).load(name) for root, name in both]
    assert len({network.ipv4.text for network in networks}) == len(both)
    for (root, name), network in zip(both, networks, strict=True):
        assert network.ipv4.contains(socket.inet_aton(address_of(root, name)))
    assert machine.run("ip", "-o", "link", "show", "type", "bridge").count("\n") == len(both)


@pytest.mark.parametrize("options", [[], ["--subnet", "10.213.1.0/24"]], ids=["chosen", "given"])
def test_a_subnet_that_another_state_root_takes_in_the_last_moment(
    mydocker: Mydocker, second: Mydocker, machine: Machine, options: list[str]
) -> None:
    with mydocker.popen("network", "create", *options, "late", env={"MYDOCKER_TRACE": "wrote unfinished network=stop"}) as late:
        try:
            until(lambda: is_stopped(late.pid))
            second("network", "create", *options, "early")
            mydocker("ps")  # waits for nobody, and takes away nothing of whoever is alive
            assert NetworkStore(Layout(mydocker.root)).names() == []
        finally:
            os.kill(late.pid, signal.SIGCONT)
        _, error = late.communicate(timeout=30)
    taken = NetworkStore(Layout(second.root)).load("early").ipv4
    if options:
        assert late.returncode == 125 and f"subnet {taken.text} of network late is that of another network on this machine" in error.decode()
        assert b"choose another subnet" in error
        assert not [entry for entry in os.listdir(f"{mydocker.root}/network") if entry.endswith((".json", ".tmp"))]
        assert machine.run("ip", "-o", "link", "show", "type", "bridge").count("\n") == 1
        # Who comes later is told before anything is made.
        line = mydocker("network", "create", *options, "late", code=125).one_error_line()
        assert "overlaps 10.213.1." in line and "in use by this machine" in line
    else:
        assert late.returncode == 0
        moved = NetworkStore(Layout(mydocker.root)).load("late").ipv4
        assert moved.text != taken.text
        assert moved.contains(socket.inet_aton(address_of_new(mydocker, "late")))


def is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", "rb") as stream:
        return stream.read().rpartition(b")")[2].split()[0] == b"T"


def address_of_new(mydocker: Mydocker, network: str) -> str:
    """Return the address of a new container on a network."""
    start(mydocker, "new", "--network", network)
    return address_of(mydocker, "new")


def test_a_network_that_a_reboot_took_the_bridge_of_comes_back_unless_its_subnet_is_taken(
    mydocker: Mydocker, second: Mydocker, machine: Machine
) -> None:
    mydocker("network", "create", "net")
    network = NetworkStore(Layout(mydocker.root)).load("net")

    def reboot() -> None:
        machine.run("ip", "link", "del", network.bridge)
        machine.run("ip", "link", "del", cable_name(network, 1))

    reboot()
    assert network.ipv4.contains(socket.inet_aton(address_of_new(mydocker, "net")))
    mydocker("rm", "-f", "new")
    reboot()
    second("network", "create", "--subnet", network.ipv4.text, "faster")
    line = mydocker("run", "--network", "net", "busybox", "true", code=125).one_error_line()
    assert f"subnet {network.ipv4.text} of network net is that of another network on this machine" in line
    assert network.bridge not in machine.run("ip", "-o", "link")
    mydocker("network", "rm", "net")
    mydocker("network", "create", "net")
    start(mydocker, "c", "--network", "net")


def test_a_deleted_state_roots_network_that_never_had_a_container_goes_too(
    mydocker: Mydocker, second: Mydocker, machine: Machine
) -> None:
    second("network", "create", "net")
    shutil.rmtree(second.root)
    assert "mb" in machine.run("ip", "-o", "link")
    mydocker("network", "prune", "-f")
    assert "mb" not in machine.run("ip", "-o", "link")


@pytest.mark.parametrize(("point", "words"), [
    ("claimed subnet", ["network", "create", "--subnet", "10.213.1.0/24", "net"]),
    ("made bridge", ["network", "create", "--subnet", "10.213.1.0/24", "net"]),
    ("made bridge", ["run", "busybox", "true"]),
])
def test_what_was_killed_in_making_a_bridge_goes_though_its_state_root_was_deleted(
    mydocker: Mydocker, second: Mydocker, machine: Machine, point: str, words: list[str]
) -> None:
    second(*words, env={"MYDOCKER_TRACE": f"{point}=kill"}, code=None)
    assert "mb" in machine.run("ip", "-o", "link")
    shutil.rmtree(second.root)
    mydocker("network", "create", "--subnet", "10.213.1.0/24", "net")
    assert machine.run("ip", "-o", "link", "show", "type", "bridge").count("\n") == 1


def test_what_was_killed_in_making_a_bridge_goes_though_its_journal_was_swept_in_another_namespace(
    mydocker: Mydocker, machine: Machine
) -> None:
    create = ("network", "create", "--subnet", "10.213.1.0/24", "net")
    mydocker(*create, env={"MYDOCKER_TRACE": "claimed subnet=kill"}, code=None)
    Mydocker(mydocker.root)("ps")
    assert not [entry for entry in os.listdir(f"{mydocker.root}/network") if entry.endswith(".tmp")]
    assert "mb" in machine.run("ip", "-o", "link")
    mydocker(*create)
    assert machine.run("ip", "-o", "link", "show", "type", "bridge").count("\n") == 1


def test_a_network_that_gets_its_name_while_another_state_root_looks_for_orphans_keeps_its_bridge(
    mydocker: Mydocker, second: Mydocker, machine: Machine
) -> None:
    with stopped_at("named network", mydocker, "network", "create", "net") as create:
        with stopped_at("listed bridges", second, "network", "prune", "-f") as prune:
            assert go_on(create) == ""
            assert go_on(prune) == ""
    network = NetworkStore(Layout(mydocker.root)).load("net")
    assert network.bridge in machine.run("ip", "-o", "link")
    assert f"alias mydocker {mydocker.root}/network/net.json" in machine.run("ip", "link", "show", network.bridge)


@pytest.mark.parametrize(("point", "large", "small"), [
    ("wrote unfinished network", "10.213.0.0/16", "10.213.5.0/24"), ("made bridge", "10.213.0.0/16", "10.213.5.0/24"),
    ("saw subnet free", "10.213.0.0/16", "10.213.5.0/24"),
    ("wrote unfinished network", "fd13:213::/48", "fd13:213:0:5::/64"), ("saw subnet free", "fd13:213::/48", "fd13:213:0:5::/64"),
])
def test_of_two_state_roots_that_want_subnets_that_overlap_at_once_one_gets_it(
    mydocker: Mydocker, second: Mydocker, machine: Machine, point: str, large: str, small: str
) -> None:
    with stopped_at(point, mydocker, "network", "create", "--subnet", large, "late") as late:
        second("network", "create", "--subnet", small, "early")
        assert f"subnet {large} of network late overlaps that of another network on this machine" in go_on(late)
    assert late.returncode == 125
    assert not [entry for entry in os.listdir(f"{mydocker.root}/network") if entry.endswith((".json", ".tmp"))]
    (left,) = machine.run("ip", "-o", "link", "show", "type", "bridge").splitlines()
    assert NetworkStore(Layout(second.root)).load("early").bridge in left


def test_a_network_of_which_another_state_root_takes_a_part_moves_on(
    mydocker: Mydocker, second: Mydocker, machine: Machine
) -> None:
    mydocker("network", "create", "probe")
    chosen = NetworkStore(Layout(mydocker.root)).load("probe").ipv4
    mydocker("network", "rm", "probe")
    with stopped_at("wrote unfinished network", mydocker, "network", "create", "late") as late:
        second("network", "create", "--subnet", chosen.text.replace("/16", "/24"), "early")
        assert go_on(late) == ""
    moved = NetworkStore(Layout(mydocker.root)).load("late").ipv4
    assert not chosen.contains(moved.packed)
    assert moved.contains(socket.inet_aton(address_of_new(mydocker, "late")))


@contextmanager
def stopped_at(point: str, mydocker: Mydocker, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Begin a command that stands still at a trace point, until `go_on`."""
    with mydocker.popen(*words, env={"MYDOCKER_TRACE": f"{point}=stop"}) as command:
        try:
            until(lambda: is_stopped(command.pid))
            yield command
        finally:
            if command.poll() is None:
                command.kill()


def go_on(command: subprocess.Popen[bytes]) -> str:
    """Let a command that stands still come to its end, and return what it says of errors."""
    os.kill(command.pid, signal.SIGCONT)
    return command.communicate(timeout=30)[1].decode()
