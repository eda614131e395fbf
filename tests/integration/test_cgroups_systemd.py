"""Containers as units of a real systemd; the client of D-Bus against a real bus and beside busctl.

Where systemd is not the machine's init, one is started as pid 1 of a pid namespace, with a cgroup namespace and a /run of its own. It
takes a machine with cgroup v2 only, so that half plays in the guest.
"""
from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator

import pytest
from cgroup_rig import until
from runtime_rig import PROGRAM, Runtime

from mydocker.base.errors import NotFound, Unavailable, Unsupported
from mydocker.linux.cgroup import systemd
from mydocker.linux.cgroup.members import remove_with_processes
from mydocker.linux.cgroup.paths import write_text
from mydocker.linux.dbus import RETURN, Bus, Writer, format_call, parse_message

pytestmark = [pytest.mark.needs("root")]

BASE = "/sys/fs/cgroup/mydocker-systemd-test"
INIT = """
umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && mount -t tmpfs -o mode=755 tmpfs /run || exit 1
mkdir -p /run/lock /run/systemd/system
printf '[Unit]\\nDefaultDependencies=no\\n' >/run/systemd/system/mydocker-test.target
export container=mydocker-test
exec /lib/systemd/systemd --unit=mydocker-test.target --log-target=null
"""


class Systemd:
    """A systemd of the test's own, and commands beside it."""

    def __init__(self) -> None:
        os.mkdir(BASE)
        for controller in ("cpu", "memory", "pids", "io"):
            write_text("/sys/fs/cgroup/cgroup.subtree_control", f"+{controller}")
        namespaces = ["unshare", "--cgroup", "--mount", "--pid", "--fork", "--mount-proc", "--propagation", "private", "--kill-child"]
        self.process = subprocess.Popen(self._inside(BASE, *namespaces, "sh", "-c", INIT), stdin=subprocess.DEVNULL)
        until(self._is_up, 60)
        # What is to be moved into units has to be in a cgroup that this systemd sees, and not in its root.
        os.mkdir(f"{BASE}/tester.slice")
        with open(f"{BASE}/cgroup.procs", encoding="ascii") as stream:
            for pid in stream.read().split():  # unshare itself
                write_text(f"{BASE}/tester.slice/cgroup.procs", pid)

    @staticmethod
    def _inside(directory: str, *argv: str) -> list[str]:
        return ["sh", "-c", 'echo 0 >"$0/cgroup.procs" && exec "$@"', directory, *argv]

    @property
    def pid(self) -> int:
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as stream:
            return int((stream.read().split() or ["0"])[0])

    def _is_up(self) -> bool:
        assert self.process.poll() is None, "systemd did not start"
        return os.path.exists(f"/proc/{self.pid}/root/run/systemd/private") if self.pid else False

    def __call__(self, *argv: str, code: int = 0) -> str:
        """Run a command with systemd's namespaces, and return what it writes."""
        command = self._inside(f"{BASE}/tester.slice", "nsenter", "-t", str(self.pid), "-m", "-p", "-C", *argv)
        # A file, not a pipe: a container that stays holds it open.
        with tempfile.TemporaryFile("w+") as out:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, check=False, timeout=120)
            out.seek(0)
            text = out.read()
        assert done.returncode == code, f"{argv}: {done.returncode}: {text}"
        return text

    def show(self, unit: str, *names: str) -> dict[str, str]:
        lines = self("systemctl", "show", unit, *(f"--property={name}" for name in names)).splitlines()
        return dict(line.partition("=")[::2] for line in lines)

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
        self.process.wait()
        remove_with_processes(BASE)


@pytest.fixture(scope="module")
def manager() -> Iterator[Systemd]:
    started = Systemd()
    yield started
    started.close()


def bundle(runtime: Runtime, path: str, **linux: object) -> str:
    return runtime.bundle("sleep", "1000", linux={"cgroupsPath": path, **linux})


def group_of(path: str) -> str:
    return f"{BASE}{path}"


def read(path: str) -> str:
    with open(path, encoding="ascii") as stream:
        return stream.read().strip()


