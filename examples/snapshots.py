"""Make an image of a prepared container and start several from it. usage: snapshots.py [IMAGE]"""
from __future__ import annotations

import sys

from mydocker import Engine

image = sys.argv[1] if len(sys.argv) > 1 else "host"

with Engine() as engine:
    with engine.containers.run(image, ["sh", "-c", "mkdir /work && echo prepared >/work/state"]) as prepared:
        prepared.commit("example-prepared")
    try:
        for number in range(3):
            container = engine.containers.run(
                "example-prepared", ["sh", "-c", f"echo by {number} >>/work/state; cat /work/state"], rm=True)
            assert container.output is not None
            print(container.output[0].decode().split("\n"))
    finally:
        engine.images.remove("example-prepared")
