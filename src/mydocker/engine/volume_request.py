"""`-v`, `--volumes-from`, and the options of volumes: docker's words for what outlives a container. Raises InvalidRequest.

request.py calls this for who mounts something; others do not pay for it.
"""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest, Unsupported

from .request import Volume, clean_path, judge_labels, refuse_at_proc, words
from .request import text_line as text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Pairs = tuple[tuple[str, str], ...]

_HOST_OPTIONS = frozenset((
    "ro", "rw", "z", "Z", "nosuid", "nodev", "noexec", "private", "rprivate", "slave", "rslave", "shared", "rshared", "nocopy",
))
_OPTIONS = frozenset(("ro", "rw", "z", "Z", "nosuid", "nodev", "noexec", "nocopy"))
_MAX_NAME = 255
LOCAL = "local"


class VolumeMount(Volume):
    """A volume seen at `target` inside. What is empty in `volume` and `source` is pinned when the container is made.

    `filesystem` is `tmpfs` where the volume is one, mounted with `options` and no `source`. `labels` and `settings` are for a
    volume that is not there yet.
    """

    volume: str = ""
    anonymous: bool = False
    nocopy: bool = False
    subpath: str = ""
    filesystem: str = ""
    labels: Pairs = ()
    settings: Pairs = ()


def judge_volumes(value: Any, what: str) -> tuple[Volume, ...]:
    """Return the mounts of `HOST:CONTAINER[:OPTIONS]`, `NAME:CONTAINER[:OPTIONS]`, `CONTAINER`, or of a mapping."""
    if hasattr(value, "items"):
        value = [f"{source}:{target}" for source, target in value.items()]
    return tuple(_judge_volume(word, what) for word in words(value, what))


def _judge_volume(word: str, what: str) -> Volume:
    parts = word.split(":")
    if len(parts) > 3 or not all(parts) or "\0" in word or "\n" in word:
        raise InvalidRequest(f"{what} {word!r} is not [HOST|NAME:]CONTAINER[:OPTIONS]")
    source, target = parts[:2] if len(parts) > 1 else ("", parts[0])
    if not target.startswith("/") or clean_path(target) == "/" or ".." in target.split("/"):
        raise InvalidRequest(
            f"{what} {word!r}: the container's path must be absolute and not /",
            hint="write HOST:CONTAINER, NAME:CONTAINER or CONTAINER")
    options = tuple(parts[2].split(",")) if len(parts) == 3 else ()
    is_host = "/" in source or source.startswith(".")
    refuse_at_proc(source or "a volume", target, what)
    for option in options:
        if option not in (_HOST_OPTIONS if is_host else _OPTIONS):
            raise InvalidRequest(f"{what} {word!r}: unknown option {option}", hint="ro and rw are the usual ones")
    if is_host:
        return Volume(source=os.path.abspath(source), target=clean_path(target), options=options)
    if source:
        judge_volume_name(source, what)
    return VolumeMount(
        source="", target=clean_path(target), options=tuple(option for option in options if option != "nocopy"), volume=source,
        anonymous=not source, nocopy="nocopy" in options)


def judge_volume_name(name: str, what: str) -> str:
    """Return the name of a volume."""
    from mydocker.storage.volumes import is_volume_name  # cold: binds do without

    if not is_volume_name(text(name, what)):
        if len(name) == 1:
            raise InvalidRequest(f"{what}: volume name {name!r} is too short: at least two letters or digits are needed")
        raise InvalidRequest(
            f"{what}: {name!r} is not the name of a volume: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, at most {_MAX_NAME}",
            hint="for a directory of the machine write its path, with a '/'")
    return name


def judge_volumes_from(value: Any, what: str) -> tuple[tuple[str, str], ...]:
    """Return (container, mode) of `CONTAINER[:ro|rw]`."""
    found = []
    for word in words(value, what):
        name, _, mode = text(word, what).partition(":")
        if not name or mode not in ("", "ro", "rw", "z", "Z"):
            raise InvalidRequest(f"{what} {word!r} is not CONTAINER[:ro]")
        found.append((name, mode))
    return tuple(found)


