"""Which kernel parameters may be set in which namespaces."""
from __future__ import annotations

import pytest

from mydocker.base.errors import InvalidRequest
from mydocker.linux import syscalls as sc
from mydocker.runtime.namespaces import NamespacePlan
from mydocker.runtime.sysctls import check_sysctl, check_sysctls

ALL = sc.CLONE_NEWNET | sc.CLONE_NEWIPC | sc.CLONE_NEWUTS | sc.CLONE_NEWUSER


@pytest.mark.parametrize(("key", "flag"), [
    ("net.ipv4.ip_forward", sc.CLONE_NEWNET), ("net/ipv4/conf/eth0.1/forwarding", sc.CLONE_NEWNET),
    ("kernel.msgmax", sc.CLONE_NEWIPC), ("fs.mqueue.queues_max", sc.CLONE_NEWIPC), ("kernel.domainname", sc.CLONE_NEWUTS),
    ("user.max_user_namespaces", sc.CLONE_NEWUSER),
])
def test_a_parameter_needs_its_namespace(key: str, flag: int) -> None:
    check_sysctl(key, flag)
    with pytest.raises(InvalidRequest, match="namespace of its own"):
        check_sysctl(key, ALL & ~flag)


@pytest.mark.parametrize("key", [
    "kernel.core_pattern", "vm.swappiness", "net", "kernel.msgmax.x", "net/../kernel/core_pattern", "net..kernel", "", "/etc/passwd",
])
def test_what_is_the_machines_is_refused(key: str) -> None:
    with pytest.raises(InvalidRequest):
        check_sysctl(key, ALL)


@pytest.mark.parametrize(("spec", "fits"), [
    ({"domainname": "a", "linux": {"sysctl": {"kernel.domainname": "a"}}}, True),
    ({"domainname": "a", "linux": {"sysctl": {"kernel.domainname": "b"}}}, False),
    ({"linux": {"sysctl": {"kernel.hostname": "b"}}}, False),
])
def test_a_name_of_the_machine_is_said_in_its_field(spec: dict[str, object], fits: bool) -> None:
    namespaces = NamespacePlan(new=ALL, all=ALL)
    if fits:
        check_sysctls(spec, namespaces)  # type: ignore[arg-type]
        return
    with pytest.raises(InvalidRequest, match="conflicts"):
        check_sysctls(spec, namespaces)  # type: ignore[arg-type]
