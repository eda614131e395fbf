"""What enters a container is not to be had from inside: programs of the host, descriptors, directories, environments.

Rows of the attack list: 2019-5736 (/proc/self/exe), 2024-21626 (leaked descriptors, working directory), 2026-41567, 2019-14271,
2022-1227 (the host runs the container's programs and libraries), NVIDIA 2024-0132, 2025-23266 (environment of helpers),
2021-3602, 2020-14370 (the caller's environment leaks).
"""
from __future__ import annotations

import fcntl
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from attack_rig import build_attack, load_image, own_programs
from harness import Mydocker, is_running, process_environ, processes
from image_rig import member

from mydocker import Engine

pytestmark = [pytest.mark.needs("root", "overlay", "gcc")]

@pytest.fixture
def untouched() -> Iterator[None]:
    """The interpreter, the last stage and the monitor are afterwards what they were."""
    before = own_programs()
    yield
    assert own_programs() == before


def test_what_execs_into_a_container_cannot_be_opened_for_writing_there(
    mydocker: Mydocker, busybox: str, attack_directory: str, untouched: None
) -> None:
    """CVE-2019-5736. Everything that enters is hidden from who has not got all its capabilities (ptrace(2), access mode checking).

    The next test is about who has them; defences are csrc/init/entering.h and runtime/plan.py open_sealed.
    """
    mydocker("run", "-d", "--name", "c", "-v", f"{attack_directory}:/attack:ro", busybox, "/attack/attack", "open-exes", "1000")
    for number in range(40):
        mydocker("exec", *(["-u", "1000"] if number % 2 else []), "c", "true")
    mydocker("stop", "-t", "0", "c")
    lines = mydocker("logs", "c").out.splitlines()
    assert "hidden" in lines, "it looked while we entered"
    assert [line for line in lines if line.startswith(("OPENED", "WROTE"))] == []
    assert {line for line in lines if line.startswith("saw")} <= {"saw /memfd:mydocker-init (deleted)"}


def test_one_who_may_trace_everything_sees_the_last_stage_of_an_exec_and_nothing_of_the_host(
    mydocker: Mydocker, busybox: str, attack_directory: str, untouched: None
) -> None:
    """With CAP_SYS_PTRACE nothing in the pid namespace can be hidden, so what is the host's must never be in it.

    Defences: csrc/init/entering.h; with the interpreter in the namespace this saw python3, and the host's root behind it.
    runtime/plan.py open_sealed; without the seals this WROTE the memfd.
    """
    canary = f"{attack_directory}/attack"
    mydocker(
        "run", "-d", "--name", "c", "--cap-add", "SYS_PTRACE", "-v", f"{attack_directory}:/attack:ro", busybox,
        "/attack/attack", "open-exes", "1000", canary)
    for number in range(30):
        mydocker("exec", *(["-u", "1000"] if number % 2 else []), "c", "true")
    mydocker("stop", "-t", "0", "c")
    lines = mydocker("logs", "c").out.splitlines()
    assert "saw /memfd:mydocker-init (deleted)" in lines, "it looked while we entered"
    assert set(lines) <= {"saw /memfd:mydocker-init (deleted)", "gone", "hidden"}


@pytest.mark.time_limit(150)
def test_one_who_may_trace_everything_sees_nothing_of_the_host_in_who_joins_its_pid_namespace(
    mydocker: Mydocker, busybox: str, attack_directory: str, untouched: None
) -> None:
    """As above, for whole containers that are made in there: their init stays outside until it is the last stage.

    Defences: runtime/namespaces.py late_pid, csrc/init/procfs.h; without them this saw python3, and read the host's files.
    """
    canary = f"{attack_directory}/attack"
    mydocker(
        "run", "-d", "--name", "c", "--cap-add", "SYS_PTRACE", "-v", f"{attack_directory}:/attack:ro", busybox,
        "/attack/attack", "open-exes", "1000", canary)
    ways = (["-u", "1000"], ["--read-only"], ["--init"], ["--tmpfs", "/x"], ["-t"])
    for number in range(15):
        mydocker("run", "--rm", "--network", "none", "--pid", "container:c", *ways[number % len(ways)], busybox, "sleep", "0")
    mydocker("stop", "-t", "0", "c")
    lines = mydocker("logs", "c").out.splitlines()
    assert "saw /memfd:mydocker-init (deleted)" in lines, "it looked while we entered"
    assert {line for line in lines if not line.startswith("saw /bin/")} <= {"saw /memfd:mydocker-init (deleted)", "gone", "hidden"}


