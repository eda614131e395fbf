"""Device rules with real processes and device nodes: by a program on v2, by the controller on v1.

Numbers of devices that no driver has (240 to 254 are for local use) are enough: the rules are asked before the driver, so a
denied one is EPERM and an allowed one ENXIO.
"""
from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import Any

import pytest
from cgroup_rig import KINDS, Child, own_path
from harness import Mydocker

from mydocker.base.errors import Unsupported
from mydocker.linux import syscalls as sc
from mydocker.linux.cgroup import standard_devices
from mydocker.linux.cgroup.group import Cgroup
from mydocker.linux.cgroup.hierarchy import hierarchy

pytestmark = [pytest.mark.needs("root", "device_rules")]

DENY_ALL = {"allow": False, "access": "rwm"}
ALLOW_ALL = {"allow": True, "access": "rwm"}
#: Rules of runc that are always there: see devices.DEFAULT_RULES.
DEFAULTS = [
    {"allow": True, "type": "c", "access": "m"}, {"allow": True, "type": "b", "access": "m"},
    *({"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}
      for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (10, 200))),
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
]
#: What is tried: (type, major, minor) x access.
DEVICES = [("c", 1, 3), ("c", 1, 5), ("c", 240, 5), ("c", 240, 6), ("c", 241, 5), ("b", 240, 5), ("b", 241, 0)]
OPENS = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR}


@pytest.fixture(params=KINDS)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    yield from own_path(request, monkeypatch)


def rule(allow: bool, kind: str, major: int | None, minor: int | None, access: str) -> dict[str, Any]:
    numbers = {"major": major, "minor": minor}
    return {"allow": allow, "type": kind, **{key: value for key, value in numbers.items() if value is not None}, "access": access}


def expected(rules: list[dict[str, Any]], device: tuple[str, int, int], access: str) -> bool:
    """The last rule that is about a device and a kind of access decides about it: written down once more, to compare."""
    # To a list of denials they add nothing: like runc's, they take none back that has a number.
    defaults = [] if rules[:1] == [ALLOW_ALL] else DEFAULTS
    answers = []
    for letter in access:
        answer = False
        for item in [*rules, *defaults]:
            kind, major, minor = item.get("type", "a"), item.get("major"), item.get("minor")
            is_meant = kind == "a" or (kind == device[0] and major in (None, device[1]) and minor in (None, device[2]))
            if is_meant and (kind == "a" or letter in item["access"]):
                answer = item["allow"]
        answers.append(answer)
    return all(answers)


def make_nodes(directory: str) -> None:
    for kind, major, minor in DEVICES:
        mode = stat.S_IFCHR if kind == "c" else stat.S_IFBLK
        os.mknod(f"{directory}/{kind}{major}:{minor}", mode | 0o600, os.makedev(major, minor))


def try_open(path: str, flags: int) -> bool:
    try:
        os.close(os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        assert error.errno in (errno.EPERM, errno.ENXIO, errno.ENODEV), error
        return error.errno != errno.EPERM
    return True


def try_mknod(path: str, device: tuple[str, int, int]) -> bool:
    try:
        os.mknod(path, (stat.S_IFCHR if device[0] == "c" else stat.S_IFBLK) | 0o600, os.makedev(*device[1:]))
    except PermissionError:
        return False
    os.unlink(path)
    return True


def probe(group: Cgroup, directory: str) -> dict[tuple[str, str], bool]:
    """Return what a process in the group may do, by device and access."""
    reader, writer = os.pipe()

    def work() -> None:
        answers = []
        for device in DEVICES:
            name = f"{device[0]}{device[1]}:{device[2]}"
            answers += [(name, access, try_open(f"{directory}/{name}", flags)) for access, flags in OPENS.items()]
            answers.append((name, "m", try_mknod(f"{directory}/new", device)))
        os.write(writer, repr(answers).encode())

    assert Child(group, work).wait() == 0
    os.close(writer)
    with open(reader, encoding="ascii") as stream:
        return {(name, access): answer for name, access, answer in eval(stream.read())}


RULES: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "deny all": [DENY_ALL],
    "deny all, allow one": [DENY_ALL, rule(True, "c", 240, 5, "rwm")],
    "deny all, allow reading": [DENY_ALL, rule(True, "c", 240, 5, "r"), rule(True, "b", 241, 0, "w")],
    "deny all, allow a major": [DENY_ALL, rule(True, "c", 240, None, "rw")],
    "deny all, allow a minor of all": [DENY_ALL, rule(True, "c", None, 5, "rw")],
    "deny all, allow all of a type": [DENY_ALL, rule(True, "b", None, None, "rwm")],
    "allow and take back": [DENY_ALL, rule(True, "c", 240, 5, "rwm"), rule(False, "c", 240, 5, "w")],
    "allow all": [ALLOW_ALL],
    "allow all but one": [ALLOW_ALL, rule(False, "c", 240, 5, "rwm")],
    "allow all but writing": [ALLOW_ALL, rule(False, "c", 240, 5, "w")],
}


