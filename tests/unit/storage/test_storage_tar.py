"""The tar reader against Python's tarfile, and against hostile headers."""
from __future__ import annotations

import io
import os
import tarfile

import pytest

from mydocker.base.errors import Corrupt, Unsupported
from mydocker.storage import tarheader, tarstream
from mydocker.storage.inflate import detect, inflate
from mydocker.storage.pipeline import FileSource
from mydocker.storage.unpack import clean_name


def read(data: bytes, limits: tarstream.Limits | None = None) -> list[tuple[tarheader.Entry, bytes]]:
    fd = os.memfd_create("tar")
    try:
        os.write(fd, data)
        source = FileSource(fd)
        return [(entry, source.read(entry.size)) for entry in tarstream.entries(source, limits or tarstream.Limits())]
    finally:
        os.close(fd)


def make(*members: tuple[tarfile.TarInfo, bytes], kind: int = tarfile.PAX_FORMAT, **options: object) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind, **options) as tar:  # type: ignore[call-overload]
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def info(name: str, **fields: object) -> tarfile.TarInfo:
    result = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(result, key, value)
    return result


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["a", "d/" * 40 + "file", "d/" * 60 + "x" * 60])
def test_each_format_gives_the_same_entry(kind: int, name: str) -> None:
    data = make((info(name, mode=0o4755, uid=1000, gid=2000, mtime=1_700_000_000), b"content"), kind=kind)
    (entry, content), = read(data)
    assert (entry.name.decode(), entry.mode, entry.uid, entry.gid) == (name, 0o4755, 1000, 2000)
    assert entry.mtime_ns == 1_700_000_000_000_000_000
    assert content == b"content"


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_links_and_large_numbers_are_read(kind: int) -> None:
    long = "x" * 90 + "/" + "y" * 200
    data = make((info(long, type=tarfile.SYMTYPE, linkname="t" * 300, uid=3_000_000, gid=4_000_000_000), b""), kind=kind)
    (entry, _), = read(data)
    assert entry.name.decode() == long
    assert entry.linkname == b"t" * 300
    assert (entry.uid, entry.gid) == (3_000_000, 4_000_000_000)


def test_pax_time_and_attributes_are_read() -> None:
    member = info("f", pax_headers={"mtime": "1700000000.123456789", "SCHILY.xattr.user.a": "b\nc"})
    (entry, _), = read(make((member, b"")))
    assert entry.mtime_ns == 1_700_000_000_123_456_789
    assert entry.xattrs == {b"user.a": b"b\nc"}


def test_negative_time_is_read() -> None:
    assert tarheader.parse_time(b"-1.5") == -1_500_000_000


def test_archive_without_end_blocks_is_read() -> None:
    data = make((info("a"), b"1"))
    assert len(read(data[:1024])) == 1


@pytest.mark.parametrize("cut", [100, 512 + 1, 700])
def test_cut_archive_is_refused(cut: int) -> None:
    with pytest.raises(Corrupt):
        read(make((info("a"), b"x" * 600))[:cut])


def test_wrong_checksum_is_refused() -> None:
    data = bytearray(make((info("a"), b"")))
    data[0] ^= 1
    with pytest.raises(Corrupt, match="checksum"):
        read(bytes(data))