def test_who_keeps_the_last_stage_open_for_writing_stops_no_start(mydocker: Mydocker, busybox: str, engine: Engine) -> None:
    """A container that got hold of the sealed program cannot write it, but execve(2) of what is open for writing is ETXTBSY.

    All starts of a launcher share its copy: one container could stop them all. Taken here from outside, so that it is sure.
    """
    held = []
    engine.containers.run(busybox, ["true"], rm=True)
    try:
        for pid in children():
            held += [os.open(path, os.O_RDWR) for path in programs_of(pid)]
        assert held, "the launcher has no copy"
        assert engine.containers.run(busybox, ["true"], rm=True).exit_code == 0
        with engine.containers.run(busybox, ["sleep", "1000"], detach=True) as joined:
            assert engine.containers.run(busybox, ["true"], rm=True, pid=f"container:{joined.id}").exit_code == 0
    finally:
        for fd in held:
            os.close(fd)


def children() -> list[int]:
    """Return the pids of this process's children, the launcher among them."""
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as stream:
        return [int(pid) for pid in stream.read().split()]


def programs_of(pid: int) -> list[str]:
    """Return the paths of a process's descriptors that lead to a copy of the last stage."""
    directory = f"/proc/{pid}/fd"
    found = []
    for fd in os.listdir(directory):
        with suppress(FileNotFoundError):  # closed meanwhile
            if os.readlink(f"{directory}/{fd}").startswith("/memfd:mydocker-init"):
                found.append(f"{directory}/{fd}")
    return found


def test_a_command_that_is_the_entering_program_itself_gets_nothing(
    mydocker: Mydocker, busybox_tar: str, untouched: None
) -> None:
    """CVE-2019-5736, first half: `#!/proc/self/exe` makes the kernel execute whatever enters: here a sealed memfd, no host file."""
    image = load_image(
        mydocker, busybox_tar, member("evil", b"#!/proc/self/exe\n", mode=0o755),
        member("bin/linked", type=b"2", linkname="/proc/self/exe"), config={"Entrypoint": ["/evil"]})
    mydocker("run", "--rm", image, code=125)
    mydocker("run", "--rm", "--entrypoint", "linked", image, code=None)
    mydocker("run", "-d", "--name", "c", "--entrypoint", "sleep", image, "1000")
    mydocker("exec", "c", "/evil", code=125)
    mydocker("exec", "c", "/proc/self/exe", code=None)


@pytest.mark.parametrize(("words", "extra"), [
    ([], 1 << 21), (["--security-opt", "no-new-privileges"], 0), (["--security-opt", "seccomp=unconfined"], 0), (["-u", "1000"], 1 << 21),
    (["--init", "--cap-drop", "ALL"], 1 << 21),
])
def test_what_waits_for_the_start_has_no_capability_more_than_it_needs(
    mydocker: Mydocker, busybox: str, words: list[str], extra: int
) -> None:
    """csrc/init/init.c shed_capabilities: whoever can trace it (a pid namespace that is shared) gets no more than that."""
    mydocker("create", "--name", "c", *words, busybox, "true")
    with open(f"/proc/{mydocker.pid_of('c')}/status") as stream:
        sets = {line.split()[0]: int(line.split()[1], 16) for line in stream if line.startswith("Cap")}
    default = 0 if "ALL" in words else 0xA80425FB
    assert sets["CapPrm:"] == sets["CapEff:"] == default | extra  # CAP_SYS_ADMIN loads the filter
    assert (sets["CapInh:"], sets["CapBnd:"]) == (0, default)


def test_the_last_stage_is_sealed(mydocker: Mydocker, busybox: str) -> None:
    """runtime/plan.py open_sealed: a created container's init is the memfd, and even root outside cannot change it."""
    mydocker("create", "--name", "c", busybox, "true")
    pid = mydocker.pid_of("c")
    assert os.readlink(f"/proc/{pid}/exe") == "/memfd:mydocker-init (deleted)"
    with open(f"/proc/{pid}/exe", "rb") as program:
        seals = fcntl.fcntl(program, fcntl.F_GET_SEALS)
    assert seals == fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


def leaking(fd: int) -> dict[str, object]:
    """Options of a command that inherits a directory as its descriptor 9, as careless shells and services pass one on."""
    return {"pass_fds": (9,), "preexec_fn": lambda: os.dup2(fd, 9)}


