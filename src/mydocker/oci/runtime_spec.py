"""Types of config.json, the OCI runtime spec 1.2 (github.com/opencontainers/runtime-spec, config.md, config-linux.md).

Pure types over plain dicts: unknown fields survive, nothing is converted, and at run time this
module defines nothing. Every key is optional here; what must be there is judged where it is used.
"""
from __future__ import annotations

SPEC_VERSION = "1.2.1"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class User(TypedDict, total=False):
        uid: int
        gid: int
        umask: int
        additionalGids: list[int]

    class Capabilities(TypedDict, total=False):
        bounding: list[str]
        effective: list[str]
        inheritable: list[str]
        permitted: list[str]
        ambient: list[str]

    class Rlimit(TypedDict):
        type: str
        soft: int
        hard: int

    class ConsoleSize(TypedDict):
        height: int
        width: int

    class Process(TypedDict, total=False):
        terminal: bool
        consoleSize: ConsoleSize
        user: User
        args: list[str]
        env: list[str]
        cwd: str
        capabilities: Capabilities
        rlimits: list[Rlimit]
        noNewPrivileges: bool
        oomScoreAdj: int
        apparmorProfile: str
        selinuxLabel: str

    class Root(TypedDict, total=False):
        path: str
        readonly: bool

    class Mount(TypedDict, total=False):
        destination: str
        type: str
        source: str
        options: list[str]

    class Namespace(TypedDict, total=False):
        type: str
        path: str

    class Device(TypedDict, total=False):
        path: str
        type: str
        major: int
        minor: int
        fileMode: int
        uid: int
        gid: int

    class DeviceRule(TypedDict, total=False):
        allow: bool
        type: str
        major: int
        minor: int
        access: str

    class Memory(TypedDict, total=False):
        limit: int
        reservation: int
        swap: int
        swappiness: int
        disableOOMKiller: bool

    class Cpu(TypedDict, total=False):
        shares: int
        quota: int
        period: int
        burst: int
        cpus: str
        mems: str
        idle: int
        realtimeRuntime: int
        realtimePeriod: int

    class Throttle(TypedDict, total=False):
        major: int
        minor: int
        rate: int

    class WeightDevice(TypedDict, total=False):
        major: int
        minor: int
        weight: int
        leafWeight: int

    class BlockIO(TypedDict, total=False):
        weight: int
        leafWeight: int
        weightDevice: list[WeightDevice]
        throttleReadBpsDevice: list[Throttle]
        throttleWriteBpsDevice: list[Throttle]
        throttleReadIOPSDevice: list[Throttle]
        throttleWriteIOPSDevice: list[Throttle]

    class Pids(TypedDict, total=False):
        limit: int

    class Resources(TypedDict, total=False):
        devices: list[DeviceRule]
        memory: Memory
        cpu: Cpu
        pids: Pids
        blockIO: BlockIO
        unified: dict[str, str]

    class SeccompArg(TypedDict, total=False):
        index: int
        value: int
        valueTwo: int
        op: str

    class SeccompRule(TypedDict, total=False):
        names: list[str]
        action: str
        errnoRet: int
        args: list[SeccompArg]

    class Seccomp(TypedDict, total=False):
        defaultAction: str
        defaultErrnoRet: int
        architectures: list[str]
        flags: list[str]
        listenerPath: str
        listenerMetadata: str
        syscalls: list[SeccompRule]

    class Linux(TypedDict, total=False):
        namespaces: list[Namespace]
        devices: list[Device]
        cgroupsPath: str
        resources: Resources
        rootfsPropagation: str
        maskedPaths: list[str]
        readonlyPaths: list[str]
        sysctl: dict[str, str]
        seccomp: Seccomp
        mountLabel: str

    class Spec(TypedDict, total=False):
        ociVersion: str
        process: Process
        root: Root
        hostname: str
        domainname: str
        mounts: list[Mount]
        annotations: dict[str, str]
        linux: Linux
