"""What a hostile Dockerfile, context, stage or URL tries at build time: canaries on the host stay unread and as they are."""
from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import Mydocker

pytestmark = pytest.mark.needs("root", "overlay")

CANARY = "CANARY-OF-THE-HOST"
Write = Callable[..., str]


@pytest.fixture
def canary(scratch: str) -> Iterator[Path]:
    """A directory of the host with a file that must be neither read nor changed nor removed."""
    place = Path(scratch) / "host"
    (place / "empty").mkdir(parents=True)
    (place / "secret").write_text(CANARY)
    (place / "nothing").write_text("")
    yield place
    assert (place / "secret").read_text() == CANARY
    assert sorted(os.listdir(place)) == ["empty", "nothing", "secret"]


@pytest.fixture
def context(scratch: str) -> Write:
    def write(dockerfile: str) -> str:
        directory = Path(scratch) / "context"
        directory.mkdir(exist_ok=True)
        (directory / "Dockerfile").write_text(dockerfile)
        return str(directory)
    return write


def stored(mydocker: Mydocker) -> bytes:
    """Every byte that is kept on disk after a build: blobs, layers, cache, records."""
    found = []
    for directory, _, names in os.walk(mydocker.root):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.isfile(path) and not os.path.islink(path):
                found.append(Path(path).read_bytes())
    return b"\0".join(found)


def test_context_links_out_of_the_context_are_followed_inside_only(
    mydocker: Mydocker, busybox: str, context: Write, canary: Path
) -> None:
    place = context(f"FROM {busybox}\nCOPY up /x\n")
    os.symlink(f"../../..{canary}/secret", f"{place}/up")
    assert "not found" in mydocker("build", "-q", place, code=125).err
    context(f"FROM {busybox}\nCOPY dir/secret /x\n")
    os.symlink(str(canary), f"{place}/dir")
    mydocker("build", "-q", place, code=125)
    context(f"FROM {busybox}\nCOPY ../host/secret /x\n")
    mydocker("build", "-q", place, code=125)
    assert CANARY.encode() not in stored(mydocker)


def test_dockerfile_that_is_a_link_out_of_the_context_is_not_read(
    mydocker: Mydocker, context: Write, canary: Path
) -> None:
    place = context("")
    os.unlink(f"{place}/Dockerfile")
    os.symlink(f"{canary}/secret", f"{place}/Dockerfile")
    done = mydocker("build", "-q", place, code=125)
    assert CANARY not in done.err
    os.unlink(f"{place}/Dockerfile")
    os.mkfifo(f"{place}/Dockerfile")
    mydocker("build", "-q", place, code=125)


def test_stage_cannot_lead_a_copy_out(mydocker: Mydocker, busybox: str, context: Write, canary: Path) -> None:
    # CVE-2024-9676 and kin: the source, its parent, and the destination are links to the host.
    place = context(
        f"FROM {busybox} AS evil\nRUN ln -s {canary} /dir && ln -s {canary}/secret /file\nFROM {busybox}\n"
        "COPY --from=evil /dir/secret /got\n")
    mydocker("build", "-q", place, code=125)
    context(f"FROM {busybox} AS evil\nRUN ln -s {canary}/secret /file\nFROM {busybox}\nCOPY --from=evil /file /got\n")
    mydocker("build", "-q", place, code=125)
    context(f"FROM {busybox}\nRUN ln -s {canary} /out && ln -s {canary}/secret /name\nCOPY Dockerfile /out/secret\n")
    mydocker("build", "-q", place, code=None)
    context(f"FROM {busybox}\nRUN ln -s {canary}/secret /name\nCOPY Dockerfile /name\nADD Dockerfile /name\nWORKDIR /name/x\n")
    mydocker("build", "-q", place, code=None)
    assert CANARY.encode() not in stored(mydocker)


