"""Every path that the engine writes, in one place (docs/layout.md lists them with owner and lock).

`Layout` is the only joiner of paths below the state root; a test holds docs/layout.md against it.

    <root>/                            MYDOCKER_ROOT, /var/lib/mydocker; 0700
      image/                           an OCI image layout: oci-layout, index.json, blobs/<algorithm>/<hex>
      layer/<chain id hex>/diff/       an unpacked layer, shared, read-only
      container/<id>/                  one container, see `Layout.container`
      creating/<id>                    an empty file while container/<id> is being made or removed: the crash journal
      name/<name> -> ../container/<id>
      volume/<name>/                   a volume, see storage/volumes.py
      network/<name>.json
      seccomp/<key>                    a compiled filter, see runtime/seccomp.py; a cache: may be removed at any time
      build/<key>.json                 the build cache, see build/cache.py
      trash/<unique>                   renamed here first, then deleted; any command may finish that
    <run>/<name> -> <root>/container/<id>    MYDOCKER_RUN, or /run/mydocker for the default root, or <root>/run
"""
from __future__ import annotations

import os

DEFAULT_ROOT = "/var/lib/mydocker"
DEFAULT_RUN = "/run/mydocker"

#: Files of one container's directory.
RECORD = "config.json"
LOG = "container.log"
BUNDLE = "bundle"
UPPER = "upper"
WORK = "work"
EXIT = "exit"
STARTED = "started"
CONTROL_SOCKET = "control"
EXECS = "exec"
RUNTIME = "runtime"


class Layout:
    """Joins paths below one state root. Makes directories only in `ensure`."""

    __slots__ = ("root", "run")

    def __init__(self, root: str | os.PathLike[str] | None = None, run: str | os.PathLike[str] | None = None) -> None:
        self.root = os.path.abspath(os.fspath(root or os.environ.get("MYDOCKER_ROOT") or DEFAULT_ROOT))
        chosen = run or (None if root else os.environ.get("MYDOCKER_RUN"))
        default = DEFAULT_RUN if self.root == DEFAULT_ROOT else f"{self.root}/run"
        self.run = os.path.abspath(os.fspath(chosen)) if chosen else default

    def ensure(self) -> None:
        """Make the directories of the layout, 0700, where they are missing. Raises OSError."""
        if os.path.isdir(f"{self.root}/trash") and os.path.isdir(self.run):
            return
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        # trash is made last: its existence is what the fast path above takes for the whole.
        for name in ("image", "layer", "container", "creating", "name", "volume", "network", "trash"):
            os.makedirs(f"{self.root}/{name}", mode=0o700, exist_ok=True)
            if name == "container":
                from .spreading import spread_subdirectories  # cold: once in a root's life

                spread_subdirectories(f"{self.root}/{name}")
        os.makedirs(self.run, mode=0o700, exist_ok=True)

    @property
    def image(self) -> str:
        """The OCI image layout directory."""
        return f"{self.root}/image"

    @property
    def layers(self) -> str:
        """The directory of unpacked layers, one entry a chain id."""
        return f"{self.root}/layer"

    @property
    def containers(self) -> str:
        """The directory of containers, one entry an id."""
        return f"{self.root}/container"

    @property
    def names(self) -> str:
        """The name index: symbolic links to container directories."""
        return f"{self.root}/name"

    @property
    def creating(self) -> str:
        """The crash journal: one empty file for each container in the making or being removed."""
        return f"{self.root}/creating"

    @property
    def trash(self) -> str:
        """Where things are renamed to before they are deleted."""
        return f"{self.root}/trash"

    @property
    def volumes(self) -> str:
        """The directory of volumes, one entry a name."""
        return f"{self.root}/volume"

    def volume(self, name: str) -> str:
        """The directory of one volume. Its files are in `_data/`, see storage/volumes.py."""
        return f"{self.root}/volume/{name}"

    @property
    def networks(self) -> str:
        """The directory of networks, one file a name."""
        return f"{self.root}/network"

    def network(self, name: str) -> str:
        """One network's file."""
        return f"{self.root}/network/{name}.json"

    @property
    def build(self) -> str:
        """The build cache: one record a step, and the directories of RUN --mount=type=cache."""
        return f"{self.root}/build"

    @property
    def seccomp(self) -> str:
        """The cache of compiled seccomp filters."""
        return f"{self.root}/seccomp"

    def layer(self, chain_id: str) -> str:
        """The directory of one unpacked layer; `chain_id` is `sha256:<hex>`. Its files are in `diff/`."""
        return f"{self.root}/layer/{chain_id.rpartition(':')[2]}"

    def container(self, container_id: str) -> str:
        """One container's directory:

            config.json     the record: the seed's keys at the top level, replaced atomically
            bundle/         config.json (the OCI runtime spec) and rootfs/ (an empty mount point)
            upper/ work/    the write layer (overlayfs)
            container.log   CRI log lines, with container.log.1, .2 after rotation
            control         the monitor's socket
            started exit    what the monitor recorded (flat keyed text)
            exec/<id>/      exec sessions
        """
        return f"{self.root}/container/{container_id}"

    def name(self, name: str) -> str:
        """The entry of one name in the index."""
        return f"{self.root}/name/{name}"

    def run_link(self, name: str) -> str:
        """The seed's /var/run/mydocker/NAME."""
        return f"{self.run}/{name}"
