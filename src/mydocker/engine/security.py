"""`--security-opt`: what its words mean. Raises InvalidRequest."""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest

from .request import clean_path, words
from .request import text_line as text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TRUTH = {"": True, "true": True, "1": True, "false": False, "0": False}
_SELINUX_PARTS = ("user", "role", "type", "level", "filetype")


def judge_security(value: Any, what: str) -> dict[str, Any]:
    """Return the fields of Isolation that `KEY=VALUE` (or docker's old `KEY:VALUE`) words set."""
    found: dict[str, Any] = {}
    for word in words(value, what):
        key, _, setting = _split(text(word, what))
        if key == "no-new-privileges" and setting in _TRUTH:
            found["no_new_privileges"] = _TRUTH[setting]
        elif key == "seccomp" and setting:
            found["seccomp"] = _seccomp(setting)
        elif key == "apparmor" and setting:
            found["apparmor"] = setting
        elif key == "label" and setting:
            found["selinux"] = (*found.get("selinux", ()), _selinux(setting, what))
        elif key == "systempaths" and setting == "unconfined":
            found["unmasked"] = ("ALL",)
        elif key in ("mask", "unmask") and setting:
            field = f"{key}ed"
            found[field] = (*found.get(field, ()), *_paths(setting, what, is_unmask=key == "unmask"))
        else:
            raise InvalidRequest(f"invalid --security-opt: {word!r}", hint=(
                "it takes seccomp=FILE|unconfined|builtin, no-new-privileges, apparmor=, label=, mask=, unmask= "
                "and systempaths=unconfined"))
    return found


def _split(word: str) -> tuple[str, str, str]:
    """Split at the first `=`; else at the first `:`, which docker took before it took `=`."""
    return word.partition("=") if "=" in word else word.partition(":")


def _seccomp(setting: str) -> str:
    """Return "", `unconfined` or the absolute path of a profile, which engine/seccomp.py reads."""
    if setting in ("builtin", "default"):
        return ""
    return setting if setting == "unconfined" else os.path.abspath(setting)


def _selinux(setting: str, what: str) -> tuple[str, str]:
    if setting in ("disable", "nested"):
        return setting, ""
    part, colon, value = setting.partition(":")
    if part not in _SELINUX_PARTS or not colon or not value:
        raise InvalidRequest(
            f"{what} label={setting}: not a part of an SELinux label", hint="use user:, role:, type:, level: or disable")
    return part, value


def _paths(setting: str, what: str, *, is_unmask: bool) -> tuple[str, ...]:
    if is_unmask and setting.upper() == "ALL":
        return ("ALL",)
    paths = [path for path in setting.split(":") if path]
    for path in paths:
        if not path.startswith("/") or ".." in path.split("/") or clean_path(path) == "/":
            raise InvalidRequest(f"{what}: {path} is not an absolute path below /")
    return tuple(clean_path(path) for path in paths)
