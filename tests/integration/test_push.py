"""`push`, `tag`, `login`: to a real docker-registry, plain, with TLS and with passwords, and back by docker and skopeo."""
from __future__ import annotations

import base64
import gzip
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from harness import Mydocker
from image_rig import digest, docker_archive, image_config, member, tar
from registry_rig import PASSWORD, PROGRAM, USER, Authority, Registry, random_bytes

from mydocker import Engine
from mydocker.base.errors import Denied
from mydocker.registry import transfer

pytestmark = [
    pytest.mark.needs("root", "overlay"),
    pytest.mark.skipif(not os.path.exists(PROGRAM), reason="docker-registry is not there: make test brings it"),
]


@pytest.fixture(scope="module")
def directory() -> Iterator[str]:
    path = tempfile.mkdtemp(prefix="mydocker-registry-")
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def registry(directory: str) -> Iterator[Registry]:
    """A registry without TLS and passwords."""
    found = Registry(f"{directory}/plain")
    yield found
    found.close()


@pytest.fixture(scope="module")
def secured(directory: str) -> Iterator[Registry]:
    """A registry with TLS by an authority that nobody knows yet, and with a password."""
    found = Registry(f"{directory}/secured", tls=Authority(directory), password=True)
    yield found
    found.close()


@pytest.fixture
def home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A directory for config.json, for the command and for this process."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return str(tmp_path)


OCI_MANIFEST = {"Accept": "application/vnd.oci.image.manifest.v1+json"}


def test_layers_of_our_own_go_up_packed_and_the_image_stays_the_same(mydocker: Mydocker, busybox: str, registry: Registry) -> None:
    name = f"{registry.host}/team/app:1"
    mydocker("tag", busybox, name)
    done = mydocker("push", name)
    status, headers, data = registry.ask("GET", "/v2/team/app/manifests/1", headers=OCI_MANIFEST)
    assert status == 200
    assert f"1: digest: {digest(data)} size: {len(data)}\n" in done.out and headers["Docker-Content-Digest"] == digest(data)
    assert done.out.startswith(f"The push refers to repository [{registry.host}/team/app]\n") and "Pushed" in done.out
    ours, theirs = json.loads(mydocker("image", "inspect", name).out)[0], json.loads(data)
    assert theirs["config"]["digest"] == ours["Id"]
    (layer,) = theirs["layers"]
    assert layer["mediaType"].endswith("layer.v1.tar+gzip") and layer["size"] < ours["manifest"]["layers"][0]["size"] * 0.8
    _, _, blob = registry.ask("GET", f"/v2/team/app/blobs/{layer['digest']}")
    assert digest(blob) == layer["digest"] and digest(gzip.decompress(blob)) == ours["RootFS"]["Layers"][0]

    assert f"{registry.host}/team/app@{digest(data)}" in ours["RepoDigests"]
    assert digest(data) in mydocker("images", "--digests", name).out
    assert "up to date" in mydocker("pull", name).out
    assert mydocker("run", "--rm", f"{registry.host}/team/app@{digest(data)}", "echo", "by digest").out == "by digest\n"
    assert mydocker("push", "--quiet", name).out == f"{name}\n"
    mydocker("rmi", name)
    assert f"Digest: {digest(data)}" in mydocker("pull", name).out
    assert mydocker("run", "--rm", name, "echo", "back").out == "back\n"


def test_image_with_a_packed_twin_is_one_image_by_its_id(mydocker: Mydocker, busybox: str, registry: Registry) -> None:
    name = f"{registry.host}/twin:1"
    mydocker("tag", busybox, name)
    mydocker("push", name)
    mydocker("rmi", name)
    mydocker("pull", name)
    (identity,) = mydocker("images", "-q").out.split()
    assert mydocker("run", "--rm", identity, "echo", "one").out == "one\n"
    assert "several names" in mydocker("rmi", identity, code=125).one_error_line()
    assert mydocker("rmi", busybox).out == f"Untagged: {busybox}:latest\n"  # the other manifest is the same image
    mydocker("tag", name, busybox)
    assert "Deleted: " in mydocker("rmi", "-f", identity).out
    assert mydocker("images", "-q").out == ""


