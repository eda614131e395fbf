"""What /etc/hosts and /etc/resolv.conf of a container hold."""
from __future__ import annotations

from typing import Any

import pytest

from mydocker.engine.etc_files import HostDns, is_loopback, plan_hosts, plan_resolv_conf, write_in_place
from mydocker.network.model import Endpoint


def endpoint(network: str = "bridge", number: int = 2, **more: Any) -> Endpoint:
    return Endpoint(**{
        "network": network, "network_id": "x", "interface": "eth0", "host_interface": "mv", "mac": "", "prefix": 16,
        "ip": f"10.1.0.{number}", "gateway": f"10.{number}.0.1", **more})


def test_the_name_stands_for_the_address_on_each_network() -> None:
    lines = plan_hosts("box", endpoints=[endpoint(ip6="fd00::2"), endpoint("net", 3)]).splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[-3:] == ["10.1.0.2\tbox", "fd00::2\tbox", "10.1.0.3\tbox"]


def test_without_a_network_it_stands_for_the_loopback_address() -> None:
    assert plan_hosts("box").startswith("127.0.0.1\tlocalhost box\n")


def test_long_names_bring_their_short_ones() -> None:
    assert plan_hosts("box.example.com", endpoints=[endpoint()]).endswith("10.1.0.2\tbox.example.com box\n")
    assert plan_hosts("box", domainname="example.com", endpoints=[endpoint()]).endswith("10.1.0.2\tbox.example.com box\n")


def test_extra_hosts_links_and_the_gateway() -> None:
    text = plan_hosts("box", endpoints=[endpoint()], extra=[("a", "1.2.3.4"), ("host", "host-gateway")], links=[("db x", "10.1.0.9")])
    assert "1.2.3.4\ta\n10.2.0.1\thost\n10.1.0.9\tdb x\n10.1.0.2\tbox\n" in text


HOST = HostDns("# comment\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver fd00::53\nsearch example.com\noptions edns0\nbogus\n")


def test_on_the_default_network_the_machines_servers_without_its_loopback() -> None:
    lines = plan_resolv_conf(HOST, endpoints=[endpoint()]).splitlines()
    assert lines[1:] == ["nameserver 192.0.2.1", "search example.com", "options edns0"]
    assert "nameserver fd00::53" in plan_resolv_conf(HOST, endpoints=[endpoint(ip6="fd00::2")])


def test_a_machine_that_names_only_itself_leaves_dockers_last_resort() -> None:
    assert plan_resolv_conf(HostDns("nameserver 127.0.0.1\n"), endpoints=[endpoint()]).splitlines()[1:] == [
        "nameserver 8.8.8.8", "nameserver 8.8.4.4"]


def test_what_the_user_says_comes_before_the_machines() -> None:
    text = plan_resolv_conf(HOST, endpoints=[endpoint()], dns=["192.0.2.9"], search=["a.example"], options=["ndots:3"])
    assert text.splitlines()[1:] == ["nameserver 192.0.2.9", "search a.example", "options ndots:3"]
    assert "search" not in plan_resolv_conf(HOST, endpoints=[endpoint()], search=["."])


def test_on_a_users_network_the_resolver_of_each() -> None:
    text = plan_resolv_conf(HOST, endpoints=[endpoint(), endpoint("net", 3), endpoint("two", 4)], dns=["192.0.2.9"])
    assert text.splitlines()[1:] == ["nameserver 10.3.0.1", "nameserver 10.4.0.1", "search example.com", "options ndots:0"]
    assert "ndots:0" not in plan_resolv_conf(HOST, endpoints=[endpoint("net")], options=["ndots:5"])


def test_on_a_device_of_the_machine_the_machines_servers() -> None:
    assert "nameserver 192.0.2.1" in plan_resolv_conf(HOST, endpoints=[endpoint("lan", driver="macvlan")])


@pytest.mark.parametrize(("server", "answer"), [
    ("127.0.0.53", True), ("127.1.2.3", True), ("0.0.0.0", True), ("::1", True), ("fe80::1%eth0", True), ("rubbish", True),
    ("192.0.2.1", False), ("fd00::53", False)])
def test_servers_that_a_container_cannot_reach(server: str, answer: bool) -> None:
    assert is_loopback(server) is answer


def test_a_file_is_changed_where_it_is(tmp_path: Any) -> None:
    path = tmp_path / "hosts"
    path.write_text("a longer content\n")
    inode = path.stat().st_ino
    write_in_place(str(path), b"short\n")
    assert (path.read_text(), path.stat().st_ino) == ("short\n", inode)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError):
        write_in_place(str(tmp_path / "link"), b"x")
