"""The option words of a mount, sorted by what consumes them. Pure.

Source: runtime-spec config.md "Linux mount options"; mount_setattr(2), mount(8).
"""
from __future__ import annotations

from mydocker.base.record import Record
from mydocker.linux import syscalls as sc

#: option -> (attributes to set, attributes to clear)
ATTRIBUTES: dict[str, tuple[int, int]] = {
    "ro": (sc.MOUNT_ATTR_RDONLY, 0), "rw": (0, sc.MOUNT_ATTR_RDONLY),
    "nosuid": (sc.MOUNT_ATTR_NOSUID, 0), "suid": (0, sc.MOUNT_ATTR_NOSUID),
    "nodev": (sc.MOUNT_ATTR_NODEV, 0), "dev": (0, sc.MOUNT_ATTR_NODEV),
    "noexec": (sc.MOUNT_ATTR_NOEXEC, 0), "exec": (0, sc.MOUNT_ATTR_NOEXEC),
    "nodiratime": (sc.MOUNT_ATTR_NODIRATIME, 0), "diratime": (0, sc.MOUNT_ATTR_NODIRATIME),
    "noatime": (sc.MOUNT_ATTR_NOATIME, sc.MOUNT_ATTR__ATIME), "atime": (0, sc.MOUNT_ATTR__ATIME),
    "relatime": (sc.MOUNT_ATTR_RELATIME, sc.MOUNT_ATTR__ATIME), "norelatime": (0, sc.MOUNT_ATTR__ATIME),
    "strictatime": (sc.MOUNT_ATTR_STRICTATIME, sc.MOUNT_ATTR__ATIME), "nostrictatime": (0, sc.MOUNT_ATTR__ATIME),
    "nosymfollow": (sc.MOUNT_ATTR_NOSYMFOLLOW, 0), "symfollow": (0, sc.MOUNT_ATTR_NOSYMFOLLOW),
}
#: option -> (flag of propagation, recursive)
PROPAGATION: dict[str, tuple[int, bool]] = {
    "private": (sc.MS_PRIVATE, False), "rprivate": (sc.MS_PRIVATE, True),
    "slave": (sc.MS_SLAVE, False), "rslave": (sc.MS_SLAVE, True),
    "shared": (sc.MS_SHARED, False), "rshared": (sc.MS_SHARED, True),
    "unbindable": (sc.MS_UNBINDABLE, False), "runbindable": (sc.MS_UNBINDABLE, True),
}
#: What mount(2) lets a bind forget at a remount when it does not say them, as runc and crun have it (mount(8) would keep them).
FORGOTTEN = (
    sc.MOUNT_ATTR_RDONLY | sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV | sc.MOUNT_ATTR_NOEXEC | sc.MOUNT_ATTR_NOSYMFOLLOW)
#: Words that take back how access times are kept, which mount(2) minds only when it is told another way.
_ACCESS_TIMES_KEPT = frozenset(("atime", "norelatime", "nostrictatime"))
#: Recursive forms, by the option that they are the form of.
_RECURSIVE = {f"r{word}": word for word in ATTRIBUTES}
#: Words of mount(8) that are the default, or that the kernel no longer minds (mandatory locking left in Linux 5.15).
_WITHOUT_EFFECT = frozenset((
    "defaults", "async", "loud", "silent", "mand", "nomand", "iversion", "noiversion", "nolazytime", "nodirsync", "nosync",
))
_OTHERS = ("bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap")
#: Every option word that is not handed to the file system.
MOUNT_OPTIONS = (*ATTRIBUTES, *_RECURSIVE, *PROPAGATION, *_WITHOUT_EFFECT, *_OTHERS)
#: The same attributes as flags of mount(2).
_MS_FLAGS = (
    (sc.MOUNT_ATTR_RDONLY, sc.MS_RDONLY), (sc.MOUNT_ATTR_NOSUID, sc.MS_NOSUID), (sc.MOUNT_ATTR_NODEV, sc.MS_NODEV),
    (sc.MOUNT_ATTR_NOEXEC, sc.MS_NOEXEC), (sc.MOUNT_ATTR_NOATIME, sc.MS_NOATIME), (sc.MOUNT_ATTR_STRICTATIME, sc.MS_STRICTATIME),
    (sc.MOUNT_ATTR_NODIRATIME, sc.MS_NODIRATIME), (sc.MOUNT_ATTR_NOSYMFOLLOW, sc.MS_NOSYMFOLLOW),
)


class MountOptions(Record):
    """A mount's option words, sorted by what consumes them; `data` goes to the file system as `key` or `key=value`."""

    set: int = 0
    clear: int = 0
    explicit: bool = False
    """Whether any option says what an attribute is to be."""
    recursive_set: int = 0
    recursive_clear: int = 0
    propagation: tuple[tuple[int, bool], ...] = ()
    bind: bool = False
    recursive: bool = False
    remount: bool = False
    copy_up: bool = False
    recursive_idmap: bool = False
    data: tuple[str, ...] = ()

    def ms_flags(self) -> int:
        """Return the attributes to set as flags of mount(2)."""
        flags = 0
        for attribute, flag in _MS_FLAGS:
            flags |= flag if self.set & attribute else 0
        return flags


def parse_mount_options(options: list[str] | tuple[str, ...]) -> MountOptions:
    """Sort a runtime spec's mount options; what is not known goes to the file system as data."""
    set_, clear, rset, rclear = 0, 0, 0, 0
    explicit = False
    propagation: list[tuple[int, bool]] = []
    data: list[str] = []
    seen = set()
    for word in options:
        if word in _ACCESS_TIMES_KEPT:
            explicit = True
        elif word in ATTRIBUTES:
            explicit = True
            on, off = ATTRIBUTES[word]
            set_, clear = (set_ & ~off) | on, (clear & ~on) | off
        elif word in PROPAGATION:
            propagation.append(PROPAGATION[word])
        elif word in _RECURSIVE:
            on, off = ATTRIBUTES[_RECURSIVE[word]]
            rset, rclear = (rset & ~off) | on, (rclear & ~on) | off
        elif word in _OTHERS:
            seen.add(word)
        elif word.startswith(("idmap=", "ridmap=")):  # with mappings of its own: idmap.py parse_mount_mappings
            seen.add(word.partition("=")[0])
        elif word not in _WITHOUT_EFFECT:
            data += split_data(word)
    return MountOptions(
        set=set_, clear=clear, explicit=explicit, recursive_set=rset, recursive_clear=rclear, propagation=tuple(propagation),
        bind="bind" in seen or "rbind" in seen, recursive="rbind" in seen, remount="remount" in seen,
        copy_up="tmpcopyup" in seen, recursive_idmap="ridmap" in seen,
        data=tuple(data),
    )


def split_data(word: str) -> list[str]:
    """Split `a=1,b`, which mount(2) would take as one string; quotes and escapes (labels, overlay's paths) keep it whole."""
    return [word] if '"' in word or "\\" in word else [part for part in word.split(",") if part]
