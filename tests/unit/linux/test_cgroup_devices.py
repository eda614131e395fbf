"""Device rules without a kernel: what they come to, how one set becomes another, and the program made of them."""
from __future__ import annotations

import hashlib

import pytest

from mydocker.base.errors import InvalidRequest
from mydocker.linux.cgroup import bpf, standard_devices
from mydocker.linux.cgroup.devices import (
    DEFAULT_RULES,
    STANDARD,
    AllowList,
    build_allow_list,
    parse_list,
    parse_rules,
    plan_transition,
)

DENY_ALL = {"allow": False, "access": "rwm"}
ALLOW_ALL = {"allow": True, "access": "rwm"}
FUSE = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}


def listed(text: str) -> AllowList:
    return parse_list(text.replace(", ", "\n"))


def transition(before: str, after: str) -> list[str]:
    return [f"{'allow' if rule.allow else 'deny'} {rule}" for rule in plan_transition(listed(before), listed(after))]


def test_without_rules_only_the_default_devices_are_allowed() -> None:
    assert build_allow_list(()) == build_allow_list(parse_rules([DENY_ALL])) == STANDARD
    assert not STANDARD.allows_by_default
    assert set(STANDARD.rules) == {(rule.type, rule.major, rule.minor) for rule in DEFAULT_RULES}
    assert STANDARD.rules["c", 1, 3] == {"r", "w", "m"}
    assert STANDARD.rules["b", -1, -1] == {"m"}


def test_rules_are_applied_in_their_order() -> None:
    assert build_allow_list(parse_rules([FUSE, DENY_ALL])) == STANDARD
    assert build_allow_list(parse_rules([DENY_ALL, FUSE])).rules["c", 10, 229] == {"r", "w"}
    assert build_allow_list(parse_rules([DENY_ALL, ALLOW_ALL])).allows_all
    taken = build_allow_list(parse_rules([DENY_ALL, FUSE, {**FUSE, "allow": False, "access": "w"}]))
    assert taken.rules["c", 10, 229] == {"r"}


def test_all_but_one_is_possible() -> None:
    target = build_allow_list(parse_rules([ALLOW_ALL, {**FUSE, "allow": False}]))
    assert target.allows_by_default
    assert target.rules == {("c", 10, 229): {"r", "w"}}
    assert not target.allows_all


@pytest.mark.parametrize("hole", [{"major": 10}, {}])
def test_a_hole_in_a_wildcard_is_refused_because_v1_would_drop_it_silently(hole: dict[str, int]) -> None:
    wide = {"allow": True, "type": "c", "access": "rw", **hole}
    with pytest.raises(InvalidRequest, match="10:229"):
        build_allow_list(parse_rules([DENY_ALL, wide, {**FUSE, "allow": False}]))


@pytest.mark.parametrize("rule", [
    5, {"allow": True}, {"allow": True, "access": ""}, {"allow": True, "access": "x"}, {"allow": 1, "access": "r"},
    {"allow": True, "access": "r", "type": "p"}, {"allow": True, "access": "r", "type": "c", "major": "1"},
    {"allow": True, "access": "r", "type": "c", "minor": 1 << 32}, {"allow": True, "access": "r", "type": "c", "minor": -2},
])
def test_a_rule_that_makes_no_sense_is_refused(rule: object) -> None:
    with pytest.raises(InvalidRequest, match=r"resources\.devices\[0\]"):
        parse_rules([rule])


@pytest.mark.parametrize(("before", "after", "writes"), [
    ("c 1:3 rwm", "c 1:3 rwm", []),
    ("c 1:3 rwm, c 1:5 r", "c 1:3 rw, c 1:8 r", ["deny c 1:3 m", "deny c 1:5 r", "allow c 1:8 r"]),
    ("c 1:3 r", "c 1:3 rw", ["allow c 1:3 w"]),
    ("a *:* rwm", "c 1:3 rwm", ["deny a", "allow c 1:3 rwm"]),
    ("c 1:3 rwm", "a *:* rwm", ["allow a"]),
    ("a *:* rwm", "a *:* rwm", ["allow a"]),  # exceptions may hide behind it
    ("c 136:* rwm, b *:* m", "b *:* m", ["deny c 136:* rwm"]),
    ("a *:* rwm", "c 10:229 rw, b 8:0 r, c 1:3 r", ["deny a", "allow c 10:229 rw", "allow b 8:0 r", "allow c 1:3 r"]),  # its order
])
def test_what_stays_allowed_is_not_touched_and_what_goes_goes_first(before: str, after: str, writes: list[str]) -> None:
    assert transition(before, after) == writes


def test_the_digest_in_the_name_of_the_programs_holder_is_that_of_the_rules() -> None:
    program = bpf.build_program(STANDARD)
    assert hashlib.sha256(program).hexdigest()[:16] == standard_devices.STANDARD_DIGEST, "other rules: other name, and say so in CHANGELOG.md"
    assert len(program) % 8 == 0
