"""Options that change what the container's processes may do, each seen from inside. Also run in the guest with cgroup v2."""
from __future__ import annotations

import pytest
from harness import Mydocker

from mydocker import Engine
from mydocker.engine.isolation_spec import available_capabilities
from mydocker.linux import caps

pytestmark = [pytest.mark.needs("root", "overlay")]


def status(mydocker: Mydocker, field: str, *options: str) -> str:
    """Return a field of /proc/self/status of a process with these options."""
    text = mydocker("run", "--rm", *options, "busybox", "cat", "/proc/self/status").out
    (line,) = [line for line in text.splitlines() if line.startswith(f"{field}:")]
    return line.split(":", 1)[1].strip()


def mask(*names: str) -> int:
    return caps.mask(names)


DEFAULT = mask(*caps.DEFAULT)
EVERY = mask(*available_capabilities())


def test_a_container_has_the_fourteen_capabilities_and_nothing_inheritable(mydocker: Mydocker, busybox: str) -> None:
    text = mydocker("run", "--rm", busybox, "grep", "^Cap", "/proc/self/status").out
    sets = {line.split(":")[0]: int(line.split()[1], 16) for line in text.splitlines()}
    assert sets == {"CapInh": 0, "CapPrm": DEFAULT, "CapEff": DEFAULT, "CapBnd": DEFAULT, "CapAmb": 0}


@pytest.mark.parametrize(("options", "expected"), [
    (["--cap-add", "NET_ADMIN", "--cap-drop", "cap_chown"], DEFAULT & ~mask("CAP_CHOWN") | mask("CAP_NET_ADMIN")),
    (["--cap-drop", "ALL"], 0),
    (["--cap-drop=all", "--cap-add=CAP_KILL"], mask("CAP_KILL")),
    (["--cap-add", "ALL", "--cap-drop", "SYS_ADMIN"], EVERY & ~mask("CAP_SYS_ADMIN")),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_capabilities_are_added_and_dropped(mydocker: Mydocker, busybox: str, options: list[str], expected: int) -> None:
    assert int(status(mydocker, "CapEff", *options), 16) == expected
    assert int(status(mydocker, "CapBnd", *options), 16) == expected


def test_another_user_has_none_of_the_capabilities_in_effect(mydocker: Mydocker, busybox: str) -> None:
    assert int(status(mydocker, "CapEff", "-u", "1000", "--cap-add", "NET_ADMIN"), 16) == 0
    assert int(status(mydocker, "CapBnd", "-u", "1000", "--cap-add", "NET_ADMIN"), 16) == DEFAULT | mask("CAP_NET_ADMIN")


def test_an_unknown_capability_is_refused_by_name(mydocker: Mydocker, busybox: str) -> None:
    done = mydocker("run", "--rm", "--cap-add", "FOO", busybox, "true", code=125)
    assert 'unknown capability: "CAP_FOO"' in done.one_error_line()


def test_no_new_privileges_only_on_request(mydocker: Mydocker, busybox: str) -> None:
    assert status(mydocker, "NoNewPrivs") == "0"
    assert status(mydocker, "NoNewPrivs", "--security-opt", "no-new-privileges") == "1"
    assert status(mydocker, "NoNewPrivs", "--security-opt", "no-new-privileges=false") == "0"


def test_groups_are_added_to_the_users_own(mydocker: Mydocker, busybox: str) -> None:
    def groups(*options: str) -> set[str]:
        return set(mydocker("run", "--rm", *options, busybox, "id", "-G").out.split())

    assert groups("-u", "1000", "--group-add", "7", "--group-add", "daemon") == {"0", "7", "1"}
    done = mydocker("run", "--rm", "--group-add", "nogrp", busybox, "id", code=125)
    assert "group 'nogrp' is not in the container's /etc/group" in done.one_error_line()
    mydocker("run", "-d", "--name", "c", "-u", "1000", "--group-add", "7", busybox, "sleep", "1000")
    assert set(mydocker("exec", "c", "id", "-G").out.split()) == {"0", "7"}


def test_oom_score_of_the_command_and_of_what_is_executed_later(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "--name", "c", "--oom-score-adj", "321", busybox, "sleep", "1000")
    assert mydocker("exec", "c", "cat", "/proc/1/oom_score_adj", "/proc/self/oom_score_adj").out.split() == ["321", "321"]


def test_exec_can_be_privileged_in_a_container_that_is_not(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "--name", "c", "--cap-drop", "ALL", busybox, "sleep", "1000")
    for options, expected in (((), 0), (("--privileged",), EVERY)):
        out = mydocker("exec", *options, "c", "grep", "CapEff", "/proc/self/status").out
        assert int(out.split()[1], 16) == expected


def test_python_takes_the_same_options_as_keywords(engine: Engine, busybox: str) -> None:
    container = engine.containers.run(
        busybox, ["sh", "-c", "grep CapEff /proc/self/status; id -G; grep NoNew /proc/self/status"], rm=True, user="1000",
        cap_drop=["ALL"], group_add=[7], security_opt=["no-new-privileges"])
    assert container.output is not None
    out = container.output[0].decode().split()
    assert int(out[1], 16) == 0
    assert out[2:4] == ["0", "7"]
    assert out[-1] == "1"


def test_inspect_shows_what_was_asked_for_and_only_that(mydocker: Mydocker, busybox: str) -> None:
    mydocker("create", "--name", "c", "--cap-add", "SYS_TIME", "--ulimit", "nproc=100:200", "--annotation", "a=b", busybox, "true")
    document = mydocker.inspect("c")
    assert document["config"]["isolation"] == {
        "cap_add": ["CAP_SYS_TIME"], "ulimits": [["nproc", 100, 200]], "annotations": [["a", "b"]]}
    assert document["spec"]["annotations"] == {"a": "b"}
    mydocker("create", "--name", "plain", busybox, "true")
    assert mydocker.inspect("plain")["config"]["isolation"] == {}
