"""A container in the background: work in it, read its log while it grows, stop it. usage: service.py [IMAGE]"""
from __future__ import annotations

import sys

from mydocker import Engine

image = sys.argv[1] if len(sys.argv) > 1 else "host"
script = "trap 'echo bye; exit 0' TERM; n=0; while :; do n=$((n+1)); echo tick $n; sleep 0.1; done"

# A container is a context manager: what happens in the block, it is removed at its end.
with Engine() as engine, engine.containers.run(image, ["sh", "-c", script], detach=True, env={"WHO": "me"}) as container:
    print(f"{container.name} is {container.status}")
    result = container.exec(["sh", "-c", "echo $WHO; cat >&2"], stdin=b"from outside", timeout=10)
    print(result.exit_code, result.stdout, result.stderr)
    for line in container.logs(follow=True):
        print(line.stream, line.message.decode(), end="")
        if line.message == b"tick 3\n":
            break
    container.stop(timeout=5)
    (last,) = container.logs(tail=1)
    print(f"{container.status} with {container.exit_code}, its last word: {last.message.decode()}", end="")