@pytest.fixture
def host_directory(scratch: str) -> Iterator[int]:
    """A directory of the host with a file `canary`."""
    with open(f"{scratch}/canary", "w") as stream:
        stream.write("of the host")
    fd = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("way", ["run", "exec", "created"])
def test_only_the_three_standard_descriptors_are_open_inside(
    mydocker: Mydocker, busybox: str, attack_directory: str, host_directory: int, way: str
) -> None:
    """CVE-2024-21626. Defence: csrc/init/init.c close_other_descriptors; before it, engine/stage.py become_monitor."""
    leak, volume = leaking(host_directory), ["-v", f"{attack_directory}:/attack:ro"]
    if way == "run":
        out = mydocker("run", "--rm", *volume, busybox, "/attack/attack", "fds", **leak).out
    elif way == "exec":
        mydocker("run", "-d", "--name", "c", *volume, busybox, "sleep", "1000", **leak)
        out = mydocker("exec", "c", "/attack/attack", "fds", **leak).out
    else:
        mydocker("create", "--name", "c", *volume, busybox, "/attack/attack", "fds", **leak)
        pid = mydocker.pid_of("c")
        held = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert [path for path in held if path.startswith("/") and not path.startswith(("/dev/null", "/memfd:"))] == []
        out = mydocker("start", "-a", "c", **leak).out
    assert [line.split()[0] for line in out.splitlines()] == ["0", "1", "2"]
    assert not re.search(r" /(?!dev/null)", out)


@pytest.mark.time_limit(200)
@pytest.mark.parametrize("way", ["run", "exec"])
def test_a_working_directory_behind_a_descriptor_of_ours_is_refused(
    mydocker: Mydocker, busybox: str, host_directory: int, way: str
) -> None:
    """CVE-2024-21626. Defence: runtime/init.py makes the directory by openat2, csrc/init/init.c closes first and checks getcwd."""
    leak = leaking(host_directory)
    if way == "exec":
        mydocker("run", "-d", "--name", "c", busybox, "sleep", "1000", **leak)
    for number in (*range(24), 30, 40, 64):
        words = ["exec", "-w"] if way == "exec" else ["run", "--rm", "-w"]
        target = ["c"] if way == "exec" else [busybox]
        done = mydocker(
            *words, f"/proc/self/fd/{number}", *target, "sh", "-c", "cat canary; ls -d etc/shadow ../../etc/shadow; pwd -P",
            code=None, **leak)
        assert "of the host" not in done.out and "shadow" not in done.out, done
        # Those that are there inside are a directory of the container's own or none at all.
        assert done.code != 0 or done.out.strip().startswith("/"), done


TROJANS = "xz unxz gzip gunzip pigz unpigz zstd tar git nsenter ps sh mount umount ip modprobe runc python3 env".split()


@pytest.fixture
def trojans(scratch: str) -> list[tuple[object, bytes]]:
    """Programs and libraries that tell the canary who runs them, under every name that an engine may look for."""
    build_attack(scratch)
    script = b"#!/bin/busybox sh\necho TROJAN $0 $(/bin/busybox id -u) $(/bin/busybox env | /bin/busybox grep TOKEN) >> /canary\n"
    found: list[tuple[object, bytes]] = []
    for directory in ("usr/local/sbin", "usr/local/bin", "usr/sbin", "sbin"):
        found += [member(f"{directory}/{name}", script, mode=0o755) for name in TROJANS]
    for library in ("libnss_files.so.2", "libnss_dns.so.2", "libc.so.6", "libcap.so.2", "libseccomp.so.2", "evil.so"):
        found += [member(f"{directory}/{library}", b"\x7fELF not a library", mode=0o755) for directory in ("lib", "lib64", "usr/lib")]
    found += [
        member("etc/ld.so.preload", b"/lib/evil.so\n"), member("etc/nsswitch.conf", b"passwd: files evil\ngroup: files evil\n"),
        member("python/sitecustomize.py", b"open('/canary', 'a').write('TROJAN sitecustomize')\n"),
        member("python/encodings/__init__.py", b"open('/canary', 'a').write('TROJAN encodings')\n"),
    ]
    return found