def test_stage_cannot_lead_a_mount_out(mydocker: Mydocker, busybox: str, context: Write, canary: Path) -> None:
    # CVE-2024-1753, CVE-2024-23651: the source of a bind mount is a link to the host's root.
    place = context(
        f"FROM {busybox} AS evil\nRUN ln -s / /root-of-host && ln -s {canary} /dir\nFROM {busybox}\n"
        f"RUN --mount=from=evil,source=/root-of-host,target=/m,rw cat /m{canary}/secret > /got; test ! -e /m{canary}\n")
    mydocker("build", "-q", place)
    context(f"FROM {busybox} AS evil\nRUN ln -s {canary} /dir\nFROM {busybox}\n"
            "RUN --mount=from=evil,source=/dir,target=/m,rw cat /m/secret\n")
    mydocker("build", "-q", place, code=125)
    assert CANARY.encode() not in stored(mydocker)


def test_target_of_a_mount_that_is_a_link_stays_inside(mydocker: Mydocker, busybox: str, context: Write, canary: Path) -> None:
    # CVE-2024-23652: what is removed after the step must not be the host's.
    place = context(
        f"FROM {busybox}\nRUN mkdir -p /a && ln -s {canary} /link && ln -s ../../../../../../..{canary} /up\n"
        f"RUN --mount=type=tmpfs,target=/a/empty rm -rf /a 2>/dev/null; rmdir /a; ln -s {canary} /a2; true\n"
        f"RUN --mount=type=tmpfs,target=/x/empty --mount=type=tmpfs,target=/y/z true\n")
    mydocker("build", "-q", place)
    context(f"FROM {busybox}\nRUN ln -s {canary} /link\nRUN --mount=type=tmpfs,target=/link/empty true\n")
    mydocker("build", "-q", place, code=None)


@pytest.mark.parametrize("mount", [
    "type=cache,target=/c,source=../..", "type=cache,target=/c,id=../../../../etc", "type=cache,target=/c,from=evil,source=/out",
    "type=cache,target=/c,from=evil,source=../../..",
])
def test_cache_stays_in_its_place(mydocker: Mydocker, busybox: str, context: Write, canary: Path, mount: str) -> None:
    # CVE-2024-11218, CVE-2024-9675
    place = context(
        f"FROM {busybox} AS evil\nRUN ln -s {canary} /out\nFROM {busybox}\nRUN --mount={mount} echo x > /c/made; ls /c > /got; cat /c/secret; true\n")
    mydocker("build", "-q", place, code=None)
    assert CANARY.encode() not in stored(mydocker)
    assert not os.path.exists("/etc/made")


def test_parallel_stage_cannot_race_a_cache_out(mydocker: Mydocker, busybox: str, context: Write, canary: Path) -> None:
    # One stage replaces everything in a shared cache by links, again and again, while the other mounts it.
    steps = "".join(f"RUN --mount=type=cache,target=/c,id=race cat /c/secret /c/d/secret 2>/dev/null; echo {i}\n" for i in range(4))
    place = context(
        f"FROM {busybox} AS one\nRUN --mount=type=cache,target=/c,id=race for i in $(seq 200); do rm -rf /c/d; mkdir /c/d; rm -rf /c/d; "
        f"ln -s {canary} /c/d; done\nFROM {busybox} AS two\n{steps}FROM {busybox}\nCOPY --from=one /bin/sh /a\nCOPY --from=two /bin/sh /b\n")
    done = mydocker("build", place)
    assert CANARY not in done.err


def test_secrets_are_in_no_layer_history_cache_or_log(mydocker: Mydocker, busybox: str, context: Write, canary: Path) -> None:
    place = context(
        f"FROM {busybox}\nRUN --mount=type=secret,id=s wc -c < /run/secrets/s > /count\n"
        "RUN --mount=type=secret,id=s,env=S test -n \"$S\"\nRUN ! grep -r CANARY /run /proc/1/environ\n")
    done = mydocker("--debug", "build", "-t", "s", "--secret", f"id=s,src={canary}/secret", place)
    assert CANARY not in done.err + done.out
    assert CANARY.encode() not in stored(mydocker)
    assert CANARY not in mydocker("inspect", "--type=image", "s").out


