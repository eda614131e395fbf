"""The verbs of images on the command line: listing, saving, exporting, verifying, pruning, measuring."""
from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import tarfile
import threading

import pytest
from harness import IMAGES, Mydocker, until
from image_rig import (
    digest,
    docker_archive,
    image_config,
    images,
    leftovers,
    member,
    oci_archive,
    oci_files,
    take,
    tar,
    tree,
)

from mydocker.base.errors import Conflict, InvalidRequest, NotFound, Unsupported
from mydocker.image import index
from mydocker.oci import media_types

pytestmark = [pytest.mark.needs("root", "overlay"), pytest.mark.counts_links]

ONE, TWO = tar(member("one", b"1")), tar(member("two", b"2"))


def archive(path: str) -> dict[str, bytes]:
    with tarfile.open(path) as stream:
        return {info.name: stream.extractfile(info).read() for info in stream}  # type: ignore[union-attr]


# --- listing ----------------------------------------------------------------------------------------------


def test_images_are_filtered_as_docker_filters(scratch: str, mydocker: Mydocker) -> None:
    for number, name in enumerate(("a/x:1", "a/y:1", "z:2")):
        layer = tar(member("f", name.encode()))
        config = image_config(
            layer, created=f"202{number}-01-01T00:00:00Z", config={"Labels": {"number": str(number), "kind": "test"}})
        with open(f"{scratch}/in.tar", "wb") as stream:
            stream.write(docker_archive(layer, tags=(name,), config=config))
        mydocker("load", "-i", f"{scratch}/in.tar")

    def listed(*words: str) -> list[str]:
        return mydocker("images", "--format", "{{.Repository}}:{{.Tag}}", *words).out.split()

    assert listed("-f", "label=kind=test") == ["z:2", "a/y:1", "a/x:1"]
    assert listed("-f", "label=number=1", "-f", "label=kind") == ["a/y:1"]
    assert listed("-f", "before=z:2") == ["a/y:1", "a/x:1"]
    assert listed("-f", "since=a/y:1", "-f", "label=kind") == ["z:2"]
    assert listed("-f", "until=2020-06-01T00:00:00Z") == ["a/x:1"]
    assert listed("-f", "reference=a/*") == listed("a/*") == ["a/y:1", "a/x:1"]
    assert listed("-f", "dangling=true") == []
    with open(f"{scratch}/in.tar", "wb") as stream:
        stream.write(docker_archive(ONE, tags=("z:2",)))
    mydocker("load", "-i", f"{scratch}/in.tar")
    assert listed("-f", "dangling=true") == ["<none>:<none>"]
    assert mydocker("images", "-f", "nonsense=1", code=125).one_error_line()
    assert "sha256:" in mydocker("images", "--digests", "z").out


def test_history_has_a_line_for_each_step_and_the_sizes_of_layers(scratch: str) -> None:
    store = images(scratch)
    steps = [{"created_by": "ADD"}, {"created_by": "ENV", "empty_layer": True}, {"created_by": "RUN", "comment": "c"}]
    take(store, docker_archive(ONE, tar(member("f", b"x" * 1000)), config=image_config(
        ONE, tar(member("f", b"x" * 1000)), history=steps)))
    lines = store.history("rig:1")
    assert [(line.created_by, line.size_bytes, line.comment) for line in lines] == [("RUN", 1000, "c"), ("ENV", 0, ""), ("ADD", 1, "")]
    assert [bool(line.id) for line in lines] == [True, False, False]


