"""Making a container: from a judged configuration to a created (or started) one.

    claim id -> claim name -> record -> files, write layer, bundle -> monitor stage -> STARTED

Each step is undone when a later one fails; a kill in between leaves a journal entry that recover.py
undoes. The container's lock is held throughout, and passes to the monitor stage with the fork.
"""
from __future__ import annotations

import _socket
import os

from mydocker.base import files, log, paths, trace
from mydocker.base.clock import now_ns
from mydocker.base.errors import NotFound
from mydocker.base.undo import Undo
from mydocker.linux.cgroup import group
from mydocker.linux.process import boot_id
from mydocker.storage.mountpoints import ensure_mountpoints
from mydocker.storage.snapshots import overlay_mount

from . import recover
from .ending import forget_foreign
from .lifecycle import CREATING, RUNNING
from .process_spec import merge_env
from .request import ContainerConfig
from .sessions import LiveSession
from .spec import ETC_FILES, STANDARD_HOSTS, build_spec, hostname_of
from .stage import ContainerStage
from .store import Claim, ContainerRecord, Store, cgroups_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mydocker.image.store import Images, ResolvedImage
    from mydocker.oci.runtime_spec import Mount, Spec

    from .starting import Starter


class Creator:
    """Makes and starts containers; holds what that takes."""

    __slots__ = ("images", "starter", "store")

    def __init__(self, store: Store, images: Images, starter: Starter) -> None:
        self.store = store
        self.images = images
        self.starter = starter

    def create(
        self, config: ContainerConfig, *, start: bool, client_flags: int = 0, resolved: ResolvedImage | None = None
    ) -> tuple[ContainerRecord, LiveSession]:
        """Make a container and leave it `created`, or `running` with `start`; `resolved` stands in for the image (builds).

        Returns its record and a session of its monitor with the given subscription (see
        monitor/protocol.py). Raises MydockerError; then nothing is left of it.
        """
        config = limit_swap(config)
        if config.isolation is not None:
            from .joining import pin_names  # cold

            config = pin_names(self.store, config)
        if config.links:
            from .links import pin_links  # cold

            config = pin_links(self.store, config)
        if config.endpoints:
            from .connecting import pin_networks  # cold

            config = pin_networks(self.store.layout, config)
        if resolved is None:  # a build's step sees its image as it is, without volumes
            resolved = self._resolve(config)
            if (resolved.config.get("config") or {}).get("Volumes") or config.volumes_from or not all(
                    volume.source for volume in config.volumes):
                from .volume_mounts import pin_volumes  # cold: directories of the host need no pinning

                config = pin_volumes(self.store, config, resolved)
        claim = self.store.claim_id()
        with Undo() as undo:
            undo.callback(claim.close)
            name = config.name or claim.id
            undo.callback(self._discard, claim, name, config)
            record, spec = self._prepare(claim, name, config, resolved)
            session = self.start_stage(
                record, spec, claim.lock.fd, claim.journal_fd, start=start, client_flags=client_flags)
            undo.callback(session.close)
            # Whoever undoes does the clean-up, too: the monitor, if there is one, need not start it.
            undo.callback(session.cleaned)
            record = self._await(record, session, start=start)
            undo.pop_all()
        claim.close()
        return record, session

    def _resolve(self, config: ContainerConfig) -> ResolvedImage:
        """Return the container's image, pulled where it has to be."""
        if config.pull != "always" and not config.platform:
            try:
                return self.images.resolve(config.image, config.show)
            except NotFound:
                if config.pull == "never":
                    raise
        from .pulling import pulled  # cold

        return pulled(self.images, config)

    def _discard(self, claim: Claim, name: str, config: ContainerConfig) -> None:
        """Undo everything of a container that did not come to be."""
        forget_foreign(self.store, claim.id, config.runtime)
        if config.ports or config.publish_all:
            from .publishing import withdraw_unrecorded  # cold

            withdraw_unrecorded(self.store, claim.id)
        group.remove(cgroups_path(config.cgroup_parent, claim.id))
        if config.volumes:
            from .volume_removal import discard_with_volumes  # cold

            discard_with_volumes(self.store, claim.id, name, recover.remove_tree)
            return
        recover.remove_tree(self.store.discard(claim.id, name))

    def _prepare(
        self, claim: Claim, name: str, config: ContainerConfig, resolved: ResolvedImage
    ) -> tuple[ContainerRecord, Spec]:
        trace.point("claimed id")
        spec = build_spec(config, resolved.config.get("config") or {}, container_id=claim.id, directory=claim.path)
        record = ContainerRecord(
            id=claim.id, name=name, command=" ".join(spec["process"]["args"]), created_ns=now_ns(), status=CREATING,
            config=config_document(config, resolved), image=resolved.reference, image_id=resolved.manifest_digest,
            base=resolved.base, layers=tuple(resolved.chain_ids))
        self.store.claim_name(name, claim.id)
        trace.point("claimed name")
        # The layers are held until the record that names them is there; then it protects them.
        with self.images.hold(resolved) as lower_dirs:
            if not resolved.base:  # a machine's own root has all mount points
                lower_dirs = (*lower_dirs, ensure_mountpoints(self.store.layout))
            record = record.replace(config=record.config | {"lower_dirs": list(lower_dirs)})
            self.store.save(record)
        trace.point("recorded creating")
        make_files(claim.path, config, claim.id)
        self.images.prepare_write_layer(claim.path, lower_dirs)
        bundle = f"{claim.path}/{paths.BUNDLE}"
        os.makedirs(f"{bundle}/rootfs", mode=0o755)
        if config.volumes:
            from .user_mounts import make_sources  # cold: many mount nothing

            make_sources(self.store.layout, config, claim.path, lower_dirs)
        files.save_json(f"{bundle}/{paths.RECORD}", spec)
        trace.point("made bundle")
        return record, spec

    def start_stage(
        self, record: ContainerRecord, spec: Spec, lock_fd: int, journal_fd: int = -1, *, start: bool, client_flags: int = 0
    ) -> LiveSession:
        """Start a monitor stage, from the first time or again, and return the session it reports to.

        The caller holds the container's lock; the stage keeps it until the start is recorded.
        """
        if spec["process"].get("apparmorProfile"):
            from .apparmor import ensure_profile_of  # cold: only where the kernel has AppArmor

            ensure_profile_of(spec["process"])
        recover.ensure_resolvers(self.store.layout, record.named_networks)
        directory = self.store.layout.container(record.id)
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        session = LiveSession(ours)
        try:
            self.starter.start_container(ContainerStage(
                store=self.store, record=record, spec=spec, root_mount=root_mount(record, directory), start=start,
                client=theirs, client_flags=client_flags, lock_fd=lock_fd, journal_fd=journal_fd))
        except BaseException:
            session.close()
            raise
        finally:
            theirs.close()
        return session

    def _await(self, record: ContainerRecord, session: LiveSession, *, start: bool) -> ContainerRecord:
        """Wait for the monitor's word and return the record as it is then; the stage wrote it."""
        trace.point("forked stage")
        if not start:
            session.ping()
            return self.store.load(record.id)
        started = session.wait_started()
        # Once more: the one that ran may have been about to end, not seeing the container yet.
        recover.ensure_resolvers(self.store.layout, record.named_networks)
        log.debug("started", container=record.id, pid=started.pid)
        trace.point("heard of the start")
        return record.replace(
            status=RUNNING, pid=started.pid, start_time=started.start_time, boot_id=boot_id(), started_ns=started.started_ns)


