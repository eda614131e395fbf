"""The house rules that a machine can check (ARCHITECTURE.md has the reasons): who may import whom, names, sizes, paths."""
from __future__ import annotations

import ast
import os
from collections.abc import Iterator

import pytest

from mydocker.base import paths
from mydocker.base.paths import Layout

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SOURCE = f"{TOP}/src/mydocker"

#: A package imports packages of a lower rank only, and never another of its own. Type-only imports count.
RANKS = {
    "base": 0, "linux": 1, "oci": 1, "runtime": 2, "storage": 2, "registry": 2, "network": 2, "monitor": 2, "image": 3,
    "build": 4, "engine": 5, "dialect": 6, "cli": 7, "api": 7, "cri": 7,
}
#: The extension module is for linux/syscalls.py, and for the log reader, which needs two calls of it and no constants.
PRIVATE = {"mydocker._linux": ("linux/syscalls.py", "monitor/logs.py")}
DRAWERS = ("util", "utils", "helper", "helpers", "common", "manager", "misc")
#: Lines beyond which a file needs splitting, unless it is a table (named here with the reason).
LONGEST = 500
TABLES = {"cli/options.py": "the option table"}


def modules() -> Iterator[str]:
    for directory, _, files in os.walk(SOURCE):
        for file in files:
            if file.endswith(".py"):
                yield os.path.relpath(f"{directory}/{file}", SOURCE)


def imports(module: str) -> Iterator[tuple[int, str]]:
    """Yield line and full name of every import of ours, relative ones resolved, wherever in the file."""
    with open(f"{SOURCE}/{module}") as file:
        tree = ast.parse(file.read())
    package = ["mydocker", *module.split("/")[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{prefix}.{alias.name}"


MODULES = sorted(modules())


def test_every_package_has_a_rank() -> None:
    assert {module.split("/")[0] for module in MODULES if "/" in module} <= RANKS.keys()


@pytest.mark.parametrize("module", [module for module in MODULES if "/" in module])
def test_imports_go_down_in_rank(module: str) -> None:
    own = module.split("/", maxsplit=1)[0]
    wrong = []
    for line, name in imports(module):
        parts = name.split(".")
        if parts[0] != "mydocker":
            continue
        target = parts[1]
        private = next((users for owner, users in PRIVATE.items() if name.startswith(owner)), None)
        if private is not None:
            allowed = module in private
        else:
            allowed = target == own or (target in RANKS and RANKS[target] < RANKS[own])
        if not allowed:
            wrong.append(f"{module}:{line} imports {name}")
    assert not wrong, f"rank {RANKS[own]} may import lower ranks only: {wrong}"


def test_no_module_is_a_drawer() -> None:
    names = [(module, part) for module in MODULES for part in os.path.splitext(module)[0].split("/")]
    assert [module for module, part in names if any(word in DRAWERS for word in part.split("_"))] == []


def test_no_package_does_work_when_it_is_imported() -> None:
    for module in MODULES:
        if module.endswith("/__init__.py"):
            with open(f"{SOURCE}/{module}") as file:
                body = ast.parse(file.read()).body
            # Empty, a docstring, or the lazy names of PEP 562.
            assert all(not isinstance(node, ast.For | ast.While | ast.With | ast.Try) for node in body), module


@pytest.mark.parametrize("module", [module for module in MODULES if module not in TABLES])
def test_no_file_is_too_long(module: str) -> None:
    with open(f"{SOURCE}/{module}") as file:
        assert sum(1 for _ in file) <= LONGEST, "split it by what it is about, or name it as a table, with the reason"


@pytest.mark.parametrize("module", [module for module in MODULES if not module.endswith("__init__.py")])
def test_every_module_says_what_it_owns(module: str) -> None:
    with open(f"{SOURCE}/{module}") as file:
        assert ast.get_docstring(ast.parse(file.read())), "its docstring says what it owns, and what it must not know"


def test_the_page_of_paths_lists_what_the_layout_joins() -> None:
    with open(f"{TOP}/docs/layout.md") as file:
        page = file.read()
    layout = Layout("/ROOT", "/RUN")
    joined = {getattr(layout, name) for name, value in vars(Layout).items() if isinstance(value, property)}
    joined |= {
        layout.layer("sha256:<chain id>"), layout.container("<id>"), layout.name("<name>"), layout.run_link("<name>"),
        layout.network("<name>"), layout.volume("<name>"),
    }
    methods = {name for name, value in vars(Layout).items() if callable(value) and not name.startswith("_")}
    assert methods == {"ensure", "layer", "container", "name", "network", "run_link", "volume"}, "a new method: join a sample of it above"
    listed = {path.replace("/ROOT", "<root>").replace("/RUN", "<run>") for path in joined}
    assert {path for path in listed if f"`{path}" not in page} == set()


def test_the_page_of_paths_lists_every_file_of_a_container() -> None:
    with open(f"{TOP}/docs/layout.md") as file:
        page = file.read()
    names = {value for name, value in vars(paths).items() if name.isupper() and not name.startswith("DEFAULT_")}
    assert {name for name in names if f"`<root>/container/<id>/{name}" not in page} == set()
    assert f"`{paths.DEFAULT_ROOT}`" in page
    assert f"`{paths.DEFAULT_RUN}`" in page