@pytest.mark.parametrize("name", RULES)
def test_what_rules_say_is_what_a_process_can_do(path: str, scratch: str, name: str) -> None:
    make_nodes(scratch)
    rules = RULES[name]
    allowed = probe(Cgroup.create(path, {"devices": rules}), scratch)
    wrong = {
        (device, access): allowed[f"{device[0]}{device[1]}:{device[2]}", access]
        for device in DEVICES for access in (*OPENS, "m")
        if allowed[f"{device[0]}{device[1]}:{device[2]}", access] != expected(rules, device, access)
    }
    assert wrong == {}


@pytest.mark.parametrize("before", ["none", "deny all, allow one", "allow all", "allow all but one"])
@pytest.mark.parametrize("after", ["deny all", "deny all, allow reading", "allow all", "allow all but writing"])
def test_rules_of_a_group_in_use_can_be_replaced(path: str, scratch: str, before: str, after: str) -> None:
    make_nodes(scratch)
    group = Cgroup.create(path, {"devices": RULES[before]})
    Cgroup.open(path).apply({"devices": RULES[after]})
    allowed = probe(Cgroup.open(path), scratch)
    for device in DEVICES:
        for access in OPENS:
            name = f"{device[0]}{device[1]}:{device[2]}"
            assert allowed[name, access] == expected(RULES[after], device, access), (name, access)
    if group.v2 and "devices" not in Cgroup.open(path).v1:
        fd = os.open(group.v2, os.O_RDONLY)
        assert len(sc.bpf_prog_query(fd, sc.BPF_CGROUP_DEVICE)) == (0 if after == "allow all" else 1)
        os.close(fd)


def test_a_device_that_stays_allowed_works_all_the_while(path: str) -> None:
    group = Cgroup.create(path, {"devices": RULES["deny all, allow one"]})
    reader, writer = os.pipe2(os.O_NONBLOCK)

    def use() -> None:
        os.write(writer, b".")
        while True:
            os.close(os.open("/dev/null", os.O_RDWR))

    child = Child(group, use)
    for turn in range(50):
        group.apply({"devices": RULES["deny all, allow reading" if turn % 2 else "deny all, allow a major"]})
    assert os.waitpid(child.pid, os.WNOHANG) == (0, 0), "it met an error and ended"
    group.kill()
    assert child.wait() == -9
    os.close(reader)
    os.close(writer)


def test_rules_hold_for_processes_that_are_there_already(path: str, scratch: str) -> None:
    make_nodes(scratch)
    group = Cgroup.create(path, {"devices": [ALLOW_ALL]})
    go_on, told = os.pipe()
    answer, wrote = os.pipe()

    def work() -> None:
        assert try_open(f"{scratch}/c240:5", os.O_RDONLY)
        os.write(wrote, b".")
        os.read(go_on, 1)
        os.write(wrote, b"y" if try_open(f"{scratch}/c240:5", os.O_RDONLY) else b"n")

    child = Child(group, work)
    assert os.read(answer, 1) == b"."
    group.apply({"devices": [DENY_ALL]})
    os.write(told, b".")
    assert child.wait() == 0
    assert os.read(answer, 1) == b"n"
    for fd in (go_on, told, answer, wrote):
        os.close(fd)


