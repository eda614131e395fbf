"""Who a container's processes are: users, groups, capabilities; by files that the image controls.

Rows of the attack list: 2024-9676, 2026-47262 (passwd is a FIFO, a link, huge), 2024-40635, 2026-46680, 2026-30892 (numbers
that wrap to root), cri-o 2022-4318 (newlines), 2022-24769, 2022-29162, 2022-27649, 2022-27650 (inheritable capabilities),
2022-36109, 2022-2990, 2023-25173 (supplementary groups).
The defence is runtime/users.py: numbers are numbers, files are read bounded, without blocking, inside the root.
"""
from __future__ import annotations

import os
import resource
import tarfile
import time

import pytest
from attack_rig import load_image
from harness import PATIENCE, Mydocker
from image_rig import Member, member, symlink
from runtime_rig import Runtime, runtime  # noqa: F401

pytestmark = [pytest.mark.needs("root", "overlay")]

PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\n1:x:0:0:a number as a name:/:/bin/sh\n1000:x:0:0::/:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n"
    "wrapped:x:4294967296:0::/:/bin/sh\nminus:x:-1:-1::/:/bin/sh\nempty:x:::::\n:x:0:0::/:/bin/sh\n"
)
GROUP = "root:x:0:\n5:x:0:\nuser:x:1000:\nsecret:x:2000:user\nmore:x:2001:other,user\nmine:x:1000:user\nwrapped:x:4294967296:\n"

#: A user that must be refused.
REFUSED = (
    "2147483648", "4294967295", "4294967296", "-1", "00", "01", "+1", "0x0", "1:", "user:", "99999999999999999999", "no-such-user",
    "root\n", "0\n0", "wrapped", "minus", "empty", "user:no-such-group", "user:4294967296", "user:-1", "user:wrapped", "1:1:1", ":1", ":",
    " ", "0 ", "٠",
)
#: A user -> uid, gid, groups.
TAKEN = {
    "": ("0", "0"), "0": ("0", "0"), "1": ("1", "0"), "1000": ("1000", "1000"), "2147483647": ("2147483647", "0"),
    "1:5": ("1", "5"), "user:5": ("1000", "5"), "1:1": ("1", "1"), "root": ("0", "0"),
}


@pytest.fixture
def image(mydocker: Mydocker, busybox_tar: str) -> str:
    return load_image(
        mydocker, busybox_tar, member("etc/passwd", PASSWD.encode()), member("etc/group", GROUP.encode()))


@pytest.mark.time_limit(200)
@pytest.mark.parametrize("way", ["run", "exec", "image"])
def test_a_user_that_is_no_user_never_becomes_root(mydocker: Mydocker, busybox_tar: str, image: str, way: str) -> None:
    if way == "exec":
        mydocker("run", "-d", "--name", "c", image, "sleep", "1000")
    for user in REFUSED:
        if way == "run":
            done = mydocker("run", "--rm", "-u", user, image, "id", code=None)
        elif way == "exec":
            done = mydocker("exec", "-u", user, "c", "id", code=None)
        else:
            named = load_image(
                mydocker, busybox_tar, member("etc/passwd", PASSWD.encode()), member("etc/group", GROUP.encode()),
                name="named:1", config={"User": user})
            done = mydocker("run", "--rm", named, "id", code=None)
        assert done.code == 125 and done.out == "", f"{user!r}: {done}"
        assert "Traceback" not in done.err


@pytest.mark.parametrize("way", ["run", "image"])
def test_a_number_is_that_number_whatever_the_image_calls_so(mydocker: Mydocker, busybox_tar: str, image: str, way: str) -> None:
    for user, (uid, gid) in TAKEN.items():
        if way == "run":
            out = mydocker("run", "--rm", *(["-u", user] if user else []), image, "sh", "-c", "id -u; id -g").out
        else:
            named = load_image(
                mydocker, busybox_tar, member("etc/passwd", PASSWD.encode()), member("etc/group", GROUP.encode()),
                name="named:1", config={"User": user})
            out = mydocker("run", "--rm", named, "sh", "-c", "id -u; id -g").out
        assert out.split() == [uid, gid], user