def test_giant_extended_header_is_refused_unread() -> None:
    header = bytearray(info("x", type=b"x", size=1 << 30).tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(Corrupt, match="extended header of 1073741824"):
        read(bytes(header))


@pytest.mark.parametrize("record", [b"", b"5 a=\n", b"9999 a=b\n", b"x a=b\n", b"6 a=bc\n", b"-1 a=b\n", b"7 a=bcd", b"5 abc\n"])
def test_malformed_pax_record_is_refused(record: bytes) -> None:
    if not record:
        assert tarheader.parse_pax(record) == {}
        return
    if record == b"5 a=\n":
        assert tarheader.parse_pax(record) == {b"a": b""}
        return
    with pytest.raises(Corrupt):
        tarheader.parse_pax(record)


@pytest.mark.parametrize("fields", [{"uid": 0xFFFF_FFFF}, {"gid": 1 << 40}])
def test_impossible_owner_is_refused(fields: dict[str, int]) -> None:
    with pytest.raises(Corrupt, match="owner"):
        read(make((info("a", **fields), b"")))


def test_unknown_type_is_refused() -> None:
    with pytest.raises(Unsupported):
        read(make((info("a", type=b"Q"), b"")))


def test_more_members_than_the_limit_are_refused() -> None:
    data = make(*((info(f"f{number}"), b"") for number in range(20)), kind=tarfile.GNU_FORMAT)
    with pytest.raises(Corrupt, match="members"):
        read(data, tarstream.Limits(entries=5))


def sparse_1_0(count: bytes, lines: bytes, size: int, real: bytes = b"1000000") -> bytes:
    body = (count + b"\n" + lines).ljust(512, b"\0") + b"z" * size
    member = info("GNUSparseFile.0/f", pax_headers={
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "f", "GNU.sparse.realsize": real.decode()})
    return make((member, body))


def test_sparse_map_of_format_1_0_is_read() -> None:
    (entry, data), = read(sparse_1_0(b"2", b"100\n3\n5000\n4\n", 7))
    assert entry.name == b"f"
    assert entry.sparse == [(100, 3), (5000, 4)]
    assert (entry.real_size, data) == (1_000_000, b"zzzzzzz")


@pytest.mark.parametrize(("count", "lines", "size"), [
    (b"1000000000", b"", 0),                # CVE-2025-58183: the count is not believed
    (b"65537", b"", 0),
    (b"2", b"0\n5\n3\n5\n", 10),            # overlap
    (b"1", b"999999\n5\n", 5),              # leaves the file
    (b"1", b"0\n5\n", 4),                   # does not fit the data
    (b"x", b"", 0),
    (b"1", b"-5\n5\n", 5),
])
def test_lying_sparse_map_is_refused(count: bytes, lines: bytes, size: int) -> None:
    with pytest.raises(Corrupt):
        read(sparse_1_0(count, lines, size))


@pytest.mark.parametrize(("name", "clean"), [
    ("a/b", "a/b"), ("/a/b", "a/b"), ("./a", "a"), ("a//b/", "a/b"), ("", ""), (".", ""), ("/", ""), ("a/./b", "a/b"),
    ("a/../b", "b"), ("a/b/../../c", "c"), (".hidden", ".hidden"), ("a/.hidden", "a/.hidden"), ("...", "..."), ("a/..b", "a/..b"),
])
def test_name_is_cleaned(name: str, clean: str) -> None:
    assert clean_name(name.encode()) == clean.encode()


@pytest.mark.parametrize("name", ["..", "../a", "/../a", "a/../../b", "./../x", "a/b/../../../c"])
def test_name_that_leaves_the_archive_is_refused(name: str) -> None:
    with pytest.raises(Corrupt, match="out of the archive"):
        clean_name(name.encode())


@pytest.mark.parametrize(("head", "name"), [(b"BZh91AY", "bzip2"), (b"\xfd7zXZ\0\0", "xz")])
def test_other_compression_is_named(head: bytes, name: str) -> None:
    with pytest.raises(Unsupported, match=name):
        detect(head)


def feed(data: bytes) -> bytes:
    pieces = [data[start:start + 1000] for start in range(0, len(data), 1000)][::-1]
    return b"".join(inflate(detect(data), lambda: pieces.pop() if pieces else b""))


def test_members_and_frames_are_joined() -> None:
    import gzip

    import zstandard

    text = os.urandom(5000) * 20
    assert feed(gzip.compress(text) + gzip.compress(b"more") + bytes(100)) == text + b"more"
    frame = zstandard.ZstdCompressor().compress(text)
    skippable = b"\x50\x2a\x4d\x18" + (8).to_bytes(4, "little") + b"whatever"
    assert feed(skippable + frame + frame) == text + text


def test_damaged_compression_is_refused() -> None:
    import gzip

    data = gzip.compress(os.urandom(5000))
    for damaged in (data[:-4], data[:2000], data[:2000] + b"x" * 10 + data[2010:]):
        with pytest.raises(Corrupt):
            feed(damaged)


def test_zstd_window_of_gigabytes_is_refused() -> None:
    import zstandard

    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=30)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(Corrupt):
        feed(compressor.compress(b"x" * 1000) + compressor.flush())
