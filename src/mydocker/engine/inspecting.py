"""What `inspect` shows of a container: its record, its configuration, what it used, where its files are."""
from __future__ import annotations

import os

from mydocker.base import files, paths
from mydocker.base.clock import format_rfc3339
from mydocker.base.errors import NotFound
from mydocker.linux.cgroup.group import Cgroup

from .lifecycle import ALIVE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .store import ContainerRecord, Store


#: Words of `-v` that docker shows as the mode.
_MODES = ("ro", "rw", "z", "Z")


def inspect_container(store: Store, record: ContainerRecord) -> dict[str, Any]:
    """Return the document: the seed's keys, then `state`, `NetworkSettings`, `config`, `resources`, `paths`, `spec`."""
    from .network_settings import network_settings  # cold

    directory = store.layout.container(record.id)
    document = record.to_document()
    seed = {key: document[key] for key in ("id", "name", "pid", "command", "createTime", "status")}
    ports = _ports(record)
    return {
        **seed,
        "image": record.image, "imageId": record.image_id,
        "state": {
            "status": record.status, "pid": record.pid or 0, "exitCode": record.exit_code, "signal": record.signal,
            "oomKilled": record.oom_killed, "error": record.error, "createdAt": format_rfc3339(record.created_ns),
            "startedAt": _time(record.started_ns), "finishedAt": _time(record.finished_ns),
        },
        "ports": ports,
        "resources": _resources(record),
        "NetworkSettings": network_settings(record, ports),
        "Mounts": describe_mounts(record),
        "config": record.config,
        "paths": {
            "directory": directory, "log": f"{directory}/{paths.LOG}", "upper": f"{directory}/{paths.UPPER}",
            "cgroup": record.cgroups_path,
        },
        "spec": _load_spec(record.id, directory),
    }


def _load_spec(container_id: str, directory: str) -> object:
    """Return the runtime spec, null while the container is being made. Raises NotFound when it has been removed since."""
    try:
        return files.load_json(f"{directory}/{paths.BUNDLE}/{paths.RECORD}")
    except FileNotFoundError:
        if not os.path.exists(directory):
            raise NotFound(f"no container {container_id}", hint="`mydocker ps` lists those there are") from None
        return None


def _ports(record: ContainerRecord) -> dict[str, list[dict[str, str]] | None]:
    """Return where each port is reached, in docker's form: `{"80/tcp": [{"HostIp": "", "HostPort": ""}]}`, null if exposed."""
    found: dict[str, list[dict[str, str]] | None] = dict.fromkeys(record.config.get("exposed", ()))
    if record.ports and record.status in ALIVE:
        from .publishing import bindings_of  # cold

        for binding in bindings_of(record):
            key = f"{binding.port}/{binding.protocol}"
            found[key] = [*(found.get(key) or ()), {"HostIp": binding.host_ip, "HostPort": str(binding.host_port)}]
    return found


def describe_mounts(record: ContainerRecord) -> list[dict[str, Any]]:
    """Return what is mounted for the user, in docker's form; `--tmpfs` is not among it."""
    found = []
    for item in record.config.get("volumes") or ():
        words = [word for word in item["options"] if word in _MODES]
        common = {
            "Source": item["source"], "Destination": item["target"], "Mode": ",".join(words), "RW": "ro" not in item["options"]}
        if name := item.get("volume"):
            mode = common["Mode"] or ("" if item.get("anonymous") else "z")
            found.append({"Type": "volume", "Name": name, **common, "Driver": "local", "Mode": mode, "Propagation": ""})
        else:
            propagation = next((word for word in item["options"] if "private" in word or "shared" in word or "slave" in word), "")
            found.append({"Type": "bind", **common, "Propagation": propagation or "rprivate"})
    return found


def _time(time_ns: int | None) -> str:
    return format_rfc3339(time_ns) if time_ns else ""


def _resources(record: ContainerRecord) -> dict[str, int | None]:
    """Return the bill: so far while it lives, the final one after."""
    if record.status in ALIVE:
        try:
            stats = Cgroup.open(record.cgroups_path).stats()
            return {
                "cpuNs": stats.cpu_ns, "memoryBytes": stats.memory_bytes, "memoryPeakBytes": stats.memory_peak_bytes,
                "pids": stats.pids}
        except NotFound:
            pass  # it has just ended
    return {"cpuNs": record.cpu_ns, "memoryPeakBytes": record.memory_peak_bytes}
