"""`--mount` and `--tmpfs`: docker's words for what is mounted inside. Raises InvalidRequest."""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest
from mydocker.base.units import parse_size

from .request import Volume, clean_path, refuse_at_proc, words
from .request import text_line as text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PROPAGATIONS = ("private", "rprivate", "slave", "rslave", "shared", "rshared")
_RECURSIVE = {
    "enabled": (), "disabled": ("norecursive",), "writable": ("toponly",), "readonly": (),
    "true": (), "1": (), "false": ("norecursive",), "0": ("norecursive",),
}
_TRUTH = {"": True, "true": True, "1": True, "false": False, "0": False}
_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_KEYS = frozenset((
    "type", "source", "target", "readonly", "consistency", "bind-propagation", "bind-nonrecursive", "bind-recursive",
    "tmpfs-size", "tmpfs-mode", "tmpfs-options", "volume-nocopy", "volume-label", "volume-driver", "volume-opt", "volume-subpath",
))
#: Words of mount(8) that a tmpfs takes, and those of tmpfs(5).
_TMPFS_WORDS = frozenset((
    "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "atime", "noatime", "diratime", "nodiratime", "relatime",
    "norelatime", "strictatime", "nostrictatime", "sync", "async", "dirsync", "defaults", *_PROPAGATIONS,
))
_TMPFS_SETTINGS = ("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge")

#: Keys that may come again, as lines of one value: no specification holds a line end.
_REPEATED = ("volume-label", "volume-opt")

Tmpfs = tuple[str, tuple[str, ...]]


def pairs(value: Any, what: str) -> list[tuple[str, Any]]:
    """Return (key, value) of a mapping, or of `KEY=VALUE` texts; a text without `=` is refused."""
    if hasattr(value, "items"):
        return [(text(key, what), item) for key, item in value.items()]
    found = []
    for word in words(value, what):
        key, equals, item = text(word, what).partition("=")
        if not equals:
            raise InvalidRequest(f"{what} {word!r} is not KEY=VALUE")
        found.append((key, item))
    return found


def judge_mounts(value: Any, what: str) -> tuple[list[Volume], list[Tmpfs]]:
    """Return the mounts of directories and volumes, and those of a tmpfs, of `type=bind,source=/a,target=/b,...` words."""
    volumes: list[Volume] = []
    tmpfs: list[Tmpfs] = []
    for word in [value] if hasattr(value, "items") else words(value, what) if isinstance(value, str) else list(value):
        keys = _read_keys(word, what)
        kind = keys.get("type", "volume")
        if kind == "bind":
            volumes.append(_bind(keys, what))
        elif kind == "tmpfs":
            tmpfs.append(_tmpfs(keys, what))
        elif kind == "volume":
            from .volume_request import judge_mounted_volume  # cold: binds do without

            _refuse_others(keys, "volume", what)
            volumes.append(judge_mounted_volume(keys, what))
        else:
            raise InvalidRequest(
                f'{what}: invalid mount config for type "{kind}": mount type unknown', hint="bind, volume and tmpfs are known")
    return volumes, tmpfs


def _read_keys(word: Any, what: str) -> dict[str, str]:
    """Return the keys of one specification (a text, or a mapping from Python), under their long names."""
    if hasattr(word, "items"):
        items = [(text(key, what), text(str(item), what)) for key, item in word.items()]
    else:
        import csv  # cold: docker reads it as a line of CSV, quotes included

        fields = next(csv.reader([text(word, what)]), [])
        items = [(key.strip().lower(), item) for key, _, item in (field.partition("=") for field in fields)]
    keys: dict[str, str] = {}
    for key, item in items:
        name = _ALIASES.get(key, key)
        if name not in _KEYS:
            raise InvalidRequest(f"{what}: unexpected key '{key}' in '{key}={item}'")
        keys[name] = f"{keys[name]}\n{item}" if name in _REPEATED and name in keys else item
    if not keys.get("target"):
        raise InvalidRequest(f"{what}: target is required")
    return keys


