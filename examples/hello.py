"""Run a command in a container, look at its output and exit code. usage: hello.py [IMAGE]"""
from __future__ import annotations

import sys

from mydocker import Engine

image = sys.argv[1] if len(sys.argv) > 1 else "host"

with Engine() as engine:
    container = engine.containers.run(image, ["sh", "-c", "echo hello; echo trouble >&2; exit 3"], rm=True)
    assert container.output is not None
    stdout, stderr = container.output
    print(f"exit code {container.exit_code}, stdout {stdout!r}, stderr {stderr!r}")