def test_packed_layer_is_the_same_each_time_and_others_manifests_are_left_alone(mydocker: Mydocker, registry: Registry) -> None:
    layer = tar(member("data", b"data " * 100_000))
    config = image_config(layer)
    mydocker("load", stdin=docker_archive(layer, tags=("mine:1",), config=config))
    for name in ("same/a", "same/b"):
        mydocker("tag", "mine:1", f"{registry.host}/{name}")
        mydocker("push", f"{registry.host}/{name}")
        mydocker("image", "prune", "-af")
        mydocker("load", stdin=docker_archive(layer, tags=("mine:1",), config=config))  # new blobs, without our note
    found = [registry.ask("GET", f"/v2/{name}/manifests/latest", headers=OCI_MANIFEST)[2] for name in ("same/a", "same/b")]
    assert found[0] == found[1] and b"+gzip" in found[0]

    theirs = registry.put_image("plain", "1", layer, compress=lambda data: data)  # by somebody who packs nothing
    mydocker("pull", f"{registry.host}/plain:1")
    mydocker("tag", f"{registry.host}/plain:1", f"{registry.host}/copy:1")
    assert f"digest: {theirs} " in mydocker("push", f"{registry.host}/copy:1").out


@pytest.mark.needs("docker_daemon")
def test_docker_runs_what_was_pushed_here_and_the_other_way_round(mydocker: Mydocker, busybox: str, registry: Registry) -> None:
    ours, theirs = f"{registry.host}/ours:1", f"{registry.host}/theirs:1"
    mydocker("run", "--name", "changed", busybox, "sh", "-c", "echo from-here >/greeting; ln -s a b; mkdir -m 1777 t; rm /etc/group")
    mydocker("commit", "changed", ours)
    mydocker("push", ours)

    def docker(*words: str) -> str:
        return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout

    try:
        docker("pull", ours)
        look = ("sh", "-c", "cat /greeting; readlink /b; stat -c %a /t; ls /etc/group 2>/dev/null; true")
        shown = docker("run", "--rm", "--network", "none", ours, *look)
        assert shown == "from-here\na\n1777\n" == mydocker("run", "--rm", ours, *look).out
        docker("tag", ours, theirs)
        docker("push", theirs)
    finally:
        subprocess.run(["docker", "rmi", ours, theirs], check=False, capture_output=True)
    mydocker("pull", theirs)
    assert mydocker("run", "--rm", theirs, *look).out == shown


@pytest.mark.needs("skopeo")
def test_skopeo_copies_what_was_pushed_here_bit_for_bit(mydocker: Mydocker, busybox: str, registry: Registry) -> None:
    name = f"{registry.host}/copied:1"
    mydocker("tag", busybox, name)
    pushed = mydocker("push", name).out
    done = subprocess.run(
        ["skopeo", "copy", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false", f"docker://{name}",
         f"docker://{registry.host}/copied:2"], check=True, capture_output=True, text=True)
    assert done.returncode == 0
    copied = mydocker("pull", f"{registry.host}/copied:2").out
    found = copied.partition("Digest: ")[2].split()[0]
    assert f"digest: {found} " in pushed and "Downloaded" in copied