RESOURCES = {
    "memory": {"limit": 67108864}, "cpu": {"shares": 512, "quota": 20000, "period": 100000}, "pids": {"limit": 33},
    "devices": [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 240, "access": "r"}],
}
CAPABILITIES = {name: ["CAP_MKNOD"] for name in ("bounding", "effective", "permitted")}


@pytest.mark.needs("cgroup2", "systemd", "busybox", "bpf_devices")
@pytest.mark.time_limit(120)
def test_a_container_is_a_scope_with_its_limits_for_life(manager: Systemd, runtime: Runtime) -> None:
    path = runtime.bundle(
        "sleep", "1000", process={"capabilities": CAPABILITIES}, linux={"cgroupsPath": "machine.slice:test:web", "resources": RESOURCES},
        annotations={"org.systemd.property.TimeoutStopUSec": "uint64 5000000"})
    program = (PROGRAM, "--root", runtime.root, "--systemd-cgroup")
    manager(*program, "run", "--detach", "--bundle", path, "web")
    shown = manager.show(
        "test-web.scope", "MemoryMax", "CPUWeight", "CPUQuotaPerSecUSec", "TasksMax", "Delegate", "DevicePolicy", "Slice",
        "TimeoutStopUSec", "ActiveState", "ControlGroup")
    assert shown == {
        "MemoryMax": "67108864", "CPUWeight": "59", "CPUQuotaPerSecUSec": "200ms", "TasksMax": "33", "Delegate": "yes",
        "DevicePolicy": "strict", "Slice": "machine.slice", "TimeoutStopUSec": "5s", "ActiveState": "active",
        "ControlGroup": "/machine.slice/test-web.scope",
    }
    group = group_of("/machine.slice/test-web.scope")
    files = {name: read(f"{group}/{name}") for name in ("memory.max", "cpu.weight", "cpu.max", "pids.max")}
    assert files == {"memory.max": "67108864", "cpu.weight": "59", "cpu.max": "20000 100000", "pids.max": "33"}
    assert len(read(f"{group}/cgroup.procs").split()) == 1, "the stand-in has gone"

    script = "mknod /x c 240 5; mknod /y c 241 5; cat /x; cat /y; cat /dev/null && echo fine; rm /x /y"
    for _ in range(2):
        said = manager(*program, "exec", "web", "sh", "-c", script)
        assert "can't open '/x': No such device or address" in said
        assert "can't open '/y': Operation not permitted" in said
        assert said.endswith("fine\n")
        manager("systemctl", "daemon-reload")  # systemd writes everything again
    manager(*program, "update", "--memory", "33554432", "web")
    assert manager.show("test-web.scope", "MemoryMax") == {"MemoryMax": "33554432"}
    assert read(f"{group}/memory.max") == "33554432"
    with open(f"{runtime.directory}/wrong.json", "w") as stream:
        json.dump({"memory": {"limit": 48 << 20}, "unified": {"memory.oom.group": "x"}}, stream)
    assert "memory.oom.group" in manager(*program, "update", "--resources", f"{runtime.directory}/wrong.json", "web", code=1)
    assert manager.show("test-web.scope", "MemoryMax") == {"MemoryMax": "33554432"}
    assert read(f"{group}/memory.max") == "33554432"

    manager(*program, "delete", "--force", "web")
    assert not os.path.exists(group)
    assert manager.show("test-web.scope", "LoadState") == {"LoadState": "not-found"}


@pytest.mark.needs("cgroup2", "systemd", "busybox")
@pytest.mark.time_limit(120)
def test_a_bundle_without_a_path_is_in_the_usual_slice(manager: Systemd, runtime: Runtime) -> None:
    path = bundle(runtime, "")
    program = (PROGRAM, "--root", runtime.root, "--systemd-cgroup")
    manager(*program, "run", "--detach", "--bundle", path, "c9")
    assert os.path.isdir(group_of("/system.slice/mydocker-c9.scope"))
    state = json.loads(manager(*program, "state", "c9"))
    assert state["status"] == "running"
    # The same name once more: the unit is there, so nothing of the first may be touched.
    said = manager(PROGRAM, "--root", f"{runtime.root}-2", "--systemd-cgroup", "run", "--detach", "--bundle", path, "c9", code=1)
    assert "mydocker-c9.scope" in said
    assert json.loads(manager(*program, "state", "c9"))["status"] == "running"
    manager(*program, "delete", "--force", "c9")
    assert not os.path.exists(group_of("/system.slice/mydocker-c9.scope"))


