"""A command line over a fake engine: what it was asked is recorded, what it answers is set by the test."""
from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from mydocker.base.errors import NotFound
from mydocker.cli.main import main
from mydocker.cli.output import Output


class FakeContainer:
    """A container that records what is done to it."""

    def __init__(self, engine: FakeEngine, name: str, **facts: Any) -> None:
        self.engine = engine
        self.name = name
        self.id = facts.get("id", "1234567890")
        self.image = facts.get("image", "busybox:latest")
        self.command = facts.get("command", "sleep 100")
        self.created_ns = facts.get("created_ns", 1_700_000_000_000_000_000)
        self.status = facts.get("status", "running")
        self.pid = facts.get("pid", 4321 if self.status == "running" else None)
        self.exit_code = facts.get("exit_code")
        self.signal = facts.get("signal", 0)
        self.oom_killed = facts.get("oom_killed", False)
        self.labels = facts.get("labels", {})
        self.record: dict[str, Any] = {"config": facts.get("config", {})}
        self.ports: list[Any] = facts.get("ports", [])

    def __getattr__(self, verb: str) -> Any:
        if verb.startswith("_"):
            raise AttributeError(verb)

        def call(*args: Any, **options: Any) -> Any:
            self.engine.calls.append((verb, self.name, args, options))
            answer = self.engine.answers.get(verb)
            if isinstance(answer, BaseException):
                raise answer
            return answer
        return call

    def inspect(self) -> dict[str, Any]:
        return {"id": self.id, "name": self.name, "status": self.status, "exit_code": self.exit_code}


class FakeContainers:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.known: list[FakeContainer] = []
        self.broken: list[Exception] = []

    def get(self, reference: str) -> FakeContainer:
        for container in self.known:
            if container.name == reference:
                return container
        raise NotFound(f"no container {reference}", hint="mydocker ps shows what there is")

    def remove(self, reference: str, *, force: bool = False, volumes: bool = False) -> None:
        self.get(reference).remove(force=force, volumes=volumes)

    def list(self, all: bool = True, on_error: Any = None) -> list[FakeContainer]:
        for error in self.broken:
            on_error(error)
        return list(self.known)

    def _new(self, verb: str, image: str, argv: Any, options: dict[str, Any]) -> FakeContainer:
        self.engine.calls.append((verb, image, tuple(argv), options))
        answer = self.engine.answers.get(verb)
        if isinstance(answer, BaseException):
            raise answer
        return FakeContainer(self.engine, options.get("name", "1234567890"))

    def run(self, image: str, argv: Any = (), **options: Any) -> FakeContainer:
        return self._new("run", image, argv, options)

    def create(self, image: str, argv: Any = (), **options: Any) -> FakeContainer:
        return self._new("create", image, argv, options)


class FakeEngine:
    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.answers: dict[str, Any] = {}
        self.containers = FakeContainers(self)
        self.images = SimpleNamespace()
        self.root: str | None = None
        self.closed = False

    def add(self, name: str, **facts: Any) -> FakeContainer:
        container = FakeContainer(self, name, **facts)
        self.containers.known.append(container)
        return container

    def info(self) -> dict[str, Any]:
        return {"cgroup": "v2", "controllers": ["cpu", "memory"], "seccomp": True, "images": {"count": 1, "size": None}}

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def _drain(fd: int) -> str:
    os.lseek(fd, 0, os.SEEK_SET)
    with os.fdopen(os.dup(fd), "rb") as file:
        return file.read().decode("utf-8", "surrogateescape")


@pytest.fixture
def mydocker(engine: FakeEngine, tmp_path: Any) -> Any:
    """Return a function: words of a command line -> (exit code, standard output, standard error)."""
    def call(*words: str) -> tuple[int, str, str]:
        out = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        err = os.open(tmp_path / "err", os.O_RDWR | os.O_CREAT | os.O_TRUNC)

        def open_engine(root: str | None) -> Any:
            engine.root = root
            return engine
        try:
            code = main(words, output=Output(out, err), open_engine=open_engine)
            return code, _drain(out), _drain(err)
        finally:
            os.close(out)
            os.close(err)
    return call