def test_times_are_told_in_docker_s_forms_and_the_machine_s_zone(scratch: str, mydocker: Mydocker) -> None:
    with open(f"{scratch}/in.tar", "wb") as stream:
        stream.write(docker_archive(ONE, tags=("z:1",), config=image_config(
            ONE, created="2024-01-02T03:04:05.678Z", history=[{"created": "2024-01-02T03:04:05.678Z", "created_by": "x"}])))
    mydocker("load", "-i", f"{scratch}/in.tar")
    berlin = {"TZ": "CET-1"}
    assert mydocker("images", "--format", "{{.CreatedAt}} {{.VirtualSize}} {{.Containers}}", "z").out == "2024-01-02 03:04:05 +0000 UTC 1B N/A\n"
    assert mydocker("images", "--format", "{{.CreatedAt}}", "z", env=berlin).out == "2024-01-02 04:04:05 +0100 CET\n"
    assert "CREATED AT" in mydocker("history", "-H=false", "z:1").out
    assert mydocker("history", "--format", "{{.CreatedAt}}", "z:1").out == "2024-01-02T03:04:05Z\n"
    assert mydocker("history", "--format", "{{.CreatedAt}}", "z:1", env=berlin).out == "2024-01-02T04:04:05+01:00\n"


def test_inspect_of_an_image_has_docker_s_words(mydocker: Mydocker, busybox: str) -> None:
    found = json.loads(mydocker("image", "inspect", busybox).out)[0]
    assert found["RepoTags"] == ["busybox:latest"] and found["Os"] == "linux" and found["Id"].startswith("sha256:")
    assert found["RepoDigests"] == [f"busybox@{found['manifest_digest']}"] and len(found["RootFS"]["Layers"]) == 1
    assert mydocker("inspect", "-f", "{{.Config.User}}|{{.Architecture}}|{{len .RootFS.Layers}}", busybox).out.endswith("|1\n")


# --- save and load ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir"])
def test_saved_images_come_back_bit_for_bit(scratch: str, form: str) -> None:
    store = images(scratch)
    take(store, oci_archive(oci_files(ONE, TWO, name="a:1")))
    take(store, docker_archive(ONE, tags=("b:1", "c:1")))
    before = {index.name_of(entry): entry["digest"] for entry in index.load(store.layout)}
    store.save(["a:1", "b:1", "c:1"], f"{scratch}/out", format=form)
    blobs = set(os.listdir(f"{store.layout.image}/blobs/sha256"))
    for name in ("a:1", "b:1", "c:1"):
        store.remove(name)
    assert os.listdir(f"{store.layout.image}/blobs/sha256") == []
    loaded = store.load(f"{scratch}/out")
    assert sorted(name for image in loaded for name in image.references) == ["a:1", "b:1", "c:1"]
    assert {index.name_of(entry): entry["digest"] for entry in index.load(store.layout)} == before
    assert set(os.listdir(f"{store.layout.image}/blobs/sha256")) == blobs
    assert leftovers(store) == []
    assert [image.faults for image in store.verify()] == [(), ()]


def test_equal_images_give_equal_archives_on_any_kind_of_output(scratch: str, mydocker: Mydocker, busybox: str) -> None:
    mydocker("save", "-o", f"{scratch}/file", busybox)
    piped = subprocess.run([*mydocker.argv, "--root", mydocker.root, "save", busybox], capture_output=True, check=True).stdout
    with open(f"{scratch}/file", "rb") as stream:
        whole = stream.read()
    assert whole == piped
    stream = io.BytesIO()
    images_of = images(scratch)
    images_of.load(f"{scratch}/file")
    images_of.save([busybox], stream)
    assert stream.getvalue() == whole
    assert [name for name in os.listdir(scratch) if name.startswith(".")] == []


def test_a_name_without_a_tag_saves_all_tags_and_an_id_none(scratch: str) -> None:
    store = images(scratch)
    take(store, docker_archive(ONE, tags=("a:1", "a:2", "b:1")))
    store.save(["a"], f"{scratch}/out")
    assert json.loads(archive(f"{scratch}/out")["manifest.json"])[0]["RepoTags"] == ["a:1", "a:2"]
    store.save([store.inspect("a:1")["id"]], f"{scratch}/out")
    assert json.loads(archive(f"{scratch}/out")["manifest.json"])[0]["RepoTags"] is None


