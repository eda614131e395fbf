"""Types of the keywords of the Python API, one for each option of `mydocker run`. Only types: nothing is defined at run time.

What the values mean is judged by request.py and isolation.py.
"""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TypedDict

    class Options(TypedDict, total=False):
        """Keywords of `engine.containers.run`, `create` and `open`: the options of `mydocker run`, `-` written as `_`."""

        name: str
        tty: bool
        interactive: bool
        console_size: tuple[int, int] | None
        rm: bool
        memory: str | int
        memory_swap: str | int
        cpu_shares: int | str
        cpus: float | str
        cpuset_cpus: str
        cpuset_mems: str
        pids_limit: int | str
        volume: str | Iterable[str] | Mapping[str, str]
        volumes_from: str | Iterable[str]
        volume_driver: str
        env: Mapping[str, str] | Iterable[str]
        env_file: str | Iterable[str]
        workdir: str
        user: str | int
        hostname: str
        network: str | Sequence[str]
        ip: str
        ip6: str
        mac_address: str
        network_alias: Sequence[str]
        dns: str | Iterable[str]
        dns_search: str | Iterable[str]
        dns_option: str | Iterable[str]
        add_host: str | Iterable[str] | Mapping[str, str]
        link: str | Iterable[str]
        publish: str | int | Iterable[str | int] | Mapping[int | str, int | str | None]
        publish_all: bool
        expose: str | int | Iterable[str | int]
        label: str | Iterable[str] | Mapping[str, str]
        entrypoint: str | Iterable[str]
        read_only: bool
        stop_signal: str | int
        stop_timeout: float | str
        log_opt: str | Iterable[str] | Mapping[str, str | int]
        show: str | Iterable[str]
        privileged: bool
        cap_add: str | Iterable[str]
        cap_drop: str | Iterable[str]
        security_opt: str | Iterable[str]
        group_add: str | int | Iterable[str | int]
        ulimit: str | Iterable[str] | Mapping[str, int | tuple[int, int]]
        sysctl: str | Iterable[str] | Mapping[str, str | int]
        init: bool
        oom_score_adj: int | str
        device: str | Iterable[str]
        device_cgroup_rule: str | Iterable[str]
        mount: str | Mapping[str, object] | Iterable[str | Mapping[str, object]]
        tmpfs: str | Iterable[str] | Mapping[str, str]
        shm_size: str | int
        pid: str
        ipc: str
        uts: str
        userns: str
        cgroupns: str
        domainname: str
        cgroup_parent: str
        memory_reservation: str | int
        memory_swappiness: int | str
        kernel_memory: str | int
        oom_kill_disable: bool
        cpu_period: int | str
        cpu_quota: int | str
        cpu_rt_period: int | str
        cpu_rt_runtime: int | str
        blkio_weight: int | str
        blkio_weight_device: str | Iterable[str] | Mapping[str, int]
        device_read_bps: str | Iterable[str] | Mapping[str, str | int]
        device_write_bps: str | Iterable[str] | Mapping[str, str | int]
        device_read_iops: str | Iterable[str] | Mapping[str, int]
        device_write_iops: str | Iterable[str] | Mapping[str, int]
        runtime: str
        annotation: str | Iterable[str] | Mapping[str, str]
        label_file: str | Iterable[str]
        pull: str
        platform: str
        insecure_registry: str | Iterable[str]

