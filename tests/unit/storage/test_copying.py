"""A tree copied as it is, and into a directory that is not empty or changes meanwhile."""
from __future__ import annotations

import os

import pytest

from mydocker.base.errors import InvalidRequest
from mydocker.storage.copying import TreeCopy


def copy(source: str, target: str) -> None:
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (source, target)]
    try:
        TreeCopy(*fds).copy()
    finally:
        for fd in fds:
            os.close(fd)


@pytest.fixture
def trees(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return str(tmp_path_factory.mktemp("source")), str(tmp_path_factory.mktemp("target"))


def test_holes_stay_holes(trees: tuple[str, str]) -> None:
    source, target = trees
    with open(f"{source}/sparse", "wb") as stream:
        stream.truncate(1 << 30)
        stream.seek(1 << 29)
        stream.write(b"middle")
    copy(source, target)
    status = os.stat(f"{target}/sparse")
    assert status.st_size == 1 << 30 and status.st_blocks * 512 <= os.stat(f"{source}/sparse").st_blocks * 512 + 4096
    with open(f"{target}/sparse", "rb") as stream:
        stream.seek(1 << 29)
        assert stream.read(8) == b"middle\0\0"


def test_links_modes_times_and_names_that_are_no_text(trees: tuple[str, str]) -> None:
    source, target = trees
    os.makedirs(f"{source}/a/b")
    with open(os.fsencode(f"{source}/a/") + b"\xff\xfe", "wb") as stream:
        stream.write(b"x")
    os.link(os.fsencode(f"{source}/a/") + b"\xff\xfe", f"{source}/a/b/again")
    os.symlink("/etc/passwd", f"{source}/link")
    os.chmod(f"{source}/a/b", 0o1750)
    os.utime(f"{source}/a", (1, 2))
    copy(source, target)
    assert os.path.samefile(os.fsencode(f"{target}/a/") + b"\xff\xfe", f"{target}/a/b/again")
    assert os.readlink(f"{target}/link") == "/etc/passwd"
    assert os.stat(f"{target}/a/b").st_mode & 0o7777 == 0o1750 and os.stat(f"{target}/a").st_mtime == 2


def test_what_is_there_is_never_written_over(trees: tuple[str, str]) -> None:
    source, target = trees
    for path in trees:
        with open(f"{path}/file", "w") as stream:
            stream.write(path)
    with pytest.raises(FileExistsError):
        copy(source, target)
    os.unlink(f"{target}/file")
    os.symlink(f"{source}/elsewhere", f"{target}/file")
    with pytest.raises(FileExistsError):
        copy(source, target)
    assert not os.path.exists(f"{source}/elsewhere")


def test_a_tree_without_end_is_refused(trees: tuple[str, str]) -> None:
    source, target = trees
    fd = os.open(source, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    with pytest.raises(InvalidRequest, match="more than 200 directories deep"):
        copy(source, target)
