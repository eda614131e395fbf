"""linux.mountLabel on a machine that has SELinux, as far as it is decided without one."""
from __future__ import annotations

from typing import Any

import pytest

from mydocker.base.errors import InvalidRequest, Unsupported
from mydocker.runtime import labels

LABEL = "system_u:object_r:container_file_t:s0:c4,c5"


def spec(label: str) -> Any:
    return {
        "process": {"args": ["true"], "cwd": "/"}, "linux": {"mountLabel": label},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]},
            {"destination": "/data", "type": "bind", "source": "/data", "options": ["rbind"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"},
        ]}


def test_file_systems_that_take_a_label_get_it_and_binds_keep_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "is_selinux_enabled", lambda: True)
    given = spec(LABEL)
    mounts = labels.label_mounts(given)["mounts"]
    assert [mount.get("options") for mount in mounts] == [None, ["nosuid", f"context={LABEL}"], ["rbind"], None]
    assert given == spec(LABEL), "what was given is as it was"


def test_a_label_that_is_none_and_a_machine_that_takes_none_are_refused_by_the_field(monkeypatch: pytest.MonkeyPatch) -> None:
    assert labels.label_mounts(spec("")) == spec("")
    with pytest.raises(InvalidRequest, match=r"^linux\.mountLabel: "):
        labels.label_mounts(spec("a\nb"))
    monkeypatch.setattr(labels, "is_selinux_enabled", lambda: False)
    with pytest.raises(Unsupported, match=r"^linux\.mountLabel: "):
        labels.label_mounts(spec(LABEL))