def test_no_verb_runs_a_program_of_the_containers(
    mydocker: Mydocker, busybox_tar: str, trojans: list[tuple[object, bytes]], scratch: str
) -> None:
    """Defences: runtime/init.py execve of the memfd only, users.py in place of NSS, nothing imported after the root is entered."""
    image = load_image(mydocker, busybox_tar, *trojans, config={  # type: ignore[arg-type]
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/bin", "LD_PRELOAD=/lib/evil.so", "LD_LIBRARY_PATH=/lib",
                "PYTHONPATH=/python", "PYTHONHOME=/python", "PYTHONSTARTUP=/python/sitecustomize.py", "BASH_ENV=/usr/sbin/sh"],
    })
    secret = {"TOKEN": "s3cret-of-the-caller"}
    mydocker("run", "-d", "--name", "c", "-u", "nobody", image, "/bin/busybox", "sleep", "1000", env=secret)
    mydocker("exec", "-u", "root", "c", "/bin/busybox", "true", env=secret)
    for words in (
        ["ps"], ["logs", "c"], ["inspect", "c"], ["pause", "c"], ["unpause", "c"], ["commit", "c", "copy"], ["stop", "-t", "0", "c"],
        ["start", "c"], ["restart", "-t", "0", "c"], ["kill", "c"],
    ):
        mydocker(*words, env=secret)
    mydocker("wait", "c")
    mydocker("run", "--rm", "-i", "copy", "/bin/busybox", "cat", env=secret, stdin=b"x")
    upper = f"{mydocker.directory_of('c')}/upper"
    assert not os.path.exists(f"{upper}/canary")
    for top, _, files in os.walk(f"{mydocker.root}/container"):
        for name in set(files) - {"control"}:
            with open(f"{top}/{name}", "rb") as stream:
                assert b"s3cret-of-the-caller" not in stream.read(), f"{top}/{name}"


@pytest.fixture
def hostile_library() -> list[tuple[object, bytes]]:
    """A file for each module of our interpreter's library, where that looks for it: whoever imports one tells the canary."""
    directory = os.path.dirname(os.__file__)
    told = b"open('/out/canary', 'a').write(__name__ + open('/proc/self/status').read())\n"
    return [member(f"{directory[1:]}/{name}", told) for name in sorted(os.listdir(directory)) if name.endswith(".py")]


@pytest.mark.parametrize(("key", "word"), [
    ("Env", ["A=x\0y"]), ("Cmd", ["sh", "a\0b"]), ("WorkingDir", "/a\0b"), ("User", "a\0b"),
])
def test_words_that_no_program_takes_are_an_error_and_import_nothing_from_the_image(
    mydocker: Mydocker, busybox_tar: str, hostile_library: list[tuple[object, bytes]], scratch: str, key: str, word: object
) -> None:
    """The report of an error inside once imported `traceback`: the image's, with every capability and no filter.

    Half of a surrogate pair did it, which an image may not have any more (oci/image_spec.py); a NUL is found where it is packed.
    Defences: runtime/handover.py refuse_imports, plan.py encode.
    """
    image = load_image(mydocker, busybox_tar, *hostile_library, config={key: word})  # type: ignore[arg-type]
    done = mydocker("run", "--rm", "--network", "none", "-v", f"{scratch}:/out", image, code=125)
    field = {"Env": "process.env: ", "Cmd": "process.args: ", "WorkingDir": "process.cwd: ", "User": "user "}[key]
    assert done.one_error_line().startswith(field), done
    assert os.listdir(scratch) == []


@pytest.mark.parametrize("way", ["run", "exec"])
def test_a_bug_of_ours_inside_of_a_container_imports_nothing_from_it(
    mydocker: Mydocker, busybox_tar: str, hostile_library: list[tuple[object, bytes]], scratch: str, way: str
) -> None:
    """Whatever goes wrong behind the entry: runtime/handover.py report_and_exit has all that it needs."""
    image = load_image(mydocker, busybox_tar, *hostile_library)  # type: ignore[arg-type]
    mydocker("run", "-d", "--name", "c", "--network", "none", "-v", f"{scratch}:/out", image, "sleep", "1000")
    words = ["exec", "c"] if way == "exec" else ["run", "--rm", "--network", "none", "-v", f"{scratch}:/out", image]
    bug = {"MYDOCKER_TRACE": "init entered root=raise,exec entered root=raise"}
    done = mydocker(*words, "true", code=None, env=bug)
    assert done.code and "internal error: AssertionError" in done.err and "Traceback" not in done.err
    assert os.listdir(scratch) == []


