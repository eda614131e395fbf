"""kill -9 while a volume is made, filled and removed, and removals that race starts: nothing is lost, nothing is left."""
from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest
from fault_rig import KILLED, SLEEP, check_ps, killed_at, remove_all, settle
from harness import Mydocker, until
from image_rig import directory, member
from volume_rig import CONTENT, data_of, facts, load_image, names

pytestmark = [pytest.mark.needs("root", "overlay")]

RUN = ("run", "--rm", "--network", "none")
FILLING = ("claimed volume", "copying to volume", "copied to volume", "volume copy whole", "moved into volume")
REMOVING = ("renamed to trash", "discarded with volumes", "volume in trash")


@pytest.fixture(autouse=True)
def _no_volume_stays(mydocker: Mydocker) -> Iterator[None]:
    yield
    mydocker.destroy()
    mydocker("volume", "prune", "-a", "-f")


@pytest.fixture
def image(mydocker: Mydocker, busybox_tar: str) -> str:
    return load_image(mydocker, busybox_tar, *CONTENT)


def whole(mydocker: Mydocker, image: str) -> dict[str, object]:
    """Return what a volume must hold: a copy that nobody disturbed. The directory's own time is that of the last move."""
    mydocker(*RUN, "-v", "whole:/data", image, "true")
    found = facts(data_of(mydocker, "whole"))
    mydocker("volume", "rm", "whole")
    return {path: fact for path, fact in found.items() if path != "."}


def check_filled(mydocker: Mydocker, image: str, expected: dict[str, object]) -> None:
    mydocker(*RUN, "-v", "data:/data", image, "true")
    found = facts(data_of(mydocker, "data"))
    assert found.pop(".")[:3] == ("0o42750", 7, 8)
    assert found == expected
    assert set(os.listdir(f"{mydocker.root}/volume/data")) == {"_data", "volume.json"}


@pytest.mark.parametrize("point", FILLING)
def test_a_copy_that_is_killed_is_begun_again_or_gone_on_with(mydocker: Mydocker, image: str, point: str) -> None:
    expected = whole(mydocker, image)
    killed_at(mydocker, point, "run", "-d", "--name", "c", "-v", "data:/data", "-v", "/data/sub", image, *SLEEP)
    assert check_ps(mydocker) == {}
    check_filled(mydocker, image, expected)
    assert names(mydocker) == ["data"]
    mydocker("volume", "rm", "data")
    assert mydocker.leftovers() == []


def test_a_copy_killed_at_any_moment(mydocker: Mydocker, busybox_tar: str) -> None:
    members = [member(f"data/{number}", bytes(2000)) for number in range(1500)]
    image = load_image(mydocker, busybox_tar, directory("data"), *members)
    for delay_ms in range(0, 300, 30):
        making = mydocker.popen("create", "-v", "data:/data", "-v", "/anonymous", image, "true")
        time.sleep(delay_ms / 1000)
        making.kill()
        making.communicate()
    mydocker(*RUN, "-v", "data:/data", image, "true")
    assert len(os.listdir(data_of(mydocker, "data"))) == 1500
    remains = mydocker("ps", "-q").out.split()
    if remains:
        mydocker("rm", "-fv", *remains)
    assert names(mydocker) == ["data"]


def test_a_copy_that_was_whole_does_not_cover_what_came_meanwhile(mydocker: Mydocker, image: str) -> None:
    """Killed before the move; a container that has the volume writes a file of the same name; the move goes on around it."""
    mydocker("run", "-d", "--name", "c", "--network", "none", "-v", "data:/x", image, *SLEEP)
    killed_at(mydocker, "volume copy whole", "create", "-v", "data:/data", image, "true")
    mydocker("exec", "c", "sh", "-c", "echo mine > /x/file")
    assert mydocker(*RUN, "-v", "data:/data", image, "cat", "/data/file").out == "mine\n"
    assert mydocker("exec", "c", "cat", "/x/sub/deep").out == "x"
    remove_all_but_volumes(mydocker)


def remove_all_but_volumes(mydocker: Mydocker) -> None:
    mydocker("rm", "-f", *mydocker("ps", "-q").out.split())
    mydocker("volume", "prune", "-a")
    remove_all(mydocker)


