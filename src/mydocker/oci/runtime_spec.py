"""Types of config.json, the OCI runtime spec 1.3 (github.com/opencontainers/runtime-spec, config.md, config-linux.md).

Pure types over plain dicts: unknown fields survive, nothing is converted, and at run time this
module defines nothing. Every key is optional here; what must be there is judged in oci/validate.py.
"""
from __future__ import annotations

SPEC_VERSION = "1.2.1"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    # ---- config.md

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

    class Scheduler(TypedDict, total=False):
        policy: str
        nice: int
        priority: int
        flags: list[str]
        runtime: int
        deadline: int
        period: int

    class IOPriority(TypedDict, total=False):
        # `class` is no name in Python: read it with get("class").
        priority: int

    class ExecCPUAffinity(TypedDict, total=False):
        initial: str
        final: str

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
        apparmorProfile: str
        oomScoreAdj: int
        scheduler: Scheduler
        selinuxLabel: str
        ioPriority: IOPriority
        execCPUAffinity: ExecCPUAffinity

    class Root(TypedDict, total=False):
        path: str
        readonly: bool

    class IdMapping(TypedDict):
        containerID: int
        hostID: int
        size: int

    class Mount(TypedDict, total=False):
        destination: str
        type: str
        source: str
        options: list[str]
        uidMappings: list[IdMapping]
        gidMappings: list[IdMapping]

    class Hook(TypedDict, total=False):
        path: str
        args: list[str]
        env: list[str]
        timeout: int

    class Hooks(TypedDict, total=False):
        prestart: list[Hook]
        createRuntime: list[Hook]
        createContainer: list[Hook]
        startContainer: list[Hook]
        poststart: list[Hook]
        poststop: list[Hook]

    # ---- config-linux.md

    class Namespace(TypedDict, total=False):
        type: str
        path: str

    class TimeOffset(TypedDict, total=False):
        secs: int
        nanosecs: int

    class Device(TypedDict, total=False):
        path: str
        type: str
        major: int
        minor: int
        fileMode: int
        uid: int
        gid: int

    class NetDevice(TypedDict, total=False):
        name: str

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
        kernel: int
        kernelTCP: int
        swappiness: int
        disableOOMKiller: bool
        useHierarchy: bool
        checkBeforeUpdate: bool

    class Cpu(TypedDict, total=False):
        shares: int
        quota: int
        burst: int
        period: int
        realtimeRuntime: int
        realtimePeriod: int
        cpus: str
        mems: str
        idle: int

    class Pids(TypedDict, total=False):
        limit: int

    class WeightDevice(TypedDict, total=False):
        major: int
        minor: int
        weight: int
        leafWeight: int

    class Throttle(TypedDict, total=False):
        major: int
        minor: int
        rate: int

    class BlockIO(TypedDict, total=False):
        weight: int
        leafWeight: int
        weightDevice: list[WeightDevice]
        throttleReadBpsDevice: list[Throttle]
        throttleWriteBpsDevice: list[Throttle]
        throttleReadIOPSDevice: list[Throttle]
        throttleWriteIOPSDevice: list[Throttle]

    class HugepageLimit(TypedDict):
        pageSize: str
        limit: int

    class InterfacePriority(TypedDict):
        name: str
        priority: int

    class NetworkResources(TypedDict, total=False):
        classID: int
        priorities: list[InterfacePriority]

    class Rdma(TypedDict, total=False):
        hcaHandles: int
        hcaObjects: int

    class Resources(TypedDict, total=False):
        devices: list[DeviceRule]
        memory: Memory
        cpu: Cpu
        pids: Pids
        blockIO: BlockIO
        hugepageLimits: list[HugepageLimit]
        network: NetworkResources
        rdma: dict[str, Rdma]
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

    class Personality(TypedDict, total=False):
        domain: str
        flags: list[str]

    class IntelRdt(TypedDict, total=False):
        closID: str
        schemata: list[str]
        l3CacheSchema: str
        memBwSchema: str
        enableMonitoring: bool

    class MemoryPolicy(TypedDict, total=False):
        mode: str
        nodes: str
        flags: list[str]

    class Linux(TypedDict, total=False):
        namespaces: list[Namespace]
        uidMappings: list[IdMapping]
        gidMappings: list[IdMapping]
        timeOffsets: dict[str, TimeOffset]
        devices: list[Device]
        netDevices: dict[str, NetDevice]
        cgroupsPath: str
        resources: Resources
        rootfsPropagation: str
        seccomp: Seccomp
        sysctl: dict[str, str]
        maskedPaths: list[str]
        readonlyPaths: list[str]
        mountLabel: str
        intelRdt: IntelRdt
        memoryPolicy: MemoryPolicy
        personality: Personality

    class Spec(TypedDict, total=False):
        ociVersion: str
        process: Process
        root: Root
        hostname: str
        domainname: str
        mounts: list[Mount]
        hooks: Hooks
        annotations: dict[str, str]
        linux: Linux
