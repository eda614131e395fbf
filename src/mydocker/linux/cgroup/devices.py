"""Which devices a container may open or make: rules, and what they come to in the end.

Pure. The rules of a runtime spec are applied in their order, each as cgroup v1 would
(`devices.allow`, `devices.deny`), to an `AllowList` that starts by denying everything; behind them come the
devices that every container has (`DEFAULT_RULES`). What comes of it is then put to use in one go:
on v1 as the shortest list of writes that leads there from what is set now (`plan_transition`), on v2 as a
program (bpf.py). Source: opencontainers/cgroups devices_emulator.go for the semantics, which both
versions share; Documentation/admin-guide/cgroup-v1/devices.rst.
"""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest
from mydocker.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: Any major or minor number.
ANY = -1
_MAX_NUMBER = (1 << 32) - 1
_ACCESS = "rwm"

#: (type, major, minor): what a rule is about, once `type` is `b` or `c`.
Key = tuple[str, int, int]


class DeviceRule(Record):
    """One rule: `type` is `a` (all: numbers and access then do not count), `b` or `c`."""

    allow: bool
    type: str
    major: int = ANY
    minor: int = ANY
    access: frozenset[str] = frozenset(_ACCESS)

    def __str__(self) -> str:
        """Return it as v1's files have it: `c 1:3 rwm`."""
        if self.type == "a":
            return "a"
        return f"{self.type} {_number(self.major)}:{_number(self.minor)} {format_access(self.access)}"


def _number(number: int) -> str:
    return "*" if number == ANY else str(number)


def format_access(access: frozenset[str]) -> str:
    """Return a set of access letters in the kernel's order."""
    return "".join(letter for letter in _ACCESS if letter in access)


def _allow(kind: str, major: int, minor: int, access: str = _ACCESS) -> DeviceRule:
    return DeviceRule(allow=True, type=kind, major=major, minor=minor, access=frozenset(access))


#: What every container may do whatever its spec says, as runc has it (libcontainer/specconv AllowedDevices): make
#: any device node (opening it is another matter), and use null, zero, full, random, urandom, tty,
#: /dev/pts/*, ptmx and net/tun. The console of a terminal is one of /dev/pts.
DEFAULT_RULES = (
    _allow("c", ANY, ANY, "m"), _allow("b", ANY, ANY, "m"),
    _allow("c", 1, 3), _allow("c", 1, 8), _allow("c", 1, 7), _allow("c", 5, 0), _allow("c", 1, 5), _allow("c", 1, 9),
    _allow("c", 136, ANY), _allow("c", 5, 2), _allow("c", 10, 200),
)


def parse_rules(content: object) -> tuple[DeviceRule, ...]:
    """Return the rules of `linux.resources.devices`. Raises InvalidRequest."""
    if not isinstance(content, list | tuple):
        raise InvalidRequest("apply resources.devices: not a list")
    return tuple(_parse_rule(number, item) for number, item in enumerate(content))


def _parse_rule(index: int, item: object) -> DeviceRule:
    field = f"resources.devices[{index}]"
    if not isinstance(item, dict):
        raise InvalidRequest(f"apply {field}: not an object")
    allow, kind, access = item.get("allow", False), item.get("type") or "a", item.get("access")
    if type(allow) is not bool:
        raise InvalidRequest(f"apply {field}.allow: {allow!r} is not true or false")
    # `u` is a character device by the name of mknod(1); `p`, a fifo, has no place here.
    kind = "c" if kind == "u" else kind
    if kind not in ("a", "b", "c"):
        raise InvalidRequest(f"apply {field}.type: {kind!r} is not a, b or c")
    # Other letters are passed over, as by runc: they stand for no access.
    if not isinstance(access, str) or not set(access) & set(_ACCESS):
        raise InvalidRequest(f"apply {field}.access: {access!r} is not made of r, w and m")
    numbers = []
    for name in ("major", "minor"):
        number = item.get(name)
        number = ANY if number is None else number
        if type(number) is not int or not ANY <= number <= _MAX_NUMBER:
            raise InvalidRequest(f"apply {field}.{name}: {number!r} is not a device number")
        numbers.append(number)
    return DeviceRule(allow=allow, type=kind, major=numbers[0], minor=numbers[1], access=frozenset(access) & frozenset(_ACCESS))


