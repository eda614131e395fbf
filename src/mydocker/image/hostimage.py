"""The built-in image `host`: a copy-on-write view of this machine's own root file system.

    lower dirs, top first:   [layers of images committed on it]   layer/host-<key>/diff   /

`layer/host-<key>/diff`, the hide layer, is all that stands between a container and the machine's
secrets: opaque directories hide what is below `/root`, `/home` and so on, whiteouts hide files and
what may appear later. It holds no content, is made on demand, and is shared by all containers with
the same `--show`. `/` is live: what is not hidden shows as it is now.

Mounts of the machine (other disks, its /proc) are not in this view: overlayfs takes the file system
of `/` alone. The layer is looked after like any other (storage/layers.py); its name is in the
container's record.
"""
from __future__ import annotations

import os
import stat

from mydocker.base.errors import InvalidRequest, NotFound
from mydocker.base.record import Record
from mydocker.oci import platform
from mydocker.oci.digest import digest_of
from mydocker.storage import layers
from mydocker.storage.snapshots import REDIRECTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.base.paths import Layout
    from mydocker.oci.image_spec import ImageConfig

NAME = "host"
PREFIX = "host-"

#: Changes when the rules below do: old hide layers are then not used again.
_RULES = 1

#: Always there, always empty, with this mode.
FRESH = {"/proc": 0o555, "/sys": 0o555, "/dev": 0o755, "/run": 0o755, "/tmp": 0o1777, "/var/tmp": 0o1777}
#: Hidden, each as what it is: a directory becomes an empty one, a file or a missing thing is gone.
HIDDEN = (
    "/root", "/home", "/lost+found",
    "/etc/ssh", "/etc/ssl/private", "/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-",
    "/etc/security/opasswd", "/etc/krb5.keytab", "/etc/wireguard", "/etc/NetworkManager/system-connections",
    "/etc/kubernetes", "/etc/docker/key.json",
    "/var/backups",              # Debian keeps copies of shadow there
    "/var/run",                  # a directory of its own only on old systems
    "/var/spool/cron", "/var/crash", "/var/lib/systemd/coredump",
    "/var/lib/docker", "/var/lib/containers", "/var/lib/containerd", "/var/lib/kubelet", "/var/lib/mydocker",
)

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Node(Record):
    """One entry of the hide layer."""

    kind: str                   # "whiteout", "opaque", "directory" (merged, or inside an opaque one), "redirect", "copy"
    mode: int = 0
    uid: int = 0
    gid: int = 0