def judge_driver(driver: Any, what: str) -> str:
    """Return the driver of volumes, of which there is one."""
    if driver not in ("", LOCAL):
        raise Unsupported(f"{what} {driver}: there is no such driver", hint="`local` is the only one: leave it out")
    return LOCAL


def judge_settings(value: Any, what: str) -> Pairs:
    """Return the local driver's options, `type`, `device` and `o`: a tmpfs, or a directory of the machine."""
    from .mounts import pairs  # cold: `-v` does without

    found = {key: text(str(item), what) for key, item in pairs(value, what)}
    for key in found:
        if key not in ("type", "device", "o"):
            raise InvalidRequest(f'{what}: invalid option: "{key}"', hint="the local driver knows type, device and o")
    if not found:
        return ()
    plan_settings(tuple(found.items()), what)
    return tuple(found.items())


def plan_settings(settings: Pairs, what: str) -> tuple[str, str, tuple[str, ...]]:
    """Return what a volume's options come to: (`tmpfs` or `bind`, the directory of a bind, words to mount with)."""
    from .mounts import check_tmpfs_options  # cold: `-v` does without

    given = dict(settings)
    kind, device = given.get("type", ""), given.get("device", "")
    options = [word for word in given.get("o", "").split(",") if word]
    if kind == "tmpfs":
        check_tmpfs_options(options, what)
        return "tmpfs", "", tuple(options)
    if {"bind", "rbind"}.intersection(options) or kind in ("bind", "rbind"):
        return "bind", _judge_device(device, what), _judge_bind_words(options, what)
    if not device:
        raise InvalidRequest(f'{what}: missing required option: "device"', hint="type=none,o=bind,device=DIR, or type=tmpfs")
    raise Unsupported(
        f"{what}: type {kind or 'none'}: the engine mounts no file systems of devices or networks",
        hint="mount it on the machine and use type=none, o=bind, device=DIRECTORY")


def _judge_device(device: str, what: str) -> str:
    if not device:
        raise InvalidRequest(f'{what}: missing required option: "device"')
    if not device.startswith("/"):
        raise InvalidRequest(f"{what}: device {device!r} is not an absolute path")
    return clean_path(device)


def _judge_bind_words(options: list[str], what: str) -> tuple[str, ...]:
    kept = tuple(word for word in options if word not in ("bind", "rbind", "defaults"))
    for word in kept:
        if word not in _HOST_OPTIONS - {"z", "Z", "nocopy"}:
            raise InvalidRequest(f'{what}: invalid option "{word}" of a bind')
    return kept


def judge_mounted_volume(keys: dict[str, str], what: str) -> VolumeMount:
    """Return the mount of a `--mount type=volume` specification; keys that may come again are lines of one value."""
    from .mounts import is_set, judge_target  # cold: `-v` does without

    judge_driver(keys.get("volume-driver", ""), f"{what} volume-driver")
    name = keys.get("source", "")
    if name:
        judge_volume_name(name, what)
    subpath = keys.get("volume-subpath", "")
    if subpath and (subpath.startswith("/") or ".." in subpath.split("/")):
        raise InvalidRequest(f"{what}: volume-subpath {subpath!r} must be relative, without '..'")
    refuse_at_proc("a volume", keys["target"], what)
    return VolumeMount(
        source="", target=judge_target(keys["target"], what), options=("ro",) if is_set(keys, "readonly", what) else (),
        volume=name, anonymous=not name, nocopy=is_set(keys, "volume-nocopy", what), subpath=subpath,
        labels=judge_labels(keys["volume-label"].split("\n"), f"{what} volume-label") if "volume-label" in keys else (),
        settings=judge_settings(keys["volume-opt"].split("\n"), f"{what} volume-opt") if "volume-opt" in keys else ())
