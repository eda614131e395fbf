"""A stage's root file system as its layers make it, mounted nowhere: an overlay that only a descriptor knows.

Owns the mounting; who reads or writes below the descriptor is COPY, ADD, WORKDIR (tree.py). The mount goes with the
descriptor, whatever kills the build. Source: fsopen(2), fsmount(2), open_tree(2), overlayfs.rst.
"""
from __future__ import annotations

import errno
import os

from mydocker.base.errors import Unavailable
from mydocker.linux import syscalls as sc
from mydocker.storage.snapshots import LOWER_SEPARATOR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_HANDLE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_OPTIONS = ("index=off", "metacopy=off", "redirect_dir=nofollow")


def open_view(lower_dirs: Sequence[str], upper_dir: str = "", work_dir: str = "") -> int:
    """Return a descriptor of the joined tree; lower directories have the top first. The caller closes it.

    Without `upper_dir` it cannot be written to. Raises OSError, Unavailable.
    """
    if len(lower_dirs) == 1 and not upper_dir:
        return os.open(lower_dirs[0], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fds = [os.open(path, _HANDLE) for path in lower_dirs]
    try:
        names = [f"/proc/self/fd/{fd}" for fd in fds]
        options = [("lowerdir+", name) for name in names]
        if upper_dir:
            for key, path in (("upperdir", upper_dir), ("workdir", work_dir)):
                fds.append(os.open(path, _HANDLE))
                options.append((key, f"/proc/self/fd/{fds[-1]}"))
        try:
            mount = _mount(options)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # Before Linux 6.7 there is no lowerdir+, and fsconfig takes no more than 255 bytes for all of lowerdir.
            return _mount_in_thread(lower_dirs, upper_dir, work_dir)
    finally:
        for fd in fds:
            os.close(fd)
    return mount


def _mount(options: list[tuple[str, str]]) -> int:
    context = sc.fsopen("overlay", sc.FSOPEN_CLOEXEC)
    try:
        sc.fsconfig(context, sc.FSCONFIG_SET_STRING, "source", "overlay", 0)
        for key, value in (*options, *(option.split("=") for option in _OPTIONS)):
            sc.fsconfig(context, sc.FSCONFIG_SET_STRING, key, value, 0)
        sc.fsconfig(context, sc.FSCONFIG_CMD_CREATE, None, None, 0)
        mount = sc.fsmount(context, sc.FSMOUNT_CLOEXEC, sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV)
    finally:
        os.close(context)
    return mount


def _mount_in_thread(lower_dirs: Sequence[str], upper_dir: str, work_dir: str) -> int:
    """Mount with mount(2), in the mount namespace of a thread that ends with it, and return a copy of the mount."""
    from mydocker.linux.private_mounts import in_private_mounts  # cold: old kernels
    from mydocker.runtime.rootfs import mount_overlay

    options = [f"lowerdir={LOWER_SEPARATOR.join(lower_dirs)}", *_OPTIONS]
    options += [f"upperdir={upper_dir}", f"workdir={work_dir}"] if upper_dir else []

    def work() -> int:
        # Any directory does: nobody else sees what is on it.
        target = os.path.dirname(work_dir) if upper_dir else lower_dirs[0]
        mount_overlay(target, options)
        return sc.open_tree(sc.AT_FDCWD, target, sc.OPEN_TREE_CLONE | sc.OPEN_TREE_CLOEXEC)

    try:
        return in_private_mounts(work)
    except OSError as error:
        raise Unavailable(f"mount the stage's layers: {errno.errorcode.get(error.errno or 0)}") from error
