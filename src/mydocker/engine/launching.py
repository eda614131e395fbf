"""The launcher's two sides for the engine: what a program sends, and what the launcher does with it.

See starting.py for why, monitor/launcher.py for how. Only programs that embed the engine import this.
"""
from __future__ import annotations

import _socket

from mydocker.base import jsontext, log
from mydocker.base.errors import Timeout
from mydocker.base.paths import Layout
from mydocker.linux.cgroup import hierarchy
from mydocker.linux.loopback import make_network_namespace
from mydocker.linux.memory import populate_private_memory
from mydocker.monitor.launcher import Launcher
from mydocker.runtime.plan import last_stage_fd

from .exec_stage import ExecStage, run_exec_stage
from .recover import remove_tree
from .stage import ContainerStage, run_container_stage
from .store import ContainerRecord, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class LauncherStarter:
    """Feeds a launcher, which is made with the first order. Safe to use from many threads."""

    def __init__(self) -> None:
        self._launcher = Launcher("mydocker.engine.launching", "LauncherWork")

    def start_container(self, order: ContainerStage) -> None:
        """Have the launcher fork a container's monitor stage."""
        hierarchy.follow()
        document = {
            "kind": "container", "root": order.store.layout.root, "run": order.store.layout.run,
            "record": order.record.to_document(), "spec": order.spec, "root_mount": order.root_mount, "start": order.start,
            "client_flags": order.client_flags, "debug": log.is_enabled(),
        }
        fds = [order.client.fileno(), order.lock_fd, *([order.journal_fd] if order.journal_fd >= 0 else [])]
        self._launcher.send(jsontext.dumps(document).encode(), fds)

    def start_exec(self, order: ExecStage) -> None:
        """Have the launcher fork an exec session's monitor stage."""
        document = {
            "kind": "exec", "container_id": order.container_id, "directory": order.directory,
            "cgroups_path": order.cgroups_path, "process": order.process, "namespaces": order.namespaces,
            "user": order.user, "groups": order.groups, "interactive": order.interactive,
            "client_flags": order.client_flags, "debug": log.is_enabled(),
            "seccomp": order.seccomp, "seccomp_cache": order.seccomp_cache,
            "runtime": order.runtime,
        }
        self._launcher.send(jsontext.dumps(document).encode(), [order.client.fileno(), order.init_pidfd])

    def delete(self, path: str) -> None:
        """Have the launcher delete a tree in the trash, while the program goes on."""
        if not self._launcher.delete(path):
            remove_tree(path)

    def close(self) -> None:
        """End the launcher; containers live on."""
        self._launcher.close()


class LauncherWork:
    """What the launcher of monitor/launcher.py does for the engine. A spare holds a network namespace for its container."""

    def __init__(self) -> None:
        self._network_fd = -1

    def prepare_launcher(self) -> None:
        """Have everything that the spares share."""
        from mydocker.linux.cgroup import denying, limits  # noqa: F401  # cold in a command line, where few starts need them

        hierarchy.follow()
        last_stage_fd()

    def prepare_spare(self) -> None:
        """Do what an order would otherwise wait for."""
        populate_private_memory()
        try:
            self._network_fd = make_network_namespace()
        except OSError as error:
            log.debug("make network namespace ahead", error=error)  # not root, or too many: the start will tell

    def delete(self, path: str, deadline_s: float) -> bool:
        """Delete a tree in the trash; False when that takes longer. What cannot be deleted stays for a sweep."""
        from mydocker.storage import trash  # cold: in a command line, which has no launcher

        try:
            trash.remove_tree(path, deadline_s)
        except Timeout:
            return False
        except OSError as error:
            log.debug("delete", path=path, error=error)
        return True

    def serve(self, document: dict[str, Any], fds: list[int]) -> None:
        """Turn a message back into its order and run it."""
        hierarchy.follow()
        serve_order(document, fds, self._network_fd)


def serve_order(document: dict[str, Any], fds: list[int], network_fd: int) -> None:
    """Run the order that a message stands for, in a process of its own. Does not return."""
    if document["debug"]:
        log.enable()
    client = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fds[0])
    if document["kind"] == "exec":
        run_exec_stage(ExecStage(
            container_id=document["container_id"], directory=document["directory"], cgroups_path=document["cgroups_path"],
            process=document["process"], namespaces=document["namespaces"], init_pidfd=fds[1], user=document["user"],
            groups=tuple(document["groups"]), interactive=document["interactive"], client=client,
            client_flags=document["client_flags"], seccomp=document["seccomp"], seccomp_cache=document["seccomp_cache"],
            runtime=document["runtime"]))
    run_container_stage(ContainerStage(
        store=Store(Layout(document["root"], document["run"])), record=ContainerRecord.from_document(document["record"]),
        spec=document["spec"], root_mount=document["root_mount"], start=document["start"], client=client,
        client_flags=document["client_flags"], lock_fd=fds[1], journal_fd=fds[2] if len(fds) > 2 else -1,
        network_fd=network_fd))
