"""A container's root file system as overlayfs directories: read-only layers below, its own on top.

    container/<id>/
      upper/     what the container wrote
      work/      overlayfs's own

Owns making these, and the mount that joins them; mounts nothing itself (nothing of a container is
mounted on the host: the runtime does it in the container's own mount namespace). Takes no lock.
Source: Documentation/filesystems/overlayfs.rst.
"""
from __future__ import annotations

import os

from mydocker.base.paths import UPPER, WORK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from mydocker.oci.runtime_spec import Mount

#: Layers hold no redirects or metacopies (storage/unpack drops them): with these options a container with
#: CAP_SYS_ADMIN cannot make some either, and what `commit` reads are whole files and directories.
_OPTIONS = ("index=off", "metacopy=off")
#: The end of the name of a hide layer that shows parts of hidden directories (image/hostimage.py).
REDIRECTS = "-redirects"
#: Between lower directories in the `lowerdir` option: no path of ours holds it (runtime/rootfs.py splits there).
LOWER_SEPARATOR = "\n"


def prepare(container_dir: str, lower_dirs: Sequence[str]) -> None:
    """Make the write layer of a new container. Raises OSError; FileExistsError when it has one.

    The root of the upper directory is what `stat /` shows inside, so it takes owner and mode of the
    lower directory right below it.
    """
    upper = f"{container_dir}/{UPPER}"
    os.mkdir(upper, 0o755)
    below = os.stat(lower_dirs[0])
    if below.st_uid or below.st_gid:
        os.chown(upper, below.st_uid, below.st_gid)
    os.chmod(upper, below.st_mode & 0o7777)  # whatever the umask
    os.mkdir(f"{container_dir}/{WORK}", 0o700)


def overlay_mount(lower_dirs: Sequence[str], container_dir: str, *, volatile: bool = False) -> Mount:
    """Return the mount of a container's root file system; lower directories have the top first.

    `volatile` leaves out every sync, for a container that need not survive a power cut; its write
    layer can be mounted a second time only after `allow_second_mount`. A last lower directory `/` (the image `host`) needs a view
    of it made first: overlayfs refuses a lower directory that lies below another (ELOOP).
    """
    follows = any(path.endswith(f"{REDIRECTS}/diff") for path in lower_dirs)
    options = [
        f"lowerdir={LOWER_SEPARATOR.join(lower_dirs)}",
        f"upperdir={container_dir}/{UPPER}",
        f"workdir={container_dir}/{WORK}",
        f"redirect_dir={'follow' if follows else 'nofollow'}",
        *_OPTIONS,
    ]
    if volatile:
        options.append("volatile")
    return {"destination": "/", "type": "overlay", "source": "overlay", "options": options}


def reading_options(container_dir: str, lower_dirs: Sequence[str]) -> list[str]:
    """Return the options of a read-only overlay of what a container has, also while its own is mounted.

    The write layer is the top lower directory: a second overlay with it as its upper directory would be refused.
    """
    return [f"lowerdir={LOWER_SEPARATOR.join((f'{container_dir}/{UPPER}', *lower_dirs))}", "redirect_dir=follow"]


def allow_second_mount(container_dir: str) -> None:
    """Take away the mark by which overlayfs refuses to mount a `volatile` write layer again.

    For a restart: what the first mount left unwritten is in the page cache; only a machine that went down could have
    lost it (Documentation/filesystems/overlayfs.rst, "Volatile mount").
    """
    mark = f"{container_dir}/{WORK}/work/incompat/volatile"
    for remove, path in ((os.unlink, f"{mark}/dirty"), (os.rmdir, mark)):
        try:
            remove(path)
        except FileNotFoundError:
            pass  # never mounted, or a killed restart was here before