def test_what_the_registry_has_is_not_sent_again(mydocker: Mydocker, busybox: str, registry: Registry) -> None:
    def sent(since: int) -> list[str]:
        return [line for line in registry.requests()[since:] if line.startswith(("PUT", "PATCH")) and "/blobs/" in line]

    one, other = f"{registry.host}/one:1", f"{registry.host}/other:1"
    mydocker("run", "--name", "made", busybox, "sh", "-c", "date +%s%N >/unique")
    mydocker("commit", "made", one)
    mydocker("push", one)
    before = len(registry.requests())
    assert "Layer already exists" in mydocker("push", one).out and sent(before) == []
    mydocker("tag", one, other)
    before = len(registry.requests())
    mydocker("push", other)
    mounted = [line for line in registry.requests()[before:] if "mount=" in line and line.endswith(" 201")]
    assert len(mounted) == 2 and len(sent(before)) == 1, registry.requests()[before:]  # the config alone goes up


def test_several_images_become_a_manifest_list(mydocker: Mydocker, registry: Registry) -> None:
    for architecture in ("amd64", "arm64", "s390x"):
        layer = tar(member("which", architecture.encode()))
        config = image_config(layer, architecture=architecture)
        mydocker("load", stdin=docker_archive(layer, tags=(f"{architecture}:1",), config=config))
    name = f"{registry.host}/list:1"
    mydocker("tag", "amd64:1", name)
    pushed = mydocker("push", "--with", "arm64:1", "--with=s390x:1", name).out.partition("digest: ")[2].split()[0]
    for architecture in ("arm64", "s390x", "amd64"):
        assert f"Digest: {pushed}" in mydocker("pull", "--platform", architecture, name).out
        assert json.loads(mydocker("inspect", "--type=image", name).out)[0]["Architecture"] == architecture


def test_two_images_of_one_platform_are_refused_before_anything_goes_up(mydocker: Mydocker, registry: Registry) -> None:
    for name in ("first", "second"):
        mydocker("load", stdin=docker_archive(tar(member(name)), tags=(f"{name}:1",)))
    mydocker("tag", "first:1", f"{registry.host}/twice:1")
    before = len(registry.requests())
    assert "two images for linux/" in mydocker("push", "--with", "second:1", f"{registry.host}/twice:1", code=125).one_error_line()
    assert len(registry.requests()) == before