def limit_swap(config: ContainerConfig) -> ContainerConfig:
    """Return the configuration with Docker's default: as much swap again as memory, where the kernel can count it.

    Without it a container at its memory limit would go on into all the swap that the machine has.
    """
    if config.memory_bytes and not config.memory_swap_bytes and group.can_limit_swap():
        return config.replace(memory_swap_bytes=2 * config.memory_bytes)
    return config


def config_document(config: ContainerConfig, resolved: ResolvedImage) -> dict[str, Any]:
    """Return the configuration as stored: the user's, with what the image decides where the user was silent."""
    image_config = resolved.config.get("config") or {}
    document = config.to_document()
    document["user"] = config.user or image_config.get("User") or ""
    document["stop_signal"] = config.stop_signal or image_config.get("StopSignal") or ""
    document["env"] = merge_env(image_config.get("Env") or (), config.env)
    if config.publish_all or config.exposed:
        from .ports import exposed_ports  # cold

        document["exposed"] = exposed_ports(document, image_config)
    document["labels"] = {**(image_config.get("Labels") or {}), **dict(config.labels)}
    return document


def root_mount(record: ContainerRecord, directory: str) -> Mount:
    """Return the overlay that is a container's root file system."""
    # A container that goes with its end need not survive a power cut: spare its end a sync of the whole file system.
    return overlay_mount(record.config["lower_dirs"], directory, volatile=record.config["rm"])


def make_files(directory: str, config: ContainerConfig, container_id: str) -> None:
    """Write the container's /etc/hostname, hosts and resolv.conf, which are bound into it."""
    hostname = hostname_of(config, container_id)
    contents = {
        "hostname": f"{hostname}\n",
        # On a network the name stands for the address there (connecting.py adds it).
        # On networks these are written with each start (etc_files.py), when the addresses are known.
        "hosts": STANDARD_HOSTS.format(f" {hostname}"), "resolv.conf": "",
    }
    if config.network == "host" or config.extra_hosts or config.dns:
        from .etc_files import plan_first_files  # cold

        contents.update(plan_first_files(config, hostname))
    for name in ETC_FILES:
        fd = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            # Seen by every user of the container, whatever our umask is.
            os.fchmod(fd, 0o644)
            files.write_all(fd, contents[name].encode())
        finally:
            os.close(fd)