def config() -> ImageConfig:
    """The image config of `host`."""
    return {
        "architecture": platform.host_architecture(), "os": "linux", "config": {"Env": [_PATH], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": []},
    }


def ensure_hide_layer(layout: Layout, show: tuple[str, ...] = ()) -> str:
    """Return the name of the hide layer for a set of shown paths, made if it is missing.

    Raises InvalidRequest and NotFound for paths that cannot be shown, OSError.
    """
    shown = judged_show(layout, show) if show else ()
    name = _name_of(layout, shown)
    if not layers.is_there(layout, name):
        _make(layout, name, plan_nodes(hidden_paths(layout), shown, layout.root))
    return name


def plain_hide_layer(layout: Layout) -> str:
    """Return the name of the hide layer that shows nothing, made or not."""
    return _name_of(layout, ())


def _name_of(layout: Layout, shown: tuple[str, ...]) -> str:
    facts = [_identity(path) for path in shown]
    return PREFIX + digest_of(repr((_RULES, layout.root, shown, facts)).encode())[7:39] + (REDIRECTS if shown else "")


def judged_show(layout: Layout, show: tuple[str, ...]) -> tuple[str, ...]:
    """Return the real paths of `--show`, sorted. Raises InvalidRequest, NotFound."""
    root = os.path.realpath(layout.root)
    real = set()
    for path in show:
        if not path.startswith("/") or "\0" in path:
            raise InvalidRequest(f"show {path!r}: it is not an absolute path")
        place = os.path.realpath(path)
        if is_below(place, root):
            raise InvalidRequest(f"show {path}: the engine's own files are never shown")
        if not os.path.exists(place):
            raise NotFound(f"show {path}: there is no such file on this machine")
        real.add(place)
    return tuple(sorted(real))


def hidden_paths(layout: Layout) -> list[str]:
    """Return what is hidden when nothing is shown: real paths, so that a link gives no second name."""
    paths = {os.path.realpath(path) for path in (*FRESH, *HIDDEN, layout.root, layout.run)}
    paths.update(_swap_files())
    paths.discard("/")
    return sorted(paths)


def _swap_files() -> list[str]:
    """Files that the machine swaps to: what was in its memory."""
    with open("/proc/swaps", encoding="utf-8", errors="surrogateescape") as table:
        rows = table.read().splitlines()[1:]
    names = [row.split()[0].replace("\\040", " ") for row in rows if row.strip()]
    return [name for name in names if name.startswith("/") and not name.startswith("/dev/")]


def is_below(path: str, top: str) -> bool:
    """Tell whether a path is `top` or below it (both normal and absolute)."""
    return path == top or path.startswith(top.rstrip("/") + "/")


# --- deciding ---------------------------------------------------------------------------------------------


def plan_nodes(hidden: list[str], shown: tuple[str, ...], never: str) -> dict[str, Node]:
    """Return the entries of the hide layer by path; parents come before children when sorted.

    A shown path at or above a hidden one undoes its hiding, except for `never` (the engine's own
    root). A shown path below a hidden one is let through: a directory by an overlayfs redirect to itself
    (the only way that keeps siblings hidden which do not exist yet), a file by a copy.
    """
    never = os.path.realpath(never)
    nodes: dict[str, Node] = {}
    kept: list[str] = []
    for path in hidden:
        if path != never and any(is_below(path, top) for top in shown):
            continue
        covered = any(is_below(path, above) for above in kept) and not any(
            is_below(path, top) and is_below(top, above) for above in kept for top in shown
        )
        if not covered:
            kept.append(path)
            _plan_hidden(nodes, path)
    for path in shown:
        tops = [above for above in kept if path != above and is_below(path, above)]
        if tops:
            _plan_shown(nodes, path, max(tops, key=len))
    return nodes


def _plan_hidden(nodes: dict[str, Node], path: str) -> None:
    parent = ""
    for part in path.split("/")[1:-1]:
        parent = f"{parent}/{part}"
        found = _stat(parent)
        if found is None:
            if path not in FRESH:
                # Hidden before it exists: nothing that the machine makes there later shows through.
                nodes.setdefault(parent, Node(kind="whiteout"))
                return
            nodes.setdefault(parent, Node(kind="directory", mode=0o755))
        else:
            nodes.setdefault(parent, _like(found, "directory"))
    found = _stat(path)
    if path in FRESH:
        nodes[path] = Node(kind="opaque", mode=FRESH[path])
    elif found is not None and stat.S_ISDIR(found.st_mode):
        nodes[path] = _like(found, "opaque")
    else:
        nodes[path] = Node(kind="whiteout")


def _plan_shown(nodes: dict[str, Node], path: str, top: str) -> None:
    parent = top
    for part in path[len(top) + 1:].split("/")[:-1]:
        parent = f"{parent}/{part}"
        if nodes.get(parent, Node(kind="")).kind == "redirect":
            return  # a shown directory above shows this one too
        nodes.setdefault(parent, _like(os.stat(parent, follow_symlinks=False), "directory"))
    found = os.stat(path, follow_symlinks=False)
    if stat.S_ISDIR(found.st_mode):
        nodes[path] = _like(found, "redirect")
    elif stat.S_ISREG(found.st_mode):
        nodes[path] = _like(found, "copy")
    else:
        raise InvalidRequest(f"show {path}: it is neither a directory nor a file")


def _like(found: os.stat_result, kind: str) -> Node:
    return Node(kind=kind, mode=found.st_mode & 0o7777, uid=found.st_uid, gid=found.st_gid)


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _identity(path: str) -> tuple[int, ...]:
    """What tells one version of a shown file from the next; a directory is live and needs none."""
    found = os.stat(path)
    return () if stat.S_ISDIR(found.st_mode) else (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


# --- doing ------------------------------------------------------------------------------------------------


def _make(layout: Layout, name: str, nodes: dict[str, Node]) -> None:
    layout.ensure()
    layer = layers.NewLayer(layout)
    try:
        os.fchmod(layer.diff_fd, stat.S_IMODE(os.stat("/").st_mode))
        for path in sorted(nodes):
            _make_node(f"{layer.path}/{layers.DIFF}", path, nodes[path])
        layer.publish(name, {"size_bytes": 0}).close()
    except BaseException:
        layer.discard()
        raise


def _make_node(diff_dir: str, path: str, node: Node) -> None:
    """Make one entry; the tree is ours alone and new, so paths are safe."""
    place = diff_dir + path
    if node.kind == "whiteout":
        os.mknod(place, stat.S_IFCHR, os.makedev(0, 0))
        return
    if node.kind == "copy":
        _copy(path, place)
    else:
        os.mkdir(place, 0o700)
        if node.kind == "opaque":
            os.setxattr(place, "trusted.overlay.opaque", b"y")
        elif node.kind == "redirect":
            os.setxattr(place, "trusted.overlay.redirect", os.fsencode(path))
    os.chown(place, node.uid, node.gid)
    os.chmod(place, node.mode)


def _copy(source: str, target: str) -> None:
    source_fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        target_fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            while os.sendfile(target_fd, source_fd, None, 1 << 24):
                pass
        finally:
            os.close(target_fd)
    finally:
        os.close(source_fd)