def test_environment_of_the_build_command_stays_outside(mydocker: Mydocker, busybox: str, context: Write) -> None:
    place = context(f"FROM {busybox}\nARG NAMED\nRUN env > /env; echo $NAMED > /named\n")
    done = mydocker("build", "-t", "e", place, env={"SECRET_OF_OURS": CANARY, "NAMED": CANARY})
    assert CANARY not in done.err
    assert CANARY.encode() not in stored(mydocker)


def test_proxies_are_passed_and_kept_nowhere(mydocker: Mydocker, busybox: str, context: Write) -> None:
    place = context(f"FROM {busybox}\nRUN test -n \"$HTTP_PROXY\"\n")
    mydocker("build", "-t", "p", "--build-arg", f"HTTP_PROXY=http://user:{CANARY}@proxy", place)
    assert CANARY.encode() not in stored(mydocker)


def test_lookalike_parent_is_no_cache_hit(mydocker: Mydocker, busybox: str, context: Write) -> None:
    # CVE-2024-24557: the same files and another config.
    step = "RUN echo same > /same\n"
    mydocker("build", context(f"FROM {busybox}\nHEALTHCHECK CMD evil\n{step}"))
    assert "CACHED" not in mydocker("build", context(f"FROM {busybox}\n{step}")).err
    assert "CACHED" not in mydocker("build", context(f"FROM {busybox}\nONBUILD RUN evil\n{step}")).err
    assert "CACHED" in mydocker("build", context(f"FROM {busybox}\n{step}")).err


def test_capabilities_and_filter_are_those_of_any_container(mydocker: Mydocker, busybox: str, context: Write) -> None:
    # CVE-2022-29162: nothing inheritable; GHSA-7236-3392-c5c6: no step without the filter.
    done = mydocker("build", context(
        f"FROM {busybox}\nRUN grep -E '^(CapInh|CapBnd|Seccomp|NoNewPrivs)' /proc/self/status; ! mount -t tmpfs x /mnt 2>/dev/null\n"))
    plain = mydocker("run", "--rm", busybox, "grep", "-E", "^(CapInh|CapBnd|Seccomp|NoNewPrivs)", "/proc/self/status").out
    for line in plain.splitlines():
        assert line in done.err


@pytest.mark.parametrize("flag", ["--security=insecure", "--device=/dev/kmsg", "--network=container:x"])
def test_rights_are_not_for_a_dockerfile_to_take(mydocker: Mydocker, busybox: str, context: Write, flag: str) -> None:
    assert "line 2" in mydocker("build", "-q", context(f"FROM {busybox}\nRUN {flag} true\n"), code=125).one_error_line()


def test_unknown_frontend_is_refused(mydocker: Mydocker, busybox: str, context: Write) -> None:
    done = mydocker("build", "-q", context(f"# syntax=evil/frontend\nFROM {busybox}\n"), code=125)
    assert "frontends from images are not run" in done.one_error_line()


