"""Who is found by which name, by whom."""
from __future__ import annotations

from typing import Any

from mydocker.linux.process import ProcessIdentity
from mydocker.network.directory import Directory, Member
from mydocker.network.model import Endpoint


def member(number: int, name: str, *networks: str, aliases: tuple[str, ...] = (), **more: Any) -> Member:
    endpoints = tuple(
        Endpoint(network=network, network_id=f"id-{network}", interface="eth0", host_interface="mv", mac="", prefix=16,
                 ip=f"10.{ord(network[0])}.0.{number}", aliases=aliases) for network in networks)
    return Member(
        id=f"{number}234567890", name=name, hostname=more.pop("hostname", ""), endpoints=endpoints,
        identity=ProcessIdentity(pid=number, start_time=1, boot_id=""), **more)


def directory(*members: Member, dead: tuple[int, ...] = ()) -> Directory:
    return Directory(members, lambda identity: identity.pid not in dead)


def find(names: Directory, name: str, *networks: str, client: Member | None = None) -> list[str] | None:
    return names.addresses(name, {f"id-{network}" for network in networks}, client)


def test_a_container_is_found_by_name_alias_id_its_beginning_host_name_and_with_the_network() -> None:
    names = directory(member(2, "Web", "net", aliases=("www",), hostname="box.example"))
    for name in ("web", "www", "2234567890", "223456", "box.example", "web.net", "www.net"):
        assert find(names, name, "net") == ["10.110.0.2"], name
    for name in ("web.other", "22345", "we", "", "ww"):
        assert find(names, name, "net") is None, name


def test_names_of_other_networks_and_of_the_default_one_are_not_told() -> None:
    names = directory(member(2, "web", "net"), member(3, "db", "bridge"))
    assert find(names, "web", "other") is None
    assert names.addresses("db", {"id-bridge"}, None) is None


def test_the_dead_are_not_told() -> None:
    names = directory(member(2, "a", "net", aliases=("web",)), member(3, "b", "net", aliases=("web",)), dead=(2,))
    assert find(names, "web", "net") == ["10.110.0.3"]
    assert find(names, "a", "net") is None
    assert names.client("id-net", "10.110.0.2") is None
    assert names.names("10.110.0.2", {"id-net"}) == []


def test_several_with_one_alias_take_turns() -> None:
    names = directory(*(member(number, f"c{number}", "net", aliases=("web",)) for number in (2, 3, 4)))
    answers = [find(names, "web", "net") for _ in range(6)]
    assert all(answer is not None and len(answer) == 3 for answer in answers)
    firsts = [answer[0] for answer in answers if answer]
    assert {address: firsts.count(address) for address in firsts} == {f"10.110.0.{number}": 2 for number in (2, 3, 4)}


def test_a_link_is_known_to_its_owner_alone() -> None:
    database = member(2, "db", "net")
    owner = member(3, "app", "net", links=(("2234567890", "storage"),))
    names = directory(database, owner)
    assert find(names, "storage", "net", client=owner) == ["10.110.0.2"]
    assert find(names, "storage", "net", client=database) is None


def test_an_address_has_the_name_of_its_container_and_network() -> None:
    names = directory(member(2, "web", "net"))
    assert names.names("10.110.0.2", {"id-net"}) == ["web.net"]
    assert names.names("10.110.0.2", {"id-other"}) == []
    assert (found := names.client("id-net", "10.110.0.2")) and found.name == "web"


def test_a_thousand_with_one_alias_fit_into_an_answer() -> None:
    names = directory(*(member(number, f"c{number}", "net", aliases=("web",)) for number in range(1000)))
    assert len(find(names, "web", "net") or ()) == 24