@pytest.mark.parametrize("way", ["run", "exec"])
def test_supplementary_groups_are_exactly_those_of_the_image(mydocker: Mydocker, busybox_tar: str, way: str) -> None:
    """CVE-2022-36109, 2022-2990, 2023-25173: too few let a file through that denies its group, too many open one."""
    group = "root:x:0:\nuser:x:1000:\nsecret:x:2000:user\nmore:x:2001:other,user\nmine:x:1000:user\nothers:x:2002:userx,xuser,use\n"
    image = load_image(
        mydocker, busybox_tar, member("etc/passwd", PASSWD.encode()), member("etc/group", group.encode()),
        member("denied", b"secret", mode=0o604, gid=2000), member("opened", b"secret", mode=0o640, gid=2002))
    wanted = {
        "user": "1000 2000 2001", "1000": "1000 2000 2001", "user:user": "1000", "user:2000": "2000", "0": "0", "1000:1000": "1000",
        "root": "0", "7": "0", "7:7": "7",
    }
    mydocker("run", "-d", "--name", "c", image, "sleep", "1000")
    for user, groups in wanted.items():
        words = ["exec", "-u", user, "c"] if way == "exec" else ["run", "--rm", "-u", user, image]
        out = mydocker(*words, "sh", "-c", "grep Groups /proc/self/status; id -g; cat /denied /opened 2>/dev/null; true").out.splitlines()
        assert out[1] in groups.split()
        assert set(out[0].partition(":")[2].split()) == set(groups.split()), user
        if user == "user":
            assert out[2:] == [], "denied to its group, and closed to everyone else"


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("user", ["1000:2000", "user:secret", "user"])
def test_a_setgid_program_opens_nothing_that_denies_the_users_group(
    mydocker: Mydocker, busybox_tar: str, attack_directory: str, user: str
) -> None:
    """CVE-2022-36109: the program's group takes the place of the user's own, which must be a supplementary one as well."""
    with open(f"{attack_directory}/attack", "rb") as stream:
        program = stream.read()
    passwd = "root:x:0:0:root:/:/bin/sh\nuser:x:1000:2000:user:/:/bin/sh\n"
    image = load_image(
        mydocker, busybox_tar, member("etc/passwd", passwd.encode()), member("etc/group", b"root:x:0:\nsecret:x:2000:\ngame:x:3000:\n"),
        member("denied", b"secret", mode=0o604, gid=2000), member("game", program, mode=0o2755, gid=3000))
    mydocker("run", "-d", "--name", "c", "-u", user, image, "sleep", "1000")
    for words in (["run", "--rm", "-u", user, image], ["exec", "c"], ["exec", "-u", user, "c"]):
        assert mydocker(*words, "/game", "read", "/denied").out == "group 3000: EACCES\n"


@pytest.mark.parametrize("words", [[], ["-u", "1000"], ["--cap-add", "NET_ADMIN"], ["--cap-drop", "ALL"], ["--cap-add", "ALL"]])
def test_inheritable_capabilities_are_empty(mydocker: Mydocker, image: str, words: list[str]) -> None:
    """CVE-2022-24769 and its kin: with them a file with inheritable capabilities gives them to anyone. engine/spec.py sets none."""
    mydocker("run", "-d", "--name", "c", *words, image, "sleep", "1000")
    for inside in (["c"], ["-u", "1000", "c"], ["-u", "user", "c"]):
        status = mydocker("exec", *inside, "cat", "/proc/1/status", "/proc/self/status").out
        sets = [line.split() for line in status.splitlines() if line.startswith(("CapInh", "CapAmb"))]
        assert len(sets) == 4
        assert all(int(value, 16) == 0 for _, value in sets), sets


def test_a_capability_given_to_an_execd_process_is_not_inheritable(runtime: Runtime) -> None:  # noqa: F811
    """CVE-2022-29162: `runc exec --cap` gave it to the inheritable set, too. runtime/verbs/exec.py add_capabilities."""
    runtime("create", "--bundle", runtime.bundle("sleep", "1000"), "c")
    runtime("start", "c")
    status = runtime("exec", "--cap", "CAP_NET_ADMIN", "c", "cat", "/proc/self/status").stdout
    sets = {line.split()[0]: int(line.split()[1], 16) for line in status.splitlines() if line.startswith("Cap")}
    assert sets["CapPrm:"] & 1 << 12 and sets["CapInh:"] == sets["CapAmb:"] == 0


def fifo(name: str) -> Member:
    return member(name, type=tarfile.FIFOTYPE)


