"""`Engine`: the one object a program needs. A facade: it holds the services and does nothing itself."""
from __future__ import annotations

from _thread import allocate_lock

from mydocker.base.paths import Layout

from .store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import Any

    from mydocker.image.store import Images

    from .builds import Builds
    from .containers import Containers
    from .creating import Creator
    from .networks import Networks
    from .starting import Starter
    from .usage import Usage
    from .volumes import Volumes


class Engine:
    """A container engine on one state root.

    `root` is the state directory, MYDOCKER_ROOT or /var/lib/mydocker by default. Starts go through a
    launcher process, made with the first one, so the engine may be used from many threads; with
    `single_threaded=True` the calling process itself is forked, which is for short-lived programs without
    threads, such as the command line. Close it, or use it as a context manager: containers live on.
    """

    __slots__ = ("_containers", "_images", "_is_single_threaded", "_lock", "_starter", "layout", "store")

    def __init__(self, root: str | os.PathLike[str] | None = None, *, single_threaded: bool = False) -> None:
        self.layout = Layout(root)
        self.layout.ensure()
        self.store = Store(self.layout)
        self._is_single_threaded = single_threaded
        self._starter: Starter | None = None
        self._images: Images | None = None
        self._lock = allocate_lock()
        self._containers: Containers | None = None

    @property
    def containers(self) -> Containers:
        """The containers."""
        with self._lock:  # one for all threads: it has the launcher
            if self._containers is None:
                from .containers import Containers  # cold for builds and images

                self._containers = Containers(self.store, self._make_starter, self._make_creator)
            return self._containers

    @property
    def images(self) -> Images:
        """The images."""
        if self._images is None:
            from mydocker.image.store import Images  # cold for whoever looks or enters

            self._images = Images(self.layout)
        return self._images

    @property
    def builds(self) -> Builds:
        """Builds of Dockerfiles, and their cache."""
        from .builds import Builds  # cold

        return Builds(self.store, self.images)

    def _make_starter(self) -> Starter:
        if self._is_single_threaded:
            from .starting import ForkStarter  # cold for whoever only looks

            self._starter = ForkStarter()
        else:
            from .launching import LauncherStarter

            self._starter = LauncherStarter()
        return self._starter

    def _make_creator(self, starter: Starter) -> Creator:
        # Whoever only looks (ps, logs, stop) or enters (exec) need not import the half that makes containers.
        from .creating import Creator

        return Creator(self.store, self.images, starter)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the launcher, if there is one. Containers live on."""
        if self._starter is not None:
            self._starter.close()

    @property
    def networks(self) -> Networks:
        """The networks."""
        from .networks import Networks  # cold: most commands ask nothing about them

        return Networks(self.store)

    @property
    def volumes(self) -> Volumes:
        """The volumes."""
        from .volumes import Volumes  # cold

        return Volumes(self.store)

    def login(self, server: str, username: str, password: str, *, insecure: Sequence[str] = ()) -> str:
        """Try credentials at a registry ("" for Docker Hub) and keep them as Docker does; returns where.

        Raises Denied, Unavailable, InvalidRequest.
        """
        from mydocker.image import distribution  # cold

        return distribution.login(server, username, password, insecure=insecure)

    def login_again(self, server: str, *, insecure: Sequence[str] = ()) -> bool:
        """Tell whether a registry takes the credentials that are kept for it. Raises Unavailable."""
        from mydocker.image import distribution  # cold

        return distribution.login_again(server, insecure=insecure)

    def logout(self, server: str) -> bool:
        """Forget the credentials for a registry; tells whether there were any."""
        from mydocker.image import distribution  # cold

        return distribution.logout(server)

    def recover(self) -> None:
        """Finish what killed commands left behind, and put back what a reboot emptied."""
        from .recover import sweep

        sweep(self.layout)
        self.store.ensure_run_links()

    def usage(self) -> Usage:
        """Return what the state root takes on the disk, and by what."""
        from .usage import measure  # cold

        return measure(self)

    def info(self) -> dict[str, Any]:
        """Return what the engine found on this machine, and how much it keeps."""
        from .describing import describe_machine  # cold

        return describe_machine(self)

    def version(self) -> dict[str, str]:
        """Return the versions of the engine, the interpreter and the kernel."""
        from .describing import describe_version  # cold

        return describe_version()