def test_what_cannot_be_saved_is_said_and_leaves_the_file_alone(scratch: str, mydocker: Mydocker, busybox: str) -> None:
    with open(f"{scratch}/out", "w") as stream:
        stream.write("precious")
    for words in (["nosuch"], ["host"], [busybox, "--platform", "linux/s390x"], [busybox, "--format", "zip"]):
        assert mydocker("save", "-o", f"{scratch}/out", *words, code=125).one_error_line()
    with open(f"{scratch}/out") as stream:
        assert stream.read() == "precious"
    assert "no directory" in mydocker("save", "-o", f"{scratch}/no/out", busybox, code=125).one_error_line()
    os.mkdir(f"{scratch}/full")
    os.mkdir(f"{scratch}/full/x")
    assert "there already" in mydocker("save", "--format", "oci-dir", "-o", f"{scratch}/full", busybox, code=125).one_error_line()
    mydocker("save", "-o", "/dev/null", busybox)
    assert tree(scratch) == ["full", "full/x", "out"]


def test_image_on_the_machine_itself_is_not_saved_without_it(scratch: str, mydocker: Mydocker) -> None:
    mydocker("run", "--name", "c", "host", "true")
    mydocker("commit", "c", "mine")
    assert "stands on this machine" in mydocker("save", "-o", f"{scratch}/out", "mine", code=125).one_error_line()


