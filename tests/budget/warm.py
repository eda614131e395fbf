"""The Python program of the row `warm`: one engine kept open, told on standard input how many starts to make.

    stdin: "COUNT\\n"    stdout: "SECONDS\\n", of all of them together
"""
from __future__ import annotations

import sys
import time

from mydocker import Engine


def main(image: str) -> None:
    """Answer until end of file. The state root comes in MYDOCKER_ROOT."""
    with Engine() as engine:
        for line in sys.stdin:
            begin = time.perf_counter()
            for _ in range(int(line)):
                code = engine.containers.run(image, ["true"], rm=True).exit_code
                if code != 0:
                    raise SystemExit(f"true ended with {code}")
            print(time.perf_counter() - begin, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