@pytest.mark.needs("cgroup2", "systemd", "busybox")
@pytest.mark.time_limit(120)
def test_a_start_that_fails_leaves_no_unit(manager: Systemd, runtime: Runtime) -> None:
    program = (PROGRAM, "--root", runtime.root, "--systemd-cgroup")
    wrong = runtime.bundle("/nonexistent", linux={"cgroupsPath": "machine.slice:test:gone"})
    manager(*program, "run", "--detach", "--bundle", wrong, "gone", code=1)
    assert manager.show("test-gone.scope", "LoadState") == {"LoadState": "not-found"}
    refused = bundle(runtime, "machine.slice:test:gone", resources={"memory": {"limit": 64 << 20, "swappiness": 5}})
    assert "swappiness" in manager(*program, "run", "--detach", "--bundle", refused, "gone", code=1)
    assert manager.show("test-gone.scope", "LoadState") == {"LoadState": "not-found"}
    assert "slice:prefix:name" in manager(*program, "run", "--detach", "--bundle", bundle(runtime, "/a/b"), "gone", code=1)


@pytest.mark.needs("cgroup2", "systemd", "busybox")
@pytest.mark.time_limit(120)
@pytest.mark.parametrize(("resources", "field", "value"), [
    ({"memory": {"limit": 4096}}, "memory.limit", "4096"), ({"unified": {"memory.max": "4096"}}, "unified.memory.max", "4096"),
    ({"memory": {"limit": 300 << 10}, "pids": {"limit": 9}}, "memory.limit", "307200"),
], ids=["limit", "unified", "init"])
def test_memory_in_which_nothing_can_start_is_what_the_error_names_and_leaves_no_unit(
    manager: Systemd, runtime: Runtime, resources: dict[str, object], field: str, value: str,
) -> None:
    program = (PROGRAM, "--root", runtime.root, "--systemd-cgroup")
    path = bundle(runtime, "machine.slice:test:tiny", resources=resources)
    said = manager(*program, "run", "--detach", "--bundle", path, "tiny", code=1)
    assert f"linux.resources.{field}: container init was OOM-killed (memory limit too low?): it is {value} bytes" in said
    assert manager.show("test-tiny.scope", "LoadState") == {"LoadState": "not-found"}
    until(lambda: not os.path.exists(group_of("/machine.slice/test-tiny.scope")))


# ---- without systemd

@pytest.mark.needs("busybox")
def test_without_systemd_the_option_is_refused_in_one_line(runtime: Runtime) -> None:
    if systemd.is_running():
        pytest.skip("systemd runs here")
    failed = runtime("--systemd-cgroup", "run", "--bundle", bundle(runtime, "a.slice:b:c"), "c", code=1)
    assert "systemd does not run here" in failed.stderr
    with pytest.raises(Unsupported):
        systemd.Manager()


@pytest.fixture
def bus_address() -> Iterator[str]:
    """A real bus of the test's own."""
    program = shutil.which("dbus-daemon")
    if program is None:
        pytest.skip("no dbus-daemon")
    with tempfile.TemporaryDirectory() as directory:
        address = f"{directory}/bus"
        process = subprocess.Popen([program, "--session", "--nofork", "--nopidfile", f"--address=unix:path={address}"])
        until(lambda: _listens(address))
        yield address
        process.terminate()
        process.wait()