def test_a_volume_that_never_came_to_be_is_swept(mydocker: Mydocker) -> None:
    killed_at(mydocker, "claimed volume", "volume", "create", "data")
    assert os.listdir(f"{mydocker.root}/volume") == ["data"]
    assert "no volume data" in mydocker("volume", "inspect", "data", code=125).err
    assert names(mydocker) == [] and os.listdir(f"{mydocker.root}/volume") == []
    killed_at(mydocker, "claimed volume", "volume", "create", "data")
    mydocker("volume", "create", "--label", "a=b", "data")  # goes on with it
    assert mydocker("volume", "inspect", "-f", "{{.Labels.a}}", "data").out == "b\n"
    killed_at(mydocker, "claimed volume", "volume", "create", "other")
    mydocker("gc")
    assert os.listdir(f"{mydocker.root}/volume") == ["data"]


def test_the_removal_of_a_volume_killed_is_finished_by_the_next_command(mydocker: Mydocker) -> None:
    mydocker("volume", "create", "data")
    killed_at(mydocker, "volume in trash", "volume", "rm", "data")
    assert names(mydocker) == [] and mydocker.leftovers() == []


@pytest.mark.parametrize("point", REMOVING)
@pytest.mark.parametrize("words", [["rm", "-v", "c"], ["rm", "-fv", "c"]])
def test_rm_with_volumes_killed_is_finished_by_the_next_command(mydocker: Mydocker, busybox: str, words: list[str], point: str) -> None:
    mydocker("create" if "-fv" in words else "run", "--name", "c", "-v", "/a", "-v", "/b", busybox, "true")
    killed_at(mydocker, point, *words)
    settle(mydocker, "")
    assert names(mydocker) == []


@pytest.mark.parametrize("point", REMOVING)
@pytest.mark.parametrize("detached", [False, True])
def test_the_clean_up_of_rm_killed_is_finished_by_the_next_command(
    mydocker: Mydocker, busybox: str, detached: bool, point: str
) -> None:
    killed_at(mydocker, point, "run", "--rm", *(["-d"] if detached else []), "-v", "/a", busybox, "true",
              code=0 if detached else KILLED)
    settle(mydocker, "")
    assert names(mydocker) == []


def test_rm_without_v_killed_keeps_the_volumes(mydocker: Mydocker, busybox: str) -> None:
    mydocker("run", "--name", "c", "--network", "none", "-v", "/a", busybox, "true")
    killed_at(mydocker, "renamed to trash", "rm", "c")
    check_ps(mydocker)
    assert len(names(mydocker)) == 1


def test_a_failed_create_takes_its_anonymous_volumes_with_it(mydocker: Mydocker, busybox: str) -> None:
    for words in (["-v", "/a", busybox, "no-such-command"], ["-v", "/a", "--mount", "src=data,dst=/b,volume-subpath=no", busybox, "true"]):
        mydocker("run", "--network", "none", *words, code=None)
    assert mydocker.rows() == {} and names(mydocker) == ["data"]


def test_removals_race_starts_and_no_container_loses_its_volume(mydocker: Mydocker, busybox: str) -> None:
    stop = threading.Event()
    removed = []

    def remove() -> None:
        while not stop.is_set():
            done = mydocker("volume", "rm", "data", code=None)
            removed.append(done.code)
            assert done.code == 0 or "in use" in done.err or "no volume data" in done.err, done

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        script = "echo $$ > /d/f && sleep 0.05 && cat /d/f && ls /d | wc -l"
        for _ in range(25):
            assert mydocker(*RUN, "-v", "data:/d", busybox, "sh", "-c", script).out == "1\n1\n"
    finally:
        stop.set()
        thread.join()
    assert 0 in removed and 125 in removed


@pytest.mark.parametrize("point", ["recorded creating", "claimed volume", "volume copy whole"])
def test_a_removal_while_a_container_is_being_made_is_refused(mydocker: Mydocker, image: str, point: str) -> None:
    making = mydocker.popen("create", "--name", "c", "-v", "data:/data", image, "true", env={"MYDOCKER_TRACE": f"{point}=sleep:1.5"})
    until(lambda: os.path.exists(f"{mydocker.root}/volume/data") or point == "recorded creating")
    done = mydocker("volume", "rm", "data", code=125)
    assert "in use" in done.err or (point == "recorded creating" and "no volume" in done.err)
    assert making.wait() == 0, making.communicate()
    making.communicate()
    assert os.path.exists(f"{data_of(mydocker, 'data')}/file")
