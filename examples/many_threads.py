"""Forty containers from eight threads; starts go through a helper process of one. usage: many_threads.py [IMAGE]"""
from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from mydocker import Engine

image = sys.argv[1] if len(sys.argv) > 1 else "host"

with Engine() as engine:
    def square(number: int) -> int:
        container = engine.containers.run(image, ["sh", "-c", f"echo $(({number} * {number}))"], rm=True)
        assert container.output is not None
        return int(container.output[0])

    with ThreadPoolExecutor(max_workers=8) as pool:
        print(sum(pool.map(square, range(40))))
