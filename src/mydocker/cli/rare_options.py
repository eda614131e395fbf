"""The rows of `run` and `create` that few command lines have: read when one of them is typed, and for help.

They belong to the table in options.py, which lists their names; apart, they cost the usual start nothing.
"""
from __future__ import annotations

from .options import Option

_RC = "run create"


def _row(name: str, kind: str, help: str, value: str = "") -> Option:
    """Return a row of both verbs that lands at the engine under its own name."""
    return Option(_RC, name, "", kind, help, value=value, lands=name.replace("-", "_"))


#: In the order of `--help`.
RARE_OPTIONS = (
    # What it may do
    _row("privileged", "bool", "Take all fences down: every capability and device, nothing hidden or read-only, no filters"),
    _row("cap-add", "list", "Add a capability, such as NET_ADMIN; ALL for all", "CAP"),
    _row("cap-drop", "list", "Take a capability away; ALL for all", "CAP"),
    _row("security-opt", "list", "seccomp=FILE|unconfined|builtin, no-new-privileges[=BOOL], apparmor=PROFILE, label=..., "
         "mask=PATH:..., unmask=ALL|PATH:..., systempaths=unconfined", "OPTION"),
    _row("group-add", "list", "Add a group to the command's user, by name or number", "GROUP"),
    _row("ulimit", "list", "Limit of a process, such as nofile=1024:2048 (soft:hard; -1 for none)", "LIMIT"),
    _row("sysctl", "list", "Setting of the container's own namespaces: net.*, fs.mqueue.*, kernel.msg*, kernel.sem, kernel.shm*",
         "KEY=VALUE"),
    _row("init", "bool", "Run a small process 1 that passes signals on and reaps what the command leaves behind"),
    _row("oom-score-adj", "int", "How readily the kernel kills it when memory is short: -1000 to 1000", "N"),
    # What it sees
    _row("device", "list", "Give it a device of the host, or those of a directory: HOST[:CONTAINER[:rwm]]", "DEVICE"),
    _row("device-cgroup-rule", "list", "Allow devices by number: 'c 42:* rwm'", "RULE"),
    _row("mount", "list", "type=bind,source=PATH,target=PATH[,readonly][,bind-propagation=MODE], "
         "type=volume[,source=NAME],target=PATH[,readonly][,volume-nocopy][,volume-subpath=PATH], or type=tmpfs,target=PATH",
         "MOUNT"),
    _row("volumes-from", "list", "Show what another container mounts: CONTAINER[:ro]", "CONTAINER"),
    _row("volume-driver", "str", "Driver of new volumes: local is the only one", "DRIVER"),
    _row("tmpfs", "list", "Mount a tmpfs: PATH[:OPTIONS], such as /run:size=64m,mode=755", "PATH"),
    _row("shm-size", "str", "Size of /dev/shm (default 64m)", "SIZE"),
    _row("pid", "str", "PID namespace: private, host or container:NAME", "MODE"),
    _row("ipc", "str", "IPC namespace and /dev/shm: private, shareable, none, host or container:NAME", "MODE"),
    _row("uts", "str", "UTS namespace (host name): private, host or container:NAME", "MODE"),
    _row("userns", "str", "User namespace: host, or private for user ids that nobody else has", "MODE"),
    _row("cgroupns", "str", "Cgroup namespace: private, host or container:NAME", "MODE"),
    _row("domainname", "str", "NIS domain name inside", "NAME"),
    # Names
    _row("add-host", "list", "Add a line to /etc/hosts: NAME:ADDRESS; host-gateway is the machine's", "NAME:ADDRESS"),
    _row("dns", "list", "Name server to ask in place of the machine's", "ADDRESS"),
    _row("dns-search", "list", "Domain to look names up in; . for none", "DOMAIN"),
    _row("dns-option", "list", "Option of resolv.conf(5), such as ndots:2", "OPTION"),
    _row("link", "list", "Know another container by a name of one's own: CONTAINER[:ALIAS]", "LINK"),
    # Finer limits
    _row("cgroup-parent", "str", "Cgroup below which the container's is made (default /mydocker)", "PATH"),
    _row("memory-reservation", "str", "Memory that the kernel brings it down to when memory is short", "SIZE"),
    _row("memory-swappiness", "int", "How readily its memory is swapped: 0 to 100, -1 for the machine's (cgroup v1)", "N"),
    _row("kernel-memory", "str", "Accepted for docker's sake: the kernel has no such limit any more", "SIZE"),
    _row("oom-kill-disable", "bool", "Let it wait instead of being killed at its memory limit (cgroup v1)"),
    _row("cpu-period", "int", "Period of the CPU quota in microseconds: 1000 to 1000000", "N"),
    _row("cpu-quota", "int", "CPU time in a period, in microseconds", "N"),
    _row("cpu-rt-period", "int", "Period of real-time scheduling in microseconds (cgroup v1)", "N"),
    _row("cpu-rt-runtime", "int", "Real-time CPU time in a period, in microseconds (cgroup v1)", "N"),
    _row("blkio-weight", "int", "Share of block input and output against others: 10 to 1000", "N"),
    _row("blkio-weight-device", "list", "The same for one device: /dev/sda:500", "DEVICE:N"),
    _row("device-read-bps", "list", "Bytes that may be read from a device in a second: /dev/sda:10mb", "DEVICE:SIZE"),
    _row("device-write-bps", "list", "Bytes that may be written to a device in a second", "DEVICE:SIZE"),
    _row("device-read-iops", "list", "Reads from a device in a second", "DEVICE:N"),
    _row("device-write-iops", "list", "Writes to a device in a second", "DEVICE:N"),
    # The rest
    _row("runtime", "str", "OCI runtime in place of our own: crun, runc or a path (default $MYDOCKER_RUNTIME)", "RUNTIME"),
    _row("annotation", "list", "Add an annotation to the runtime spec: KEY=VALUE", "KEY=VALUE"),
    _row("label-file", "list", "Read labels from a file", "FILE"),
    _row("pull", "str", "Pull the image from its registry: always, missing (the default) or never", "WHEN"),
    _row("platform", "str", "Platform of the image, such as linux/arm64 (default: this machine's)", "PLATFORM"),
    _row("insecure-registry", "list", "Registry that may do without TLS or a good certificate", "HOST[:PORT]"),
    Option(_RC, "disable-content-trust", "", "bool",
           "Accepted for docker's sake: signatures of Notary are not asked for", default=True),
    Option(_RC, "cidfile", "", "str", "Write the container's id to a file, which must not exist", value="FILE"),
)
