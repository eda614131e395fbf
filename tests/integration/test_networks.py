"""Networks made, listed, joined, left and removed, with the command and from Python."""
from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest
from harness import Mydocker, network_links

from mydocker import Conflict, Engine, NotFound
from mydocker.linux.netlink import format_address
from mydocker.network import ipam
from mydocker.network.model import Network

pytestmark = [pytest.mark.needs("root", "overlay", "bridges")]


def inspect(mydocker: Mydocker, name: str) -> dict[str, Any]:
    documents: list[dict[str, Any]] = json.loads(mydocker("network", "inspect", name).out)
    return documents[0]


def addresses(mydocker: Mydocker, name: str) -> dict[str, str]:
    """Return the IPv4 address of each device inside."""
    lines = mydocker("exec", name, "ip", "-o", "-4", "addr").out.splitlines()
    return {line.split()[1]: line.split()[3] for line in lines}


def bridge_exists(network: Network) -> bool:
    return os.path.exists(f"/sys/class/net/{network.bridge}")


def test_the_default_network_is_listed_before_anybody_used_it(mydocker: Mydocker) -> None:
    lines = mydocker("network", "ls").out.splitlines()
    assert lines[0].split() == ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]
    assert [line.split()[-3:] for line in lines[1:]] == [
        ["bridge", "bridge", "local"], ["host", "host", "local"], ["none", "null", "local"]]
    assert mydocker("network", "ls", "--filter", "type=custom").out.count("\n") == 1
    assert mydocker("network", "ls", "-f", "driver=bridge", "--format", "{{.Name}} {{.Driver}}").out == "bridge bridge\n"


def test_a_network_lives_from_create_to_rm(mydocker: Mydocker, busybox: str) -> None:
    made = mydocker("network", "create", "--subnet", "10.214.1.0/24", "--ip-range", "10.214.1.64/26", "--label", "a=b", "net").out.strip()
    document = inspect(mydocker, "net")
    assert (document["Id"], document["Driver"], document["Labels"]) == (made, "bridge", {"a": "b"})
    assert document["IPAM"]["Config"] == [{"Subnet": "10.214.1.0/24", "Gateway": "10.214.1.1", "IPRange": "10.214.1.64/26"}]
    assert mydocker("network", "ls", "-q", "-f", "label=a=b").out.strip() == made
    mydocker("run", "-d", "--name", "c", "--network", made[:6], busybox, "sleep", "1000")
    (member,) = inspect(mydocker, "net")["Containers"].values()
    assert member["Name"] == "c" and 64 <= int(member["IPv4Address"].split("/")[0].rpartition(".")[2]) < 128
    assert "in use by c" in mydocker("network", "rm", "net", code=125).one_error_line()
    mydocker("rm", "-f", "c")
    assert mydocker("network", "rm", "net").out == "net\n"
    assert not os.path.exists(f"/sys/class/net/mb{made[:8]}")
    assert "no network net" in mydocker("network", "rm", "net", code=125).one_error_line()
    assert mydocker("network", "rm", "-f", "net").out == ""


@pytest.mark.needs("ip")
def test_a_network_has_its_bridge_with_gateways_and_subnet_before_any_container(mydocker: Mydocker, engine: Engine) -> None:
    for name, options in {"plain": [], "closed": ["--internal", "--ipv6"]}.items():
        mydocker("network", "create", *options, name)
        network = engine.networks.get(name)
        shown = subprocess.run(["ip", "addr", "show", ipam.subnet_name(network.ipv4)], capture_output=True, text=True, check=True).stdout
        assert f"{network.bridge}:" in shown
        for subnet in network.subnets:
            assert f"{format_address(subnet.gateway)}/{subnet.prefix} " in shown
        assert len(network.subnets) == (2 if options else 1)
        mydocker("network", "rm", name)
        assert network.id[:8] not in "".join(network_links())


def test_subnets_that_overlap_are_refused_and_free_ones_chosen(mydocker: Mydocker, engine: Engine) -> None:
    engine.networks.create("one", subnet="10.214.2.0/24")
    assert "overlaps that of network one" in mydocker(
        "network", "create", "--subnet", "10.214.2.128/25", "two", code=125).one_error_line()
    chosen = [engine.networks.create(f"auto{number}").ipv4 for number in range(3)]
    assert len({subnet.text for subnet in chosen}) == 3
    with pytest.raises(Conflict):
        engine.networks.create("one")