def test_large_blob_goes_up_in_pieces(engine: Engine, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PIECE_BYTES", 100_000)
    data = random_bytes(1_000_000)
    layer = tar(member("big", data))
    import io

    engine.images.import_tar(io.BytesIO(layer), f"{registry.host}/pieces:1")
    pushed = engine.images.push(f"{registry.host}/pieces:1")
    asked = [line for line in registry.requests() if line.startswith("PATCH") and "/pieces/" in line]
    assert len(asked) == (len(data) + 99_999) // 100_000 + 1 and all(line.endswith(" 202") for line in asked)  # a bit more than data
    engine.images.remove(f"{registry.host}/pieces:1")
    assert engine.images.pull(f"{registry.host}/pieces:1").digest == pushed.digest


def test_image_on_the_host_is_not_pushed(mydocker: Mydocker, registry: Registry) -> None:
    mydocker("run", "--name", "onhost", "host", "true")
    mydocker("commit", "onhost", f"{registry.host}/onhost:1")
    assert "its lowest layer is this machine" in mydocker("push", f"{registry.host}/onhost:1", code=125).one_error_line()


def test_all_tags_are_pushed(mydocker: Mydocker, busybox: str, registry: Registry) -> None:
    for tag in ("x", "y"):
        mydocker("tag", busybox, f"{registry.host}/all:{tag}")
    mydocker("push", "-a", f"{registry.host}/all")
    _, _, data = registry.ask("GET", "/v2/all/tags/list")
    assert sorted(json.loads(data)["tags"]) == ["x", "y"]


def test_registry_with_tls_and_password_takes_who_logged_in(
    mydocker: Mydocker, busybox: str, secured: Registry, home: str
) -> None:
    name = f"{secured.host}/private/app:1"
    mydocker("tag", busybox, name)
    assert "certificate is not to be trusted" in mydocker("push", name, code=125).one_error_line()
    assert secured.tls is not None
    with secured.tls.trusted_for(secured.host):
        assert "mydocker login" in mydocker("push", name, code=125).one_error_line()
        refused = mydocker("login", "-u", USER, "--password-stdin", secured.host, stdin=b"wrong", code=125).one_error_line()
        assert "denies access" in refused and "wrong" not in refused
        assert not os.path.exists(f"{home}/config.json")
        done = mydocker("login", "-u", USER, "--password-stdin", secured.host, stdin=f"{PASSWORD}\n".encode())
        assert done.out == "Login Succeeded\n" and "unencrypted" in done.err
        assert os.stat(f"{home}/config.json").st_mode & 0o777 == 0o600
        with open(f"{home}/config.json") as file:
            auths = json.load(file)["auths"]
        assert auths == {secured.host: {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}}
        debugged = mydocker("--debug", "push", name)
        assert PASSWORD not in debugged.err and auths[secured.host]["auth"] not in debugged.err and "registry request" in debugged.err
        mydocker("rmi", name)
        mydocker("pull", name)
        assert mydocker("logout", secured.host).out == f"Removing login credentials for {secured.host}\n"
        assert mydocker("logout", secured.host).out == f"Not logged in to {secured.host}\n"
        assert "denies access" in mydocker("pull", name, code=125).one_error_line()
    with secured.tls.trusted_for(secured.host, "/etc/containers/certs.d"):
        assert "denies access" in mydocker("pull", name, code=125).one_error_line()
    assert "denies access" in mydocker("pull", "--insecure-registry", secured.host, name, code=125).one_error_line()


def test_login_at_a_terminal_asks_once_and_uses_what_is_kept_afterwards(mydocker: Mydocker, secured: Registry, home: str) -> None:
    assert secured.tls is not None
    with secured.tls.trusted_for(secured.host):
        with mydocker.terminal("login", secured.host) as terminal:
            terminal.expect("Username: ")
            terminal.type(f"{USER}\n")
            terminal.expect("Password: ")
            terminal.type("\x04")
            terminal.expect("the password is empty")
        with mydocker.terminal("login", secured.host) as terminal:
            terminal.expect("Username: ")
            terminal.type(f"{USER}\n")
            terminal.expect("Password: ")
            terminal.type(f"{PASSWORD}\n")
            terminal.expect("Login Succeeded")
            assert PASSWORD not in terminal.text
        assert mydocker("login", secured.host).out == "Authenticating with existing credentials...\nLogin Succeeded\n"
        with open(f"{home}/config.json", "w") as file:
            json.dump({"auths": {secured.host: {"auth": base64.b64encode(b"user:old").decode()}}}, file)
        assert "username needed" in mydocker("login", secured.host, code=125).one_error_line()


HELPER = """#!/bin/sh
# docker-credential-test: keeps one secret in a file.
case $1 in
    store) cat >"$STORE" ;;
    get) read -r server; [ -e "$STORE" ] || { echo "credentials not found in native keychain"; exit 1; }; cat "$STORE" ;;
    erase) rm -f "$STORE" ;;
esac
"""


def test_credential_helper_keeps_the_secret(mydocker: Mydocker, busybox: str, secured: Registry, home: str) -> None:
    with open(f"{home}/docker-credential-test", "w") as file:
        file.write(HELPER)
    os.chmod(f"{home}/docker-credential-test", 0o755)
    with open(f"{home}/config.json", "w") as file:
        json.dump({"credHelpers": {secured.host: "test"}, "HttpHeaders": {"kept": "as it is"}}, file)
    env = {"PATH": f"{home}:{os.environ['PATH']}", "STORE": f"{home}/secret"}
    insecure = ("--insecure-registry", secured.host)
    mydocker("tag", busybox, f"{secured.host}/helped:1")
    mydocker("login", "-u", USER, "--password-stdin", *insecure, secured.host, stdin=PASSWORD.encode(), env=env)
    with open(f"{home}/config.json") as file:
        text = file.read()
    assert PASSWORD not in text and "auth\"" not in text and "as it is" in text
    with open(f"{home}/secret") as file:
        assert json.load(file) == {"ServerURL": secured.host, "Username": USER, "Secret": PASSWORD}
    mydocker("push", *insecure, f"{secured.host}/helped:1", env=env)
    mydocker("logout", secured.host, env=env)
    assert not os.path.exists(f"{home}/secret")
    assert "denies access" in mydocker("push", *insecure, f"{secured.host}/helped:1", env=env, code=125).err
    with open(f"{home}/config.json", "w") as file:
        json.dump({"credsStore": "../../bin/sh"}, file)
    assert "not the name of a credential helper" in mydocker(
        "push", *insecure, f"{secured.host}/helped:1", env=env, code=125).one_error_line()


@pytest.mark.parametrize(("says", "told"), [
    ("pass not initialized\\033[2J", "run docker-credential-lame get: it failed (1): pass not initialized [2J; see "),
    ('{"Username": "u", "Secret": "s3cret"', "run docker-credential-lame get: it failed (1); see "),
])
def test_helper_that_fails_is_told_with_what_it_says(mydocker: Mydocker, secured: Registry, home: str, says: str, told: str) -> None:
    with open(f"{home}/docker-credential-lame", "w") as file:
        file.write(f"#!/bin/sh\nprintf '{says}\\n'\nexit 1\n")
    os.chmod(f"{home}/docker-credential-lame", 0o755)
    with open(f"{home}/config.json", "w") as file:
        json.dump({"credsStore": "lame"}, file)
    env = {"PATH": f"{home}:{os.environ['PATH']}"}
    line = mydocker("pull", "--insecure-registry", secured.host, f"{secured.host}/x:1", env=env, code=125).one_error_line()
    assert told in line and "s3cret" not in line


@pytest.mark.needs("docker_daemon")
def test_password_that_docker_keeps_is_good_here(mydocker: Mydocker, secured: Registry, home: str) -> None:
    subprocess.run(
        ["docker", "login", "-u", USER, "--password-stdin", secured.host], input=PASSWORD.encode(), check=True, capture_output=True)
    assert "has no such thing" in mydocker(
        "pull", "--insecure-registry", secured.host, f"{secured.host}/nothing:1", code=125).one_error_line()


def test_login_from_python_is_refused_with_a_wrong_password(engine: Engine, secured: Registry, home: str) -> None:
    with pytest.raises(Denied):
        engine.login(secured.host, USER, "wrong", insecure=[secured.host])
    assert engine.login(secured.host, USER, PASSWORD, insecure=[secured.host]) == f"{home}/config.json"
    assert engine.logout(secured.host)


@pytest.mark.parametrize(("words", "told"), [
    (["login", "-p", "x", "--password-stdin", "a.example"], "exclude each other"),
    (["login", "--password-stdin", "a.example"], "needs --username"),
    (["login", "a.example"], "username needed"), (["login", "-u", "me", "a.example"], "password needed"),
    (["tag", "busybox", "UPPER"], "lower case"), (["tag", "nosuch", "a"], "no image nosuch"),
    (["tag", "host", "a"], "built in"), (["push", "nosuch"], "no image nosuch"), (["push", "-a", "nosuch:1"], "a tag cannot be given"),
])
def test_mistakes_are_told(mydocker: Mydocker, words: list[str], told: str) -> None:
    assert told in mydocker(*words, code=125).one_error_line()


def test_id_is_no_name_to_push_to(mydocker: Mydocker, busybox: str) -> None:
    identity = mydocker("images", "-q", busybox).out.strip()
    for word in (identity, mydocker("images", "-q", "--no-trunc", busybox).out.strip()):
        told = mydocker("push", "-q", word, code=125).one_error_line()
        assert "no image has this name" in told and "mydocker tag" in told
