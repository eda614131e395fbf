"""`mydocker build` with real containers: what the image holds, what the cache does, what is told of errors."""
from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from harness import Mydocker, processes

from mydocker.build.keyagent import KeyAgent

pytestmark = pytest.mark.needs("root", "overlay")

Write = Callable[..., str]


@pytest.fixture
def context(scratch: str) -> Write:
    """Write a context's files (name=text) and return its directory."""
    def write(dockerfile: str, **files: str) -> str:
        directory = Path(scratch) / "context"
        for name, text in {"Dockerfile": dockerfile, **files}.items():
            path = directory / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return str(directory)
    return write


def out(mydocker: Mydocker, image: str, command: str) -> str:
    return mydocker("run", "--rm", image, "sh", "-c", command).out


def config(mydocker: Mydocker, image: str) -> dict:
    """The image config as stored."""
    image_id = json.loads(mydocker("inspect", "--type=image", image).out)[0]["Id"]
    return json.loads(Path(mydocker.root, "image/blobs/sha256", image_id.removeprefix("sha256:")).read_text())


def test_image_of_every_common_instruction_runs(mydocker: Mydocker, busybox: str, context: Write) -> None:
    place = context(
        f"FROM {busybox}\nARG v=1\nENV a=x$v\nWORKDIR /w\nCOPY f .\nRUN echo $a > made && id -u >> made\nUSER daemon\n"
        "LABEL l=1\nEXPOSE 80\nCMD [\"cat\", \"f\", \"made\"]\n", f="from the context\n")
    mydocker("build", "-t", "built:1", "--build-arg", "v=2", place)
    assert mydocker("run", "--rm", "built:1").out == "from the context\nx2\n0\n"
    inner = config(mydocker, "built:1")["config"]
    assert (inner["User"], inner["WorkingDir"], inner["Labels"]) == ("daemon", "/w", {"l": "1"})


def test_image_for_another_platform_is_made_of_what_is_built_here(mydocker: Mydocker, busybox: str, context: Write) -> None:
    place = context(
        f"FROM --platform=$BUILDPLATFORM {busybox} AS made\nARG TARGETARCH\nARG TARGETPLATFORM\nRUN echo $TARGETPLATFORM $TARGETARCH > /for\n"
        "FROM scratch\nCOPY --from=made /for /for\n")
    mydocker("build", "-t", "other:1", "--platform", "linux/s390x", place)
    made = config(mydocker, "other:1")
    assert (made["os"], made["architecture"]) == ("linux", "s390x")
    mydocker("build", "--platform", "linux/s390x", "-o", f"{place}/out", place)
    assert Path(place, "out/for").read_text() == "linux/s390x s390x\n"


def test_unchanged_step_costs_no_container_and_the_id_stays(mydocker: Mydocker, busybox: str, context: Write) -> None:
    place = context(f"FROM {busybox}\nCOPY f /f\nRUN date +%N > /time\nENV x=1\n", f="1")
    first = mydocker("build", "-t", "c", place)
    again = mydocker("build", "-t", "c", place)
    assert again.out == first.out
    assert again.err.count("CACHED") == 3
    Path(place, "f").write_text("2")
    changed = mydocker("build", "-t", "c", place)
    assert "CACHED" not in changed.err.split("RUN")[0]
    assert changed.out != first.out
    assert "CACHED" not in mydocker("build", "--no-cache", place).err