def test_a_subnet_of_the_machine_is_refused(mydocker: Mydocker, engine: Engine) -> None:
    used = engine.networks.create("probe", subnet="10.214.9.0/24")
    with engine.containers.run("busybox", ["sleep", "1000"], detach=True, network="probe"):
        os.unlink(f"{mydocker.root}/network/probe.json")  # now it is only the machine's
        message = mydocker("network", "create", "--subnet", "10.214.9.0/25", "two", code=125).one_error_line()
        assert "overlaps 10.214.9" in message and "in use by this machine" in message
        from mydocker.network.store import NetworkStore

        NetworkStore(engine.layout).add(used)


def test_a_running_container_joins_and_leaves(mydocker: Mydocker, busybox: str) -> None:
    mydocker("network", "create", "--subnet", "10.214.3.0/24", "one")
    mydocker("network", "create", "--subnet", "10.214.4.0/24", "--ipv6", "two")
    mydocker("run", "-d", "--name", "c", "--network", "one", busybox, "sleep", "1000")
    mydocker("network", "connect", "--ip", "10.214.4.9", "two", "c")
    found = addresses(mydocker, "c")
    assert found["eth1"] == "10.214.4.9/24" and found["eth0"].startswith("10.214.3.")
    assert "10.214.4.9" in mydocker("exec", "c", "cat", "/etc/hosts").out
    assert "is on network two already" in mydocker("network", "connect", "two", "c", code=125).one_error_line()
    assert "default via 10.214.3.1" in mydocker("exec", "c", "ip", "route").out
    mydocker("network", "disconnect", "one", "c")
    assert addresses(mydocker, "c").keys() == {"lo", "eth1"}
    assert "default via 10.214.4.1" in mydocker("exec", "c", "ip", "route").out
    assert "10.214.3." not in mydocker("exec", "c", "cat", "/etc/hosts").out
    assert "is not on network one" in mydocker("network", "disconnect", "one", "c", code=125).one_error_line()
    mydocker("restart", "-t", "0", "c")
    assert addresses(mydocker, "c") == {"lo": "127.0.0.1/8", "eth0": "10.214.4.9/24"}


def test_an_ended_container_joins_with_its_next_start(mydocker: Mydocker, busybox: str) -> None:
    mydocker("network", "create", "--subnet", "10.214.5.0/24", "one")
    mydocker("network", "create", "--subnet", "10.214.6.0/24", "two")
    mydocker("run", "--name", "c", "--network", "one", busybox, "true")
    mydocker("network", "connect", "two", "c")
    mydocker("network", "disconnect", "one", "c")
    mydocker("start", "c")
    assert "10.214.6." in mydocker("run", "--rm", "--network", "one", "--network", "two", busybox, "ip", "-o", "addr").out


def test_a_created_container_has_its_networks_before_its_command_runs(mydocker: Mydocker, busybox: str) -> None:
    mydocker("network", "create", "--subnet", "10.214.7.0/24", "one")
    mydocker("create", "--name", "c", "--network", "bridge", busybox, "ip", "-o", "-4", "addr")
    mydocker("network", "connect", "one", "c")
    mydocker("start", "-a", "c")
    assert "10.214.7." in mydocker("logs", "c").out


def test_a_container_whose_device_names_are_taken_joins_all_the_same(mydocker: Mydocker, busybox: str) -> None:
    mydocker("network", "create", "--subnet", "10.214.8.0/24", "one")
    mydocker("run", "-d", "--name", "c", "--network", "bridge", "--cap-add", "NET_ADMIN", busybox, "sleep", "1000")
    mydocker("exec", "c", "ip", "link", "add", "eth1", "type", "bridge")
    mydocker("network", "connect", "one", "c")
    assert addresses(mydocker, "c")["eth2"].startswith("10.214.8.")
    mydocker("exec", "c", "sh", "-c", "ip link set eth2 down; ip link set eth2 name mine")
    mydocker("network", "disconnect", "one", "c")  # found by what it is, not by its name
    assert "mine" not in mydocker("exec", "c", "ip", "link").out
    assert "eth1" in mydocker("exec", "c", "ip", "link").out


def test_prune_leaves_what_somebody_names(mydocker: Mydocker, engine: Engine, busybox: str) -> None:
    unused, used = engine.networks.create("unused"), engine.networks.create("used")
    mydocker("run", "--name", "c", "--network", "used", busybox, "true")
    mydocker("run", "--rm", "--network", "bridge", busybox, "true")
    assert bridge_exists(engine.networks.get("bridge"))
    assert mydocker("network", "prune", "-f").out == "Deleted Networks:\nunused\n"
    assert not bridge_exists(engine.networks.get("bridge")) and not bridge_exists(unused)
    assert engine.networks.get("used") == used