@pytest.mark.parametrize("way", ["run", "exec"])
def test_a_home_with_nuls_is_taken_for_nothing_else(mydocker: Mydocker, busybox_tar: str, way: str) -> None:
    """In the plan strings end with a NUL: what follows one in a HOME was taken for the AppArmor profile (`unconfined`)."""
    image = load_image(mydocker, busybox_tar, member("etc/passwd", b"root:x:0:0:root:/\0\0unconfined:/bin/sh\n"))
    if way == "run":
        done = mydocker("run", "--rm", "--network", "none", image, "true", code=125)
    else:
        mydocker("run", "-d", "--name", "c", "--network", "none", "-e", "HOME=/", image, "sleep", "1000")
        done = mydocker("exec", "-e", "HOME=", "c", "true", code=None)
    assert done.code and "process.env: 'HOME=/" in done.one_error_line() and "apparmor" not in done.err


def test_the_images_environment_reaches_the_command_only(mydocker: Mydocker, busybox_tar: str) -> None:
    """NVIDIA 2024-0132, 2025-23266. Defences: execve of the last stage with {} (runtime/init.py), engine/stage.py _ENVIRONMENT.

    The last stage is looked at while it waits for START, the monitor while it serves, both by /proc/PID/environ.
    """
    hostile = ["LD_PRELOAD=/lib/evil.so", "PYTHONPATH=/python", "GLIBC_TUNABLES=x=y", "SECRET_OF_IMAGE=1"]
    image = load_image(mydocker, busybox_tar, config={"Env": hostile})
    mydocker("create", "--name", "c", image, "env", env={"CALLERS": "token"})
    for pid in (mydocker.pid_of("c"), mydocker.monitor_of("c")):
        environ = process_environ(pid)
        assert not any(word in environ for word in ("LD_PRELOAD", "PYTHONPATH", "GLIBC", "SECRET", "CALLERS")), environ
    out = mydocker("start", "-a", "c").out
    assert {line for line in out.splitlines() if line in hostile} == set(hostile)
    assert "CALLERS" not in out


@pytest.mark.parametrize("network", ["none", "host"])
def test_the_callers_environment_stays_with_the_caller(mydocker: Mydocker, busybox: str, network: str) -> None:
    """CVE-2021-3602, 2020-14370: a secret of the command line's environment is in no process, record, log or output."""
    secret = {"AWS_SECRET": "s3cret-of-the-caller", "HTTP_PROXY": "http://s3cret-of-the-caller@proxy"}
    mydocker("run", "-d", "--name", "c", "--network", network, busybox, "sh", "-c", "env; sleep 1000", env=secret)
    inside = mydocker("exec", "c", "env", env=secret).out
    told = inside + mydocker("inspect", "c", env=secret).out + mydocker("logs", "c").out
    told += process_environ(mydocker.pid_of("c")) + process_environ(mydocker.monitor_of("c"))
    assert "s3cret" not in told
    for pid, argv in processes():
        if any("mydocker" in word for word in argv) and pid != os.getpid() and mydocker.root in argv:
            assert "s3cret" not in process_environ(pid)
    assert "s3cret" not in subprocess.run(["grep", "-r", "s3cret", mydocker.root], capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("network", ["none", "host"])
def test_the_engine_has_no_abstract_socket_and_its_sockets_are_its_own(
    mydocker: Mydocker, busybox: str, attack_directory: str, network: str
) -> None:
    """CVE-2020-15257: abstract sockets are reachable from every container in the host's network namespace. There is none."""
    mydocker(
        "run", "-d", "--name", "c", "--network", network, "-v", f"{attack_directory}:/attack:ro", busybox, "sleep", "1000")
    session = mydocker.popen("exec", "-i", "c", "cat")
    try:
        time.sleep(0.5)
        assert mydocker("exec", "c", "/attack/attack", "abstract", "docker").out.replace("docker.sock", "") == ""
        with open("/proc/net/unix") as stream:
            names = [line.split()[-1] for line in stream if "@" in line]
        assert [name for name in names if "mydocker" in name] == []
        control = os.stat(f"{mydocker.directory_of('c')}/control")
        assert os.stat(mydocker.directory_of("c")).st_mode & 0o077 == 0
        assert control.st_uid == 0
        assert is_running(session.pid)
    finally:
        session.communicate(b"")