@pytest.mark.needs("git")
@pytest.mark.parametrize("fragment", ["master:../..", "master:out", "master:sub/../../..", "--upload-pack=touch /tmp/mydocker-pwned", "-x", "a..b"])
def test_git_reference_leads_nowhere(
    mydocker: Mydocker, busybox: str, context: Write, canary: Path, fragment: str
) -> None:
    place = context(f"FROM {busybox}\nCOPY . /x\n")
    os.symlink(str(canary), f"{place}/out")
    git = ["git", "-C", place, "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q", "-b", "master"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    mydocker("build", "-q", f"file://{place}#{fragment}", code=125)
    assert not os.path.exists("/tmp/mydocker-pwned")
    assert CANARY.encode() not in stored(mydocker)


@pytest.mark.parametrize("url", [
    "git@-oProxyCommand=touch /tmp/mydocker-pwned:x.git", "ssh://-oProxyCommand=touch%20/tmp/mydocker-pwned/x.git",
    "https://ext::sh -c touch% /tmp/mydocker-pwned.git", "--upload-pack=touch /tmp/mydocker-pwned",
])
def test_git_url_is_no_option(mydocker: Mydocker, url: str) -> None:
    mydocker("build", "-q", "--", url, code=125)
    assert not os.path.exists("/tmp/mydocker-pwned")


@pytest.mark.needs("git")
@pytest.mark.parametrize("url", ["file://{}", "git@localhost:{}", "ssh://localhost{}/x.git", "git://-x{}/a.git#--upload-pack=x"])
def test_dockerfile_reaches_no_repository_of_this_machine(
    mydocker: Mydocker, busybox: str, context: Write, canary: Path, url: str
) -> None:
    place = str(canary)
    Path(place).mkdir(exist_ok=True)
    told = mydocker("build", "-q", context(f"FROM {busybox}\nADD {url.format(place)} /x\n"), code=125).one_error_line()
    assert "line 2" in told and CANARY.encode() not in stored(mydocker)


@pytest.mark.needs("git")
def test_submodule_reaches_no_repository_of_this_machine(mydocker: Mydocker, busybox: str, context: Write, tmp_path: Path) -> None:
    secret, place = str(tmp_path / "secret"), context(f"FROM {busybox}\nCOPY . /x\n")
    for directory in (secret, place):
        os.makedirs(directory, exist_ok=True)
        git = ["git", "-C", directory, "-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]
        subprocess.run([*git, "init", "-q", "-b", "master"], check=True)
        if directory == secret:
            Path(secret, "secret").write_text(CANARY)
        else:
            subprocess.run([*git, "submodule", "--quiet", "add", secret, "sub"], check=True, capture_output=True)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-qm", "x"], check=True)
    assert "git submodule" in mydocker("build", "-q", f"file://{place}", code=125).one_error_line()
    assert CANARY.encode() not in stored(mydocker)


def test_context_tar_cannot_write_outside(mydocker: Mydocker, canary: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, str(canary)
        archive.addfile(link)
        for name in ("link/secret", "../../../../../../../tmp/mydocker-pwned"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"evil"))
    mydocker("build", "-q", "-", stdin=data.getvalue(), code=125)
    assert not os.path.exists("/tmp/mydocker-pwned")


def test_added_archive_cannot_write_outside(mydocker: Mydocker, busybox: str, context: Write, canary: Path) -> None:
    place = context(f"FROM {busybox}\nRUN ln -s {canary} /there\nADD evil.tar /\n")
    with tarfile.open(f"{place}/evil.tar", mode="w") as archive:
        for name in ("there/secret", "there/new"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"evil"))
    mydocker("build", "-q", place, code=None)


def test_context_that_changes_meanwhile_leads_nowhere(mydocker: Mydocker, busybox: str, context: Write, canary: Path) -> None:
    place = context(f"FROM {busybox}\nCOPY d /d\n")
    os.mkdir(f"{place}/d")
    for i in range(200):
        Path(place, "d", f"{i:04}").write_text("")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(f"{place}/d", f"{place}/old")
            os.symlink(str(canary), f"{place}/d")
            os.unlink(f"{place}/d")
            os.rename(f"{place}/old", f"{place}/d")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(8):
            mydocker("build", "-q", "--no-cache", place, code=None)
    finally:
        stop.set()
        thread.join()
    assert CANARY.encode() not in stored(mydocker)


def test_terminal_is_not_for_a_step_to_steer(mydocker: Mydocker, busybox: str, context: Write) -> None:
    done = mydocker("build", "--progress=tty", context(f"FROM {busybox}\nRUN printf '\\033[2J\\033]0;title\\007evil\\n'; sleep 0.3; exit 1\n"), code=1)
    assert "\x1b[2J" not in done.err
    assert "\x1b]0" not in done.err


def test_record_of_the_cache_that_is_no_record_is_passed_over(mydocker: Mydocker, busybox: str, context: Write) -> None:
    place = context(f"FROM {busybox}\nRUN touch /x\n")
    mydocker("build", place)
    for name in os.listdir(f"{mydocker.root}/build"):
        if name.endswith(".json"):
            Path(mydocker.root, "build", name).write_text(json.dumps({"version": 1, "layer": {"blob": 5}}))
    assert "CACHED" not in mydocker("build", place).err