@pytest.mark.needs("bpf_devices")
def test_the_standard_program_is_made_again_where_it_is_gone(path: str, scratch: str) -> None:
    found = hierarchy()
    if not found.v2:
        pytest.skip("v1 only")
    holder = f"{found.v2}/mydocker-devices-{standard_devices.STANDARD_DIGEST}"
    Cgroup.create(path, {})
    os.rmdir(holder)
    make_nodes(scratch)
    for _ in range(2):  # the one that loads it, and one that finds it
        allowed = probe(Cgroup.create(path, {}), scratch)
        assert (allowed["c1:3", "rw"], allowed["c240:5", "r"]) == (True, False)
    assert os.path.isdir(holder)
    os.rmdir(holder)
    os.mkdir(holder)  # as if its maker had been killed before it attached the program
    assert not probe(Cgroup.create(path, {}), scratch)["c240:5", "r"]


def refuse_bpf() -> None:
    """Have bpf(2) fail with ENOSYS in this process, as on a kernel without it: a filter of seccomp(2)."""
    import ctypes
    import struct

    code = [
        (0x20, 0, 0, 0),  # the number of the call
        (0x15, 0, 1, {"x86_64": 321, "aarch64": 280}[os.uname().machine]),
        (0x06, 0, 0, 0x00050000 | errno.ENOSYS),
        (0x06, 0, 0, 0x7FFF0000),
    ]
    program = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *row) for row in code))
    header = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(code), ctypes.addressof(program)))
    sc.prctl(38, 1)  # PR_SET_NO_NEW_PRIVS
    sc.prctl(22, 2, ctypes.addressof(header))  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def test_without_device_programs_v1_denies_and_without_both_the_start_fails(path: str, scratch: str) -> None:
    make_nodes(scratch)
    has_v1 = "devices" in hierarchy().v1
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            refuse_bpf()
            try:
                group = Cgroup.create(path, {})
                allowed = probe(group, scratch)
                os.write(writer, repr(("devices" in group.v1, allowed["c240:5", "r"], allowed["c1:3", "rw"])).encode())
            except Unsupported as error:
                os.write(writer, error.message.encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with open(reader, encoding="utf-8") as stream:
        text = stream.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    if has_v1:
        assert text == "(True, False, True)"
    else:
        assert "neither the devices controller" in text
        assert "ENOSYS" in text


# ---- containers

SCRIPT = """
mknod /tmp/x c 240 5 && mknod /tmp/kmem c 1 2 && mknod /tmp/disk b 240 5 || exit 1
for node in /tmp/x /tmp/kmem /tmp/disk; do head -c 1 $node 2>&1; done
echo x >/dev/null && head -c 1 /dev/zero >/dev/null && head -c 1 /dev/urandom >/dev/null && echo fine
"""


@pytest.mark.needs("overlay")
def test_a_container_cannot_open_the_device_nodes_that_it_makes(mydocker: Mydocker, busybox: str) -> None:
    shown = mydocker("run", "--rm", busybox, "sh", "-c", SCRIPT)
    assert shown.out.count("Operation not permitted") == 3, shown.out
    assert shown.out.endswith("fine\n")


@pytest.mark.needs("overlay")
def test_a_process_of_exec_has_the_containers_rules(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "-name", "c", busybox, "sleep", "1000")
    shown = mydocker("exec", "c", "sh", "-c", SCRIPT)
    assert shown.out.count("Operation not permitted") == 3, shown.out


@pytest.mark.needs("overlay")
@pytest.mark.parametrize(("options", "denied"), [(["--device-cgroup-rule", "c 240:* r"], 2), (["--privileged"], 0)])
def test_what_is_allowed_besides_reaches_the_driver(mydocker: Mydocker, busybox: str, options: list[str], denied: int) -> None:
    shown = mydocker("run", "--rm", *options, busybox, "sh", "-c", SCRIPT)
    assert shown.out.count("Operation not permitted") == denied, shown.out
    assert "No such device or address" in shown.out
