"""oci/validate.py: what is wrong with a config.json is said by field."""
from __future__ import annotations

from typing import Any

import pytest

from mydocker.base.errors import InvalidRequest, Unsupported
from mydocker.oci.validate import validate_process, validate_spec


def spec(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "ociVersion": "1.2.0", "root": {"path": "rootfs"}, "process": {"args": ["sh"], "cwd": "/"},
        "linux": {"namespaces": [{"type": "mount"}]},
    }
    return {**base, **changes}


def linux(*kinds: str, **more: Any) -> dict[str, Any]:
    return {"linux": {"namespaces": [{"type": kind} for kind in kinds], **more}}


def process(**more: Any) -> dict[str, Any]:
    return {"process": {"args": ["sh"], "cwd": "/", **more}}


def test_a_good_one_comes_back_without_its_nulls_and_with_what_is_unknown() -> None:
    document = spec(hooks=None, extra={"a": None}, annotations={"x": "y"})
    assert validate_spec(document) == {
        **spec(), "extra": {"a": None}, "annotations": {"x": "y"}}


@pytest.mark.parametrize(("changes", "text"), [
    ({"ociVersion": "2.0.0"}, "ociVersion: '2.0.0' is not a version 1"),
    ({"ociVersion": None}, "ociVersion: '' is not"),
    ({"root": None}, "root.path: missing"),
    ({"root": {"path": 1}}, "root.path: is not a string"),
    ({"process": {}}, "process.args: missing or empty"),
    (process(args=[]), "process.args: missing or empty"),
    (process(args="sh"), "process.args: is not a list"),
    (process(args=["a", 1]), "process.args[1]: is not a string"),
    (process(env=["A=b\0c"]), "process.env[0]: holds a NUL"),
    (linux("mount", devices=[{"path": "/dev/x", "type": "c", "major": -1, "minor": 0}]), "linux.devices[0].major: -1 is out of range"),
    (linux("mount", devices=[{"path": "/dev/x", "type": "c", "major": 1, "minor": 1 << 20}]), "linux.devices[0].minor: 1048576 is out"),
    (process(consoleSize={"height": 3, "x": "y"}), "process.consoleSize.width: missing"),
    (process(env=["A=\ud800"]), "process.env[0]: 'A=\\ud800' holds half of a surrogate pair"),
    (linux("mount", sysctl={"a\0": "x"}), "linux.sysctl: holds a NUL"),
    (process(cwd="tmp"), "process.cwd: must be an absolute path"),
    (process(terminal="yes"), "process.terminal: is not true or false"),
    (process(oomScoreAdj=True), "process.oomScoreAdj: is not a whole number"),
    (process(oomScoreAdj=1001), "process.oomScoreAdj: 1001 is not one of"),
    (process(user={"uid": -1}), "process.user.uid: -1 is out of range"),
    (process(user={"additionalGids": [4294967295]}), "process.user.additionalGids: 4294967295 is out of range"),
    (process(rlimits=[{"type": "RLIMIT_CPU", "soft": 1}]), "process.rlimits[0].hard: missing"),
    (process(rlimits=[{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * 2), "process.rlimits: a limit is there twice"),
    ({"hostname": "h"}, "hostname: without a UTS namespace"),
    ({"domainname": "h"}, "domainname: without a UTS namespace"),
    ({"mounts": [{"type": "tmpfs"}]}, "mounts[0].destination: missing"),
    ({"mounts": [{"destination": "/x", "options": "ro"}]}, "mounts[0].options: is not a list"),
    ({"hooks": {"prestart": [{"path": "x"}]}}, "hooks.prestart[0].path: must be an absolute path"),
    ({"hooks": {"poststop": [{"path": "/x", "timeout": 0}]}}, "hooks.poststop[0].timeout: must be greater than zero"),
    (linux("mount", "mount"), "linux.namespaces[1].type: mount is there twice"),
    (linux("mnt"), "linux.namespaces[0].type: 'mnt' is no kind"),
    ({"linux": {"namespaces": [{"type": "pid", "path": "proc"}]}}, "linux.namespaces[0].path: 'proc' is not absolute"),
    (linux(maskedPaths=["/x"]), "linux.maskedPaths: without a mount namespace"),
    (linux("mount", readonlyPaths=["x"]), "linux.readonlyPaths: 'x' is not absolute"),
    (linux("user", uidMappings=[{"containerID": 0, "hostID": 0, "size": 1}]), "linux.uidMappings: a user namespace needs"),
    (linux("mount", uidMappings=[{"containerID": 0, "hostID": 0, "size": 1}]), "linux.uidMappings: there is no user namespace"),
    (linux("user", uidMappings=[{"containerID": 0, "hostID": 0, "size": 0}]), "linux.uidMappings[0]: is out of range"),
    (linux("time", timeOffsets={"realtime": {}}), "linux.timeOffsets: 'realtime' is neither"),
    (linux(timeOffsets={"boottime": {}}), "linux.timeOffsets: there is no new time namespace"),
    (linux("mount", rootfsPropagation="open"), "linux.rootfsPropagation: 'open'"),
    (linux("mount", devices=[{"path": "/dev/x", "type": "c"}]), "linux.devices[0].major: missing"),
    (linux("mount", devices=[{"path": "dev/x", "type": "p"}]), "linux.devices[0].path: must be an absolute path"),
    (linux("mount", intelRdt={"closID": "x"}), "linux.intelRdt: Intel's resource director is not supported"),
    (linux("mount", netDevices={"eth0": {}}), "linux.netDevices: there is no network namespace"),
    (linux("network", netDevices={"e/0": {}}), "linux.netDevices: 'e/0' is no name of a network device"),
    (linux("network", netDevices={"e0": {"name": "x" * 16}}), "linux.netDevices.e0.name: 'xxxxxxxxxxxxxxxx' is no name"),
    (linux("mount", resources={"memory": {"limit": "1g"}}), "linux.resources.memory.limit: is not a whole number"),
    (linux("mount", resources={"unified": {"memory.max": 1}}), "linux.resources.unified.memory.max: is not a string"),
])
def test_what_is_wrong_is_said_by_field(changes: dict[str, Any], text: str) -> None:
    with pytest.raises((InvalidRequest, Unsupported)) as caught:
        validate_spec(spec(**changes))
    assert text in caught.value.message


@pytest.mark.parametrize("document", [None, [], "spec", 3])
def test_what_is_no_object_is_refused(document: object) -> None:
    with pytest.raises(InvalidRequest, match="is not an object"):
        validate_spec(document)


def test_a_process_alone_is_judged_by_the_same_rules() -> None:
    validate_process({"args": ["true"], "cwd": "/"})
    with pytest.raises(InvalidRequest, match=r"process\.user\.umask"):
        validate_process({"args": ["true"], "cwd": "/", "user": {"umask": 0o10000}})
