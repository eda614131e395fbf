"""What `network create` and the network options of `run` may be given."""
from __future__ import annotations

from typing import Any

import pytest

from mydocker.base.errors import InvalidRequest
from mydocker.engine.network_request import judge_network
from mydocker.engine.request import judge
from mydocker.network.ipam import overlaps
from mydocker.network.model import parse_subnet


def _run(**options: Any) -> Any:
    return judge("image", ["true"], options)


def test_a_network_gets_the_first_address_of_its_subnet_as_gateway() -> None:
    request = judge_network("net", {"subnet": "10.5.0.0/16"})
    (subnet,) = request.subnets
    assert (subnet.text, subnet.gateway) == ("10.5.0.0/16", b"\x0a\x05\0\1")


def test_subnets_of_both_kinds_with_range_and_gateway() -> None:
    request = judge_network("net", {
        "subnet": ["10.5.0.0/16", "fd00:1::/64"], "ip_range": "10.5.8.0/24", "gateway": ["10.5.0.254", "fd00:1::99"],
        "internal": True, "label": ["a=b"], "opt": ["com.docker.network.driver.mtu=1400"]})
    four, six = request.subnets
    assert four.to_document() == {"subnet": "10.5.0.0/16", "gateway": "10.5.0.254", "ip_range": "10.5.8.0/24"}
    assert six.to_document() == {"subnet": "fd00:1::/64", "gateway": "fd00:1::99", "ip_range": ""}
    assert (request.wants_ipv6, request.internal, request.mtu, dict(request.labels)) == (True, True, 1400, {"a": "b"})


@pytest.mark.parametrize(("name", "options", "message"), [
    ("host", {}, "has a meaning of its own"),
    ("a/b", {}, "is not a name"),
    ("net", {"driver": "overlay"}, "driver 'overlay' is not known"),
    ("net", {"subnet": "10.5.1.0/16"}, "there are bits behind the prefix"),
    ("net", {"subnet": "10.5.0.0"}, "has no prefix"),
    ("net", {"subnet": "10.5.0.0/33"}, "is not ADDRESS/PREFIX"),
    ("net", {"subnet": "10.0.0.0/7"}, "its prefix must be"),
    ("net", {"subnet": "10.5.0.0/32"}, "its prefix must be"),
    ("net", {"subnet": ["10.5.0.0/16", "10.6.0.0/16"]}, "one IPv4 subnet"),
    ("net", {"ip_range": "10.5.0.0/24"}, "is in no subnet"),
    ("net", {"subnet": "10.5.0.0/24", "ip_range": "10.5.0.0/16"}, "is larger than"),
    ("net", {"subnet": "10.5.0.0/24", "gateway": "10.6.0.1"}, "is in no subnet"),
    ("net", {"subnet": "10.5.0.0/24", "gateway": "10.5.0.0"}, "stands for the subnet itself"),
    ("net", {"subnet": "10.5.0.0/24", "gateway": "10.5.0.255"}, "stands for the subnet itself"),
    ("net", {"opt": ["parent=eth0"]}, "is none of driver bridge"),
    ("net", {"opt": ["com.docker.network.driver.mtu=12"]}, "is not a number from"),
    ("net", {"driver": "macvlan", "opt": ["parent=eth0"]}, "needs --subnet"),
    ("net", {"driver": "macvlan", "subnet": "10.5.0.0/24"}, "not the name of a network device"),
    ("net", {"driver": "macvlan", "subnet": "10.5.0.0/24", "opt": ["parent=../x"]}, "not the name of a network device"),
    ("net", {"driver": "ipvlan", "subnet": "10.5.0.0/24", "opt": ["parent=e", "ipvlan_mode=x"]}, "is not known"),
    ("net", {"colour": "red"}, "unknown option colour"),
])
def test_a_wrong_network_is_refused_with_its_reason(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        judge_network(name, options)


@pytest.mark.parametrize(("one", "other", "answer"), [
    ("10.5.0.0/16", "10.5.3.0/24", True), ("10.5.0.0/16", "10.6.0.0/16", False), ("10.5.0.0/16", "fd00::/8", False),
    ("fd00:1::/64", "fd00::/16", True), ("fd00:1::/64", "fd00:2::/64", False),
])
def test_overlapping_is_told_for_both_kinds(one: str, other: str, answer: bool) -> None:
    (subnet,) = judge_network("net", {"subnet": one}).subnets
    assert overlaps(subnet, *parse_subnet(other)) is answer


def test_several_networks_the_long_form_and_the_name_default() -> None:
    config = _run(network=["name=one,alias=web,alias=db,ip=10.5.0.9", "two", "default"], network_alias=["x"], mac_address="02-42-0A-05-00-09")
    first, second, third = config.endpoints
    assert (first.network, first.aliases, first.ip, first.mac) == ("one", ("web", "db", "x"), "10.5.0.9", "02:42:0a:05:00:09")
    assert (second.network, third.network) == ("two", "bridge")


def test_names_and_servers_are_judged() -> None:
    config = _run(
        network="net", dns=["10.0.0.1", "FD00::1"], dns_search=["example.com", "."], dns_option="ndots:2",
        add_host=["a:1.2.3.4", "b=::1", "c:[fd00::2]", "gw:host-gateway"], link=["db", "web:w"])
    assert config.dns == ("10.0.0.1", "fd00::1")
    assert config.extra_hosts == (("a", "1.2.3.4"), ("b", "::1"), ("c", "fd00::2"), ("gw", "host-gateway"))
    assert (config.dns_search, config.dns_options) == (("example.com", "."), ("ndots:2",))
    assert config.links == (("db", "db"), ("web", "w"))


@pytest.mark.parametrize("options", [
    {"network": ["none", "net"]}, {"network": ["net", "net"]}, {"network": "name=net,colour=red"}, {"network": "a b"},
    {"network": "net", "ip": "fd00::1"}, {"network": "net", "mac_address": "01:00:5e:00:00:01"}, {"ip": "10.0.0.1", "network": "host"},
    {"network": "name=net,ip=10.5.0.9", "ip": "10.5.0.8"},
    {"network": "container:c", "dns": "10.0.0.1"}, {"network": "none", "add_host": "a:host-gateway"}, {"network": "host", "link": "a"},
])
def test_what_cannot_be_together_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        _run(**options)


@pytest.mark.parametrize("options", [
    {"dns": "10.0.0.1\nnameserver 6.6.6.6"}, {"dns": "ns.example.com"}, {"dns_search": "a b"}, {"dns_search": "a\nnameserver 6.6.6.6"},
    {"dns_option": "ndots:2\nnameserver 6.6.6.6"}, {"dns_option": "a b"}, {"add_host": "a:1.2.3.4\n6.6.6.6 bank"},
    {"add_host": "a b:1.2.3.4"}, {"add_host": "a#:1.2.3.4"}, {"add_host": "a"}, {"add_host": "a:b"}, {"link": "a:b\nc"},
    {"network_alias": "a\tb"}, {"hostname": "a\n6.6.6.6 bank"}, {"hostname": "a b"}, {"hostname": "a#b"}, {"hostname": "a\x01b"},
])
def test_nothing_that_would_become_a_line_of_a_file_of_its_own_is_taken(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        _run(**{"network": "net", **options})