def device(name: str) -> Member:
    return member(name, type=tarfile.CHRTYPE, devmajor=1, devminor=5)


HOSTILE_FILES = {
    "a FIFO": [fifo("etc/passwd"), fifo("etc/group")],
    "a link to /dev/zero": [symlink("etc/passwd", "/dev/zero"), symlink("etc/group", "../dev/zero")],
    "the device of zeros": [device("etc/passwd"), device("etc/group")],
    "a link to itself": [symlink("etc/passwd", "passwd"), symlink("etc/group", "group")],
    "a link out of the root": [symlink("etc/passwd", "../../../../../../etc/passwd"), symlink("etc/group", "/proc/1/root/etc/group")],
    "a directory": [member("etc/passwd", type=tarfile.DIRTYPE), member("etc/group", type=tarfile.DIRTYPE)],
    "a link to a process' memory": [symlink("etc/passwd", "/proc/self/mem"), symlink("etc/group", "/proc/kmsg")],
    "no text": [member("etc/passwd", bytes(range(256)) * 100), member("etc/group", b"\n\0:" * 10000)],
    "ten million lines": [member("etc/passwd", b"a:x:7:7::/:\n" * 10_000_000), member("etc/group", b"a:x:7:user\n" * 10_000_000)],
    "one endless line": [member("etc/passwd", b"x" * 40_000_000), member("etc/group", b"user,:" * 7_000_000)],
}


def limit_memory() -> None:
    """Let a command and all that it starts have little memory: what reads an endless file fails soon."""
    resource.setrlimit(resource.RLIMIT_AS, (300 << 20, 300 << 20))


@pytest.mark.time_limit(200)
@pytest.mark.parametrize("kind", HOSTILE_FILES)
def test_hostile_user_files_neither_hang_nor_fill_memory_nor_leave_the_root(
    mydocker: Mydocker, busybox_tar: str, kind: str
) -> None:
    """CVE-2024-9676. A name is not found, a number works; in bounded time and memory."""
    old = [member("etc/.wh.passwd"), member("etc/.wh.group")]
    image = load_image(mydocker, busybox_tar, *old, *HOSTILE_FILES[kind], name="hostile:1")
    for words in (["run", "--rm", "-u", "user:user"], ["run", "--rm", "-u", "1000:1000"]):
        started = time.monotonic()
        done = mydocker(*words, image, "stat", "-L", "-c", "%u", "/proc/self", code=None, preexec_fn=limit_memory)
        assert time.monotonic() - started < 10 * PATIENCE
        if "1000:1000" in words:
            assert (done.code, done.out) == (0, "1000\n"), done
        else:
            assert done.code == 125 and "etc/passwd" in done.one_error_line(), done


def test_a_sparse_file_of_gigabytes_as_the_user_database_is_read_in_bounds(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    for name in ("passwd", "group"):
        with open(f"{scratch}/{name}", "wb") as stream:
            stream.truncate(5 << 30)
    started = time.monotonic()
    done = mydocker(
        "run", "--rm", "-v", f"{scratch}/passwd:/etc/passwd", "-v", f"{scratch}/group:/etc/group", "-u", "user", busybox, "id", code=125,
        preexec_fn=limit_memory)
    assert "user" in done.one_error_line()
    assert time.monotonic() - started < 10 * PATIENCE


def test_newlines_and_nul_reach_no_line_based_file(mydocker: Mydocker, busybox_tar: str) -> None:
    """CVE-2022-4318: a line break in HOME, host name, label or variable adds a line to a file that the engine writes."""
    image = load_image(
        mydocker, busybox_tar, member("etc/passwd", b"user:x:1000:1000::/home\\nevil:/bin/sh\n"),
        config={"Env": ["HOME=/x\nevil:x:0:0::/:/bin/sh"], "Labels": {"a\nb": "c\nd"}})
    out = mydocker("run", "--rm", image, "sh", "-c", "cat /etc/passwd /etc/hosts /etc/hostname; env").out
    files, _, environment = out.partition("\n\n") if "\n\n" in out else (out, "", "")
    assert "evil:x:0:0" not in files.split("HOME=")[0] and environment == ""
    for words in (["-h", "name\nevil 127.0.0.1"], ["-h", "a b"], ["-w", "relative"]):
        assert mydocker("run", "--rm", *words, image, "true", code=None).code == 125
    assert os.listdir(f"{mydocker.root}/container") == []