def _listens(address: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(address) == 0


def test_calls_answers_signals_and_errors_of_a_real_bus(bus_address: str) -> None:
    name, path = "org.freedesktop.DBus", "/org/freedesktop/DBus"
    with Bus(bus_address) as bus, Bus(bus_address) as other:
        [names] = bus.call(name, path, name, "ListNames")
        assert name in names
        [pid] = bus.call(name, path, name, "GetConnectionUnixProcessID", "s", (name,))
        assert pid > 0
        [version] = bus.call(name, path, "org.freedesktop.DBus.Properties", "Get", "ss", (name, "Features"))
        assert version[0] == "as"
        bus.call(name, path, name, "AddMatch", "s", ("type='signal',member='NameOwnerChanged'",))
        other.call(name, path, name, "RequestName", "su", ("org.example.Test", 0))
        while (message := bus.next_signal(time.monotonic() + 10)).body[:1] != ("org.example.Test",):
            pass
        assert message.member == "NameOwnerChanged"
        with pytest.raises(Unavailable, match="NameHasNoOwner"):
            bus.call(name, path, name, "GetNameOwner", "s", ("org.example.Nobody",))


def test_no_bus_is_an_error_of_the_system(scratch: str) -> None:
    with pytest.raises(FileNotFoundError):
        Bus(f"{scratch}/none")


@pytest.mark.needs("busctl")
def test_the_bytes_of_a_call_are_those_of_busctl(scratch: str) -> None:
    """A server that notes what busctl sends for the call that makes a unit, and answers as a bus would."""
    address = f"{scratch}/bus"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(1)
    seen: list[bytes] = []
    thread = threading.Thread(target=serve, args=(listener, seen))
    thread.start()
    words = [
        "ssa(sv)a(sa(sv))", "a.scope", "replace", "5", "Description", "s", "text", "PIDs", "au", "2", "1", "2", "Delegate", "b", "true",
        "MemoryMax", "t", "67108864", "DeviceAllow", "a(ss)", "1", "/dev/char/1:3", "rwm", "0",
    ]
    subprocess.run(
        ["busctl", f"--address=unix:path={address}", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
         "org.freedesktop.systemd1.Manager", "StartTransientUnit", *words], check=True, stdout=subprocess.DEVNULL, timeout=30)
    thread.join()
    listener.close()
    ours = format_call(
        2, "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "StartTransientUnit", words[0],
        ("a.scope", "replace", [
            ("Description", ("s", "text")), ("PIDs", ("au", [1, 2])), ("Delegate", ("b", True)), ("MemoryMax", ("t", 67108864)),
            ("DeviceAllow", ("a(ss)", [("/dev/char/1:3", "rwm")]))], []))
    [theirs] = [data for data in seen if b"StartTransientUnit" in data]
    mine, other = parse_message(ours), parse_message(theirs)
    assert mine is not None
    assert other is not None
    assert mine[0].replace(serial=0) == other[0].replace(serial=0)
    length = int.from_bytes(ours[4:8], "little")
    assert ours[-length:] == theirs[-length:], "the body, byte by byte"


def serve(listener: socket.socket, seen: list[bytes]) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(20)
        data = b""
        while b"BEGIN\r\n" not in data:
            data += connection.recv(4096)
        connection.sendall(b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\nAGREE_UNIX_FD\r\n")
        data = data.partition(b"BEGIN\r\n")[2]
        while True:
            while not (found := parse_message(data)):
                piece = connection.recv(4096)
                if not piece:
                    return
                data += piece
            message, length = found
            seen.append(data[:length])
            data = data[length:]
            answer = ("s", ":1.1") if message.member == "Hello" else ("o", "/org/freedesktop/systemd1/job/1")
            connection.sendall(format_return(message.serial, *answer))


def format_return(reply_serial: int, kind: str, value: str) -> bytes:
    body, header = Writer(), Writer()
    body.put(kind, value)
    header.data += b"l" + bytes((RETURN, 1, 1)) + len(body.data).to_bytes(4, "little") + (7).to_bytes(4, "little")
    header.put("a(yv)", [(5, ("u", reply_serial)), (8, ("g", kind))])
    header.align(8)
    return bytes(header.data + body.data)


def test_a_missing_unit_is_not_found_where_systemd_runs() -> None:
    if not systemd.is_running():
        pytest.skip("systemd does not run here")
    with systemd.Manager() as manager, pytest.raises(NotFound):
        manager.set("mydocker-no-such.scope", [])