def several_platforms(*, attested: bool = True, nested: bool = True) -> bytes:
    """An OCI archive of one name for amd64 and arm64, as buildx writes it: an index in the index, with an attestation."""
    files, entries = {}, []
    for architecture in ("amd64", "arm64"):
        part = oci_files(tar(member("arch", architecture.encode())), config=image_config(
            tar(member("arch", architecture.encode())), architecture=architecture))
        (entry,) = json.loads(part.pop("index.json"))["manifests"]
        entry.pop("annotations")
        entries.append({**entry, "platform": {"os": "linux", "architecture": architecture}})
        files |= part
    if attested:
        entries.append({
            **entries[0], "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {"vnd.docker.reference.type": "attestation-manifest"}})
    if nested:
        document = json.dumps({"schemaVersion": 2, "mediaType": media_types.MEDIA_INDEX, "manifests": entries}).encode()
        files[f"blobs/sha256/{digest(document)[7:]}"] = document
        entries = [{"mediaType": media_types.MEDIA_INDEX, "digest": digest(document), "size": len(document)}]
    entries = [{**entry, "annotations": {**entry.get("annotations", {}), media_types.REF_NAME: "many:1"}} for entry in entries]
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    return oci_archive(files)


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize(("platform", "architecture"), [("linux/amd64", "amd64"), ("arm64", "arm64"), ("linux/arm64/v8", "arm64")])
def test_platform_is_chosen_among_several(scratch: str, nested: bool, platform: str, architecture: str) -> None:
    store = images(scratch)
    (loaded,) = store.load(io.BytesIO(several_platforms(nested=nested)), platform=platform)
    assert loaded.references == ("many:1",)
    assert store.inspect("many:1")["config"]["architecture"] == architecture


def test_platform_that_is_not_there_is_named_with_those_that_are(scratch: str) -> None:
    store = images(scratch)
    with pytest.raises(NotFound, match=r"s390x") as caught:
        store.load(io.BytesIO(several_platforms()), platform="linux/s390x")
    assert "linux/amd64, linux/arm64" in caught.value.hint and "unknown" not in caught.value.hint
    with pytest.raises(NotFound, match=r"amd64, not for linux/arm64"):
        store.load(io.BytesIO(docker_archive(ONE)), platform="linux/arm64")
    with pytest.raises(InvalidRequest):
        store.load(io.BytesIO(docker_archive(ONE)), platform="a/b/c/d")
    with pytest.raises(Unsupported):
        store.load(io.BytesIO(docker_archive(ONE)), platform="windows/amd64")
    assert leftovers(store) == [] and store.list() == []


def test_schema_1_and_foreign_layers_are_refused_by_name(scratch: str) -> None:
    store = images(scratch)
    files = oci_files(ONE)
    document = json.loads(files["index.json"])
    document["manifests"][0]["mediaType"] = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    with pytest.raises(Unsupported, match="schema 1"):
        take(store, oci_archive({**files, "index.json": json.dumps(document).encode()}))
    for change in ({"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}, {"urls": ["http://127.0.0.1/x"]}):
        files = oci_files(ONE)
        document = json.loads(files["index.json"])
        name = f"blobs/sha256/{document['manifests'][0]['digest'][7:]}"
        manifest = json.loads(files.pop(name))
        manifest["layers"][0] |= change
        data = json.dumps(manifest).encode()
        document["manifests"][0] |= {"digest": digest(data), "size": len(data)}
        files |= {f"blobs/sha256/{digest(data)[7:]}": data, "index.json": json.dumps(document).encode()}
        with pytest.raises(Unsupported, match="foreign"):
            take(store, oci_archive(files))
    assert leftovers(store) == [] and store.list() == []


# --- commit, import, export -------------------------------------------------------------------------------


CHANGES = (
    'CMD ["sh", "-c"]', "ENTRYPOINT exec top", "ENV A=1 B=\"two words\"", "ENV C $A and more", "ENV PATH=$PATH:/x",
    "EXPOSE 80 53/udp 8000-8001", "LABEL k=v 'l m'=n", "ONBUILD RUN x", "USER me:us", 'VOLUME ["/data"]', "VOLUME /more /still",
    "WORKDIR /a", "WORKDIR b/../c", "STOPSIGNAL SIGINT", "HEALTHCHECK --interval=5s --retries=3 CMD test -e /x",
)
CHANGED = {
    "Cmd": ["sh", "-c"], "Entrypoint": ["/bin/sh", "-c", "exec top"],
    "Env": ["PATH=/bin:/x", "A=1", "B=two words", "C=1 and more"],
    "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}}, "Labels": {"k": "v", "l m": "n"},
    "OnBuild": ["RUN x"], "User": "me:us", "Volumes": {"/data": {}, "/more": {}, "/still": {}}, "WorkingDir": "/a/c",
    "StopSignal": "SIGINT", "Healthcheck": {"Test": ["CMD-SHELL", "test -e /x"], "Interval": 5_000_000_000, "Retries": 3},
}


def test_changes_are_those_of_a_dockerfile(scratch: str) -> None:
    store = images(scratch)
    store.import_tar(io.BytesIO(ONE), "rig:1", change=("ENV PATH=/bin", *CHANGES), platform="linux/arm64")
    config = store.inspect("rig:1")["config"]
    assert config["config"] == CHANGED and (config["architecture"], config["variant"]) == ("arm64", "v8")


@pytest.mark.needs("docker_daemon")
def test_changes_give_what_docker_gives(scratch: str, mydocker: Mydocker, busybox: str) -> None:
    name = f"mydocker-test-changes-{os.getpid()}"
    # Docker's list of changes lacks STOPSIGNAL, which its documentation of commit has.
    lines = ["ENV PATH=/bin", *(line for line in CHANGES if not line.startswith("STOPSIGNAL"))]
    changes = [word for line in lines for word in ("--change", line)]
    with open(f"{scratch}/in.tar", "wb") as stream:
        stream.write(ONE)
    subprocess.run(["docker", "import", *changes, f"{scratch}/in.tar", name], check=True, capture_output=True)
    try:
        theirs = json.loads(subprocess.run(["docker", "image", "inspect", name], check=True, capture_output=True).stdout)[0]["Config"]
    finally:
        subprocess.run(["docker", "rmi", name], check=True, capture_output=True)
    mydocker("import", *changes, f"{scratch}/in.tar", "rig")
    ours = json.loads(mydocker("image", "inspect", "rig").out)[0]["Config"]
    assert {key: theirs.get(key) for key in CHANGED} == {key: ours.get(key) for key in CHANGED}
    assert theirs["Healthcheck"] == CHANGED["Healthcheck"]


@pytest.mark.parametrize("line", [
    "RUN x", "FROM y", "ENV", "ENV A", "EXPOSE 70000", "EXPOSE x", "LABEL 'x", "HEALTHCHECK maybe", "ONBUILD FROM x", "ENV A=${B",
])
def test_wrong_change_is_told_before_anything_is_done(mydocker: Mydocker, scratch: str, busybox: str, line: str) -> None:
    mydocker("create", "--name", "c", busybox, "true")
    before = mydocker("images", "--format", IMAGES).out
    assert mydocker("commit", "--change", line, "c", "new", code=125).one_error_line()
    assert mydocker("images", "--format", IMAGES).out == before


def test_commit_keeps_what_was_said_and_freezes_only_if_asked(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "-d", "--name", "c", busybox, "sleep", "1000")
    identity = mydocker("commit", "-a", "me <m@e>", "-m", "why", "--pause=false", "-c", "USER nobody", "c").out.strip()
    found = json.loads(mydocker("image", "inspect", identity).out)[0]
    assert (found["Author"], found["Comment"], found["Config"]["User"], found["RepoTags"]) == ("me <m@e>", "why", "nobody", [])
    assert found["Config"]["Cmd"] == ["sleep", "1000"]


def test_export_is_what_the_container_sees(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    mydocker("run", "-d", "--name", "c", "-v", f"{scratch}:/mnt", busybox, "sh", "-c", (
        "echo hi >/hi; ln /hi /hi2; rm /etc/passwd; rm -r /tmp; mkdir /tmp; echo n >/tmp/new; mkfifo /fifo; "
        "truncate -s 50000000 /sparse; echo x >>/sparse; chmod 4755 /hi; ln -s /hi /link; touch /mnt/seen; touch /done; sleep 1000"))
    container = mydocker.directory_of("c")
    until(lambda: os.path.exists(f"{container}/upper/done"))
    os.setxattr(f"{container}/upper/hi", "user.test", b"value")
    mydocker("export", "-o", f"{scratch}/out.tar", "c")
    assert os.path.getsize(f"{scratch}/out.tar") < 10_000_000
    with tarfile.open(f"{scratch}/out.tar") as stream:
        found = {info.name: info for info in stream}
        assert stream.extractfile("tmp/new").read() == b"n\n"  # type: ignore[union-attr]
        stream.fileobj.seek(0)  # type: ignore[union-attr]
    assert "etc/passwd" not in found and "mnt/seen" not in found and not [name for name in found if ".wh." in name]
    assert found["hi2"].islnk() and found["hi2"].linkname == "hi" and found["fifo"].isfifo()
    assert found["hi"].mode == 0o4755 and found["hi"].pax_headers["SCHILY.xattr.user.test"] == "value"
    assert found["sparse"].size == 50_000_002 and found["link"].linkname == "/hi"
    mydocker("import", f"{scratch}/out.tar", "again")
    assert mydocker("run", "--rm", "again", "sh", "-c", "cat /hi2 /tmp/new; tail -c 2 /sparse; du -k /sparse | cut -f1").out == "hi\nn\nx\n4\n"


def test_export_of_an_ended_container_to_a_pipe(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "--name", "c", busybox, "sh", "-c", "echo x >/x")
    data = subprocess.run([*mydocker.argv, "--root", mydocker.root, "export", "c"], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as stream:
        assert "x" in stream.getnames() and "bin/busybox" in stream.getnames()
    assert subprocess.run([*mydocker.argv, "--root", mydocker.root, "export", "c"], capture_output=True, check=False).stderr == b""
    closed = subprocess.run(
        ["sh", "-c", '"$@" | head -c 1 >/dev/null', "sh", *mydocker.argv, "--root", mydocker.root, "export", "c"], stderr=subprocess.PIPE, check=False)
    assert closed.stderr == b""


# --- verify -----------------------------------------------------------------------------------------------


def _change_content(store) -> None:
    place = store.lower_dirs(store.resolve("rig:1"))[0] + "/f"
    times = os.stat(place)
    with open(place, "r+b") as stream:
        stream.write(b"Y")
    os.utime(place, ns=(times.st_atime_ns, times.st_mtime_ns))


def _change_blob(store) -> None:
    place = f"{store.layout.image}/blobs/sha256/{store.inspect('rig:1')['manifest']['layers'][0]['digest'][7:]}"
    with open(place, "r+b") as stream:
        stream.seek(100)
        stream.write(b"\xff")


def _remove_blob(store) -> None:
    os.unlink(f"{store.layout.image}/blobs/sha256/{store.inspect('rig:1')['manifest']['layers'][0]['digest'][7:]}")


def _at_layer(act):
    return lambda store: act(store.lower_dirs(store.resolve("rig:1"))[0])


@pytest.mark.parametrize(("breaking", "fault"), [
    (_change_content, "content"), (_change_blob, "blob sha256:"), (_remove_blob, "not there"),
    (_at_layer(lambda place: os.unlink(f"{place}/f")), "missing"),
    (_at_layer(lambda place: os.mkdir(f"{place}/new")), "not of the layer"),
    (_at_layer(lambda place: os.chmod(f"{place}/f", 0o4755)), "mode"),
    (_at_layer(lambda place: os.chown(f"{place}/f", 5, 0)), "owner"),
    (_at_layer(lambda place: os.setxattr(f"{place}/f", "user.x", b"1")), "attributes"),
    (_at_layer(lambda place: os.link(f"{place}/f", f"{place}/../g")), "hard links"),
])
def test_verify_finds_what_is_not_as_it_was_stored(scratch: str, breaking, fault: str) -> None:
    store = images(scratch)
    take(store, oci_archive(oci_files(tar(member("f", b"x" * 5000), member("d/e", b"")))))
    assert [image.faults for image in store.verify()] == [()]
    breaking(store)
    ((found,),) = [image.faults for image in store.verify("rig:1")]
    assert fault in found
    assert leftovers(store) == []


def test_verify_says_ok_or_what_is_wrong_and_its_exit_code(mydocker: Mydocker, busybox: str) -> None:
    assert mydocker("image", "verify").out == "busybox:latest: ok\n"
    layer = mydocker("image", "inspect", "-f", "{{.GraphDriver.Data.LowerDir}}", busybox).out.strip()
    os.unlink(f"{layer}/etc/passwd")
    assert "/etc/passwd: it is missing" in mydocker("image", "verify", busybox, code=1).out


# --- removing ---------------------------------------------------------------------------------------------


def test_prune_takes_the_nameless_and_with_all_the_unused(scratch: str) -> None:
    store = images(scratch)
    take(store, docker_archive(ONE, tags=("a:1",)))
    take(store, docker_archive(TWO, tags=("a:1",)))
    take(store, docker_archive(ONE, TWO, tags=("b:1", "b:2")))
    (removed,) = store.prune()
    assert removed.untagged == () and len(removed.deleted) == 1
    assert sorted(image.reference for image in store.list()) == ["a:1", "b:1", "b:2"]
    assert store.prune() == []
    assert store.prune(all=True, matches=lambda image: image.reference != "a:1")[0].untagged == ("b:1", "b:2")
    store.prune(all=True)
    assert store.list() == [] and os.listdir(f"{store.layout.image}/blobs/sha256") == [] and leftovers(store) == []


def test_prune_spares_what_containers_use(mydocker: Mydocker, busybox: str) -> None:
    mydocker("create", "--name", "c", busybox, "true")
    assert mydocker("image", "prune", "-a", "-f").out == "Total reclaimed space: 0B\n"
    assert "untagged: busybox:latest" in mydocker("system", "prune", "-af").out
    assert mydocker("images", "-q").out == "" and mydocker("ps", "-q").out == ""


def test_system_prune_takes_the_build_cache_unless_filtered(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    with open(f"{scratch}/Dockerfile", "w", encoding="ascii") as stream:
        stream.write(f"FROM {busybox}\nRUN echo x >/x\n")
    mydocker("build", "-q", "-t", "built", scratch)
    mydocker("rmi", "built")
    mydocker("system", "prune", "-f", "--filter", "label=nothing")
    assert os.listdir(f"{mydocker.root}/build")
    assert mydocker("system", "prune", "-f").out != "Total reclaimed space: 0B\n"
    assert os.listdir(f"{mydocker.root}/build") == []
    assert mydocker("image", "verify").out == "busybox:latest: ok\n"


def test_rmi_by_id_with_several_names_wants_force(scratch: str) -> None:
    store = images(scratch)
    take(store, docker_archive(ONE, tags=("a:1", "a:2")))
    identity = store.inspect("a:1")["id"]
    with pytest.raises(Conflict, match="several names"):
        store.remove(identity)
    removed = store.remove(identity[7:19], force=True)
    assert removed.deleted == (identity,) and set(removed.untagged) == {"a:1", "a:2"}


def test_many_at_once_leave_whole_images_or_none(scratch: str) -> None:
    store = images(scratch)
    data = [docker_archive(ONE, tar(member("n", b"%d" % number)), tags=(f"n:{number}",)) for number in range(4)]
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(5):
                take(store, data[number])
                if number % 2:
                    store.collect()
                store.remove(f"n:{number}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    store.collect()
    assert os.listdir(f"{store.layout.image}/blobs/sha256") == [] and leftovers(store) == []
    assert not [name for name in os.listdir(store.layout.layers) if len(name) == 64]


# --- measuring --------------------------------------------------------------------------------------------


def test_df_adds_up_to_what_du_says(mydocker: Mydocker, busybox: str, scratch: str) -> None:
    mydocker("run", "--name", "c", busybox, "sh", "-c", "head -c 3000000 /dev/zero >/x; ln /x /y; truncate -s 1G /z; mkdir -p /a/b/c")
    mydocker("commit", "c", "second")
    with open(f"{scratch}/in.tar.gz", "wb") as stream:
        stream.write(gzip.compress(ONE))
    mydocker("import", f"{scratch}/in.tar.gz", "third")

    def measured() -> tuple[int, int]:
        ours = [json.loads(line) for line in mydocker("system", "df", "--format", "json").out.splitlines()]
        assert sum(part["SizeBytes"] for part in ours[:-1]) == ours[-1]["SizeBytes"]
        du = subprocess.run(["du", "-s", "--block-size=1", mydocker.root], capture_output=True, text=True, check=True).stdout
        return ours[-1]["SizeBytes"], int(du.split()[0])

    ours, theirs = measured()
    assert ours == theirs
    lines = {line.split()[0]: line.split() for line in mydocker("system", "df").out.splitlines()}
    assert lines["Images"][1:3] == ["3", "1"] and lines["Containers"][1:3] == ["1", "0"]
    verbose = mydocker("system", "df", "-v").out
    assert "second" in verbose and "UNIQUE SIZE" in verbose and " c\n" in verbose


@pytest.mark.parametrize("depth", [50, 3000])
def test_df_counts_trees_deeper_than_a_path_may_be_long(scratch: str, depth: int) -> None:
    from mydocker.storage.trash import remove_tree
    from mydocker.storage.usage import DiskUsage

    top = f"{scratch}/deep"
    os.mkdir(top)
    fd = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d" * 5, dir_fd=fd)
        below = os.open("d" * 5, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    du = subprocess.run(["du", "-s", "--block-size=1", top], capture_output=True, text=True, check=True).stdout
    assert DiskUsage().measure(top) == int(du.split()[0])
    remove_tree(top)


def test_gc_takes_what_belongs_to_nothing(scratch: str) -> None:
    store = images(scratch)
    take(store, docker_archive(ONE))
    place = f"{store.layout.image}/blobs/sha256/{'0' * 64}"
    for path in (place, f"{store.layout.image}/.index.json.1.tmp"):
        with open(path, "wb") as stream:
            stream.write(b"x" * 100)
    os.makedirs(f"{store.layout.layers}/{'1' * 64}/diff")
    os.makedirs(f"{store.layout.trash}/x/y")
    assert store.collect() == 100
    assert leftovers(store) == [] and not os.path.exists(place) and not os.path.exists(f"{store.layout.layers}/{'1' * 64}")
    assert [image.faults for image in store.verify()] == [()]
