"""Dockerfiles are read as docker reads them: lines, quotes, JSON, flags, directives, arguments, names of stages."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from build_readings import READINGS
from harness import Mydocker

from mydocker import Engine
from mydocker.base.errors import MydockerError

pytestmark = pytest.mark.needs("root", "overlay")

_WORDS = (
    "Env", "Labels", "WorkingDir", "User", "Volumes", "Cmd", "Entrypoint", "ExposedPorts", "StopSignal", "Healthcheck", "Shell", "OnBuild",
)


def test_every_dockerfile_is_read_as_docker_reads_it(mydocker: Mydocker, scratch: str) -> None:
    wrong: dict[str, Any] = {}
    with Engine(mydocker.root) as engine:
        for text, expected in READINGS:
            found = read(engine, scratch, text)
            if found != expected:
                wrong[text] = found
    assert wrong == {}


def read(engine: Engine, directory: str, text: str) -> dict[str, Any] | None:
    """Build a Dockerfile; returns the words of the image config that say something, None when it is refused."""
    Path(directory, "Dockerfile").write_text(text)
    try:
        built = engine.builds.build(directory)
    except MydockerError:
        return None
    document = json.loads(Path(engine.layout.image, "blobs/sha256", built.image_id.removeprefix("sha256:")).read_text())
    config = document["config"]
    config["Env"] = [item for item in config.get("Env") or () if not item.startswith("PATH=")]
    return {word: config[word] for word in _WORDS if config.get(word)}