def test_the_same_build_again_is_the_same_image_though_steps_repeat(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    with open(f"{scratch}/Dockerfile", "w", encoding="utf-8") as stream:
        stream.write(f"FROM {busybox}\nRUN true\nRUN true\nENV A=1\nENV A=1\nWORKDIR /\nWORKDIR /\n")
    first = mydocker("build", "-q", scratch).out
    assert mydocker("build", "-q", scratch).out == first



def test_times_of_files_do_not_count_but_modes_do(mydocker: Mydocker, busybox: str, context: Write) -> None:
    place = context(f"FROM {busybox}\nCOPY f /f\n", f="1")
    mydocker("build", place)
    os.utime(f"{place}/f", (1, 1))
    assert "CACHED" in mydocker("build", place).err
    os.chmod(f"{place}/f", 0o711)
    assert "CACHED" not in mydocker("build", place).err


def test_failed_build_leaves_its_finished_steps_in_the_cache(mydocker: Mydocker, busybox: str, context: Write) -> None:
    place = context(f"FROM {busybox}\nRUN touch /one\nRUN test -e /never\n")
    done = mydocker("build", place, code=1)
    assert "line 3" in done.err
    assert "[stage-0 2/2]" in done.err
    assert "non-zero code: 1" in done.err
    assert "CACHED" in mydocker("build", place, code=1).err
    assert mydocker("ps", "-q").out == ""


def test_exit_code_of_a_failed_command_is_passed_on(mydocker: Mydocker, busybox: str, context: Write) -> None:
    mydocker("build", context(f"FROM {busybox}\nRUN exit 42\n"), code=42)


def test_run_steps_have_the_hosts_and_limits_of_the_command_line(mydocker: Mydocker, busybox: str, context: Write) -> None:
    place = context(f"FROM {busybox}\nRUN grep -w lan /etc/hosts; ulimit -n; df -k /dev/shm | tail -1 | awk '{{print $2}}'\n")
    words = ("--add-host", "lan:10.9.8.7", "--ulimit", "nofile=77:88", "--shm-size", "5m", "-m", "64m", "--rm", "--compress")
    said = mydocker("build", "--progress", "plain", *words, place).err
    assert "10.9.8.7\tlan" in said and " 77\n" in said and " 5120\n" in said
    assert "CACHED" in mydocker("build", *words, place).err
    assert "CACHED" not in mydocker("build", "--add-host", "lan:10.9.8.6", place).err
    assert "other" in mydocker("build", "--add-host", "other", place, code=125).one_error_line()
    assert "memory" in mydocker("build", "-m", "lots", place, code=125).one_error_line()


def test_prune_leaves_what_an_empty_stage_stands_on(mydocker: Mydocker, busybox: str, context: Write) -> None:
    mydocker("build", "-t", "e", context(f"FROM scratch AS none\nENV a=1\nFROM {busybox}\nCOPY --from=none / /x\n"))
    pruning = [subprocess.Popen([*mydocker.argv, "builder", "prune", "-af"], env=mydocker.environ()) for _ in range(4)]
    assert [process.wait() for process in pruning] == [0, 0, 0, 0]
    assert not [name for name in os.listdir(f"{mydocker.root}/build") if name.endswith(".json")]
    assert mydocker("builder", "prune").out == "Forgot 0 entries of the build cache\n"
    mydocker("build", "-t", "e", context(f"FROM scratch AS none\nENV a=1\nFROM {busybox}\nCOPY --from=none / /x\n"))


def test_cache_survives_rmi_and_prune_forgets_it(mydocker: Mydocker, busybox: str, context: Write) -> None:
    place = context(f"FROM {busybox} AS one\nRUN touch /one\nFROM {busybox}\nCOPY --from=one /one /two\n")
    mydocker("build", "-t", "c", place)
    mydocker("rmi", "c")
    assert mydocker("build", "-t", "c", place).err.count("CACHED") == 2
    mydocker("rmi", "c")
    mydocker("builder", "prune")
    layers = [name for name in os.listdir(f"{mydocker.root}/layer") if len(name) == 64]
    assert len(layers) == 1  # the base's
    assert "CACHED" not in mydocker("build", place).err


def test_stages_that_do_not_need_each_other_run_side_by_side(mydocker: Mydocker, busybox: str, context: Write) -> None:
    # Each waits for the other through a shared cache directory: one after the other they would wait for ever.
    meet = "RUN --mount=type=cache,target=/m,id=meet touch /m/{} && for i in $(seq 100); do test -e /m/{} && exit 0; sleep 0.1; done; exit 1\n"
    place = context(
        f"FROM {busybox} AS a\n{meet.format('a', 'b')}FROM {busybox} AS b\n{meet.format('b', 'a')}"
        f"FROM {busybox}\nCOPY --from=a /bin/sh /a\nCOPY --from=b /bin/sh /b\n")
    mydocker("build", place)


def test_failure_in_one_stage_ends_the_others(mydocker: Mydocker, busybox: str, context: Write) -> None:
    place = context(f"FROM {busybox} AS a\nRUN sleep 300\nFROM {busybox} AS b\nRUN sleep 0.3; exit 3\n"
                    f"FROM {busybox}\nCOPY --from=a /x /a\nCOPY --from=b /x /b\n")
    mydocker("build", place, code=3)


def test_stage_that_nobody_needs_is_skipped(mydocker: Mydocker, busybox: str, context: Write) -> None:
    place = context(f"FROM {busybox} AS never\nRUN false\nFROM {busybox} AS wanted\nRUN true\nFROM {busybox}\nRUN false\n")
    mydocker("build", "--target", "wanted", place)


def test_same_inputs_give_the_same_digest_with_source_date_epoch(mydocker: Mydocker, busybox: str, context: Write) -> None:
    place = context(f"FROM {busybox}\nCOPY f /d/\nRUN date +%s%N > /dev/null; mkdir /x; echo 1 > /x/y; ln /x/y /x/z\nENV a=1\n", f="1")
    env = {"SOURCE_DATE_EPOCH": "1700000000"}
    first = mydocker("build", "--no-cache", place, env=env).out
    os.utime(f"{place}/f")
    assert mydocker("build", "--no-cache", place, env=env).out == first
    assert config(mydocker, first.strip())["created"].startswith("2023-11-14T22:13:20")


def test_onbuild_runs_in_the_image_that_stands_on_it(mydocker: Mydocker, busybox: str, context: Write) -> None:
    mydocker("build", "-t", "parent", context(f"FROM {busybox}\nONBUILD COPY f /from-child\nONBUILD RUN cat /from-child > /ran\n"))
    place = context("FROM parent\nENV x=1\n", f="child")
    mydocker("build", "-t", "child", place)
    assert out(mydocker, "child", "cat /ran") == "child"
    assert "OnBuild" not in config(mydocker, "child")["config"]


def test_heredocs_make_scripts_and_files(mydocker: Mydocker, busybox: str, context: Write) -> None:
    mydocker("build", "-t", "h", context(
        f"FROM {busybox}\nENV v=1\nRUN <<EOF\necho $v > /a\necho two >> /a\nEOF\n"
        "COPY <<x <<'y' /d/\nv is $v\nx\nv is $v\ny\nRUN cat <<E > /e\nheld\nE\n"
        "COPY --chmod=755 <<run /run.sh\n#!/bin/sh\necho ran\nrun\nRUN <<EOF\n#!/bin/busybox ash\necho $0 > /own\nEOF\n"
        "USER 7\nRUN <<../E\n#!/bin/busybox sh\nid -u > /tmp/id; echo $0 >> /tmp/id\n../E\n"))
    assert out(mydocker, "h", "cat /a /d/x /d/y /e; /run.sh; cat /own /tmp/id; ls /tmp /dev") == (
        "1\ntwo\nv is 1\nv is $v\nheld\nran\n/dev/pipes/EOF\n7\n/dev/pipes/_E\n" + out(mydocker, "h", "ls /tmp /dev"))
    assert out(mydocker, "h", "ls /tmp") == "id\n"
    layers = config(mydocker, "h")["rootfs"]["diff_ids"]
    assert len(layers) == 7


def test_mounts_are_there_and_leave_nothing(mydocker: Mydocker, busybox: str, context: Write, scratch: str) -> None:
    Path(scratch, "key").write_text("TOP-SECRET")
    place = context(
        f"FROM {busybox} AS other\nRUN mkdir /o && echo other > /o/f\nFROM {busybox}\n"
        "RUN --mount=type=bind,target=/ctx/here --mount=from=other,source=/o,target=/o,rw --mount=type=tmpfs,target=/t "
        "--mount=type=secret,id=key --mount=type=secret,id=key,target=/s,mode=0444,uid=1 --mount=type=cache,target=/c "
        "cat /ctx/here/f /o/f /run/secrets/key /s && echo x > /o/new && echo x > /t/x && echo kept > /c/kept && stat -c %u%a /s\n"
        "RUN --mount=type=cache,target=/other,id=/c cat /other/kept > /seen\nRUN ! test -e /run/secrets/key\n", f="ctx\n")
    done = mydocker("build", "-t", "m", "--secret", f"id=key,src={scratch}/key", place)
    assert "1444" in done.err
    assert out(mydocker, "m", "ls -d /ctx /o /t /s /c /other /run/secrets 2>/dev/null; cat /seen") == "kept\n"


def test_bind_mounts_are_read_only_unless_asked(mydocker: Mydocker, busybox: str, context: Write) -> None:
    place = context(f"FROM {busybox}\nRUN --mount=target=/x ! touch /x/y && test -e /x/f\nRUN --mount=target=/x,rw touch /x/y\n", f="")
    mydocker("build", place)
    assert not os.path.exists(f"{place}/y")


def test_secret_as_a_variable(mydocker: Mydocker, busybox: str, context: Write) -> None:
    place = context(f"FROM {busybox}\nRUN --mount=type=secret,id=k,env=KEY test \"$KEY\" = value && ! test -e /run/secrets/k\n")
    mydocker("build", "--secret", "id=k,env=FROM_US", place, env={"FROM_US": "value"})


def test_required_secret_that_is_not_given_is_an_error(mydocker: Mydocker, busybox: str, context: Write) -> None:
    place = context(f"FROM {busybox}\nRUN --mount=type=secret,id=k,required=true true\n")
    assert "secret k" in mydocker("build", "-q", place, code=125).one_error_line()


def test_agent_is_there_when_it_was_given(mydocker: Mydocker, busybox: str, context: Write, scratch: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{scratch}/agent")
        place = context(f"FROM {busybox}\nRUN --mount=type=ssh test -S $SSH_AUTH_SOCK\nRUN test -z \"$SSH_AUTH_SOCK\"\n")
        mydocker("build", "--ssh", f"default={scratch}/agent", place)


@pytest.mark.skipif(not shutil.which("ssh-agent"), reason="openssh-client is not installed")
def test_key_file_is_lent_by_an_agent_of_the_build(mydocker: Mydocker, busybox: str, context: Write, scratch: str) -> None:
    key = f"{scratch}/key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "mark-of-key", "-f", key], check=True)
    os.chmod(key, 0o644)
    place = context(f"FROM {busybox}\nRUN --mount=type=ssh,id=k test -S $SSH_AUTH_SOCK\n")
    mydocker("build", "--ssh", f"k={key}", place)
    assert "there is no key" in mydocker("build", "--ssh", f"k={key},{scratch}/none", place, code=125).one_error_line()
    agent = KeyAgent(scratch, "k", [key])  # the image has no ssh-add to ask it
    environment = {**os.environ, "SSH_AUTH_SOCK": agent.socket}
    listed = subprocess.run(["ssh-add", "-l"], env=environment, capture_output=True, text=True, check=False)
    agent.close()
    assert "mark-of-key" in listed.stdout and not os.path.exists(agent.socket)
    os.chmod(key, 0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", key], check=True)
    assert "passphrase" in mydocker("build", "--ssh", f"k={key}", place, code=125).one_error_line()
    assert agents_of(scratch, mydocker.root) == []


@pytest.mark.skipif(not shutil.which("ssh-agent"), reason="openssh-client is not installed")
def test_agents_of_two_builds_in_one_process_do_not_meet(scratch: str) -> None:
    key = f"{scratch}/key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    first, second = KeyAgent(scratch, "default", [key]), KeyAgent(scratch, "default", [key])
    second.close()
    listed = subprocess.run(["ssh-add", "-l"], env={**os.environ, "SSH_AUTH_SOCK": first.socket}, capture_output=True, check=False)
    first.close()
    assert listed.returncode == 0, listed
    assert agents_of(scratch) == []


def agents_of(*directories: str) -> list[list[str]]:
    """Return the command lines of the ssh-agents that have a socket below one of these."""
    return [argv for _, argv in processes() if argv[0] == "ssh-agent" and any(f"{top}/" in word for word in argv for top in directories)]


def test_run_without_network_has_loopback_only(mydocker: Mydocker, busybox: str, context: Write) -> None:
    mydocker("build", context(f"FROM {busybox}\nRUN --network=none test \"$(ls /sys/class/net)\" = lo\n"))


def test_context_on_standard_input(mydocker: Mydocker, busybox: str) -> None:
    for mode in ("w", "w:gz"):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode=mode) as archive:
            for name, text in (("sub/My", f"FROM {busybox}\nCOPY f /f\n"), ("f", "tar")):
                member = tarfile.TarInfo(name)
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))
        mydocker("build", "-t", "t", "-f", "sub/My", "-", stdin=data.getvalue())
        assert out(mydocker, "t", "cat /f") == "tar"