def is_set(keys: dict[str, str], name: str, what: str) -> bool:
    """Return a key of yes and no."""
    if name not in keys:
        return False
    if keys[name].lower() not in _TRUTH:
        raise InvalidRequest(f"{what}: invalid value for {name}: {keys[name]}")
    return _TRUTH[keys[name].lower()]


def _bind(keys: dict[str, str], what: str) -> Volume:
    _refuse_others(keys, "bind", what)
    source = keys.get("source", "")
    if not source:
        raise InvalidRequest(f'{what}: invalid mount config for type "bind": field Source must not be empty')
    source = os.path.abspath(source)
    if not os.path.lexists(source):
        raise InvalidRequest(f'{what}: invalid mount config for type "bind": bind source path does not exist: {source}')
    refuse_at_proc(source, keys["target"], what)
    options = ["ro"] if is_set(keys, "readonly", what) else []
    if propagation := keys.get("bind-propagation"):
        if propagation not in _PROPAGATIONS:
            raise InvalidRequest(f"{what}: invalid propagation mode: {propagation}", hint=f"modes are {', '.join(_PROPAGATIONS)}")
        options.append(propagation)
    if is_set(keys, "bind-nonrecursive", what):
        options.append("norecursive")
    if recursive := keys.get("bind-recursive"):
        if recursive not in _RECURSIVE:
            raise InvalidRequest(f"{what}: invalid value for bind-recursive: {recursive}")
        options += _RECURSIVE[recursive]
    return Volume(source=source, target=judge_target(keys["target"], what), options=tuple(options))


def _tmpfs(keys: dict[str, str], what: str) -> Tmpfs:
    _refuse_others(keys, "tmpfs", what)
    if "source" in keys:
        raise InvalidRequest(f'{what}: invalid mount config for type "tmpfs": field Source must not be specified')
    options = ["ro"] if is_set(keys, "readonly", what) else []
    if size := keys.get("tmpfs-size"):
        options.append(f"size={parse_size(size, what=f'{what} tmpfs-size')}")
    if mode := keys.get("tmpfs-mode"):
        options.append(f"mode={mode}")
    options += [word for word in keys.get("tmpfs-options", "").split(",") if word]
    check_tmpfs_options(options, what)
    refuse_at_proc("a tmpfs", keys["target"], what)
    return judge_target(keys["target"], what), tuple(options)


def _refuse_others(keys: dict[str, str], kind: str, what: str) -> None:
    for key in keys:
        other = key.partition("-")[0]
        if other in ("bind", "tmpfs", "volume") and other != kind and "-" in key:
            raise InvalidRequest(f"{what}: cannot mix '{key}' with mount type '{kind}'")


def judge_tmpfs(value: Any, what: str) -> list[Tmpfs]:
    """Return the mounts of `/path[:options]`, or of a mapping of paths to options."""
    items = pairs(value, what) if hasattr(value, "items") else [word.partition(":")[::2] for word in words(value, what)]
    found = []
    for path, options in items:
        given = [word for word in (options.split(",") if isinstance(options, str) else list(options)) if word]
        check_tmpfs_options(given, what)
        refuse_at_proc("a tmpfs", path, what)
        found.append((judge_target(path, what), tuple(given)))
    return found


def check_tmpfs_options(options: list[str], what: str) -> None:
    """Refuse what no tmpfs takes."""
    for option in options:
        key, equals, value = option.partition("=")
        if not (option in _TMPFS_WORDS or (equals and key in _TMPFS_SETTINGS and value)) or "\n" in option or "\0" in option:
            raise InvalidRequest(f'{what}: invalid tmpfs option "{option}"')
        if key == "mode" and (not value.isdigit() or not set("01234567").issuperset(value) or int(value, 8) > 0o7777):
            raise InvalidRequest(f"{what}: invalid tmpfs mode {value}", hint="write an octal number such as 1777")


def judge_target(path: str, what: str) -> str:
    """Return a path inside the container where something can be mounted."""
    text(path, what)
    if not path.startswith("/"):
        raise InvalidRequest(f"{what}: invalid mount path: '{path}' mount path must be absolute")
    if ".." in path.split("/") or clean_path(path) == "/":
        raise InvalidRequest(f"{what}: invalid mount path: '{path}'", hint="it must lie below / and hold no '..'")
    return clean_path(path)