def test_a_network_that_was_removed_is_missed_by_the_next_start(engine: Engine, busybox: str) -> None:
    engine.networks.create("net")
    container = engine.containers.run(busybox, ["true"], name="c", network="net")
    engine.networks.remove("net")
    with pytest.raises(NotFound, match="no network net"):
        container.start()


def test_containers_without_networks_of_their_own_join_none(mydocker: Mydocker, busybox: str) -> None:
    mydocker("network", "create", "one")
    mydocker("run", "-d", "--name", "c", "--network", "none", busybox, "sleep", "1000")
    assert "it was made with --network none" in mydocker("network", "connect", "one", "c", code=125).one_error_line()


def test_modes_are_neither_joined_nor_left(mydocker: Mydocker, busybox: str) -> None:
    mydocker("create", "--name", "c", busybox, "true")
    for verb in ("connect", "disconnect"):
        assert "host is no network that can be" in mydocker("network", verb, "host", "c", code=125).one_error_line()


def test_what_a_killed_create_left_goes_with_the_next_command(mydocker: Mydocker) -> None:
    leftover = f"{mydocker.root}/network/.net.0123456789abcdef.tmp"
    with open(leftover, "wb"):
        pass
    mydocker("ps")
    assert not os.path.exists(leftover)


@pytest.mark.parametrize("text", ["{}", "[]", "7", '{"id": 7, "name": "net"}', '{"id": "0123456789ab", "name": "net", "subnets": [{}]}'])
def test_what_another_version_left_half_made_is_left_to_that(mydocker: Mydocker, text: str) -> None:
    leftover = f"{mydocker.root}/network/.net.0123456789abcdef.tmp"
    with open(leftover, "w", encoding="ascii") as stream:
        stream.write(text)
    assert mydocker("ps").err == ""
    assert os.path.exists(leftover)
    mydocker("network", "create", "net")
    mydocker("network", "rm", "net")
    os.unlink(leftover)


def test_a_container_is_on_the_default_network_unless_told_otherwise(mydocker: Mydocker, busybox: str) -> None:
    assert "eth0" in mydocker("run", "--rm", busybox, "ls", "/sys/class/net").out
    assert mydocker("run", "--rm", "--network", "none", busybox, "ls", "/sys/class/net").out == "lo\n"
    mydocker("create", "--name", "c", busybox, "ls", "/sys/class/net")
    assert "c" in [member["Name"] for member in inspect(mydocker, "bridge")["Containers"].values()]


def test_inspect_says_in_dockers_words_where_a_container_is(mydocker: Mydocker, engine: Engine, busybox: str) -> None:
    engine.networks.create("net", subnet="10.214.3.0/24", ipv6=True)
    mydocker("run", "-d", "--name", "c", "--network", "name=net,ip=10.214.3.9,alias=web", "--network", "bridge", busybox, "sleep", "1000")
    assert mydocker(
        "inspect", "-f", "{{.NetworkSettings.IPAddress}} {{.NetworkSettings.Networks.net.Gateway}} "
        "{{range $name, $at := .NetworkSettings.Networks}}{{$name}}={{$at.IPAddress}}/{{$at.IPPrefixLen}} {{end}}", "c",
    ).out == f"10.214.3.9 10.214.3.1 bridge={addresses(mydocker, 'c')['eth1']} net=10.214.3.9/24 \n"
    (endpoint, other) = engine.containers.get("c").endpoints
    assert (endpoint.ip, endpoint.aliases, other.network) == ("10.214.3.9", ("web",), "bridge")
    settings = mydocker.inspect("c")["NetworkSettings"]
    assert settings["GlobalIPv6Address"] == settings["Networks"]["net"]["GlobalIPv6Address"] == endpoint.ip6 != ""
    mydocker("stop", "-t", "0", "c")
    settings = mydocker.inspect("c")["NetworkSettings"]
    assert (settings["IPAddress"], sorted(settings["Networks"])) == ("", ["bridge", "net"])
    mydocker("run", "-d", "--name", "h", "--network", "host", busybox, "sleep", "1000")
    assert [*mydocker.inspect("h")["NetworkSettings"]["Networks"]] == ["host"]