def test_dockerfile_on_standard_input(mydocker: Mydocker, busybox: str, context: Write) -> None:
    mydocker("build", "-t", "t", "-", stdin=f"FROM {busybox}\nRUN echo lone > /f\n".encode())
    assert out(mydocker, "t", "cat /f") == "lone\n"
    mydocker("build", "-t", "t", "-f", "-", context("FROM nothing\n", f="beside"), stdin=f"FROM {busybox}\nCOPY f /f\n".encode())
    assert out(mydocker, "t", "cat /f") == "beside"


@pytest.mark.needs("git")
def test_context_of_a_git_repository(mydocker: Mydocker, busybox: str, context: Write) -> None:
    place = context("FROM nothing\n", sub__Dockerfile=f"FROM {busybox}\nCOPY f /f\n", sub__f="committed")
    git = ["git", "-C", place, "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q", "-b", "trunk"], ["add", "."], ["commit", "-qm", "x"], ["tag", "v1"]):
        subprocess.run([*git, *words], check=True)
    mydocker("build", "-t", "g", f"file://{place}#v1:sub")
    assert out(mydocker, "g", "cat /f") == "committed"
    mydocker("build", f"file://{place}#nobranch", code=125)


def packed_file(name: str) -> bytes:
    """Return a compressed tar of one empty file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


@pytest.fixture
def web() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "file:///etc/shadow")
                self.end_headers()
                return
            body = {"/d/file.txt": b"web", "/d/a.tgz": packed_file("below/file")}.get(self.path, b"")
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_add_of_a_url(mydocker: Mydocker, busybox: str, context: Write, web: str) -> None:
    good = f"sha256:{hashlib.sha256(b'web').hexdigest()}"
    mydocker("build", "-t", "u", context(
        f"FROM {busybox}\nADD {web}/d/file.txt /x/\nADD --checksum={good} --chmod=644 {web}/d/file.txt /named\n"))
    assert out(mydocker, "u", "cat /x/file.txt /named; stat -c %a /x/file.txt /named") == "webweb600\n644\n"
    wrong = mydocker("build", "-q", context(f"FROM {busybox}\nADD --checksum=sha256:{'0' * 64} {web}/d/file.txt /x\n"), code=125)
    assert "digest mismatch" in wrong.err
    assert "404" in mydocker("build", "-q", context(f"FROM {busybox}\nADD {web}/no /x\n"), code=125).err
    mydocker("build", "-q", context(f"FROM {busybox}\nADD {web}/moved /x\n"), code=125)


def test_archive_of_a_url_is_unpacked_when_told_to(mydocker: Mydocker, busybox: str, context: Write, web: str) -> None:
    mydocker("build", "-t", "u", context(
        f"FROM {busybox}\nADD {web}/d/a.tgz /as/\nADD --unpack=true {web}/d/a.tgz /in/\nADD --unpack {web}/d/file.txt /in/\n"))
    assert out(mydocker, "u", "find /as /in -type f | sort") == "/as/a.tgz\n/in/below/file\n/in/file.txt\n"


def test_source_that_dockerignore_leaves_out_is_told_so(mydocker: Mydocker, busybox: str, context: Write) -> None:
    place = context(f"FROM {busybox}\nCOPY d/f /f\n", d__f="f", _dot_dockerignore="d\n")
    assert mydocker("build", "-q", place, code=125).one_error_line().endswith("it is there, but .dockerignore leaves it out")
    context(f"FROM {busybox}\nCOPY d/g /f\n")
    assert "leaves it out" not in mydocker("build", "-q", place, code=125).one_error_line()


def test_copy_options(mydocker: Mydocker, busybox: str, context: Write) -> None:
    mydocker("build", "-t", "o", context(
        f"FROM {busybox}\nCOPY --link --chown=1:2 --chmod=u=rwX,go= d /d\nCOPY --exclude=*.md --exclude=sub d /e\nCOPY --parents d/sub/f d/a.md /p/\n",
        **{"d__a.md": ""}, d__b="", d__sub__f=""))
    assert out(mydocker, "o", "stat -c '%n %u:%g %a' /d/b /d/sub; find /e /p -type f | sort") == (
        "/d/b 1:2 600\n/d/sub 1:2 700\n/e/b\n/p/d/a.md\n/p/d/sub/f\n")


@pytest.mark.counts_links
def test_linked_copy_sees_nothing_below_and_stays_cached_on_another_base(
    mydocker: Mydocker, busybox: str, context: Write
) -> None:
    mydocker("build", "-t", "below:1", context(f"FROM {busybox}\nRUN mkdir /real && ln -s /real /way\n"))
    dockerfile = "FROM below:1\nCOPY --link f /way/f\nCOPY --link f /new\nRUN cat /new\n"
    place = context(dockerfile, f="content\n")
    mydocker("build", "-t", "linked:1", place)
    # The link is covered by a directory: without --link the file would be in /real.
    assert out(mydocker, "linked:1", "ls -F / | grep -E 'way|real'; ls /real; cat /way/f /new") == "real/\nway/\ncontent\ncontent\n"
    mydocker("build", "-t", "below:1", context(f"FROM {busybox}\nRUN mkdir /real && echo 2 > /real/two\n"))
    context(dockerfile, f="content\n")
    again = mydocker("build", "-t", "linked:2", place)
    assert again.err.count("CACHED") == 2, again.err
    layers = [config(mydocker, f"linked:{number}")["rootfs"]["diff_ids"] for number in (1, 2)]
    assert layers[0][-2:] == layers[1][-2:]
    assert out(mydocker, "linked:2", "cat /real/two /way/f /new") == "2\ncontent\ncontent\n"
    assert mydocker("build", "-q", "-t", "linked:2", place).out == again.out
    assert mydocker("image", "verify").code == 0


def test_output_as_files(mydocker: Mydocker, context: Write, scratch: str) -> None:
    place = context("FROM scratch\nCOPY f d /r/\n", f="1", d__g="2")
    mydocker("build", "-o", f"{scratch}/out", place)
    assert Path(scratch, "out/r/g").read_text() == "2"
    done = mydocker("build", "-q", "-o", "-", place)
    with tarfile.open(fileobj=io.BytesIO(done.raw_out)) as archive:
        assert "r/f" in archive.getnames()
    assert mydocker("images", "-q").out.count("\n") == 1


def test_output_without_a_place_is_the_archive_alone_and_docker_s_is_the_store(mydocker: Mydocker, context: Write, scratch: str) -> None:
    place = context("FROM scratch\nCOPY f /f\n", f="1")
    done = mydocker("build", "-t", "a:1", "-o", "type=oci", place)
    assert len(done.raw_out) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(done.raw_out)) as archive:
        assert "index.json" in archive.getnames()
    done = mydocker("build", "-o", "type=docker,name=b:1", place)
    assert done.out.startswith("sha256:") and mydocker("images", "-q", "b:1", "--no-trunc").out == done.out
    with mydocker.terminal("build", "-o", "-", place) as terminal:
        terminal.expect("standard output is a terminal")
    mydocker("build", "-o", f"type=oci,dest={scratch}/layout,tar=false,name=c:1", place)
    assert sorted(os.listdir(f"{scratch}/layout")) == ["blobs", "index.json", "oci-layout"]
    assert "library/c:1" in Path(scratch, "layout", "index.json").read_text()
    two = mydocker("build", "-o", f"{scratch}/one", "-o", f"type=tar,dest={scratch}/two", place, code=125).one_error_line()
    assert "--output can be given once" in two


def test_squash_leaves_one_layer_on_the_base(mydocker: Mydocker, busybox: str, context: Write) -> None:
    mydocker("build", "--squash", "-t", "s", context(
        f"FROM {busybox}\nRUN mkdir /d && touch /d/a /d/b\nRUN rm /d/a /etc/group && rm -r /var && mkdir /var && touch /var/new\n"))
    assert len(config(mydocker, "s")["rootfs"]["diff_ids"]) == 2
    assert out(mydocker, "s", "ls /d /var; ls /etc/group 2>&1 | grep -c No") == "/d:\nb\n\n/var:\nnew\n1\n"


def test_iidfile_and_quiet(mydocker: Mydocker, busybox: str, context: Write, scratch: str) -> None:
    done = mydocker("build", "-q", "--iidfile", f"{scratch}/iid", context(f"FROM {busybox}\nRUN echo noise\n"))
    assert done.err == ""
    assert Path(scratch, "iid").read_text() == done.out.strip()
    mydocker("run", "--rm", done.out.strip(), "true")


def test_builds_beside_each_other_do_not_meet(mydocker: Mydocker, busybox: str, context: Write) -> None:
    place = context(f"FROM {busybox}\nRUN echo 1 > /f\nRUN echo 2 > /g\nCOPY f /h\n", f="")
    argv = [*mydocker.argv, "build", "-q", place]
    running = [subprocess.Popen(argv, env=mydocker.environ(), stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [process.wait() for process in running] == [0] * 4


def test_nothing_is_left_of_a_build(mydocker: Mydocker, busybox: str, context: Write) -> None:
    mydocker("build", context(f"FROM {busybox}\nRUN true\nRUN touch /x\nCOPY f /f\nWORKDIR /w\n", f=""))
    assert mydocker("ps", "-aq").out == ""
    assert [name for name in os.listdir(f"{mydocker.root}/layer") if name.startswith(".")] == []
    assert os.listdir(f"{mydocker.root}/trash") == []
