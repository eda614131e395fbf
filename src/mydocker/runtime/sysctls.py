"""Which kernel parameters a bundle may set: those that a namespace of the container's own has a value of.

Any other is the machine's, and written for one container it would change all of them. Imported only where a spec has some.

Source: runtime-spec config-linux.md "Sysctl"; ipc_namespaces(7), network_namespaces(7), uts_namespaces(7), sysctl(8).
"""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest
from mydocker.linux import syscalls as sc

from .init import sysctl_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.oci.runtime_spec import Spec

    from .namespaces import NamespacePlan

#: First parts of the path below /proc/sys -> the namespace that has a value of its own.
_OWNED = (
    ("net/", sc.CLONE_NEWNET, "network"), ("fs/mqueue/", sc.CLONE_NEWIPC, "ipc"), ("user/", sc.CLONE_NEWUSER, "user"),
    *((f"kernel/{name}", sc.CLONE_NEWIPC, "ipc") for name in (
        "msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")),
    ("kernel/domainname", sc.CLONE_NEWUTS, "uts"),
)
_FILES = {sc.CLONE_NEWNET: "net", sc.CLONE_NEWIPC: "ipc", sc.CLONE_NEWUSER: "user", sc.CLONE_NEWUTS: "uts"}


def check_sysctls(spec: Spec, namespaces: NamespacePlan) -> None:
    """See that every one of linux.sysctl is the container's own. Raises InvalidRequest with the key."""
    own = namespaces.all
    for joined in namespaces.joined:
        if joined.flag in _FILES and is_ours(joined.fd, _FILES[joined.flag]):
            own &= ~joined.flag
    for key, value in spec.get("linux", {}).get("sysctl", {}).items():
        check_sysctl(key, own)
        for field in ("domainname", "hostname"):
            wanted = spec.get(field)
            if sysctl_name(key) == f"kernel/{field}" and (field == "hostname" or (wanted and wanted != value)):
                raise InvalidRequest(f"linux.sysctl: {key}: conflicts with the field {field}", hint=f"say it as {field}")


def check_sysctl(key: str, own_namespaces: int) -> None:
    """See that one of the namespaces that are not the host's has this parameter. Raises InvalidRequest."""
    name = sysctl_name(key)
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise InvalidRequest(f"linux.sysctl: {key!r} is no name of a kernel parameter")
    if name == "kernel/hostname":
        return  # has a field of its own, and check_sysctls names it
    for prefix, flag, namespace in _OWNED:
        if name == prefix or (prefix.endswith("/") and name.startswith(prefix)):
            if not own_namespaces & flag:
                raise InvalidRequest(f"linux.sysctl: {key}: is the host's: the container has no {namespace} namespace of its own")
            return
    raise InvalidRequest(f"linux.sysctl: {key}: is not in a separate kernel namespace, so it would change the machine's")


def is_ours(namespace_fd: int, name: str) -> bool:
    """Tell whether an open namespace is the one that this process is in."""
    theirs, ours = os.fstat(namespace_fd), os.stat(f"/proc/self/ns/{name}")
    return (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)