@pytest.mark.parametrize("words", [
    ["--ip", "10.214.4.255"], ["--ip", "10.214.4.0"], ["--ip", "10.214.4.1"], ["--ip", "10.214.5.9"],
    ["--ip6", "fd00:214::1"], ["--ip6", "fd00:214::"], ["--ip6", "fd00:215::9"],
], ids=" ".join)
def test_an_address_that_is_none_for_a_container_is_refused(
    mydocker: Mydocker, engine: Engine, busybox: str, words: list[str]
) -> None:
    engine.networks.create("net", subnet=["10.214.4.0/24", "fd00:214::/64"])
    line = mydocker("run", "--network", "net", *words, busybox, "true", code=125).one_error_line()
    assert f"{words[0][2:]} {words[1]} is no address for a container on network net" in line
    assert mydocker.rows() == {}


def test_a_fixed_ipv6_address_is_one_containers_alone(mydocker: Mydocker, engine: Engine, busybox: str) -> None:
    # So small that IPv4 addresses share them: each IPv6 address has to be claimed by itself.
    engine.networks.create("net", subnet=["10.214.6.0/24", "fd00:216::/126"])
    run = ("run", "-d", "--network", "net")
    mydocker(*run, "--name", "a", "--ip6", "fd00:216::2", busybox, "sleep", "1000")
    line = mydocker(*run, "--ip6", "fd00:216::2", busybox, "true", code=125).one_error_line()
    assert "address fd00:216::2 of network net is in use" in line
    mydocker(*run, "--name", "b", busybox, "sleep", "1000")
    assert engine.containers.get("b").endpoints[0].ip6 == "fd00:216::3"
    assert "no free address left" in mydocker(*run, busybox, "true", code=125).one_error_line()
    mydocker("rm", "-f", "a")
    mydocker(*run, "--name", "c", "--ip6", "fd00:216::2", busybox, "sleep", "1000")
    engine.networks.create("four", subnet="10.214.7.0/24")
    assert "network four has no IPv6" in mydocker(
        "run", "--network", "four", "--ip6", "fd00:216::2", busybox, "true", code=125).one_error_line()


def test_ipv6_goes_out_by_the_first_network_that_has_it(mydocker: Mydocker, engine: Engine, busybox: str) -> None:
    engine.networks.create("four", subnet="10.214.8.0/24")
    six = engine.networks.create("six", subnet=["10.214.10.0/24", "fd00:218::/64"])
    late = engine.networks.create("late", subnet=["10.214.11.0/24", "fd00:219::/64"])

    def default_routes() -> list[str]:
        lines = [mydocker("exec", "c", "ip", family, "route", "show", "default").out for family in ("-4", "-6")]
        return [line.split()[2] if line else "" for line in lines]

    mydocker("run", "-d", "--name", "c", "--network", "four", "--network", "six", busybox, "sleep", "1000")
    assert default_routes() == ["10.214.8.1", "fd00:218::1"]
    mydocker("network", "connect", "late", "c")
    mydocker("network", "disconnect", "six", "c")
    assert default_routes() == ["10.214.8.1", "fd00:219::1"]
    mydocker("network", "disconnect", "late", "c")
    mydocker("network", "connect", six.id, "c")
    assert default_routes() == ["10.214.8.1", "fd00:218::1"]
    assert late.ipv6 is not None


def test_any_user_may_serve_on_any_port_and_ping_in_a_network_of_the_containers_own(mydocker: Mydocker, busybox: str) -> None:
    """As with docker since 20.10: images that run their server as a user count on it."""
    words = ["sh", "-c", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range; "
             "timeout 0.3 nc -l -p 80; [ $? != 1 ]"]
    for network in ("bridge", "none"):
        assert mydocker("run", "--rm", "--user", "1000", "--network", network, busybox, *words).out.split() == ["0", "0", "2147483647"]
    assert mydocker("run", "--rm", "--userns", "private", busybox, *words).out.split() == ["0", "0", "65535"]
    assert mydocker(
        "run", "--rm", "--sysctl", "net.ipv4.ip_unprivileged_port_start=1024", busybox, *words).out.split()[0] == "1024"
    mydocker("run", "-d", "--name", "c", busybox, "sleep", "1000")
    mydocker("run", "--rm", "--network", "container:c", busybox, "true")
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as stream:
        mine = stream.read()
    assert mydocker("run", "--rm", "--network", "host", busybox, *words[:2], "cat /proc/sys/net/ipv4/ip_unprivileged_port_start").out == mine
