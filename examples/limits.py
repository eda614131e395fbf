"""Run something under a memory limit and a time limit, and tell how it ended. usage: limits.py [IMAGE]"""
from __future__ import annotations

import sys

from mydocker import Engine, Timeout

image = sys.argv[1] if len(sys.argv) > 1 else "host"

with Engine() as engine:
    # tail keeps what it reads until it finds the end of a line, which never comes.
    with engine.containers.run(image, ["sh", "-c", "tail -c 1000000000 /dev/zero"], memory="16m", memory_swap="16m") as greedy:
        print(f"exit code {greedy.exit_code}, out of memory: {greedy.oom_killed}")
        bill = greedy.inspect()["resources"]
        print(f"peak below 17 MiB: {bill['memoryPeakBytes'] < 17 << 20}, used the cpu: {bill['cpuNs'] > 0}")
    try:
        engine.containers.run(image, ["sleep", "1000"], timeout=0.5, rm=True)
    except Timeout as error:
        print(type(error).__name__, error)
