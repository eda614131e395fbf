"""What an archive or a container may make a lot of costs time and memory in proportion, and not more."""
from __future__ import annotations

import os
import sys
import tarfile
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from mydocker.base import files
from mydocker.storage import trash
from mydocker.storage.pipeline import FileSource
from mydocker.storage.tarstream import Limits
from mydocker.storage.unpack import Unpacker


def header(name: str, kind: bytes, link: str = "") -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, link, 0o755
    member.uid, member.gid = os.geteuid(), os.getegid()
    return member.tobuf(tarfile.USTAR_FORMAT)


def unpack(root: Path, *members: bytes) -> Unpacker:
    archive_fd = os.memfd_create("archive")
    root_fd = os.open(root, os.O_RDONLY)
    try:
        files.write_all(archive_fd, b"".join(members) + bytes(1024))
        unpacker = Unpacker(root_fd, Limits())
        unpacker.run(FileSource(archive_fd))
        return unpacker
    finally:
        os.close(root_fd)
        os.close(archive_fd)


def steps_of(root: Path, directories: int, replacements: int) -> int:
    """Return how many operations of the interpreter unpacking takes: the same each time, which no time is."""
    root.mkdir()
    members = [header(f"d{number}", tarfile.DIRTYPE) for number in range(directories)]
    members += [header("x", tarfile.SYMTYPE, "y")] * replacements
    steps = 0

    def count(frame: FrameType, event: str, _: object) -> Callable[..., object]:
        nonlocal steps
        frame.f_trace_opcodes = True
        steps += event == "opcode"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        unpack(root, *members)
    finally:
        sys.settrace(before)
    return steps


def test_replacing_again_and_again_does_not_look_at_all_directories_each_time(tmp_path: Path) -> None:
    count = 200
    apart = steps_of(tmp_path / "directories", count, 0) + steps_of(tmp_path / "replacements", 0, count)
    assert steps_of(tmp_path / "both", count, count) < 1.1 * apart  # looking at all makes it 2.3 times that


def test_what_is_below_a_replaced_directory_is_forgotten_with_it(tmp_path: Path) -> None:
    directory = tarfile.DIRTYPE
    unpack(
        tmp_path, header("a", directory), header("a/b", directory), header("a/b/c/d", directory), header("ab", directory),
        header("a", tarfile.SYMTYPE, "ab"), header("a/b", directory))
    assert os.readlink(tmp_path / "a") == "ab"
    assert os.listdir(tmp_path / "ab") == ["b"] and os.listdir(tmp_path / "ab" / "b") == []


def test_removal_of_a_huge_directory_takes_no_memory_for_it(tmp_path: Path) -> None:
    top = tmp_path / "top"
    deep = top / "deep"
    deep.mkdir(parents=True)
    for number in range(20_000):
        os.mknod(deep / f"a-file-that-somebody-has-made-{number}")
    tracemalloc.start()
    try:
        trash.remove_tree(str(top))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not top.exists()
    assert peak_bytes < 500_000


def test_removal_of_a_tree_deeper_than_descriptors_and_wide_goes_on_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "top"
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=fd)
        os.mkdir("e", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    trash.remove_tree(str(path))
    assert not path.exists()


def test_two_threads_that_replace_one_file_leave_all_of_one(tmp_path: Path) -> None:
    path = str(tmp_path / "record.json")
    documents = [bytes([letter]) * 200_000 for letter in b"ab"]
    failures: list[BaseException] = []

    def write(data: bytes) -> None:
        try:
            for _ in range(100):
                files.replace_bytes(path, data)
                assert files.read_bytes(path) in documents
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(data,)) for data in documents for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert os.listdir(tmp_path) == ["record.json"]
