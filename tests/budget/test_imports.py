"""What a hot command imports, held against a budget: a start costs what it imports, and imports creep.

Times are noise on a shared machine, so what is counted are modules, and statements of our own: the same
each time, and no reason to write fewer comments. The commands are real ones on a real container. An audit hook, which forks inherit, also
sees what the monitor stage and the container's init import on the way to the monitor.
"""
from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from harness import remove_networks

import mydocker

#: Where the package is installed: the sources have no extension module beside them.
_INSTALLED = os.path.dirname(os.path.dirname(mydocker.__file__))
_SOURCES = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "src")

#: Modules that cost milliseconds each (CONTRIBUTING.md has the table): no hot command may load one.
_FORBIDDEN = frozenset({
    "argparse", "asyncio", "ctypes", "dataclasses", "email", "enum", "hashlib", "http", "importlib.metadata", "inspect",
    "isal", "json", "logging", "pathlib", "platform", "random", "re", "selectors", "shutil", "signal", "socket",
    "sqlite3", "ssl", "subprocess", "tarfile", "tempfile", "threading", "traceback", "typing", "urllib", "uuid",
    "zipfile", "zlib", "zstandard",
})

#: Command -> (modules of the standard library, statements of our own that run) that it may load beyond a bare start.
#: A statement costs about 5,000 instructions, a module of the library a million: `run` is at 60 million of the 70 that it may cost.
_BUDGETS: dict[str, tuple[int, int]] = {
    "--version": (4, 650),
    "run": (12, 6800),
    "run on a network": (12, 8800),
    "exec": (11, 4900),
    "ps": (8, 3400),
    "logs": (8, 3650),
    "kill": (8, 3300),
    "stop": (8, 3300),
    "rm": (8, 3400),
    "build": (8, 6000),
}

_PROGRAM = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import os
report = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
def note(event, arguments):
    if event == "import":
        try:
            os.write(report, arguments[0].encode() + b"\\n")
        except OSError:
            pass  # in the container's init, which has closed everything
sys.addaudithook(note)
before = set(sys.modules)
from mydocker.cli.main import main
code = main(sys.argv[1:])
os.write(report, "".join(name + "\\n" for name in set(sys.modules) - before).encode())
sys.exit(code)
"""


class Loader:
    """Runs commands on a state root of their own and tells what they loaded."""

    def __init__(self, scratch: str) -> None:
        self._report = f"{scratch}/imports"
        self._env = {"PATH": os.environ["PATH"], "MYDOCKER_ROOT": f"{scratch}/root"}

    def loaded(self, *words: str) -> set[str]:
        """Run a command, which must succeed, and return the modules it loaded beyond a bare start."""
        with open(self._report, "w", encoding="ascii"):
            pass
        # -S: what site adds is the installation's, not ours.
        argv = [sys.executable, "-IS", "-c", _PROGRAM, _INSTALLED, self._report, *words]
        done = subprocess.run(argv, env=self._env, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        with open(self._report, encoding="ascii") as stream:
            return set(stream.read().split()) - _bare_modules()


def _bare_modules() -> set[str]:
    argv = [sys.executable, "-IS", "-c", "import sys; print(*sys.modules)"]
    return set(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())


@pytest.fixture
def loader(scratch: str) -> Iterator[Loader]:
    loader = Loader(scratch)
    yield loader
    loader.loaded("rm", "-f", "idle")
    remove_networks(f"{scratch}/root")


def _own_statements(modules: set[str]) -> int:
    return sum(_count_statements(name) for name in modules if name.partition(".")[0] == "mydocker")


def _count_statements(module: str) -> int:
    base = os.path.join(_SOURCES, *module.split("."))
    for path in (f"{base}.py", f"{base}/__init__.py"):
        if os.path.exists(path):
            with open(path, encoding="utf-8") as stream:
                return sum(isinstance(node, ast.stmt) for node in _walk_executed(ast.parse(stream.read())))
    return 0  # the C extension


def _walk_executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that are there at run time: what stands under `if TYPE_CHECKING:` is compiled, but costs nothing."""
    yield tree
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            yield from _walk_executed(node)


def _check(verb: str, modules: set[str]) -> None:
    most_modules, most_statements = _BUDGETS[verb]
    foreign = sorted(name for name in modules if name.partition(".")[0] != "mydocker")
    statements = _own_statements(modules)
    print(f"{verb}: {len(foreign)} modules ({', '.join(foreign)}), {statements} statements")
    assert not _FORBIDDEN.intersection(foreign), f"{verb} loads {sorted(_FORBIDDEN.intersection(foreign))}"
    assert len(foreign) <= most_modules, f"{verb} loads {len(foreign)} modules, {most_modules} allowed: {foreign}"
    assert statements <= most_statements, f"{verb} loads {statements} statements of ours, {most_statements} allowed"


def test_version_loads_next_to_nothing(loader: Loader) -> None:
    _check("--version", loader.loaded("--version"))


@pytest.mark.needs("root", "overlay")
def test_commands_on_a_running_container_keep_their_import_budgets(loader: Loader) -> None:
    loader.loaded("run", "--rm", "--network", "none", "host", "true")  # compiles the seccomp filter, once in a root's life
    _check("run", loader.loaded("run", "-d", "--name", "idle", "--network", "none", "host", "sleep", "1000"))
    _check("ps", loader.loaded("ps"))
    _check("exec", loader.loaded("exec", "idle", "true"))
    _check("logs", loader.loaded("logs", "idle"))
    _check("kill", loader.loaded("kill", "-s", "URG", "idle"))
    _check("stop", loader.loaded("stop", "-t", "0", "idle"))
    _check("rm", loader.loaded("rm", "idle"))


@pytest.mark.needs("root", "overlay")
def test_a_build_of_which_everything_is_cached_loads_nothing_that_makes_layers(loader: Loader, scratch: str) -> None:
    context = f"{scratch}/context"
    os.mkdir(context)
    for name, text in (("Dockerfile", "FROM scratch\nENV a=1\nCOPY file /two\nWORKDIR /three\n"), ("file", "content\n")):
        with open(f"{context}/{name}", "w", encoding="ascii") as stream:
            stream.write(text)
    loader.loaded("build", "-q", "-t", "cached", context)
    _check("build", loader.loaded("build", "-q", "-t", "cached", context))


@pytest.mark.needs("root", "overlay", "bridges")
def test_a_start_on_a_network_keeps_its_import_budget(loader: Loader) -> None:
    loader.loaded("run", "--rm", "host", "true")  # makes the network, its bridge and its rules
    _check("run on a network", loader.loaded("run", "--rm", "host", "true"))
