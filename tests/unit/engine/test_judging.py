"""What the judge makes of options, and what it refuses with which words."""
from __future__ import annotations

from typing import Any

import pytest

from mydocker.base.errors import InvalidRequest
from mydocker.engine.isolation import Isolation
from mydocker.engine.request import judge
from mydocker.linux import caps


def isolation(**options: Any) -> Isolation:
    return judge("image", [], options).isolation or Isolation()


def refused(**options: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        judge("image", [], options)
    return caught.value.message


def test_a_container_without_rare_options_has_no_isolation_of_its_own() -> None:
    assert judge("image", ["true"], {"memory": "64m", "read_only": True}).isolation is None
    assert judge("image", [], {"privileged": False, "pull": "missing", "kernel_memory": "50m", "pid": "private"}).isolation is None


def test_capabilities_are_taken_with_and_without_their_prefix_in_any_case() -> None:
    assert isolation(cap_add=["net_admin", "CAP_SYS_TIME", "cap_chown", "NET_ADMIN"]).cap_add == (
        "CAP_NET_ADMIN", "CAP_SYS_TIME", "CAP_CHOWN")
    assert isolation(cap_drop="all").cap_drop == ("ALL",)
    assert 'unknown capability: "CAP_FOO"' in refused(cap_add=["foo"])
    assert caps.NUMBERS["CAP_CHECKPOINT_RESTORE"] == 40


@pytest.mark.parametrize(("words", "expected"), [
    (["no-new-privileges"], {"no_new_privileges": True}),
    (["no-new-privileges=false"], {}),
    (["no-new-privileges:true"], {"no_new_privileges": True}),
    (["seccomp=unconfined"], {"seccomp": "unconfined"}),
    (["seccomp=builtin"], {}),
    (["seccomp=/profiles/a.json"], {"seccomp": "/profiles/a.json"}),
    (["apparmor=unconfined"], {"apparmor": "unconfined"}),
    (["label=disable"], {"selinux": (("disable", ""),)}),
    (["label=type:t_t", "label=level:s0:c1,c2"], {"selinux": (("type", "t_t"), ("level", "s0:c1,c2"))}),
    (["mask=/a:/b/../c"], None),
    (["mask=/a:/b", "mask=/c"], {"masked": ("/a", "/b", "/c")}),
    (["unmask=/proc/kcore"], {"unmasked": ("/proc/kcore",)}),
    (["unmask=all"], {"unmasked": ("ALL",)}),
    (["systempaths=unconfined"], {"unmasked": ("ALL",)}),
    (["foo=bar"], None), (["foo"], None), (["no-new-privileges=maybe"], None), (["label=foo:bar"], None),
    (["systempaths=x"], None), (["seccomp="], None), (["mask=relative"], None),
], ids=str)
def test_security_options(words: list[str], expected: dict[str, Any] | None) -> None:
    if expected is None:
        refused(security_opt=words)
    else:
        assert isolation(security_opt=words) == Isolation(**expected)


def test_ulimits() -> None:
    assert isolation(ulimit=["nofile=10:20", "core=-1", "nofile=5"]).ulimits == (("nofile", 5, 5), ("core", -1, -1))
    assert isolation(ulimit={"nproc": (1, 2), "stack": 8192}).ulimits == (("nproc", 1, 2), ("stack", 8192, 8192))
    assert "invalid ulimit type: foo" in refused(ulimit=["foo=1"])
    assert "soft limit must be less than or equal to hard limit: 10 > 5" in refused(ulimit=["nofile=10:5"])
    assert "soft limit" in refused(ulimit=["nofile=-1:5"])
    for word in ("nofile", "nofile=a", "nofile=1:2:3", "nofile=", "nofile=1.5"):
        refused(ulimit=[word])


@pytest.mark.parametrize("word", [
    "a=1+kernel.core_pattern=|/x", "kernel.core_pattern=x", "kernel.hostname=x", "vm.overcommit_memory=1", "foo",
    "net.ipv4.ip_forward=1+kernel.core_pattern=|/x", "net.ipv4.ip_forward=1\nkernel.core_pattern=x",
    "net./../../kernel/core_pattern=x", "net.../kernel/core_pattern=x", "net.=1", "net/../kernel/core_pattern=x",
    "kernel/core_pattern=x", "net.ipv4.ip_forward=", "fs.mqueue.=1", "net.a b=1", "/net.a=1",
])
def test_a_sysctl_that_is_not_of_a_namespace_or_not_one_word_is_refused(word: str) -> None:
    refused(sysctl=[word])


def test_sysctls_of_namespaces() -> None:
    assert isolation(sysctl=["net.ipv4.ip_local_port_range=1024 65535", "kernel.sem=1 2 3 4"]).sysctls == (
        ("net.ipv4.ip_local_port_range", "1024 65535"), ("kernel.sem", "1 2 3 4"))
    assert isolation(sysctl={"fs.mqueue.msg_max": 20}).sysctls == (("fs.mqueue.msg_max", "20"),)
    assert "no network of its own" in refused(sysctl=["net.core.somaxconn=1"], network="host")
    assert "IPC namespace" in refused(sysctl=["kernel.msgmax=1"], ipc="host")


def test_devices() -> None:
    assert isolation(device=["/dev/a", "/dev/a:r", "/dev/a:/dev/b", "/dev/a:/x/b:rw"]).devices == (
        ("/dev/a", "/dev/a", "rwm"), ("/dev/a", "/dev/a", "r"), ("/dev/a", "/dev/b", "rwm"), ("/dev/a", "/x/b", "rw"))
    assert "bad mode specified: q" in refused(device=["/dev/null:/dev/x:q"])
    assert "rwx is not an absolute path" in refused(device=["/dev/null:rwx"])
    for word in ("null", "/a:/b:r:w", "/dev/a:/dev/../x", "/dev/a:/", "/dev/a:/dev/b:", "/dev/a:rr", ""):
        refused(device=[word])


def test_device_rules() -> None:
    rules = ("c 42:* rmw", "b 8:1 r", "a *:* rwm")
    assert isolation(device_cgroup_rule=list(rules)).device_rules == rules
    for word in ("foo", "c 42 rwm", "x 1:1 r", "c 1:1 rr", "c 1:1 x", "c -1:1 r", "c 1:1", "c 1:1 r w", "c 4294967296:1 r"):
        assert f"invalid device cgroup format '{word}'" in refused(device_cgroup_rule=[word])


def test_block_io() -> None:
    assert isolation(blkio_weight=500).blkio_weight == 500
    assert isolation(blkio_weight_device=["/dev/a:200"]).blkio_weights == (("/dev/a", 200),)
    assert isolation(device_read_bps=["/dev/a:10mb"], device_write_iops={"/dev/b": 7}) == Isolation(
        read_bps=(("/dev/a", 10 << 20),), write_iops=(("/dev/b", 7),))
    for options in ({"blkio_weight": 5}, {"blkio_weight": 1001}, {"blkio_weight_device": ["/dev/a"]},
                    {"device_read_bps": ["/dev/a:x"]}, {"device_read_iops": ["/dev/a:1.5"]}, {"device_read_bps": ["a:1"]}):
        refused(**options)


def test_mounts() -> None:
    config = judge("image", [], {"mount": [
        "type=bind,src=/tmp,dst=/a,ro", "type=bind,source=/tmp,target=/b,readonly=false,bind-propagation=rslave,bind-nonrecursive",
        "type=tmpfs,destination=/c,tmpfs-size=1m,tmpfs-mode=700,readonly", '"type=bind","src=/tmp","dst=/d,e"',
    ]})
    assert [(volume.source, volume.target, volume.options) for volume in config.volumes] == [
        ("/tmp", "/a", ("ro",)), ("/tmp", "/b", ("rslave", "norecursive")), ("/tmp", "/d,e", ())]
    assert config.isolation == Isolation(tmpfs=(("/c", ("ro", "size=1048576", "mode=700")),))
    python = judge("image", [], {"mount": {"type": "bind", "source": "/tmp", "target": "/a", "readonly": True}})
    assert python.volumes == config.volumes[:1]


@pytest.mark.parametrize(("word", "text"), [
    ("type=bind,src=/nope,dst=/x", "bind source path does not exist: /nope"),
    ("type=foo,dst=/x", 'type "foo": mount type unknown'),
    ("type=bind,src=/tmp", "target is required"),
    ("type=tmpfs,dst=/x,src=/y", "field Source must not be specified"),
    ("type=bind,src=/tmp,dst=/x,foo=1", "unexpected key 'foo' in 'foo=1'"),
    ("type=bind,src=/tmp,dst=x", "mount path must be absolute"),
    ("type=bind,src=/tmp,dst=/", "invalid mount path"), ("type=bind,src=/tmp,dst=/a/../../b", "invalid mount path"),
    ("type=bind,dst=/x", "field Source must not be empty"),
    ("type=bind,src=/tmp,dst=/x,tmpfs-size=1", "cannot mix 'tmpfs-size'"),
    ("type=bind,src=/tmp,dst=/x,bind-propagation=x", "invalid propagation mode: x"),
    ("type=bind,src=/tmp,dst=/x,ro=maybe", "invalid value for readonly: maybe"),
    ("type=tmpfs,dst=/x,tmpfs-mode=8", "invalid tmpfs mode 8"), ("", "target is required"),
])
def test_a_mount_that_cannot_be_is_refused_in_dockers_words(word: str, text: str) -> None:
    assert text in refused(mount=[word])


def test_nothing_but_procfs_goes_to_proc() -> None:
    for options in ({"volume": ["/tmp:/proc/"]}, {"mount": ["type=bind,src=/tmp,dst=/proc"]}, {"tmpfs": ["/proc"]},
                    {"mount": ["type=tmpfs,dst=//proc"]}):
        assert "not of type proc" in refused(**options)
    assert judge("image", [], {"volume": ["/proc:/proc"]}).volumes


def test_tmpfs() -> None:
    assert isolation(tmpfs=["/run", "/tmp:size=64m,exec,mode=1777"]).tmpfs == (
        ("/run", ()), ("/tmp", ("size=64m", "exec", "mode=1777")))
    assert isolation(tmpfs={"/run": "size=1m"}).tmpfs == (("/run", ("size=1m",)),)
    assert 'invalid tmpfs option "foo"' in refused(tmpfs=["/x:foo"])
    assert "must be absolute" in refused(tmpfs=["relative"])
    assert "two mounts" in refused(tmpfs=["/x", "/x"])
    assert "two mounts" in refused(tmpfs=["/x"], volume=["/tmp:/x"])


def test_namespace_modes() -> None:
    assert isolation(pid="host", ipc="shareable", uts="container:a", cgroupns="host") == Isolation(
        pid_mode="host", ipc_mode="shareable", uts_mode="container:a", cgroup_mode="host")
    for options in ({"pid": "x"}, {"pid": "container:"}, {"ipc": "x"}, {"uts": "none"}, {"userns": "auto"}, {"cgroupns": "x"}):
        assert "invalid mode" in refused(**options)
    assert judge("image", [], {"userns": "private"}).runtime == "mydocker-runtime"
    for options in ({"privileged": True}, {"pid": "host"}, {"network": "host"}, {"ipc": "container:a"}):
        assert "userns private" in refused(userns="private", **options)
    assert "conflict with a UTS namespace" in refused(uts="host", hostname="a")
    assert "conflict with a UTS namespace" in refused(uts="host", domainname="a")


def test_finer_limits() -> None:
    assert isolation(cpu_period=50_000, cpu_quota="25000", memory_swappiness=-1, memory_reservation="10m") == Isolation(
        cpu_period_us=50_000, cpu_quota_us=25_000, memory_reservation_bytes=10 << 20)
    for options, text in (
        ({"cpus": 1, "cpu_quota": 1000}, "beside it"), ({"cpu_period": 10}, "less than 1ms"), ({"cpu_quota": 10}, "less than 1ms"),
        ({"memory_swappiness": 101}, "from -1 to 100"), ({"memory": "10m", "memory_reservation": "20m"}, "must not be more"),
        ({"oom_score_adj": 2000}, "from -1000 to 1000"), ({"oom_kill_disable": True}, "needs a memory limit"),
        ({"cpu_rt_period": 10, "cpu_rt_runtime": 20}, "cannot be higher"), ({"cgroup_parent": "a/../b"}, "not a cgroup path"),
        ({"cgroup_parent": "/"}, "not a cgroup path"), ({"cgroup_parent": "x.slice"}, "not a cgroup path"),
    ):
        assert text in refused(**options)
    assert judge("image", [], {"cgroup_parent": "a/b/"}).cgroup_parent == "/a/b"


def test_a_runtime_is_found_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge("image", [], {"runtime": "mydocker"}).runtime == ""
    assert judge("image", [], {"runtime": "mydocker-runtime"}).runtime == "mydocker-runtime"
    assert judge("image", [], {"runtime": "/bin/sh"}).runtime == "/bin/sh"
    assert "unknown runtime nope" in refused(runtime="nope")
    monkeypatch.setenv("MYDOCKER_RUNTIME", "/bin/sh")
    assert judge("image", [], {}).runtime == "/bin/sh"
    assert judge("image", [], {"runtime": "mydocker"}).runtime == ""


def test_labels_of_a_file_come_before_those_that_are_typed(tmp_path: Any) -> None:
    path = tmp_path / "labels"
    path.write_text("# comment\na=1\nb\n\n  c=x y\n")
    config = judge("image", [], {"label": ["a=2"], "label_file": [str(path)]})
    assert dict(config.labels) == {"a": "2", "b": "", "c": "x y"}
    assert "open label file /nope: no such file or directory" in refused(label_file="/nope")
    assert "open env file /nope: no such file or directory" in refused(env_file="/nope")


def test_what_docker_takes_and_nothing_heeds_is_judged_all_the_same() -> None:
    assert "invalid pull option" in refused(pull="sometimes")
    assert "kernel_memory" in refused(kernel_memory="x")
    assert judge("image", [], {"pull": "always"}).pull == "always"
    assert judge("image", [], {"platform": "aarch64"}).platform == "linux/arm64/v8"
    assert "'a/b/c/d': unknown" in refused(platform="a/b/c/d")
    assert "unknown option gpus" in refused(gpus="all")