class AllowList:
    """What is allowed: everything but `rules` if `allows_by_default`, else nothing but `rules`."""

    __slots__ = ("allows_by_default", "rules")

    def __init__(self, *, allows_by_default: bool = False) -> None:
        self.allows_by_default = allows_by_default
        self.rules: dict[Key, frozenset[str]] = {}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AllowList):
            return NotImplemented
        return self.allows_by_default == other.allows_by_default and self.rules == other.rules

    def __hash__(self) -> int:
        raise TypeError("an AllowList changes")

    @property
    def allows_all(self) -> bool:
        """Whether there is nothing to enforce."""
        return self.allows_by_default and not self.rules

    def apply(self, rule: DeviceRule) -> None:
        """Add one rule to what went before. Raises InvalidRequest for a hole in a wildcard."""
        if rule.type == "a":
            self.allows_by_default = rule.allow
            self.rules = {}
            return
        key = (rule.type, rule.major, rule.minor)
        if rule.allow != self.allows_by_default:
            self.rules[key] = self.rules.get(key, frozenset()) | rule.access
            return
        self._refuse_hole(rule)
        rest = self.rules.get(key, frozenset()) - rule.access
        if rest:
            self.rules[key] = rest
        else:
            self.rules.pop(key, None)

    def _refuse_hole(self, rule: DeviceRule) -> None:
        """v1 drops a rule that takes a part of a wildcard away, without a word: the container would have more than was asked."""
        for major, minor in ((ANY, rule.minor), (rule.major, ANY), (ANY, ANY)):
            if (major, minor) == (rule.major, rule.minor):
                continue
            wider = self.rules.get((rule.type, major, minor), frozenset())
            if wider & rule.access:
                raise InvalidRequest(
                    f"apply resources.devices: {rule} {'allows' if rule.allow else 'denies'} a part of an earlier rule"
                    f" for {_number(major)}:{_number(minor)}",
                    hint="cgroups know no exception from a rule that has a *; name the devices one by one",
                )

    def sorted_rules(self) -> list[tuple[Key, frozenset[str]]]:
        """Return the rules in an order that depends on nothing but them."""
        return sorted(self.rules.items(), key=lambda item: (item[0][1], item[0][2], item[0][0]))


def build_allow_list(rules: Iterable[DeviceRule]) -> AllowList:
    """Return what rules come to, the default ones behind them. Raises InvalidRequest."""
    result = AllowList()
    for rule in rules:
        result.apply(rule)
    if result.allows_all:
        return result
    for rule in DEFAULT_RULES:
        result.apply(rule)
    return result


#: What a container gets whose spec has no rules, or denies everything first and says no more.
STANDARD = build_allow_list(())


def parse_list(text: str) -> AllowList:
    """Return what v1's `devices.list` says. Of a list that allows by default the exceptions are not shown there."""
    result = AllowList()
    for line in text.splitlines():
        kind, numbers, access = line.split()
        major, _, minor = numbers.partition(":")
        if kind == "a":
            return AllowList(allows_by_default=True)
        key = (kind, ANY if major == "*" else int(major), ANY if minor == "*" else int(minor))
        result.rules[key] = frozenset(access)
    return result


def plan_transition(current: AllowList, target: AllowList) -> list[DeviceRule]:
    """Return the writes that lead a v1 group from `current` to `target`.

    What both allow is not touched, so a process that uses it meanwhile sees no error; what is no
    longer allowed goes before anything is added. From "all but" one has to start anew, because the kernel
    does not say which exceptions there are: `deny a` first, and nothing too much is allowed at any moment.
    What is added keeps the spec's order, which is then that of `devices.list` (config-linux.md: "in the listed order").
    """
    writes: list[DeviceRule] = []
    old: dict[Key, frozenset[str]] = dict(current.rules)
    if current.allows_by_default or current.allows_by_default != target.allows_by_default:
        writes.append(DeviceRule(allow=target.allows_by_default, type="a"))
        old = {}
    kept = AllowList()
    kept.rules = old
    for key, access in kept.sorted_rules():
        writes += _rules(key, access - target.rules.get(key, frozenset()), target.allows_by_default)
    for key, access in target.rules.items():
        writes += _rules(key, access - old.get(key, frozenset()), not target.allows_by_default)
    return writes


def _rules(key: Key, access: frozenset[str], allow: bool) -> list[DeviceRule]:
    kind, major, minor = key
    return [DeviceRule(allow=allow, type=kind, major=major, minor=minor, access=access)] if access else []
