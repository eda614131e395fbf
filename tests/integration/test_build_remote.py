"""Builds with the world: bases from a registry and results to it, git repositories on web servers as contexts and for ADD."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from harness import Mydocker
from registry_rig import PROGRAM, Answer, Answering, Asked, Registry, new_image, serve_image

from mydocker.oci import media_types

pytestmark = pytest.mark.needs("root", "overlay")

needs_registry = pytest.mark.skipif(not os.path.exists(PROGRAM), reason="docker-registry is not there: make test brings it")


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    directory = tempfile.mkdtemp(prefix="mydocker-registry-")
    found = Registry(directory)
    yield found
    found.close()
    shutil.rmtree(directory)


def build(mydocker: Mydocker, dockerfile: str, *words: str, code: int = 0) -> str:
    done = mydocker("build", *words, "-", stdin=dockerfile.encode(), code=code)
    return done.out if code == 0 else done.err


def publish(mydocker: Mydocker, busybox: str, name: str, text: str) -> None:
    """Give a name at a registry to an image whose /version is the text, and forget it here."""
    build(mydocker, f"FROM {busybox}\nRUN echo {text} > /version\nENV version={text}\n", "-t", name, "--push")
    mydocker("rmi", name)


@needs_registry
def test_base_is_pulled_where_it_is_missing_and_asked_for_again_with_pull(
    mydocker: Mydocker, busybox: str, registry: Registry
) -> None:
    base = f"{registry.host}/base:1"
    dockerfile = f"FROM {base}\nRUN cat /version > /seen\n"

    def seen() -> str:
        return mydocker("run", "--rm", "built", "cat", "/seen").out

    publish(mydocker, busybox, base, "one")
    build(mydocker, dockerfile, "-t", "built")
    assert seen() == "one\n"
    build(mydocker, f"FROM {busybox}\nRUN echo two > /version\n", "-t", "other")
    mydocker("tag", "other", f"{registry.host}/other:1")
    mydocker("push", f"{registry.host}/other:1")
    subprocess.run(  # somebody else gives the tag another meaning
        ["skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", f"docker://{registry.host}/other:1",
         f"docker://{base}"], check=True, capture_output=True)
    build(mydocker, dockerfile, "-t", "built")
    assert seen() == "one\n"  # what is here is good enough
    build(mydocker, dockerfile, "-t", "built", "--pull")
    assert seen() == "two\n"
    before = len(registry.requests())
    assert "CACHED" in mydocker("build", "--pull", "-", stdin=dockerfile.encode()).err
    assert {line.split()[0] for line in registry.requests()[before:]} <= {"GET", "HEAD"}
    assert not any("/blobs/" in line for line in registry.requests()[before:])


@needs_registry
def test_pull_of_a_base_and_push_of_the_result_are_steps_with_a_line_for_each_layer(
    mydocker: Mydocker, busybox: str, registry: Registry
) -> None:
    base, result = f"{registry.host}/shown:1", f"{registry.host}/shown:2"
    publish(mydocker, busybox, base, "one")
    mydocker("builder", "prune")
    mydocker("rmi", busybox)  # of its layers nothing is left
    dockerfile = f"FROM {base}\nRUN cat /version\n".encode()
    told = mydocker("build", "-", stdin=dockerfile).err
    assert f"#1 [pull] {base}\n" in told and told.count(": Pull complete\n") == 2 and "#1 DONE" in told
    assert "[pull]" not in mydocker("build", "--pull", "-", stdin=dockerfile).err  # it is up to date
    pushed = mydocker("build", "-t", result, "--push", "-", stdin=dockerfile).err
    assert f"[push] {result}\n" in pushed and ": Layer already exists\n" in pushed and ": Pushed\n" in pushed and " digest: sha256:" in pushed
    mydocker("rmi", "-f", base, result)
    mydocker("builder", "prune")
    mydocker("image", "prune")
    drawn = mydocker("build", "--progress=tty", "-", stdin=dockerfile).err
    assert f" => [pull] {base}" in drawn and drawn.count(": Pull complete  ") >= 2
    assert mydocker("build", "-q", "--no-cache", "-", stdin=dockerfile).err == ""


@pytest.mark.parametrize("of", ["", "--platform=linux/amd64 "], ids=["any platform", "one platform"])
def test_stages_go_on_while_another_one_pulls(mydocker: Mydocker, busybox: str, busybox_tar: str, of: str) -> None:
    manifest, blobs = new_image(Path(busybox_tar).read_bytes())
    is_built = threading.Event()

    def change(asked: Asked) -> Answer | None:
        if asked.path.endswith("/blobs/" + manifest["layers"][0]["digest"]):
            assert is_built.wait(20)
        return None

    def look(asked: Asked) -> Answer:
        is_built.set()
        return 200, {}, b"seen"

    with Answering(serve_image(manifest, blobs, change)) as slow, Answering(look) as watch:
        build(mydocker, f"FROM {slow.host}/slow:1 AS slow\nFROM {of}{busybox} AS quick\nADD http://{watch.host}/x /x\n"
              f"FROM {busybox}\nCOPY --from=slow /bin/sh /sh\nCOPY --from=quick /x /x\n")


def test_layer_that_two_bases_have_in_common_comes_once(mydocker: Mydocker, busybox_tar: str) -> None:
    layer = Path(busybox_tar).read_bytes()
    images = {name: new_image(layer, created=f"2024-01-0{number}T00:00:00Z") for number, name in enumerate("ab", 1)}
    common = images["a"][0]["layers"][0]["digest"]
    asked: list[str] = []
    is_asked_again = threading.Event()

    def change(one: Asked) -> Answer | None:
        if one.path.endswith(common):
            asked.append(one.path)
            if len(asked) > 1:
                is_asked_again.set()
            is_asked_again.wait(1)  # the other stage has that long to ask for it, too
        return None

    answers = {name: serve_image(*image, change) for name, image in images.items()}
    with Answering(lambda one: answers.get(one.path.split("/")[2], answers["a"])(one)) as server:
        build(mydocker, f"FROM {server.host}/a:1 AS a\nFROM {server.host}/b:1 AS b\n"
              "FROM scratch\nCOPY --from=a /bin/sh /a\nCOPY --from=b /bin/sh /b\n")
    assert len(asked) == 1, asked


@needs_registry
def test_image_on_one_of_docker_has_oci_layers_only(
    mydocker: Mydocker, registry: Registry, busybox_tar: str
) -> None:
    manifest, blobs = new_image(Path(busybox_tar).read_bytes())
    manifest["mediaType"], manifest["config"]["mediaType"] = media_types.DOCKER_MANIFEST, media_types.DOCKER_CONFIG
    manifest["layers"][0]["mediaType"] = f"{media_types.DOCKER_LAYER}.gzip"
    for data in blobs:
        registry.put_blob("dockers", data)
    registry.put_manifest("dockers", "1", manifest)
    base = f"{registry.host}/dockers:1"
    build(mydocker, f"FROM {base}\nRUN echo built > /how\n", "-t", f"{registry.host}/on/built:1", "--push")
    mydocker("run", "--name", "c", base, "touch", "/committed")
    mydocker("commit", "c", f"{registry.host}/on/committed:1")
    mydocker("push", f"{registry.host}/on/committed:1")
    for name in ("built", "committed"):
        _, _, data = registry.ask("GET", f"/v2/on/{name}/manifests/1", headers={"Accept": media_types.MEDIA_MANIFEST})
        document = json.loads(data)
        assert [layer["mediaType"] for layer in document["layers"]] == [f"{media_types.MEDIA_LAYER}+gzip"] * 2
        assert document["layers"][0]["digest"] == manifest["layers"][0]["digest"]


@needs_registry
def test_copy_from_an_image_that_is_not_here_pulls_it(mydocker: Mydocker, busybox: str, registry: Registry) -> None:
    name = f"{registry.host}/tools:1"
    publish(mydocker, busybox, name, "tool")
    build(mydocker, f"FROM scratch\nCOPY --from={name} /version /v\nCOPY --from={name} /bin /bin\nCMD [\"cat\", \"/v\"]\n", "-t", "t")
    assert mydocker("run", "--rm", "t").out == "tool\n"
    told = build(mydocker, f"FROM {registry.host}/none:1\n", code=125)
    assert "Dockerfile line 1" in told and "no image" in told
    told = build(mydocker, f"FROM --platform=linux/s390x {name}\n", code=125)
    assert "no image for linux/s390x" in told


@needs_registry
@pytest.mark.parametrize("words", [
    ["--push"], ["-o", "type=registry"], ["--output=type=image,push=true"], ["-o", "type=image,push=true,registry.insecure=true"],
])
def test_what_is_built_is_pushed_under_all_its_names(
    mydocker: Mydocker, busybox: str, registry: Registry, words: list[str]
) -> None:
    place = "".join(filter(str.isalpha, words[-1]))
    names = [f"{registry.host}/{place}/{name}:1" for name in ("a", "b")]
    identity = build(mydocker, f"FROM {busybox}\nRUN echo {len(words)} > /f\n", "-t", names[0], "-t", names[1], *words).strip()
    for name in names:
        repository = name.partition("/")[2].rpartition(":")[0]
        status, _, data = registry.ask("GET", f"/v2/{repository}/manifests/1", headers={
            "Accept": "application/vnd.oci.image.manifest.v1+json"})
        assert status == 200 and json.loads(data)["config"]["digest"] == identity


@needs_registry
def test_name_of_the_output_is_one_more_tag(mydocker: Mydocker, busybox: str, registry: Registry) -> None:
    name = f"{registry.host}/named/out:1"
    build(mydocker, f"FROM {busybox}\nENV a=1\n", "-o", f"type=registry,name={name}")
    mydocker("rmi", name)
    assert name in mydocker("pull", name).out


def test_mistakes_about_pushing_are_told_before_anything_is_built(mydocker: Mydocker, busybox: str) -> None:
    for words, told in (
        (["--push"], "needs a name"), (["--push", "-o", "out"], "--push and --output"),
        (["-t", "x", "-o", "type=image,push=maybe"], "neither true nor false"),
    ):
        assert told in build(mydocker, f"FROM {busybox}\nRUN touch /never\n", *words, code=125)


# --- git ------------------------------------------------------------------------------------------------------


class Repositories:
    """Bare repositories below `directory`, on a web server that knows nothing of git."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.head: dict[str, str] = {}

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=directory))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def add(self, name: str, files: dict[str, str], submodules: dict[str, str]) -> None:
        """Make a repository of two commits, the first one tagged `v1`, on a branch `trunk`."""
        work = f"{self.directory}/.work-{name}"

        def git(*words: str, at: str = work) -> str:
            command = ["git", "-C", at, "-c", "user.name=a", "-c", "user.email=a@b", *words]
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

        os.mkdir(work)
        git("init", "-q", "-b", "trunk")
        for path, text in files.items():
            target = Path(work, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        for path, url in submodules.items():
            git("submodule", "--quiet", "add", url, path)
        git("add", "-A")
        git("commit", "-qm", "first")
        git("tag", "v1")
        first = git("rev-parse", "HEAD")
        Path(work, "file").write_text("second\n")
        git("add", "-A")
        git("commit", "-qm", "second")
        self.head[name] = git("rev-parse", "HEAD")
        self.head[f"{name}-first"] = first
        git("clone", "-q", "--bare", work, f"{self.directory}/{name}.git", at=self.directory)
        git("update-server-info", at=f"{self.directory}/{name}.git")

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def web() -> Iterator[Repositories]:
    directory = tempfile.mkdtemp(prefix="mydocker-git-")
    found = Repositories(directory)
    found.add("library", {"file": "first\n", "lib/l.txt": "library\n"}, {})
    found.add(
        "app", {"file": "first\n", "sub/Dockerfile": "FROM busybox\nCOPY . /context/\n", "sub/x": "x\n", "run.sh": "#!/bin/sh\n"},
        {"third/library": f"{found.url}/library.git"})
    yield found
    found.close()
    shutil.rmtree(directory)


def out(mydocker: Mydocker, image: str, *command: str) -> str:
    return mydocker("run", "--rm", "--network", "none", image, *command).out


@pytest.mark.needs("git")
def test_context_of_a_repository_on_a_mere_web_server(mydocker: Mydocker, busybox: str, web: Repositories) -> None:
    dockerfile = f"FROM {busybox}\nCOPY . /c/\n"
    for fragment, told in (("", "second\n"), ("#trunk", "second\n"), ("#v1", "first\n"), (f"#{web.head['app-first']}", "first\n")):
        mydocker("build", "-t", "g", "-f", "-", f"{web.url}/app.git{fragment}", stdin=dockerfile.encode())
        assert out(mydocker, "g", "cat", "/c/file") == told
        assert out(mydocker, "g", "cat", "/c/third/library/lib/l.txt") == "library\n"
    mydocker("build", "-t", "g", f"{web.url}/app.git#trunk:sub")
    assert out(mydocker, "g", "ls", "/context") == "Dockerfile\nx\n"
    assert "git fetch" in mydocker("build", f"{web.url}/app.git#nobranch", code=125).one_error_line()
    assert "git fetch" in mydocker("build", f"{web.url}/none.git", code=125).one_error_line()


@pytest.mark.needs("git")
def test_repository_that_cannot_be_reached_is_told_with_its_cause(mydocker: Mydocker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    assert "127.0.0.1 port 1" in mydocker("build", "https://git.invalid/app.git", code=125).one_error_line()  # the proxy's
    told = mydocker("build", "ssh://git@127.0.0.1:1/app.git", code=125).one_error_line()
    assert "fatal: " in told and "and the repository exists" not in told


@pytest.mark.needs("git")
def test_add_takes_a_repository_without_its_history(mydocker: Mydocker, busybox: str, web: Repositories) -> None:
    app = f"{web.url}/app.git"
    build(mydocker, f"FROM {busybox}\nADD {app} /all/\nADD {app}#v1:sub /sub\nADD --keep-git-dir=true --chown=5:6 {app}#v1 /kept\n",
          "-t", "a")
    assert out(mydocker, "a", "ls", "-A", "/all", "/sub") == (
        "/all:\n.gitmodules\nfile\nrun.sh\nsub\nthird\n\n/sub:\nDockerfile\nx\n")
    assert out(mydocker, "a", "cat", "/all/file", "/kept/file", "/all/third/library/lib/l.txt") == "second\nfirst\nlibrary\n"
    assert out(mydocker, "a", "stat", "-c", "%n %u:%g", "/all/file", "/kept/.git", "/kept/file") == (
        "/all/file 0:0\n/kept/.git 5:6\n/kept/file 5:6\n")
    again = mydocker("build", "-", stdin=f"FROM {busybox}\nADD {app} /all/\n".encode())
    assert "CACHED" in again.err  # by content, not by when it was fetched


@pytest.mark.needs("git")
def test_add_holds_a_repository_to_its_commit(mydocker: Mydocker, busybox: str, web: Repositories) -> None:
    app, head = f"{web.url}/app.git", web.head["app"]
    build(mydocker, f"FROM {busybox}\nADD --checksum={head} {app} /a/\n")
    told = build(mydocker, f"FROM {busybox}\nADD --checksum={'0' * 40} {app} /a/\n", code=125)
    assert f"its commit is {head}" in told and "line 2" in told
