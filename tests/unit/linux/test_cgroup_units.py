"""Units of systemd without systemd: names, and limits as properties."""
from __future__ import annotations

import pytest

from mydocker.base.errors import InvalidRequest
from mydocker.linux.cgroup import units
from mydocker.linux.cgroup.resources import parse_resources

INFINITY = units.INFINITY


@pytest.mark.parametrize(("given", "unit", "path"), [
    ("", "mydocker-c1.scope", "/system.slice/mydocker-c1.scope"),
    ("machine.slice:libpod:42", "libpod-42.scope", "/machine.slice/libpod-42.scope"),
    ("a-b-c.slice:p:n", "p-n.scope", "/a.slice/a-b.slice/a-b-c.slice/p-n.scope"),
    (":p:n", "p-n.scope", "/system.slice/p-n.scope"),
    ("a.slice::n", "n.scope", "/a.slice/n.scope"),
    ("-.slice:p:n", "p-n.scope", "/p-n.scope"),
    ("a.slice:x:a-pod.slice", "a-pod.slice", "/a.slice/a-pod.slice"),
])
def test_slice_prefix_and_name_make_a_unit_and_its_place(given: str, unit: str, path: str) -> None:
    name = units.parse_unit(given, "c1", is_user=False)
    assert (name.unit, name.path) == (unit, path)


@pytest.mark.parametrize("given", ["/a/b", "a:b", "a:b:c", "a.slice:p:", "a.slice:p:x/y", "-a.slice:p:n", "a--b.slice:p:n", ".slice:p:n", "a/b.slice:p:n"])
def test_what_is_no_unit_is_refused(given: str) -> None:
    with pytest.raises(InvalidRequest):
        units.parse_unit(given, "c1", is_user=False)


def test_limits_are_the_properties_that_runc_makes_of_them() -> None:
    limits = parse_resources({
        "memory": {"limit": 100, "swap": 300, "reservation": 50}, "cpu": {"shares": 1024, "quota": 15500, "period": 100000, "cpus": "0-1,9"},
        "pids": {"limit": -1},
    })
    assert units.plan_properties(limits, is_v1=False, version=252) == [
        ("MemoryMax", ("t", 100)), ("MemoryLow", ("t", 50)), ("MemorySwapMax", ("t", 200)), ("CPUWeight", ("t", 100)),
        ("CPUQuotaPeriodUSec", ("t", 100000)), ("CPUQuotaPerSecUSec", ("t", 160000)), ("TasksMax", ("t", INFINITY)),
        ("AllowedCPUs", ("ay", b"\x03\x02")),
    ]
    assert units.plan_properties(limits, is_v1=True, version=252)[:2] == [("MemoryLimit", ("t", 100)), ("CPUShares", ("t", 1024))]


def test_unified_settings_that_systemd_knows_are_properties() -> None:
    limits = parse_resources({"unified": {
        "memory.high": "max", "memory.max": "5", "pids.max": "0", "cpu.weight": "42", "cpu.max": "10000 100000", "cpuset.mems": "0", "io.max": "x"}})
    assert units.plan_properties(limits, is_v1=False, version=252) == [
        ("MemoryHigh", ("t", INFINITY)), ("MemoryMax", ("t", 5)), ("TasksMax", ("t", 1)), ("CPUWeight", ("t", 42)),
        ("CPUQuotaPeriodUSec", ("t", 100000)), ("CPUQuotaPerSecUSec", ("t", 100000)), ("AllowedMemoryNodes", ("ay", b"\x01")),
    ]


def test_an_idle_group_is_weight_0_where_systemd_knows_it() -> None:
    limits = parse_resources({"cpu": {"idle": 1, "shares": 5}})
    assert units.plan_properties(limits, is_v1=False, version=252) == [("CPUWeight", ("t", 0))]
    assert units.plan_properties(limits, is_v1=False, version=251) == [("CPUWeight", ("t", 2))]


@pytest.mark.parametrize(("quota", "period", "expected"), [
    (0, 0, []), (-1, 0, [("CPUQuotaPerSecUSec", ("t", INFINITY))]), (50000, 0, [("CPUQuotaPerSecUSec", ("t", 500000))]),
    (0, 1000, [("CPUQuotaPeriodUSec", ("t", 1000)), ("CPUQuotaPerSecUSec", ("t", INFINITY))]),
])
def test_a_quota_is_stated_per_second(quota: int, period: int, expected: list[object]) -> None:
    assert units.plan_quota(quota, period) == expected


def test_devices_are_a_strict_list_or_free() -> None:
    free = units.plan_devices(parse_resources({"devices": [{"allow": True, "access": "rwm"}]}))
    assert free == [("DeviceAllow", ("a(ss)", [])), ("DevicePolicy", ("s", "auto"))]
    clear, policy, allowed = units.plan_devices(parse_resources({"devices": [
        {"allow": True, "type": "b", "major": 8, "minor": 1, "access": "r"}, {"allow": True, "type": "c", "minor": 7, "access": "r"}]}))
    assert (clear, policy) == (("DeviceAllow", ("a(ss)", [])), ("DevicePolicy", ("s", "strict")))
    assert {("/dev/block/8:1", "r"), ("char-*", "m"), ("block-*", "m"), ("char-136", "rwm"), ("/dev/char/1:3", "rwm")} <= set(allowed[1][1])
    assert all("7" not in place for place, access in allowed[1][1] if access == "r")


def test_annotations_are_properties() -> None:
    assert units.plan_annotations({
        "org.systemd.property.TimeoutStopUSec": "uint64 5000000", "org.systemd.property.CollectMode": "'inactive-or-failed'",
        "org.systemd.property.IOAccounting": "true", "org.systemd.property.After": "['a.service', 'b.service']",
        "org.systemd.property.TimeoutStopSec": "int32 3", "other": "x",
    }) == [
        ("TimeoutStopUSec", ("t", 5000000)), ("CollectMode", ("s", "inactive-or-failed")), ("IOAccounting", ("b", True)),
        ("After", ("as", ["a.service", "b.service"])), ("TimeoutStopUSec", ("t", 3000000)),
    ]


@pytest.mark.parametrize(("name", "text"), [
    ("A", "1"), ("Bad-Name", "1"), ("Name", "uint64"), ("Name", "'a' 'b'"), ("Name", "$(x)"), ("TimeoutStopSec", "'x'"), ("Name", "[1]"),
])
def test_an_annotation_that_cannot_be_read_is_refused(name: str, text: str) -> None:
    with pytest.raises(InvalidRequest, match="annotation"):
        units.plan_annotations({f"org.systemd.property.{name}": text})
