"""Fixtures of tests that run containers: a state root, its images, the command, the Python API, and the machine compared.

Imported by the conftest.py of each directory whose tests need them.
"""
from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator

import pytest
from harness import SCRATCH, Mydocker, await_work, cgroup_directories, do_meanwhile, leaving, network_links, pids, until_as_before

from mydocker import Engine
from mydocker.network import firewall

_TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the test typed, what came of it, and the containers' records and logs."""
    report = yield
    command = item.funcargs.get("mydocker") if isinstance(item, pytest.Function) else None
    if report.failed and isinstance(command, Mydocker):
        report.sections.append(("mydocker", command.describe()))
    return report


@pytest.fixture(scope="session")
def busybox_tar(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tar of a small root file system: a static busybox with all its names, passwd and group."""
    path = tmp_path_factory.mktemp("tar") / "busybox.tar"
    with open(path, "wb") as stream:
        subprocess.run([sys.executable, f"{_TOP}/tools/busybox-rootfs"], stdout=stream, check=True)
    return str(path)


@pytest.fixture(scope="session")
def root_with_images(busybox_tar: str) -> Iterator[str]:
    """A state root that holds the image `busybox`, to be copied: an import for each test would take longer than the test."""
    path = tempfile.mkdtemp(prefix="mydocker-images-", dir=SCRATCH)
    Mydocker(f"{path}/root")("import", busybox_tar, "busybox")
    yield f"{path}/root"
    await_work()
    shutil.rmtree(path)


def copy_root(source: str, path: str, *, plainly: bool) -> None:
    """Copy a state root that nobody uses. Unless `plainly`, busybox' hundreds of symbolic links are hard links of the same, which
    takes a tenth of the time; what a test could write to is its own.
    """
    if plainly:
        subprocess.run(["cp", "-a", f"{source}/.", path], check=True)
        return
    subprocess.run(["cp", "-al", f"{source}/.", path], check=True)
    for name in regular_files(source):
        os.unlink(f"{path}/{name}")
        shutil.copy2(f"{source}/{name}", f"{path}/{name}")


@functools.cache
def regular_files(directory: str) -> list[str]:
    """Return the paths of the regular files below a directory, relative to it."""
    paths = [os.path.join(place, name) for place, _, names in os.walk(directory) for name in names]
    return [os.path.relpath(path, directory) for path in paths if not os.path.islink(path)]


@functools.cache
def has_nft() -> bool:
    """Tell whether this machine has all that the firewall needs: to ask takes longer than many a test."""
    return not firewall.find_missing_part()[0]


@pytest.fixture
def engine_root(root_with_images: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A state root of the test's own, with the image `busybox`."""
    path = tempfile.mkdtemp(prefix="mydocker-root-", dir=SCRATCH)
    copy_root(root_with_images, path, plainly=bool(request.node.get_closest_marker("counts_links")))
    if os.geteuid() == 0 and not has_nft():
        # A machine without nft is told about once a root; the tests are about what is said besides.
        with open(f"{path}/network/{firewall.MARK_OF_MISSING}", "wb"):
            pass
    yield path
    do_meanwhile("rm", "-rf", path)


@pytest.fixture
def busybox(engine_root: str) -> str:
    """The name of an image with busybox."""
    assert os.path.isdir(engine_root)
    return "busybox"


@pytest.fixture
def mydocker(engine_root: str) -> Iterator[Mydocker]:
    """The command on the test's root. Afterwards all containers are removed, and nothing of them may be left anywhere."""
    if os.geteuid() != 0:
        pytest.skip("needs root: this is not root")
    cgroups, links = cgroup_directories(), network_links()
    command = Mydocker(engine_root, pids())
    yield command
    command.destroy()
    assert command.leftovers() == []
    until_as_before(cgroup_directories, cgroups)
    if not os.environ.get("MYDOCKER_TEST_SHARED"):
        until_as_before(lambda: network_links() - leaving, links)


@pytest.fixture
def engine(mydocker: Mydocker) -> Iterator[Engine]:
    """The Python API on the test's root, with a launcher as embedding programs have it."""
    with Engine(mydocker.root) as opened:
        yield opened
